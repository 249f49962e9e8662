//! The report as one page that needs nothing else: no script, no font, no picture from elsewhere. Plots are SVG. Every
//! number on it is one of the JSON's.

use std::fmt::Write;

use super::latency::Summary;
use super::plot::{Axis, Plot, Series};
use super::verdict::{NO_FIGURES, Verdict};
use super::{CLOSED_LOOP, Report};

const STYLE: &str = include_str!("report.css");

/// The whole page; of an INVALID run only why it is.
pub(crate) fn render(report: &Report) -> String {
    let mut page = String::new();
    let title = format!("loadgen {}", report.env.url);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>{STYLE}</style></head>\n<body><main>\n",
        escape(&title)
    );
    put_verdict(&mut page, report);
    if report.verdict != Verdict::Invalid {
        put_cards(&mut page, report);
        put_plots(&mut page, report);
        put_events(&mut page, report);
        put_latencies(&mut page, report);
        put_details(&mut page, report);
    }
    page += "</main></body></html>\n";
    page
}

fn put_verdict(page: &mut String, report: &Report) {
    let (class, word, meaning) = match report.verdict {
        Verdict::Valid => ("valid", "VALID", "The generator kept up: the figures are the server's."),
        Verdict::Degraded => ("degraded", "DEGRADED", "The generator had a part in these figures."),
        Verdict::Invalid => ("invalid", "INVALID", NO_FIGURES),
    };
    let _ = write!(page, "<header class=\"{class}\"><h1>{word}</h1><p>{meaning}</p>");
    for reason in report.reasons.iter().chain(&report.failure) {
        let _ = write!(page, "<p class=\"reason\">{}</p>", escape(reason));
    }
    let mode = if report.mode == CLOSED_LOOP {
        "Closed loop: each publisher waited for its messages, so the latencies are those of a saturated server."
    } else {
        "Open loop: latency counts from the time at which each message was due."
    };
    let _ = writeln!(page, "<p>{mode}</p><p class=\"url\">{}</p></header>", escape(&report.env.url));
}

fn put_cards(page: &mut String, report: &Report) {
    page.push_str("<section class=\"cards\">");
    let mut card = |name: &str, value: String, note: String| {
        let _ = write!(page, "<div><span>{name}</span><strong>{value}</strong><small>{note}</small></div>");
    };
    let response = &report.latency_us.response;
    card("p50", time(response.p50), "response".into());
    card("p99", time(response.p99), "response".into());
    card("max", time(response.max), "response".into());
    let reach = report.reach.map_or("–".into(), |reach| format!("{:.4} %", reach * 100.0));
    card("reach", reach, format!("{} of {}", report.received, report.expected));
    card("deliveries/s", format!("{:.0}", report.deliveries_per_s), format!("{:.0} messages/s", report.sent_per_s));
    card(
        "lost · duplicated",
        format!("{} · {}", report.lost, report.duplicated),
        format!("reordered {}, corrupted {}", report.reordered, report.corrupted),
    );
    card(
        "connections",
        report.connections.opened.to_string(),
        format!("in {:.2} s", report.connections.connect_seconds),
    );
    if let Some(server) = &report.server {
        let cost = server.cpu_us_per_delivery.map_or("–".into(), |us| format!("{us:.3} µs"));
        card("server CPU per delivery", cost, format!("{:.2} cores in use", server.cpu_share));
    }
    if let Some(held) = report.slo.held {
        let clauses: Vec<String> = report.slo.clauses.iter().map(|clause| escape(&clause.clause)).collect();
        card("SLO", if held { "held" } else { "not held" }.into(), clauses.join(", "));
    }
    page.push_str("</section>\n");
}

fn put_plots(page: &mut String, report: &Report) {
    let nines = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        // The horizontal axis is 1/(1-share): each nine takes the same room.
        // What is below a microsecond is drawn as one.
        let inside = points.iter().filter(|(share, _)| *share < 1.0);
        inside.map(|(share, us)| (1.0 / (1.0 - share), us.max(1.0) / 1000.0)).collect()
    };
    let curves = &report.curves;
    let plot = Plot {
        title: "Latency by percentile",
        x: Axis { label: "percentile", scale: super::plot::Scale::Nines },
        y: Axis { label: "ms", scale: super::plot::Scale::Log },
        series: vec![
            Series { name: "response", points: nines(&curves.response) },
            Series { name: "service", points: nines(&curves.service) },
            Series { name: "completion", points: nines(&curves.completion) },
            Series { name: "lateness", points: nines(&curves.lateness) },
        ],
    };
    page.push_str(&plot.render());
    let over_time = |value: fn(&super::SecondReport) -> Option<f64>| -> Vec<(f64, f64)> {
        report.seconds.iter().filter_map(|second| Some((second.at as f64, value(second)?))).collect()
    };
    let seconds = || Axis { label: "s", scale: super::plot::Scale::Linear };
    let latency = Plot {
        title: "Response latency over time",
        x: seconds(),
        y: Axis { label: "ms", scale: super::plot::Scale::Log },
        series: vec![
            Series { name: "p50", points: over_time(|s| s.p50_us.map(|us| us / 1000.0)) },
            Series { name: "p99", points: over_time(|s| s.p99_us.map(|us| us / 1000.0)) },
            Series { name: "max", points: over_time(|s| s.max_us.map(|us| us / 1000.0)) },
        ],
    };
    page.push_str(&latency.render());
    let rates = Plot {
        title: "Deliveries per second",
        x: seconds(),
        y: Axis { label: "per s", scale: super::plot::Scale::Linear },
        series: vec![Series { name: "delivered", points: over_time(|s| Some(s.delivered as f64)) }],
    };
    page.push_str(&rates.render());
    let ramp = report.connections.ramp.iter().map(|(at, open)| (*at, *open as f64)).collect();
    let ramp = Plot {
        title: "Connections while connecting",
        x: seconds(),
        y: Axis { label: "open", scale: super::plot::Scale::Linear },
        series: vec![Series { name: "open", points: ramp }],
    };
    page.push_str(&ramp.render());
}

