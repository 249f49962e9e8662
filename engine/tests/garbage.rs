//! What nobody should send: the right status or close code, bounded memory, and everybody else unharmed.
//!
//! A healthy pair talks through the same shards all the time.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::io::{ErrorKind, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use support::http::{ask, upgrade_request};
use support::process::Process;
use support::raw::{
    self, BINARY, CLOSE, CONTINUATION, PING, PONG, RawClient, TEXT, masked_frame, masked_header, reset_on_close,
};
use support::{StopOnDrop, config, dial, eventually, for_each_setup};

/// A message that takes longer is a pair harmed, even on a busy machine.
const HARMED: Duration = Duration::from_secs(5);
/// What the process may grow by under any of this: far below what the clients announce or send.
const GROWTH_BYTES_MAX: u64 = 32 << 20;
/// Frames in a flood.
const MANY: u32 = 1_000_000;

/// Runs a test against a server of its own process, in which a healthy pair must go on talking, and which afterwards must
/// hold nothing but the pair.
fn beside_a_healthy_pair(name: &str, test: impl Fn(&Process)) {
    for_each_setup(|driver, shards| {
        let process = Process::start(name, &config(driver, shards));
        let mut pair = [(); 2].map(|()| RawClient::connect(process.address, "/rooms/healthy"));
        talk(&mut pair);
        let (files, memory) = (process.open_files().len(), process.rss_bytes());
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let talking = scope.spawn(|| {
                while !stop.load(Relaxed) {
                    talk(&mut pair);
                }
            });
            let stopping = StopOnDrop(&stop);
            test(&process);
            drop(stopping);
            talking.join().unwrap();
        });
        eventually("only the pair is left", || process.metric("websocket_connections") == 2.0);
        eventually("all descriptors are given back", || process.open_files().len() <= files);
        let growth = process.rss_peak_bytes().saturating_sub(memory);
        assert!(growth < GROWTH_BYTES_MAX, "grew by {} KiB", growth >> 10);
        assert_eq!(process.metric("websocket_disconnections_total{reason=\"internal\"}"), 0.0);
    });
}

fn talk(pair: &mut [RawClient; 2]) {
    for speaker in 0..2 {
        let began = Instant::now();
        pair[speaker].send(TEXT, b"how are you?").unwrap();
        for hearer in &mut *pair {
            assert_eq!(hearer.read_frame().payload, b"how are you?");
        }
        assert!(began.elapsed() < HARMED, "{:?} for a message", began.elapsed());
    }
}

/// The code that the server closes with; what else it sends first does not matter.
fn close_code(client: &mut RawClient) -> u16 {
    loop {
        let frame = client.read_frame();
        if frame.first == CLOSE {
            return frame.close_code();
        }
    }
}

#[test]
fn malformed_handshakes_get_their_status() {
    let valid = upgrade_request("/echo", "");
    let with = |line: &str| upgrade_request("/echo", line).into_bytes();
    let replaced = |old: &str, new: &str| valid.replace(old, new).into_bytes();
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let corpus: &[(&str, Vec<u8>, u16)] = &[
        ("binary", b"\x00\x01\x02\xff\xfe\r\n\r\n".to_vec(), 400),
        ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 400),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), 400),
        ("no method", b" / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 400),
        ("no version", b"GET /echo\r\nHost: x\r\n\r\n".to_vec(), 400),
        ("a version to come", replaced("HTTP/1.1", "HTTP/3.0"), 400),
        ("a space in the target", replaced("/echo", "/ec ho"), 400),
        ("a fragment in the target", replaced("/echo", "/echo#here"), 400),
        ("NUL in the target", replaced("/echo", "/ec\0ho"), 400),
        ("NUL in a header", with("X: a\0b\r\n"), 400),
        ("a bare LF", replaced("Host: localhost\r\n", "Host: localhost\n"), 400),
        ("a bare CR", with("X: a\rb\r\n"), 400),
        ("a folded line", with("X: a\r\n b\r\n"), 400),
        ("a space before the colon", with("X : a\r\n"), 400),
        ("a line without colon", with("nonsense\r\n"), 400),
        ("two hosts", with("Host: other\r\n"), 400),
        ("a host with a path", replaced("Host: localhost", "Host: local/host"), 400),
        ("two keys", with(key), 400),
        ("a key that is not base64", replaced("dGhlIHNhbXBsZSBub25jZQ==", "!!!!IHNhbXBsZSBub25jZQ=="), 400),
        ("a long key", replaced("dGhlIHNhbXBsZSBub25jZQ==", &"A".repeat(1000)), 400),
        ("two versions", with("Sec-WebSocket-Version: 13\r\n"), 400),
        ("version 14", replaced("Version: 13", "Version: 14"), 426),
        ("two lengths", with("Content-Length: 0\r\nContent-Length: 1\r\n"), 400),
        ("a length and chunks", with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("an unknown coding", with("Transfer-Encoding: gzip\r\n"), 400),
        ("a negative length", with("Content-Length: -1\r\n"), 400),
        ("a body", with("Content-Length: 5\r\n"), 400),
        ("a long target", replaced("/echo", &format!("/{}", "a".repeat(20_000))), 431),
        ("a long header", with(&format!("X: {}\r\n", "a".repeat(20_000))), 431),
        ("a head without end", [&valid.as_bytes()[..valid.len() - 2], &b"X: a\r\n".repeat(4000)].concat(), 431),
        ("a line without end", b"G".repeat(20_000), 431),
        ("a deep path", replaced("/echo", &"/a".repeat(4000)), 404),
        ("dots", replaced("/echo", "/../../etc/passwd"), 404),
        ("TRACE", replaced("GET", "TRACE"), 405),
    ];
    beside_a_healthy_pair("garbage-handshakes", |process| {
        let address = process.address;
        for (name, bytes, status) in corpus {
            let answer = ask(address, bytes);
            assert_eq!(answer.status, *status, "{name}: {}", answer.head);
        }
    });
}

