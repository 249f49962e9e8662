//! Open loop: a stop of the server shows in response and service time, a stop of the generator in response and
//! lateness, and neither in the number of messages sent.

mod common;

use std::time::Duration;

use common::{Peer, Running, freeze, number};

fn start(peer: &Peer) -> Running {
    let url = peer.url("/");
    let traffic = ["--rate", "1000", "--warmup", "1s", "--duration", "10s"];
    Running::start(&[&["run", "--url", &url, "--subscribers", "5", "--threads", "1"], &traffic[..]].concat())
}

/// p99 of a stop of one second in ten, in us: a tenth of the messages waits, evenly between 0 and 1 s.
fn is_stopped(p99: f64) -> bool {
    (855_000.0..945_000.0).contains(&p99)
}

#[test]
fn a_stopped_server_shows_in_response_and_service_time() {
    let peer = Peer::start("fanout", &[]);
    let mut running = start(&peer);
    running.wait_for_second(4);
    freeze(peer.pid(), Duration::from_secs(1));
    let (_, report, _) = running.finish();
    let p99 = |name: &str| number(&report, &format!("/latency_us/{name}/p99"));
    assert_eq!(number(&report, "/scheduled"), 10_000.0);
    assert_eq!(number(&report, "/sent"), 10_000.0);
    assert_eq!(number(&report, "/received"), 50_000.0);
    assert!(is_stopped(p99("response")) && is_stopped(p99("service")), "{:#}", report["latency_us"]);
    assert!(number(&report, "/latency_us/response/max") >= 990_000.0);
    assert!(p99("lateness") < 100_000.0, "{:#}", report["latency_us"]);
}

#[test]
fn a_stopped_generator_shows_in_response_and_lateness_and_in_the_verdict() {
    let peer = Peer::start("fanout", &[]);
    let mut running = start(&peer);
    running.wait_for_second(4);
    freeze(running.pid(), Duration::from_secs(1));
    let (_, report, _) = running.finish();
    let p99 = |name: &str| number(&report, &format!("/latency_us/{name}/p99"));
    assert_eq!(number(&report, "/sent"), 10_000.0);
    assert_eq!(number(&report, "/received"), 50_000.0);
    assert!(is_stopped(p99("response")) && is_stopped(p99("lateness")), "{:#}", report["latency_us"]);
    assert!(p99("service") < 200_000.0, "{:#}", report["latency_us"]);
    assert_ne!(report["verdict"], "VALID");
    assert!(report["reasons"][0].as_str().unwrap().contains("late"), "{:#}", report["reasons"]);
}
