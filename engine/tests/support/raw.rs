//! A client that knows frames and no rules: it sends what a test tells it, and shows each frame that comes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::dial;

/// FIN and opcode of a frame's first byte (RFC 6455 section 5.2).
pub(crate) const CONTINUATION: u8 = 0x80;
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8A;
/// The key of every frame that [`RawClient`] masks.
pub(crate) const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A frame as it came from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// FIN, reserved bits and opcode.
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The code of a Close; 1005 if it has none.
    pub(crate) fn close_code(&self) -> u16 {
        assert_eq!(self.first, CLOSE, "not a Close: {self:?}");
        match self.payload[..] {
            [] => 1005,
            [high, low, ..] => u16::from_be_bytes([high, low]),
            [_] => panic!("a Close with half a code"),
        }
    }
}

/// A connection after its opening handshake.
pub(crate) struct RawClient<S = TcpStream> {
    pub(crate) stream: S,
    /// What came and was not read yet.
    pub(crate) frames: Frames,
}

impl RawClient {
    /// Connects and upgrades.
    pub(crate) fn connect(address: SocketAddr, path: &str) -> Self {
        Self::upgrade(dial(address), path)
    }

    /// Ends our direction.
    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with RST instead of FIN.
    pub(crate) fn reset(self) {
        reset_on_close(&self.stream);
    }
}

impl<S: Read + Write> RawClient<S> {
    /// The opening handshake on a connection; whatever follows the 101 is kept.
    pub(crate) fn upgrade(mut stream: S, path: &str) -> Self {
        stream.write_all(upgrade_request(path).as_bytes()).unwrap();
        Self::upgraded(stream)
    }

    /// A connection on which the request was sent already: reads the 101.
    pub(crate) fn upgraded(mut stream: S) -> Self {
        let mut frames = Frames::default();
        let head = loop {
            assert!(frames.fill(&mut stream).unwrap() > 0, "closed during the handshake");
            if let Some(head) = frames.take_head() {
                break head;
            }
        };
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self { stream, frames }
    }

    /// Sends one masked frame.
    pub(crate) fn send(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        self.stream.write_all(&masked_frame(first, payload))
    }

    /// The next frame; `None` at the end of the stream.
    ///
    /// # Errors
    /// As the stream's; `UnexpectedEof` if it ends within a frame.
    pub(crate) fn read(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some((first, payload)) = self.frames.next() {
                return Ok(Some(Frame { first, payload: payload.to_vec() }));
            }
            if self.frames.fill(&mut self.stream)? == 0 {
                return if self.frames.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The next frame, which must come.
    pub(crate) fn read_frame(&mut self) -> Frame {
        self.read().unwrap().expect("a frame comes before the end of the stream")
    }
}

/// Has the socket closed with RST instead of FIN.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
}

/// A valid request for an upgrade.
pub(crate) fn upgrade_request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// A whole masked frame, with the shortest length (RFC 6455 section 5.2).
pub(crate) fn masked_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = masked_header(first, payload.len() as u64);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// The payload of a Close frame with this code.
pub(crate) fn close_payload(code: u16) -> [u8; 2] {
    code.to_be_bytes()
}

/// The header of a masked frame that announces so many bytes.
pub(crate) fn masked_header(first: u8, payload_bytes: u64) -> Vec<u8> {
    let mut header = vec![first];
    match payload_bytes {
        0..=125 => header.push(0x80 | payload_bytes as u8),
        126..=0xFFFF => {
            header.push(0x80 | 126);
            header.extend((payload_bytes as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend(payload_bytes.to_be_bytes());
        }
    }
    header.extend(KEY);
    header
}

/// Bytes from a server, cut into frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    /// Up to here frames were taken; parsed ≤ bytes.len().
    parsed: usize,
}

impl Frames {
    /// Reads once. Returns the bytes read; 0 is the end of the stream.
    pub(crate) fn fill(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        let mut chunk = [0; 65536];
        let bytes = loop {
            match stream.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.bytes.drain(..self.parsed);
        self.parsed = 0;
        self.bytes.extend_from_slice(&chunk[..bytes]);
        Ok(bytes)
    }

    /// True if no part of a frame is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.parsed == self.bytes.len()
    }

    /// The head of an HTTP answer, once it is whole.
    pub(crate) fn take_head(&mut self) -> Option<String> {
        let end = self.bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        self.parsed = end;
        Some(String::from_utf8(self.bytes[..end].to_vec()).unwrap())
    }

    /// The next whole frame: its first byte and its payload.
    pub(crate) fn next(&mut self) -> Option<(u8, &[u8])> {
        let input = &self.bytes[self.parsed..];
        let (&first, &second) = (input.first()?, input.get(1)?);
        assert_eq!(second & 0x80, 0, "a server masks no frame (RFC 6455 section 5.1)");
        let (header, payload_bytes) = match second {
            126 => (4, u64::from(u16::from_be_bytes(input.get(2..4)?.try_into().unwrap()))),
            127 => (10, u64::from_be_bytes(input.get(2..10)?.try_into().unwrap())),
            short => (2, u64::from(short)),
        };
        let end = header + usize::try_from(payload_bytes).unwrap();
        let from = self.parsed + header;
        input.get(end.saturating_sub(1))?;
        self.parsed += end;
        Some((first, &self.bytes[from..self.parsed]))
    }
}
