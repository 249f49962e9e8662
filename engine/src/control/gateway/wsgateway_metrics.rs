//! The metrics of wsgateway by its names, for dashboards that know them.

use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};
use prometheus::{Result, TextEncoder};

use crate::control::metrics::family;
use crate::counters::Counters;

/// See the module's description.
pub(crate) struct WsgatewayMetrics(Counters);

impl WsgatewayMetrics {
    pub(crate) fn new(counters: Counters) -> Self {
        Self(counters)
    }

    /// In Prometheus' text format.
    ///
    /// # Errors
    /// When the format cannot express it, which these constants rule out.
    pub(crate) fn render(&self) -> Result<String> {
        let (opened, open) = (self.0.sum(|shard| &shard.connections_total), self.0.sum(|shard| &shard.connections));
        let families = [
            counter("messages_sent_counter", "Messages sent to clients.", self.0.sum(|shard| &shard.messages_sent)),
            // Spelled so.
            counter(
                "messages_recieved_counter",
                "Messages received from clients.",
                self.0.sum(|shard| &shard.messages_received),
            ),
            counter("connections_counter", "Connections opened.", opened),
            counter("disconnections_counter", "Connections ended.", opened.saturating_sub(open)),
            gauge("active_connections_gauge", "Connections open now.", open),
        ];
        TextEncoder::new().encode_to_string(&families)
    }
}

fn counter(name: &str, help: &str, value: u64) -> MetricFamily {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    family(name, help, MetricType::COUNTER, vec![metric])
}

fn gauge(name: &str, help: &str, value: u64) -> MetricFamily {
    let mut gauge = Gauge::default();
    gauge.set_value(value as f64);
    let mut metric = Metric::default();
    metric.set_gauge(gauge);
    family(name, help, MetricType::GAUGE, vec![metric])
}
