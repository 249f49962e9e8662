//! Two reports side by side, and rules for what counts as worse.

use std::fmt::Write;

use crate::report::slo::Metric;
use crate::report::verdict::Verdict;
use crate::report::{CLOSED_LOOP, Report};

/// What `diff` holds against B when nothing else is asked for.
pub(crate) const RULES_DEFAULT: &str = "cpu_us_per_delivery>+5%,p99>+25%,reach<-0.1%";

/// The rows of the table.
const SHOWN: [&str; 12] = [
    "cpu_us_per_delivery",
    "deliveries_per_s",
    "reach",
    "lost",
    "duplicated",
    "reordered",
    "corrupted",
    "p50",
    "p99",
    "p99.9",
    "completion.p99",
    "handshake.p99",
];

/// Rules like `cpu_us_per_delivery>+5%`: B is worse when one applies.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules(Vec<Rule>);

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    pub(crate) text: String,
    pub(crate) metric: Metric,
    /// Worse when the change lies above (else below) `limit`.
    is_above: bool,
    limit: f64,
}

/// A rule that says by how much B may be worse: what `ab` judges by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limit {
    pub(crate) text: String,
    pub(crate) metric: Metric,
    /// How much worse, relative, 0.05 for 5 %: B / A - 1, or A / B - 1 of a metric that should be high.
    pub(crate) effect: f64,
}

/// Two reports compared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) outcome: Outcome,
    /// `open_loop` or `closed_loop`, both of them.
    mode: String,
    /// Empty where a report says nothing.
    rows: Vec<(&'static str, Option<f64>, Option<f64>)>,
    /// Rules that B breaks.
    broken: Vec<String>,
    /// What could not be judged, and why.
    unjudged: Vec<String>,
}

/// What a comparison has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    NoWorse,
    /// Whatever else could not be judged.
    Worse,
    Inconclusive,
}

impl Rules {
    /// # Errors
    /// A sentence that names the rule and what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .filter(|rule| !rule.is_empty())
            .map(Rule::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::parse(RULES_DEFAULT).expect("the default rules are rules")
    }
}

impl Rule {
    /// # Errors
    /// A sentence that names the rule and what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("rule {text:?}: {why}, like cpu_us_per_delivery>+5%");
        let at = text.find(['<', '>']).ok_or_else(|| wrong("there is no < or > in it"))?;
        let metric = Metric::parse(text[..at].trim()).ok_or_else(|| wrong("it does not begin with a metric"))?;
        let share = text[at + 1..].trim().strip_suffix('%').ok_or_else(|| wrong("the limit is not in %"))?;
        let share: f64 = share.parse().map_err(|_| wrong("the limit is no number"))?;
        if !share.is_finite() {
            return Err(wrong("the limit is no number"));
        }
        Ok(Self { text: text.to_owned(), metric, is_above: text[at..].starts_with('>'), limit: share / 100.0 })
    }

    /// Whether B breaks it.
    ///
    /// # Errors
    /// Why that cannot be told.
    fn is_broken(&self, a: &Report, b: &Report) -> Result<bool, Unjudged> {
        let text = &self.text;
        if self.metric.is_latency() && a.mode == CLOSED_LOOP {
            let reason = format!("{text}: latencies of a closed loop are not judged");
            return Err(Unjudged { reason, is_by_nature: true });
        }
        let unmeasured = |who: &str| format!("{text}: {who} no such figure");
        let change = match (self.metric.comparable(a), self.metric.comparable(b)) {
            (Some(a), Some(b)) => change(a, b),
            (None, None) => return Err(Unjudged { reason: unmeasured("A and B have"), is_by_nature: true }),
            (None, _) => return Err(Unjudged { reason: unmeasured("A has"), is_by_nature: false }),
            (_, None) => return Err(Unjudged { reason: unmeasured("B has"), is_by_nature: false }),
        };
        Ok(if self.is_above { change > self.limit } else { change < self.limit })
    }
}

impl Limit {
    /// # Errors
    /// A sentence that names the rule and what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let rule = Rule::parse(text)?;
        let is_better_high = rule.metric.is_better_high();
        let ratio = if is_better_high { 1.0 / (1.0 + rule.limit) } else { 1.0 + rule.limit };
        if rule.is_above == is_better_high || ratio < 1.0 || !ratio.is_finite() {
            return Err(format!(
                "rule {text:?}: it does not say by how much B may be worse, like cpu_us_per_delivery>+5% or reach<-1%"
            ));
        }
        Ok(Self { text: rule.text, metric: rule.metric, effect: ratio - 1.0 })
    }
}

/// Why a rule was not judged.
struct Unjudged {
    reason: String,
    /// No report of this kind has such a figure: a default rule does not ask for it then.
    is_by_nature: bool,
}

