//! Scenario files against a real peer: topics, mixed groups, slow readers; and what goes with them.

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use common::{Peer, number, run};

fn scenario(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("loadgen-{}-{name}.yaml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn groups_publish_and_hear_on_their_own_topics() {
    let peer = Peer::start("fanout", &[]);
    let path = scenario(
        "topics",
        "phases: {warmup: 200ms, measure: 2s}
slo: reach>=1
groups:
  - {subscribers: 12, topic: 'room-{n}', topics: 4}
  - {subscribers: 5, topic: room-0}
  - {publishers: 4, topic: 'room-{n}', topics: 4, rate: 400, arrivals: poisson, text: true}
  - {publishers: 1, topic: room-0, rate: 50, size: 2000}
",
    );
    let url = peer.url("/rooms/{topic}");
    let (code, report, errors) = run(&["run", path.to_str().unwrap(), "--url", &url, "--threads", "2"]);
    assert!(code == 0 || code == 3, "{errors}");
    assert_eq!(report["slo"]["held"], true);
    // Room 0 has eight subscribers and hears both groups of publishers; the others have three.
    let sent = number(&report, "/sent");
    assert!((800.0..1000.0).contains(&sent), "{sent}");
    assert_eq!(number(&report, "/received"), number(&report, "/expected"));
    assert_eq!(number(&report, "/misrouted"), 0.0);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn slow_readers_are_slow_and_the_others_are_not_harmed() {
    let peer = Peer::start("fanout", &[]);
    let path = scenario(
        "slow",
        "phases: {warmup: 0s, measure: 3s}
groups:
  - {subscribers: 5}
  - {subscribers: 2, reading: stopped}
  - {subscribers: 1, reading: {throttled: 50000}}
  - {subscribers: 1, reading: {stalling: {stall: 200ms, every: 400ms}}}
  - {publishers: 1, rate: 100, size: 10000}
",
    );
    let url = peer.url("/");
    let (_, report, errors) = run(&["run", path.to_str().unwrap(), "--url", &url, "--threads", "1"]);
    assert!(report.is_object(), "{errors}");
    assert_eq!((number(&report, "/received"), number(&report, "/expected")), (1500.0, 1500.0));
    assert_eq!((number(&report, "/connections/slow"), number(&report, "/connections/ended")), (4.0, 0.0));
    // The publisher hears all 300, the stalling reader nearly all, the throttled one about 15, the stopped ones none.
    let heard = number(&report, "/heard");
    assert!((400.0..650.0).contains(&heard), "{heard}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_wrong_scenario_is_exit_2_with_the_line() {
    let path = scenario("wrong", "groups:\n  - {subscribers: 1}\n  - {subscribers: 1, sise: 5}\n");
    let (code, _, errors) = run(&["run", path.to_str().unwrap(), "--url", "ws://localhost:1/"]);
    assert!(code == 2 && errors.contains("sise") && errors.contains("line 3"), "{code} {errors}");
    let (code, _, errors) = run(&["run", path.to_str().unwrap(), "--url", "ws://localhost:1/", "--rate", "5"]);
    assert!(code == 2 && errors.contains("--rate"), "{code} {errors}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn connections_come_from_every_source_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        // All stay open until all are here: the first to be refused would end the run.
        let accepted: Vec<_> = (0..6).map(|_| listener.accept().unwrap()).collect();
        let mut sources: Vec<_> = accepted.iter().map(|(_, source)| source.ip().to_string()).collect();
        sources.sort();
        sources
    });
    let traffic = ["--subscribers", "5", "--source-ip", "127.0.0.5-127.0.0.7", "--duration", "1s"];
    let (code, _, _) = run(&[&["run", "--url", &url], &traffic[..]].concat());
    let sources = ["127.0.0.5", "127.0.0.6", "127.0.0.7"];
    assert_eq!(server.join().unwrap(), [sources[0], sources[0], sources[1], sources[1], sources[2], sources[2]]);
    assert_eq!(code, 4, "the listener closed without an answer");
}

#[test]
fn a_start_time_is_kept_and_one_that_has_passed_is_an_error() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    let wall = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let at = wall() + 1.0;
    let traffic = ["--warmup", "0s", "--duration", "500ms", "--subscribers", "2", "--start-at"];
    let (_, report, errors) = run(&[&["run", "--url", &url], &traffic[..], &[&at.to_string()]].concat());
    assert!(report["failure"].is_null() && number(&report, "/reach") == 1.0, "{errors}");
    assert!(wall() >= at + 0.49, "it took its time after the start time");
    let (code, _, errors) = run(&[&["run", "--url", &url], &traffic[..], &["1000"]].concat());
    assert!(code == 4 && errors.contains("start time passed"), "{code} {errors}");
}

#[test]
fn the_servers_own_counters_stand_in_the_report() {
    let peer = Peer::start("fanout", &[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = format!("http://{}/metrics", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for value in [10, 25] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let len = stream.read(&mut request).unwrap();
            assert!(request[..len].starts_with(b"GET /metrics HTTP/1.0\r\n"));
            write!(stream, "HTTP/1.0 200 OK\r\n\r\n# TYPE sent counter\nsent{{a=\"b\"}} {value}\nsame 1\n").unwrap();
        }
    });
    let url = peer.url("/");
    let traffic = ["--warmup", "0s", "--duration", "300ms", "--server-metrics", &metrics];
    let (_, report, errors) = run(&[&["run", "--url", &url], &traffic[..]].concat());
    server.join().unwrap();
    assert_eq!(report["server_metrics"], serde_json::json!({"sent{a=\"b\"}": [10.0, 25.0]}), "{errors}");
    let (code, _, errors) = run(&[&["run", "--url", &url], &traffic[..]].concat());
    assert!(code == 4 && errors.contains("cannot read http://"), "{code} {errors}");
}
