//! What the two processes took over the measured window: the server, and the generator itself.

use serde::{Deserialize, Serialize};

use super::LoadFacts;
use super::latency::Summary;
use crate::drive::findings::Findings;

/// The server process over the measured window.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ServerReport {
    /// CPU time / (deliveries to subscribers and to everybody else who heard).
    pub(crate) cpu_us_per_delivery: Option<f64>,
    pub(crate) deliveries_per_cpu_s: Option<f64>,
    /// CPU time / elapsed time; above 1 with several cores.
    pub(crate) cpu_share: f64,
    pub(crate) context_switches: u64,
    /// CPU time per connection, from the first connect until all were open.
    pub(crate) cpu_us_per_connect: Option<f64>,
    pub(crate) rss_bytes: Option<u64>,
    /// Growth of RSS from before the first connection to the end of the window, per connection.
    pub(crate) rss_bytes_per_connection: Option<f64>,
    /// The same of private dirty memory.
    pub(crate) private_dirty_bytes_per_connection: Option<f64>,
}

/// The generator itself over the measured window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GeneratorReport {
    pub(crate) threads: usize,
    pub(crate) driver: String,
    pub(crate) cpu_us_per_received: Option<f64>,
    pub(crate) cpu_share: f64,
    /// The busiest thread's share of time in which it did not wait.
    pub(crate) busy_share_max: f64,
    /// Time that a thread in the mean was ready to run but had no core, as a share of the elapsed time.
    pub(crate) run_delay_share: f64,
    /// Share of the machine's time that the hypervisor gave to others.
    pub(crate) steal_share: f64,
    /// How long what had arrived may have waited for its time stamp.
    pub(crate) stamping_us: Summary,
    /// `null` unless it was asked for.
    pub(crate) ceiling: Option<CeilingReport>,
}

/// What the generator could take at most, by its CPU time per message against a null peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ceiling {
    /// `echo` or `fanout`.
    pub(crate) peer: &'static str,
    /// Messages per second, with every thread on the CPU all the time.
    pub(crate) received_per_s: f64,
}

/// How near its own ceiling the generator was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CeilingReport {
    /// The null peer that it was measured against: `echo` or `fanout`.
    pub(crate) peer: String,
    pub(crate) received_per_s: f64,
    /// What was received in the measured window, as a share of that.
    pub(crate) share: f64,
}

impl ServerReport {
    pub(super) fn new(found: &Findings) -> Option<Self> {
        let window = &found.window;
        let usage = window.server?;
        let deliveries = window.delivered + window.heard;
        let cpu_us = usage.cpu_ns as f64 / 1000.0;
        let opened = found.connections.opened.max(1) as f64;
        let growth = |before: u64, after: u64| (after as f64 - before as f64) / opened;
        Some(Self {
            cpu_us_per_delivery: (deliveries > 0).then(|| cpu_us / deliveries as f64),
            deliveries_per_cpu_s: (cpu_us > 0.0).then(|| deliveries as f64 * 1e6 / cpu_us),
            cpu_share: usage.cpu_ns as f64 / 1e9 / window.seconds,
            context_switches: usage.context_switches,
            cpu_us_per_connect: found.server_connect.map(|usage| usage.cpu_ns as f64 / 1000.0 / opened),
            rss_bytes: window.server_memory.map(|(_, after)| after.rss_bytes),
            rss_bytes_per_connection: window.server_memory.map(|(b, a)| growth(b.rss_bytes, a.rss_bytes)),
            private_dirty_bytes_per_connection: window
                .server_memory
                .map(|(b, a)| growth(b.private_dirty_bytes, a.private_dirty_bytes)),
        })
    }

    /// The server had more to do than what this report knows of, which is `share` of all deliveries and
    /// `connections_share` of all connections.
    pub(crate) fn spread_over(&mut self, share: f64, connections_share: f64) {
        for of_connection in [
            &mut self.cpu_us_per_connect,
            &mut self.rss_bytes_per_connection,
            &mut self.private_dirty_bytes_per_connection,
        ] {
            *of_connection = of_connection.map(|value| value * connections_share);
        }
        self.cpu_us_per_delivery = self.cpu_us_per_delivery.map(|us| us * share);
        self.deliveries_per_cpu_s = self.deliveries_per_cpu_s.map(|count| count / share);
    }
}

impl GeneratorReport {
    pub(super) fn new(load: &LoadFacts, found: &Findings) -> Self {
        let window = &found.window;
        let seconds = window.seconds.max(1e-9);
        let messages = window.delivered + window.heard;
        Self {
            threads: load.threads,
            driver: load.driver.to_owned(),
            cpu_us_per_received: (messages > 0).then(|| window.own.cpu_ns as f64 / 1000.0 / messages as f64),
            cpu_share: window.own_cpu_share(),
            busy_share_max: found.busy_share_max,
            run_delay_share: window.own.run_delay_ns as f64 / 1e9 / seconds / load.threads as f64,
            steal_share: window.steal_share,
            stamping_us: Summary::new(&found.turns, 0),
            ceiling: load.ceiling.map(|ceiling| CeilingReport {
                peer: ceiling.peer.to_owned(),
                received_per_s: ceiling.received_per_s,
                share: messages as f64 / seconds / ceiling.received_per_s,
            }),
        }
    }
}
