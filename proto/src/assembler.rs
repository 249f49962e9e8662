//! Where messages that arrive in pieces are put together: recycled buffers whose sum is bounded per shard.
//!
//! In: unmasked pieces. Out: a payload lent from the buffer, or from [`OWNED_BYTES_MIN`] up the buffer itself, with room
//! in front in which the server's frame header is written without a copy. A buffer grows by doubling as bytes arrive, never
//! by what a header announces.

use std::ops::Deref;

use bytes::{Buf as _, Bytes};

use crate::encode::{SERVER_HEADER_BYTES_MAX, server_header};
use crate::header::HEADER_BYTES_MAX;
use crate::{CONTROL_PAYLOAD_BYTES_MAX, Opcode, ProtocolError};

/// Assembled payloads from this size up leave as [`OwnedPayload`]; smaller ones are lent, which keeps their buffer.
pub const OWNED_BYTES_MIN: usize = 16 * 1024;

/// Room in front of each assembled payload.
const ROOM_BYTES: usize = SERVER_HEADER_BYTES_MAX;

/// The first capacity of a buffer, unless the message is known to be shorter.
const CAPACITY_BYTES_MIN: usize = 512;

/// What a pool keeps for reuse at most; the rest goes back to the allocator when its message is done.
const IDLE_BYTES_MAX: usize = 1024 * 1024;

/// The assembly buffers of one shard: recycles them and bounds their sum.
///
/// A decoder must be used with one pool only, and give back what it holds with
/// [`Decoder::release`](crate::Decoder::release) when its connection ends.
#[derive(Debug)]
pub struct AssemblyPool {
    #[expect(
        clippy::vec_box,
        reason = "the boxes move between the pool and decoders, which have room for a pointer only"
    )]
    idle: Vec<Box<Assembly>>,
    /// The part of `held_bytes` that lies in `idle`.
    idle_bytes: usize,
    /// Memory in all buffers, idle or at work; `≤ held_bytes_max`.
    held_bytes: usize,
    held_bytes_max: usize,
    /// Buffers given out so far.
    taken: u64,
}

/// What a decoder holds of its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Bytes of memory.
    pub bytes: usize,
    /// The smaller, the longer it is held.
    pub number: u64,
}

impl AssemblyPool {
    /// A pool whose buffers, at work and idle, take at most `held_bytes_max` bytes.
    #[must_use]
    pub const fn new(held_bytes_max: usize) -> Self {
        Self { idle: Vec::new(), idle_bytes: 0, held_bytes: 0, held_bytes_max, taken: 0 }
    }

    /// Bytes of memory in all buffers, at work and idle.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether so much of the bound is used that who has held most of it for longest should give it back: a newcomer that
    /// finds no room is refused, and it is not the one to blame.
    #[must_use]
    pub const fn is_tight(&self) -> bool {
        self.held_bytes - self.idle_bytes > self.held_bytes_max / 4 * 3
    }

    /// An empty buffer.
    ///
    /// # Errors
    /// [`ProtocolError::Overloaded`] if the pool's bound leaves no room for it.
    pub(crate) fn take(&mut self) -> Result<Box<Assembly>, ProtocolError> {
        let mut assembly = match self.idle.pop() {
            Some(assembly) => {
                self.idle_bytes -= assembly.memory_bytes();
                assembly
            }
            None => {
                let assembly = Box::new(Assembly::new());
                self.charge(assembly.memory_bytes())?;
                assembly
            }
        };
        self.taken += 1;
        assembly.number = self.taken;
        Ok(assembly)
    }

    /// Takes a buffer back.
    pub(crate) fn put(&mut self, mut assembly: Box<Assembly>) {
        let memory_bytes = assembly.memory_bytes();
        if self.idle_bytes + memory_bytes > IDLE_BYTES_MAX {
            self.held_bytes -= memory_bytes;
            return;
        }
        assembly.clear();
        self.idle_bytes += memory_bytes;
        self.idle.push(assembly);
    }

    /// Appends a piece of a message. `to_come` bytes at most will follow it: growth does not overshoot them.
    ///
    /// # Errors
    /// [`ProtocolError::Overloaded`] if the pool's bound leaves no room for it.
    pub(crate) fn append(
        &mut self,
        assembly: &mut Assembly,
        piece: &[u8],
        to_come: usize,
    ) -> Result<(), ProtocolError> {
        let buffer = &mut assembly.message;
        let needed = buffer.len().max(ROOM_BYTES) + piece.len();
        if needed > buffer.capacity() {
            let generous = (2 * buffer.capacity()).max(CAPACITY_BYTES_MIN).min(needed.saturating_add(to_come));
            let wanted = needed.max(generous);
            let held = buffer.capacity();
            let target = match self.charge(wanted - held) {
                Ok(()) => wanted,
                Err(_) => {
                    self.charge(needed - held)?;
                    needed
                }
            };
            buffer.reserve_exact(target - buffer.len());
            // `reserve_exact` may give more than it was asked for.
            self.held_bytes += buffer.capacity() - target;
        }
        if buffer.is_empty() {
            buffer.resize(ROOM_BYTES, 0);
        }
        buffer.extend_from_slice(piece);
        Ok(())
    }