/// Name, bytes after the handshake, close code.
fn malformed_frames() -> Vec<(&'static str, Vec<u8>, u16)> {
    let close = |payload: &[u8]| masked_frame(CLOSE, payload);
    let coded = |code: u16| close(&code.to_be_bytes());
    let length16 = |length: u16| [&[BINARY, 0xFE][..], &length.to_be_bytes(), &raw::KEY].concat();
    let length64 = |length: u64| [&[BINARY, 0xFF][..], &length.to_be_bytes(), &raw::KEY].concat();
    let unfinished = masked_frame(0x01, b"begun");
    let mut corpus = vec![
        ("unmasked text", b"\x81\x02hi".to_vec(), 1002),
        ("unmasked and empty", b"\x82\x00".to_vec(), 1002),
        ("HTTP again", b"GET / HTTP/1.1\r\n\r\n".to_vec(), 1002),
        ("zeros", vec![0; 100], 1002),
        ("ones", vec![0xFF; 100], 1002),
        ("RSV1", masked_frame(0xC1, b"deflated?"), 1002),
        ("RSV2", masked_frame(0xA1, b""), 1002),
        ("RSV3", masked_frame(0x91, b""), 1002),
        ("RSV1 on a ping", masked_frame(0xC9, b""), 1002),
        ("a ping in pieces", masked_frame(0x09, b"?"), 1002),
        ("a close in pieces", masked_frame(0x08, b"\x03\xe8"), 1002),
        ("a ping of 126 bytes", masked_header(PING, 126), 1002),
        ("a close of 126 bytes", masked_header(CLOSE, 126), 1002),
        ("a pong of 2⁶³ - 1 bytes", masked_header(PONG, i64::MAX as u64), 1002),
        ("125 in 16 bits", length16(125), 1002),
        ("65535 in 64 bits", length64(65_535), 1002),
        ("2⁶³ bytes", length64(1 << 63), 1002),
        ("2⁶³ - 1 bytes", length64(i64::MAX as u64), 1009),
        ("4 GiB", length64(4 << 30), 1009),
        ("16 MiB and a byte", length64((16 << 20) + 1), 1009),
        ("a continuation of nothing", masked_frame(CONTINUATION, b"what?"), 1002),
        ("a message within a message", [&unfinished[..], &masked_frame(TEXT, b"new")].concat(), 1002),
        ("a message too big in pieces", [&unfinished[..], &masked_header(0x00, 16 << 20)].concat(), 1009),
        ("text that is not UTF-8", masked_frame(TEXT, b"\xc0\xaf"), 1007),
        ("a surrogate", masked_frame(TEXT, b"\xed\xa0\x80"), 1007),
        ("beyond U+10FFFF", masked_frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
        ("text that ends within a character", masked_frame(TEXT, b"\xe2\x82"), 1007),
        ("pieces that end within a character", [&unfinished[..], &masked_frame(CONTINUATION, b"\xe2")].concat(), 1007),
        ("a piece that is not UTF-8", [&unfinished[..], &masked_frame(0x00, b"\xff")].concat(), 1007),
        ("a close of one byte", close(b"\x03"), 1002),
        ("a close with a reason that is not UTF-8", close(b"\x03\xe8\xff\xfe"), 1007),
        ("a close with half a character", close(b"\x03\xe8\xe2\x82"), 1007),
    ];
    let names = ["opcode 3", "opcode 4", "opcode 5", "opcode 6", "opcode 7"];
    corpus.extend(names.iter().zip(3..).map(|(name, opcode)| (*name, masked_frame(0x80 | opcode, b""), 1002)));
    let names = ["opcode 11", "opcode 12", "opcode 13", "opcode 14", "opcode 15"];
    corpus.extend(names.iter().zip(11..).map(|(name, opcode)| (*name, masked_frame(0x80 | opcode, b""), 1002)));
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        corpus.push(("a code that may not be sent", coded(code), 1002));
    }
    corpus
}

