//! Requests as bytes and answers as they came: what becomes of a request that is no WebSocket's, or a wrong one.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

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

/// A connection that is kept alive: request after request, each answer as long as it says.
pub(crate) struct KeptAlive<S = TcpStream> {
    pub(crate) stream: S,
    received: Vec<u8>,
}

impl KeptAlive {
    pub(crate) fn dial(address: SocketAddr) -> Self {
        Self { stream: dial(address), received: Vec::new() }
    }
}

impl<S: Read + Write> KeptAlive<S> {
    /// Sends a request with a body of known length, and reads the answer.
    pub(crate) fn ask(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
        let length = body.len();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n{headers}\r\n");
        self.stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        self.read_answer(method == "HEAD")
    }

    /// The body of a POST's answer, which must be a 200.
    pub(crate) fn post(&mut self, target: &str, body: impl AsRef<[u8]>) -> String {
        let answer = self.ask("POST", target, "", body.as_ref());
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        answer.body
    }

    /// The body of a GET's answer, which must be a 200.
    pub(crate) fn get(&mut self, target: &str) -> String {
        let answer = self.ask("GET", target, "", b"");
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        answer.body
    }

    /// Reads one answer; interim ones (RFC 9110 section 15.2) are skipped.
    pub(crate) fn read_answer(&mut self, head_only: bool) -> Answer {
        loop {
            let head_bytes = loop {
                if let Some(at) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                    break at + 4;
                }
                self.fill();
            };
            let head = String::from_utf8(self.received.drain(..head_bytes).collect()).unwrap();
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
            let mut answer = Answer { status, head: head.trim_end().to_owned(), body: String::new() };
            if status == 100 {
                continue;
            }
            let length: usize = answer.header("content-length").unwrap_or("0").parse().unwrap();
            if !head_only {
                while self.received.len() < length {
                    self.fill();
                }
                answer.body = String::from_utf8(self.received.drain(..length).collect()).unwrap();
            }
            return answer;
        }
    }

    fn fill(&mut self) {
        let mut chunk = [0; 4096];
        let len = self.stream.read(&mut chunk).unwrap();
        assert!(len > 0, "the server ended the connection after {:?}", String::from_utf8_lossy(&self.received));
        self.received.extend_from_slice(&chunk[..len]);
    }
}

fn is_whole_upgrade(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 101 ") && bytes.windows(4).any(|window| window == b"\r\n\r\n")
}
