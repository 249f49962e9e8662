//! `ab`: two server commands, run in pairs whose order is random but balanced, and compared pair by pair: one after the
//! other, or, where the URL leaves the port open, side by side.
//!
//! With a canary, A runs twice among each pair, and is compared with itself like with B: where that shows a difference,
//! it was the machine.

mod report;
mod side_by_side;

use super::Exit;
use super::load::{find, is_json_on_stdout, live, run_load, usage, write, write_json};
use super::server::Server;
use crate::cli::{AbArgs, RunArgs};
use crate::compare::rank;
use crate::drive::findings::Findings;
use crate::live::Live;
use crate::out;
use crate::report::env::Env;
use crate::report::slo::Slo;
use crate::report::verdict::Verdict;
use crate::report::{LoadFacts, Report};
use crate::sys::signal;
use crate::workload::Load;
use crate::workload::turns::orders;
use report::{AbReport, Pair, Runs};

/// The runs of a pair: A, B, and A again.
const A: usize = 0;
const B: usize = 1;

/// What a pair gave, by side; the third is the canary, if there is one.
#[derive(Debug, Default)]
struct Measured {
    /// The figure that is compared.
    values: [f64; 3],
    /// Cores that the server used while it had the load.
    cpu_shares: [Option<f64>; 3],
    /// Runs that say nothing about their server.
    invalid: usize,
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
    if args.run.ceiling.ceiling {
        return Err(usage("ab compares servers under one generator: --ceiling is for run and echo".into()));
    }
    let is_side_by_side = side_by_side::is_asked_for(args)?;
    let mut runs = Runs {
        slice_ms: is_side_by_side.then_some(args.slice as f64 / 1e6),
        is_closed_loop: !is_side_by_side && run_load(&args.run)?.0.is_closed_loop(),
        ..Runs::default()
    };
    let ended = match run_pairs(args, &mut runs, is_side_by_side) {
        // Too few to conclude anything; each was told on stderr.
        Err(error) if runs.pairs.len() < pairs_min => return Err(error),
        ended => ended,
    };
    let report = AbReport::new(runs, &args.fail_on, args.confidence)?;
    publish(args, &report)?;
    ended.map(|()| report.exit())
}

/// Runs the pairs that were asked for, or as many as there are before a signal or a failure.
fn run_pairs(args: &AbArgs, runs: &mut Runs, is_side_by_side: bool) -> Result<(), (Exit, String)> {
    let mut live = live(&args.run.target)?;
    let arms = if args.canary { 3 } else { 2 };
    let seed = args.run.target.seed.unwrap_or(1);
    for (index, order) in orders(args.pairs, arms, seed).into_iter().enumerate() {
        let measured = if is_side_by_side {
            side_by_side::measure(args, arms, seed.wrapping_mul(1000).wrapping_add(index as u64))?
        } else {
            one_by_one(args, &order, &mut live)?
        };
        let [a, b, canary] = measured.values;
        let canary = args.canary.then_some(canary);
        let again = canary.map(|canary| format!("  A again {canary:.4}")).unwrap_or_default();
        out::note(&format!("pair {:>2} of {}: A {a:.4}  B {b:.4}{again}  B/A {:.4}", index + 1, args.pairs, b / a));
        let is_first = order.iter().position(|arm| *arm == A) < order.iter().position(|arm| *arm == B);
        runs.pairs.push(Pair { a, b, canary, is_a_first: (!is_side_by_side).then_some(is_first) });
        runs.cpu_shares.push(measured.cpu_shares);
        runs.invalid += measured.invalid;
        if signal::asked_to_stop() {
            return Err((Exit::Failed, "stopped by a signal".into()));
        }
    }
    Ok(())
}

/// Writes the report to wherever it was asked for.
fn publish(args: &AbArgs, report: &AbReport) -> Result<(), (Exit, String)> {
    if let Some(path) = &args.run.target.json {
        write_json(path, report)?;
    }
    let lines = report.lines();
    if let Some(path) = &args.markdown {
        // A paragraph each.
        write(path, &format!("{}\n", lines.join("\n\n")))?;
    }
    if !is_json_on_stdout(args.run.target.json.as_deref()) {
        out::print(&format!("{}\n", lines.join("\n")))?;
    }
    Ok(())
}

/// The command of a side: the canary is A again.
fn command(args: &AbArgs, side: usize) -> &str {
    if side == B { &args.b } else { &args.a }
}

/// Runs a pair, one server after the other.
fn one_by_one(args: &AbArgs, order: &[usize], live: &mut Live) -> Result<Measured, (Exit, String)> {
    let mut pair = Measured::default();
    for &arm in order {
        let report = measure(command(args, arm), args, live)?;
        pair.values[arm] = ab_value(args, arm, &report)?;
        pair.cpu_shares[arm] = report.server.map(|server| server.cpu_share);
        pair.invalid += usize::from(report.verdict == Verdict::Invalid);
    }
    Ok(pair)
}

/// What a run gave of the figure that is compared.
fn ab_value(args: &AbArgs, arm: usize, report: &Report) -> Result<f64, (Exit, String)> {
    let measured = args.fail_on.metric.value(report).filter(|value| *value > 0.0);
    measured.ok_or_else(|| no_value(args, arm))
}

fn no_value(args: &AbArgs, arm: usize) -> (Exit, String) {
    (Exit::Failed, format!("{:?} gave nothing to compare by {}", command(args, arm), args.fail_on.text))
}

fn measure(command: &str, args: &AbArgs, live: &mut Live) -> Result<Report, (Exit, String)> {
    let (load, slo) = run_load(&args.run)?;
    let mut server = Server::start(command)?;
    server.wait_until_it_listens(load.address)?;
    let mut run = args.run.clone();
    run.target.server_pid = Some(server.pid());
    let found = find(load.clone(), &run.target, None, slo.as_ref(), live);
    server.stop()?;
    report_of(&run, &load, found, slo.as_ref()).map_err(|(exit, why)| (exit, format!("{command:?}: {why}")))
}

/// The report of a run, if it came to its end.
fn report_of(
    run: &RunArgs,
    load: &Load,
    found: Result<(Findings, LoadFacts), (Exit, String)>,
    slo: Option<&Slo>,
) -> Result<Report, (Exit, String)> {
    let (found, facts) = found?;
    let env = Env::read(run.target.url.as_deref().unwrap_or_default(), load.seed, load.measure_ns as f64 / 1e9);
    let report = Report::new(&facts, &found, slo, env);
    match &report.failure {
        Some(failure) => Err((Exit::Failed, failure.clone())),
        None => Ok(report),
    }
}
