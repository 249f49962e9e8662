//! RFC 6455 as a client sees it: pings, the closing handshake, limits, deadlines, and where input may be cut.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::io::Write as _;
use std::net::SocketAddr;

use engine::counters::Ended;
use engine::server::Server;
use support::raw::{
    self, BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, RawClient, TEXT, masked_frame, masked_header,
};
use support::{config, config_with, dial, eventually, for_each_setup, http, start};

/// The endpoints whose connections all keep the same rules.
const PATHS: [&str; 2] = ["/echo", "/rooms/protocol"];

/// Text without FIN.
const TEXT_BEGINS: u8 = 0x01;
/// Continuation without FIN.
const GOES_ON: u8 = 0x00;

fn ended(server: &Server, reason: Ended) -> u64 {
    server.counters().sum(|shard| &shard.disconnections[reason as usize])
}

fn text(payload: &str) -> Frame {
    Frame { first: TEXT, payload: payload.as_bytes().to_vec() }
}

/// Sends frames in one write.
fn send_all(client: &mut RawClient, frames: &[(u8, &[u8])]) {
    let bytes: Vec<u8> = frames.iter().flat_map(|(first, payload)| masked_frame(*first, payload)).collect();
    client.stream.write_all(&bytes).unwrap();
}

/// The code that the server closes with, after any other frames, and the end of the stream behind it.
fn close_code(client: &mut RawClient) -> u16 {
    loop {
        let frame = client.read_frame();
        if frame.first == CLOSE {
            assert_eq!(client.read().unwrap(), None, "nothing follows a Close");
            return frame.close_code();
        }
    }
}

#[test]
fn ten_pings_in_a_row_are_answered_each_by_its_own_pong() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        for path in PATHS {
            let mut client = RawClient::connect(server.address(), path);
            let payloads: Vec<Vec<u8>> = (0..10).map(|i| vec![i; usize::from(i) * 125 / 9]).collect();
            send_all(&mut client, &payloads.iter().map(|payload| (PING, &payload[..])).collect::<Vec<_>>());
            for payload in payloads {
                assert_eq!(client.read_frame(), Frame { first: PONG, payload });
            }
        }
    });
}

#[test]
fn a_ping_within_a_message_is_answered_before_it_and_the_message_comes_back_whole() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        for path in PATHS {
            let mut client = RawClient::connect(server.address(), path);
            let frames: [(u8, &[u8]); 5] =
                [(TEXT_BEGINS, b"one "), (PING, b"?"), (GOES_ON, b""), (PONG, b"unasked"), (CONTINUATION, b"message")];
            send_all(&mut client, &frames);
            assert_eq!(client.read_frame(), Frame { first: PONG, payload: b"?".to_vec() });
            assert_eq!(client.read_frame(), text("one message"), "{path}");
        }
    });
}

#[test]
fn close_codes_are_echoed_and_the_stream_ends() {
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        for path in PATHS {
            for code in codes {
                let mut client = RawClient::connect(server.address(), path);
                client.send(CLOSE, &[&u16::to_be_bytes(code), &b"because"[..]].concat()).unwrap();
                assert_eq!(close_code(&mut client), code);
            }
            let mut client = RawClient::connect(server.address(), path);
            client.send(CLOSE, b"").unwrap();
            assert_eq!(close_code(&mut client), 1005);
        }
        let closed = PATHS.len() as u64 * (codes.len() as u64 + 1);
        eventually("all are counted", || ended(&server, Ended::Client) == closed);
    });
}

#[test]
fn messages_before_a_close_are_answered_and_messages_behind_it_are_not() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        let mut client = RawClient::connect(server.address(), "/echo");
        send_all(&mut client, &[(TEXT, b"before"), (CLOSE, &1000_u16.to_be_bytes()), (TEXT, b"behind")]);
        assert_eq!(client.read_frame(), text("before"));
        assert_eq!(client.read_frame().close_code(), 1000);
        assert_eq!(client.read().unwrap(), None);
    });
}

