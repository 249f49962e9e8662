//! What is made of several reports: `merge` and `diff`.

mod common;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use common::{Peer, loadgen, number, output, run, temporary};
use serde_json::Value;

fn measured(peer: &Peer, path: &str, name: &str) -> (PathBuf, Value) {
    let url = peer.url(path);
    let shape = ["--subscribers", "8", "--rate", "600", "--warmup", "0s", "--duration", "500ms"];
    let pid = peer.pid().to_string();
    let (_, report, errors) = run(&[&["run", "--url", &url, "--server-pid", &pid], &shape[..]].concat());
    assert!(report.is_object(), "{errors}");
    (write(name, &report), report)
}

fn write(name: &str, report: &Value) -> PathBuf {
    let file = temporary(name);
    std::fs::write(&file, report.to_string()).unwrap();
    file
}

/// The report of a run that was worth something, whatever this machine did meanwhile.
fn valid(peer: &Peer, name: &str) -> (PathBuf, Value) {
    let (_, mut report) = measured(peer, "/", name);
    report["verdict"] = "VALID".into();
    (write(name, &report), report)
}

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn merged_reports_add_up() {
    let peer = Peer::start("fanout", &[]);
    let (a, first) = measured(&peer, "/a", "merge-a.json");
    let (b, mut second) = measured(&peer, "/b", "merge-b.json");
    // Two runs that far from each other are no run at the same time.
    second["env"]["started_at"] = (number(&first, "/env/started_at") + 2.0).into();
    write("merge-b.json", &second);
    let (code, text, errors) = output(&["merge", str(&a), str(&b), "--json", "-"]);
    assert!(code == Some(0) || code == Some(3), "{errors}");
    let whole: Value = serde_json::from_str(&text).unwrap();
    for key in ["/sent", "/expected", "/received", "/connections/opened", "/latency_us/completion/count"] {
        assert_eq!(number(&whole, key), number(&first, key) + number(&second, key), "{key}");
    }
    let max = |report: &Value| number(report, "/latency_us/response/max");
    assert_eq!((max(&whole), number(&whole, "/reach")), (max(&first).max(max(&second)), 1.0));
    let reasons = whole["reasons"].to_string();
    assert!(whole["verdict"] != "VALID" && reasons.contains("2.0 s apart (--start-at"), "{reasons}");
    let cores = number(&first, "/generator/cpu_share") + number(&second, "/generator/cpu_share");
    let received_per_s =
        number(&whole, "/deliveries_per_s") + number(&whole, "/heard") / number(&whole, "/env/measured_seconds");
    let cost_us = number(&whole, "/generator/cpu_us_per_received");
    assert!((cost_us * received_per_s / 1e6 / cores - 1.0).abs() < 0.01, "{cost_us}");
    assert_eq!(whole["connections"]["ramp"].as_array().unwrap().last().unwrap()[1], 18);
    std::fs::write(&b, "{}").unwrap();
    let (code, _, errors) = output(&["merge", str(&a), str(&b)]);
    assert!(code == Some(2) && errors.contains("no report"), "{errors}");
    [a, b].iter().for_each(|file| std::fs::remove_file(file).unwrap());
}

#[test]
fn a_part_that_failed_or_is_invalid_spoils_the_whole() {
    let peer = Peer::start("fanout", &[]);
    let (a, report) = valid(&peer, "part-a.json");
    let page = temporary("part.html");
    let merge = |b: &Path| output(&["merge", str(&a), str(b), "--html", str(&page)]);
    let (code, text, errors) = merge(&a);
    assert!(code == Some(0) && text.contains("deliveries"), "{text} {errors}");
    assert!(std::fs::read_to_string(&page).unwrap().contains("<svg"));
    let with = |key: &str, value: &str| {
        let mut part = report.clone();
        part[key] = value.into();
        write("part-b.json", &part)
    };
    let (code, text, errors) = merge(&with("failure", "stopped by a signal"));
    assert!(
        code == Some(4) && errors.contains("stopped by a signal") && text.contains("deliveries"),
        "{text} {errors}"
    );
    let b = with("verdict", "INVALID");
    let (code, text, _) = merge(&b);
    assert!(code == Some(3) && text.contains("no figures are shown") && !text.contains("deliveries"), "{text}");
    let shown = std::fs::read_to_string(&page).unwrap();
    assert!(shown.contains("INVALID") && !shown.contains("<svg"), "{shown}");
    [a, b, page].iter().for_each(|file| std::fs::remove_file(file).unwrap());
}

