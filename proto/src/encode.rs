//! Frames on their way out (RFC 6455 section 5.2). Lengths are always in their shortest form.

use crate::{CONTROL_PAYLOAD_BYTES_MAX, CloseCode, HEADER_BYTES_MAX, Opcode, mask};

/// The longest header of a server's frame: two bytes and a 64-bit length.
pub const SERVER_HEADER_BYTES_MAX: usize = 10;

/// The longest reason that a close frame has room for beside its code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;

/// The header of a server's unfragmented frame and the header's length, 2, 4 or 10 bytes.
#[inline]
#[must_use]
pub const fn server_header(opcode: Opcode, payload_bytes: usize) -> ([u8; SERVER_HEADER_BYTES_MAX], usize) {
    unmasked_header(true, opcode, payload_bytes)
}

/// Length in bytes of a server's frame, header and payload.
#[inline]
#[must_use]
pub const fn server_frame_bytes(payload_bytes: usize) -> usize {
    let header_bytes = match payload_bytes {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    header_bytes + payload_bytes
}

/// Length in bytes of a client's frame: header, masking key and payload.
#[inline]
#[must_use]
pub const fn client_frame_bytes(payload_bytes: usize) -> usize {
    server_frame_bytes(payload_bytes) + 4
}

/// Appends a server's unfragmented frame.
#[inline]
pub fn server_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    frame(out, true, opcode, payload, None);
}

/// Appends a client's unfragmented frame. `key` must be unpredictable to whoever chose the payload (section 10.3).
#[inline]
pub fn client_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: [u8; 4]) {
    frame(out, true, opcode, payload, Some(key));
}

/// Appends any frame: a fragment if `fin` is false or `opcode` is [`Opcode::Continuation`], a client's if it has a key.
/// Whether it may stand at this place of the stream is the caller's concern.
#[inline]
pub fn frame(out: &mut Vec<u8>, fin: bool, opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>) {
    let (mut header, header_bytes) = unmasked_header(fin, opcode, payload.len());
    out.reserve(HEADER_BYTES_MAX + payload.len());
    let Some(key) = key else {
        out.extend_from_slice(&header[..header_bytes]);
        out.extend_from_slice(payload);
        return;
    };
    header[1] |= 0x80;
    out.extend_from_slice(&header[..header_bytes]);
    out.extend_from_slice(&key);
    let from = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[from..], key, 0);
}

/// The payload of a close frame and its length: the code, then the reason, cut between two characters if it is longer
/// than [`CLOSE_REASON_BYTES_MAX`]. A close frame without a code has an empty payload instead.
#[must_use]
pub fn close_payload(code: CloseCode, reason: &str) -> ([u8; CONTROL_PAYLOAD_BYTES_MAX], usize) {
    debug_assert!(code.is_valid_on_wire(), "close code {code} must not be sent");
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    let mut payload = [0; CONTROL_PAYLOAD_BYTES_MAX];
    payload[..2].copy_from_slice(&code.0.to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason);
    (payload, 2 + reason.len())
}

#[inline]
const fn unmasked_header(fin: bool, opcode: Opcode, payload_bytes: usize) -> ([u8; SERVER_HEADER_BYTES_MAX], usize) {
    let first = if fin { 0x80 | opcode as u8 } else { opcode as u8 };
    let [.., e, f, g, h] = (payload_bytes as u64).to_be_bytes();
    match payload_bytes {
        0..=125 => ([first, h, 0, 0, 0, 0, 0, 0, 0, 0], 2),
        126..=0xffff => ([first, 126, g, h, 0, 0, 0, 0, 0, 0], 4),
        _ => {
            let [a, b, c, d, ..] = (payload_bytes as u64).to_be_bytes();
            ([first, 127, a, b, c, d, e, f, g, h], 10)
        }
    }
}