#[test]
fn limits_are_enforced_from_the_header_alone() {
    for_each_setup(|driver, shards| {
        let server = start(&config_with(driver, shards, |endpoint| {
            endpoint.message_bytes_max = 1000;
            endpoint.frame_bytes_max = 600;
        }));
        for path in PATHS {
            let mut client = RawClient::connect(server.address(), path);
            let (first, second) = ([b'a'; 600], [b'b'; 400]);
            send_all(&mut client, &[(TEXT_BEGINS, &first), (CONTINUATION, &second)]);
            assert_eq!(
                client.read_frame().payload,
                [&first[..], &second].concat(),
                "the limits themselves are allowed"
            );

            let began = masked_frame(TEXT_BEGINS, &first);
            for too_much in [
                masked_header(BINARY, 601),
                masked_header(TEXT, 1 << 20),
                masked_header(BINARY, u64::MAX >> 1),
                [began, masked_header(CONTINUATION, 401)].concat(),
            ] {
                let mut client = RawClient::connect(server.address(), path);
                client.stream.write_all(&too_much).unwrap();
                assert_eq!(close_code(&mut client), 1009, "{path}: {:02x?}", &too_much[..2]);
            }
        }
        eventually("all are counted", || ended(&server, Ended::TooBig) == 8);
    });
}

#[test]
fn violations_are_counted_by_what_they_violate() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        for (frame, code, reason) in [
            (masked_frame(0xC1, b"reserved bit"), 1002, Ended::Protocol),
            (vec![TEXT, 2, b'h', b'i'], 1002, Ended::Protocol),
            (masked_frame(TEXT, b"\xff"), 1007, Ended::Utf8),
            (masked_frame(CLOSE, b"\x03\xe8\xff"), 1007, Ended::Utf8),
        ] {
            let before = ended(&server, reason);
            let mut client = RawClient::connect(server.address(), "/");
            client.stream.write_all(&frame).unwrap();
            assert_eq!(close_code(&mut client), code);
            drop(client);
            eventually("it is counted", || ended(&server, reason) == before + 1);
        }
    });
}

#[test]
fn bad_utf8_fails_at_its_first_byte_within_an_unfinished_frame() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        for path in PATHS {
            let mut client = RawClient::connect(server.address(), path);
            let mut begun = masked_header(TEXT, 1_000_000);
            // "κ", a byte that cannot follow, and the rest never.
            begun.extend(b"\xce\xba\x80".iter().zip(raw::KEY).map(|(byte, key)| byte ^ key));
            client.stream.write_all(&begun).unwrap();
            assert_eq!(close_code(&mut client), 1007);
        }
    });
}

#[test]
fn frames_in_the_same_packet_as_the_handshake_are_served() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        for path in PATHS {
            let mut bytes = raw::upgrade_request(path).into_bytes();
            for frame in ["first", "second", ""] {
                bytes.extend(masked_frame(TEXT, frame.as_bytes()));
            }
            let mut client = upgraded_by(server.address(), &[&bytes]);
            for frame in ["first", "second", ""] {
                assert_eq!(client.read_frame(), text(frame), "{path}");
            }
        }
    });
}

#[test]
fn a_handshake_and_frames_byte_by_byte_are_the_same_as_in_one_piece() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        for path in PATHS {
            let mut bytes = raw::upgrade_request(path).into_bytes();
            bytes.extend(masked_frame(TEXT_BEGINS, "Grüße, ".as_bytes()));
            bytes.extend(masked_frame(PING, b"between"));
            bytes.extend(masked_frame(CONTINUATION, "世界".as_bytes()));
            let mut client = upgraded_by(server.address(), &bytes.chunks(1).collect::<Vec<_>>());
            assert_eq!(client.read_frame(), Frame { first: PONG, payload: b"between".to_vec() });
            assert_eq!(client.read_frame(), text("Grüße, 世界"), "{path}");
        }
    });
}

/// Sends pieces, each by a write of its own, and reads the 101.
fn upgraded_by(address: SocketAddr, pieces: &[&[u8]]) -> RawClient {
    let mut stream = dial(address);
    for piece in pieces {
        stream.write_all(piece).unwrap();
    }
    RawClient::upgraded(stream)
}

/// More frames than one turn parses.
const MANY: u32 = 5000;

#[test]
fn what_a_half_closed_client_said_before_is_all_served() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        let frames: Vec<u8> = (0..MANY).flat_map(|i| masked_frame(BINARY, &i.to_be_bytes())).collect();
        // It hears its own echoes, or another hears what it published and did not stay to hear.
        for (path, hears_itself) in [("/echo", true), ("/rooms/half", false)] {
            let mut client = RawClient::connect(server.address(), path);
            let mut other = RawClient::connect(server.address(), path);
            client.stream.write_all(&frames).unwrap();
            client.half_close();
            let hearer = if hears_itself { &mut client } else { &mut other };
            for i in 0..MANY {
                assert_eq!(hearer.read_frame().payload, i.to_be_bytes(), "{path}");
            }
        }
    });
}

