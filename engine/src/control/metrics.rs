//! `/metrics`: the registry and its Prometheus text.
//!
//! Names, labels and types are a contract with dashboards. Every series exists from the start, at 0, and its number
//! depends on the build and the shards only, never on what clients do. Other parts of the server register further
//! collectors with [`Metrics::register`].

use std::collections::HashMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

use super::process_metrics::ProcessMetrics;
use super::shard_metrics::ShardMetrics;
use crate::counters::Counters;

/// The commit this was built from: the environment variable `RINGRELAY_REVISION` at build time.
pub const REVISION: &str = match option_env!("RINGRELAY_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// What drives the shards, as `relay_driver` names it.
const DRIVERS: [&str; 2] = ["io_uring", "epoll"];

/// All metrics of the process; clones share the registry.
#[derive(Debug, Clone)]
pub struct Metrics(Registry);

impl Metrics {
    /// The metrics of a server: of its shards, of its build, and of its process.
    ///
    /// `driver` is `io_uring` or `epoll`.
    ///
    /// # Panics
    /// If `driver` is neither, or if two metrics had one name, which the tests rule out.
    #[must_use]
    pub fn new(counters: Counters, driver: &str) -> Self {
        assert!(DRIVERS.contains(&driver), "{driver:?} is none of {DRIVERS:?}");
        let metrics = Self(Registry::new());
        let collectors: [Box<dyn Collector>; 3] = [
            Box::new(ShardMetrics::new(counters)),
            Box::new(ProcessMetrics::new()),
            Box::new(Constants::new(driver, env!("CARGO_PKG_VERSION"), REVISION)),
        ];
        for collector in collectors {
            metrics.register(collector).expect("the server's own metrics have names of their own");
        }
        metrics
    }

    /// Adds a collector.
    ///
    /// # Errors
    /// When one of its metrics is there already.
    pub fn register(&self, collector: Box<dyn Collector>) -> prometheus::Result<()> {
        self.0.register(collector)
    }

    /// All metrics in Prometheus' text format, version 0.0.4.
    ///
    /// # Errors
    /// When a collector delivers what the format cannot express.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.0.gather())
    }
}

/// What never changes while the process lives: `relay_driver` and `relay_build_info`.
struct Constants {
    descs: [Desc; 2],
    families: Vec<MetricFamily>,
}

impl Constants {
    fn new(driver: &str, version: &str, revision: &str) -> Self {
        let drivers = DRIVERS.map(|name| gauge(&[("driver", name)], f64::from(u8::from(name == driver))));
        let build = gauge(&[("version", version), ("revision", revision)], 1.0);
        let (driver_help, build_help) = ("What drives the shards: 1 for the driver in use.", "The build; always 1.");
        Self {
            descs: [
                desc("relay_driver", driver_help, &["driver"]),
                desc("relay_build_info", build_help, &["version", "revision"]),
            ],
            families: vec![
                family("relay_driver", driver_help, MetricType::GAUGE, drivers.to_vec()),
                family("relay_build_info", build_help, MetricType::GAUGE, vec![build]),
            ],
        }
    }
}

impl Collector for Constants {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families.clone()
    }
}

/// The description that a registry keeps collectors apart by.
///
/// # Panics
/// If name or labels are no valid Prometheus identifiers.
pub(super) fn desc(name: &str, help: &str, labels: &[&str]) -> Desc {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new()).expect("metric names are constants and valid")
}

/// A metric with all its samples.
pub(super) fn family(name: &str, help: &str, kind: MetricType, samples: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(samples);
    family
}

/// A gauge's sample.
pub(super) fn gauge(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_gauge(gauge);
    metric.set_label(label_pairs(labels));
    metric
}

