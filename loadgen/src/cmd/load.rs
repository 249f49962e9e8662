//! `run` and `echo`: drive a load, report it.

use std::path::Path;
use std::sync::Arc;

use super::{Exit, ceiling};
use crate::cli::{DriverArg, EchoArgs, Listen, PeerKind, RunArgs, StormArgs, TargetArgs, TrafficArgs};
use crate::drive::conductor::{self, Options};
use crate::drive::findings::Findings;
use crate::drive::meeting::Meeting;
use crate::live::Live;
use crate::out;
use crate::report::env::Env;
use crate::report::slo::Slo;
use crate::report::verdict::Verdict;
use crate::report::{LoadFacts, Report, hdr, html, table};
use crate::rng::Rng;
use crate::sys::port::Driver;
use crate::sys::uring::UringPort;
use crate::sys::{limits, signal};
use crate::wire::tls::Tls;
use crate::wire::url::WsUrl;
use crate::workload::build::{self, Common, Pacing, Target};
use crate::workload::events::{Action, Backoff, Event, sample};
use crate::workload::scenario::{Phases, Scenario};
use crate::workload::{Connection, Load};

/// Messages per second when neither a rate nor a window is given.
const RATE_DEFAULT: f64 = 100.0;

/// The numbers that choose whom a storm cuts are a stream of their own.
const STORM_STREAM: u64 = 1 << 34;

/// Descriptors that the process needs besides its connections.
const SPARE_FILES: u64 = 64;

/// `loadgen run`.
///
/// # Errors
/// What is wrong with the arguments, or why the load could not be driven at all, with the exit code for it.
pub(crate) fn run(args: &RunArgs) -> Result<Exit, (Exit, String)> {
    let (load, slo) = run_load(args)?;
    drive(load, &args.target, slo.as_ref(), args.ceiling.ceiling.then_some(PeerKind::Fanout))
}

/// The load and the objectives that the flags of `run` or its scenario say.
///
/// # Errors
/// What is wrong with them.
pub(super) fn run_load(args: &RunArgs) -> Result<(Load, Option<Slo>), (Exit, String)> {
    if let Some(path) = &args.scenario {
        return scenario_load(args, path);
    }
    let target = target(&args.target, None)?;
    let pacing = match args.outstanding {
        Some(_) if args.subscribers == 0 => return Err(usage("--outstanding needs --subscribers".into())),
        Some(window) => Pacing::Outstanding(window),
        None => Pacing::Rate(args.traffic.rate.unwrap_or(RATE_DEFAULT)),
    };
    let common = common(&args.target, &args.traffic, Defaults::default()).map_err(usage)?;
    let load = build::relay(&target, &common, args.subscribers, args.publishers, pacing).map_err(usage)?;
    Ok((load, args.traffic.slo.clone()))
}

fn scenario_load(args: &RunArgs, path: &Path) -> Result<(Load, Option<Slo>), (Exit, String)> {
    let scenario = Scenario::read(path).map_err(usage)?;
    let target = target(&args.target, scenario.url.as_deref())?;
    let defaults = Defaults {
        seed: scenario.seed,
        connect_rate: scenario.connect.rate,
        connect_jitter_ns: scenario.connect.jitter,
        phases: scenario.phases,
    };
    let common = common(&args.target, &args.traffic, defaults).map_err(usage)?;
    let load = scenario.load(&target, &common).map_err(|e| usage(format!("{}: {e}", path.display())))?;
    Ok((load, args.traffic.slo.clone().or(scenario.slo)))
}

/// `loadgen echo`.
///
/// # Errors
/// As [`run`].
pub(crate) fn echo(args: &EchoArgs) -> Result<Exit, (Exit, String)> {
    let target = target(&args.target, None)?;
    let pacing = match (args.depth, args.traffic.rate) {
        (None, Some(rate)) => Pacing::Rate(rate),
        (depth, _) => Pacing::Outstanding(depth.unwrap_or(1)),
    };
    let common = common(&args.target, &args.traffic, Defaults::default()).map_err(usage)?;
    let load = build::echo(&target, &common, args.connections, pacing, None).map_err(usage)?;
    let ceiling = args.ceiling.ceiling.then_some(PeerKind::Echo);
    drive(load, &args.target, args.traffic.slo.as_ref(), ceiling)
}

