//! Two reports side by side, and rules for what counts as worse.

use std::fmt::Write;

use crate::report::Report;
use crate::report::slo::Metric;

/// What `diff` and `ab` hold against B when nothing else is asked for.
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
    rows: Vec<(&'static str, Option<f64>, Option<f64>)>,
    /// Rules that B breaks.
    pub(crate) broken: Vec<String>,
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

    fn is_broken(&self, a: &Report, b: &Report) -> bool {
        // What was there and is not any more (a quantile that now lies among the lost) is beyond any limit.
        let change = match (self.metric.value(a), self.metric.value(b)) {
            (Some(a), Some(b)) => change(a, b),
            (Some(_), None) => f64::INFINITY,
            (None, _) => return false,
        };
        if self.is_above { change > self.limit } else { change < self.limit }
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

impl Comparison {
    pub(crate) fn new(a: &Report, b: &Report, rules: &Rules) -> Self {
        let row = |name: &'static str| {
            let metric = Metric::parse(name)?;
            Some((name, metric.value(a), metric.value(b)))
        };
        Self {
            rows: SHOWN.into_iter().filter_map(row).collect(),
            broken: rules.0.iter().filter(|rule| rule.is_broken(a, b)).map(|rule| rule.text.clone()).collect(),
        }
    }

    /// For a terminal.
    pub(crate) fn table(&self) -> String {
        let mut out = format!("{:<22}{:>14}{:>14}{:>10}\n", "", "A", "B", "change");
        for (name, a, b) in &self.rows {
            let _ = writeln!(out, "{name:<22}{:>14}{:>14}{:>10}", number(*a), number(*b), percent(*a, *b));
        }
        self.broken.iter().for_each(|rule| out += &format!("worse: {rule}\n"));
        out
    }

    /// For a comment on a change.
    pub(crate) fn markdown(&self) -> String {
        let verdict =
            if self.broken.is_empty() { "no worse".into() } else { format!("**worse**: {}", self.broken.join(", ")) };
        let mut out = format!("{verdict}\n\n| | A | B | change |\n|---|---:|---:|---:|\n");
        for (name, a, b) in &self.rows {
            let _ = writeln!(out, "| {name} | {} | {} | {} |", number(*a), number(*b), percent(*a, *b));
        }
        out
    }
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

    #[test]
    fn rules_are_read_and_wrong_ones_refused() {
        let rules = Rules::parse("cpu_us_per_delivery>+5%, reach<-0.1%").unwrap();
        assert_eq!((rules.0[0].limit, rules.0[1].limit, rules.0[1].is_above), (0.05, -0.001, false));
        for (text, said) in [("p99", "no <"), ("x>5%", "metric"), ("p99>5", "not in %"), ("p99>x%", "no number")] {
            assert!(Rules::parse(text).unwrap_err().contains(said), "{text}");
        }
        assert!(Rules::parse(RULES_DEFAULT).is_ok());
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
