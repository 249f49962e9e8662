//! Every kind of load against a peer without faults: the account is complete, whatever the size, the number of
//! threads and the way of sending.

mod common;

use common::{Peer, at_once, number, run};
use serde_json::Value;

fn assert_complete(report: &Value) {
    let [sent, scheduled, expected, received] =
        ["/sent", "/scheduled", "/expected", "/received"].map(|key| number(report, key));
    assert!(sent > 0.0 && sent == scheduled && expected > 0.0 && expected == received, "{report:#}");
    assert_eq!(number(report, "/reach"), 1.0);
    for key in ["/lost", "/duplicated", "/reordered", "/corrupted", "/foreign", "/misrouted"] {
        assert_eq!(number(report, key), 0.0, "{key}");
    }
    assert_eq!(number(report, "/latency_us/response/count"), received);
}

#[test]
fn a_rate_is_kept_on_one_thread_and_on_three() {
    let peer = Peer::start("fanout", &[]);
    at_once(&["1", "3"], |threads| {
        let url = peer.url(&format!("/topic/{threads}"));
        let shape = ["--subscribers", "40", "--publishers", "4", "--rate", "800", "--threads", threads];
        let time = ["--warmup", "500ms", "--duration", "2s"];
        let (_, report, _) = run(&[&["run", "--url", &url], &shape[..], &time[..]].concat());
        assert_complete(&report);
        assert_eq!((number(&report, "/sent"), number(&report, "/expected")), (1600.0, 64_000.0));
        assert_eq!(number(&report, "/latency_us/completion/count"), 1600.0);
        assert_eq!((&report["mode"], &report["schema"]), (&"open_loop".into(), &"ringrelay.loadgen/1".into()));
    });
}

#[test]
fn messages_of_every_size_and_kind_arrive_whole() {
    let peer = Peer::start("fanout", &[]);
    for (size, rate) in
        [("32", "600"), ("125", "600"), ("126", "600"), ("65535", "100"), ("65536", "100"), ("1000000", "20")]
    {
        at_once(&[&["--text"][..], &["--arrivals", "poisson"], &["--arrivals", "burst:5"]], |extra| {
            let url = peer.url(&format!("/{}", extra.join("/")));
            let shape = ["--subscribers", "3", "--size", size, "--rate", rate, "--warmup", "0s", "--duration", "500ms"];
            let (_, report, errors) = run(&[&["run", "--url", &url], &shape[..], extra].concat());
            assert!(report.is_object(), "{errors}");
            assert_complete(&report);
        });
    }
}

#[test]
fn a_closed_loop_keeps_its_window_full_and_says_what_it_is() {
    let peer = Peer::start("fanout", &[]);
    let (url, pid) = (peer.url("/"), peer.pid().to_string());
    for (window, threads) in [("1", "1"), ("16", "1"), ("16", "2")] {
        let shape = ["--subscribers", "20", "--publishers", "2", "--outstanding", window, "--threads", threads];
        let time = ["--warmup", "200ms", "--duration", "400ms", "--server-pid", &pid, "--slo", "p99<1us,reach>=1"];
        let (_, report, _) = run(&[&["run", "--url", &url], &shape[..], &time[..]].concat());
        assert_complete(&report);
        assert_eq!(report["mode"], "closed_loop");
        assert!(number(&report, "/server/cpu_us_per_delivery") > 0.0);
        let rate = number(&report, "/server/deliveries_per_cpu_s") * number(&report, "/server/cpu_us_per_delivery");
        assert!((rate - 1e6).abs() < 1.0);
        // No latency of a closed loop is judged; the reach is.
        assert_eq!((&report["slo"]["clauses"][0]["held"], &report["slo"]["held"]), (&Value::Null, &true.into()));
    }
}

#[test]
fn an_echo_is_heard_by_who_spoke() {
    let peer = Peer::start("echo", &[]);
    let url = peer.url("/");
    for extra in [&["--depth", "8"][..], &["--rate", "2000"]] {
        let shape = ["--connections", "50", "--warmup", "200ms", "--duration", "400ms", "--threads", "2"];
        let (_, report, _) = run(&[&["echo", "--url", &url], &shape[..], extra].concat());
        assert_complete(&report);
        assert_eq!(number(&report, "/connections/opened"), 50.0);
        assert_eq!(number(&report, "/latency_us/handshake/count"), 50.0);
    }
}

#[test]
fn an_idle_connection_has_a_price() {
    let peer = Peer::start("echo", &[]);
    let (url, pid) = (peer.url("/{n}"), peer.pid().to_string());
    let shape = ["--connections", "400", "--messages", "3", "--server-pid", &pid, "--hold", "500ms"];
    let (code, report, errors) = run(&[&["idle", "--url", &url], &shape[..]].concat());
    assert_eq!(code, 0, "{errors} {:#}", report["reasons"]);
    assert!(number(&report, "/generator/busy_share_max") < 0.5, "it was silent: {:#}", report["generator"]);
    assert!(number(&report, "/server/private_dirty_bytes_per_connection") > 50.0, "{report:#}");
    assert!(number(&report, "/server/rss_bytes") > number(&report, "/idle/rss_bytes_before"), "{report:#}");
    assert!(number(&report, "/idle/cpu_share") < 0.2 && number(&report, "/connections/opened") == 400.0, "{report:#}");
    assert_eq!((number(&report, "/sent"), number(&report, "/received")), (1200.0, 1200.0), "{report:#}");
}