/// `loadgen storm`.
///
/// # Errors
/// As [`run`]; also connections that did not come back.
pub(crate) fn storm(args: &StormArgs) -> Result<Exit, (Exit, String)> {
    let (mut load, slo) = run_load(&args.run)?;
    if args.after >= load.measure_ns {
        return Err(usage("--after must lie within --duration".into()));
    }
    let first = load.connections.len() as u32;
    load.connections.extend(std::iter::repeat_n(Connection::bystander(0), args.connections as usize));
    let members = first..first + args.connections;
    let connections = sample(members, args.kill, &mut Rng::new(load.seed, STORM_STREAM));
    let what = format!("{} connections are cut and come back", connections.len());
    let backoff = Some(Backoff { first_ns: args.backoff, max_ns: args.backoff_max });
    load.events.push(Event { at_ns: args.after, what, action: Action::Cut { connections, backoff } });
    load.events.sort_by_key(|event| event.at_ns);
    drive(load, &args.run.target, slo.as_ref(), args.run.ceiling.ceiling.then_some(PeerKind::Fanout))
}

/// Checks and resolves the URL; `or` is the scenario's.
///
/// # Errors
/// What is wrong with it, or that its host has no address.
pub(super) fn target(args: &TargetArgs, or: Option<&str>) -> Result<Target, (Exit, String)> {
    let text = args.url.as_deref().or(or).ok_or_else(|| usage("--url is needed".into()))?;
    let url = WsUrl::parse(text).map_err(usage)?;
    if !url.is_secure && (args.ca.is_some() || args.insecure) {
        return Err(usage("--ca and --insecure are for wss:// only".into()));
    }
    let tls = url.is_secure.then(|| Tls::new(url.bare_host(), args.ca.as_deref(), args.insecure)).transpose();
    let tls = tls.map_err(usage)?;
    let address = url.resolve().map_err(|why| (Exit::Failed, why))?;
    Ok(Target { url, address, tls, headers: args.headers.clone(), subprotocols: args.subprotocols.clone() })
}

/// Where the runs of a command are shown while they go on.
pub(super) fn live(args: &TargetArgs) -> Result<Live, (Exit, String)> {
    let failed = |why: String| {
        let listen = args.metrics_listen.as_ref().map(Listen::to_string).unwrap_or_default();
        (Exit::Failed, format!("cannot listen on {listen}: {why}"))
    };
    let address = args.metrics_listen.as_ref().map(Listen::resolve).transpose().map_err(failed)?;
    Live::new(args.quiet, address).map_err(|e| failed(e.to_string()))
}

/// Drives a load and makes its findings, with the facts that the report needs.
pub(super) fn find(
    load: Load,
    args: &TargetArgs,
    idle_hold_ns: Option<u64>,
    slo: Option<&Slo>,
    live: &mut Live,
) -> Result<(Findings, LoadFacts), (Exit, String)> {
    find_beside(load, args, idle_hold_ns, slo, live, None)
}

