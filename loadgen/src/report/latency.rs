//! Distributions of latency, in every form that a report has them: figures, curves, whole histograms.

use serde::{Deserialize, Serialize};

use crate::drive::findings::Findings;
use crate::measure::recorder::Recorder;

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

    /// Of two distributions that cannot be added up: the worse of each figure. What is `null` lies among the lost.
    pub(crate) fn worse(&self, other: &Self) -> Self {
        let worse = |pick: fn(&Self) -> Option<f64>| match (self.count, other.count) {
            (0, _) => pick(other),
            (_, 0) => pick(self),
            _ => Some(pick(self)?.max(pick(other)?)),
        };
        Self {
            p50: worse(|summary| summary.p50),
            p90: worse(|summary| summary.p90),
            p99: worse(|summary| summary.p99),
            p99_9: worse(|summary| summary.p99_9),
            max: worse(|summary| summary.max),
            count: self.count + other.count,
        }
    }
}

/// All distributions of one run, or of several that are added up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Distributions<'a> {
    pub(crate) response: &'a Recorder,
    pub(crate) service: &'a Recorder,
    pub(crate) lateness: &'a Recorder,
    pub(crate) completion: &'a Recorder,
    pub(crate) spread: &'a Recorder,
    pub(crate) handshake: &'a Recorder,
}

impl<'a> Distributions<'a> {
    pub(super) fn found(found: &'a Findings) -> Self {
        Self {
            response: &found.response,
            service: &found.service,
            lateness: &found.figures.lateness,
            completion: &found.completion,
            spread: &found.spread,
            handshake: &found.handshake,
        }
    }

    /// The figures; so many deliveries are `missing`.
    pub(crate) fn latencies(&self, missing: u64) -> Latencies {
        Latencies {
            response: Summary::new(self.response, 0),
            service: Summary::new(self.service, 0),
            lateness: Summary::new(self.lateness, 0),
            completion: Summary::new(self.completion, 0),
            spread: Summary::new(self.spread, 0),
            handshake: Summary::new(self.handshake, 0),
            response_with_lost: Summary::new(self.response, missing),
        }
    }

    pub(crate) fn curves(&self) -> Curves {
        let points = |recorder: &Recorder| recorder.curve().map(|(share, ns, _)| (share, ns as f64 / 1000.0)).collect();
        Curves {
            response: points(self.response),
            service: points(self.service),
            completion: points(self.completion),
            lateness: points(self.lateness),
        }
    }

    pub(crate) fn histograms(&self) -> Histograms {
        Histograms {
            response: self.response.encode(),
            service: self.service.encode(),
            lateness: self.lateness.encode(),
            completion: self.completion.encode(),
            spread: self.spread.encode(),
            handshake: self.handshake.encode(),
        }
    }
}
