//! All sides of a pair at once, each on a port of its own: the load goes from one to the other by slices of time, and
//! the servers' CPU time is read at every change. Noise that lasts longer than a slice, which is most of it, meets them
//! alike; slices that went wrong do not carry a pair's ratio.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{A, Sides, ab_value, report_of};
use crate::cli::{AbArgs, RunArgs};
use crate::cmd::Exit;
use crate::cmd::load::{find_beside, run_load, usage};
use crate::cmd::server::Server;
use crate::compare::rank;
use crate::drive::meeting::Meeting;
use crate::live::Live;
use crate::report::Report;
use crate::report::slo::Metric;
use crate::report::verdict::Verdict;
use crate::sys::clock::now_ns;
use crate::sys::procfs;
use crate::workload::turns::{Turn, Turns};

/// What stands in the URL and the commands for the port of a side.
const PLACE: &str = "{port}";

/// How often the start of the sides is looked for.
const LOOK: Duration = Duration::from_millis(1);

/// The CPU time of each server at the beginning of each slice, in ns.
type Readings = Vec<Vec<u64>>;

/// Whether the URL leaves the port open, so that the servers can run side by side.
pub(super) fn is_asked_for(args: &AbArgs) -> bool {
    args.run.target.url.as_deref().is_some_and(|url| url.contains(PLACE))
}

/// What cannot be had side by side.
///
/// # Errors
/// What is wrong with the arguments.
pub(super) fn check(args: &AbArgs) -> Result<(), (Exit, String)> {
    if let Some(command) = [&args.a, &args.b].into_iter().find(|command| !command.contains(PLACE)) {
        return Err(usage(format!("the URL has {PLACE}, and {command:?} has none: where is it to listen?")));
    }
    let target = &args.run.target;
    if target.metrics_listen.is_some() || target.server_metrics.is_some() || args.run.traffic.start_at.is_some() {
        return Err(usage("side by side there is no --metrics-listen, --server-metrics or --start-at".into()));
    }
    Ok(())
}

/// Runs a pair: the figure of each side, and how many of the runs were invalid.
///
/// # Errors
/// What is wrong with the arguments, or a server that does not start, listen or end.
pub(super) fn measure(args: &AbArgs, sides: usize, seed: u64) -> Result<(Sides, usize), (Exit, String)> {
    let listeners: Vec<TcpListener> = (0..sides)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .map_err(|e| (Exit::Failed, format!("no free port: {e}")))?;
    let ports = listeners.iter().filter_map(|listener| listener.local_addr().ok()).map(|address| address.port());
    let ports: Vec<String> = ports.map(|port| port.to_string()).collect();
    drop(listeners);
    let (mut servers, mut runs) = (Vec::new(), Vec::new());
    for (side, port) in ports.iter().enumerate() {
        let mut run = args.run.clone();
        run.target.url = run.target.url.map(|url| url.replace(PLACE, port));
        let (load, _) = run_load(&run)?;
        let mut server = Server::start(&super::command(args, side).replace(PLACE, port))?;
        server.wait_until_it_listens(load.address)?;
        run.target.server_pid = Some(server.pid());
        servers.push(server);
        runs.push(run);
    }
    let (load, _) = run_load(&runs[A])?;
    let rounds = |ns: u64| ns.div_ceil(args.slice);
    let (warmup, measured) = (rounds(load.warmup_ns), rounds(load.measure_ns));
    // What follows a slice into the next one is counted by the next reading of the same side: hence one round more.
    let turns = Arc::new(Turns::new(args.slice, sides, warmup + measured + 1, seed));
    let pids: Vec<u32> = servers.iter().map(Server::pid).collect();
    let (reports, readings) = drive(&runs, &turns, &pids)?;
    for server in &mut servers {
        server.stop()?;
    }
    let costs = |side| costs(&turns, &readings, side, warmup..warmup + measured);
    let mut values = [0.0; 3];
    for (side, report) in reports.iter().enumerate() {
        values[side] = match args.fail_on.metric {
            Metric::CpuUsPerDelivery => {
                let deliveries = reports[A].expected as f64 / measured as f64;
                cpu_us(&costs(A), &costs(side), deliveries).ok_or_else(|| {
                    (Exit::Failed, format!("{:?}: no CPU time to be read", super::command(args, side)))
                })?
            }
            _ => ab_value(args, side, report)?,
        };
    }
    Ok((values, reports.iter().filter(|report| report.verdict == Verdict::Invalid).count()))
}

