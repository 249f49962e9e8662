//! Peers that drop, repeat, reorder or corrupt one delivery in five thousand: each fault is found and counted exactly, in
//! an echo and in a fan-out.

mod common;

use std::path::Path;

use common::{Peer, number, run};
use serde_json::Value;

/// The flag of each fault, its name in what the peer says, and where loadgen reports it.
const FAULTS: [(&str, &str, &str); 4] = [
    ("--drop-one-in", "dropped", "/lost"),
    ("--repeat-one-in", "repeated", "/duplicated"),
    ("--reorder-one-in", "reordered", "/reordered"),
    ("--corrupt-one-in", "corrupted", "/corrupted"),
];

/// Drives a load against a peer with each fault in turn, and compares the books of both.
fn assert_found(kind: &str, path: &str, drive: impl Fn(&str) -> (i32, Value, String)) {
    for (flag, fault, place) in FAULTS {
        let peer = Peer::start(kind, &[flag, "5000"]);
        let (code, report, errors) = drive(&peer.url(path));
        assert!(code == 0 || code == 3, "{fault}: {code} {errors}");
        let made = peer.faults(fault);
        let [expected, received, lost, corrupted] =
            ["/expected", "/received", "/lost", "/corrupted"].map(|key| number(&report, key));
        assert!(made >= 10 && expected >= 100_000.0, "{made} {fault} of {expected}");
        assert_eq!(number(&report, place), made as f64, "{fault}: {report:#}");
        assert_eq!(expected, received + lost + corrupted, "{fault}: {report:#}");
        let others = FAULTS.iter().map(|(.., other)| *other).filter(|other| *other != place).chain(["/misrouted"]);
        others.for_each(|other| assert_eq!(number(&report, other), 0.0, "{fault} as {other}: {report:#}"));
    }
}

#[test]
fn every_fault_of_an_echo_is_found_and_counted_exactly() {
    assert_found("echo", "/", |url| {
        let shape = ["--connections", "50", "--rate", "100000", "--warmup", "0s", "--duration", "1s", "--drain", "1s"];
        run(&[&["echo", "--url", url], &shape[..]].concat())
    });
}

#[test]
fn every_fault_of_a_fan_out_is_found_and_counted_exactly() {
    // A publisher for each topic: it has spoken before it hears, so the peer can tell it from who is accounted for.
    let scenario = "phases: {warmup: 0s, measure: 1s, drain: 1s}
groups:
  - {subscribers: 90, topic: 'room-{n}', topics: 3}
  - {publishers: 3, topic: 'room-{n}', topics: 3, rate: 4000}
";
    let path = std::env::temp_dir().join(format!("loadgen-faults-{}.yaml", std::process::id()));
    std::fs::write(&path, scenario).unwrap();
    let drive = |path: &Path, url: &str| run(&["run", path.to_str().unwrap(), "--url", url, "--threads", "2"]);
    assert_found("fanout", "/{topic}", |url| drive(&path, url));
    std::fs::remove_file(path).unwrap();
}
