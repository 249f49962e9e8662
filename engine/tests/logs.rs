//! The log: what is said about connections and refusals, in which words, and what never stands in it.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use engine::config::{Config, Driver, LogFormat, LogLevel, Preset};
use nix::sys::signal::Signal;
use support::http::{ask, ask_upgrade};
use support::process::Process;
use support::raw::{CLOSE, RawClient, TEXT, close_payload};
use support::{config, eventually, for_each_setup};

/// One connection, opened, used and closed. Returns its own address.
fn visit(address: SocketAddr, path: &str, payload: &str) -> SocketAddr {
    let mut client = RawClient::connect(address, path);
    client.send(TEXT, payload.as_bytes()).unwrap();
    assert_eq!(client.read_frame().payload, payload.as_bytes());
    client.send(CLOSE, &close_payload(1000)).unwrap();
    while client.read().unwrap().is_some() {}
    client.stream.local_addr().unwrap()
}

/// Stops a server and returns all that it has logged.
fn log_of(mut process: Process) -> Vec<String> {
    eventually("nobody is left", || process.metric("websocket_connections") == 0.0);
    process.signal(Signal::SIGTERM);
    let (status, log) = process.wait_with_log();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    log
}

fn at_level(level: LogLevel, mut config: Config) -> Config {
    config.log.level = level;
    config
}

#[test]
fn connects_and_disconnects_are_told_at_debug() {
    for_each_setup(|driver, shards| {
        let process = Process::start("logs-debug", &at_level(LogLevel::Debug, config(driver, shards)));
        let client = visit(process.address, "/echo", "hello");
        let log = log_of(process);
        for expected in [format!("WebSocket connected: {client}"), format!("WebSocket disconnected: {client}")] {
            let line = log.iter().find(|line| line.contains(&expected)).unwrap_or_else(|| panic!("{log:#?}"));
            assert!(line.contains(" DEBUG "), "{line}");
        }
        let process = Process::start("logs-info", &at_level(LogLevel::Info, config(driver, shards)));
        visit(process.address, "/echo", "hello");
        let log = log_of(process);
        assert!(!log.iter().any(|line| line.contains("connected: ")), "{log:#?}");
    });
}

#[test]
fn the_echo_preset_tells_them_at_info_in_the_words_that_its_users_look_for() {
    let mut config = Preset::Echo.config();
    config.server.host = "127.0.0.1".to_owned();
    (config.server.port, config.metrics.port) = (0, 0);
    let process = Process::start("logs-echo", &config);
    let client = visit(process.address, "/ws", "hello");
    let log = log_of(process);
    for words in ["connected", "disconnected"] {
        let expected = format!("INFO WebSocket {words}: {client}");
        assert!(log.iter().any(|line| line.contains(&expected)), "no {expected:?} in {log:#?}");
    }
}

#[test]
fn a_close_that_was_asked_for_is_no_fault() {
    for_each_setup(|driver, shards| {
        let process = Process::start("logs-asked", &config(driver, shards));
        for (target, code) in [("/echo?close_after=1", 1000), ("/echo?close_after=1&code=1011", 1011)] {
            let mut client = RawClient::connect(process.address, target);
            client.send(TEXT, b"x").unwrap();
            assert_eq!(client.read_frame().payload, b"x");
            assert_eq!(client.read_frame().close_code(), code);
            client.send(CLOSE, &close_payload(code)).unwrap();
            while client.read().unwrap().is_some() {}
        }
        let log = log_of(process);
        assert!(!log.iter().any(|line| line.contains(" WARN closed ")), "{log:#?}");
    });
}

#[test]
fn payloads_are_never_logged_whatever_the_level() {
    const SECRET: &str = "correct horse battery staple";
    for_each_setup(|driver, shards| {
        let process = Process::start("logs-payload", &at_level(LogLevel::Trace, config(driver, shards)));
        for path in ["/echo", "/rooms/a", "/echo?headers=0"] {
            visit(process.address, path, SECRET);
        }
        let mut broken = RawClient::connect(process.address, "/echo");
        broken.send(0x83, SECRET.as_bytes()).unwrap();
        while broken.read().unwrap().is_some() {}
        drop(broken);
        let body = format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{SECRET}", SECRET.len());
        assert_eq!(ask(process.address, body).status, 405);
        let log = log_of(process);
        assert!(log.len() > 8, "{log:#?}");
        assert!(!log.iter().any(|line| line.contains("horse")), "{log:#?}");
    });
}

#[test]
fn nothing_that_clients_send_reaches_the_log_as_a_control_character() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let mut config = at_level(LogLevel::Trace, config(Driver::Auto, 1));
        config.log.format = format;
        let process = Process::start("logs-control", &config);
        let escape = "%1b%5b31m%0a%0dforged";
        let raw = "\u{1b}[31m\u{85}\u{202e}forged";
        for target in [&format!("/{escape}"), &format!("/rooms/{escape}%ff"), &format!("/echo?delay_ms={escape}")] {
            assert!(matches!(ask_upgrade(process.address, target, "").status, 400 | 404), "{target}");
        }
        visit(process.address, &format!("/rooms/{escape}"), "x");
        ask_upgrade(process.address, "/echo", &format!("Origin: {raw}\r\n"));
        ask(process.address, raw);
        ask(process.address, format!("GET /{raw} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let log = log_of(process);
        let obeyed = |c: char| c.is_control() || c == '\u{202e}';
        let bad: Vec<_> = log.iter().filter(|line| line.chars().any(obeyed) || line.starts_with("forged")).collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert!(log.iter().any(|line| line.contains("refused ")), "{log:#?}");
    }
}

#[test]
fn refusals_are_told_with_their_reason_a_few_per_second_and_the_rest_as_a_number() {
    const REFUSALS: usize = 300;
    for_each_setup(|driver, shards| {
        let process = Process::start("logs-flood", &config(driver, shards));
        for _ in 0..REFUSALS {
            assert_eq!(ask_upgrade(process.address, "/nowhere", "").status, 404);
        }
        let log = log_of(process);
        let told = log.iter().filter(|line| line.contains("refused 127.0.0.1 (path): no such path")).count();
        let summed = log.iter().filter_map(|line| {
            let number = line.split_once("refused connections: ")?.1.split_once(" more like this were not logged")?.0;
            number.parse::<usize>().ok()
        });
        assert_eq!(told + summed.sum::<usize>(), REFUSALS, "{log:#?}");
        assert!((1..REFUSALS / 2).contains(&told), "{told} lines");
    });
}

#[test]
fn each_line_has_a_timestamp_and_in_json_is_an_object() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let mut config = at_level(LogLevel::Debug, config(Driver::Auto, 1));
        config.log.format = format;
        let process = Process::start("logs-format", &config);
        visit(process.address, "/echo", "hello");
        for line in log_of(process) {
            let timestamp = match format {
                LogFormat::Text => line.split(' ').next().unwrap().to_owned(),
                LogFormat::Json => {
                    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
                    assert!(object["level"].is_string() && object["message"].is_string(), "{line}");
                    object["timestamp"].as_str().unwrap().to_owned()
                }
            };
            assert!(timestamp.len() > 20 && timestamp.contains('T') && timestamp.ends_with('Z'), "{line}");
        }
    }
}

#[test]
fn the_number_of_connections_is_told_every_half_minute() {
    let mut process = Process::start("logs-active", &config(Driver::Auto, 1));
    let _clients = [(); 3].map(|()| RawClient::connect(process.address, "/rooms/a"));
    assert_eq!(process.wait_for_line_within("Active connections: ", Duration::from_secs(40)), "3");
}