/// The same, beginning together with those it meets.
pub(super) fn find_beside(
    load: Load,
    args: &TargetArgs,
    idle_hold_ns: Option<u64>,
    slo: Option<&Slo>,
    live: &mut Live,
    meeting: Option<Arc<Meeting>>,
) -> Result<(Findings, LoadFacts), (Exit, String)> {
    let files =
        limits::raise_open_files().map_err(|e| (Exit::Failed, format!("cannot raise the open-file limit: {e}")))?;
    let runs = meeting.as_ref().map_or(1, |meeting| meeting.runs());
    let connections = load.connections.len() * runs;
    let needed = connections as u64 + SPARE_FILES;
    if files < needed {
        return Err(usage(format!(
            "{connections} connections need {needed} open files, the hard limit is {files} (ulimit -Hn)"
        )));
    }
    let is_signal = |event: &Event| matches!(event.action, Action::Signal(_));
    if args.server_pid.is_none() && load.events.iter().any(is_signal) {
        return Err(usage("an event that signals the server needs --server-pid".into()));
    }
    if let Some(pid) = args.server_pid {
        crate::sys::procfs::usage(pid).map_err(|e| usage(format!("--server-pid {pid}: {e}")))?;
    }
    signal::install();
    let threads = if args.threads == 0 { limits::allowed_cores().len() } else { args.threads };
    let threads = threads.min(load.connections.len().max(1));
    let driver = driver(args.driver)?;
    let facts = LoadFacts::new(&load, threads, driver.name());
    let server_metrics = args.server_metrics.clone();
    let latency_limit_us = slo.and_then(Slo::latency_limit_us);
    let options = Options {
        idle_hold_ns,
        threads,
        driver,
        server_pid: args.server_pid,
        server_metrics,
        latency_limit_us,
        meeting,
    };
    let found =
        conductor::run(load, &options, live).map_err(|e| (Exit::Failed, format!("this machine refuses: {e}")))?;
    Ok((found, facts))
}

/// `auto` is epoll: it runs anywhere, and no measurement on a quiet machine has shown the ring to be cheaper yet.
fn driver(asked: DriverArg) -> Result<Driver, (Exit, String)> {
    match asked {
        DriverArg::Auto | DriverArg::Epoll => Ok(Driver::Epoll),
        DriverArg::Uring => match UringPort::new() {
            Ok(_) => Ok(Driver::Uring),
            Err(error) => Err((Exit::Failed, format!("io_uring is not allowed here ({error}); use --driver epoll"))),
        },
    }
}

/// Writes every other file that was asked for, also when one before it could not be written.
fn write_files(args: &TargetArgs, report: &Report, found: &Findings) -> Result<(), (Exit, String)> {
    let html = args.html.as_deref().map_or(Ok(()), |path| write(path, &html::render(report)));
    let hlog = args.hlog.as_deref().map_or(Ok(()), |path| write(path, &hdr::interval_log(found)));
    let hgrm = args.hgrm.as_deref().map_or(Ok(()), |path| write(path, &hdr::percentiles(&found.response)));
    html.and(hlog).and(hgrm)
}

/// Shows `text` on stdout and writes the JSON document, if it was asked for, also when the text could not be shown.
pub(super) fn show(text: &str, json: Option<&Path>, document: &impl serde::Serialize) -> Result<(), (Exit, String)> {
    let shown = if is_json_on_stdout(json) { Ok(()) } else { out::print(text) };
    shown.and(json.map_or(Ok(()), |path| write_json(path, document)))
}

/// The JSON takes the place of the text on stdout.
pub(super) fn is_json_on_stdout(json: Option<&Path>) -> bool {
    json == Some(Path::new("-"))
}

/// Writes a JSON document to `path` (`-`: stdout).
pub(super) fn write_json(path: &Path, document: &impl serde::Serialize) -> Result<(), (Exit, String)> {
    let mut text = serde_json::to_string_pretty(document).expect("a report has string keys only");
    text.push('\n');
    if path == Path::new("-") {
        return out::print(&text);
    }
    write(path, &text)
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), (Exit, String)> {
    std::fs::write(path, text).map_err(|e| (Exit::Failed, format!("cannot write {}: {e}", path.display())))
}

