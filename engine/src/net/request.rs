//! Plain requests for the control routes: head and body are collected here, the control thread answers.
//!
//! The connection stays where it is: the request goes through the mesh, the answer comes back the same way and leaves by
//! the outbox; then the next request may follow (HTTP/1.1 keep-alive), or an upgrade.

use std::net::SocketAddr;

use bytes::Bytes;
use proto::handshake::{BodyDecoder, BodyLength, Head, HeadLimits};

use crate::config::Config;
use crate::control::access::Access;
use crate::counters::Refused;
use crate::gateway::CONTROL_PATHS;
use crate::mesh::message::Message;
use crate::modes::Refusal;
use crate::net::connection::Phase;
use crate::net::port::ConnectionId;
use crate::shard::Shard;

/// ms that the control thread may take to answer.
pub(crate) const ANSWER_TIMEOUT_MS: u64 = 35_000;
/// ms that a connection may wait for its next request; then it is closed without a word.
pub(crate) const KEEP_ALIVE_MS: u64 = 60_000;
/// Bytes of answers that a client has not taken beyond which its next request waits.
const ANSWERS_BYTES_MAX: usize = 64 << 10;
/// For those who may use the control routes: long enough for a selector that names a thousand connections.
const CONTROL_HEAD_LIMITS: HeadLimits = HeadLimits { head_bytes_max: 128 << 10, headers_max: 100 };

/// A request on its way to the control thread.
pub(crate) struct PlainRequest {
    pub shard: usize,
    pub connection: ConnectionId,
    pub peer: SocketAddr,
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// Whether another request may follow.
    pub keeps_alive: bool,
}

/// What a connection keeps while its request is received and answered.
struct Exchange {
    /// `None` once it is on its way.
    incoming: Option<(Box<PlainRequest>, BodyDecoder)>,
}

/// Who may use the control routes of this configuration; `None` if it has no gateway.
pub(crate) fn control_access(config: &Config) -> Option<Access> {
    config.has_gateway().then(|| Access::of_config(config, ""))
}

impl Shard {
    /// How long a request's head may be.
    pub(crate) fn head_limits(&self, slot: u32) -> HeadLimits {
        let peer = self.connections.at(slot).peer;
        match &self.control_access {
            Some(access) if access.allows(peer) => CONTROL_HEAD_LIMITS,
            _ => HeadLimits::default(),
        }
    }

    /// Begins a request for a control route. `None` if it is for something else.
    pub(crate) fn begin_request(&mut self, slot: u32, head: &Head<'_>) -> Option<Result<(), Refusal>> {
        let access = self.control_access.as_ref()?;
        if head.wants_websocket() || !CONTROL_PATHS.contains(&head.path()) {
            return None;
        }
        if !access.allows(self.connections.at(slot).peer) {
            return Some(Err(Refusal::new(403, Refused::Network, "address not allowed")));
        }
        let decoder = match BodyDecoder::new(head.body(), self.config.control_body_bytes_max as u64) {
            Ok(decoder) => decoder,
            Err(error) => return Some(Err(Refusal::new(error.status(), Refused::TooLarge, error.to_string()))),
        };
        let request = Box::new(PlainRequest {
            shard: self.index,
            connection: self.connections.id(slot),
            peer: self.connections.at(slot).peer_address(),
            method: head.method().to_owned(),
            path: head.path().to_owned(),
            query: head.query().map(str::to_owned),
            headers: head.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
            body: Vec::new(),
            keeps_alive: head.keeps_alive(),
        });
        let now = self.now_ms();
        let connection = self.connections.at_mut(slot);
        connection.phase = Phase::Requesting;
        connection.since_ms = now;
        connection.state = Some(Box::new(Exchange { incoming: Some((request, decoder)) }));
        let expects = head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
        if expects && head.version_minor() == 1 && head.body() != BodyLength::Bytes(0) {
            self.outbox(slot).raw(|out| out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
            self.want_send(slot);
        }
        self.receive_body(slot);
        self.arm_timer(slot);
        Some(Ok(()))
    }

    /// Goes on with the body; what was received waits unparsed.
    pub(crate) fn receive_body(&mut self, slot: u32) {
        let now = self.now_ms();
        let connection = self.connections.at_mut(slot);
        let exchange = connection.state.as_mut().and_then(|state| state.downcast_mut::<Exchange>());
        let Some(Exchange { incoming }) = exchange else { return };
        let Some((request, decoder)) = incoming else { return };
        if let Some(mut unparsed) = connection.unparsed.take() {
            match decoder.decode(unparsed.rest(), &mut request.body) {
                Ok(used) => unparsed.consume(used),
                Err(error) => {
                    let counted = if error.status() == 413 { Refused::TooLarge } else { Refused::Malformed };
                    return self.refuse(slot, error.status(), counted, &error.to_string());
                }
            }
            if unparsed.len() > 0 {
                connection.unparsed = Some(unparsed);
            }
        }
        if !decoder.is_done() {
            return;
        }
        if let Some((request, _)) = incoming.take() {
            let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            let bytes = size_of::<PlainRequest>()
                + request.query.as_ref().map_or(0, String::len)
                + headers
                + request.body.len();
            connection.since_ms = now;
            connection.phase = Phase::Asking;
            self.node.send(self.control_node(), Message::Request(request), bytes);
            self.arm_timer(slot);
        }
    }

    /// Whether so many answers wait that the next request has to.
    pub(crate) fn owes_answers(&self, slot: u32) -> bool {
        self.connections.at(slot).outbox_bytes() > ANSWERS_BYTES_MAX
    }

    /// The control thread answers.
    pub(crate) fn on_answer(&mut self, id: ConnectionId, bytes: Bytes, close: bool) {
        if !self.connections.is_current(id) || self.connections.at(id.slot).phase != Phase::Asking {
            // It went away, or the shutdown came first.
            return;
        }
        let slot = id.slot;
        self.outbox(slot).shared_raw(bytes);
        self.want_send(slot);
        let now = self.now_ms();
        let connection = self.connections.at_mut(slot);
        connection.state = None;
        if close || connection.flags.received_end && connection.unparsed.is_none() {
            return self.begin_draining(slot);
        }
        connection.phase = Phase::Handshake;
        connection.flags.kept_alive = true;
        connection.since_ms = now;
        self.resume_parsing(slot);
        self.arm_timer(slot);
    }
}
