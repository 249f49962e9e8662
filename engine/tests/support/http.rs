//! Requests as bytes and answers as they came: what becomes of a request that is no WebSocket's, or a wrong one.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use super::dial;

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and header lines.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header line.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// A valid request for a WebSocket with more header lines, each with its CR LF.
pub(crate) fn upgrade_request(target: &str, headers: &str) -> String {
    let request = super::raw::upgrade_request(target);
    format!("{}{headers}\r\n", request.strip_suffix("\r\n").expect("a head ends with an empty line"))
}

/// Sends a request on a connection of its own and reads the answer to its end.
pub(crate) fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut stream = dial(address);
    stream.write_all(request.as_ref()).unwrap();
    read_answer(&mut stream)
}

/// Asks for a WebSocket. A 101 has no body; the connection is dropped.
pub(crate) fn ask_upgrade(address: SocketAddr, target: &str, headers: &str) -> Answer {
    ask(address, upgrade_request(target, headers))
}

/// The same on a stream of any kind.
pub(crate) fn ask_upgrade_over(mut stream: impl Read + Write, target: &str) -> Answer {
    stream.write_all(upgrade_request(target, "").as_bytes()).unwrap();
    read_answer(&mut stream)
}

/// Reads an answer: a 101 to the end of its head, any other to the end of the stream.
pub(crate) fn read_answer(stream: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while !is_whole_upgrade(&bytes) {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => bytes.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("no answer: {error}; so far {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no whole head in {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn is_whole_upgrade(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 101 ") && bytes.windows(4).any(|window| window == b"\r\n\r\n")
}
