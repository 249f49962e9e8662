//! `plan`: a server of known cost is measured, and a load that was not measured is foretold and then run.

mod common;

use std::net::TcpListener;

use common::{Peer, Running, number, output, run, signal, temporary};
use serde_json::Value;

/// CPU time that the server spends on each delivery, besides what sending takes.
const WORK_NS: &str = "20000";

#[test]
fn a_load_that_was_not_measured_takes_what_the_plan_says() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("ws://{address}/{{topic}}");
    let server = format!("{} peer fanout --listen {address} --work-ns {WORK_NS}", env!("CARGO_BIN_EXE_loadgen"));
    let file = temporary("costs.json");
    let costs = file.to_str().unwrap();
    let measure = ["plan", "--measure", "--server-command", &server, "--url", &url, "--json", costs, "--quiet"];
    let corner = ["--subscribers", "40", "--topics", "4", "--rate", "300", "--size", "2048"];
    let time = ["--rounds", "1", "--duration", "200ms", "--warmup", "50ms"];
    let (code, text, errors) = output(&[&measure[..], &corner, &time].concat());
    assert!(code == Some(0) && text.contains("us CPU per send") && text.contains("back-test"), "{text} {errors}");

    let load = ["--subscribers", "30", "--rate", "250", "--size", "700"];
    let (_, plan, errors) = output(&[&["plan", "--costs", costs, "--json", "-", "--cores", "1"], &load[..]].concat());
    let plan: Value = serde_json::from_str(&plan).unwrap_or_else(|e| panic!("{e}: {errors}"));
    let cores = ["estimate", "low", "high"].map(|key| number(&plan, &format!("/cpu_cores/{key}")));
    // 31 connections hear 250 messages/s: 7,750 deliveries at 20 us and what sending takes.
    assert!(cores[0] > 0.12 && cores[1] <= cores[0] && cores[0] <= cores[2], "{plan:#}");
    assert_eq!((number(&plan, "/cores"), number(&plan, "/deliveries_per_s")), (1.0, 7750.0));
    assert_eq!(plan["fits"], cores[2] <= 0.7, "{plan:#}");
    let (code, text, _) =
        output(&[&["plan", "--costs", costs, "--cores", "1", "--utilisation", "0.01"], &load[..]].concat());
    assert!(code == Some(1) && text.contains("1 DO NOT DO at 1 %"), "{text}");
    assert!(number(&plan, "/back_test_runs") >= 12.0 && number(&plan, "/back_test_error_median") < 0.5, "{plan:#}");

    let coming = [&["plan", "--costs", costs, "--connect-rate", "1000", "--json", "-"], &load[..]].concat();
    let coming: Value = serde_json::from_str(&output(&coming).1).unwrap();
    assert!(number(&coming, "/parts/connect") > 0.0 && number(&coming, "/cpu_cores/estimate") > cores[0], "{coming:#}");

    let peer = Peer::start("fanout", &["--work-ns", WORK_NS]);
    let (url, pid) = (peer.url("/"), peer.pid().to_string());
    let time = ["--warmup", "200ms", "--duration", "1s", "--server-pid", &pid];
    let (_, report, errors) = run(&[&["run", "--url", &url], &load[..], &time].concat());
    let measured = number(&report, "/server/cpu_share");
    let error = measured / cores[0] - 1.0;
    assert!(error.abs() < 0.35, "{measured} cores, planned {cores:?}: {errors}");

    for (beyond, said) in [
        (["--subscribers", "100", "--rate", "100"], "101 connections, measured were"),
        (["--subscribers", "30", "--rate", "900"], "900 messages per second, measured were"),
        (["--subscribers", "30", "--size", "5000"], "5000 bytes per message, measured were 64 to 2048"),
    ] {
        let (code, _, errors) = output(&[&["plan", "--costs", costs], &beyond[..]].concat());
        assert!(code == Some(2) && errors.contains("twice") && errors.contains(said), "{errors}");
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn what_was_measured_before_a_signal_is_kept() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("ws://{address}/");
    let server = format!("{} peer fanout --listen {address}", env!("CARGO_BIN_EXE_loadgen"));
    let load = ["--subscribers", "4", "--rate", "50", "--size", "64", "--duration", "100ms", "--warmup", "50ms"];
    let measure = ["plan", "--measure", "--server-command", &server, "--url", &url];
    let mut running = Running::start(&[&measure[..], &load].concat());
    running.wait_for_line("run  1 of ");
    signal(running.pid(), "INT");
    let (code, costs, errors) = running.finish();
    assert!(code == 4 && errors.contains("stopped by a signal"), "{code} {errors}");
    assert_eq!(costs["schema"], "ringrelay.loadgen.costs/1", "{costs:#}");
    assert!(!costs["observations"].as_array().unwrap().is_empty(), "{costs:#}");
}

#[test]
fn wrong_costs_and_servers_are_told() {
    let file = temporary("no-costs.json");
    let path = file.to_str().unwrap();
    for (content, said) in [
        ("{}", "no costs"),
        (r#"{"schema": "x", "server_command": "", "shards": 1, "observations": [], "env": ENV}"#, "schema"),
        (
            r#"{"schema": "ringrelay.loadgen.costs/1", "server_command": "", "shards": 1, "observations": [], "env": ENV}"#,
            "too few",
        ),
        (
            r#"{"schema": "ringrelay.loadgen.costs/1", "server_command": "", "shards": 0, "observations": [], "env": ENV}"#,
            "shards",
        ),
    ] {
        let env = r#"{"loadgen": "", "url": "", "command": [], "seed": 1, "measured_seconds": 1, "started_at": null, "kernel": "", "cpu": "", "cores_allowed": 1, "congestion_control": ""}"#;
        std::fs::write(&file, content.replace("ENV", env)).unwrap();
        let (code, _, errors) = output(&["plan", "--costs", path]);
        assert!(code == Some(2) && errors.contains(said), "{content}: {errors}");
    }
    std::fs::remove_file(&file).unwrap();
    for (args, code, said) in [
        (&["--costs", path][..], 2, "cannot read"),
        (&[], 2, "--measure"),
        (&["--measure"], 2, "--server-command"),
        (&["--measure", "--server-command", "exit 7"], 2, "--url"),
        (&["--measure", "--server-command", "exit 7", "--url", "ws://127.0.0.1:9/", "--topics", "2"], 2, "{topic}"),
        (&["--measure", "--server-command", "exit 7", "--url", "ws://127.0.0.1:9/"], 4, "instead of listening"),
        (&["--costs", path, "--html", "x"], 2, "--json only"),
    ] {
        let (found, _, errors) = output(&[&["plan"], args].concat());
        assert!(found == Some(code) && errors.contains(said), "{args:?}: {found:?} {errors}");
    }
}
