//! The Grafana dashboard in `deploy/grafana`: every metric and label that it asks for is one that a server has.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use engine::config::{EndpointConfig, Mode};
use serde_json::Value;
use support::process::Process;
use support::{config, drivers};

/// Labels that Prometheus adds, or that only histograms' buckets have.
const ADDED: [&str; 3] = ["job", "instance", "le"];

/// Every query of the dashboard, wherever it stands.
fn queries(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(text) if matches!(key.as_str(), "expr" | "query") => _ = found.insert(text.to_owned()),
                    _ => queries(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        _ => {}
    }
}

/// The names in a query that look like ours.
fn metrics(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| ["websocket_", "relay_", "process_"].iter().any(|prefix| word.starts_with(prefix)))
}

/// What stands in `by (…)`.
fn groupings(query: &str) -> impl Iterator<Item = &str> {
    let lists = query.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    lists.flat_map(|list| list.split(',').map(str::trim))
}

/// What a server exposes: each name with the labels of its samples.
fn exposed(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = sample.split_at(sample.find(['{', ' ']).unwrap());
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let labels = labels.split(',').filter_map(|label| label.split_once('=')).map(|(label, _)| label);
        names.entry(name).or_default().extend(labels);
    }
    names
}

#[test]
fn every_metric_and_label_in_the_dashboard_exists() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/grafana/ringrelay.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut config = config(drivers()[0], 2);
    config.endpoints.push(EndpointConfig::new("/connect", Mode::Gateway));
    // Nobody listens there, and the target's metrics exist all the same.
    config.stream_redis.addr = "redis://127.0.0.1:1".to_owned();
    let process = Process::start("dashboard", &config);
    let (_, text) = process.get("/metrics");
    let exposed = exposed(&text);

    let mut found = BTreeSet::new();
    queries(&dashboard, &mut found);
    let mut used = BTreeSet::new();
    for query in &found {
        let mut labels: BTreeSet<&str> = ADDED.into();
        for metric in metrics(query) {
            labels.extend(exposed.get(metric).unwrap_or_else(|| panic!("{query}: no metric {metric}")));
            used.insert(metric);
        }
        for label in groupings(query) {
            assert!(labels.contains(label), "{query}: no label {label}");
        }
    }
    let unseen: Vec<_> = [
        "websocket_connections",
        "websocket_messages_sent_total",
        "relay_dropped_total",
        "relay_delivery_seconds_bucket",
    ]
    .into_iter()
    .filter(|metric| !used.contains(metric))
    .collect();
    assert_eq!(unseen, [""; 0], "the dashboard does not show what matters most");
}
