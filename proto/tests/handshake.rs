//! The opening handshake: what must be taken, what must be refused and how, and tungstenite on the other end of a socket.
#![allow(clippy::unwrap_used, reason = "the helpers belong to the tests")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use proptest::prelude::*;
use proto::handshake::{
    BodyLength, ClientRequest, HeadError, HeadLimits, RequestError, ResponseError, UpgradeError, accept_response,
    check_response, check_upgrade, parse_head,
};
use tungstenite::Message;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;

/// A correct upgrade in lines; tests change, add or remove some.
const UPGRADE: [&str; 6] = [
    "GET /chat?room=1 HTTP/1.1",
    "Host: example.com:8443",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

fn head_of(lines: &[&str]) -> Vec<u8> {
    [lines.join("\r\n").as_bytes(), b"\r\n\r\n"].concat()
}

/// The correct upgrade without the lines that start with one of `without`, and with `with` at its end.
fn upgrade(without: &[&str], with: &[&str]) -> Vec<u8> {
    let kept = UPGRADE.iter().filter(|line| !without.iter().any(|start| line.starts_with(start)));
    let mut lines: Vec<&str> = kept.copied().collect();
    if without.contains(&"GET") {
        lines.insert(0, with[0]);
        lines.extend(&with[1..]);
    } else {
        lines.extend(with);
    }
    head_of(&lines)
}

fn error_of(bytes: &[u8]) -> Option<HeadError> {
    parse_head(bytes, &HeadLimits::default()).err()
}

/// What the upgrade check says of a well-formed head.
fn verdict(bytes: &[u8]) -> Result<(), UpgradeError> {
    let (head, head_bytes) = parse_head(bytes, &HeadLimits::default()).unwrap().expect("the head is whole");
    assert_eq!(head_bytes, bytes.len());
    check_upgrade(&head).map(drop)
}

#[test]
fn every_prefix_needs_more_and_what_follows_is_left_alone() {
    let whole = upgrade(&[], &[]);
    for end in 0..whole.len() {
        assert!(parse_head(&whole[..end], &HeadLimits::default()).unwrap().is_none(), "{end}");
    }
    let with_frames = [&whole[..], &[0x81, 0x80, 1, 2, 3, 4]].concat();
    let (head, head_bytes) = parse_head(&with_frames, &HeadLimits::default()).unwrap().unwrap();
    assert_eq!(head_bytes, whole.len());
    assert_eq!((head.method(), head.target(), head.version_minor()), ("GET", "/chat?room=1", 1));
    assert_eq!((head.path(), head.query(), head.host()), ("/chat", Some("room=1"), Some("example.com:8443")));
    assert_eq!(head.header("UPGRADE"), Some(&b"websocket"[..]));
    assert_eq!(head.headers().next(), Some(("Host", &b"example.com:8443"[..])));
    assert_eq!(head.headers().len(), 5);
    assert_eq!(check_upgrade(&head).map(|upgrade| upgrade.accept()), Ok(*b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[test]
fn what_real_clients_send_is_taken() {
    // Firefox.
    assert_eq!(verdict(&upgrade(&["Connection"], &["Connection: keep-alive, Upgrade"])), Ok(()));
    // A list over several lines, empty elements, odd case and white space.
    let lines = ["connection: keep-alive", "CONNECTION:,\t uPGRADE ,", "upgrade: h2c", "Upgrade: WebSocket"];
    assert_eq!(verdict(&upgrade(&["Connection", "Upgrade"], &lines)), Ok(()));
    // Extensions are offered by every browser, and declined.
    assert_eq!(
        verdict(&upgrade(&[], &["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"])),
        Ok(())
    );
    // A key whose last character has bits to spare still is 16 bytes.
    assert_eq!(verdict(&upgrade(&["Sec-WebSocket-Key"], &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR=="])), Ok(()));
    // Values are not text.
    assert_eq!(verdict(&upgrade(&[], &["X-Name: caf\u{e9}", "Content-Length: 0"])), Ok(()));
}

#[test]
fn absolute_targets_name_the_host() {
    for (target, host, path, query) in [
        ("http://other:80/chat?a=b?c", "other:80", "/chat", Some("a=b?c")),
        ("WSS://other", "other", "/", None),
        ("https://[::1]:8443?x", "[::1]:8443", "/", Some("x")),
    ] {
        let bytes = upgrade(&["GET"], &[&format!("GET {target} HTTP/1.1")]);
        let (head, _) = parse_head(&bytes, &HeadLimits::default()).unwrap().unwrap();
        assert_eq!((head.path(), head.query()), (path, query), "{target}");
        assert_eq!(check_upgrade(&head).unwrap().host(), host, "{target}");
    }
}

#[test]
fn origin_and_subprotocols_are_handed_out() {
    let bytes =
        upgrade(&[], &["Origin: https://example.com", "Sec-WebSocket-Protocol: a, ,b.2", "Sec-WebSocket-Protocol: c"]);
    let (head, _) = parse_head(&bytes, &HeadLimits::default()).unwrap().unwrap();
    let upgrade = check_upgrade(&head).unwrap();
    assert_eq!(upgrade.origin(), Some("https://example.com"));
    assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["a", "b.2", "c"]);
}

#[test]
fn requests_that_are_no_correct_upgrade_are_told_why() {
    use UpgradeError as E;
    for (without, with, error, status) in [
        (&["GET"][..], &["POST / HTTP/1.1"][..], E::Method, 405),
        (&["GET"], &["get / HTTP/1.1"], E::Method, 405),
        (&["Upgrade"], &[], E::NotAnUpgrade, 426),
        (&["Upgrade"], &["Upgrade: h2c"], E::NotAnUpgrade, 426),
        (&["Upgrade"], &["Upgrade: websockets"], E::NotAnUpgrade, 426),
        (&["Connection"], &[], E::NotAnUpgrade, 426),
        (&["Connection"], &["Connection: keep-alive"], E::NotAnUpgrade, 426),
        (&["GET"], &["GET / HTTP/1.0"], E::HttpVersion, 400),
        (&["Host"], &[], E::Host, 400),
        (&["Host"], &["Host:"], E::Host, 400),
        (&["GET", "Host"], &["GET http://a/ HTTP/1.1"], E::Host, 400),
        (&["Sec-WebSocket-Version"], &[], E::Version, 426),
        (&["Sec-WebSocket-Version"], &["Sec-WebSocket-Version: 8"], E::Version, 426),
        (&["Sec-WebSocket-Version"], &["Sec-WebSocket-Version: 13, 8"], E::Version, 426),
        (&["Sec-WebSocket-Version"], &["Sec-WebSocket-Version: 013"], E::Version, 426),
        (&[], &["sec-websocket-version: 13"], E::VersionTwice, 400),
        (&["Sec-WebSocket-Key"], &[], E::Key, 400),
        (&["Sec-WebSocket-Key"], &["Sec-WebSocket-Key:"], E::Key, 400),
        (&["Sec-WebSocket-Key"], &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"], E::Key, 400),
        (&["Sec-WebSocket-Key"], &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"], E::Key, 400),
        (&["Sec-WebSocket-Key"], &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA"], E::Key, 400),
        (&["Sec-WebSocket-Key"], &["Sec-WebSocket-Key: dGhl!HNhbXBsZSBub25jZQ=="], E::Key, 400),
        (&[], &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], E::Key, 400),
        (&[], &["Origin: http://a", "Origin: http://b"], E::Origin, 400),
        (&[], &["Sec-WebSocket-Protocol: a b"], E::Subprotocol, 400),
        (&[], &["Sec-WebSocket-Protocol: a, b\u{fc}"], E::Subprotocol, 400),
        (&[], &["Content-Length: 5"], E::Body, 400),
        (&[], &["Transfer-Encoding: chunked"], E::Body, 400),
    ] {
        assert_eq!(verdict(&upgrade(without, with)), Err(error), "{without:?} {with:?}");
        assert_eq!(error.status(), status, "{error}");
    }
    let latin1_origin = [&upgrade(&[], &["Origin: http://"])[..], b""].concat();
    let at = latin1_origin.len() - 4;
    let latin1_origin = [&latin1_origin[..at], b"\xe9", &latin1_origin[at..]].concat();
    assert_eq!(verdict(&latin1_origin), Err(E::Origin));
}

#[test]
fn heads_that_could_be_read_in_two_ways_are_refused() {
    use HeadError as E;
    for (bytes, error) in [
        (&b"GET / HTTP/1.1\nHost: a\n\n"[..], E::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", E::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", E::BareLineFeed),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", E::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", E::HeaderLine),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", E::HeaderLine),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", E::HeaderLine),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", E::HeaderLine),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", E::HeaderLine),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", E::HeaderLine),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", E::HeaderLine),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", E::HeaderLine),
        (b"GET / HTTP/1.1\r\n: a\r\n\r\n", E::HeaderLine),
        (b"GET / HTTP/1.1\r\nnothing\r\n\r\n", E::HeaderLine),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", E::Host),
        (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", E::Host),
        (b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", E::Host),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", E::Host),
        (b"GET /  HTTP/1.1\r\n\r\n", E::Version),
        (b"GET  / HTTP/1.1\r\n\r\n", E::RequestLine),
        (b"GET / HTTP/2.0\r\n\r\n", E::Version),
        (b"GET /\r\n\r\n", E::RequestLine),
        (b"GET /a#b HTTP/1.1\r\n\r\n", E::Target),
        (b"GET * HTTP/1.1\r\n\r\n", E::Target),
        (b"GET chat HTTP/1.1\r\n\r\n", E::Target),
        (b"GET ftp://a/ HTTP/1.1\r\n\r\n", E::Target),
        (b"GET http:///chat HTTP/1.1\r\n\r\n", E::Target),
        (b"GET http://user@a/ HTTP/1.1\r\n\r\n", E::Target),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", E::BodyLength),
        (b"POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", E::BodyLength),
        (b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", E::BodyLength),
        (b"POST / HTTP/1.1\r\nContent-Length: \r\n\r\n", E::BodyLength),
        (b"POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n", E::BodyLength),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", E::BodyLength),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", E::TransferCoding),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", E::TransferCoding),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", E::TransferCoding),
        (b"\x16\x03\x01\x02\x00\x01\x00", E::RequestLine),
    ] {
        assert_eq!(error_of(bytes), Some(error), "{}", bytes.escape_ascii());
        assert_eq!(error.status(), 400, "{error}");
    }
}

#[test]
fn bodies_and_other_methods_are_described() {
    let describe = |bytes: &[u8]| {
        let (head, _) = parse_head(bytes, &HeadLimits::default()).unwrap().unwrap();
        (head.path().to_owned(), head.body(), head.keeps_alive(), head.wants_websocket())
    };
    let path = |path: &str| path.to_owned();
    assert_eq!(
        describe(b"POST /send HTTP/1.1\r\nContent-Length: 12\r\n\r\n"),
        (path("/send"), BodyLength::Bytes(12), true, false)
    );
    assert_eq!(
        describe(b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n"),
        (path("/"), BodyLength::Chunked, false, false)
    );
    assert_eq!(describe(b"GET / HTTP/1.0\r\n\r\n"), (path("/"), BodyLength::Bytes(0), false, false));
    assert!(describe(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").2);
    assert_eq!(describe(b"OPTIONS * HTTP/1.1\r\n\r\n").0, "*");
    assert_eq!(describe(b"CONNECT a:443 HTTP/1.1\r\n\r\n").0, "");
    assert_eq!(describe(b"\r\nGET / HTTP/1.1\r\n\r\n").0, "/");
    assert!(describe(&upgrade(&["GET"], &["POST / HTTP/1.0"])).3, "wanted, though wrongly");
}

#[test]
fn heads_beyond_the_limits_are_431() {
    let limits = HeadLimits { head_bytes_max: 200, headers_max: 3 };
    let line = |bytes: usize| format!("X: {}", "a".repeat(bytes));
    let exact = head_of(&["GET / HTTP/1.1", &line(200 - 16 - 3 - 4)]);
    assert_eq!(exact.len(), 200);
    assert!(parse_head(&exact, &limits).unwrap().is_some());
    let above = head_of(&["GET / HTTP/1.1", &line(200 - 16 - 3 - 3)]);
    assert_eq!(parse_head(&above, &limits).err(), Some(HeadError::TooLong));
    assert_eq!(parse_head(&above[..200], &limits).err(), Some(HeadError::TooLong), "before its end");
    assert!(parse_head(&above[..199], &limits).unwrap().is_none());
    let broken_beyond = [&above[..200], b"\0\0"].concat();
    assert_eq!(
        parse_head(&broken_beyond, &limits).err(),
        Some(HeadError::TooLong),
        "what comes after is not looked at"
    );
    let target = format!("GET /{}", "a".repeat(300));
    assert_eq!(parse_head(target.as_bytes(), &limits).err(), Some(HeadError::TooLong));

    assert!(parse_head(&head_of(&["GET / HTTP/1.1", "A: 1", "B: 2", "C: 3"]), &limits).unwrap().is_some());
    let many = head_of(&["GET / HTTP/1.1", "A: 1", "B: 2", "C: 3", "D: 4"]);
    assert_eq!(parse_head(&many, &limits).err(), Some(HeadError::TooManyHeaders));
    assert_eq!((HeadError::TooLong.status(), HeadError::TooManyHeaders.status()), (431, 431));
}

const CLIENT: ClientRequest<'_> = ClientRequest {
    target: "/chat?room=1",
    host: "example.com",
    key: *b"the sample nonce",
    subprotocols: &["a", "b"],
    headers: &[("Origin", "https://example.com")],
};

#[test]
fn a_client_request_cannot_be_broken_apart() {
    use RequestError as E;
    for (request, error) in [
        (ClientRequest { target: "chat", ..CLIENT }, E::Target),
        (ClientRequest { target: "/a b", ..CLIENT }, E::Target),
        (ClientRequest { target: "/a\r\nX: y", ..CLIENT }, E::Target),
        (ClientRequest { target: "/a#b", ..CLIENT }, E::Target),
        (ClientRequest { host: "", ..CLIENT }, E::Host),
        (ClientRequest { host: "a\r\n", ..CLIENT }, E::Host),
        (ClientRequest { subprotocols: &["a, b"], ..CLIENT }, E::Subprotocol),
        (ClientRequest { headers: &[("X:", "y")], ..CLIENT }, E::Header),
        (ClientRequest { headers: &[("X", "y\r\nZ: 1")], ..CLIENT }, E::Header),
    ] {
        let mut out = Vec::new();
        assert_eq!(request.encode(&mut out), Err(error), "{request:?}");
        assert!(out.is_empty());
    }
}

#[test]
fn a_client_takes_only_an_answer_to_its_own_request() {
    use ResponseError as E;
    let lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: WebSocket",
        "Connection: upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ];
    let limits = HeadLimits::default();
    let check = |from: &str, to: &str| {
        let response = String::from_utf8(head_of(&lines)).unwrap().replace(from, to);
        check_response(response.as_bytes(), &CLIENT, &limits)
            .map(|accepted| accepted.map(|accepted| accepted.subprotocol))
    };
    let add = |line: &str| check("Upgrade: WebSocket", &format!("Upgrade: WebSocket\r\n{line}"));
    assert_eq!(check("", ""), Ok(Some(None)));
    assert_eq!(check("\r\n\r\n", "\r\n"), Ok(None), "more is needed");
    assert_eq!(add("Sec-WebSocket-Protocol: b"), Ok(Some(Some(1))));
    assert_eq!(check("101", "200"), Err(E::Status(200)));
    assert_eq!(check("101", "426"), Err(E::Status(426)));
    assert_eq!(check("WebSocket", "h2c"), Err(E::Upgrade));
    assert_eq!(check("Connection: upgrade", "Connection: close"), Err(E::Connection));
    assert_eq!(check("s3pPL", "S3pPL"), Err(E::Accept));
    assert_eq!(check("Sec-WebSocket-Accept", "X"), Err(E::Accept));
    assert_eq!(add("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), Err(E::Accept));
    assert_eq!(add("Sec-WebSocket-Extensions: permessage-deflate"), Err(E::Extension));
    assert_eq!(add("Sec-WebSocket-Protocol: c"), Err(E::Subprotocol));
    assert_eq!(add("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b"), Err(E::Subprotocol));
    assert_eq!(check("HTTP/1.1", "SMTP"), Err(E::Syntax));
    assert_eq!(check("\r\n", "\n"), Err(E::Syntax));
    assert_eq!(add(&format!("X: {}", "a".repeat(20_000))), Err(E::TooLong));
}

/// Reads from `stream` until `parse` finds what it looks for in all that came so far.
fn read_until<T>(stream: &mut UnixStream, mut parse: impl FnMut(&[u8]) -> Option<T>) -> T {
    let mut received = Vec::new();
    loop {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "the other side hung up after {:?}", received.escape_ascii());
        received.push(byte[0]);
        if let Some(found) = parse(&received) {
            return found;
        }
    }
}

#[test]
fn tungstenite_as_a_client_takes_our_answer() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let client = thread::spawn(move || {
        let (mut socket, response) = tungstenite::client("ws://example.com/chat", theirs).unwrap();
        (response.status().as_u16(), socket.read().unwrap())
    });
    let accept = read_until(&mut ours, |received| {
        let (head, _) = parse_head(received, &HeadLimits::default()).unwrap()?;
        assert_eq!(head.path(), "/chat");
        Some(check_upgrade(&head).unwrap().accept())
    });
    let mut out = Vec::new();
    accept_response(&mut out, &accept, None);
    proto::encode::server_frame(&mut out, proto::Opcode::Text, b"hello");
    ours.write_all(&out).unwrap();
    assert_eq!(client.join().unwrap(), (101, Message::text("hello")));
}

#[test]
fn tungstenite_as_a_server_takes_our_request() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || {
        #[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
        let choose_b = |request: &Request, mut response: Response| {
            assert_eq!(request.uri(), CLIENT.target);
            assert_eq!(request.headers()["origin"], CLIENT.headers[0].1);
            response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("b"));
            Ok(response)
        };
        tungstenite::accept_hdr(theirs, choose_b).unwrap().read().unwrap()
    });
    let mut out = Vec::new();
    CLIENT.encode(&mut out).unwrap();
    ours.write_all(&out).unwrap();
    let accepted = read_until(&mut ours, |received| check_response(received, &CLIENT, &HeadLimits::default()).unwrap());
    assert_eq!(accepted.subprotocol, Some(1));
    let mut out = Vec::new();
    proto::encode::client_frame(&mut out, proto::Opcode::Binary, b"hello", [1, 2, 3, 4]);
    ours.write_all(&out).unwrap();
    assert_eq!(server.join().unwrap(), Message::binary(&b"hello"[..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// A mutated head is taken or refused, and once it is refused early it is refused whole.
    #[test]
    fn what_is_refused_early_stays_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: prop::sample::Index,
    ) {
        let mut bytes = upgrade(&[], &["Origin: https://example.com", "Content-Length: 0"]);
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let limits = HeadLimits::default();
        let whole = parse_head(&bytes, &limits);
        match parse_head(&bytes[..cut.index(bytes.len())], &limits) {
            Ok(None) => {}
            Ok(Some((_, head_bytes))) => {
                prop_assert!(whole.as_ref().is_ok_and(|head| head.as_ref().is_some_and(|head| head.1 == head_bytes)));
            }
            Err(error) => prop_assert_eq!(whole.as_ref().err(), Some(&error)),
        }
        if let Ok(Some((head, _))) = whole {
            prop_assert!(!head.path().is_empty() && !head.path().contains(['#', ' ']));
            let _ = check_upgrade(&head);
        }
    }
}
