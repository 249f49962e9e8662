//! The examples that RFC 6455 itself gives (sections 1.2, 1.3 and 5.7), byte by byte.
#![allow(clippy::unwrap_used, reason = "the helpers belong to the tests")]

use proto::handshake::{
    Accepted, ClientRequest, HeadLimits, accept_of, accept_response, check_response, check_upgrade, parse_head,
};
use proto::{AssemblyPool, Decoder, Event, Limits, Opcode, Role, encode};

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20, frame_bytes_max: 1 << 20 };
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Decodes one event that takes up all of `bytes` and calls `check` with it.
fn decode(role: Role, bytes: &[u8], check: impl FnOnce(Event<'_>)) {
    let mut pool = AssemblyPool::new(1 << 20);
    let mut decoder = Decoder::new(role);
    let mut input = bytes.to_vec();
    let decoded = decoder.decode(&mut input, &LIMITS, &mut pool).unwrap();
    assert_eq!(decoded.consumed, bytes.len());
    check(decoded.event.expect("a whole frame is an event"));
    assert!(decoder.is_between_messages());
}

fn is_message(event: Event<'_>, opcode: Opcode, payload: &[u8]) {
    let Event::Message(message) = event else { panic!("{event:?} is no message") };
    assert_eq!(message.opcode, opcode);
    assert_eq!(&*message.payload, payload);
}

#[test]
fn a_single_frame_unmasked_text_message() {
    let bytes = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    decode(Role::Client, &bytes, |event| is_message(event, Opcode::Text, b"Hello"));
    let mut out = Vec::new();
    encode::server_frame(&mut out, Opcode::Text, b"Hello");
    assert_eq!(out, bytes);
}

#[test]
fn a_single_frame_masked_text_message() {
    let bytes = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    decode(Role::Server, &bytes, |event| is_message(event, Opcode::Text, b"Hello"));
    let mut out = Vec::new();
    encode::client_frame(&mut out, Opcode::Text, b"Hello", KEY);
    assert_eq!(out, bytes);
}

#[test]
fn a_fragmented_unmasked_text_message() {
    let bytes = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    decode(Role::Client, &bytes, |event| is_message(event, Opcode::Text, b"Hello"));
    let mut out = Vec::new();
    encode::frame(&mut out, false, Opcode::Text, b"Hel", None);
    encode::frame(&mut out, true, Opcode::Continuation, b"lo", None);
    assert_eq!(out, bytes);
}

#[test]
fn an_unmasked_ping_and_its_masked_pong() {
    let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    decode(Role::Client, &ping, |event| assert_eq!(event, Event::Ping(b"Hello")));
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    decode(Role::Server, &pong, |event| assert_eq!(event, Event::Pong(b"Hello")));
    let mut out = Vec::new();
    encode::client_frame(&mut out, Opcode::Pong, b"Hello", KEY);
    assert_eq!(out, pong);
}

#[test]
fn binary_messages_of_256_bytes_and_64_kib_in_one_unmasked_frame() {
    for (header, length) in [(&[0x82, 0x7e, 0x01, 0x00][..], 256), (&[0x82, 0x7f, 0, 0, 0, 0, 0, 0x01, 0, 0], 65536)] {
        let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
        let bytes = [header, &payload].concat();
        decode(Role::Client, &bytes, |event| is_message(event, Opcode::Binary, &payload));
        let mut out = Vec::new();
        encode::server_frame(&mut out, Opcode::Binary, &payload);
        assert_eq!(out, bytes);
        assert_eq!(encode::server_frame_bytes(length), bytes.len());
    }
}

#[test]
fn the_accept_of_section_1_3() {
    assert_eq!(&accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn the_opening_handshake_of_section_1_2() {
    let request = b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
        Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let (head, head_bytes) = parse_head(request, &HeadLimits::default()).unwrap().unwrap();
    assert_eq!(head_bytes, request.len());
    assert_eq!((head.method(), head.path(), head.query()), ("GET", "/chat", None));
    let upgrade = check_upgrade(&head).unwrap();
    assert_eq!(upgrade.host(), "server.example.com");
    assert_eq!(upgrade.origin(), Some("http://example.com"));
    assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["chat", "superchat"]);

    let mut response = Vec::new();
    accept_response(&mut response, &upgrade.accept(), Some("chat"));
    assert_eq!(
        String::from_utf8(response.clone()).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
    let client = ClientRequest {
        target: "/chat",
        host: "server.example.com",
        key: *b"the sample nonce",
        subprotocols: &["superchat", "chat"],
        headers: &[],
    };
    let accepted = Accepted { response_bytes: response.len(), subprotocol: Some(1) };
    assert_eq!(check_response(&response, &client, &HeadLimits::default()), Ok(Some(accepted)));
}
