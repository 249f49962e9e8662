//! The report: one structure, written as JSON (`schema/report-1.json` describes it) and shown as a table.

pub(crate) mod env;
pub(crate) mod hdr;
pub(crate) mod html;
pub(crate) mod latency;
mod plot;
pub(crate) mod process;
pub(crate) mod slo;
pub(crate) mod table;
pub(crate) mod verdict;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::drive::findings::{Connections, Findings, Interval, Second};
use crate::workload::Load;
use env::Env;
use latency::{Curves, Distributions, Histograms, Latencies, Summary};
use process::{Ceiling, GeneratorReport, ServerReport};
use slo::{Slo, SloReport};
use verdict::{Evidence, Verdict};

/// The value of the key `schema`.
pub(crate) const SCHEMA: &str = "ringrelay.loadgen/1";

/// The `mode` of a closed loop.
pub(crate) const CLOSED_LOOP: &str = "closed_loop";

/// A whole report. Shares lie between 0 and 1; a figure that could not be taken is `null`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) schema: String,
    pub(crate) verdict: Verdict,
    /// Why the verdict is not VALID, and what else the reader must know.
    pub(crate) reasons: Vec<String>,
    /// What kept the run from being done as asked.
    pub(crate) failure: Option<String>,
    /// `open_loop` or `closed_loop`: the latter's latencies say nothing about a load that does not wait.
    pub(crate) mode: String,
    pub(crate) slo: SloReport,
    pub(crate) scheduled: u64,
    pub(crate) sent: u64,
    pub(crate) expected: u64,
    pub(crate) received: u64,
    /// Received / expected.
    pub(crate) reach: Option<f64>,
    pub(crate) lost: u64,
    /// Not in `expected`: what subscribers missed while they were away by an event.
    #[serde(default)]
    pub(crate) missed: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupted: u64,
    /// Messages of other runs on the same topics.
    pub(crate) foreign: u64,
    /// Messages that reached subscribers of another topic.
    pub(crate) misrouted: u64,
    /// Messages that connections heard which are no subscribers, in the measured window.
    pub(crate) heard: u64,
    pub(crate) deliveries_per_s: f64,
    pub(crate) sent_per_s: f64,
    pub(crate) latency_us: Latencies,
    pub(crate) server: Option<ServerReport>,
    /// The server's own counters that changed in the measured window: [before, after] by name and labels.
    pub(crate) server_metrics: BTreeMap<String, (f64, f64)>,
    /// Of an idle run; its `server` is that of the time in which nothing happened.
    #[serde(default)]
    pub(crate) idle: Option<IdleReport>,
    pub(crate) storm: Option<StormReport>,
    /// What happened during the measurement, by the scenario.
    #[serde(default)]
    pub(crate) events: Vec<EventReport>,
    pub(crate) generator: GeneratorReport,
    pub(crate) connections: Connections,
    pub(crate) seconds: Vec<SecondReport>,
    pub(crate) curves: Curves,
    pub(crate) histograms: Histograms,
    pub(crate) env: Env,
}

/// An event of the scenario.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EventReport {
    /// Seconds after the beginning of the measurement.
    pub(crate) at: f64,
    pub(crate) what: String,
}

/// What an idle run has beside its connections and the server's memory.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct IdleReport {
    /// Exchanged before the silence.
    pub(crate) messages_per_connection: u32,
    /// The server's memory before the first connection.
    pub(crate) rss_bytes_before: Option<u64>,
    /// CPU time / elapsed time of the server while nothing happened.
    pub(crate) cpu_share: Option<f64>,
    /// How long that was.
    pub(crate) seconds: f64,
}

/// Connections that were cut at once and came back.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct StormReport {
    pub(crate) cut: u64,
    pub(crate) recovered: u64,
    /// Reconnects that failed.
    pub(crate) failed_attempts: u64,
    /// From the cut to the accepted upgrade, per connection; `max` is when all were back, `null` if one is not.
    pub(crate) recovery_us: Summary,
}

/// One second of the run, warm-up included.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct SecondReport {
    pub(crate) at: u64,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) open: u64,
    /// Response latency of the measured messages that arrived in this second.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) max_us: Option<f64>,
}

