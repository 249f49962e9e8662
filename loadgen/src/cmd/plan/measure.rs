//! Measuring what a server costs: a fresh process for each load of the grid, in random order.

use super::super::load::{find, live, target, usage, write_json};
use super::super::server::Server;
use super::super::{Exit, load};
use super::costs::Costs;
use crate::cli::{PlanArgs, TargetArgs};
use crate::drive::findings::Findings;
use crate::live::Live;
use crate::out;
use crate::plan::grid::grid;
use crate::plan::{Observation, Shape, Work};
use crate::report::Report;
use crate::report::env::Env;
use crate::rng::Rng;
use crate::scrape::MetricsUrl;
use crate::sys::signal;
use crate::workload::Load;
use crate::workload::build::{self, Common, Spread};

/// How long deliveries are waited for: an overloaded server is measured over the window, not to the end.
const DRAIN_NS: u64 = 1_000_000_000;

/// Random numbers for the order.
const RNG_STREAM: u64 = 0x91A2;

/// Runs the grid up to `corner`, as often as is asked for. If it does not come to its end, the runs that are there are
/// written to `--json` all the same.
///
/// # Errors
/// A server that does not start, listen or end, connections that cannot be opened, counters that cannot be read.
pub(super) fn measure(command: &str, corner: &Shape, args: &PlanArgs) -> Result<Costs, (Exit, String)> {
    let target = &args.target;
    let seed = target.seed.unwrap_or(1);
    let env = Env::read(target.url.as_deref().unwrap_or_default(), seed, args.duration as f64 / 1e9);
    let mut costs = Costs::new(command, env);
    let done = observe_all(command, corner, args, &mut costs);
    if let (Err(_), Some(path), false) = (&done, &target.json, costs.observations.is_empty()) {
        write_json(path, &costs)?;
    }
    done.map(|()| costs)
}

fn observe_all(command: &str, corner: &Shape, args: &PlanArgs, costs: &mut Costs) -> Result<(), (Exit, String)> {
    let mut live = live(&args.target)?;
    let mut rng = Rng::new(args.target.seed.unwrap_or(1), RNG_STREAM);
    let shapes = grid(corner, args.duration as f64 / 1e9);
    let all = shapes.len() * args.rounds as usize;
    for _ in 0..args.rounds {
        let mut left = shapes.clone();
        while !left.is_empty() {
            let shape = left.swap_remove(rng.next_u64() as usize % left.len());
            let (observation, shards) = observe(command, &shape, args, &mut live)?;
            costs.shards = shards;
            if !args.target.quiet {
                out::note(&format!("run {:>2} of {all}: {}", costs.observations.len() + 1, describe(&observation)));
            }
            costs.observations.push(observation);
            if signal::asked_to_stop() {
                return Err((Exit::Failed, "stopped by a signal".into()));
            }
        }
    }
    Ok(())
}

fn observe(
    command: &str,
    shape: &Shape,
    args: &PlanArgs,
    live: &mut Live,
) -> Result<(Observation, u32), (Exit, String)> {
    let load = load_of(shape, args)?;
    let mut server = Server::start(command)?;
    server.wait_until_it_listens(load.address)?;
    let shards = match &args.target.server_metrics {
        // It may open later than the port of the connections.
        Some(url) => server.wait_for(|| shards(url))?,
        None => 1,
    };
    let target = TargetArgs { server_pid: Some(server.pid()), ..args.target.clone() };
    let env = Env::read("", load.seed, load.measure_ns as f64 / 1e9);
    let (found, facts) = find(load, &target, None, None, live)?;
    server.stop()?;
    let report = Report::new(&facts, &found, None, env);
    match &found.failure {
        Some(failure) => Err((Exit::Failed, format!("{command:?}: {failure}"))),
        None => Ok((observation(shape, shards, &found, &report)?, shards)),
    }
}

fn load_of(shape: &Shape, args: &PlanArgs) -> Result<Load, (Exit, String)> {
    let target = target(&args.target, None)?;
    let connect_rate = args.target.connect_rate;
    let common = Common {
        seed: args.target.seed.unwrap_or(1),
        size: shape.size,
        spread: if shape.burst > 1 { Spread::Burst(u64::from(shape.burst)) } else { Spread::Uniform },
        sources: args.target.source_ip.clone().map(|sources| sources.0).unwrap_or_default(),
        connect_rate,
        connect_jitter_ns: load::connect_jitter_ns(args.target.jitter, connect_rate).map_err(usage)?,
        warmup_ns: args.warmup,
        measure_ns: args.duration,
        drain_ns: DRAIN_NS,
        ..Common::default()
    };
    let load = if shape.rate > 0.0 {
        build::rooms(&target, &common, shape.topics, shape.subscribers, shape.publishers, shape.rate)
    } else {
        let everybody = shape.subscribers + shape.publishers;
        build::rooms(&target, &common, shape.topics, everybody, 0, 0.0)
    };
    load.map_err(usage)
}

/// Shards of ringrelay, which has a series for each; of another server 1.
fn shards(url: &MetricsUrl) -> Result<u32, String> {
    let samples = url.fetch()?;
    let shards = samples.keys().filter(|name| name.starts_with("relay_shard_turns_total{")).count();
    Ok((shards as u32).max(1))
}

/// What was seen. A server that does not count its sends is taken to make one per delivery.
fn observation(shape: &Shape, shards: u32, found: &Findings, report: &Report) -> Result<Observation, (Exit, String)> {
    let window = &found.window;
    let (Some(usage), Some((before, after))) = (window.server, window.server_memory) else {
        return Err((Exit::Failed, "the server's CPU time or memory cannot be read from /proc".into()));
    };
    let per_s = |count: f64| count / window.seconds;
    let counted = |name: &str| window.server_metrics.get(name).map(|(before, after)| per_s(after - before));
    let deliveries = per_s((window.delivered + window.heard) as f64);
    let shape = Shape { rate: deliveries / shape.connections_per_topic(), ..*shape };
    let sends = counted("relay_frames_per_send_count").unwrap_or(deliveries);
    let frames = counted("relay_frames_per_send_sum").unwrap_or(deliveries);
    let messages = counted("websocket_messages_received_total").unwrap_or(shape.rate);
    let bytes = counted("websocket_bytes_sent_total").unwrap_or(deliveries * shape.frame_bytes());
    let connect = found.server_connect.map_or(0.0, |usage| usage.cpu_ns as f64 / 1000.0);
    Ok(Observation {
        work: Work::counted(&shape, shards, messages, sends, frames, bytes),
        cpu_us: per_s(usage.cpu_ns as f64 / 1000.0),
        connect_cpu_us: connect / found.connections.opened.max(1) as f64,
        rss_bytes_before: before.rss_bytes,
        rss_bytes: after.rss_bytes,
        verdict: report.verdict.name().to_owned(),
        shape,
    })
}

fn describe(observation: &Observation) -> String {
    let (shape, work) = (&observation.shape, &observation.work);
    let frames = if work.sends > 0.0 { work.frames / work.sends } else { 0.0 };
    format!(
        "{} topics, {} connections, {:.0} messages/s of {} B: {:.3} cores, {frames:.2} frames per send",
        shape.topics,
        shape.connections(),
        shape.rate,
        shape.size,
        observation.cpu_us / 1e6
    )
}
