//! What a run has found out: the conductor gathers it, the report is made of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cuts::CutFigures;
use super::publishing::Figures;
use super::window::Window;
use crate::measure::recorder::Recorder;
use crate::measure::tally::Counts;
use crate::sys::procfs::Usage;

/// Everything a run has found out; the report is made of it.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) connections: Connections,
    pub(crate) counts: Counts,
    pub(crate) figures: Figures,
    pub(crate) response: Recorder,
    pub(crate) service: Recorder,
    pub(crate) completion: Recorder,
    pub(crate) spread: Recorder,
    pub(crate) handshake: Recorder,
    pub(crate) turns: Recorder,
    /// Connections that events have cut to come back; `None`: there was no such event.
    pub(crate) cuts: Option<CutFigures>,
    /// Events that have happened: ns after the beginning of the measurement, and what.
    pub(crate) events: Vec<(u64, String)>,
    /// The busiest thread's share of the measured time in which it did not wait.
    pub(crate) busy_share_max: f64,
    pub(crate) window: Window,
    /// What the server took from the first connect until all connections were open.
    pub(crate) server_connect: Option<Usage>,
    /// Why the run could not be done as asked.
    pub(crate) failure: Option<String>,
    pub(crate) seconds: Vec<Second>,
    /// Response latencies of measured messages by the second of their arrival, counted from 1 after the schedule's
    /// start: the highest in ns, and the histogram in its encoded form.
    pub(crate) intervals: Vec<Interval>,
}

/// Response latencies of one second.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interval {
    pub(crate) second: u64,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) max_us: Option<f64>,
    pub(crate) encoded: String,
}

/// What became of the connections; stands in the report as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Connections {
    pub(crate) asked: u64,
    pub(crate) opened: u64,
    pub(crate) failed: u64,
    /// Open ones that the server or an error ended before the end of the run.
    pub(crate) ended: u64,
    /// Connections that read slowly on purpose.
    pub(crate) slow: u64,
    /// Of `ended`, those.
    pub(crate) slow_ended: u64,
    /// Those that an event has cut for good.
    #[serde(default)]
    pub(crate) left: u64,
    /// Why they failed or ended, with counts.
    pub(crate) reasons: BTreeMap<String, u64>,
    /// From the first connect to the last upgrade.
    pub(crate) connect_seconds: f64,
    /// (seconds since the first connect, open by then), at most a few hundred points.
    pub(crate) ramp: Vec<(f64, u64)>,
}

/// One second of the run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Second {
    /// Seconds after the schedule's start.
    pub(crate) at: u64,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) open: u64,
}

impl Connections {
    /// Adds a point to the ramp; when there are too many, every other one goes.
    pub(super) fn extend_ramp(&mut self) {
        if self.ramp.last().is_none_or(|(_, opened)| *opened != self.opened) {
            self.ramp.push((self.connect_seconds, self.opened));
        }
        if self.ramp.len() > 400 {
            let mut index = 0;
            self.ramp.retain(|_| {
                index += 1;
                index % 2 == 0
            });
        }
    }
}
