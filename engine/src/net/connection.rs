//! One connection: a plain struct in the shard's slab, driven by the port's events.
//!
//! No task and no buffer per connection: what an idle one costs is this struct. The code that drives it stands beside:
//! handshake, receive, send, timers, tls.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};

use proto::{Decoder, Role};

use crate::counters::{Ended, Refused};
use crate::net::outbox::Outbox;
use crate::net::port::ConnectionId;
use crate::net::tls::Tls;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The slot is not in use, or its descriptor is being closed.
    Gone,
    /// TLS handshake, request head.
    Handshake,
    /// A plain request for a control route: its body is received.
    Requesting,
    /// The control thread has its request.
    Asking,
    /// The request is valid; its topic's home is asked.
    Joining,
    /// A WebSocket.
    Open,
    /// We sent a Close frame first; nothing but the peer's is awaited.
    Closing,
    /// The last byte is to be sent or was; input is discarded until the peer ends.
    Draining,
}

/// Yes or no, many times.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flags {
    /// The socket takes no more bytes now; `Writable` is awaited.
    pub blocked: bool,
    /// Stands in the shard's list of connections with something to send.
    pub pending: bool,
    /// Stands in the shard's list of connections with input to parse.
    pub backlogged: bool,
    /// Waits for its topic's gate.
    pub gated: bool,
    /// The port was told to stop receiving.
    pub paused: bool,
    /// The request is a HEAD: its answer has no body.
    pub head_only: bool,
    /// A request was answered and another may follow.
    pub kept_alive: bool,
    /// A Close frame is on its way, and nothing but it may follow: a second one must not be sent.
    pub sent_close: bool,
    /// FIN was sent.
    pub sent_end: bool,
    /// The peer ended its stream.
    pub received_end: bool,
    /// Counted in `websocket_connections`.
    pub counted: bool,
}

/// What a connection hears.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscription {
    /// The topic's slot on this shard.
    pub topic: u32,
    /// Index in the topic's subscribers; `u32::MAX` while the home is asked.
    pub index: u32,
}

/// See the module's description.
pub(crate) struct Connection {
    pub generation: u32,
    /// Marks its messages in logs: unique on the server for 2²⁶ connections of its shard.
    pub origin: u32,
    pub phase: Phase,
    pub flags: Flags,
    pub endpoint: u16,
    /// The first cause of the end.
    pub ended: Option<Ended>,
    /// Accepted only to be told why it is refused.
    pub refusal: Option<Refused>,
    /// The flush that it last took part in.
    pub flush: u64,
    pub peer_port: u16,
    pub peer: IpAddr,
    pub decoder: Decoder,
    pub subscription: Option<Subscription>,
    /// Received and not parsed.
    pub unparsed: Option<Box<Unparsed>>,
    pub outbox: Option<Box<Outbox>>,
    pub tls: Option<Box<Tls>>,
    /// What its endpoint's mode keeps for it.
    pub state: Option<Box<dyn Any>>,
    /// Which entry of the timer heap counts; 0 without one.
    pub timer: u32,
    /// In ms of the server's clock: when the phase began, the peer was last heard, a message came,
    /// a ping was sent, the socket last took bytes while something waited.
    pub since_ms: u32,
    pub heard_ms: u32,
    pub active_ms: u32,
    pub pinged_ms: u32,
    pub progress_ms: u32,
}

impl Connection {
    /// A connection that was just accepted.
    pub(crate) fn new(generation: u32, origin: u32, peer: (IpAddr, u16), now_ms: u32) -> Self {
        Self {
            generation,
            origin,
            phase: Phase::Handshake,
            flags: Flags::default(),
            endpoint: u16::MAX,
            ended: None,
            refusal: None,
            flush: 0,
            peer_port: peer.1,
            peer: peer.0,
            decoder: Decoder::new(Role::Server),
            subscription: None,
            unparsed: None,
            outbox: None,
            tls: None,
            state: None,
            timer: 0,
            since_ms: now_ms,
            heard_ms: now_ms,
            active_ms: now_ms,
            pinged_ms: now_ms,
            progress_ms: now_ms,
        }
    }

