//! What the pairs say: what is shown, whether the limit held, and what is to be said against either.

use serde::Serialize;

use crate::cmd::Exit;
use crate::cmd::load::usage;
use crate::compare::diff::Limit;
use crate::compare::rank::{self, Estimate, Outcome};
use crate::report::slo::Metric;

/// Of a core: below it the servers' own work drowns in what wakes them, above it waiting messages share their cost, and
/// a difference shows less.
const CPU_SHARE_MIN: f64 = 0.3;
const CPU_SHARE_MAX: f64 = 0.8;

const ADVICE_CONTAMINATED: &str = "run it where nothing else uses the machine: A differs from itself";
const ADVICE_INVALID: &str =
    "give loadgen more cores, or a machine of its own: more than a quarter of the runs were invalid";

/// The result, as JSON; `schema/ab-1.json` describes it.
#[derive(Debug, Serialize)]
pub(super) struct AbReport {
    schema: &'static str,
    /// What the interval shows, whatever the limit for the estimate.
    outcome: Outcome,
    /// Whether B is worse by no more than the limit: what the exit code says. `null`: inconclusive.
    held: Option<bool>,
    /// What is compared, and by how much B may be worse.
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
    /// Cores that each server used while it had the load: the median.
    cpu_share: CpuShares,
    /// What puts the result in doubt.
    warnings: Vec<String>,
    /// What would make an inconclusive result conclusive.
    advice: Option<String>,
    /// Every pair, in the order in which they were run.
    pairs: Vec<Pair>,
    invalid_runs: usize,
    /// How long each side had the load at a time, in ms; absent: the servers ran one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    slice_ms: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Pair {
    pub(super) a: f64,
    pub(super) b: f64,
    /// A's second run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) canary: Option<f64>,
    /// `null` where they ran side by side.
    pub(super) is_a_first: Option<bool>,
}

/// `null`: the CPU time could not be read.
#[derive(Debug, Clone, Copy, Serialize)]
struct CpuShares {
    a: Option<f64>,
    b: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<f64>,
}

/// All pairs as they were run.
#[derive(Debug, Default)]
pub(super) struct Runs {
    pub(super) pairs: Vec<Pair>,
    /// Of each pair, by side.
    pub(super) cpu_shares: Vec<[Option<f64>; 3]>,
    pub(super) invalid: usize,
    pub(super) slice_ms: Option<f64>,
    /// Saturation is what was asked for.
    pub(super) is_closed_loop: bool,
}

impl AbReport {
    /// # Errors
    /// There are too few pairs for the confidence.
    pub(super) fn new(runs: Runs, limit: &Limit, confidence: f64) -> Result<Self, (Exit, String)> {
        let oriented = |a: f64, b: f64| if limit.metric.is_better_high() { (b, a) } else { (a, b) };
        let judged: Vec<_> = runs.pairs.iter().map(|pair| oriented(pair.a, pair.b)).collect();
        let estimate = rank::estimate(&judged, confidence).ok_or_else(|| usage("too few pairs".into()))?;
        let again: Vec<_> = runs.pairs.iter().filter_map(|pair| Some(oriented(pair.a, pair.canary?))).collect();
        let canary = rank::estimate(&again, confidence);
        let contaminated = canary.is_some_and(|canary| canary.low > 1.0 || canary.high < 1.0);
        // Runs that say nothing about the servers cannot show that one is as good as the other.
        let is_invalid = runs.invalid * 4 > judged.len() * 2 + again.len();
        let held = if contaminated || is_invalid { None } else { estimate.is_within(limit.effect) };
        let cpu_share = CpuShares::new(&runs.cpu_shares);
        let is_judged_by_cpu = limit.metric == Metric::CpuUsPerDelivery && !runs.is_closed_loop;
        Ok(Self {
            schema: "ringrelay.loadgen.ab/1",
            outcome: if contaminated { Outcome::Inconclusive } else { estimate.shows(limit.effect) },
            held,
            rule: limit.text.clone(),
            estimate,
            smallest_effect: estimate.smallest_effect(),
            canary,
            contaminated,
            cpu_share,
            warnings: if is_judged_by_cpu { cpu_share.warnings() } else { Vec::new() },
            advice: held.is_none().then(|| match () {
                () if contaminated => ADVICE_CONTAMINATED.into(),
                () if is_invalid => ADVICE_INVALID.into(),
                () => advice_narrower(&estimate, limit.effect, judged.len()),
            }),
            pairs: runs.pairs,
            invalid_runs: runs.invalid,
            slice_ms: runs.slice_ms,
        })
    }

