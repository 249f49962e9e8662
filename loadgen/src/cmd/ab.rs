//! `ab`: two server commands, run in pairs whose order is random but balanced, and compared pair by pair.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Exit;
use super::load::{find, is_json_on_stdout, live, run_load, usage, write, write_json};
use crate::cli::AbArgs;
use crate::compare::rank::{self, Estimate, Outcome};
use crate::live::Live;
use crate::report::Report;
use crate::report::env::Env;
use crate::report::verdict::Verdict;
use crate::rng::Rng;
use crate::sys::signal;

/// How long a server may take to listen, and to end.
const SERVER_PATIENCE: Duration = Duration::from_secs(30);

/// How often a server is looked at while waiting for it.
const LOOK: Duration = Duration::from_millis(20);

/// The result, as JSON.
#[derive(Debug, Serialize)]
struct AbReport {
    schema: &'static str,
    outcome: Outcome,
    /// What is compared, and the smallest change that is of interest.
    rule: String,
    /// B / A; of a metric that should be high, its reciprocal: above 1 is worse.
    estimate: Estimate,
    /// The smallest relative difference that this comparison could have shown.
    smallest_effect: f64,
    /// Every pair, in the order in which they were run.
    pairs: Vec<Pair>,
    invalid_runs: usize,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Pair {
    a: f64,
    b: f64,
    is_a_first: bool,
}

/// `loadgen ab`.
///
/// # Errors
/// What is wrong with the arguments, or a server that does not start, listen or end.
pub(crate) fn ab(args: &AbArgs) -> Result<Exit, (Exit, String)> {
    let pairs_min = rank::pairs_min(args.confidence);
    if args.pairs < pairs_min {
        return Err(usage(format!("a confidence of {} needs at least {pairs_min} pairs", args.confidence)));
    }
    let metric = args.fail_on.metric;
    let mut live = live(&args.run.target)?;
    let (mut pairs, mut invalid_runs) = (Vec::new(), 0);
    for (index, is_a_first) in order(args.pairs, args.run.target.seed.unwrap_or(1)).into_iter().enumerate() {
        let commands = if is_a_first { [&args.a, &args.b] } else { [&args.b, &args.a] };
        let mut values = [0.0; 2];
        for (value, command) in values.iter_mut().zip(commands) {
            let report = measure(command, args, &mut live)?;
            invalid_runs += usize::from(report.verdict == Verdict::Invalid);
            let measured = metric.value(&report).filter(|value| *value > 0.0);
            *value = measured.ok_or_else(|| (Exit::Failed, format!("{command:?} gave no {}", args.fail_on.text)))?;
        }
        let (a, b) = if is_a_first { (values[0], values[1]) } else { (values[1], values[0]) };
        eprintln!("pair {:>2} of {}: A {a:.4}  B {b:.4}  B/A {:.4}", index + 1, args.pairs, b / a);
        pairs.push(Pair { a, b, is_a_first });
        if signal::asked_to_stop() {
            return Err((Exit::Failed, "stopped by a signal".into()));
        }
    }
    let oriented = |pair: &Pair| if metric.is_better_high() { (pair.b, pair.a) } else { (pair.a, pair.b) };
    let estimate = rank::estimate(&pairs.iter().map(oriented).collect::<Vec<_>>(), args.confidence);
    let estimate = estimate.ok_or_else(|| usage("too few pairs".into()))?;
    let report = AbReport {
        schema: "ringrelay.loadgen.ab/1",
        outcome: estimate.judge(args.fail_on.limit.abs()),
        rule: args.fail_on.text.clone(),
        estimate,
        smallest_effect: estimate.smallest_effect(),
        pairs,
        invalid_runs,
    };
    let text = describe(&report);
    if !is_json_on_stdout(args.run.target.json.as_deref()) {
        println!("{text}");
    }
    if let Some(path) = &args.run.target.json {
        write_json(path, &report)?;
    }
    if let Some(path) = &args.markdown {
        write(path, &format!("{text}\n"))?;
    }
    Ok(match report.outcome {
        // Runs that say nothing about the servers cannot show that one is as good as the other.
        _ if invalid_runs * 2 > args.pairs => Exit::Invalid,
        Outcome::Worse => Exit::NotHeld,
        Outcome::Inconclusive => Exit::Invalid,
        Outcome::Better | Outcome::NoDifferenceShown => Exit::Held,
    })
}

/// Whether A comes first, per pair: as often as not, in random order.
fn order(pairs: usize, seed: u64) -> Vec<bool> {
    let mut order: Vec<bool> = (0..pairs).map(|index| index % 2 == 0).collect();
    let mut rng = Rng::new(seed, 0xAB);
    for at in (1..pairs).rev() {
        order.swap(at, rng.next_u64() as usize % (at + 1));
    }
    order
}

fn measure(command: &str, args: &AbArgs, live: &mut Live) -> Result<Report, (Exit, String)> {
    let (load, slo) = run_load(&args.run)?;
    let mut server = Server::start(command)?;
    server.wait_until_it_listens(load.address)?;
    let mut run = args.run.target.clone();
    run.server_pid = Some(server.child.id());
    let env = Env::read(run.url.as_deref().unwrap_or_default(), load.seed, load.measure_ns as f64 / 1e9);
    let (found, facts) = find(load, &run, None, slo.as_ref(), live)?;
    server.stop()?;
    let report = Report::new(&facts, &found, slo.as_ref(), env);
    match &report.failure {
        Some(failure) => Err((Exit::Failed, format!("{command:?}: {failure}"))),
        None => Ok(report),
    }
}

/// A server under way; killed if it is dropped.
struct Server {
    child: Child,
    command: String,
}

impl Server {
    fn start(command: &str) -> Result<Self, (Exit, String)> {
        // `exec`: the process that is measured is the server, not a shell around it.
        let child =
            Command::new("sh").args(["-c", &format!("exec {command}")]).stdout(std::process::Stdio::null()).spawn();
        let child = child.map_err(|e| (Exit::Failed, format!("cannot start {command:?}: {e}")))?;
        Ok(Self { child, command: command.to_owned() })
    }

