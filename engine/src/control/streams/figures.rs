//! What is counted of each target, as `/metrics` shows it.
//!
//! At any moment accepted = written + dropped + waiting: all four change on the control thread, without an await between,
//! and the metrics are read there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Metric, MetricFamily, MetricType};

use super::super::metrics::{desc, family, gauge, label_pairs};

/// The figures of one target.
#[derive(Debug)]
pub(super) struct Figures {
    /// The target's label.
    pub target: &'static str,
    /// Whether events are counted; the state is only up or down.
    pub events: bool,
    /// Events offered to the target.
    pub accepted: AtomicU64,
    /// Events the target has acknowledged.
    pub written: AtomicU64,
    /// Events given up.
    pub dropped: AtomicU64,
    /// Events held: not yet written, or not yet acknowledged.
    pub waiting: AtomicU64,
    pub up: AtomicBool,
}

impl Figures {
    /// The figures of a target of events.
    pub(super) fn of_events(target: &'static str) -> Arc<Self> {
        Self::new(target, true)
    }

    /// The figures of a target that is only up or down.
    pub(super) fn of_availability(target: &'static str) -> Arc<Self> {
        Self::new(target, false)
    }

    /// Events the target has acknowledged so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    fn new(target: &'static str, events: bool) -> Arc<Self> {
        let [accepted, written, dropped, waiting] = [const { AtomicU64::new(0) }; 4];
        Arc::new(Self { target, events, accepted, written, dropped, waiting, up: AtomicBool::new(false) })
    }
}

const EVENTS: (&str, &str) = ("relay_events_total", "Events acknowledged or given up, by target.");
const ACCEPTED: (&str, &str) = ("relay_events_accepted_total", "Events offered to each target.");
const WAITING: (&str, &str) = ("relay_events_waiting", "Events that wait for a target or its acknowledgement.");
const UP: (&str, &str) = ("relay_event_target_up", "Whether a target can be reached.");

/// The collector over the figures of all targets.
pub(super) struct Collected {
    figures: Vec<Arc<Figures>>,
    descs: [Desc; 4],
}

impl Collected {
    pub(super) fn new(figures: Vec<Arc<Figures>>) -> Self {
        let descs = [
            desc(EVENTS.0, EVENTS.1, &["target", "result"]),
            desc(ACCEPTED.0, ACCEPTED.1, &["target"]),
            desc(WAITING.0, WAITING.1, &["target"]),
            desc(UP.0, UP.1, &["target"]),
        ];
        Self { figures, descs }
    }
}

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let of_events = || self.figures.iter().filter(|figures| figures.events);
        let results = of_events().flat_map(|figures| {
            [("written", &figures.written), ("dropped", &figures.dropped)]
                .map(|(result, count)| counter(&[("target", figures.target), ("result", result)], count))
        });
        let accepted = of_events().map(|figures| counter(&[("target", figures.target)], &figures.accepted));
        let waiting =
            of_events().map(|figures| gauge(&[("target", figures.target)], figures.waiting.load(Relaxed) as f64));
        let up = self
            .figures
            .iter()
            .map(|figures| gauge(&[("target", figures.target)], f64::from(u8::from(figures.up.load(Relaxed)))));
        [
            (EVENTS, MetricType::COUNTER, results.collect::<Vec<_>>()),
            (ACCEPTED, MetricType::COUNTER, accepted.collect()),
            (WAITING, MetricType::GAUGE, waiting.collect()),
            (UP, MetricType::GAUGE, up.collect()),
        ]
        .into_iter()
        .filter(|(.., samples)| !samples.is_empty())
        .map(|((name, help), kind, samples)| family(name, help, kind, samples))
        .collect()
    }
}

fn counter(labels: &[(&str, &str)], value: &AtomicU64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value.load(Relaxed) as f64);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    metric.set_label(label_pairs(labels));
    metric
}