#[test]
fn an_slo_is_judged_by_the_whole_of_runs_that_began_together() {
    let peer = Peer::start("fanout", &[]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let start_at = format!("{:.2}", now + 1.5);
    let run_at = |path: &str, slo: &str, file: &Path| {
        let mut command = loadgen();
        command.args(["run", "--url", &peer.url(path), "--subscribers", "8", "--rate", "100", "--warmup", "0s"]);
        command.args(["--duration", "1s", "--quiet", "--start-at", &start_at, "--slo", slo, "--json", str(file)]);
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let (a, b) = (temporary("slo-a.json"), temporary("slo-b.json"));
    // The first says what cannot hold for itself, and does for both: 100 messages/s make 800 deliveries/s.
    let both = [run_at("/a", "deliveries_per_s>1200", &a), run_at("/b", "deliveries_per_s>1200,lost<1", &b)];
    let codes = both.map(|mut child| child.wait().unwrap().code());
    assert!(codes.iter().all(|code| matches!(code, Some(1 | 3))), "{codes:?}");
    let (_, text, errors) = output(&["merge", str(&a), str(&b), "--json", "-"]);
    let whole: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {errors}"));
    let clauses: Vec<_> = whole["slo"]["clauses"].as_array().unwrap().iter().map(|c| c["clause"].clone()).collect();
    assert_eq!((&whole["slo"]["held"], clauses), (&true.into(), vec!["deliveries_per_s>1200".into(), "lost<1".into()]));
    assert!(!whole["reasons"].to_string().contains("apart"), "{:#}", whole["reasons"]);
    [a, b].iter().for_each(|file| std::fs::remove_file(file).unwrap());
}

#[test]
fn a_worse_report_is_exit_1_an_equal_one_exit_0_and_one_that_says_nothing_exit_3() {
    let peer = Peer::start("fanout", &[]);
    let (a, mut report) = valid(&peer, "diff-a.json");
    let (code, text, errors) = output(&["diff", str(&a), str(&a)]);
    assert!(code == Some(0) && text.contains("reach"), "{text} {errors}");
    let cost = number(&report, "/server/cpu_us_per_delivery");
    report["server"]["cpu_us_per_delivery"] = (cost * 1.08).into();
    let (b, markdown) = (write("diff-b.json", &report), temporary("diff.md"));
    let diff = |more: &[&str]| output(&[&["diff", str(&a), str(&b), "--markdown", str(&markdown)], more].concat());
    let (code, text, _) = diff(&[]);
    assert!(code == Some(1) && text.contains("worse: cpu_us_per_delivery>+5%") && text.contains("+8.0 %"), "{text}");
    assert!(std::fs::read_to_string(&markdown).unwrap().contains("| cpu_us_per_delivery |"));
    assert_eq!(diff(&["--fail-on", "cpu_us_per_delivery>+10%"]).0, Some(0));
    let server = std::mem::take(&mut report["server"]);
    write("diff-b.json", &report);
    let (code, text, _) = diff(&["--fail-on", "cpu_us_per_delivery>+5%"]);
    assert!(code == Some(3) && text.contains("inconclusive: cpu_us_per_delivery>+5%: B has no such figure"), "{text}");
    report["server"] = server;
    for (key, value, said) in
        [("failure", "gone", "B was not done as asked: gone"), ("verdict", "INVALID", "B is INVALID")]
    {
        let mut spoilt = report.clone();
        spoilt[key] = value.into();
        write("diff-b.json", &spoilt);
        let (code, text, _) = diff(&[]);
        let commented = std::fs::read_to_string(&markdown).unwrap();
        assert_eq!(code, Some(3), "{text}");
        for shown in [text, commented] {
            assert!(shown.contains("inconclusive") && shown.contains(said) && !shown.contains("reach"), "{shown}");
        }
    }
    let help = output(&["diff", "--help"]).1;
    assert!(help.contains("[default: cpu_us_per_delivery>+5%,p99>+25%,reach<-0.1%]"), "{help}");
    [a, b, markdown].iter().for_each(|file| std::fs::remove_file(file).unwrap());
}