/// The reports of all sides, and what was read while they ran.
fn drive(runs: &[RunArgs], turns: &Arc<Turns>, pids: &[u32]) -> Result<(Vec<Report>, Readings), (Exit, String)> {
    let meeting = Arc::new(Meeting::new(runs.len()));
    thread::scope(|scope| {
        let drive_side = |side: usize, run: &RunArgs| {
            let (mut load, slo) = run_load(run)?;
            load.take_turns(&Turn { turns: turns.clone(), side }).map_err(usage)?;
            let mut live = Live::new(true, None).map_err(|e| (Exit::Failed, e.to_string()))?;
            let found = find_beside(load.clone(), &run.target, None, slo.as_ref(), &mut live, Some(meeting.clone()));
            report_of(run, &load, found, slo.as_ref())
        };
        let threads: Vec<_> = runs
            .iter()
            .enumerate()
            .map(|(side, run)| {
                let meeting = &meeting;
                scope.spawn(move || {
                    let report = drive_side(side, run);
                    meeting.call_off();
                    report
                })
            })
            .collect();
        let readings = read_cpu(&meeting, turns, pids);
        let reports = threads.into_iter().map(|thread| thread.join().expect("a side of the comparison panicked"));
        // The reason is the first side's that failed by itself, not because of another.
        let (done, mut failed): (Vec<_>, Vec<_>) = reports.partition(Result::is_ok);
        failed.sort_by_key(|report| matches!(report, Err((_, why)) if why.contains("beside it")));
        match failed.into_iter().next() {
            Some(Err(error)) => Err(error),
            _ => Ok((done.into_iter().flatten().collect(), readings)),
        }
    })
}

fn read_cpu(meeting: &Meeting, turns: &Turns, pids: &[u32]) -> Readings {
    let start_ns = loop {
        match meeting.start_ns() {
            Some(start_ns) => break start_ns,
            None if meeting.is_off() => return Vec::new(),
            None => thread::park_timeout(LOOK),
        }
    };
    let mut readings = Vec::new();
    for slice in 0..turns.slices(turns.rounds()) {
        let due_ns = start_ns + slice * turns.slice_ns;
        while let left_ns @ 1.. = due_ns.saturating_sub(now_ns()) {
            thread::park_timeout(Duration::from_nanos(left_ns));
        }
        if meeting.is_off() && readings.is_empty() {
            break;
        }
        let cpu_ns = |pid: &u32| procfs::usage(*pid).map_or(0, |usage| usage.cpu_ns);
        readings.push(pids.iter().map(cpu_ns).collect());
    }
    readings
}

/// CPU time of a side's slices, in ns: from the beginning of each to that of its next one.
fn costs(turns: &Turns, readings: &[Vec<u64>], side: usize, rounds: std::ops::Range<u64>) -> Vec<u64> {
    let at = |round| turns.slice(round, side).and_then(|slice| readings.get(slice as usize)).map(|all| all[side]);
    rounds.map(|round| at(round).zip(at(round + 1)).map_or(0, |(before, after)| after.saturating_sub(before))).collect()
}

/// What a delivery costs a side, in µs: A's median slice, times the ratio that the rounds show.
fn cpu_us(a: &[u64], side: &[u64], deliveries: f64) -> Option<f64> {
    let mut used: Vec<(u64, u64)> = a.iter().copied().zip(side.iter().copied()).collect();
    used.retain(|(a, side)| *a > 0 && *side > 0);
    let logs = used.iter().map(|(a, side)| (*side as f64 / *a as f64).ln()).collect();
    let ratio = rank::hodges_lehmann(logs)?.exp();
    used.sort_unstable();
    Some(used[used.len() / 2].0 as f64 / 1000.0 / deliveries * ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_costs_what_is_spent_until_the_next_of_the_same_side() {
        let turns = Turns::new(1, 2, 4, 1);
        // Side 0 spends 5 in its slice and 1 in the one behind it; side 1 nothing but 7 in the last round.
        let mut cpu = [0, 0];
        let mut readings = Vec::new();
        for slice in 0..turns.slices(4) {
            readings.push(cpu.to_vec());
            for round in 0..4 {
                if turns.slice(round, 0) == Some(slice) {
                    cpu[0] += 5;
                }
                if turns.slice(round, 0).map(|own| own + 1) == Some(slice) {
                    cpu[0] += 1;
                }
            }
        }
        let spent = costs(&turns, &readings, 0, 0..3);
        assert!(spent.iter().sum::<u64>() >= 17 && spent.iter().all(|cost| (5..=7).contains(cost)), "{spent:?}");
        assert_eq!(costs(&turns, &readings, 1, 0..3), [0, 0, 0]);
    }

    #[test]
    fn slices_that_went_wrong_do_not_carry_the_ratio() {
        let a = [100_000, 101_000, 99_000, 300_000, 100_000, 100_000, 0];
        let b = [110_000, 111_100, 108_900, 110_000, 500_000, 110_000, 9];
        let cost = cpu_us(&a, &b, 10.0).unwrap();
        assert!((cost - 11.0).abs() < 0.01, "{cost}");
        assert_eq!(cpu_us(&[0], &[1], 1.0), None);
    }
}