    /// As the limit held, did not, or can neither be said.
    pub(super) fn exit(&self) -> Exit {
        match self.held {
            Some(true) => Exit::Held,
            Some(false) => Exit::NotHeld,
            None => Exit::Invalid,
        }
    }

    /// For people: the result, then a line for everything that is to be said about it.
    pub(super) fn lines(&self) -> Vec<String> {
        let warnings = self.warnings.iter().map(|warning| format!("warning: {warning}"));
        let advice = self.advice.iter().map(|advice| format!("to conclude: {advice}"));
        [self.result(), self.cpu_share.line()].into_iter().chain(warnings).chain(advice).collect()
    }

    fn result(&self) -> String {
        let estimate = &self.estimate;
        let canary = match &self.canary {
            Some(canary) if self.contaminated => {
                format!("; contaminated: A differs from itself by {:+.2} %", (canary.ratio - 1.0) * 100.0)
            }
            Some(canary) => format!("; A differs from itself by {:+.2} %, not shown", (canary.ratio - 1.0) * 100.0),
            None => String::new(),
        };
        let how = self.slice_ms.map(|ms| format!(" side by side, {ms} ms at a time")).unwrap_or_default();
        format!(
            "{}: {}. B costs {:+.2} % ({:.1} % interval {:+.2} % to {:+.2} %) over {} pairs{how}; pairs spread {:.2} %; the smallest effect it could have shown is {:.2} %; invalid runs {}{canary}",
            self.rule,
            self.word(),
            (estimate.ratio - 1.0) * 100.0,
            estimate.confidence * 100.0,
            (estimate.low - 1.0) * 100.0,
            (estimate.high - 1.0) * 100.0,
            self.pairs.len(),
            estimate.pair_spread * 100.0,
            self.smallest_effect * 100.0,
            self.invalid_runs
        )
    }

    fn word(&self) -> String {
        let shown = match self.outcome {
            Outcome::Better => "better",
            Outcome::Worse => "worse",
            Outcome::NoDifferenceShown => "no difference shown",
            Outcome::Inconclusive => "inconclusive",
        };
        match (self.held, self.outcome) {
            (Some(false), _) => "worse, and the estimate lies above the limit".into(),
            (Some(true), Outcome::Worse) => "worse, but the estimate does not lie above the limit".into(),
            (Some(true), _) | (None, Outcome::Inconclusive) => shown.into(),
            (None, _) => format!("inconclusive, though {shown}"),
        }
    }
}

impl CpuShares {
    fn new(of_pairs: &[[Option<f64>; 3]]) -> Self {
        let [a, b, canary] = [0, 1, 2].map(|side| rank::median(of_pairs.iter().filter_map(|of| of[side]).collect()));
        Self { a, b, canary }
    }

    fn line(self) -> String {
        let number = |share: Option<f64>| share.map_or("unknown".into(), |share| format!("{share:.2}"));
        let canary = self.canary.map(|share| format!(", A again {share:.2}")).unwrap_or_default();
        format!("cores used under the load: A {}, B {}{canary}", number(self.a), number(self.b))
    }

    fn warnings(self) -> Vec<String> {
        let warning = |(name, share): (&str, Option<f64>)| match share? {
            share if share > CPU_SHARE_MAX => Some(format!(
                "{name} used {share:.2} of a core, more than {CPU_SHARE_MAX}: a saturated server hides a difference; lower --rate"
            )),
            share if share < CPU_SHARE_MIN => Some(format!(
                "{name} used {share:.2} of a core, less than {CPU_SHARE_MIN}: of a server that is nearly idle mostly noise is measured; raise --rate"
            )),
            _ => None,
        };
        [("A", self.a), ("B", self.b)].into_iter().filter_map(warning).collect()
    }
}

