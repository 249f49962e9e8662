//! What the applications behind a gateway learn of its connections.

use std::net::SocketAddr;

use bytes::Bytes;
use proto::Opcode;
use uuid::Uuid;

use super::Tags;

/// Something that happened to one connection. The events of a connection keep their order: an open, messages, a close.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub connection: Uuid,
    /// Index in `Config::endpoints`.
    pub endpoint: u16,
    /// As of the event.
    pub tags: Tags,
    pub action: Action,
}

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// It was opened by a client at this address.
    Open { peer: SocketAddr },
    /// It sent a message: text that is valid UTF-8, or binary.
    Message { opcode: Opcode, body: Bytes },
    /// It has ended.
    Close,
}
