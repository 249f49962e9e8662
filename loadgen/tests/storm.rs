//! A reconnect storm against a real peer, and one from which nobody comes back.

mod common;

use common::{Peer, Running, number, run, signal};

#[test]
fn who_was_cut_comes_back_and_the_others_lose_nothing() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    let shape =
        ["--connections", "200", "--kill", "0.5", "--after", "500ms", "--backoff", "50ms", "--subscribers", "10"];
    let time = ["--rate", "200", "--warmup", "200ms", "--duration", "1500ms", "--threads", "2"];
    let (code, report, errors) = run(&[&["storm", "--url", &url], &shape[..], &time[..]].concat());
    assert!(code == 0 || code == 3, "{code} {errors}");
    assert_eq!((number(&report, "/storm/cut"), number(&report, "/storm/recovered")), (100.0, 100.0));
    assert_eq!((number(&report, "/received"), number(&report, "/expected")), (3000.0, 3000.0));
    assert_eq!((number(&report, "/connections/opened"), number(&report, "/connections/ended")), (211.0, 0.0));
    assert!(number(&report, "/storm/recovery_us/max") > 1000.0, "{:#}", report["storm"]);
}

#[test]
fn connections_that_do_not_come_back_are_exit_4() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    let shape = ["--connections", "20", "--after", "1500ms", "--backoff", "50ms", "--subscribers", "2", "--rate", "20"];
    let time = ["--warmup", "0s", "--duration", "2s", "--drain", "500ms"];
    let mut running = Running::start(&[&["storm", "--url", &url], &shape[..], &time[..]].concat());
    running.wait_for_second(1);
    // Stopped, it accepts no upgrade any more.
    signal(peer.pid(), "STOP");
    let (code, report, errors) = running.finish();
    assert!(code == 4 && errors.contains("did not come back"), "{code} {errors}");
    assert!(report["storm"]["recovery_us"]["max"].is_null(), "{:#}", report["storm"]);
}
