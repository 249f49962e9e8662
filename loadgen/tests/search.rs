//! `search` against a peer of known capacity, and `doctor`.

mod common;

use common::{Peer, Running, loadgen, number, run, signal};

#[test]
fn the_capacity_of_a_peer_is_found_within_five_per_cent() {
    // 20,000 deliveries per second; 21 connections hear each message, the publisher among them: 952 messages/s.
    let peer = Peer::start("fanout", &["--capacity", "20000"]);
    let url = peer.url("/");
    let shape =
        ["--subscribers", "20", "--warmup", "200ms", "--duration", "1500ms", "--slo", "service.p50<25ms,reach>=1"];
    let range = ["--from", "600", "--to", "1100", "--precision", "4", "--quiet", "--threads", "1"];
    let (code, report, errors) = run(&[&["search", "--url", &url], &shape[..], &range].concat());
    assert_eq!(code, 0, "{errors}");
    let (holds, fails) = (number(&report, "/holds"), number(&report, "/fails"));
    let capacity = 20_000.0 / 21.0;
    assert!(
        (holds / capacity - 1.0).abs() < 0.05 && fails > holds && fails < capacity * 1.1,
        "{holds} {fails} {errors}"
    );
    assert_eq!(report["limited_by"][0], "service.p50<25ms");
    assert!(report["runs"].as_array().unwrap().len() >= 8);
    // What the peer's capacity forbids, the generator can do.
    assert!(report["null_peer"]["held"] == true && number(&report, "/null_peer/value") == fails, "{report:#}");
    assert!(errors.contains("null peer at"), "{errors}");
}

#[test]
fn a_load_that_the_generator_cannot_send_is_no_answer() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    let shape = ["--subscribers", "1", "--threads", "1", "--warmup", "0s", "--duration", "200ms", "--drain", "500ms"];
    let range = ["--from", "20000000", "--to", "40000000", "--slo", "lost<1"];
    let (code, report, errors) = run(&[&["search", "--url", &url], &shape[..], &range].concat());
    assert!(code == 3 && errors.contains("the generator is the bottleneck at 20000000"), "{code} {errors}");
    assert!(!errors.contains(" ms, INVALID") && errors.contains("fails, INVALID"), "{errors}");
    assert!(report["failure"].as_str().unwrap().contains("bottleneck") && report["holds"].is_null(), "{report:#}");
    assert_eq!(report["runs"].as_array().unwrap().len(), 3);
}

#[test]
fn a_search_that_is_stopped_is_exit_4_and_keeps_its_runs() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    let shape = ["--subscribers", "1", "--warmup", "0s", "--duration", "300ms", "--quiet", "--slo", "reach>=1"];
    let mut running = Running::start(&[&["search", "--url", &url], &shape[..]].concat());
    running.wait_for_line("rate 200: ");
    signal(running.pid(), "INT");
    let (code, report, errors) = running.finish();
    assert!(code == 4 && errors.contains("stopped by a signal"), "{code} {errors}");
    assert_eq!((&report["failure"], &report["holds"]), (&"stopped by a signal".into(), &serde_json::Value::Null));
    assert!(report["runs"].as_array().unwrap().len() >= 2, "{report:#}");
}

#[test]
fn an_slo_that_never_holds_is_exit_1_and_none_is_exit_2() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    let shape = ["--subscribers", "2", "--warmup", "0s", "--duration", "500ms", "--quiet"];
    // The latency is there so that lateness is judged by it, which does not matter then.
    let slo = ["--slo", "lost>5,p99<1h"];
    let (code, report, _) = run(&[&["search", "--url", &url], &slo[..], &shape].concat());
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
