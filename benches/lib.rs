//! Shared pieces of the micro-benchmarks: payloads, and a receive full of clients' frames.

use proto::{Opcode, encode};

/// Bytes of payload that are measured: a chat line, a market tick with its envelope, a document.
pub const PAYLOAD_BYTES: [usize; 3] = [64, 512, 4096];

/// What one receive brings at most, in bytes.
const RECEIVE_BYTES: usize = 16 << 10;

/// Text of so many bytes, with a character beyond ASCII in each 19.
#[must_use]
pub fn text(bytes: usize) -> Vec<u8> {
    let mut text = "sieben Zeichen ü, ".repeat(bytes / 19 + 1);
    text.truncate(text.floor_char_boundary(bytes));
    let missing = bytes - text.len();
    text.push_str(&".".repeat(missing));
    text.into_bytes()
}

/// ASCII text of so many bytes.
#[must_use]
pub fn ascii(bytes: usize) -> Vec<u8> {
    b"{\"price\": 1234.5} ".iter().copied().cycle().take(bytes).collect()
}

/// Bytes that are no text.
#[must_use]
pub fn binary(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index * 31) as u8 | 0x80).collect()
}

/// As many whole frames of a client as one receive brings, and how many they are.
///
/// Their masking key is zero: unmasking, done in place, costs the same and can be repeated on the same bytes.
#[must_use]
pub fn receive(opcode: Opcode, payload: &[u8]) -> (Vec<u8>, usize) {
    let mut frame = Vec::new();
    encode::client_frame(&mut frame, opcode, payload, [0; 4]);
    let count = RECEIVE_BYTES / frame.len();
    (frame.repeat(count), count)
}
