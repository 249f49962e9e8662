//! Bad input and bad ends: a clear message, the right exit code, and what was measured is kept.

mod common;

use std::net::TcpListener;

use common::{Peer, Running, number, run, signal};

const SHORT: [&str; 4] = ["--warmup", "0s", "--duration", "400ms"];

#[test]
fn wrong_usage_is_exit_2_with_a_message() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    for (args, said) in [
        (&["--url", &url, "--size", "31"][..], "32"),
        (&["--url", &url, "--rate", "5", "--outstanding", "1"], "--outstanding"),
        (&["--url", &url, "--rate", "0"], "above 0"),
        (&["--url", &url, "--duration", "0s"], "--duration"),
        (&["--url", &url, "--duration", "5"], "unit"),
        (&["--url", &url, "--slo", "p98<1s"], "p98"),
        (&["--url", "http://localhost/"], "scheme"),
        (&["--url", &url, "--header", "oops"], "Name: value"),
        (&["--url", &url, "--server-pid", "4294967295"], "--server-pid"),
        (&["--url", &url, "--subscribers", "900000"], "open files"),
        (&["--url", &url, "--nonsense"], "--nonsense"),
    ] {
        let (code, _, errors) = run(&[&["run"], args].concat());
        assert!(code == 2 && errors.contains(said), "{args:?}: {code} {errors}");
    }
}

#[test]
fn an_slo_that_does_not_hold_is_exit_1_and_one_that_does_is_exit_0() {
    let peer = Peer::start("echo", &["--drop-one-in", "10"]);
    let url = peer.url("/");
    let (code, report, _) = run(&[
        &["echo", "--url", &url, "--rate", "500", "--slo", "reach>=1,p50<60s"],
        &SHORT[..],
        &["--drain", "200ms"],
    ]
    .concat());
    assert_eq!((code, &report["slo"]["held"]), (1, &false.into()));
    let (code, report, _) = run(&[
        &["echo", "--url", &url, "--rate", "500", "--slo", "reach>0.5,p50<60s"],
        &SHORT[..],
        &["--drain", "200ms"],
    ]
    .concat());
    assert_eq!((code, &report["slo"]["held"]), (0, &true.into()));
}

#[test]
fn nobody_there_and_a_refused_upgrade_are_exit_4_with_the_reason() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, report, errors) = run(&[&["run", "--url", &format!("ws://{free}/")], &SHORT[..]].concat());
    assert!(code == 4 && errors.contains("refused"), "{code} {errors}");
    assert_eq!(number(&report, "/connections/opened"), 0.0);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = [0; 1024];
            if stream.read(&mut request).unwrap() == 0 {
                break;
            }
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\norigin").unwrap();
        }
    });
    let (code, _, errors) =
        run(&[&["run", "--url", &format!("ws://{address}/"), "--subscribers", "1"], &SHORT[..]].concat());
    assert!(code == 4 && errors.contains("403 Forbidden"), "{code} {errors}");
    drop(std::net::TcpStream::connect(address).unwrap());
    server.join().unwrap();
}

#[test]
fn a_server_that_dies_in_mid_run_is_exit_4_and_keeps_what_was_measured() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    let mut running = Running::start(&["run", "--url", &url, "--rate", "500", "--warmup", "0s", "--duration", "30s"]);
    running.wait_for_second(1);
    signal(peer.pid(), "KILL");
    let (code, report, errors) = running.finish();
    assert!(code == 4 && errors.contains("ended before the run did"), "{code} {errors}");
    assert!(number(&report, "/received") > 10_000.0 && number(&report, "/connections/ended") == 101.0);
}

#[test]
fn a_signal_ends_the_run_and_keeps_what_was_measured() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    let mut running = Running::start(&["run", "--url", &url, "--rate", "500", "--warmup", "0s", "--duration", "30s"]);
    running.wait_for_second(1);
    signal(running.pid(), "INT");
    let (code, report, errors) = running.finish();
    assert!(code == 4 && errors.contains("stopped by a signal"), "{code} {errors}");
    assert!(number(&report, "/received") > 1000.0);
    // What was not to be sent yet is not missed, and the time that did not come was not busy.
    let [scheduled, sent] = ["/scheduled", "/sent"].map(|key| number(&report, key));
    assert!(sent >= scheduled * 0.9 && scheduled < 5000.0, "{sent} of {scheduled}");
    assert!(number(&report, "/generator/busy_share_max") < 0.9, "{:#}", report["generator"]);
}

#[test]
fn a_report_that_cannot_be_written_is_exit_4() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    let output = common::loadgen()
        .args([&["run", "--url", &url, "--quiet", "--json", "/dev/full"], &SHORT[..]].concat())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(4) && errors.contains("/dev/full"), "{errors}");
    // The table is there all the same.
    assert!(String::from_utf8_lossy(&output.stdout).contains("verdict"));
}