    /// Bytes in its outbox.
    pub(crate) fn outbox_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len())
    }

    /// Messages in its outbox.
    pub(crate) fn outbox_messages(&self) -> u64 {
        self.outbox.as_ref().map_or(0, |outbox| outbox.messages())
    }

    /// Since when the peer owes its end, in ms: while it takes what was still to be sent, since it last took some.
    pub(crate) fn closing_since_ms(&self) -> u32 {
        let later = self.progress_ms.wrapping_sub(self.since_ms).cast_signed() > 0;
        if later { self.progress_ms } else { self.since_ms }
    }

    /// Whether its request was answered and nothing of another one has come.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.phase == Phase::Handshake && self.flags.kept_alive && self.unparsed.is_none()
    }

    /// Whether more of a request is awaited: of its head, or of its body.
    pub(crate) fn is_receiving_request(&self) -> bool {
        matches!(self.phase, Phase::Handshake | Phase::Requesting)
    }

    pub(crate) fn peer_address(&self) -> SocketAddr {
        SocketAddr::new(self.peer, self.peer_port)
    }
}

/// Input that waits: for more of a request head, for a budget, for a gate.
#[derive(Default)]
pub(crate) struct Unparsed {
    bytes: Vec<u8>,
    parsed: usize,
}

impl Unparsed {
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if self.parsed > 0 && self.parsed >= self.bytes.len() / 2 {
            self.bytes.drain(..self.parsed);
            self.parsed = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.parsed..]
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.parsed
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.parsed += count;
        debug_assert!(self.parsed <= self.bytes.len(), "parsed ≤ filled");
    }
}

/// The connections of one shard. A slot is reused only after the port has reported it closed.
#[derive(Default)]
pub(crate) struct Connections {
    slots: Vec<Connection>,
    free: Vec<u32>,
}

impl Connections {
    /// The slot and generation that the next connection gets.
    pub(crate) fn next_id(&self) -> ConnectionId {
        match self.free.last() {
            Some(&slot) => {
                ConnectionId { slot, generation: self.slots[slot as usize].generation.wrapping_add(1) & 0x00ff_ffff }
            }
            None => ConnectionId { slot: self.slots.len() as u32, generation: 0 },
        }
    }

    pub(crate) fn insert(&mut self, id: ConnectionId, connection: Connection) {
        if id.slot as usize == self.slots.len() {
            self.slots.push(connection);
        } else {
            let freed = self.free.pop();
            debug_assert_eq!(freed, Some(id.slot), "the slot is the one that next_id gave");
            self.slots[id.slot as usize] = connection;
        }
    }

    /// The port has closed it: the slot is free.
    pub(crate) fn release(&mut self, id: ConnectionId) {
        debug_assert!(self.slots[id.slot as usize].phase == Phase::Gone, "only ended connections are closed");
        self.free.push(id.slot);
    }

    #[inline]
    pub(crate) fn at(&self, slot: u32) -> &Connection {
        &self.slots[slot as usize]
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, slot: u32) -> &mut Connection {
        &mut self.slots[slot as usize]
    }

    /// True if `id` is still the connection in its slot, and alive.
    pub(crate) fn is_current(&self, id: ConnectionId) -> bool {
        self.slots
            .get(id.slot as usize)
            .is_some_and(|connection| connection.generation == id.generation && connection.phase != Phase::Gone)
    }

    pub(crate) fn id(&self, slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: self.slots[slot as usize].generation }
    }

    /// Connections that hold a descriptor.
    pub(crate) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Slots of all connections that are not gone.
    pub(crate) fn alive(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, connection)| connection.phase != Phase::Gone)
            .map(|(slot, _)| slot as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Connection>() <= 160, "{} bytes", size_of::<Connection>());
        assert!(size_of::<crate::relay::topic::Subscriber>() <= 48);
    }
}