fn put_events(page: &mut String, report: &Report) {
    if report.events.is_empty() {
        return;
    }
    page.push_str("<section><h2>Events, by seconds into the measurement</h2><ul>");
    for event in &report.events {
        let _ = write!(page, "<li>{:.1} s: {}</li>", event.at, escape(&event.what));
    }
    page.push_str("</ul></section>\n");
}

fn put_latencies(page: &mut String, report: &Report) {
    page.push_str("<section><h2>Latency</h2><div class=\"scroll\"><table><thead><tr><th></th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th><th>count</th></tr></thead><tbody>");
    let latency = &report.latency_us;
    for (name, meaning, summary) in [
        ("response", "from the due time to the arrival", &latency.response),
        ("service", "from the actual send to the arrival", &latency.service),
        ("lateness", "of the generator, per message", &latency.lateness),
        ("completion", "until the last subscriber has it", &latency.completion),
        ("spread", "from the first to the last subscriber", &latency.spread),
        ("handshake", "TCP connect and upgrade", &latency.handshake),
    ] {
        put_row(page, name, meaning, summary);
    }
    page.push_str("</tbody></table></div></section>\n");
}

fn put_row(page: &mut String, name: &str, meaning: &str, summary: &Summary) {
    let _ = write!(page, "<tr><th>{name}<small>{meaning}</small></th>");
    for value in [summary.p50, summary.p90, summary.p99, summary.p99_9, summary.max] {
        let _ = write!(page, "<td>{}</td>", time(value));
    }
    let _ = write!(page, "<td>{}</td></tr>", summary.count);
}

fn put_details(page: &mut String, report: &Report) {
    page.push_str("<section><h2>How it was measured</h2><dl>");
    let mut entry = |name: &str, value: String| {
        let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", escape(&value));
    };
    let generator = &report.generator;
    entry("command", report.env.command.join(" "));
    entry(
        "messages",
        format!("{} scheduled, {} sent in {} s", report.scheduled, report.sent, report.env.measured_seconds),
    );
    let cost = generator.cpu_us_per_received.map_or("–".into(), |us| format!("{us:.3} µs"));
    entry(
        "generator",
        format!(
            "{} threads, {}, {cost} CPU per message received, busiest thread busy {:.0} %, steal {:.2} %",
            generator.threads,
            generator.driver,
            generator.busy_share_max * 100.0,
            generator.steal_share * 100.0
        ),
    );
    if let Some(ceiling) = &generator.ceiling {
        let (share, received_per_s) = (ceiling.share * 100.0, ceiling.received_per_s);
        let text = format!("{share:.0} % of {received_per_s:.0} messages/s, by its CPU time against a null peer");
        entry("own ceiling", format!("{text} ({})", ceiling.peer));
    }
    if let Some(server) = &report.server {
        let number = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.0}"));
        entry(
            "server",
            format!(
                "{} deliveries per CPU-second, RSS {} B, {} B per connection, {} context switches",
                number(server.deliveries_per_cpu_s),
                server.rss_bytes.map_or("–".into(), |bytes| bytes.to_string()),
                number(server.rss_bytes_per_connection),
                server.context_switches
            ),
        );
    }
    for (reason, count) in &report.connections.reasons {
        entry("connections lost", format!("{count}: {reason}"));
    }
    let env = &report.env;
    entry(
        "machine",
        format!("{}, {} cores allowed, Linux {}, {}", env.cpu, env.cores_allowed, env.kernel, env.congestion_control),
    );
    entry("loadgen", format!("{}, seed {}", env.loadgen, env.seed));
    page.push_str("</dl></section>\n");
}

/// A latency with the unit that suits it.
fn time(us: Option<f64>) -> String {
    match us {
        None => "–".into(),
        Some(us) if us < 1000.0 => format!("{us:.1} µs"),
        Some(us) if us < 1e6 => format!("{:.2} ms", us / 1e3),
        Some(us) => format!("{:.3} s", us / 1e6),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_an_invalid_run_has_reasons_and_no_figures() {
        let page = render(&Report::example());
        assert!(page.contains("1000 of 1000") && page.contains("<td>") && page.contains("2.000 µs"));
        let page = render(&Report::example_invalid());
        assert!(page.contains("INVALID") && page.contains("busy 99 % of the time"), "{page}");
        assert!(["1000 of", "<svg", "<td>", "<h2>", "µs"].iter().all(|figure| !page.contains(figure)), "{page}");
    }
}
