//! `ab` on real servers of known cost.

mod common;

use std::net::TcpListener;
use std::path::Path;

use common::{number, output, temporary};
use serde_json::Value;

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn ab_finds_extra_work_per_delivery_and_shows_every_pair() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("ws://{address}/");
    let plain = format!("{} peer fanout --listen {address}", env!("CARGO_BIN_EXE_loadgen"));
    let slow = format!("{plain} --work-ns 100000");
    let file = temporary("ab.json");
    let shape = ["--pairs", "7", "--subscribers", "20", "--rate", "50", "--warmup", "100ms", "--duration", "500ms"];
    let servers = ["ab", "--a", &plain, "--b", &slow, "--url", &url, "--quiet", "--json", str(&file)];
    let (code, text, errors) = output(&[&servers[..], &shape].concat());
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    // On a busy machine the verdict may be invalid; what was measured is the same.
    assert!(code == Some(1) || code == Some(3), "{code:?} {errors}");
    assert!(text.contains("worse") && report["outcome"] == "worse", "{text}");
    assert!(number(&report, "/estimate/low") > 1.5 && report["pairs"].as_array().unwrap().len() == 7, "{text}");
    std::fs::remove_file(file).unwrap();
    let (code, _, errors) = output(&[&["ab", "--a", "exit 7", "--b", &plain, "--url", &url], &shape[..]].concat());
    assert!(code == Some(4) && errors.contains("instead of listening"), "{errors}");
    let (code, _, errors) = output(&["ab", "--a", "x", "--b", "y", "--url", &url, "--pairs", "3"]);
    assert!(code == Some(2) && errors.contains("at least 7 pairs"), "{errors}");
}

#[test]
fn side_by_side_ab_finds_less_extra_work_and_says_what_it_cannot_do() {
    let plain = format!("{} peer fanout --listen 127.0.0.1:{{port}}", env!("CARGO_BIN_EXE_loadgen"));
    let slow = format!("{plain} --work-ns 20000");
    let (url, file) = ("ws://127.0.0.1:{port}/", temporary("side.json"));
    let shape = ["--subscribers", "20", "--rate", "400", "--warmup", "40ms", "--duration", "240ms"];
    let ab = |a: &str, b: &str, more: &[&str]| {
        output(&[&["ab", "--a", a, "--b", b, "--url", url, "--quiet", "--json", str(&file)], &shape[..], more].concat())
    };
    let (code, text, errors) = ab(&plain, &slow, &["--canary", "--pairs", "7"]);
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    // On a busy machine the verdict may be invalid, or A differ from itself; what was measured is the same.
    assert!(code == Some(1) || code == Some(3), "{code:?} {errors}");
    assert!(number(&report, "/estimate/low") > 1.1 && text.contains("side by side, 20 ms at a time"), "{text}");
    let pairs = report["pairs"].as_array().unwrap();
    assert!(pairs.len() == 7 && pairs.iter().all(|pair| number(pair, "/a") > 0.0 && number(pair, "/canary") > 0.0));
    assert_eq!(number(&report, "/slice_ms"), 20.0);
    // Other figures are those of each side's own slices: nothing is lost between them.
    let (_, _, errors) = ab(&plain, &slow, &["--fail-on", "reach<-1%", "--pairs", "2", "--confidence", "0.5"]);
    assert!(errors.contains("A 1.0000  B 1.0000"), "{errors}");
    for (a, more, why) in [
        ("sleep 9", &[][..], "has none: where is it to listen"),
        (&plain, &["--outstanding", "4", "--duration", "1s"], "need an open loop"),
        (&plain, &["--slice", "1ms"], "--slice must be at least 5 ms"),
        (&plain, &["--duration", "1h"], "may be 40 s at most"),
    ] {
        let more = [&["--subscribers", "2"], more].concat();
        let (code, _, errors) = output(&[&["ab", "--a", a, "--b", &slow, "--url", url, "--quiet"], &more[..]].concat());
        assert!(code == Some(2) && errors.contains(why), "{code:?} {errors}");
    }
    let (code, _, errors) = ab("exit 7 # {port}", &plain, &[]);
    assert!(code == Some(4) && errors.contains("instead of listening"), "{errors}");
}