impl Report {
    /// Makes the report of what was found.
    pub(crate) fn new(load: &LoadFacts, found: &Findings, slo: Option<&Slo>, env: Env) -> Self {
        let window = &found.window;
        let per_second = |count: u64| if window.seconds > 0.0 { count as f64 / window.seconds } else { 0.0 };
        let expected = found.figures.expected;
        let distributions = Distributions::found(found);
        let mut report = Self {
            schema: SCHEMA.to_owned(),
            verdict: Verdict::Valid,
            reasons: Vec::new(),
            failure: found.failure.clone(),
            mode: if load.is_closed_loop { CLOSED_LOOP } else { "open_loop" }.to_owned(),
            slo: SloReport::default(),
            scheduled: found.figures.scheduled,
            sent: found.figures.sent,
            expected,
            received: found.counts.received,
            reach: (expected > 0).then(|| found.counts.received as f64 / expected as f64),
            lost: found.counts.lost,
            missed: found.counts.missed,
            duplicated: found.counts.duplicated,
            reordered: found.counts.reordered,
            corrupted: found.counts.corrupted,
            foreign: found.counts.foreign,
            misrouted: found.counts.misrouted,
            heard: window.heard,
            deliveries_per_s: per_second(window.delivered),
            sent_per_s: per_second(window.sent),
            latency_us: distributions.latencies(found.counts.lost + found.counts.corrupted),
            server: ServerReport::new(found),
            server_metrics: window.server_metrics.clone(),
            idle: None,
            storm: found.cuts.as_ref().map(|storm| StormReport {
                cut: storm.cut,
                recovered: storm.recovered,
                failed_attempts: storm.failed_attempts,
                recovery_us: Summary::new(&storm.recovery, storm.cut - storm.recovered),
            }),
            events: found
                .events
                .iter()
                .map(|(at_ns, what)| EventReport { at: *at_ns as f64 / 1e9, what: what.clone() })
                .collect(),
            generator: GeneratorReport::new(load, found),
            connections: found.connections.clone(),
            seconds: found.seconds.iter().map(|second| SecondReport::new(second, &found.intervals)).collect(),
            curves: distributions.curves(),
            histograms: distributions.histograms(),
            env: Env { started_at: window.started_at, ..env },
        };
        let latency_limit_us = slo.and_then(Slo::latency_limit_us);
        (report.verdict, report.reasons) = verdict::judge(&Evidence::of(&report, latency_limit_us));
        report.slo = slo.map(|slo| slo.judge(&report)).unwrap_or_default();
        report
    }

    /// Messages received per second by whomever.
    pub(crate) fn received_per_s(&self) -> f64 {
        self.deliveries_per_s + self.heard as f64 / self.env.measured_seconds.max(f64::MIN_POSITIVE)
    }
}

/// What the report needs to know of the load after it has been driven.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadFacts {
    pub(crate) is_closed_loop: bool,
    pub(crate) threads: usize,
    pub(crate) driver: &'static str,
    /// The generator's own, where it was measured.
    pub(crate) ceiling: Option<Ceiling>,
}

impl LoadFacts {
    pub(crate) fn new(load: &Load, threads: usize, driver: &'static str) -> Self {
        Self { is_closed_loop: load.is_closed_loop(), threads, driver, ceiling: None }
    }
}

impl SecondReport {
    fn new(second: &Second, intervals: &[Interval]) -> Self {
        let interval = intervals.iter().find(|interval| interval.second == second.at);
        Self {
            at: second.at,
            sent: second.sent,
            delivered: second.delivered,
            open: second.open,
            p50_us: interval.and_then(|interval| interval.p50_us),
            p99_us: interval.and_then(|interval| interval.p99_us),
            max_us: interval.and_then(|interval| interval.max_us),
        }
    }
}

#[cfg(test)]
impl Report {
    /// A run in which all went well.
    pub(crate) fn example() -> Self {
        let summary =
            Summary { p50: Some(1e3), p90: Some(2e3), p99: Some(3e3), p99_9: Some(4e3), max: Some(5e3), count: 1000 };
        let recorder = crate::measure::recorder::Recorder::new();
        let distributions = Distributions {
            response: &recorder,
            service: &recorder,
            lateness: &recorder,
            completion: &recorder,
            spread: &recorder,
            handshake: &recorder,
        };
        Self {
            schema: SCHEMA.to_owned(),
            verdict: Verdict::Valid,
            reasons: Vec::new(),
            failure: None,
            mode: "open_loop".to_owned(),
            slo: SloReport::default(),
            scheduled: 100,
            sent: 100,
            expected: 1000,
            received: 1000,
            reach: Some(1.0),
            lost: 0,
            missed: 0,
            duplicated: 0,
            reordered: 0,
            corrupted: 0,
            foreign: 0,
            misrouted: 0,
            heard: 100,
            deliveries_per_s: 1000.0,
            sent_per_s: 100.0,
            latency_us: Latencies {
                response: summary,
                service: summary,
                lateness: summary,
                completion: summary,
                spread: summary,
                handshake: summary,
                response_with_lost: summary,
            },
            server: Some(ServerReport {
                cpu_us_per_delivery: Some(2.0),
                deliveries_per_cpu_s: Some(500_000.0),
                cpu_share: 0.002,
                context_switches: 10,
                cpu_us_per_connect: Some(50.0),
                rss_bytes: Some(10_000_000),
                rss_bytes_per_connection: Some(1000.0),
                private_dirty_bytes_per_connection: Some(900.0),
            }),
            server_metrics: BTreeMap::new(),
            idle: None,
            storm: None,
            events: Vec::new(),
            generator: GeneratorReport {
                threads: 1,
                driver: "epoll".to_owned(),
                cpu_us_per_received: Some(3.0),
                cpu_share: 0.01,
                busy_share_max: 0.01,
                run_delay_share: 0.0,
                steal_share: 0.0,
                stamping_us: summary,
                ceiling: None,
            },
            connections: Connections { asked: 11, opened: 11, ..Connections::default() },
            seconds: Vec::new(),
            curves: distributions.curves(),
            histograms: distributions.histograms(),
            env: Env::read("ws://127.0.0.1/", 1, 1.0),
        }
    }

    /// The same by a generator that could not keep up.
    pub(crate) fn example_invalid() -> Self {
        let reasons = vec!["the busiest generator thread was busy 99 % of the time".to_owned()];
        Self { verdict: Verdict::Invalid, reasons, ..Self::example() }
    }
}
