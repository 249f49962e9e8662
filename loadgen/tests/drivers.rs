//! Everything that depends on the backend, on each that this machine allows.

mod common;

use common::{Peer, at_once, number, run};
use serde_json::Value;

/// The backends that work here; what keeps io_uring out is said, not passed over.
fn drivers() -> Vec<&'static str> {
    let (_, _, errors) = run(&["echo", "--url", "ws://127.0.0.1:1/", "--driver", "io_uring"]);
    match errors.contains("io_uring is not allowed") {
        true => {
            println!("SKIPPED io_uring: {errors}");
            vec!["epoll"]
        }
        false => vec!["epoll", "io_uring"],
    }
}

fn assert_complete(driver: &str, report: &Value) {
    assert_eq!(report["generator"]["driver"], driver, "{report:#}");
    let [sent, received, expected] = ["/sent", "/received", "/expected"].map(|key| number(report, key));
    assert!(sent > 0.0 && received == expected, "{driver}: {report:#}");
    let wrong = ["/lost", "/duplicated", "/reordered", "/corrupted"].map(|key| number(report, key));
    assert_eq!(wrong, [0.0; 4], "{driver}");
}

#[test]
fn every_load_is_complete_on_every_backend() {
    let (fanout, echo) = (Peer::start("fanout", &[]), Peer::start("echo", &[]));
    for driver in drivers() {
        let time = ["--warmup", "100ms", "--duration", "400ms", "--driver", driver];
        for shape in [
            &["--subscribers", "50", "--rate", "500", "--threads", "2"][..],
            &["--subscribers", "50", "--outstanding", "32", "--publishers", "3"],
            // More than all receive buffers together.
            &["--subscribers", "60", "--rate", "50", "--size", "300000", "--drain", "20s"],
        ] {
            let url = fanout.url("/");
            let (_, report, errors) = run(&[&["run", "--url", &url], shape, &time].concat());
            assert!(report["failure"].is_null(), "{driver}: {errors}");
            assert_complete(driver, &report);
        }
        for shape in [&["--connections", "40", "--depth", "16"][..], &["--connections", "20", "--size", "200000"]] {
            let url = echo.url("/");
            let (_, report, errors) = run(&[&["echo", "--url", &url], shape, &time].concat());
            assert!(report["failure"].is_null(), "{driver}: {errors}");
            assert_complete(driver, &report);
        }
    }
}

#[test]
fn slow_readers_and_storms_work_on_every_backend() {
    let peer = Peer::start("fanout", &[]);
    let path = std::env::temp_dir().join(format!("loadgen-{}-drivers.yaml", std::process::id()));
    let groups = "groups:
  - {subscribers: 5}
  - {subscribers: 2, reading: stopped}
  - {subscribers: 1, reading: {throttled: 50000}}
  - {subscribers: 1, reading: {stalling: {stall: 200ms, every: 400ms}}}
  - {publishers: 1, rate: 100, size: 10000}
";
    std::fs::write(&path, groups).unwrap();
    let file = path.to_str().unwrap();
    at_once(&drivers(), |driver| {
        let url = peer.url(&format!("/slow/{driver}"));
        let time = ["--warmup", "0s", "--duration", "2s", "--driver", driver];
        let (_, report, _) = run(&[&["run", file, "--url", &url], &time[..]].concat());
        assert_complete(driver, &report);
        let heard = number(&report, "/heard");
        assert!((250.0..450.0).contains(&heard), "{driver}: {heard}");
    });
    at_once(&drivers(), |driver| {
        let url = peer.url(&format!("/storm/{driver}"));
        let time = ["--warmup", "0s", "--duration", "1s", "--driver", driver];
        let shape = ["--connections", "60", "--after", "300ms", "--subscribers", "5", "--rate", "200"];
        let (_, report, errors) = run(&[&["storm", "--url", &url], &shape[..], &time].concat());
        assert!(report["failure"].is_null(), "{driver}: {errors}");
        assert_complete(driver, &report);
        assert_eq!((number(&report, "/storm/cut"), number(&report, "/storm/recovered")), (30.0, 30.0), "{driver}");
    });
    std::fs::remove_file(path).unwrap();
}
