//! The measured window: what threads, server and machine say at its edges, and the differences.

use std::collections::BTreeMap;

use super::conductor::Options;
use super::shared::Shared;
use crate::scrape::{MetricsUrl, Samples, changes};
use crate::sys::clock::now_ns;
use crate::sys::procfs::{self, Memory, Usage};

/// Differences over the measured window, read at its actual edges.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    /// When the first message of the run was due, in seconds since 1970; `None`: none was.
    pub(crate) started_at: Option<f64>,
    pub(crate) seconds: f64,
    /// Distinct messages that reached subscribers.
    pub(crate) delivered: u64,
    /// Messages that connections heard which are no subscribers.
    pub(crate) heard: u64,
    pub(crate) sent: u64,
    pub(crate) server: Option<Usage>,
    /// The server's memory before the first connection and at the end of the window.
    pub(crate) server_memory: Option<(Memory, Memory)>,
    /// The server's own counters that have changed, by name and labels: before and after.
    pub(crate) server_metrics: BTreeMap<String, (f64, f64)>,
    pub(crate) own: Usage,
    /// Share of the machine's time that the hypervisor gave to others.
    pub(crate) steal_share: f64,
}

/// Absolute readings; two of them make a [`Window`].
pub(super) struct Snapshot {
    at_ns: u64,
    delivered: u64,
    heard: u64,
    sent: u64,
    server: Option<Usage>,
    own: Usage,
    steal: (u64, u64),
    metrics: Samples,
}

impl Snapshot {
    /// Reads everything now.
    ///
    /// # Errors
    /// Why the server's own counters cannot be read; the rest has been.
    pub(super) fn take(shared: &Shared, options: &Options) -> (Self, Result<(), String>) {
        let metrics = options.server_metrics.as_ref().map_or(Ok(Samples::new()), MetricsUrl::fetch);
        let (metrics, read) = metrics.map_or_else(|reason| (Samples::new(), Err(reason)), |samples| (samples, Ok(())));
        let snapshot = Self {
            at_ns: now_ns(),
            delivered: shared.sum(|p| &p.booked),
            heard: shared.sum(|p| &p.heard),
            sent: shared.sum(|p| &p.sent),
            server: options.server_pid.and_then(|pid| procfs::tree_usage(pid).ok()),
            own: procfs::usage(std::process::id()).unwrap_or_default(),
            steal: procfs::steal_and_total_ticks(),
            metrics,
        };
        (snapshot, read)
    }
}

impl Window {
    pub(super) fn between(before: &Snapshot, after: &Snapshot, server_memory: Option<(Memory, Memory)>) -> Self {
        Self {
            started_at: None,
            seconds: (after.at_ns - before.at_ns) as f64 / 1e9,
            delivered: after.delivered - before.delivered,
            heard: after.heard - before.heard,
            sent: after.sent - before.sent,
            server: before.server.zip(after.server).map(|(before, after)| usage_between(&before, &after)),
            server_memory,
            server_metrics: changes(&before.metrics, &after.metrics),
            own: usage_between(&before.own, &after.own),
            steal_share: share_between(before.steal, after.steal),
        }
    }

    /// CPU time of this process / elapsed time.
    pub(crate) fn own_cpu_share(&self) -> f64 {
        self.own.cpu_ns as f64 / 1e9 / self.seconds.max(1e-9)
    }
}

pub(super) fn usage_between(before: &Usage, after: &Usage) -> Usage {
    Usage {
        cpu_ns: after.cpu_ns.saturating_sub(before.cpu_ns),
        run_delay_ns: after.run_delay_ns.saturating_sub(before.run_delay_ns),
        context_switches: after.context_switches.saturating_sub(before.context_switches),
    }
}

pub(super) fn share_between(before: (u64, u64), after: (u64, u64)) -> f64 {
    let total = after.1.saturating_sub(before.1).max(1);
    after.0.saturating_sub(before.0) as f64 / total as f64
}