/// Labels as the library wants them.
pub(super) fn label_pairs(labels: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::counters::{AcceptError, Dropped, Ended, Refused};

    /// The text format as a scraper reads it.
    #[derive(Default)]
    struct Scrape {
        /// Type by metric.
        types: BTreeMap<String, String>,
        /// Value by series, labels included.
        values: BTreeMap<String, f64>,
    }

    impl Scrape {
        fn of(metrics: &Metrics) -> Self {
            let text = metrics.render().unwrap();
            assert!(text.ends_with('\n'));
            let mut scrape = Self::default();
            for line in text.lines() {
                if let Some(declaration) = line.strip_prefix("# TYPE ") {
                    let (name, kind) = declaration.split_once(' ').unwrap();
                    assert_eq!(scrape.types.insert(name.to_owned(), kind.to_owned()), None, "{name} declared twice");
                } else if !line.starts_with("# HELP ") {
                    let (series, value) = line.rsplit_once(' ').unwrap();
                    let name = series.split('{').next().unwrap();
                    let declared =
                        |suffix| name.strip_suffix(suffix).is_some_and(|name| scrape.types.contains_key(name));
                    assert!(["", "_bucket", "_sum", "_count"].into_iter().any(declared), "{name} is not declared");
                    assert_eq!(scrape.values.insert(series.to_owned(), value.parse().unwrap()), None, "{series} twice");
                }
            }
            scrape
        }

        fn value(&self, series: &str) -> f64 {
            *self.values.get(series).unwrap_or_else(|| panic!("no {series}"))
        }
    }

    #[test]
    fn names_and_types_are_those_of_the_contract() {
        let scrape = Scrape::of(&Metrics::new(Counters::new(2), "io_uring"));
        let expected = [
            ("process_cpu_seconds_total", "counter"),
            ("process_max_fds", "gauge"),
            ("process_open_fds", "gauge"),
            ("process_resident_memory_bytes", "gauge"),
            ("process_start_time_seconds", "gauge"),
            ("process_threads", "gauge"),
            ("process_virtual_memory_bytes", "gauge"),
            ("relay_accept_errors_total", "counter"),
            ("relay_build_info", "gauge"),
            ("relay_delivery_seconds", "histogram"),
            ("relay_driver", "gauge"),
            ("relay_dropped_total", "counter"),
            ("relay_frames_per_send", "histogram"),
            ("relay_lag_bytes", "histogram"),
            ("relay_shard_connections", "gauge"),
            ("relay_shard_turns_total", "counter"),
            ("websocket_bytes_received_total", "counter"),
            ("websocket_bytes_sent_total", "counter"),
            ("websocket_connections", "gauge"),
            ("websocket_connections_total", "counter"),
            ("websocket_disconnections_total", "counter"),
            ("websocket_messages_received_total", "counter"),
            ("websocket_messages_sent_total", "counter"),
            ("websocket_refused_total", "counter"),
        ];
        let types = scrape.types.iter().map(|(name, kind)| (name.as_str(), kind.as_str()));
        assert_eq!(types.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_series_exists_from_the_start_and_none_is_added_later() {
        let counters = Counters::new(3);
        let metrics = Metrics::new(counters.clone(), "epoll");
        let before = Scrape::of(&metrics);
        for (name, labels) in [
            (
                "websocket_disconnections_total",
                "client shutdown protocol utf8 policy too_big slow_consumer idle pong write reset internal",
            ),
            ("relay_dropped_total", "slow_consumer skipped disconnected rate_limited too_long shutdown"),
            ("relay_accept_errors_total", "emfile enfile memory aborted other"),
        ] {
            for label in labels.split(' ') {
                assert_eq!(before.value(&format!("{name}{{reason=\"{label}\"}}")), 0.0);
            }
        }
        for reason in Refused::ALL {
            assert_eq!(before.value(&format!("websocket_refused_total{{reason=\"{reason}\"}}")), 0.0);
        }
        assert_eq!(before.value("websocket_connections"), 0.0);
        count_something_everywhere(&counters);
        let series = |scrape: &Scrape| scrape.values.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(series(&before), series(&Scrape::of(&metrics)));
    }

    /// Counts in every shard; shard 1 twice as much as shard 0, and so on.
    fn count_something_everywhere(counters: &Counters) {
        for (shard, weight) in counters.iter().zip(1..) {
            shard.connections.set(10 * weight);
            shard.connections_total.add(100 * weight);
            shard.messages_received.add(1_000 * weight);
            shard.messages_sent.add(10_000 * weight);
            shard.bytes_received.add(100_000 * weight);
            shard.bytes_sent.add((1 << 40) * weight);
            shard.turns.add(7 * weight);
            Ended::ALL.iter().for_each(|reason| shard.ended(*reason));
            Refused::ALL.iter().for_each(|reason| shard.refused(*reason));
            Dropped::ALL.iter().for_each(|reason| shard.dropped(*reason, 1 + *reason as u64));
            AcceptError::ALL.iter().for_each(|reason| shard.accept_error(*reason));
            shard.frames_per_send.observe(3.0, 5 * weight);
            shard.frames_per_send.observe(5_000.0, weight);
        }
    }

    #[test]
    fn values_are_sums_over_the_shards_or_stand_by_shard() {
        let counters = Counters::new(3);
        count_something_everywhere(&counters);
        let scrape = Scrape::of(&Metrics::new(counters, "epoll"));
        for (series, value) in [
            ("websocket_connections", 60.0),
            ("websocket_connections_total", 600.0),
            ("websocket_messages_received_total", 6_000.0),
            ("websocket_messages_sent_total", 60_000.0),
            ("websocket_bytes_received_total", 600_000.0),
            ("websocket_bytes_sent_total", 6_597_069_766_656.0),
            ("websocket_disconnections_total{reason=\"slow_consumer\"}", 3.0),
            ("websocket_refused_total{reason=\"per_ip\"}", 3.0),
            ("relay_dropped_total{reason=\"slow_consumer\"}", 3.0),
            ("relay_dropped_total{reason=\"shutdown\"}", 18.0),
            ("relay_accept_errors_total{reason=\"emfile\"}", 3.0),
            ("relay_shard_connections{shard=\"0\"}", 10.0),
            ("relay_shard_connections{shard=\"2\"}", 30.0),
            ("relay_shard_turns_total{shard=\"1\"}", 14.0),
            ("relay_driver{driver=\"epoll\"}", 1.0),
            ("relay_driver{driver=\"io_uring\"}", 0.0),
        ] {
            assert_eq!(scrape.value(series), value, "{series}");
        }
    }

    #[test]
    fn histograms_are_cumulative_and_end_in_their_count() {
        let counters = Counters::new(2);
        count_something_everywhere(&counters);
        let scrape = Scrape::of(&Metrics::new(counters, "epoll"));
        for (bound, count) in [("1", 0.0), ("2", 0.0), ("4", 15.0), ("1024", 15.0), ("+Inf", 18.0)] {
            assert_eq!(scrape.value(&format!("relay_frames_per_send_bucket{{le=\"{bound}\"}}")), count, "{bound}");
        }
        assert_eq!(scrape.value("relay_frames_per_send_count"), 18.0);
        assert_eq!(scrape.value("relay_frames_per_send_sum"), 15.0 * 3.0 + 3.0 * 5_000.0);
        assert_eq!(scrape.value("relay_delivery_seconds_bucket{le=\"0.00005\"}"), 0.0);
        assert_eq!(scrape.value("relay_delivery_seconds_count"), 0.0);
    }

    #[test]
    fn the_build_names_version_and_revision() {
        let scrape = Scrape::of(&Metrics::new(Counters::new(1), "epoll"));
        let version = env!("CARGO_PKG_VERSION");
        let builds: Vec<_> = scrape.values.keys().filter(|series| series.starts_with("relay_build_info")).collect();
        assert_eq!(builds.len(), 1);
        assert!(
            builds[0].contains(&format!("version=\"{version}\"")) && builds[0].contains("revision=\""),
            "{builds:?}"
        );
    }

    #[test]
    fn a_metric_cannot_be_registered_twice() {
        let metrics = Metrics::new(Counters::new(1), "epoll");
        assert!(metrics.register(Box::new(ProcessMetrics::new())).is_err());
    }

    #[test]
    #[should_panic(expected = "kqueue")]
    fn an_unknown_driver_is_a_bug() {
        let _ = Metrics::new(Counters::new(1), "kqueue");
    }
}