impl Comparison {
    /// Compares by `rules`, or by [`RULES_DEFAULT`] as far as they apply to reports like these.
    pub(crate) fn new(a: &Report, b: &Report, rules: Option<&Rules>) -> Self {
        let obstacles: Vec<String> =
            [("A", a), ("B", b)].into_iter().filter_map(|(name, of)| obstacle(name, of)).collect();
        let mode = a.mode.clone();
        if !obstacles.is_empty() {
            let outcome = Outcome::Inconclusive;
            return Self { outcome, mode, rows: Vec::new(), broken: Vec::new(), unjudged: obstacles };
        }
        let row = |name: &'static str| {
            let metric = Metric::parse(name)?;
            Some((name, metric.value(a), metric.value(b)))
        };
        let rows = SHOWN.into_iter().filter_map(row).collect();
        let (mut broken, mut unjudged, mut is_lacking) = (Vec::new(), Vec::new(), false);
        let judged_by = rules.cloned().unwrap_or_default();
        for rule in &judged_by.0 {
            match rule.is_broken(a, b) {
                Ok(true) => broken.push(rule.text.clone()),
                Ok(false) => {}
                Err(Unjudged { reason, is_by_nature }) => {
                    is_lacking |= rules.is_some() || !is_by_nature;
                    unjudged.push(reason);
                }
            }
        }
        is_lacking |= unjudged.len() == judged_by.0.len() && !unjudged.is_empty();
        let outcome = match (broken.is_empty(), is_lacking) {
            (false, _) => Outcome::Worse,
            (true, true) => Outcome::Inconclusive,
            (true, false) => Outcome::NoWorse,
        };
        Self { outcome, mode, rows, broken, unjudged }
    }

    /// For a terminal.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        if !self.rows.is_empty() {
            let _ = writeln!(out, "{:<22}{:>14}{:>14}{:>10}", self.mode(), "A", "B", "change");
        }
        for (name, a, b) in &self.rows {
            let _ = writeln!(out, "{name:<22}{:>14}{:>14}{:>10}", number(*a), number(*b), percent(*a, *b));
        }
        self.broken.iter().for_each(|rule| out += &format!("worse: {rule}\n"));
        let what = if self.outcome == Outcome::Inconclusive { "inconclusive" } else { "not judged" };
        self.unjudged.iter().for_each(|reason| out += &format!("{what}: {reason}\n"));
        out
    }

    /// For a comment on a change.
    pub(crate) fn markdown(&self) -> String {
        let mut out = match self.outcome {
            Outcome::NoWorse => "no worse".into(),
            Outcome::Worse => format!("**worse**: {}", self.broken.join(", ")),
            Outcome::Inconclusive => "**inconclusive**".into(),
        };
        out += "\n";
        self.unjudged.iter().for_each(|reason| out += &format!("\nNot judged: {reason}\n"));
        if !self.rows.is_empty() {
            let _ = writeln!(out, "\n| {} | A | B | change |\n|---|---:|---:|---:|", self.mode());
        }
        for (name, a, b) in &self.rows {
            let _ = writeln!(out, "| {name} | {} | {} | {} |", number(*a), number(*b), percent(*a, *b));
        }
        out
    }

    fn mode(&self) -> &'static str {
        if self.mode == CLOSED_LOOP { "closed loop" } else { "open loop" }
    }
}

/// Why a report says nothing.
fn obstacle(name: &str, report: &Report) -> Option<String> {
    let failure = report.failure.as_ref().map(|failure| format!("{name} was not done as asked: {failure}"));
    let is_invalid = report.verdict == Verdict::Invalid;
    failure.or_else(|| is_invalid.then(|| format!("{name} is INVALID: {}", report.reasons.join("; "))))
}

fn change(a: f64, b: f64) -> f64 {
    match (a, b) {
        (a, b) if a == b => 0.0,
        (0.0, _) => f64::INFINITY,
        (a, b) => b / a - 1.0,
    }
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value.abs() >= 1000.0 || value == value.trunc() => format!("{value:.0}"),
        Some(value) => format!("{value:.4}"),
    }
}

