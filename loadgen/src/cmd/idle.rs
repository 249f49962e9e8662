//! `idle`: what a connection costs the server that has exchanged a few messages and now says nothing.

use std::fmt::Write;

use super::Exit;
use super::load::{connect_jitter_ns, exit, find, live, show, target, usage};
use crate::cli::IdleArgs;
use crate::report::env::Env;
use crate::report::verdict::Verdict;
use crate::report::{IdleReport, Report, table};
use crate::workload::build::{self, Common, Pacing};

/// All connections together have this long for their messages.
const EXCHANGE_NS_MAX: u64 = 300_000_000_000;

/// `loadgen idle`.
///
/// # Errors
/// What is wrong with the arguments, or why the figures could not be taken, with the exit code for it.
pub(crate) fn idle(args: &IdleArgs) -> Result<Exit, (Exit, String)> {
    if args.target.server_pid.is_none() {
        return Err(usage("idle needs --server-pid, the process whose memory it reads".into()));
    }
    let seed = args.target.seed.unwrap_or(1);
    let common = Common {
        seed,
        size: args.size,
        sources: args.target.source_ip.clone().map(|sources| sources.0).unwrap_or_default(),
        connect_rate: args.target.connect_rate,
        connect_jitter_ns: connect_jitter_ns(args.target.jitter, args.target.connect_rate).map_err(usage)?,
        measure_ns: EXCHANGE_NS_MAX,
        ..Common::default()
    };
    let target = target(&args.target, None)?;
    let load = build::echo(&target, &common, args.connections, Pacing::Outstanding(1), Some(args.messages));
    let (found, facts) = find(load.map_err(usage)?, &args.target, Some(args.hold), None, &mut live(&args.target)?)?;
    let env = Env::read(args.target.url.as_deref().unwrap_or_default(), seed, found.window.seconds);
    let idle = IdleReport {
        messages_per_connection: args.messages,
        rss_bytes_before: found.window.server_memory.map(|(before, _)| before.rss_bytes),
        cpu_share: found.window.server.map(|usage| usage.cpu_ns as f64 / 1e9 / found.window.seconds.max(1e-9)),
        seconds: found.window.seconds,
    };
    let report = Report { idle: Some(idle), ..Report::new(&facts, &found, None, env) };
    show(&render(&report, &idle), args.target.json.as_deref(), &report)?;
    exit(&report)
}

fn render(report: &Report, idle: &IdleReport) -> String {
    let mut out = table::render_verdict(report);
    if report.verdict == Verdict::Invalid {
        return out;
    }
    let number = |value: Option<f64>, decimals: usize| value.map_or("-".into(), |v| format!("{v:.decimals$}"));
    let server = report.server.as_ref();
    let (connections, private) =
        (&report.connections, server.and_then(|server| server.private_dirty_bytes_per_connection));
    let rss = server.and_then(|server| server.rss_bytes_per_connection);
    let _ = writeln!(out, "connections  {} opened in {:.2} s", connections.opened, connections.connect_seconds);
    let _ = writeln!(out, "RSS          {} B per connection", number(rss, 1));
    let _ = writeln!(out, "private      {} B per connection (dirty)", number(private, 1));
    let cpu = number(idle.cpu_share.map(|share| share * 100.0), 3);
    let _ = writeln!(out, "idle CPU     {cpu} % over {:.1} s", idle.seconds);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_invalid_run_has_reasons_and_no_figures() {
        let idle =
            IdleReport { messages_per_connection: 3, rss_bytes_before: Some(1), cpu_share: Some(0.01), seconds: 5.0 };
        let text = render(&Report::example(), &idle);
        assert!(text.starts_with("verdict      VALID\n") && text.contains("RSS          1000.0 B"), "{text}");
        assert!(text.contains("idle CPU     1.000 % over 5.0 s\n"), "{text}");
        let text = render(&Report::example_invalid(), &idle);
        assert!(text.contains("INVALID") && text.contains("busy 99 %") && text.contains("no figures"), "{text}");
        assert!(["RSS", "private", "idle CPU", "opened"].iter().all(|figure| !text.contains(figure)), "{text}");
    }
}
