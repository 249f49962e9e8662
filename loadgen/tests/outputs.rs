//! The files that a run writes: they agree with each other, and the usual tools can read them.

mod common;

use std::fs;

use base64::Engine as _;
use common::{Peer, assert_described, number, run, temporary};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;

#[test]
fn json_page_log_and_percentiles_say_the_same() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/a&b");
    let [html, hlog, hgrm] = ["report.html", "report.hlog", "report.hgrm"].map(temporary);
    let files = ["--html", html.to_str().unwrap(), "--hlog", hlog.to_str().unwrap(), "--hgrm", hgrm.to_str().unwrap()];
    let shape = ["--subscribers", "10", "--rate", "300", "--warmup", "500ms", "--duration", "2s"];
    let (_, report, errors) = run(&[&["run", "--url", &url], &shape[..], &files].concat());
    assert!(report.is_object(), "{errors}");
    let received = number(&report, "/received");
    assert_eq!(received, 6000.0);

    let page = fs::read_to_string(&html).unwrap();
    let has_figures = report["verdict"] != "INVALID";
    assert!(page.contains(report["verdict"].as_str().unwrap()));
    assert_eq!((page.contains("6000 of 6000"), page.contains("<svg")), (has_figures, has_figures));
    assert!(page.contains("/a&amp;b") && !page.contains("http://") && !page.contains("https://"));
    assert!(!page.contains("NaN") && !page.contains("<script"));

    let log = fs::read(&hlog).unwrap();
    let (mut whole, mut deserializer) = (Histogram::<u64>::new(3).unwrap(), Deserializer::new());
    for entry in IntervalLogIterator::new(&log) {
        let LogEntry::Interval(interval) = entry.unwrap() else { continue };
        let bytes = base64::engine::general_purpose::STANDARD.decode(interval.encoded_histogram()).unwrap();
        whole.add(deserializer.deserialize::<u64, _>(&mut bytes.as_slice()).unwrap()).unwrap();
    }
    assert_eq!(whole.len() as f64, received);
    let p99 = number(&report, "/latency_us/response/p99");
    assert!((whole.value_at_quantile(0.99) as f64 / 1000.0 - p99).abs() <= p99 * 0.001);

    let percentiles = fs::read_to_string(&hgrm).unwrap();
    assert!(percentiles.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)"));
    assert!(percentiles.contains("Total count    =         6000]"));
    let delivered: f64 = report["seconds"].as_array().unwrap().iter().map(|s| number(s, "/delivered")).sum();
    assert!(delivered >= received * 0.8);
    [html, hlog, hgrm].iter().for_each(|file| fs::remove_file(file).unwrap());
}

#[test]
fn the_schema_describes_every_key_of_the_report_and_no_other() {
    let peer = Peer::start("fanout", &[]);
    let (url, pid) = (peer.url("/"), peer.pid().to_string());
    let shape =
        ["--subscribers", "2", "--warmup", "0s", "--duration", "300ms", "--server-pid", &pid, "--slo", "p99<1s"];
    let (_, report, _) = run(&[&["run", "--url", &url], &shape[..]].concat());
    let schema: Value = serde_json::from_str(include_str!("../schema/report-1.json")).unwrap();
    assert_described(&report, &schema, "");
}
