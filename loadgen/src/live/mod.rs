//! What a run shows while it goes on: a line per second on stderr, and a page for Prometheus. Both are made of a
//! [`Moment`], which the conductor takes; nothing in here measures.

mod exposition;
mod line;
mod page;

use std::io;
use std::net::SocketAddr;

use crate::measure::recorder::Recorder;
use crate::out;
use crate::report::verdict::Verdict;
use exposition::Exposition;
use line::Line;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    /// All connections are open; the first message is due at a time that was asked for.
    Waiting,
    WarmUp,
    Measuring,
    Draining,
    /// Connections are watched that say nothing.
    Idle,
}

/// A run at one moment. Counts are of all phases.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(crate) phase: Phase,
    /// Seconds since the first connect, and from the first message on since that.
    pub(crate) seconds: f64,
    /// How much of what can be foreseen is done, between 0 and 1: of the connects, then of warm-up and measurement.
    pub(crate) done: f64,
    pub(crate) connections: ConnectionsNow,
    pub(crate) sent: u64,
    pub(crate) expected: u64,
    pub(crate) delivered: u64,
    pub(crate) heard: u64,
    /// Over the last whole second.
    pub(crate) sent_per_s: u64,
    pub(crate) delivered_per_s: u64,
    /// Response latencies of the measured messages so far.
    pub(crate) response: Recorder,
    /// Of the measurement so far; `None` before it.
    pub(crate) verdict: Option<Verdict>,
}

/// Connections at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ConnectionsNow {
    pub(crate) asked: u64,
    pub(crate) opened: u64,
    pub(crate) open: u64,
    pub(crate) failed: u64,
    pub(crate) ended: u64,
}

/// Where moments are shown. One for all runs of a command.
#[derive(Debug)]
pub(crate) struct Live {
    line: Line,
    exposition: Option<Exposition>,
    runs: u64,
}

impl Live {
    /// `listen` is where Prometheus may ask; the address is said on stderr, as its port may be 0.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub(crate) fn new(is_quiet: bool, listen: Option<SocketAddr>) -> io::Result<Self> {
        let exposition = listen.map(Exposition::listen).transpose()?;
        if let Some(exposition) = &exposition {
            out::note(&format!("Metrics on http://{}/metrics", exposition.address));
        }
        Ok(Self { line: Line::new(is_quiet), exposition, runs: 0 })
    }

    /// A run begins.
    pub(crate) fn begin_run(&mut self) {
        self.runs += 1;
    }

    /// Once per second.
    pub(crate) fn show(&mut self, moment: &Moment) {
        self.line.show(moment);
    }

    /// Between the lines: what has happened.
    pub(crate) fn say(&mut self, what: &str) {
        self.line.say(what);
    }

    /// Leaves the terminal's line to others: the run is over.
    pub(crate) fn end_run(&mut self) {
        self.line.clear();
    }

    /// Answers who asks for metrics, with what `now` tells.
    pub(crate) fn answer(&self, now: impl Fn() -> Moment) {
        let Some(exposition) = &self.exposition else { return };
        exposition.answer(|| page::render(&now(), self.runs));
    }
}

impl Phase {
    const ALL: [Self; 6] = [Self::Connecting, Self::Waiting, Self::WarmUp, Self::Measuring, Self::Draining, Self::Idle];

    fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Waiting => "waiting",
            Self::WarmUp => "warm-up",
            Self::Measuring => "measuring",
            Self::Draining => "draining",
            Self::Idle => "idle",
        }
    }
}

#[cfg(test)]
impl Moment {
    /// A run in the middle of its measurement.
    fn example() -> Self {
        let mut response = Recorder::new();
        (1..=1000).for_each(|us| response.record(us * 1000));
        Self {
            phase: Phase::Measuring,
            seconds: 12.0,
            done: 0.5,
            connections: ConnectionsNow { asked: 101, opened: 101, open: 100, failed: 0, ended: 1 },
            sent: 6000,
            expected: 600_000,
            delivered: 599_999,
            heard: 6000,
            sent_per_s: 500,
            delivered_per_s: 50_000,
            response,
            verdict: Some(Verdict::Degraded),
        }
    }
}
