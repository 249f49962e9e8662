//! What the decoder hands out: messages and control frames, borrowed from the input or from the decoder where possible.

use std::ops::Deref;

use crate::{CloseFrame, Opcode, OwnedPayload};

/// What one call of [`Decoder::decode`](crate::Decoder::decode) did.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// Bytes of the input that are dealt with; all of it if there is no event.
    pub consumed: usize,
    /// What came out; `None` if more input is needed.
    pub event: Option<Event<'a>>,
}

/// Something that arrived whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message, of however many fragments.
    Message(Message<'a>),
    /// A ping, to be answered by a pong with this payload (at most 125 bytes).
    Ping(&'a [u8]),
    /// A pong with its payload (at most 125 bytes).
    Pong(&'a [u8]),
    /// A close frame; what follows it is to be discarded (RFC 6455 section 5.5.1).
    Close(Option<CloseFrame<'a>>),
}

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// [`Opcode::Text`], whose payload is UTF-8, or [`Opcode::Binary`].
    pub opcode: Opcode,
    /// The message itself, unmasked.
    pub payload: Payload<'a>,
}

/// A message's payload.
#[derive(Debug)]
pub enum Payload<'a> {
    /// Lies in the input or in the decoder; copy what must outlive it.
    Slice(&'a [u8]),
    /// Assembled, of [`OWNED_BYTES_MIN`](crate::OWNED_BYTES_MIN) or more bytes; may be kept without a copy.
    Owned(OwnedPayload),
}

impl Deref for Payload<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Slice(slice) => slice,
            Self::Owned(owned) => owned,
        }
    }
}

impl AsRef<[u8]> for Payload<'_> {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Payloads are equal if their bytes are, wherever these lie.
impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Payload<'_> {}
