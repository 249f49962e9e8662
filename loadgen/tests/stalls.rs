//! Open loop: a stop of the server shows in response and service time, a stop of the generator in response and
//! lateness, and neither in the number of messages sent.

mod common;

use std::time::Duration;

use common::{Peer, Running, freeze, number};
use serde_json::Value;

const STOP: Duration = Duration::from_secs(1);

/// Measures for six seconds and stops for one of them whom `whom` chooses, by (peer, generator).
fn stop(whom: fn(u32, u32) -> u32) -> Value {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    let traffic = ["--rate", "1000", "--warmup", "500ms", "--duration", "6s"];
    let load = ["--subscribers", "5", "--threads", "1"];
    let mut running = Running::start(&[&["run", "--url", &url], &load[..], &traffic].concat());
    running.wait_for_second(3);
    freeze(whom(peer.pid(), running.pid()), STOP);
    let (_, report, _) = running.finish();
    assert_eq!((number(&report, "/scheduled"), number(&report, "/sent")), (6000.0, 6000.0));
    assert_eq!(number(&report, "/received"), 30_000.0);
    report
}

/// p99 of a stop of one second in six, in us: a sixth of the messages waits, evenly between 0 and 1 s; 6 % of these are
/// 1 % of all.
fn is_stopped(p99: f64) -> bool {
    (0.95..1.05).contains(&(p99 / 940_000.0))
}

#[test]
fn a_stop_of_the_server_and_one_of_the_generator_show_where_they_belong() {
    // Both at once: neither takes more than a little of the machine.
    let (server, generator) = std::thread::scope(|scope| {
        let server = scope.spawn(|| stop(|peer, _| peer));
        let generator = stop(|_, generator| generator);
        (server.join().unwrap(), generator)
    });
    let p99 = |report: &Value, name: &str| number(report, &format!("/latency_us/{name}/p99"));
    let latency = &server["latency_us"];
    assert!(is_stopped(p99(&server, "response")) && is_stopped(p99(&server, "service")), "{latency:#}");
    assert!(number(&server, "/latency_us/response/max") >= 990_000.0, "{latency:#}");
    assert!(p99(&server, "lateness") < 100_000.0, "{latency:#}");

    let latency = &generator["latency_us"];
    assert!(is_stopped(p99(&generator, "response")) && is_stopped(p99(&generator, "lateness")), "{latency:#}");
    assert!(p99(&generator, "service") < 200_000.0, "{latency:#}");
    assert_ne!(generator["verdict"], "VALID");
    assert!(generator["reasons"][0].as_str().unwrap().contains("late"), "{:#}", generator["reasons"]);
}
