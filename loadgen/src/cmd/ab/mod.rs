//! `ab`: two server commands, run in pairs whose order is random but balanced, and compared pair by pair: one after the
//! other, or, where the URL leaves the port open, side by side.
//!
//! With a canary, A runs twice among each pair, and is compared with itself like with B: where that shows a difference,
//! it was the machine.

mod side_by_side;

use serde::Serialize;

use super::Exit;
use super::load::{find, is_json_on_stdout, live, run_load, usage, write, write_json};
use super::server::Server;
use crate::cli::{AbArgs, RunArgs};
use crate::compare::diff::Rule;
use crate::compare::rank::{self, Estimate, Outcome};
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
    /// Canary / A, in the same pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<Estimate>,
    /// The canary differs from A: then the outcome is inconclusive, whatever the estimate says.
    contaminated: bool,
    /// Every pair, in the order in which they were run.
    pairs: Vec<Pair>,
    invalid_runs: usize,
    /// How long each side had the load at a time, in ms; absent: the servers ran one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    slice_ms: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Pair {
    a: f64,
    b: f64,
    /// A's second run.
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<f64>,
    /// `null` where they ran side by side.
    is_a_first: Option<bool>,
}

/// The runs of a pair: A, B, and A again.
const A: usize = 0;
const B: usize = 1;

/// A figure of each side; the third is the canary's, if there is one.
type Sides = [f64; 3];

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
    let mut live = live(&args.run.target)?;
    let (mut pairs, mut invalid_runs) = (Vec::new(), 0);
    let arms = if args.canary { 3 } else { 2 };
    let seed = args.run.target.seed.unwrap_or(1);
    for (index, order) in orders(args.pairs, arms, seed).into_iter().enumerate() {
        let (values, invalid) = if is_side_by_side {
            side_by_side::measure(args, arms, seed.wrapping_mul(1000).wrapping_add(index as u64))?
        } else {
            one_by_one(args, &order, &mut live)?
        };
        invalid_runs += invalid;
        let [a, b, canary] = values;
        let canary = args.canary.then_some(canary);
        let again = canary.map(|canary| format!("  A again {canary:.4}")).unwrap_or_default();
        out::note(&format!("pair {:>2} of {}: A {a:.4}  B {b:.4}{again}  B/A {:.4}", index + 1, args.pairs, b / a));
        let is_first = order.iter().position(|arm| *arm == A) < order.iter().position(|arm| *arm == B);
        pairs.push(Pair { a, b, canary, is_a_first: (!is_side_by_side).then_some(is_first) });
        if signal::asked_to_stop() {
            return Err((Exit::Failed, "stopped by a signal".into()));
        }
    }
    let slice_ms = is_side_by_side.then_some(args.slice as f64 / 1e6);
    let report = AbReport { slice_ms, ..conclude(pairs, &args.fail_on, args.confidence, invalid_runs)? };
    let text = describe(&report);
    if !is_json_on_stdout(args.run.target.json.as_deref()) {
        out::print(&format!("{text}\n"))?;
    }
    if let Some(path) = &args.run.target.json {
        write_json(path, &report)?;
    }
    if let Some(path) = &args.markdown {
        write(path, &format!("{text}\n"))?;
    }
    Ok(match report.outcome {
        // Runs that say nothing about the servers cannot show that one is as good as the other.
        _ if invalid_runs * 4 > args.pairs * arms => Exit::Invalid,
        Outcome::Worse => Exit::NotHeld,
        Outcome::Inconclusive => Exit::Invalid,
        Outcome::Better | Outcome::NoDifferenceShown => Exit::Held,
    })
}