#[test]
fn malformed_frames_get_their_close_code_in_one_piece_and_byte_by_byte() {
    let corpus = malformed_frames();
    beside_a_healthy_pair("garbage-frames", |process| {
        let address = process.address;
        for (name, bytes, code) in &corpus {
            for path in ["/echo", "/rooms/garbage"] {
                let mut client = RawClient::connect(address, path);
                client.stream.write_all(bytes).unwrap();
                assert_eq!(close_code(&mut client), *code, "{name} on {path}");
            }
            let mut client = RawClient::connect(address, "/echo");
            // The server may have ended before the last byte.
            let _ = bytes.chunks(1).try_for_each(|byte| client.stream.write_all(byte));
            assert_eq!(close_code(&mut client), *code, "{name}, byte by byte");
        }
    });
}

/// A handshake and a bit of everything.
fn conversation(path: &str) -> Vec<u8> {
    let mut bytes = upgrade_request(path, "").into_bytes();
    for (first, payload) in
        [(TEXT, &b"hello"[..]), (0x01, b"one "), (PING, b"?"), (CONTINUATION, b"message"), (BINARY, &[7; 130])]
    {
        bytes.extend(masked_frame(first, payload));
    }
    bytes.extend(masked_frame(CLOSE, b"\x03\xe8bye"));
    bytes
}

#[test]
fn clients_that_reset_or_end_at_any_byte_leave_nothing_behind() {
    let conversations = ["/echo", "/rooms/garbage"].map(conversation);
    beside_a_healthy_pair("garbage-offsets", |process| {
        let address = process.address;
        for bytes in &conversations {
            for end in 0..=bytes.len() {
                let mut resetting = dial(address);
                resetting.write_all(&bytes[..end]).unwrap();
                reset_on_close(&resetting);
                let mut ending = dial(address);
                ending.write_all(&bytes[..end]).unwrap();
                ending.shutdown(Shutdown::Write).unwrap();
            }
        }
    });
}

#[test]
fn gigabytes_that_are_announced_and_never_sent_cost_nothing() {
    // 100 × 16 MiB, all within the limits.
    let begun = [masked_header(BINARY, 16 << 20), vec![0; 1000]].concat();
    beside_a_healthy_pair("garbage-announced", |process| {
        let address = process.address;
        let clients: Vec<_> = ["/echo", "/rooms/garbage"]
            .iter()
            .cycle()
            .take(100)
            .map(|path| {
                let mut client = RawClient::connect(address, path);
                client.stream.write_all(&begun).unwrap();
                client
            })
            .collect();
        let all = (clients.len() * begun.len()) as f64;
        eventually("all of it is received", || process.metric("websocket_bytes_received_total") >= all);
        drop(clients);
    });
}

#[test]
fn a_million_pings_are_answered_in_order_if_the_client_listens() {
    let pings: Vec<u8> = (0..MANY).flat_map(|i| masked_frame(PING, &i.to_be_bytes())).collect();
    beside_a_healthy_pair("garbage-pings", |process| {
        let address = process.address;
        let mut client = RawClient::connect(address, "/echo");
        let mut writer = client.stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&pings).unwrap());
            for i in 0..MANY {
                let pong = client.read_frame();
                assert_eq!((pong.first, pong.payload), (PONG, i.to_be_bytes().to_vec()));
            }
        });
    });
}

#[test]
fn floods_from_clients_that_never_listen_are_held_up() {
    let floods = [masked_frame(PING, &[b'p'; 125]), masked_frame(TEXT, &[b't'; 1000])].map(|frame| frame.repeat(1000));
    beside_a_healthy_pair("garbage-floods", |process| {
        let address = process.address;
        for flood in &floods {
            let mut stream = RawClient::connect(address, "/echo").stream;
            stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
            let sent = send_until_held_up(&mut stream, flood);
            assert!(sent < 64 << 20, "{sent} bytes were taken without an end");
            reset_on_close(&stream);
        }
    });
}

/// Sends until nothing has been taken for the write timeout. Returns the bytes taken.
fn send_until_held_up(stream: &mut TcpStream, flood: &[u8]) -> usize {
    let mut sent = 0;
    while sent < 64 << 20 {
        match stream.write(&flood[sent % flood.len()..]) {
            Ok(count) => sent += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    sent
}

#[test]
fn a_million_empty_fragments_are_one_message() {
    let mut bytes = masked_frame(0x01, b"");
    bytes.extend(masked_frame(0x00, b"").repeat(MANY as usize));
    bytes.extend(masked_frame(CONTINUATION, b"end"));
    beside_a_healthy_pair("garbage-fragments", |process| {
        let address = process.address;
        for path in ["/echo", "/rooms/garbage"] {
            let mut client = RawClient::connect(address, path);
            client.stream.write_all(&bytes).unwrap();
            let message = client.read_frame();
            assert_eq!((message.first, message.payload), (TEXT, b"end".to_vec()));
        }
    });
}
