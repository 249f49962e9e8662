//! What a run shows while it goes on: the line per second, on a terminal and elsewhere, and the page for Prometheus.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use common::{Peer, Running, at_once, loadgen, number};
use nix::pty::{Winsize, openpty};

const SHAPE: [&str; 6] = ["--subscribers", "5", "--rate", "100", "--warmup", "0s"];

/// Runs with a terminal of so many columns as stderr and returns what was written to it.
fn on_terminal(url: &str, columns: u16, environment: &[(&str, &str)]) -> String {
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).unwrap();
    let mut command = loadgen();
    command.args([&["run", "--url", url, "--duration", "2s"], &SHAPE[..]].concat());
    command.env("TERM", "xterm").env_remove("NO_COLOR").envs(environment.iter().copied());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::from(terminal.slave)).spawn().unwrap();
    // Our own handles of the terminal's other side are gone with the command, so that reading ends when the child does.
    drop(command);
    let (mut screen, mut bytes) = (File::from(terminal.master), [0; 4096]);
    let mut written = Vec::new();
    while let Ok(count @ 1..) = screen.read(&mut bytes) {
        written.extend_from_slice(&bytes[..count]);
    }
    child.wait().unwrap();
    String::from_utf8(written).unwrap()
}

#[test]
fn on_a_terminal_one_line_is_rewritten_within_its_width() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    at_once(&[100, 30], |&columns| {
        let written = on_terminal(&url, columns, &[]);
        let lines: Vec<&str> = written.split('\r').filter(|line| !line.is_empty()).collect();
        assert!(lines.len() >= 3 && !written.contains('\n'), "{written:?}");
        let texts: Vec<&str> = lines.iter().map(|line| line.strip_suffix("\u{1b}[K").unwrap()).collect();
        assert!(texts.iter().all(|text| text.len() < usize::from(columns) && !text.contains('\u{1b}')), "{written:?}");
        // In the end the line is empty again.
        assert_eq!(*texts.last().unwrap(), "", "{written:?}");
        assert!(texts[0].starts_with("measuring ") && texts[0].contains("1 s"), "{written:?}");
        assert_eq!(texts[0].contains("[====="), columns == 100, "{written:?}");
    });
}

#[test]
fn without_colour_or_a_clever_terminal_lines_are_plain() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    at_once(&[("NO_COLOR", "1"), ("TERM", "dumb")], |&environment| {
        let written = on_terminal(&url, 100, &[environment]);
        assert!(!written.contains('\u{1b}') && written.starts_with("   1 s  sent"), "{environment:?}: {written:?}");
        assert!(written.lines().count() >= 2, "{written:?}");
    });
    let (_, _, piped) = common::run(&[&["run", "--url", &url, "--duration", "1s"], &SHAPE[..]].concat());
    assert!(!piped.contains('\u{1b}') && piped.starts_with("   1 s  sent"), "{piped:?}");
}

/// The page's samples, `name{labels} value`.
fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: loadgen\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("text/plain; version=0.0.4"), "{head}");
    page.to_owned()
}

fn sample(page: &str, name: &str) -> f64 {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

#[test]
fn prometheus_sees_the_run_while_it_goes_on() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    let command = ["run", "--url", &url, "--duration", "4s", "--metrics-listen", "127.0.0.1:0"];
    let mut running = Running::start(&[&command, &SHAPE[..]].concat());
    let said = running.wait_for_line("Metrics on http://");
    let address = said.trim().strip_suffix("/metrics").unwrap();
    running.wait_for_second(2);
    let page = scrape(address);
    running.wait_for_second(3);
    let later = scrape(address);
    for (name, value) in [
        ("loadgen_connections", 6.0),
        ("loadgen_connections_failed_total", 0.0),
        ("loadgen_phase{phase=\"measuring\"}", 1.0),
    ] {
        assert_eq!(sample(&page, name), value, "{name}");
    }
    let verdicts =
        ["VALID", "DEGRADED", "INVALID"].map(|v| sample(&page, &format!("loadgen_verdict{{verdict=\"{v}\"}}")));
    assert_eq!(verdicts.iter().sum::<f64>(), 1.0, "{page}");
    assert!((60.0..140.0).contains(&sample(&page, "loadgen_sent_per_second")), "{page}");
    assert!(sample(&page, "loadgen_response_seconds{quantile=\"0.99\"}") > 0.0);
    let grew = |name: &str| sample(&later, name) > sample(&page, name);
    assert!(grew("loadgen_messages_sent_total") && grew("loadgen_deliveries_total") && grew("loadgen_elapsed_seconds"));
    let (_, report, errors) = running.finish();
    assert_eq!(number(&report, "/received"), 2000.0, "{errors}");
    assert!(sample(&later, "loadgen_response_seconds_count") <= 2000.0);
}

#[test]
fn a_port_that_is_taken_is_exit_4() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, errors) = common::run(&["run", "--url", "ws://127.0.0.1:1/", "--metrics-listen", &address]);
    assert!(code == 4 && errors.contains(&format!("cannot listen on {address}")), "{code} {errors}");
}
