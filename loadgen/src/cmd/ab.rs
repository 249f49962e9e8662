//! `ab`: two server commands, run in pairs whose order is random but balanced, and compared pair by pair.
//!
//! With a canary, A runs twice among each pair, and is compared with itself like with B: where that shows a difference,
//! it was the machine.

use serde::Serialize;

use super::Exit;
use super::load::{find, is_json_on_stdout, live, run_load, usage, write, write_json};
use super::server::Server;
use crate::cli::AbArgs;
use crate::compare::diff::Rule;
use crate::compare::rank::{self, Estimate, Outcome};
use crate::live::Live;
use crate::report::Report;
use crate::report::env::Env;
use crate::report::verdict::Verdict;
use crate::rng::Rng;
use crate::sys::signal;

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
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Pair {
    a: f64,
    b: f64,
    /// A's second run.
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<f64>,
    is_a_first: bool,
}

/// The runs of a pair: A, B, and A again.
const A: usize = 0;
const B: usize = 1;
const CANARY: usize = 2;

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
    let metric = args.fail_on.metric;
    let mut live = live(&args.run.target)?;
    let (mut pairs, mut invalid_runs) = (Vec::new(), 0);
    let arms = if args.canary { 3 } else { 2 };
    for (index, order) in orders(args.pairs, arms, args.run.target.seed.unwrap_or(1)).into_iter().enumerate() {
        let mut values = [0.0; 3];
        for &arm in &order {
            let command = if arm == B { &args.b } else { &args.a };
            let report = measure(command, args, &mut live)?;
            invalid_runs += usize::from(report.verdict == Verdict::Invalid);
            let measured = metric.value(&report).filter(|value| *value > 0.0);
            values[arm] =
                measured.ok_or_else(|| (Exit::Failed, format!("{command:?} gave no {}", args.fail_on.text)))?;
        }
        let [a, b, canary] = values;
        let canary = args.canary.then_some(canary);
        let again = canary.map(|canary| format!("  A again {canary:.4}")).unwrap_or_default();
        eprintln!("pair {:>2} of {}: A {a:.4}  B {b:.4}{again}  B/A {:.4}", index + 1, args.pairs, b / a);
        let is_a_first = order.iter().position(|arm| *arm == A) < order.iter().position(|arm| *arm == B);
        pairs.push(Pair { a, b, canary, is_a_first });
        if signal::asked_to_stop() {
            return Err((Exit::Failed, "stopped by a signal".into()));
        }
    }
    let report = conclude(pairs, &args.fail_on, args.confidence, invalid_runs)?;
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
    })
}

/// The order of the runs, per pair: each possible one as often as the others, in random sequence.
fn orders(pairs: usize, arms: usize, seed: u64) -> Vec<Vec<usize>> {
    let all: &[&[usize]] = match arms {
        2 => &[&[A, B], &[B, A]],
        _ => &[&[A, B, CANARY], &[B, CANARY, A], &[CANARY, A, B], &[A, CANARY, B], &[B, A, CANARY], &[CANARY, B, A]],
    };
    let mut orders: Vec<Vec<usize>> = all.iter().cycle().take(pairs).map(|order| order.to_vec()).collect();
    let mut rng = Rng::new(seed, 0xAB);
    for at in (1..pairs).rev() {
        orders.swap(at, rng.next_u64() as usize % (at + 1));
    }
    orders
}

fn measure(command: &str, args: &AbArgs, live: &mut Live) -> Result<Report, (Exit, String)> {
    let (load, slo) = run_load(&args.run)?;
    let mut server = Server::start(command)?;
    server.wait_until_it_listens(load.address)?;
    let mut run = args.run.target.clone();
    run.server_pid = Some(server.pid());
    let env = Env::read(run.url.as_deref().unwrap_or_default(), load.seed, load.measure_ns as f64 / 1e9);
    let (found, facts) = find(load, &run, None, slo.as_ref(), live)?;
    server.stop()?;
    let report = Report::new(&facts, &found, slo.as_ref(), env);
    match &report.failure {
        Some(failure) => Err((Exit::Failed, format!("{command:?}: {failure}"))),
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
    format!(
        "{}: {outcome}. B costs {:+.2} % ({:.1} % interval {:+.2} % to {:+.2} %) over {} pairs; pairs spread {:.2} %; the smallest effect it could have shown is {:.2} %; invalid runs {}{canary}",
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
            let orders = orders(pairs, 2, 3);
            assert_eq!(orders.iter().filter(|order| order[0] == A).count(), pairs.div_ceil(2));
        }
        assert!((0..10).any(|seed| orders(10, 2, seed) != orders(10, 2, 77)));
    }

    #[test]
    fn each_of_three_runs_is_as_often_first_second_and_last() {
        let orders = orders(12, 3, 5);
        for arm in [A, B, CANARY] {
            for place in 0..3 {
                assert_eq!(orders.iter().filter(|order| order[place] == arm).count(), 4);
            }
        }
    }

    fn pairs(b: f64, canary: f64) -> Vec<Pair> {
        let noise = |index: usize| 1.0 + index as f64 * 0.001;
        (0..10)
            .map(|index| Pair { a: 1.0, b: b * noise(index), canary: Some(canary * noise(index)), is_a_first: true })
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
