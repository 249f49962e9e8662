//! The generator's own ceiling: the same load against a null peer, which does nothing but deliver.
//!
//! The ceiling is the rate at which all threads would be on the CPU all the time, at the CPU time that a message took
//! against the null peer. It is no rate that was reached: on one machine the peer takes cores that the threads would
//! have, and a server may well be faster than a null peer of one thread. More load means more messages per receive, so
//! that the real ceiling lies higher rather than lower.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::Exit;
use super::load::{find, usage};
use crate::cli::{PeerKind, TargetArgs};
use crate::live::Live;
use crate::report::Report;
use crate::report::env::Env;
use crate::report::process::Ceiling;
use crate::report::slo::Slo;
use crate::sys::limits;
use crate::workload::{Connection, Load, Reading};

const WARMUP_NS_MAX: u64 = 500_000_000;
const MEASURE_NS_MAX: u64 = 3_000_000_000;

/// # Errors
/// A load that no null peer can take.
pub(super) fn check(load: &Load) -> Result<(), (Exit, String)> {
    match load.tls {
        Some(_) => Err(usage("--ceiling is for ws:// only: the null peers speak no TLS".into())),
        None => Ok(()),
    }
}

/// Drives `load`, without its events and slow readers and for a few seconds only, against a null peer. Returns the
/// report of that run and the ceiling, if anything was received.
///
/// # Errors
/// A peer that does not start, or a run that could not be finished.
pub(super) fn measure(
    load: &Load,
    kind: PeerKind,
    args: &TargetArgs,
    slo: Option<&Slo>,
    live: &mut Live,
) -> Result<(Report, Option<Ceiling>), (Exit, String)> {
    let failed = |reason: String| (Exit::Failed, format!("own ceiling: {reason}"));
    let peer = NullPeer::start(kind).map_err(|e| failed(format!("no null peer: {e}")))?;
    let plain = |connection: &Connection| Connection { reading: Reading::Full, is_slow: false, ..*connection };
    let load = Load {
        address: peer.address,
        connections: load.connections.iter().map(plain).collect(),
        events: Vec::new(),
        start_at: None,
        warmup_ns: load.warmup_ns.min(WARMUP_NS_MAX),
        measure_ns: load.measure_ns.min(MEASURE_NS_MAX),
        ..load.clone()
    };
    let env = Env::read("", load.seed, load.measure_ns as f64 / 1e9);
    let args = TargetArgs { server_pid: None, server_metrics: None, ..args.clone() };
    let (found, facts) = find(load, &args, None, slo, live)?;
    let report = Report::new(&facts, &found, slo, env);
    if let Some(failure) = &report.failure {
        return Err(failed(failure.clone()));
    }
    let threads = facts.threads.min(limits::allowed_cores().len()) as f64;
    let cost_us = report.generator.cpu_us_per_received.filter(|us| *us > 0.0);
    let ceiling = cost_us.map(|us| Ceiling { peer: peer.name, received_per_s: threads * 1e6 / us });
    Ok((report, ceiling))
}

/// A null peer in a process of its own, so that its CPU time is not the generator's. Ends with this.
struct NullPeer {
    child: Child,
    name: &'static str,
    address: SocketAddr,
}

impl NullPeer {
    fn start(kind: PeerKind) -> std::io::Result<Self> {
        let name = kind.name();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["peer", name, "--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut peer = Self { child: command.spawn()?, name, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let mut line = String::new();
        if let Some(stdout) = peer.child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim().strip_prefix("Listening on ").and_then(|address| address.parse().ok());
        peer.address = address.ok_or_else(|| std::io::Error::other(format!("it said {line:?}")))?;
        Ok(peer)
    }
}

impl Drop for NullPeer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