/// How to show what `pairs` pairs could not: an interval narrows with the square root of their number.
fn advice_narrower(estimate: &Estimate, effect: f64, pairs: usize) -> String {
    if effect == 0.0 {
        return "a limit above 0 %: no comparison shows that there is no difference at all".into();
    }
    let times = (estimate.smallest_effect() / effect).powi(2);
    format!("a longer --duration, or more pairs: at this spread about --pairs {:.0}", (pairs as f64 * times).ceil())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(b: f64, canary: f64, spread: f64) -> Runs {
        let noise = |index: usize| 1.0 + index as f64 * spread;
        let pair = |index| Pair { a: 1.0, b: b * noise(index), canary: Some(canary * noise(index)), is_a_first: None };
        Runs { pairs: (0..10).map(pair).collect(), cpu_shares: vec![[Some(0.5); 3]; 10], ..Runs::default() }
    }

    fn report(runs: Runs) -> AbReport {
        AbReport::new(runs, &Limit::parse("cpu_us_per_delivery>+5%").unwrap(), 0.98).unwrap()
    }

    #[test]
    fn nothing_is_concluded_where_a_differs_from_itself() {
        let quiet = report(runs(1.2, 0.997, 0.001));
        assert!(!quiet.contaminated && quiet.outcome == Outcome::Worse && quiet.held == Some(false));
        assert!(quiet.result().contains("the estimate lies above the limit") && quiet.lines().len() == 2);
        let moved = report(runs(1.2, 1.1, 0.001));
        assert!(moved.contaminated && moved.outcome == Outcome::Inconclusive && moved.held.is_none());
        assert!(moved.result().contains("contaminated") && moved.lines()[2].ends_with("A differs from itself"));
    }

    #[test]
    fn worse_within_the_limit_is_said_and_does_not_fail() {
        let report = report(runs(1.005, 0.997, 0.001));
        assert_eq!((report.outcome, report.held), (Outcome::Worse, Some(true)));
        assert!(report.result().contains("worse, but the estimate does not lie above the limit"));
        assert!(matches!(report.exit(), Exit::Held));
    }

    #[test]
    fn an_inconclusive_result_says_how_to_get_a_conclusive_one() {
        // The differences spread over some 30 %.
        let wide = report(runs(0.85, 0.85, 0.035));
        assert_eq!((wide.outcome, wide.held), (Outcome::Inconclusive, None));
        let (pairs, effect) = (10.0, wide.smallest_effect / 0.05);
        assert!(wide.lines()[2].ends_with(&format!("--pairs {:.0}", (pairs * effect * effect).ceil())), "{wide:?}");
        let invalid = report(Runs { invalid: 8, ..runs(1.2, 0.997, 0.001) });
        assert!(invalid.held.is_none() && invalid.result().contains("inconclusive, though worse"));
        assert!(invalid.lines()[2].contains("more cores") && matches!(invalid.exit(), Exit::Invalid));
        assert_eq!(report(Runs { invalid: 7, ..runs(1.2, 0.997, 0.001) }).held, Some(false));
    }

    #[test]
    fn servers_that_are_nearly_idle_or_saturated_are_warned_of() {
        let shares = |a, b| Runs { cpu_shares: vec![[Some(a), Some(b), None]; 10], ..runs(1.0, 0.997, 0.001) };
        assert!(report(shares(0.3, 0.8)).warnings.is_empty());
        let report_of = report(shares(0.29, 0.81));
        assert!(report_of.warnings[0].starts_with("A used 0.29 of a core, less"), "{:?}", report_of.warnings);
        assert!(report_of.warnings[1].starts_with("B used 0.81 of a core, more"), "{:?}", report_of.warnings);
        assert_eq!(report_of.lines()[1], "cores used under the load: A 0.29, B 0.81");
        assert!(report(Runs { is_closed_loop: true, ..shares(0.9, 1.0) }).warnings.is_empty());
    }
}
