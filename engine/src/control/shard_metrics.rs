//! The shards' [`Counters`] as Prometheus metrics.
//!
//! Three tables say what is shown: sums over all shards, sums by reason, histograms. Beside them stand the two metrics
//! that are shown per shard.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter as CounterValue, Histogram as HistogramValue, Metric, MetricFamily, MetricType,
};

use super::metrics::{desc, family, gauge, label_pairs};
use crate::counters::{AcceptError, Counter, Counters, Dropped, Ended, Histogram, Refused, ShardCounters};

/// One counter summed over the shards: name, type, help, where it is counted.
type Sum = (&'static str, MetricType, &'static str, fn(&ShardCounters) -> &Counter);

const SUMS: &[Sum] = &[
    ("websocket_connections", MetricType::GAUGE, "Open WebSocket connections.", |shard| &shard.connections),
    ("websocket_connections_total", MetricType::COUNTER, "Completed opening handshakes.", |shard| {
        &shard.connections_total
    }),
    ("websocket_messages_received_total", MetricType::COUNTER, "Whole, valid messages from clients.", |shard| {
        &shard.messages_received
    }),
    ("websocket_messages_sent_total", MetricType::COUNTER, "Deliveries handed whole to the kernel.", |shard| {
        &shard.messages_sent
    }),
    ("websocket_bytes_received_total", MetricType::COUNTER, "Bytes read from WebSocket connections.", |shard| {
        &shard.bytes_received
    }),
    ("websocket_bytes_sent_total", MetricType::COUNTER, "Bytes the kernel took for WebSocket connections.", |shard| {
        &shard.bytes_sent
    }),
];

/// Counters by reason, summed over the shards: name, help, the reasons' labels, the counters in the same order.
type ByReason = (&'static str, &'static str, fn() -> Vec<&'static str>, fn(&ShardCounters) -> &[Counter]);

const BY_REASON: &[ByReason] = &[
    (
        "websocket_disconnections_total",
        "Ended WebSocket connections by reason.",
        || Ended::ALL.iter().map(|reason| reason.label()).collect(),
        |shard| &shard.disconnections,
    ),
    (
        "websocket_refused_total",
        "Refused connections and opening handshakes by reason.",
        || Refused::ALL.iter().map(|reason| reason.label()).collect(),
        |shard| &shard.refused,
    ),
    (
        "relay_dropped_total",
        "Deliveries that did not happen by reason.",
        || Dropped::ALL.iter().map(|reason| reason.label()).collect(),
        |shard| &shard.dropped,
    ),
    (
        "relay_accept_errors_total",
        "Failed accepts by reason.",
        || AcceptError::ALL.iter().map(|reason| reason.label()).collect(),
        |shard| &shard.accept_errors,
    ),
];

/// A histogram summed over the shards: name, help, where it is kept.
type Distribution = (&'static str, &'static str, fn(&ShardCounters) -> &Histogram);

const DISTRIBUTIONS: &[Distribution] = &[
    ("relay_lag_bytes", "Bytes a blocked subscriber lags behind its topic.", |shard| &shard.lag_bytes),
    ("relay_delivery_seconds", "From accepted to handed to the kernel, by delivery.", |shard| &shard.delivery_seconds),
    ("relay_frames_per_send", "Frames that one send carried.", |shard| &shard.frames_per_send),
];

/// A number per shard: name, type, help, where it is counted.
const PER_SHARD: &[Sum] = &[
    ("relay_shard_connections", MetricType::GAUGE, "Open WebSocket connections by shard.", |shard| &shard.connections),
    ("relay_shard_turns_total", MetricType::COUNTER, "Passes of the shard's loop.", |shard| &shard.turns),
];

/// The collector over all of them.
pub(super) struct ShardMetrics {
    counters: Counters,
    descs: Vec<Desc>,
}

impl ShardMetrics {
    pub(super) fn new(counters: Counters) -> Self {
        let sums = SUMS.iter().map(|(name, _, help, _)| desc(name, help, &[]));
        let by_reason = BY_REASON.iter().map(|(name, help, ..)| desc(name, help, &["reason"]));
        let distributions = DISTRIBUTIONS.iter().map(|(name, help, _)| desc(name, help, &[]));
        let per_shard = PER_SHARD.iter().map(|(name, _, help, _)| desc(name, help, &["shard"]));
        let descs = sums.chain(by_reason).chain(distributions).chain(per_shard).collect();
        Self { counters, descs }
    }

    fn by_reason(&self, labels: &[&str], pick: fn(&ShardCounters) -> &[Counter]) -> Vec<Metric> {
        let sample = |(index, label): (usize, &&str)| {
            let sum = self.counters.sum(|shard| &pick(shard)[index]);
            sample(MetricType::COUNTER, &[("reason", label)], sum)
        };
        labels.iter().enumerate().map(sample).collect()
    }

    /// Count and buckets come from one reading of the buckets, so that they agree.
    fn distribution(&self, pick: fn(&ShardCounters) -> &Histogram) -> Metric {
        let mut bounds: &[f64] = &[];
        let mut counts: Vec<u64> = Vec::new();
        let mut sum = 0.0;
        for histogram in self.counters.iter().map(pick) {
            bounds = histogram.bounds();
            counts.resize(bounds.len() + 1, 0);
            counts.iter_mut().zip(histogram.counts()).for_each(|(total, count)| *total += count);
            sum += histogram.sum();
        }
        let mut cumulative = 0;
        let bucket = |(bound, count): (&f64, &u64)| {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        };
        let buckets = bounds.iter().zip(&counts).map(bucket).collect();
        let mut histogram = HistogramValue::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(sum);
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        metric
    }

    fn per_shard(&self, kind: MetricType, pick: fn(&ShardCounters) -> &Counter) -> Vec<Metric> {
        let sample = |(index, shard): (usize, &ShardCounters)| {
            sample(kind, &[("shard", &index.to_string())], pick(shard).value())
        };
        self.counters.iter().enumerate().map(sample).collect()
    }
}

impl Collector for ShardMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let sums = SUMS.iter().map(|(name, kind, help, pick)| {
            family(name, help, *kind, vec![sample(*kind, &[], self.counters.sum(pick))])
        });
        let by_reason = BY_REASON.iter().map(|(name, help, labels, pick)| {
            family(name, help, MetricType::COUNTER, self.by_reason(&labels(), *pick))
        });
        let distributions = DISTRIBUTIONS
            .iter()
            .map(|(name, help, pick)| family(name, help, MetricType::HISTOGRAM, vec![self.distribution(*pick)]));
        let per_shard =
            PER_SHARD.iter().map(|(name, kind, help, pick)| family(name, help, *kind, self.per_shard(*kind, *pick)));
        sums.chain(by_reason).chain(distributions).chain(per_shard).collect()
    }
}

/// A gauge's or counter's sample.
fn sample(kind: MetricType, labels: &[(&str, &str)], value: u64) -> Metric {
    if kind == MetricType::GAUGE {
        return gauge(labels, value as f64);
    }
    let mut counter = CounterValue::default();
    counter.set_value(value as f64);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    metric.set_label(label_pairs(labels));
    metric
}
