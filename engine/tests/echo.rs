//! The echo endpoint's options for testers.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::io::Write as _;
use std::time::{Duration, Instant};

use support::raw::{BINARY, Frame, RawClient, TEXT, masked_frame};
use support::{config, dial, for_each_setup, http, start};

#[test]
fn messages_come_back_as_they_were_sent() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        let mut client = RawClient::connect(server.address(), "/echo");
        for size in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
            for first in [TEXT, BINARY] {
                let payload = vec![if first == TEXT { b'x' } else { 0xFE }; size];
                client.send(first, &payload).unwrap();
                assert!(client.read_frame() == Frame { first, payload }, "{size} bytes");
            }
        }
    });
}

#[test]
fn delayed_messages_come_back_in_order_and_not_too_early() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        let mut client = RawClient::connect(server.address(), "/echo?delay_ms=300");
        let began = Instant::now();
        for i in 0..50_u8 {
            client.send(BINARY, &[i]).unwrap();
        }
        for i in 0..50_u8 {
            assert_eq!(client.read_frame().payload, [i]);
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    });
}

#[test]
fn it_closes_after_so_many_echoes_with_the_code_asked_for() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        for (query, echoes, code) in [
            ("close_after=3", 3, 1000),
            ("close_after=1&code=4999", 1, 4999),
            ("code=1011&close_after=2", 2, 1011),
            ("close_after=2&delay_ms=20", 2, 1000),
        ] {
            let mut client = RawClient::connect(server.address(), &format!("/echo?{query}"));
            let five: Vec<u8> = (0..5).flat_map(|i| masked_frame(BINARY, &[i])).collect();
            client.stream.write_all(&five).unwrap();
            for i in 0..echoes {
                assert_eq!(client.read_frame().payload, [i], "{query}");
            }
            assert_eq!(client.read_frame().close_code(), code, "{query}");
        }
    });
}

#[test]
fn a_code_without_close_after_changes_nothing() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        let mut client = RawClient::connect(server.address(), "/echo?code=4000");
        for _ in 0..3 {
            client.send(TEXT, b"on").unwrap();
            assert_eq!(client.read_frame().payload, b"on");
        }
    });
}

#[test]
fn the_headers_of_the_request_are_the_first_message_if_asked_for() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        let mut stream = dial(server.address());
        let headers = "X-Trace: a\r\nx-trace: b\r\nX-Quoted: say \"hi\"\\\r\nX-Latin: \u{e9}\r\n";
        let message = masked_frame(TEXT, b"then this");
        let request = http::upgrade_request("/echo?headers=1", headers);
        stream.write_all(&[request.as_bytes(), &message].concat()).unwrap();
        let mut client = RawClient::upgraded(stream);
        let first = client.read_frame();
        assert_eq!(first.first, TEXT);
        let object: serde_json::Value = serde_json::from_slice(&first.payload).unwrap();
        for (name, value) in [
            ("host", "localhost"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("x-trace", "a, b"),
            ("x-quoted", "say \"hi\"\\"),
            ("x-latin", "é"),
        ] {
            assert_eq!(object[name], value);
        }
        assert_eq!(object.as_object().unwrap().len(), 8, "{object}");
        assert_eq!(client.read_frame().payload, b"then this");
    });
}

#[test]
fn bad_values_are_refused_with_the_reason() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        for query in [
            "delay_ms=60001",
            "delay_ms=-1",
            "delay_ms=%2B1",
            "delay_ms=",
            "delay_ms=1s",
            "delay_ms=99999999999999999999",
            "close_after=0",
            "close_after=x",
            "close_after=1&code=999",
            "close_after=1&code=1005",
            "close_after=1&code=1006",
            "close_after=1&code=1015",
            "close_after=1&code=2000",
            "close_after=1&code=5000",
            "code=",
            "headers=2",
            "headers=yes",
        ] {
            let answer = http::ask_upgrade(server.address(), &format!("/echo?{query}"), "");
            assert_eq!(answer.status, 400, "{query}");
            let name = query.rsplit('&').next().unwrap().split('=').next().unwrap();
            assert!(answer.body.contains(name), "{query}: {:?}", answer.body);
        }
        for query in ["", "delay_ms=0", "delay_ms=60000", "headers=0", "unknown=1", "close_after=1&code=1000"] {
            assert_eq!(http::ask_upgrade(server.address(), &format!("/echo?{query}"), "").status, 101, "{query}");
        }
    });
}
