//! The opening handshake as HTTP: status codes, origins, subprotocols, the demo page.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::io::Write as _;

use engine::config::{EndpointConfig, Mode};
use engine::counters::Refused;
use support::http::{self, ask, ask_upgrade, upgrade_request};
use support::{config, config_with, dial, for_each_setup, start};

#[test]
fn requests_that_are_no_opening_handshake_get_the_status_that_says_why() {
    let long = format!("X-Long: {}\r\n", "a".repeat(16 << 10));
    let many: String = (0..101).map(|i| format!("X-{i}: a\r\n")).collect();
    let valid = upgrade_request("/echo", "");
    let at_page = upgrade_request("/", "");
    let without = |line: &str| valid.replace(line, "");
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        for (name, request, status) in [
            ("valid", valid.clone(), 101),
            ("no such path", upgrade_request("/nowhere", ""), 404),
            ("no path at all, plain", "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 404),
            ("plain", "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 426),
            ("without Upgrade", without("Upgrade: websocket\r\n"), 426),
            ("without Connection", without("Connection: Upgrade\r\n"), 426),
            ("to another protocol", valid.replace("websocket", "h2c"), 426),
            ("version 8", valid.replace("Version: 13", "Version: 8"), 426),
            ("without a version", without("Sec-WebSocket-Version: 13\r\n"), 426),
            ("without a key", without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), 400),
            ("short key", valid.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
            ("without Host", without("Host: localhost\r\n"), 400),
            ("without Host, plain", "GET /echo HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("without Host, to nowhere", "GET /nowhere HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("without Host in HTTP/1.0, which has none", "GET /echo HTTP/1.0\r\n\r\n".to_owned(), 426),
            ("at the page, without Upgrade", at_page.replace("Upgrade: websocket\r\n", ""), 426),
            ("at the page, without Connection", at_page.replace("Connection: Upgrade\r\n", ""), 426),
            ("HTTP/1.0", valid.replace("HTTP/1.1", "HTTP/1.0"), 400),
            ("POST", valid.replace("GET ", "POST "), 405),
            ("DELETE, plain", "DELETE /echo HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 405),
            ("POST to the page", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_owned(), 405),
            ("16 KiB of header", upgrade_request("/echo", &long), 431),
            ("101 header lines", upgrade_request("/echo", &many), 431),
            ("Firefox's Connection", valid.replace("Connection: Upgrade", "Connection: keep-alive, Upgrade"), 101),
            ("other case", valid.replace("Upgrade: websocket", "UPGRADE: WebSocket"), 101),
            ("absolute target", upgrade_request("ws://localhost/echo", ""), 101),
        ] {
            let answer = ask(server.address(), &request);
            assert_eq!(answer.status, status, "{name}: {}", answer.head);
            match status {
                405 => assert!(answer.header("Allow").is_some_and(|methods| methods.contains("GET")), "{name}"),
                426 => {
                    assert_eq!(answer.header("Sec-WebSocket-Version"), Some("13"), "{name}");
                    assert_eq!(answer.header("Upgrade"), Some("websocket"), "{name}");
                }
                _ => {}
            }
            if status != 101 {
                assert_eq!(answer.header("Content-Length"), Some(&*answer.body.len().to_string()), "{name}");
                assert!(answer.body.ends_with('\n') && answer.body.len() > 5, "{name} says why: {:?}", answer.body);
            }
        }
        let refused = |reason: Refused| server.counters().sum(|shard| &shard.refused[reason as usize]);
        assert_eq!([Refused::Path, Refused::Upgrade, Refused::Malformed].map(refused), [2, 9, 6]);
        assert_eq!([Refused::Method, Refused::TooLarge].map(refused), [3, 2]);
    });
}

#[test]
fn an_answer_arrives_although_the_client_goes_on_sending() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        let mut stream = dial(server.address());
        stream.write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").unwrap();
        stream.write_all(&[b'x'; 100_000]).unwrap();
        assert_eq!(http::read_answer(&mut stream).status, 405);
    });
}

