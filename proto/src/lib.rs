//! Sans-IO WebSocket protocol (RFC 6455): bytes in, events out; no sockets, clocks, threads or randomness.
//!
//! A byte walks through the files in this order: [`handshake`] → `header` → [`mask`] → [`utf8`] → `assembler` →
//! `decoder` → `event`; and back out through [`encode`]. `close` and `error` say how it ends.
//!
//! What a peer announces is never believed: every limit is applied to the frame header, and memory grows only as bytes
//! arrive. Extensions are declined, so any reserved bit is an error.
#![forbid(unsafe_code)]

mod assembler;
mod close;
mod decoder;
pub mod encode;
mod error;
mod event;
pub mod handshake;
mod header;
pub mod mask;
pub mod utf8;

pub use assembler::{AssemblyPool, Held, OWNED_BYTES_MIN, OwnedPayload};
pub use close::{CloseCode, CloseFrame};
pub use decoder::{Decoder, Limits};
pub use error::ProtocolError;
pub use event::{Decoded, Event, Message, Payload};
pub use header::{CONTROL_PAYLOAD_BYTES_MAX, HEADER_BYTES_MAX, Opcode, Role};
