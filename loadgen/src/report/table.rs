//! The summary for people: on stdout, after the run.

use std::fmt::Write;

use super::latency::Summary;
use super::verdict::{NO_FIGURES, Verdict};
use super::{CLOSED_LOOP, Report};

/// The whole summary, with a line end at the end.
pub(crate) fn render(report: &Report) -> String {
    let mut out = render_verdict(report);
    if report.verdict == Verdict::Invalid {
        return out;
    }
    let connections = &report.connections;
    put(
        &mut out,
        "connections",
        &format!(
            "{} of {} opened in {:.2} s, {} failed, {} ended early",
            connections.opened, connections.asked, connections.connect_seconds, connections.failed, connections.ended
        ),
    );
    if connections.left > 0 {
        put(&mut out, "  by events", &format!("{} of them went away", connections.left));
    }
    if connections.slow > 0 {
        put(&mut out, "slow readers", &format!("{} of them, {} ended", connections.slow, connections.slow_ended));
    }
    put(
        &mut out,
        "messages",
        &format!("{} scheduled, {} sent, {:.0}/s", report.scheduled, report.sent, report.sent_per_s),
    );
    put(
        &mut out,
        "deliveries",
        &format!("{} of {} received, {:.0}/s", report.received, report.expected, report.deliveries_per_s),
    );
    put(
        &mut out,
        "reach",
        &format!(
            "{}  lost {}  duplicated {}  reordered {}  corrupted {}",
            report.reach.map_or("-".into(), |reach| format!("{reach:.6}")),
            report.lost,
            report.duplicated,
            report.reordered,
            report.corrupted
        ),
    );
    if report.missed > 0 {
        put(&mut out, "  missed", &format!("{} by subscribers that were away, not expected of them", report.missed));
    }
    if let Some(server) = &report.server {
        put(
            &mut out,
            "server",
            &format!(
                "{} deliveries per CPU-second, {} us each, CPU {:.2}, RSS {}",
                number(server.deliveries_per_cpu_s, 0),
                number(server.cpu_us_per_delivery, 4),
                server.cpu_share,
                server.rss_bytes.map_or("-".into(), |bytes| format!("{:.1} MiB", bytes as f64 / 1048576.0))
            ),
        );
    }
    if let Some(storm) = &report.storm {
        let ms = |us: Option<f64>| number(us.map(|us| us / 1000.0), 1);
        let recovery = &storm.recovery_us;
        put(
            &mut out,
            "storm",
            &format!(
                "{} cut, {} back (p50 {} ms, p99 {} ms, all after {} ms), {} attempts failed",
                storm.cut,
                storm.recovered,
                ms(recovery.p50),
                ms(recovery.p99),
                ms(recovery.max),
                storm.failed_attempts
            ),
        );
    }
    for event in &report.events {
        put(&mut out, "event", &format!("at {:.1} s: {}", event.at, event.what));
    }
    let generator = &report.generator;
    put(
        &mut out,
        "generator",
        &format!(
            "{} threads, {} us CPU per message received, busy {:.2}{}",
            generator.threads,
            number(generator.cpu_us_per_received, 4),
            generator.busy_share_max,
            generator.ceiling.as_ref().map_or(String::new(), |ceiling| {
                format!(", {:.0} % of its own ceiling of {:.0}/s", ceiling.share * 100.0, ceiling.received_per_s)
            })
        ),
    );
    let mode = if report.mode == CLOSED_LOOP { "closed loop, latency in us" } else { "open loop, latency in us" };
    let _ =
        writeln!(out, "{mode:<28}{:>11}{:>11}{:>11}{:>11}{:>11}{:>13}", "p50", "p90", "p99", "p99.9", "max", "count");
    let latency = &report.latency_us;
    for (name, summary) in [
        ("  response", &latency.response),
        ("  service", &latency.service),
        ("  lateness", &latency.lateness),
        ("  completion", &latency.completion),
        ("  spread", &latency.spread),
        ("  handshake", &latency.handshake),
    ] {
        out += &row(name, summary);
    }
    for clause in &report.slo.clauses {
        let held = clause.held.map_or("not judged (closed loop)", |held| if held { "held" } else { "NOT HELD" });
        put(&mut out, "slo", &format!("{}: {held} ({})", clause.clause, number(clause.value, 3)));
    }
    out
}

/// What the run is worth. Of one that is INVALID nothing else may be shown.
pub(crate) fn render_verdict(report: &Report) -> String {
    let mut out = String::new();
    put(&mut out, "verdict", report.verdict.name());
    report.reasons.iter().for_each(|reason| put(&mut out, "  because", reason));
    if let Some(failure) = &report.failure {
        put(&mut out, "failure", failure);
    }
    if report.verdict == Verdict::Invalid {
        let _ = writeln!(out, "{NO_FIGURES}");
    }
    out
}

fn put(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "{name:<13}{value}");
}

fn row(name: &str, summary: &Summary) -> String {
    let cell = |value: Option<f64>| number(value, 1);
    format!(
        "{name:<28}{:>11}{:>11}{:>11}{:>11}{:>11}{:>13}\n",
        cell(summary.p50),
        cell(summary.p90),
        cell(summary.p99),
        cell(summary.p99_9),
        cell(summary.max),
        summary.count
    )
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.decimals$}"))
}