/// `null_peer`: which of them the generator's own ceiling is measured against.
fn drive(
    load: Load,
    args: &TargetArgs,
    slo: Option<&Slo>,
    null_peer: Option<PeerKind>,
) -> Result<Exit, (Exit, String)> {
    null_peer.map_or(Ok(()), |_| ceiling::check(&load))?;
    let mut live = live(args)?;
    let env = Env::read(args.url.as_deref().unwrap_or_default(), load.seed, load.measure_ns as f64 / 1e9);
    let again = null_peer.map(|kind| (kind, load.clone()));
    let (found, mut facts) = find(load, args, None, slo, &mut live)?;
    let mut unmeasured = None;
    if let Some((kind, load)) = again.filter(|_| found.failure.is_none()) {
        live.say(&format!("own ceiling: the same load against a null peer ({})", kind.name()));
        // A ceiling that cannot be had costs the exit code, not the run.
        match ceiling::measure(&load, kind, args, slo, &mut live) {
            Ok((_, ceiling)) => facts.ceiling = ceiling,
            Err(error) => unmeasured = Some(error),
        }
    }
    let report = Report::new(&facts, &found, slo, env);
    let shown = show(&table::render(&report), args.json.as_deref(), &report);
    shown.and(write_files(args, &report, &found))?;
    let exit = exit(&report)?;
    unmeasured.map_or(Ok(exit), Err)
}

/// How a command ends that has made this report.
///
/// # Errors
/// It is that of a run which was not done as asked.
pub(super) fn exit(report: &Report) -> Result<Exit, (Exit, String)> {
    match (&report.failure, report.verdict, report.slo.held) {
        (Some(failure), ..) => Err((Exit::Failed, failure.clone())),
        (_, Verdict::Invalid, _) => Ok(Exit::Invalid),
        (_, _, Some(false)) => Ok(Exit::NotHeld),
        _ => Ok(Exit::Held),
    }
}

/// What a scenario says where the flags are silent.
#[derive(Debug, Default)]
struct Defaults {
    seed: Option<u64>,
    connect_rate: Option<f64>,
    connect_jitter_ns: Option<u64>,
    phases: Phases,
}

fn common(target: &TargetArgs, traffic: &TrafficArgs, defaults: Defaults) -> Result<Common, String> {
    let measure_ns = traffic.duration.or(defaults.phases.measure).unwrap_or(30_000_000_000);
    if measure_ns == 0 {
        return Err("--duration must be above 0".into());
    }
    let connect_rate = target.connect_rate.or(defaults.connect_rate);
    let connect_jitter_ns = connect_jitter_ns(target.jitter.or(defaults.connect_jitter_ns), connect_rate)?;
    Ok(Common {
        seed: target.seed.or(defaults.seed).unwrap_or(1),
        size: traffic.size,
        is_text: traffic.text,
        spread: traffic.arrivals,
        sources: target.source_ip.clone().map(|sources| sources.0).unwrap_or_default(),
        connect_rate,
        connect_jitter_ns,
        start_at: traffic.start_at,
        warmup_ns: traffic.warmup.or(defaults.phases.warmup).unwrap_or(2_000_000_000),
        measure_ns,
        drain_ns: traffic.drain.or(defaults.phases.drain).unwrap_or(5_000_000_000),
    })
}

/// There is nothing to jitter around without a rate.
pub(super) fn connect_jitter_ns(jitter_ns: Option<u64>, connect_rate: Option<f64>) -> Result<u64, String> {
    match (jitter_ns, connect_rate) {
        (Some(_), None) => Err("a jitter of connects (--jitter) needs their rate (--connect-rate)".into()),
        (jitter_ns, _) => Ok(jitter_ns.unwrap_or(0)),
    }
}

pub(super) fn usage(message: String) -> (Exit, String) {
    (Exit::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_comes_before_a_verdict_and_a_verdict_before_an_slo() {
        let slo = |held| crate::report::slo::SloReport { held: Some(held), clauses: Vec::new() };
        assert_eq!(exit(&Report::example()), Ok(Exit::Held));
        assert_eq!(exit(&Report { slo: slo(false), ..Report::example() }), Ok(Exit::NotHeld));
        let invalid = Report { slo: slo(false), ..Report::example_invalid() };
        assert_eq!(exit(&invalid), Ok(Exit::Invalid));
        let failed = Report { failure: Some("gone".into()), ..invalid };
        assert_eq!(exit(&failed), Err((Exit::Failed, "gone".into())));
    }
}
