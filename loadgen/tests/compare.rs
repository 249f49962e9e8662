//! What is made of several runs: `merge`, `diff` and `ab`, on reports of real runs.

mod common;

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use common::{Peer, loadgen, number, run};
use serde_json::Value;

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("loadgen-{}-{name}", std::process::id()))
}

fn measured(peer: &Peer, path: &str, name: &str) -> (PathBuf, Value) {
    let url = peer.url(path);
    let shape = ["--subscribers", "8", "--rate", "300", "--warmup", "0s", "--duration", "1s"];
    let pid = peer.pid().to_string();
    let (_, report, errors) = run(&[&["run", "--url", &url, "--server-pid", &pid], &shape[..]].concat());
    assert!(report.is_object(), "{errors}");
    let file = temporary(name);
    std::fs::write(&file, report.to_string()).unwrap();
    (file, report)
}

fn output(args: &[&str]) -> (Option<i32>, String, String) {
    let output = loadgen().args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn merged_reports_add_up() {
    let peer = Peer::start("fanout", &[]);
    let (a, first) = measured(&peer, "/a", "merge-a.json");
    let (b, second) = measured(&peer, "/b", "merge-b.json");
    let (code, text, errors) = output(&["merge", str(&a), str(&b), "--json", "-"]);
    assert!(code == Some(0) || code == Some(3), "{errors}");
    let whole: Value = serde_json::from_str(&text).unwrap();
    for key in ["/sent", "/expected", "/received", "/connections/opened", "/latency_us/completion/count"] {
        assert_eq!(number(&whole, key), number(&first, key) + number(&second, key), "{key}");
    }
    let max = |report: &Value| number(report, "/latency_us/response/max");
    assert_eq!((max(&whole), number(&whole, "/reach")), (max(&first).max(max(&second)), 1.0));
    std::fs::write(&b, "{}").unwrap();
    let (code, _, errors) = output(&["merge", str(&a), str(&b)]);
    assert!(code == Some(2) && errors.contains("no report"), "{errors}");
    [a, b].iter().for_each(|file| std::fs::remove_file(file).unwrap());
}

#[test]
fn a_worse_report_is_exit_1_and_an_equal_one_exit_0() {
    let peer = Peer::start("fanout", &[]);
    let (a, mut report) = measured(&peer, "/", "diff-a.json");
    report["verdict"] = "VALID".into();
    std::fs::write(&a, report.to_string()).unwrap();
    let (code, text, errors) = output(&["diff", str(&a), str(&a)]);
    assert!(code == Some(0) && text.contains("reach"), "{text} {errors}");
    let cost = number(&report, "/server/cpu_us_per_delivery");
    report["server"]["cpu_us_per_delivery"] = (cost * 1.08).into();
    let (b, markdown) = (temporary("diff-b.json"), temporary("diff.md"));
    std::fs::write(&b, report.to_string()).unwrap();
    let (code, text, _) = output(&["diff", str(&a), str(&b), "--markdown", str(&markdown)]);
    assert!(code == Some(1) && text.contains("worse: cpu_us_per_delivery>+5%") && text.contains("+8.0 %"), "{text}");
    assert!(std::fs::read_to_string(&markdown).unwrap().contains("| cpu_us_per_delivery |"));
    let (code, ..) = output(&["diff", str(&a), str(&b), "--fail-on", "cpu_us_per_delivery>+10%"]);
    assert_eq!(code, Some(0));
    report["verdict"] = "INVALID".into();
    std::fs::write(&b, report.to_string()).unwrap();
    assert_eq!(output(&["diff", str(&a), str(&b)]).0, Some(3));
    [a, b, markdown].iter().for_each(|file| std::fs::remove_file(file).unwrap());
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
    let (code, _, errors) = output(&["ab", "--a", "exit 7", "--b", &plain, "--url", &url]);
    assert!(code == Some(4) && errors.contains("instead of listening"), "{errors}");
    let (code, _, errors) = output(&["ab", "--a", "x", "--b", "y", "--url", &url, "--pairs", "3"]);
    assert!(code == Some(2) && errors.contains("at least 7 pairs"), "{errors}");
}
