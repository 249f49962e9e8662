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
    /// If two metrics had one name, which the tests rule out.
    #[must_use]
    pub fn new(counters: Counters, driver: &str) -> Self {
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