#[test]
fn the_demo_page_is_served_at_the_root_unless_it_is_switched_off() {
    for_each_setup(|driver, shards| {
        let mut config = config(driver, shards);
        let server = start(&config);
        for target in ["/", "/?name=x"] {
            let page = ask(server.address(), format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
            assert!(page.body.starts_with("<!doctype html>") && page.body.trim_end().ends_with("</html>"));
            let head = ask(server.address(), format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!((head.status, head.body.as_str()), (200, ""));
            assert_eq!(head.header("Content-Length"), Some(&*page.body.len().to_string()));
        }
        let other_upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
        assert_eq!(ask(server.address(), other_upgrade).status, 200);
        assert_eq!(ask_upgrade(server.address(), "/", "").status, 101);

        config.server.demo_page = false;
        let server = start(&config);
        assert_eq!(ask(server.address(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n").status, 426);
        assert_eq!(ask_upgrade(server.address(), "/", "").status, 101);
    });
}

#[test]
fn pages_of_other_origins_are_refused_unless_allowed() {
    let origins = [("any", "*"), ("same", "same-origin"), ("exact", "https://example.org"), ("none", "null")];
    let origin = |value: &str| format!("Origin: {value}\r\n");
    for_each_setup(|driver, shards| {
        let mut config = config(driver, shards);
        config.endpoints = origins
            .map(|(name, allowed)| EndpointConfig {
                allowed_origins: vec!["https://first.example".to_owned(), allowed.to_owned()],
                ..EndpointConfig::new(&format!("/{name}"), Mode::Echo)
            })
            .to_vec();
        let server = start(&config);
        for (path, headers, status) in [
            ("/any", origin("https://evil.example"), 101),
            ("/any", origin("null"), 101),
            ("/same", String::new(), 101),
            ("/same", origin("http://localhost"), 101),
            ("/same", origin("http://LOCALHOST"), 101),
            ("/same", origin("http://localhost:81"), 403),
            ("/same", origin("https://localhost"), 403),
            ("/same", origin("http://localhost.evil.example"), 403),
            ("/same", origin("null"), 403),
            ("/same", origin("https://first.example"), 101),
            ("/exact", String::new(), 101),
            ("/exact", origin("https://example.org"), 101),
            ("/exact", origin("https://first.example"), 101),
            ("/exact", origin("http://example.org"), 403),
            ("/exact", origin("https://example.org:8443"), 403),
            ("/exact", origin("https://example.org.evil.example"), 403),
            ("/none", origin("null"), 101),
            ("/none", origin("https://example.org"), 403),
            ("/exact", origin("https://example.org").repeat(2), 400),
        ] {
            let answer = ask_upgrade(server.address(), path, &headers);
            assert_eq!(answer.status, status, "{path} {headers}");
        }
        let refused = server.counters().sum(|shard| &shard.refused[Refused::Origin as usize]);
        assert_eq!(refused, 8);
    });
}

#[test]
fn the_servers_favourite_of_the_subprotocols_offered_is_chosen() {
    for_each_setup(|driver, shards| {
        let server = start(&config_with(driver, shards, |endpoint| {
            endpoint.subprotocols = vec!["v2.chat".to_owned(), "v1.chat".to_owned()];
        }));
        for (offered, chosen) in [
            ("", None),
            ("Sec-WebSocket-Protocol: v1.chat\r\n", Some("v1.chat")),
            ("Sec-WebSocket-Protocol: v1.chat, other, v2.chat\r\n", Some("v2.chat")),
            ("Sec-WebSocket-Protocol: v1.chat\r\nSec-WebSocket-Protocol: v2.chat\r\n", Some("v2.chat")),
            ("Sec-WebSocket-Protocol: V2.CHAT, other\r\n", None),
        ] {
            for path in ["/", "/rooms/a", "/echo"] {
                let answer = ask_upgrade(server.address(), path, offered);
                assert_eq!((answer.status, answer.header("Sec-WebSocket-Protocol")), (101, chosen), "{offered}");
            }
        }
        let malformed = ask_upgrade(server.address(), "/echo", "Sec-WebSocket-Protocol: a b\r\n");
        assert_eq!(malformed.status, 400);
    });
}
