//! All sides of a pair at once, each on a port of its own: the load goes from one to the other by slices of time, and
//! the servers' CPU time is read at every change. Noise that lasts longer than a slice, which is most of it, meets them
//! alike; slices that went wrong do not carry a pair's ratio.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{A, Measured, ab_value, no_value, report_of};
use crate::cli::{AbArgs, RunArgs};
use crate::cmd::Exit;
use crate::cmd::load::{find_beside, run_load, usage};
use crate::cmd::server::Server;
use crate::compare::rank;
use crate::drive::findings::Findings;
use crate::drive::meeting::{CALLED_OFF, Meeting};
use crate::live::Live;
use crate::report::Report;
use crate::report::slo::Metric;
use crate::report::verdict::Verdict;
use crate::sys::clock::now_ns;
use crate::sys::procfs;
use crate::workload::Load;
use crate::workload::turns::{Turn, Turns};

/// What stands in the URL and the commands for the port of a side.
const PLACE: &str = "{port}";

/// How often the start of the sides is looked for.
const LOOK: Duration = Duration::from_millis(1);

/// The CPU time of each server at the beginning of each slice, in ns.
type Readings = Vec<Vec<u64>>;

/// Below this the readings at the changes would be a part of what is measured, in ns.
const SLICE_NS_MIN: u64 = 5_000_000;

/// Rounds of a pair at most: the estimate looks at every two of them.
const ROUNDS_MAX: u64 = 2000;

/// Whether the URL leaves the port open, so that the servers can run side by side.
///
/// # Errors
/// What cannot be had side by side, or only so.
pub(super) fn is_asked_for(args: &AbArgs) -> Result<bool, (Exit, String)> {
    let commands = [&args.a, &args.b];
    let target = &args.run.target;
    if !target.url.as_deref().is_some_and(|url| url.contains(PLACE)) {
        return match commands.into_iter().find(|command| command.contains(PLACE)) {
            Some(command) => Err(usage(format!("{command:?} has {PLACE}, and --url has none"))),
            None => Ok(false),
        };
    }
    if let Some(command) = commands.into_iter().find(|command| !command.contains(PLACE)) {
        return Err(usage(format!("--url has {PLACE}, and {command:?} has none: where is it to listen?")));
    }
    if target.metrics_listen.is_some() || target.server_metrics.is_some() || args.run.traffic.start_at.is_some() {
        return Err(usage("side by side there is no --metrics-listen, --server-metrics or --start-at".into()));
    }
    if args.slice < SLICE_NS_MIN {
        return Err(usage(format!("--slice must be at least {} ms", SLICE_NS_MIN / 1_000_000)));
    }
    Ok(true)
}

/// Runs a pair.
///
/// # Errors
/// What is wrong with the arguments, or a server that does not start, listen or end.
pub(super) fn measure(args: &AbArgs, sides: usize, seed: u64) -> Result<Measured, (Exit, String)> {
    let (mut servers, mut runs) = (Vec::new(), Vec::new());
    for (side, listener) in free_ports(sides)?.into_iter().enumerate() {
        let port = listener.local_addr().map_err(no_port)?.port().to_string();
        let mut run = args.run.clone();
        run.target.url = run.target.url.map(|url| url.replace(PLACE, &port));
        let (load, _) = run_load(&run)?;
        drop(listener);
        let mut server = Server::start(&super::command(args, side).replace(PLACE, &port))?;
        server.wait_until_it_listens(load.address)?;
        run.target.server_pid = Some(server.pid());
        servers.push(server);
        runs.push((run, load));
    }
    let (_, load) = &runs[A];
    let (warmup, measured) = (load.warmup_ns.div_ceil(args.slice), load.measure_ns.div_ceil(args.slice));
    if warmup + measured > ROUNDS_MAX {
        let seconds = (ROUNDS_MAX * args.slice) as f64 / 1e9;
        return Err(usage(format!("at slices of that length --warmup and --duration may be {seconds} s at most")));
    }
    // One round more than is looked at: what follows a slice is counted up to the next slice of the same side.
    for (_, load) in &mut runs {
        load.measure_ns = (measured + 1) * args.slice;
    }
    let turns = Arc::new(Turns::new(args.slice, sides, warmup + measured + 1, seed));
    let pids: Vec<u32> = servers.iter().map(Server::pid).collect();
    let (reports, readings) = drive(args, runs, &turns, &pids)?;
    for server in &mut servers {
        server.stop()?;
    }
    let work: Vec<Work> = reports
        .iter()
        .enumerate()
        .map(|(side, report)| Work {
            costs: costs(&turns, &readings, side, warmup..warmup + measured),
            deliveries: (report.received + report.heard) as f64 / (measured + 1) as f64,
        })
        .collect();
    let mut pair = Measured::default();
    for (side, report) in reports.iter().enumerate() {
        pair.values[side] = match args.fail_on.metric {
            Metric::CpuUsPerDelivery => cpu_us(&work[A], &work[side]).ok_or_else(|| no_value(args, side))?,
            _ => ab_value(args, side, report)?,
        };
        pair.cpu_shares[side] = work[side].cpu_share(args.slice);
        pair.invalid += usize::from(report.verdict == Verdict::Invalid);
    }
    Ok(pair)
}