    /// Takes a long message out of its buffer; from now on it is the caller's and not in the pool's account.
    pub(crate) fn detach(&mut self, assembly: &mut Assembly) -> OwnedPayload {
        let mut buffer = std::mem::take(&mut assembly.message);
        self.held_bytes -= buffer.capacity();
        // It may be kept for long: give back what doubling overshot, unless that is little.
        if buffer.capacity() - buffer.len() > buffer.len() / 4 {
            buffer.shrink_to_fit();
        }
        OwnedPayload { buffer }
    }

    /// Makes room for `bytes` more, at the cost of idle buffers.
    fn charge(&mut self, bytes: usize) -> Result<(), ProtocolError> {
        while self.held_bytes.saturating_add(bytes) > self.held_bytes_max {
            let Some(assembly) = self.idle.pop() else { return Err(ProtocolError::Overloaded) };
            self.idle_bytes -= assembly.memory_bytes();
            self.held_bytes -= assembly.memory_bytes();
        }
        self.held_bytes += bytes;
        Ok(())
    }
}

/// The pieces of one connection's unfinished message, of a control frame that came in between, and of a header.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// Empty, or [`ROOM_BYTES`] of room and the message so far.
    message: Vec<u8>,
    control: [u8; CONTROL_PAYLOAD_BYTES_MAX],
    /// `≤ CONTROL_PAYLOAD_BYTES_MAX`.
    control_bytes: u8,
    header: [u8; HEADER_BYTES_MAX],
    /// See [`Held`].
    number: u64,
}

impl Assembly {
    const fn new() -> Self {
        Self {
            message: Vec::new(),
            control: [0; CONTROL_PAYLOAD_BYTES_MAX],
            control_bytes: 0,
            header: [0; HEADER_BYTES_MAX],
            number: 0,
        }
    }

    pub(crate) fn held(&self) -> Held {
        Held { bytes: self.memory_bytes(), number: self.number }
    }

    /// The message so far.
    pub(crate) fn message(&self) -> &[u8] {
        self.message.get(ROOM_BYTES..).unwrap_or_default()
    }

    /// The control frame's payload so far.
    pub(crate) fn control(&self) -> &[u8] {
        &self.control[..usize::from(self.control_bytes)]
    }

    /// Forgets the control frame.
    pub(crate) fn clear_control(&mut self) {
        self.control_bytes = 0;
    }

    /// Appends a piece of a control frame, whose length the header check has bounded.
    pub(crate) fn append_control(&mut self, piece: &[u8]) {
        let from = usize::from(self.control_bytes);
        let to = from + piece.len();
        self.control[from..to].copy_from_slice(piece);
        self.control_bytes = to as u8;
    }

    /// Room for a header in pieces; how much of it is filled the decoder knows.
    pub(crate) fn header(&mut self) -> &mut [u8; HEADER_BYTES_MAX] {
        &mut self.header
    }

    fn clear(&mut self) {
        self.message.clear();
        self.clear_control();
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.message.capacity()
    }
}

/// An assembled payload in a buffer of its own, with room in front for a server's frame header.
#[derive(Debug)]
pub struct OwnedPayload {
    /// [`ROOM_BYTES`] of room, then the payload.
    buffer: Vec<u8>,
}

impl OwnedPayload {
    /// The payload alone, without a copy.
    #[must_use]
    pub fn into_payload(self) -> Bytes {
        let mut bytes = Bytes::from(self.buffer);
        bytes.advance(ROOM_BYTES);
        bytes
    }

    /// The payload as a server's unfragmented frame, without a copy: the header is written into the room in front.
    #[must_use]
    pub fn into_server_frame(mut self, opcode: Opcode) -> Bytes {
        let (header, header_bytes) = server_header(opcode, self.len());
        let from = ROOM_BYTES - header_bytes;
        self.buffer[from..ROOM_BYTES].copy_from_slice(&header[..header_bytes]);
        let mut bytes = Bytes::from(self.buffer);
        bytes.advance(from);
        bytes
    }
}

impl Deref for OwnedPayload {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.buffer[ROOM_BYTES..]
    }
}
