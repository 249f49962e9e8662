//! A moment in Prometheus' text format, version 0.0.4. The series are the same from the first connect to the end.

use std::fmt::{Display, Write};

use super::{Moment, Phase};
use crate::report::verdict::Verdict;

/// The whole page; this is the command's run number `run`, counted from 1.
pub(super) fn render(moment: &Moment, run: u64) -> String {
    let mut page = Page(String::new());
    page.one("loadgen_build_info", "gauge", "Always 1.", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.one("loadgen_run", "gauge", "Which run of the command this is; counters begin anew with each.", &[], run);
    page.choice("loadgen_phase", "1 for the phase the run is in.", "phase", &Phase::ALL.map(Phase::name), |name| {
        name == moment.phase.name()
    });
    page.one(
        "loadgen_elapsed_seconds",
        "gauge",
        "Since the first connect, then since the first message.",
        &[],
        moment.seconds,
    );
    page.one(
        "loadgen_done_ratio",
        "gauge",
        "Share of the connects, then of warm-up and measurement.",
        &[],
        moment.done,
    );
    let connections = &moment.connections;
    page.one("loadgen_connections_asked", "gauge", "Connections that the load has.", &[], connections.asked);
    page.one("loadgen_connections", "gauge", "Open connections.", &[], connections.open);
    for (name, help, value) in [
        ("loadgen_connections_opened_total", "Connections upgraded.", connections.opened),
        ("loadgen_connections_failed_total", "Connections that could not be opened.", connections.failed),
        ("loadgen_connections_ended_total", "Open connections that ended early.", connections.ended),
        ("loadgen_messages_sent_total", "Messages sent, warm-up included.", moment.sent),
        ("loadgen_deliveries_expected_total", "Deliveries that these make when none is lost.", moment.expected),
        ("loadgen_deliveries_total", "Distinct messages received by subscribers.", moment.delivered),
        ("loadgen_heard_total", "Messages received by others than subscribers.", moment.heard),
    ] {
        page.one(name, "counter", help, &[], value);
    }
    page.one("loadgen_sent_per_second", "gauge", "Messages sent in the last whole second.", &[], moment.sent_per_s);
    let help = "Messages received by subscribers in the last whole second.";
    page.one("loadgen_deliveries_per_second", "gauge", help, &[], moment.delivered_per_s);
    page.response(moment);
    let verdicts = [Verdict::Valid, Verdict::Degraded, Verdict::Invalid].map(Verdict::name);
    let help = "1 for what the measurement so far is worth; all 0 before it.";
    page.choice("loadgen_verdict", help, "verdict", &verdicts, |name| moment.verdict.is_some_and(|v| v.name() == name));
    page.0
}

/// The text so far.
struct Page(String);

impl Page {
    fn one(&mut self, name: &str, kind: &str, help: &str, labels: &[(&str, &str)], value: impl Display) {
        self.declare(name, kind, help);
        self.sample(name, labels, value);
    }

    /// A series per name, 1 for the one that `is_it`.
    fn choice(&mut self, name: &str, help: &str, label: &str, names: &[&str], is_it: impl Fn(&str) -> bool) {
        self.declare(name, "gauge", help);
        names.iter().for_each(|choice| self.sample(name, &[(label, choice)], u8::from(is_it(choice))));
    }

    fn response(&mut self, moment: &Moment) {
        const NAME: &str = "loadgen_response_seconds";
        self.declare(NAME, "summary", "From the intended time to the arrival, of the measured messages so far.");
        for (label, share) in [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99), ("0.999", 0.999), ("1", 1.0)] {
            let seconds = moment.response.quantile_us(share).map_or(f64::NAN, |us| us / 1e6);
            self.sample(NAME, &[("quantile", label)], seconds);
        }
        let (count, (mean_ns, _)) = (moment.response.count(), moment.response.mean_and_deviation_ns());
        self.sample("loadgen_response_seconds_sum", &[], mean_ns * count as f64 / 1e9);
        self.sample("loadgen_response_seconds_count", &[], count);
    }

    fn declare(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Names and labels are constants of this file, so there is nothing to escape.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0 += name;
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{text}\"", if at == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::recorder::Recorder;
    use crate::scrape;

    #[test]
    fn every_sample_can_be_read_and_is_declared() {
        let page = render(&Moment::example(), 3);
        let samples = scrape::parse(&page);
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(samples.len(), lines.clone().count(), "{page}");
        for (name, value) in [
            ("loadgen_run", 3.0),
            ("loadgen_phase{phase=\"measuring\"}", 1.0),
            ("loadgen_phase{phase=\"draining\"}", 0.0),
            ("loadgen_connections", 100.0),
            ("loadgen_deliveries_total", 599_999.0),
            ("loadgen_response_seconds_count", 1000.0),
            ("loadgen_verdict{verdict=\"DEGRADED\"}", 1.0),
            ("loadgen_verdict{verdict=\"VALID\"}", 0.0),
        ] {
            assert_eq!(samples.get(name), Some(&value), "{name} in {page}");
        }
        let p99 = samples["loadgen_response_seconds{quantile=\"0.99\"}"];
        assert!((p99 - 990e-6).abs() < 2e-6 && (samples["loadgen_response_seconds_sum"] - 0.5005).abs() < 0.001);
        for line in lines {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = name.strip_suffix("_sum").or(name.strip_suffix("_count")).unwrap_or(name);
            assert!(
                page.contains(&format!("# TYPE {family} ")) && page.contains(&format!("# HELP {family} ")),
                "{line}"
            );
        }
    }

    #[test]
    fn before_the_measurement_there_is_no_verdict_and_quantiles_are_not_numbers() {
        let moment = Moment { verdict: None, response: Recorder::new(), ..Moment::example() };
        let page = render(&moment, 1);
        assert!(page.contains("loadgen_response_seconds{quantile=\"0.5\"} NaN\n"));
        assert!(page.contains("loadgen_response_seconds_sum 0\n") && !page.contains("_verdict{verdict=\"VALID\"} 1"));
    }
}
