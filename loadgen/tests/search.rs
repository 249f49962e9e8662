//! `search` against a peer of known capacity, and `doctor`.

mod common;

use common::{Peer, loadgen, number, run};

#[test]
fn the_capacity_of_a_peer_is_found_within_five_per_cent() {
    // 20,000 deliveries per second; 21 connections hear each message, the publisher among them: 952 messages/s.
    let peer = Peer::start("fanout", &["--capacity", "20000"]);
    let url = peer.url("/");
    let shape = ["--subscribers", "20", "--warmup", "200ms", "--duration", "3s", "--slo", "service.p90<50ms,reach>=1"];
    let range = ["--from", "850", "--to", "3000", "--precision", "4", "--quiet", "--threads", "1"];
    let (code, report, errors) = run(&[&["search", "--url", &url], &shape[..], &range].concat());
    assert_eq!(code, 0, "{errors}");
    let (holds, fails) = (number(&report, "/holds"), number(&report, "/fails"));
    let capacity = 20_000.0 / 21.0;
    assert!(
        (holds / capacity - 1.0).abs() < 0.05 && fails > holds && fails < capacity * 1.1,
        "{holds} {fails} {errors}"
    );
    assert_eq!(report["limited_by"][0], "service.p90<50ms");
    assert!(report["runs"].as_array().unwrap().len() >= 8);
    // What the peer's capacity forbids, the generator can do.
    assert!(report["null_peer"]["held"] == true && number(&report, "/null_peer/value") == fails, "{report:#}");
    assert!(errors.contains("null peer at"), "{errors}");
}

#[test]
fn an_slo_that_never_holds_is_exit_1_and_none_is_exit_2() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    let shape = ["--subscribers", "2", "--warmup", "0s", "--duration", "500ms", "--quiet"];
    let (code, report, _) = run(&[&["search", "--url", &url, "--slo", "p50<1ns"], &shape[..]].concat());
    assert!(code == 1 && report.is_object() && report["holds"].is_null(), "{code} {report:#}");
    let (code, _, errors) = run(&[&["search", "--url", &url], &shape[..]].concat());
    assert!(code == 2 && errors.contains("--slo"), "{errors}");
}

#[test]
fn the_doctor_names_what_is_too_low_and_its_fix() {
    let output = loadgen().args(["doctor", "--connections", "4000000"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("fix: ulimit") && text.contains("--source-ip 127.0.0.2-"), "{text}");
}