    fn wait_until_it_listens(&mut self, address: std::net::SocketAddr) -> Result<(), (Exit, String)> {
        let deadline = Instant::now() + SERVER_PATIENCE;
        while std::net::TcpStream::connect_timeout(&address, LOOK).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err((Exit::Failed, format!("{:?} ended with {status} instead of listening", self.command)));
            }
            if Instant::now() > deadline {
                return Err((Exit::Failed, format!("{:?} does not listen on {address}", self.command)));
            }
            std::thread::park_timeout(LOOK);
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), (Exit, String)> {
        signal::terminate(self.child.id());
        let deadline = Instant::now() + SERVER_PATIENCE;
        while !matches!(self.child.try_wait(), Ok(Some(_))) {
            if Instant::now() > deadline {
                return Err((Exit::Failed, format!("{:?} does not end on SIGTERM", self.command)));
            }
            std::thread::park_timeout(LOOK);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn describe(report: &AbReport) -> String {
    let outcome = match report.outcome {
        Outcome::Better => "better",
        Outcome::Worse => "worse",
        Outcome::NoDifferenceShown => "no difference shown",
        Outcome::Inconclusive => "inconclusive",
    };
    let estimate = &report.estimate;
    format!(
        "{}: {outcome}. B costs {:+.2} % ({:.1} % interval {:+.2} % to {:+.2} %) over {} pairs; pairs spread {:.2} %; the smallest effect it could have shown is {:.2} %; invalid runs {}",
        report.rule,
        (estimate.ratio - 1.0) * 100.0,
        estimate.confidence * 100.0,
        (estimate.low - 1.0) * 100.0,
        (estimate.high - 1.0) * 100.0,
        report.pairs.len(),
        estimate.pair_spread * 100.0,
        report.smallest_effect * 100.0,
        report.invalid_runs
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_balanced_and_differ_by_seed() {
        for pairs in [7, 10] {
            let order = order(pairs, 3);
            assert_eq!(order.iter().filter(|first| **first).count(), pairs.div_ceil(2));
        }
        assert!((0..10).any(|seed| order(10, seed) != order(10, 77)));
    }
}