/// Far below the deadlines that the next two tests are about, which a busy machine must not miss.
const PING_INTERVAL_MS: u64 = 100;
const DEADLINE_MS: u64 = 1000;
/// Pings that take longer than the deadline.
const PINGS: u32 = 14;

#[test]
fn a_client_that_answers_no_ping_is_closed_and_one_that_does_stays() {
    for_each_setup(|driver, shards| {
        let server = start(&config_with(driver, shards, |endpoint| {
            endpoint.ping_interval_ms = PING_INTERVAL_MS;
            endpoint.pong_wait_ms = DEADLINE_MS;
        }));
        let mut silent = PATHS.map(|path| RawClient::connect(server.address(), path));
        let mut alive = PATHS.map(|path| RawClient::connect(server.address(), path));
        for _ in 0..PINGS {
            for client in &mut alive {
                let ping = client.read_frame();
                assert_eq!(ping.first, PING);
                client.send(PONG, &ping.payload).unwrap();
            }
        }
        for client in &mut silent {
            let mut pings = 0;
            let code = loop {
                match client.read_frame() {
                    Frame { first: PING, .. } => pings += 1,
                    close => break close.close_code(),
                }
            };
            assert_eq!(code, 1008);
            assert!((1..=10).contains(&pings), "{pings} pings of {PING_INTERVAL_MS} ms in {DEADLINE_MS} ms");
        }
        for client in &mut alive {
            client.send(TEXT, b"here").unwrap();
            while client.read_frame() != text("here") {}
        }
        drop(silent);
        eventually("both are counted", || ended(&server, Ended::Pong) == 2);
    });
}

#[test]
fn idle_means_without_messages_whatever_pings_say() {
    for_each_setup(|driver, shards| {
        let server = start(&config_with(driver, shards, |endpoint| {
            endpoint.ping_interval_ms = PING_INTERVAL_MS;
            endpoint.idle_timeout_ms = DEADLINE_MS;
        }));
        let mut clients = PATHS.map(|path| RawClient::connect(server.address(), path));
        // With a message at each ping it lives longer than the timeout.
        for _ in 0..PINGS {
            for client in &mut clients {
                while client.read_frame().first != PING {}
                send_all(client, &[(PONG, b""), (TEXT, b"busy")]);
            }
        }
        for mut client in clients {
            let code = loop {
                match client.read_frame() {
                    // The server may have begun to close it meanwhile.
                    Frame { first: PING, payload } => _ = client.send(PONG, &payload),
                    Frame { first: TEXT, .. } => {}
                    close => break close.close_code(),
                }
            };
            assert_eq!(code, 1000);
        }
        eventually("both are counted", || ended(&server, Ended::Idle) == 2);
    });
}

#[test]
fn a_client_that_never_answers_a_close_is_cut() {
    for_each_setup(|driver, shards| {
        let server = start(&config_with(driver, shards, |endpoint| endpoint.close_timeout_ms = 100));
        let mut client = RawClient::connect(server.address(), "/echo?close_after=1&code=4321");
        client.send(TEXT, b"last").unwrap();
        assert_eq!(client.read_frame(), text("last"));
        assert_eq!(client.read_frame().close_code(), 4321);
        let end = client.read();
        assert!(!matches!(end, Ok(Some(_))), "nothing follows a Close: {end:?}");
        eventually("it is gone", || server.counters().sum(|shard| &shard.connections) == 0);
    });
}

#[test]
fn the_answer_to_a_handshake_is_that_of_the_rfc() {
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        for path in PATHS {
            let answer = http::ask_upgrade(server.address(), path, "");
            assert_eq!(answer.status, 101);
            // RFC 6455 section 1.3.
            assert_eq!(answer.header("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
            assert_eq!(answer.header("Upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
            assert_eq!(answer.header("Connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
            let offered = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
            let answer = http::ask_upgrade(server.address(), path, offered);
            assert_eq!((answer.status, answer.header("Sec-WebSocket-Extensions")), (101, None));
        }
    });
}
