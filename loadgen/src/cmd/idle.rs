//! `idle`: what a connection costs the server that has exchanged a few messages and now says nothing.

use serde::Serialize;

use super::Exit;
use super::load::{connect_jitter_ns, find, is_json_on_stdout, live, target, usage, write_json};
use crate::cli::IdleArgs;
use crate::report::SCHEMA;
use crate::report::env::Env;
use crate::workload::build::{self, Common, Pacing};

/// All connections together have this long for their messages.
const EXCHANGE_NS_MAX: u64 = 300_000_000_000;

/// The figures of an idle run; a figure that could not be taken is `null`.
#[derive(Debug, Serialize)]
struct IdleReport {
    schema: &'static str,
    kind: &'static str,
    failure: Option<String>,
    connections: u64,
    connect_seconds: f64,
    messages_per_connection: u32,
    rss_bytes_before: Option<u64>,
    rss_bytes: Option<u64>,
    rss_bytes_per_connection: Option<f64>,
    private_dirty_bytes_per_connection: Option<f64>,
    /// CPU time / elapsed time of the server while nothing happens.
    idle_cpu_share: Option<f64>,
    idle_seconds: f64,
    env: Env,
}

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
    let target = target(&args.target, None).map_err(usage)?;
    let load = build::echo(&target, &common, args.connections, Pacing::Outstanding(1), Some(args.messages));
    let (found, _) = find(load.map_err(usage)?, &args.target, Some(args.hold), None, &mut live(&args.target)?)?;
    let opened = found.connections.opened.max(1) as f64;
    let memory = found.window.server_memory;
    let growth = |before: u64, after: u64| (after as f64 - before as f64) / opened;
    let report = IdleReport {
        schema: SCHEMA,
        kind: "idle",
        failure: found.failure.clone(),
        connections: found.connections.opened,
        connect_seconds: found.connections.connect_seconds,
        messages_per_connection: args.messages,
        rss_bytes_before: memory.map(|(before, _)| before.rss_bytes),
        rss_bytes: memory.map(|(_, after)| after.rss_bytes),
        rss_bytes_per_connection: memory.map(|(before, after)| growth(before.rss_bytes, after.rss_bytes)),
        private_dirty_bytes_per_connection: memory
            .map(|(before, after)| growth(before.private_dirty_bytes, after.private_dirty_bytes)),
        idle_cpu_share: found.window.server.map(|usage| usage.cpu_ns as f64 / 1e9 / found.window.seconds.max(1e-9)),
        idle_seconds: found.window.seconds,
        env: Env::read(args.target.url.as_deref().unwrap_or_default(), seed, found.window.seconds),
    };
    if !is_json_on_stdout(args.target.json.as_deref()) {
        print_table(&report);
    }
    if let Some(path) = &args.target.json {
        write_json(path, &report)?;
    }
    report.failure.map_or(Ok(Exit::Held), |failure| Err((Exit::Failed, failure)))
}

fn print_table(report: &IdleReport) {
    let number = |value: Option<f64>, decimals: usize| value.map_or("-".into(), |v| format!("{v:.decimals$}"));
    println!("connections  {} opened in {:.2} s", report.connections, report.connect_seconds);
    println!("RSS          {} B per connection", number(report.rss_bytes_per_connection, 1));
    println!("private      {} B per connection (dirty)", number(report.private_dirty_bytes_per_connection, 1));
    println!(
        "idle CPU     {} % over {:.1} s",
        number(report.idle_cpu_share.map(|s| s * 100.0), 3),
        report.idle_seconds
    );
}