/// What the pairs say.
///
/// # Errors
/// There are too few of them for the confidence.
fn conclude(pairs: Vec<Pair>, rule: &Rule, confidence: f64, invalid_runs: usize) -> Result<AbReport, (Exit, String)> {
    let oriented = |a: f64, b: f64| if rule.metric.is_better_high() { (b, a) } else { (a, b) };
    let judged: Vec<_> = pairs.iter().map(|pair| oriented(pair.a, pair.b)).collect();
    let estimate = rank::estimate(&judged, confidence).ok_or_else(|| usage("too few pairs".into()))?;
    let again: Vec<_> = pairs.iter().filter_map(|pair| Some(oriented(pair.a, pair.canary?))).collect();
    let canary = rank::estimate(&again, confidence);
    let contaminated = canary.is_some_and(|canary| canary.low > 1.0 || canary.high < 1.0);
    Ok(AbReport {
        schema: "ringrelay.loadgen.ab/1",
        outcome: if contaminated { Outcome::Inconclusive } else { estimate.judge(rule.limit.abs()) },
        rule: rule.text.clone(),
        estimate,
        smallest_effect: estimate.smallest_effect(),
        canary,
        contaminated,
        pairs,
        invalid_runs,
        slice_ms: None,
    })
}

/// The command of a side: the canary is A again.
fn command(args: &AbArgs, side: usize) -> &str {
    if side == B { &args.b } else { &args.a }
}

/// Runs a pair, one server after the other: the figure of each, and how many of the runs were invalid.
fn one_by_one(args: &AbArgs, order: &[usize], live: &mut Live) -> Result<(Sides, usize), (Exit, String)> {
    let (mut values, mut invalid) = ([0.0; 3], 0);
    for &arm in order {
        let report = measure(command(args, arm), args, live)?;
        invalid += usize::from(report.verdict == Verdict::Invalid);
        values[arm] = ab_value(args, arm, &report)?;
    }
    Ok((values, invalid))
}

/// What a run gave of the figure that is compared.
fn ab_value(args: &AbArgs, arm: usize, report: &Report) -> Result<f64, (Exit, String)> {
    let measured = args.fail_on.metric.value(report).filter(|value| *value > 0.0);
    measured.ok_or_else(|| (Exit::Failed, format!("{:?} gave no {}", command(args, arm), args.fail_on.text)))
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

fn describe(report: &AbReport) -> String {
    let outcome = match report.outcome {
        Outcome::Better => "better",
        Outcome::Worse => "worse",
        Outcome::NoDifferenceShown => "no difference shown",
        Outcome::Inconclusive => "inconclusive",
    };
    let estimate = &report.estimate;
    let canary = match &report.canary {
        Some(canary) if report.contaminated => {
            format!("; contaminated: A differs from itself by {:+.2} %", (canary.ratio - 1.0) * 100.0)
        }
        Some(canary) => format!("; A differs from itself by {:+.2} %, not shown", (canary.ratio - 1.0) * 100.0),
        None => String::new(),
    };
    let how = report.slice_ms.map(|ms| format!(" side by side, {ms} ms at a time")).unwrap_or_default();
    format!(
        "{}: {outcome}. B costs {:+.2} % ({:.1} % interval {:+.2} % to {:+.2} %) over {} pairs{how}; pairs spread {:.2} %; the smallest effect it could have shown is {:.2} %; invalid runs {}{canary}",
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

    fn pairs(b: f64, canary: f64) -> Vec<Pair> {
        let noise = |index: usize| 1.0 + index as f64 * 0.001;
        (0..10)
            .map(|index| Pair { a: 1.0, b: b * noise(index), canary: Some(canary * noise(index)), is_a_first: None })
            .collect()
    }

    #[test]
    fn nothing_is_concluded_where_a_differs_from_itself() {
        let rule = Rule::parse("cpu_us_per_delivery>+5%").unwrap();
        let quiet = conclude(pairs(1.2, 0.997), &rule, 0.98, 0).unwrap();
        assert!(!quiet.contaminated && quiet.outcome == Outcome::Worse);
        let moved = conclude(pairs(1.2, 1.1), &rule, 0.98, 0).unwrap();
        assert!(moved.contaminated && moved.outcome == Outcome::Inconclusive);
        assert!(describe(&moved).contains("contaminated"));
    }
}
