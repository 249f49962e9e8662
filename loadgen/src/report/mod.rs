//! The report: one structure, written as JSON (`schema/report-1.json` describes it) and shown as a table.

pub(crate) mod hdr;
pub(crate) mod html;
mod plot;
pub(crate) mod slo;
pub(crate) mod table;
pub(crate) mod verdict;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::drive::conductor::{Findings, Interval, Second};
use crate::measure::recorder::Recorder;
use crate::workload::Load;
use slo::{Slo, SloReport};
use verdict::Verdict;

/// The value of the key `schema`.
pub(crate) const SCHEMA: &str = "ringrelay.loadgen/1";

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
    pub(crate) storm: Option<StormReport>,
    pub(crate) generator: GeneratorReport,
    pub(crate) connections: ConnectionsReport,
    pub(crate) seconds: Vec<SecondReport>,
    pub(crate) curves: Curves,
    pub(crate) histograms: Histograms,
    pub(crate) env: Env,
}

/// All latency distributions, in us.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Latencies {
    /// From the intended time to the arrival, per delivery.
    pub(crate) response: Summary,
    /// From the actual send to the arrival, per delivery.
    pub(crate) service: Summary,
    /// From the intended time to the actual send, per message: the generator's own fault.
    pub(crate) lateness: Summary,
    /// From the intended time to the last subscriber's arrival, per message that reached all.
    pub(crate) completion: Summary,
    /// From the first to the last subscriber, per message that reached all.
    pub(crate) spread: Summary,
    /// From the TCP connect to the accepted upgrade, per connection.
    pub(crate) handshake: Summary,
    /// As response, with every lost delivery counted as slower than all others: `null` lies among the lost.
    pub(crate) response_with_lost: Summary,
}

/// One distribution.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) p50: Option<f64>,
    pub(crate) p90: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) p99_9: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) count: u64,
}

/// The server process over the measured window.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ServerReport {
    /// CPU time / (deliveries to subscribers and to everybody else who heard).
    pub(crate) cpu_us_per_delivery: Option<f64>,
    pub(crate) deliveries_per_cpu_s: Option<f64>,
    /// CPU time / elapsed time; above 1 with several cores.
    pub(crate) cpu_share: f64,
    pub(crate) context_switches: u64,
    pub(crate) rss_bytes: Option<u64>,
    /// Growth of RSS from before the first connection to the end of the window, per connection.
    pub(crate) rss_bytes_per_connection: Option<f64>,
    /// The same of private dirty memory.
    pub(crate) private_dirty_bytes_per_connection: Option<f64>,
}

/// A reconnect storm.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct StormReport {
    pub(crate) cut: u64,
    pub(crate) recovered: u64,
    /// Reconnects that failed.
    pub(crate) failed_attempts: u64,
    /// From the cut to the accepted upgrade, per connection; `max` is when all were back, `null` if one is not.
    pub(crate) recovery_us: Summary,
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
}

/// What became of the connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ConnectionsReport {
    pub(crate) asked: u64,
    pub(crate) opened: u64,
    pub(crate) failed: u64,
    pub(crate) ended: u64,
    /// Connections that read slowly on purpose.
    pub(crate) slow: u64,
    /// Of `ended`, those.
    pub(crate) slow_ended: u64,
    pub(crate) reasons: BTreeMap<String, u64>,
    pub(crate) connect_seconds: f64,
    /// (seconds since the first connect, open by then).
    pub(crate) ramp: Vec<(f64, u64)>,
}

/// Latency by percentile: (share at or below, us).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Curves {
    pub(crate) response: Vec<(f64, f64)>,
    pub(crate) service: Vec<(f64, f64)>,
    pub(crate) completion: Vec<(f64, f64)>,
    pub(crate) lateness: Vec<(f64, f64)>,
}

/// The whole distributions in ns, in HdrHistogram's compressed form (base64): what `merge` adds up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Histograms {
    pub(crate) response: String,
    pub(crate) service: String,
    pub(crate) lateness: String,
    pub(crate) completion: String,
    pub(crate) spread: String,
    pub(crate) handshake: String,
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

/// Where and how the run was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Env {
    pub(crate) loadgen: String,
    pub(crate) url: String,
    pub(crate) command: Vec<String>,
    pub(crate) seed: u64,
    pub(crate) measured_seconds: f64,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores_allowed: usize,
    pub(crate) congestion_control: String,
}

