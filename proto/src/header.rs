//! The frame header (RFC 6455 section 5.2): two bytes, a length of 0, 2 or 8 more, and a client's masking key.
//!
//! Rules that the header alone can break are checked here, each as soon as its byte is there; size limits and the order
//! of fragments are the decoder's.

use crate::error::ProtocolError;

/// The longest header: two bytes, a 64-bit length and a masking key.
pub const HEADER_BYTES_MAX: usize = 14;

/// The longest payload of a ping, pong or close frame (section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// What a frame is (section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of the message in progress.
    Continuation = 0,
    /// Text, or its first fragment.
    Text = 1,
    /// Binary data, or its first fragment.
    Binary = 2,
    /// The last frame of its sender.
    Close = 8,
    /// To be answered by a pong with the same payload.
    Ping = 9,
    /// The answer to a ping, or a heartbeat of its own.
    Pong = 10,
}

impl Opcode {
    /// The opcode in the low four bits of a frame's first byte; `None` if reserved. The upper bits are ignored.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits & 0x0f {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Whether this is a control frame: close, ping or pong.
    #[inline]
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x08 != 0
    }
}

/// Which side of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We mask what we send and expect unmasked frames.
    Client,
    /// We expect masked frames and send unmasked ones.
    Server,
}

/// A frame header that breaks no rule of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    pub(crate) opcode: Opcode,
    /// Below 2^63.
    pub(crate) payload_bytes: u64,
    /// All zero if the frame is not masked, so that applying it changes nothing.
    pub(crate) key: [u8; 4],
    /// Length of the header itself, 2–14 bytes.
    pub(crate) header_bytes: usize,
}

/// Reads the header at the beginning of `bytes`; `Ok(None)` if more bytes are needed, at most [`HEADER_BYTES_MAX`] in all.
///
/// # Errors
/// The first rule that a header broke, in the order of its bits, as soon as the byte that broke it is there.
#[inline]
pub(crate) fn parse(role: Role, in_message: bool, bytes: &[u8]) -> Result<Option<Header>, ProtocolError> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let fin = first & FIN != 0;
    let opcode = parse_first(first, in_message)?;
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    check_second(second, role, opcode)?;

    let (payload_bytes, key_at) = match second & !MASKED {
        126 => {
            let Some(length) = bytes[2..].first_chunk() else { return Ok(None) };
            let length = u64::from(u16::from_be_bytes(*length));
            if length < 126 {
                return Err(ProtocolError::NonMinimalLength);
            }
            (length, 4)
        }
        127 => {
            let Some(length) = bytes[2..].first_chunk() else { return Ok(None) };
            let length = u64::from_be_bytes(*length);
            if length >> 63 != 0 {
                return Err(ProtocolError::LengthTopBit);
            }
            if length <= u64::from(u16::MAX) {
                return Err(ProtocolError::NonMinimalLength);
            }
            (length, 10)
        }
        length => (u64::from(length), 2),
    };
    let (key, header_bytes) = match role {
        Role::Client => ([0; 4], key_at),
        Role::Server => {
            let Some(key) = bytes[key_at..].first_chunk() else { return Ok(None) };
            (*key, key_at + 4)
        }
    };
    Ok(Some(Header { fin, opcode, payload_bytes, key, header_bytes }))
}

#[inline]
fn parse_first(first: u8, in_message: bool) -> Result<Opcode, ProtocolError> {
    if first & RESERVED != 0 {
        return Err(ProtocolError::ReservedBits);
    }
    let opcode = Opcode::from_bits(first).ok_or(ProtocolError::ReservedOpcode)?;
    match opcode {
        Opcode::Close | Opcode::Ping | Opcode::Pong if first & FIN == 0 => Err(ProtocolError::FragmentedControl),
        Opcode::Continuation if !in_message => Err(ProtocolError::UnexpectedContinuation),
        Opcode::Text | Opcode::Binary if in_message => Err(ProtocolError::ExpectedContinuation),
        opcode => Ok(opcode),
    }
}

#[inline]
fn check_second(second: u8, role: Role, opcode: Opcode) -> Result<(), ProtocolError> {
    match (role, second & MASKED != 0) {
        (Role::Server, false) => Err(ProtocolError::UnmaskedFrame),
        (Role::Client, true) => Err(ProtocolError::MaskedFrame),
        _ if opcode.is_control() && usize::from(second & !MASKED) > CONTROL_PAYLOAD_BYTES_MAX => {
            Err(ProtocolError::ControlTooLong)
        }
        _ => Ok(()),
    }
}