/// Held until they are needed, so that nothing else takes them.
fn free_ports(count: usize) -> Result<Vec<TcpListener>, (Exit, String)> {
    (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().map_err(no_port)
}

fn no_port(error: std::io::Error) -> (Exit, String) {
    (Exit::Failed, format!("no free port: {error}"))
}

/// Calls the others off, unless its run came to its end.
struct Attendance<'a> {
    meeting: &'a Meeting,
    is_done: bool,
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.meeting.call_off();
        }
    }
}

/// The reports of all sides, and what was read while they ran.
fn drive(
    args: &AbArgs,
    runs: Vec<(RunArgs, Load)>,
    turns: &Arc<Turns>,
    pids: &[u32],
) -> Result<(Vec<Report>, Readings), (Exit, String)> {
    let sides = runs.len();
    let meeting = Arc::new(Meeting::new(sides));
    let drive_side = |side: usize, run: &RunArgs, mut load: Load| {
        let mut attendance = Attendance { meeting: &meeting, is_done: false };
        let slo = run.traffic.slo.as_ref();
        load.take_turns(&Turn { turns: turns.clone(), side }).map_err(usage)?;
        let mut live = Live::new(true, None).map_err(|e| (Exit::Failed, e.to_string()))?;
        let found = find_beside(load.clone(), &run.target, None, slo, &mut live, Some(meeting.clone()));
        let of_own_time = found.map(|(found, facts)| {
            // It had the load for its part of the time only.
            (Findings { busy_share_max: found.busy_share_max * sides as f64, ..found }, facts)
        });
        let mut report = report_of(run, &load, of_own_time, slo)
            .map_err(|(exit, why)| (exit, format!("{:?}: {why}", super::command(args, side))))?;
        report.deliveries_per_s *= sides as f64;
        attendance.is_done = true;
        Ok(report)
    };
    thread::scope(|scope| {
        let drive_side = &drive_side;
        let threads: Vec<_> = runs
            .into_iter()
            .enumerate()
            .map(|(side, (run, load))| scope.spawn(move || drive_side(side, &run, load)))
            .collect();
        let readings = read_cpu(&meeting, turns, pids);
        let reports = threads.into_iter().map(|thread| thread.join().expect("a side of the comparison panicked"));
        // The reason is the first side's that failed by itself, not because of another.
        let (done, mut failed): (Vec<_>, Vec<_>) = reports.partition(Result::is_ok);
        failed.sort_by_key(|report| matches!(report, Err((_, why)) if why.ends_with(CALLED_OFF)));
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
            if meeting.is_off() {
                return readings;
            }
            thread::park_timeout(Duration::from_nanos(left_ns));
        }
        readings.push(pids.iter().map(|pid| procfs::tree_cpu_ns(*pid).unwrap_or(0)).collect());
    }
    readings
}

/// CPU time of a side's slices, in ns: from the beginning of each to that of its next one.
fn costs(turns: &Turns, readings: &[Vec<u64>], side: usize, rounds: std::ops::Range<u64>) -> Vec<u64> {
    let at = |round| turns.slice(round, side).and_then(|slice| readings.get(slice as usize)).map(|all| all[side]);
    rounds.map(|round| at(round).zip(at(round + 1)).map_or(0, |(before, after)| after.saturating_sub(before))).collect()
}

/// What a side did in its slices.
struct Work {
    /// CPU time per round, in ns.
    costs: Vec<u64>,
    /// Messages that all of its connections got per round.
    deliveries: f64,
}

impl Work {
    /// Of a core, while it has the load: the median over the rounds.
    fn cpu_share(&self, slice_ns: u64) -> Option<f64> {
        rank::median(self.costs.iter().map(|cost| *cost as f64 / slice_ns as f64).collect())
    }
}

/// What a delivery costs a side, in µs: A's median slice, times the ratio that the rounds show.
fn cpu_us(a: &Work, side: &Work) -> Option<f64> {
    let mut used: Vec<(u64, u64)> = a.costs.iter().copied().zip(side.costs.iter().copied()).collect();
    used.retain(|(a, side)| *a > 0 && *side > 0);
    let logs = used.iter().map(|(a, side)| (*side as f64 / *a as f64).ln()).collect();
    let ratio = rank::hodges_lehmann(logs)?.exp();
    used.sort_unstable();
    let cost_us = used[used.len() / 2].0 as f64 / 1000.0 * ratio;
    (side.deliveries > 0.0).then(|| cost_us / side.deliveries)
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
    fn slices_that_went_wrong_do_not_carry_the_ratio_and_what_was_lost_does() {
        let a = Work { costs: vec![100_000, 101_000, 99_000, 300_000, 100_000, 100_000, 0], deliveries: 10.0 };
        let costs = vec![110_000, 111_100, 108_900, 110_000, 500_000, 110_000, 9];
        let cost = |deliveries| cpu_us(&a, &Work { costs: costs.clone(), deliveries });
        assert!(cost(10.0).is_some_and(|cost| (cost - 11.0).abs() < 0.01));
        assert!(cost(5.0).is_some_and(|cost| (cost - 22.0).abs() < 0.02), "half of them were lost: each costs twice");
        assert_eq!(Work { costs: costs.clone(), deliveries: 1.0 }.cpu_share(220_000), Some(0.5));
        assert_eq!((cost(0.0), cpu_us(&a, &Work { costs: vec![0; 7], deliveries: 1.0 })), (None, None));
    }
}
