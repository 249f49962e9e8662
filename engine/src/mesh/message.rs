//! What nodes of the mesh say to each other. Small publishes travel inline ([`PublishMeta`]), all else in a box.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;

use crate::gateway::Tags;
use crate::gateway::event::Event;
use crate::gateway::order::{Listing, Order};
use crate::mesh::ring::Meta;
use crate::net::port::ConnectionId;
use crate::net::request::PlainRequest;
use crate::relay::home::Shared;
use crate::relay::ledger::Ledger;
use crate::relay::members::Named;
use crate::relay::segment::Segment;
use crate::relay::topic::Home;

/// Where a publish goes and where it comes from: the four words of an inline record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishMeta {
    pub home_slot: u32,
    pub generation: u32,
    pub origin: u32,
    pub opcode: proto::Opcode,
}

impl PublishMeta {
    pub(crate) fn pack(self) -> Meta {
        [self.home_slot, self.generation, self.origin, self.opcode as u32]
    }

    pub(crate) fn unpack(meta: Meta) -> Self {
        let [home_slot, generation, origin, opcode] = meta;
        let opcode = if opcode == proto::Opcode::Text as u32 { proto::Opcode::Text } else { proto::Opcode::Binary };
        Self { home_slot, generation, origin, opcode }
    }
}

/// The phases of a shutdown, each begun only after all shards ended the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Not shutting down.
    Serving,
    /// No more connections.
    StopAccepting,
    /// No more input; what was read is published.
    StopReading,
    /// What is in the rings is written to the logs.
    DrainRings,
    /// What is in the logs is sent; then Close 1001, and the closing handshakes.
    Finish,
}

/// Figures for `Server::ledger()` and the last log line.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Sums over all topics that this shard ever served.
    pub total: Ledger,
    /// Topics that live now, by name.
    pub topics: Vec<(String, Ledger)>,
    /// Connections that are open now.
    pub connections: u64,
}

/// A newcomer's wish.
#[derive(Debug)]
pub(crate) struct Claim {
    pub home: Home,
    pub id: ConnectionId,
    pub wanted: Box<str>,
}

/// A boxed record.
pub(crate) enum Message {
    /// Reader → home: the first subscriber of the sender's shard.
    Subscribe { name: Arc<str>, endpoint: u16, topic: u32 },
    /// Home → reader: the topic is live for you from the end of what `segment` holds.
    Subscribed { topic: u32, home: Home, shared: Arc<Shared>, segment: Arc<Segment> },
    /// Home → reader: `topics_max` is reached.
    Refused { topic: u32 },
    /// Reader → home: the last subscriber has left; follows all its publishes.
    Unsubscribe { home: Home },
    /// Reader → home: a connection asks for a name.
    Claim(Claim),
    /// Home → reader: the name and where its subscription starts, or that there is none left.
    Named { id: ConnectionId, named: Option<Named> },
    /// Reader → home: the connection in `slot` gives its name back; follows its publishes and its claim.
    Leave { home: Home, slot: u32 },
    /// Reader → home: a large message, already framed.
    Publish { to: PublishMeta, frame: Bytes },
    /// Shard → control: something happened to a connection of the gateway.
    Event(Event),
    /// Shard → control: the tags of a connection were changed to these.
    Tagged(Uuid, Tags),
    /// Shard → control: a request for a control route.
    Request(Box<PlainRequest>),
    /// Control → shard: what to answer to a request, and whether the connection ends with it.
    Answer { id: ConnectionId, bytes: Bytes, close: bool },
    /// Control → shard: do this to connections of the gateway.
    Order(Order),
    /// Control → shard: your connections of the gateway, please.
    List(UnboundedSender<Listing>),
    /// Control → shard: begin this phase, and say when it is over.
    Begin(Phase, UnboundedSender<usize>),
    /// Control → shard: say that you are there.
    Alive(UnboundedSender<()>),
    /// Control → shard: your figures, please.
    Report(UnboundedSender<Report>),
    /// Control → shard: end at once, with your last figures.
    Stop(UnboundedSender<Report>),
}
