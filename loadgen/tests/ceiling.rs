//! The generator's own ceiling: measured against a null peer on request, and at the end of a search.

mod common;

use common::{Peer, number, run};
use serde_json::Value;

/// The share is what was received by what could be, and not far from the CPU time of this run: its server is a null
/// peer too.
fn assert_ceiling(report: &Value, peer: &str) {
    assert_eq!(report["generator"]["ceiling"]["peer"], peer, "{report:#}");
    let received_per_s = number(report, "/deliveries_per_s") + number(report, "/heard");
    let (ceiling, share) =
        (number(report, "/generator/ceiling/received_per_s"), number(report, "/generator/ceiling/share"));
    assert!((received_per_s / ceiling / share - 1.0).abs() < 0.05, "{received_per_s} of {ceiling} is not {share}");
    let cpu_share = number(report, "/generator/cpu_share");
    assert!(share < cpu_share * 2.5 && share > cpu_share / 2.5, "{share} is far from {cpu_share}");
}

#[test]
fn the_ceiling_is_measured_after_the_run_and_stands_beside_its_figures() {
    let (fanout, echo) = (Peer::start("fanout", &[]), Peer::start("echo", &[]));
    let time = ["--warmup", "100ms", "--duration", "500ms", "--threads", "1", "--ceiling"];
    let (url, load) = (fanout.url("/"), ["--subscribers", "40", "--rate", "600"]);
    let (_, report, errors) = run(&[&["run", "--url", &url], &load[..], &time].concat());
    assert!(errors.contains("own ceiling: the same load against a null peer (fanout)"), "{errors}");
    assert_ceiling(&report, "fanout");
    // The run's own figures are those of the run.
    assert_eq!((number(&report, "/received"), number(&report, "/env/measured_seconds")), (12_000.0, 0.5));
    let (url, load) = (echo.url("/"), ["--connections", "10", "--depth", "4"]);
    let (_, report, _) = run(&[&["echo", "--url", &url], &load[..], &time].concat());
    assert_ceiling(&report, "echo");
    let (_, report, errors) = run(&[&["echo", "--url", &url], &load[..], &time[..6]].concat());
    assert!(report["generator"]["ceiling"].is_null() && !errors.contains("ceiling"), "{errors}");
}

#[test]
fn what_has_no_ceiling_is_exit_2() {
    for (args, said) in [
        (&["run", "--url", "wss://127.0.0.1:1/", "--insecure"][..], "ws:// only"),
        (&["ab", "--url", "ws://127.0.0.1:1/", "--a", "x", "--b", "y"], "--ceiling is for run"),
    ] {
        let (code, _, errors) = run(&[args, &["--ceiling"]].concat());
        assert!(code == 2 && errors.contains(said), "{code} {errors}");
    }
}
