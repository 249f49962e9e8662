//! Scenario events against a real peer: who is cut, who comes back, who reads slower, what is sent, and a server that is
//! stopped and killed. The account stays exact throughout.

mod common;

use std::path::PathBuf;

use common::{Peer, at_once, number, run};
use serde_json::Value;

/// Runs a scenario against a fan-out peer; returns (exit code, report, stderr).
fn run_scenario(name: &str, text: &str, args: &[&str]) -> (i32, Value, String) {
    let peer = Peer::start("fanout", &[]);
    let (path, url, pid) = (write(name, text), peer.url("/"), peer.pid().to_string());
    let given = ["run", path.to_str().unwrap(), "--url", &url, "--server-pid", &pid];
    let ended = run(&[&given[..], args].concat());
    std::fs::remove_file(path).unwrap();
    ended
}

fn write(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("loadgen-{}-event-{name}.yaml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

/// What was expected has been received, and nothing went wrong on the way.
fn assert_exact(report: &Value) {
    assert_eq!(number(report, "/received"), number(report, "/expected"), "{report:#}");
    for key in ["/lost", "/duplicated", "/reordered", "/corrupted"] {
        assert_eq!(number(report, key), 0.0, "{key}");
    }
}

#[test]
fn who_is_cut_misses_what_was_sent_meanwhile_and_nothing_else() {
    let text = "
phases: {warmup: 100ms, measure: 3s}
slo: reach>=1
groups:
  - {name: readers, subscribers: 40}
  - {publishers: 2, rate: 500}
events:
  - {at: 500ms, disconnect: {group: readers, share: 0.25}}
  - {at: 1s, reconnect: {group: readers, backoff: 400ms}}
  - {at: 1500ms, reconnect: {group: readers, share: 0.5, backoff: 200ms}}
";
    at_once(&["1", "2"], |threads| {
        let (code, report, errors) = run_scenario(&format!("cut-{threads}"), text, &["--threads", threads]);
        assert!(code == 0 || code == 3, "{code} {errors}");
        assert_exact(&report);
        assert_eq!((number(&report, "/sent"), &report["slo"]["held"]), (1500.0, &Value::Bool(true)));
        let (expected, missed) = (number(&report, "/expected"), number(&report, "/missed"));
        assert_eq!(expected + missed, 60_000.0, "every delivery is either expected or missed");
        // Ten are away for 2.5 s of 500 messages/s; thirty, and some of them again, for up to 0.4 s.
        assert!((12_400.0..12_500.0 + 9_000.0).contains(&missed), "{missed}");
        assert_eq!((number(&report, "/connections/left"), number(&report, "/connections/ended")), (10.0, 0.0));
        let cut = number(&report, "/storm/cut");
        assert!((30.0..=50.0).contains(&cut) && number(&report, "/storm/recovered") == cut, "{:#}", report["storm"]);
        let told: Vec<_> = report["events"].as_array().unwrap().iter().map(|event| event["what"].clone()).collect();
        assert_eq!(told[..2], ["10 of readers disconnect", "40 of readers are cut and come back"]);
        assert!(errors.contains("event: 10 of readers disconnect"), "{errors}");
    });
}

#[test]
fn a_rate_steps_pauses_and_goes_on() {
    let text = "
phases: {warmup: 200ms, measure: 3s}
groups:
  - {subscribers: 5}
  - {name: loud, publishers: 2, rate: 100}
  - {publishers: 1, rate: 10}
events:
  - {at: 2s, rate: {group: loud, to: 50}}
  - {at: 1s, rate: {group: loud, to: 0}}
  - {at: 500ms, rate: {group: loud, to: 1000}}
";
    let (_, report, errors) = run_scenario("rate", text, &[]);
    assert!(report["failure"].is_null(), "{errors}");
    assert_exact(&report);
    // 0.5 s of 100, 0.5 s of 1,000, 1 s of nothing, 1 s of 50, and 3 s of 10.
    assert_eq!(number(&report, "/sent"), 50.0 + 500.0 + 50.0 + 30.0);
    assert_eq!(number(&report, "/scheduled"), number(&report, "/sent"));
}

#[test]
fn readers_slow_down_and_catch_up_without_a_loss_to_the_others() {
    let text = "
phases: {warmup: 0s, measure: 2s}
groups:
  - {subscribers: 5}
  - {name: stopping, subscribers: 4}
  - {publishers: 1, rate: 100, size: 1000}
events:
  - {at: 300ms, reading: {group: stopping, share: 0.5, to: stopped}}
  - {at: 500ms, reading: {group: stopping, to: {throttled: 5000}}}
  - {at: 1200ms, reading: {group: stopping, to: full}}
";
    at_once(&["epoll", "io_uring"], |driver| {
        let (_, report, errors) = run_scenario(driver, text, &["--driver", driver]);
        if errors.contains("io_uring is not allowed") {
            println!("SKIPPED io_uring: {errors}");
            return;
        }
        assert!(report["failure"].is_null(), "{errors}");
        assert_exact(&report);
        assert_eq!((number(&report, "/expected"), number(&report, "/connections/slow")), (1000.0, 4.0));
        // The publisher hears its 200, and the four have had all of theirs in the end.
        let heard = number(&report, "/heard");
        assert!((990.0..=1000.0).contains(&heard), "{driver}: {heard}");
        let heard_at_half = &report["seconds"][0]["delivered"];
        assert!(heard_at_half.as_f64().unwrap() > 400.0, "{heard_at_half}");
    });
}

#[test]
fn a_server_is_stopped_goes_on_and_is_killed() {
    let text = "
phases: {warmup: 100ms, measure: 3s}
groups: [{subscribers: 5}, {publishers: 1, rate: 200}]
events:
  - {at: 500ms, signal: STOP}
  - {at: 1500ms, signal: CONT}
";
    let killed = text.replace("CONT", "KILL");
    // Stopped to the end: it is woken, so that its deliveries still come.
    let woken = text.replace("  - {at: 1500ms, signal: CONT}\n", "").replace("500ms", "2900ms");
    at_once(&[("stop", text), ("kill", &killed), ("woken", &woken)], |(name, text)| {
        let (code, report, errors) = run_scenario(name, text, &["--threads", "1"]);
        if *name == "kill" {
            assert!(code == 4 && errors.contains("all connections ended before the run did"), "{code} {errors}");
            assert_eq!(report["events"][1]["what"], "SIGKILL to the server");
            return;
        }
        assert!(report["failure"].is_null(), "{name}: {errors}");
        assert_exact(&report);
        let max = number(&report, "/latency_us/service/max");
        assert!(*name == "woken" || (980_000.0..1_500_000.0).contains(&max), "{max}");
    });
}

#[test]
fn wrong_events_are_exit_2_and_say_what_is_wrong() {
    let groups = "phases: {measure: 2s}\ngroups:\n  - {name: a, subscribers: 1}\n  - {name: p, publishers: 1, rate: 1}\nevents:\n";
    for (event, said) in [
        ("{at: 1s, signl: STOP}", "line 6"),
        ("{at: 1s, signal: SEGV}", "line 6"),
        ("{at: 1s, reading: {group: a, to: {throttled: 0}}}", "throttled must be above 0"),
        ("{at: 1s}", "events[0]: at goes with one of"),
        ("{at: 1s, signal: STOP, rate: {group: p, to: 1}}", "at goes with one of"),
        ("{at: 2s, signal: STOP}", "outside the measurement"),
        ("{at: 1s, disconnect: {group: b}}", "no group is named b, only a, p"),
        ("{at: 1s, disconnect: {group: a, share: 2}}", "2 is no share"),
        ("{at: 1s, disconnect: {group: p}}", "group p has no subscribers"),
        ("{at: 1s, rate: {group: a, to: 5}}", "group a has no publishers"),
        ("{at: 1s, rate: {group: p, to: -5}}", "a rate must be 0 or above"),
        ("{at: 1s, signal: STOP}", "needs --server-pid"),
    ] {
        let path = write("wrong", &format!("{groups}  - {event}\n"));
        let (code, _, errors) = run(&["run", path.to_str().unwrap(), "--url", "ws://127.0.0.1:1/"]);
        assert!(code == 2 && errors.contains(said), "{event}: {code} {errors}");
        std::fs::remove_file(path).unwrap();
    }
    let closed = "groups:
  - {name: a, subscribers: 1}
  - {publishers: 1, outstanding: 4}
events: [{at: 1s, reconnect: {group: a}}]
";
    let path = write("closed", closed);
    let (code, _, errors) = run(&["run", path.to_str().unwrap(), "--url", "ws://127.0.0.1:1/"]);
    assert!(code == 2 && errors.contains("events[0]: subscribers can be cut under a rate only"), "{code} {errors}");
    std::fs::remove_file(path).unwrap();
    let (code, _, errors) = run(&["run", "--url", "ws://127.0.0.1:1/", "--jitter", "50ms"]);
    assert!(code == 2 && errors.contains("--connect-rate"), "{code} {errors}");
}

#[test]
fn connects_with_jitter_take_as_long_as_their_rate_says() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    let shape = ["--subscribers", "199", "--rate", "10", "--warmup", "0s", "--duration", "500ms", "--threads", "1"];
    let (_, report, errors) =
        run(&[&["run", "--url", &url, "--connect-rate", "200", "--jitter", "30ms"], &shape[..]].concat());
    assert!(report["failure"].is_null(), "{errors}");
    let seconds = number(&report, "/connections/connect_seconds");
    assert!((0.95..1.5).contains(&seconds), "{seconds}");
    assert_eq!(number(&report, "/connections/opened"), 200.0);
}
