//! The body of an HTTP/1.1 request: of a known length, or in chunks (RFC 9112 sections 6 and 7.1).
//!
//! In: the bytes after the head, cut anywhere; out: the body's bytes, without chunk sizes, extensions and trailers.

use std::fmt;

use httparse::Status;

use super::{BodyLength, field};

/// The longest line of a chunk's size with its extensions, in bytes.
const SIZE_LINE_BYTES_MAX: usize = 4096;
/// Bytes of all trailer lines at most; they are skipped.
const TRAILER_BYTES_MAX: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Of a known length: bytes left.
    Counted(u64),
    /// Before a chunk's size.
    Size,
    /// Within a chunk: bytes left.
    Chunk(u64),
    /// Before the line end after a chunk.
    ChunkEnd,
    /// After the last chunk: bytes of trailer lines skipped.
    Trailers(usize),
    Done,
}

/// Takes one body apart.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// Bytes that the rest of the body may have.
    room: u64,
}

impl BodyDecoder {
    /// For a body of this length, of `bytes_max` bytes at most.
    ///
    /// # Errors
    /// [`BodyError::TooLong`] if the length is known and above the limit.
    pub fn new(length: BodyLength, bytes_max: u64) -> Result<Self, BodyError> {
        let state = match length {
            BodyLength::Bytes(bytes) if bytes > bytes_max => return Err(BodyError::TooLong),
            BodyLength::Bytes(0) => State::Done,
            BodyLength::Bytes(bytes) => State::Counted(bytes),
            BodyLength::Chunked => State::Size,
        };
        Ok(Self { state, room: bytes_max })
    }

    /// Whether the body is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Appends to `body` what `input` has of it. Returns the bytes used; the rest must come again with more behind it, or
    /// belongs to the next request if the body is complete.
    ///
    /// # Errors
    /// The body is longer than allowed, or its chunks are malformed.
    pub fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize, BodyError> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let before = (used, self.state);
            used += match self.state {
                State::Counted(left) => {
                    let taken = take(rest, left, body);
                    self.state = if taken == left { State::Done } else { State::Counted(left - taken) };
                    taken as usize
                }
                State::Size => self.size(rest)?,
                State::Chunk(left) => {
                    let taken = take(rest, left, body);
                    self.state = if taken == left { State::ChunkEnd } else { State::Chunk(left - taken) };
                    taken as usize
                }
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        self.state = State::Size;
                        2
                    }
                    [] | [b'\r'] => 0,
                    _ => return Err(BodyError::Malformed),
                },
                State::Trailers(skipped) => self.trailer(rest, skipped)?,
                State::Done => 0,
            };
            if (used, self.state) == before {
                return Ok(used);
            }
        }
    }

    fn size(&mut self, rest: &[u8]) -> Result<usize, BodyError> {
        // httparse takes a line without digits for a 0.
        if rest.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
            return Err(BodyError::Malformed);
        }
        match httparse::parse_chunk_size(rest).map_err(|_| BodyError::Malformed)? {
            // httparse takes any byte in an extension; a line may not be read in two ways.
            Status::Complete((used, _)) if field::has_bare_line_feed(&rest[..used]) => Err(BodyError::Malformed),
            Status::Complete((_, bytes)) if bytes > self.room => Err(BodyError::TooLong),
            Status::Complete((used, bytes)) => {
                self.room -= bytes;
                self.state = if bytes == 0 { State::Trailers(0) } else { State::Chunk(bytes) };
                Ok(used)
            }
            Status::Partial if rest.len() > SIZE_LINE_BYTES_MAX => Err(BodyError::Malformed),
            Status::Partial => Ok(0),
        }
    }

    fn trailer(&mut self, rest: &[u8], skipped: usize) -> Result<usize, BodyError> {
        let line = rest.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
        if skipped + line.unwrap_or(rest.len()) > TRAILER_BYTES_MAX {
            return Err(BodyError::Malformed);
        }
        let Some(line) = line else { return Ok(0) };
        match &rest[..line] {
            b"\r\n" => self.state = State::Done,
            [.., b'\r', b'\n'] => self.state = State::Trailers(skipped + line),
            _ => return Err(BodyError::Malformed),
        }
        Ok(line)
    }
}

/// Moves at most `left` bytes.
fn take(rest: &[u8], left: u64, body: &mut Vec<u8>) -> u64 {
    let taken = left.min(rest.len() as u64);
    body.extend_from_slice(&rest[..taken as usize]);
    taken
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyError {
    /// Longer than allowed.
    TooLong,
    /// A chunk's size, line end or trailer is not one.
    Malformed,
}

impl BodyError {
    /// The HTTP status to answer with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::TooLong => 413,
            Self::Malformed => 400,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the body is too long",
            Self::Malformed => "the body's chunks are malformed",
        })
    }
}

impl std::error::Error for BodyError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces of `step` bytes; unused bytes come again.
    fn decode(length: BodyLength, bytes_max: u64, input: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>), BodyError> {
        let mut decoder = BodyDecoder::new(length, bytes_max)?;
        let (mut body, mut waiting) = (Vec::new(), Vec::new());
        for piece in input.chunks(step) {
            waiting.extend_from_slice(piece);
            if !decoder.is_done() {
                let used = decoder.decode(&waiting, &mut body)?;
                waiting.drain(..used);
            }
        }
        assert!(decoder.is_done(), "{decoder:?}");
        Ok((body, waiting))
    }

    #[test]
    fn any_cutting_gives_the_same_body_and_leaves_the_next_request() {
        let chunked =
            b"5;name=\"a b\"\r\nHello\r\nA\r\n0123456789\r\n00\r\nTrailer: x\r\nB: y\r\n\r\nGET / HTTP/1.1\r\n";
        for step in 1..chunked.len() {
            let (body, next) = decode(BodyLength::Chunked, 15, chunked, step).unwrap();
            assert_eq!((&body[..], &next[..]), (&b"Hello0123456789"[..], &b"GET / HTTP/1.1\r\n"[..]), "step {step}");
            let (body, next) = decode(BodyLength::Bytes(3), 3, b"abcGET", step).unwrap();
            assert_eq!((&body[..], &next[..]), (&b"abc"[..], &b"GET"[..]), "step {step}");
        }
    }

    #[test]
    fn what_is_too_long_or_malformed_is_refused() {
        assert_eq!(decode(BodyLength::Bytes(4), 3, b"abcd", 9).unwrap_err(), BodyError::TooLong);
        assert_eq!(
            decode(BodyLength::Chunked, 3, b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n", 9).unwrap_err(),
            BodyError::TooLong
        );
        let huge = b"ffffffffffffffff\r\n";
        assert_eq!(decode(BodyLength::Chunked, u64::MAX - 1, huge, 99).unwrap_err(), BodyError::TooLong);
        let long_line = [b"1;".as_slice(), &[b'x'; SIZE_LINE_BYTES_MAX]].concat();
        let long_trailers = [b"0\r\n".as_slice(), &b"a: b\r\n".repeat(TRAILER_BYTES_MAX / 6 + 1)].concat();
        let cases: [&[u8]; 8] = [
            b"g\r\n",
            b"\r\n",
            b"1\r\nab",
            b"1\nab",
            b"5;\nxx\r\nhello\r\n",
            b"0\r\nbare: line feed\n",
            &long_line,
            &long_trailers,
        ];
        for case in cases {
            assert_eq!(
                decode(BodyLength::Chunked, 99, case, case.len()).unwrap_err(),
                BodyError::Malformed,
                "{case:?}"
            );
        }
    }
}