impl Report {
    /// Makes the report of what was found.
    pub(crate) fn new(load: &LoadFacts, found: &Findings, slo: Option<&Slo>, env: Env) -> Self {
        let window = &found.window;
        let per_second = |count: u64| if window.seconds > 0.0 { count as f64 / window.seconds } else { 0.0 };
        let expected = found.figures.expected;
        let mut report = Self {
            schema: SCHEMA.to_owned(),
            verdict: Verdict::Valid,
            reasons: Vec::new(),
            failure: found.failure.clone(),
            mode: if load.is_closed_loop { "closed_loop" } else { "open_loop" }.to_owned(),
            slo: SloReport::default(),
            scheduled: found.figures.scheduled,
            sent: found.figures.sent,
            expected,
            received: found.counts.received,
            reach: (expected > 0).then(|| found.counts.received as f64 / expected as f64),
            lost: found.counts.lost,
            duplicated: found.counts.duplicated,
            reordered: found.counts.reordered,
            corrupted: found.counts.corrupted,
            foreign: found.counts.foreign,
            misrouted: found.counts.misrouted,
            heard: window.heard,
            deliveries_per_s: per_second(window.delivered),
            sent_per_s: per_second(window.sent),
            latency_us: Latencies {
                response: Summary::new(&found.response, 0),
                service: Summary::new(&found.service, 0),
                lateness: Summary::new(&found.figures.lateness, 0),
                completion: Summary::new(&found.completion, 0),
                spread: Summary::new(&found.spread, 0),
                handshake: Summary::new(&found.handshake, 0),
                response_with_lost: Summary::new(&found.response, found.counts.lost + found.counts.corrupted),
            },
            server: ServerReport::new(found),
            server_metrics: window.server_metrics.clone(),
            storm: found.storm.as_ref().map(|storm| StormReport {
                cut: storm.cut,
                recovered: storm.recovered,
                failed_attempts: storm.failed_attempts,
                recovery_us: Summary::new(&storm.recovery, storm.cut - storm.recovered),
            }),
            generator: GeneratorReport::new(load, found),
            connections: ConnectionsReport {
                asked: found.connections.asked,
                opened: found.connections.opened,
                failed: found.connections.failed,
                ended: found.connections.ended,
                slow: found.connections.slow,
                slow_ended: found.connections.slow_ended,
                reasons: found.connections.reasons.clone(),
                connect_seconds: found.connections.seconds,
                ramp: found.connections.ramp.clone(),
            },
            seconds: found.seconds.iter().map(|second| SecondReport::new(second, &found.intervals)).collect(),
            curves: Curves::new(found),
            histograms: Histograms::new(found),
            env,
        };
        let latency_limit_us = slo.and_then(Slo::latency_limit_us);
        (report.verdict, report.reasons) = verdict::judge(&report, latency_limit_us);
        report.slo = slo.map(|slo| slo.judge(&report)).unwrap_or_default();
        report
    }
}

/// What the report needs to know of the load after it has been driven.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadFacts {
    pub(crate) is_closed_loop: bool,
    pub(crate) threads: usize,
    pub(crate) driver: &'static str,
}

impl LoadFacts {
    pub(crate) fn new(load: &Load, threads: usize, driver: &'static str) -> Self {
        Self { is_closed_loop: load.is_closed_loop(), threads, driver }
    }
}

impl Summary {
    /// `beyond` values that are not in the recorder count as higher than all that are.
    pub(crate) fn new(recorder: &Recorder, beyond: u64) -> Self {
        let count = recorder.count() + beyond;
        let at = |share: f64| {
            let rank = share * count as f64 / recorder.count().max(1) as f64;
            if rank <= 1.0 { recorder.quantile_us(rank) } else { None }
        };
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: if beyond == 0 { recorder.max_us() } else { None },
            count,
        }
    }
}

impl ServerReport {
    fn new(found: &Findings) -> Option<Self> {
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
            rss_bytes: window.server_memory.map(|(_, after)| after.rss_bytes),
            rss_bytes_per_connection: window.server_memory.map(|(b, a)| growth(b.rss_bytes, a.rss_bytes)),
            private_dirty_bytes_per_connection: window
                .server_memory
                .map(|(b, a)| growth(b.private_dirty_bytes, a.private_dirty_bytes)),
        })
    }
}

impl ServerReport {
    /// The CPU time was spent on more deliveries than this report's: those are `share` of all.
    pub(crate) fn spread_over(&mut self, share: f64) {
        self.cpu_us_per_delivery = self.cpu_us_per_delivery.map(|us| us * share);
        self.deliveries_per_cpu_s = self.deliveries_per_cpu_s.map(|count| count / share);
    }
}

impl GeneratorReport {
    fn new(load: &LoadFacts, found: &Findings) -> Self {
        let window = &found.window;
        let seconds = window.seconds.max(1e-9);
        let messages = window.delivered + window.heard;
        Self {
            threads: load.threads,
            driver: load.driver.to_owned(),
            cpu_us_per_received: (messages > 0).then(|| window.own.cpu_ns as f64 / 1000.0 / messages as f64),
            cpu_share: window.own.cpu_ns as f64 / 1e9 / seconds,
            busy_share_max: found.busy_share_max,
            run_delay_share: window.own.run_delay_ns as f64 / 1e9 / seconds / load.threads as f64,
            steal_share: window.steal_share,
            stamping_us: Summary::new(&found.turns, 0),
        }
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

impl Curves {
    fn new(found: &Findings) -> Self {
        Self::of(&found.response, &found.service, &found.completion, &found.figures.lateness)
    }

    pub(crate) fn of(response: &Recorder, service: &Recorder, completion: &Recorder, lateness: &Recorder) -> Self {
        let points = |recorder: &Recorder| recorder.curve().map(|(share, ns, _)| (share, ns as f64 / 1000.0)).collect();
        Self {
            response: points(response),
            service: points(service),
            completion: points(completion),
            lateness: points(lateness),
        }
    }
}

impl Histograms {
    fn new(found: &Findings) -> Self {
        Self {
            response: found.response.encode(),
            service: found.service.encode(),
            lateness: found.figures.lateness.encode(),
            completion: found.completion.encode(),
            spread: found.spread.encode(),
            handshake: found.handshake.encode(),
        }
    }
}

impl Env {
    /// Reads what this machine says about itself.
    pub(crate) fn read(url: &str, seed: u64, measured_seconds: f64) -> Self {
        let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpuinfo = line("/proc/cpuinfo");
        let cpu = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
        Self {
            loadgen: env!("CARGO_PKG_VERSION").to_owned(),
            url: url.to_owned(),
            command: std::env::args().collect(),
            seed,
            measured_seconds,
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
            cores_allowed: crate::sys::limits::allowed_cores().len(),
            congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control"),
        }
    }
}