fn percent(a: Option<f64>, b: Option<f64>) -> String {
    match a.zip(b).map(|(a, b)| change(a, b) * 100.0) {
        Some(change) if change.is_finite() => format!("{change:+.1} %"),
        _ => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::process::ServerReport;

    #[test]
    fn rules_are_read_and_wrong_ones_refused() {
        let rules = Rules::parse("cpu_us_per_delivery>+5%, reach<-0.1%").unwrap();
        assert_eq!((rules.0[0].limit, rules.0[1].limit, rules.0[1].is_above), (0.05, -0.001, false));
        for (text, said) in [("p99", "no <"), ("x>5%", "metric"), ("p99>5", "not in %"), ("p99>x%", "no number")] {
            assert!(Rules::parse(text).unwrap_err().contains(said), "{text}");
        }
        assert!(Rules::parse(RULES_DEFAULT).is_ok());
    }

    fn compare(a: &Report, b: &Report, rules: Option<&str>) -> (Outcome, String) {
        let rules = rules.map(|text| Rules::parse(text).unwrap());
        let comparison = Comparison::new(a, b, rules.as_ref());
        (comparison.outcome, comparison.table())
    }

    fn at_cost(cpu_us_per_delivery: Option<f64>) -> Report {
        let server = Report::example().server.map(|server| ServerReport { cpu_us_per_delivery, ..server });
        Report { server, ..Report::example() }
    }

    #[test]
    fn reports_of_runs_that_went_wrong_are_not_compared() {
        let sound = Report::example();
        let failed = Report { failure: Some("stopped by a signal".into()), ..Report::example() };
        for (a, b, said) in [
            (&sound, &Report::example_invalid(), "inconclusive: B is INVALID: the busiest generator thread"),
            (&failed, &sound, "inconclusive: A was not done as asked: stopped by a signal"),
        ] {
            let (outcome, text) = compare(a, b, None);
            assert!(outcome == Outcome::Inconclusive && text.starts_with(said) && text.lines().count() == 1, "{text}");
        }
    }

    #[test]
    fn a_rule_without_figures_is_left_out_unless_it_was_asked_for() {
        let (none, some, more) = (at_cost(None), at_cost(Some(2.0)), at_cost(Some(3.0)));
        let (outcome, text) = compare(&none, &none, None);
        assert!(outcome == Outcome::NoWorse, "{text}");
        assert!(text.contains("not judged: cpu_us_per_delivery>+5%: A and B have no such figure"), "{text}");
        for (a, b, rules, said) in [
            (&none, &none, Some("cpu_us_per_delivery>+5%"), "A and B have no such figure"),
            (&none, &some, Some("cpu_us_per_delivery>+5%,p99>+25%"), "A has no such figure"),
            (&some, &none, Some("cpu_us_per_delivery>+5%"), "B has no such figure"),
            // Whoever measures it once wants it judged.
            (&some, &none, None, "B has no such figure"),
        ] {
            let (outcome, text) = compare(a, b, rules);
            let said = format!("inconclusive: cpu_us_per_delivery>+5%: {said}");
            assert!(outcome == Outcome::Inconclusive && text.contains(&said), "{text}");
        }
        // What is worse is worse, whatever else is not known.
        let slow = Report { mode: CLOSED_LOOP.into(), ..more };
        let closed = Report { mode: CLOSED_LOOP.into(), ..some };
        let (outcome, text) = compare(&closed, &slow, Some("cpu_us_per_delivery>+5%,p99>+25%"));
        assert!(outcome == Outcome::Worse && text.contains("not judged: p99>+25%"), "{text}");
    }

    #[test]
    fn latencies_of_a_closed_loop_are_not_judged() {
        let slower = |mode: &str| {
            let mut report = Report { mode: mode.into(), ..Report::example() };
            report.latency_us.response_with_lost.p99 = Some(1e6);
            report
        };
        let closed = Report { mode: CLOSED_LOOP.into(), ..Report::example() };
        let (outcome, text) = compare(&closed, &slower(CLOSED_LOOP), None);
        assert!(outcome == Outcome::NoWorse && text.starts_with("closed loop "), "{text}");
        assert!(text.contains("not judged: p99>+25%: latencies of a closed loop are not judged"), "{text}");
        let (outcome, text) = compare(&closed, &slower(CLOSED_LOOP), Some("p99>+25%"));
        assert!(outcome == Outcome::Inconclusive && text.contains("inconclusive: p99>+25%"), "{text}");
        assert_eq!(compare(&Report::example(), &slower("open_loop"), None).0, Outcome::Worse);
    }

    #[test]
    fn what_lies_among_the_lost_is_beyond_any_figure() {
        let mut lossy = Report::example();
        lossy.latency_us.response_with_lost.p99 = None;
        let outcome = |a: &Report, b: &Report| compare(a, b, Some("p99>+25%")).0;
        assert_eq!(outcome(&Report::example(), &lossy), Outcome::Worse);
        assert_eq!(outcome(&lossy, &Report::example()), Outcome::NoWorse);
        assert_eq!(outcome(&lossy, &lossy), Outcome::NoWorse);
    }

    #[test]
    fn a_limit_says_how_much_worse() {
        let effect = |text: &str| Limit::parse(text).unwrap().effect;
        let effects = [effect("cpu_us_per_delivery>+5%"), effect("deliveries_per_s<-20%"), effect("p99>0%")];
        assert!(effects.iter().zip([0.05, 0.25, 0.0]).all(|(a, b)| (a - b).abs() < 1e-9), "{effects:?}");
        for text in ["cpu_us_per_delivery<-5%", "cpu_us_per_delivery>-5%", "reach>+1%", "reach<1%", "reach<-100%"] {
            assert!(Limit::parse(text).unwrap_err().contains("may be worse"), "{text}");
        }
    }

    #[test]
    fn changes_are_relative_to_a() {
        assert_eq!([change(2.0, 3.0), change(0.0, 0.0), change(0.0, 1.0)], [0.5, 0.0, f64::INFINITY]);
        assert!(SHOWN.iter().all(|name| Metric::parse(name).is_some()));
    }
}
