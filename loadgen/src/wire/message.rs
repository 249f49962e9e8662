//! Frames become messages and control frames, whatever pieces the bytes arrive in.
//!
//! A message in one frame, which is nearly every message, is handed out as a slice of the receive buffer. `masked`
//! input (the null peers' side) is unmasked in place.

use super::frame::{self, WireError};

/// A connection gives up on a message above this size.
pub(crate) const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// First bytes of a message in one frame.
const WHOLE_TEXT: u8 = 0x80 | frame::TEXT;
const WHOLE_BINARY: u8 = 0x80 | frame::BINARY;

/// What the other side said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    /// A whole message, text or binary.
    Message {
        opcode: u8,
        payload: &'a [u8],
    },
    Ping(&'a [u8]),
    Pong,
    /// The close code, 1005 where there was none.
    Close {
        code: u16,
    },
}

/// The fragments of a message so far; empty between messages.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// Opcode of the message in pieces; 0: there is none.
    opcode: u8,
    bytes: Vec<u8>,
}

/// Hands every whole frame in `bytes` to `on` and returns how many bytes they took.
///
/// # Errors
/// At the first frame that breaks RFC 6455; what stood before it has been handed out.
#[inline]
pub(crate) fn decode_server(
    bytes: &[u8],
    assembly: &mut Assembly,
    mut on: impl FnMut(Incoming<'_>),
) -> Result<usize, WireError> {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        // What nearly every frame is: a whole short message.
        if let [first @ (WHOLE_TEXT | WHOLE_BINARY), length @ ..=125, rest @ ..] = rest
            && let Some(payload) = rest.get(..usize::from(*length))
            && assembly.opcode == 0
        {
            on(Incoming::Message { opcode: first & 0x0F, payload });
            at += 2 + payload.len();
            continue;
        }
        let Some(header) = frame::decode_header(rest, false)? else { return Ok(at) };
        let end = frame_end(&header)?;
        let Some(payload) = rest.get(header.header_bytes..end) else { return Ok(at) };
        if header.fin && matches!(header.opcode, frame::TEXT | frame::BINARY) && assembly.opcode == 0 {
            on(Incoming::Message { opcode: header.opcode, payload });
        } else {
            take_other(&header, payload, assembly, &mut on)?;
        }
        at += end;
    }
}

/// As [`decode_server`], for what clients send: unmasks in place.
///
/// # Errors
/// As [`decode_server`].
pub(crate) fn decode_client(
    bytes: &mut [u8],
    assembly: &mut Assembly,
    mut on: impl FnMut(Incoming<'_>),
) -> Result<usize, WireError> {
    let mut at = 0;
    loop {
        let rest = &mut bytes[at..];
        let Some(header) = frame::decode_header(rest, true)? else { return Ok(at) };
        let end = frame_end(&header)?;
        let Some(payload) = rest.get_mut(header.header_bytes..end) else { return Ok(at) };
        frame::mask(payload, header.key.unwrap_or_default());
        if header.fin && matches!(header.opcode, frame::TEXT | frame::BINARY) && assembly.opcode == 0 {
            on(Incoming::Message { opcode: header.opcode, payload });
        } else {
            take_other(&header, payload, assembly, &mut on)?;
        }
        at += end;
    }
}

fn frame_end(header: &frame::Header) -> Result<usize, WireError> {
    if header.payload_bytes > MESSAGE_BYTES_MAX {
        return Err(WireError::TooLong);
    }
    Ok(header.header_bytes + header.payload_bytes as usize)
}

/// Control frames and fragments.
#[cold]
fn take_other(
    header: &frame::Header,
    payload: &[u8],
    assembly: &mut Assembly,
    on: &mut impl FnMut(Incoming<'_>),
) -> Result<(), WireError> {
    match header.opcode {
        frame::CLOSE => {
            let code = payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code));
            on(Incoming::Close { code });
        }
        frame::PING => on(Incoming::Ping(payload)),
        frame::PONG => on(Incoming::Pong),
        opcode => {
            if (opcode == frame::CONTINUATION) != (assembly.opcode != 0) {
                return Err(WireError::Fragmentation);
            }
            if assembly.bytes.len() as u64 + header.payload_bytes > MESSAGE_BYTES_MAX {
                return Err(WireError::TooLong);
            }
            assembly.opcode |= opcode;
            assembly.bytes.extend_from_slice(payload);
            if header.fin {
                on(Incoming::Message { opcode: assembly.opcode, payload: &assembly.bytes });
                *assembly = Assembly::default();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(incoming: Incoming<'_>) -> String {
        format!("{incoming:?}")
    }

    /// A stream with every kind of frame in it, a ping between two fragments included.
    fn stream() -> Vec<u8> {
        let mut out = Vec::new();
        frame::append_frame(&mut out, frame::TEXT, b"whole", None);
        out.extend_from_slice(&[0x02, 3, b'a', b'b', b'c']);
        frame::append_frame(&mut out, frame::PING, b"p", None);
        out.extend_from_slice(&[0x00, 0, 0x80, 2, b'd', b'e']);
        frame::append_frame(&mut out, frame::BINARY, &[7; 300], None);
        frame::append_frame(&mut out, frame::CLOSE, &1001u16.to_be_bytes(), None);
        out
    }

    #[test]
    fn any_cutting_gives_the_same_messages_as_the_whole() {
        let stream = stream();
        let mut whole = Vec::new();
        let used = decode_server(&stream, &mut Assembly::default(), |m| whole.push(said(m))).unwrap();
        assert_eq!((used, whole.len()), (stream.len(), 5));
        assert!(whole[2].contains("opcode: 2, payload: [97, 98, 99, 100, 101]"), "{whole:?}");
        for cut in 0..stream.len() {
            let (mut pieces, mut assembly) = (Vec::new(), Assembly::default());
            let used = decode_server(&stream[..cut], &mut assembly, |m| pieces.push(said(m))).unwrap();
            let rest = decode_server(&stream[used..], &mut assembly, |m| pieces.push(said(m))).unwrap();
            assert_eq!((used + rest, &pieces), (stream.len(), &whole), "cut at {cut}");
        }
    }

    #[test]
    fn what_a_client_masks_the_peer_unmasks() {
        let mut out = Vec::new();
        frame::append_frame(&mut out, frame::BINARY, b"payload", Some([1, 2, 3, 4]));
        let mut seen = Vec::new();
        decode_client(&mut out, &mut Assembly::default(), |m| seen.push(said(m))).unwrap();
        assert_eq!(seen, [said(Incoming::Message { opcode: 2, payload: b"payload" })]);
    }

    #[test]
    fn fragments_out_of_order_and_endless_messages_are_refused() {
        let refuse = |bytes: &[u8]| decode_server(bytes, &mut Assembly::default(), |_| {});
        assert_eq!(refuse(&[0x80, 0]), Err(WireError::Fragmentation));
        assert_eq!(refuse(&[0x01, 0, 0x81, 0]), Err(WireError::Fragmentation));
        assert_eq!(refuse(&[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]), Err(WireError::TooLong));
    }
}
