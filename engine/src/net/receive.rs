//! Bytes in: frames out of them, messages to the endpoint's mode, and the closing handshake.
//!
//! Input is parsed where it was received. What cannot be parsed yet (a budget is used up, a gate is closed, an outbox
//! is full) waits unparsed in the connection; beyond [`PAUSE_BYTES`] the port stops receiving, and TCP slows the peer.

use std::rc::Rc;

use proto::{CloseCode, CloseFrame, Decoder, Event, ProtocolError, Role};

use crate::counters::{Dropped, Ended};
use crate::mesh::message::Phase as ShutdownPhase;
use crate::modes::Actions;
use crate::net::connection::Phase;
use crate::net::port::ConnectionId;
use crate::shard::Shard;

/// Frames of one connection that are parsed at a stretch, in a received buffer or what waits unparsed: a flood of empty ones
/// costs about 30 µs.
const FRAMES_AT_ONCE: usize = 1024;
/// µs for input that waited unparsed, in each turn: beside those for what has just arrived.
const BACKLOG_US_PER_TURN: u64 = 500;
/// Bytes of an unfinished message from which it counts as large.
const LARGE_ASSEMBLY_BYTES: usize = 64 << 10;
/// Unparsed bytes of one connection beyond which it is no longer received from.
const PAUSE_BYTES: usize = 64 << 10;

/// Why parsing stopped before the end of the input.
enum Stop {
    /// All input is used.
    Done,
    /// The turn's budget for the connection is.
    Budget,
    /// The topic's gate is closed.
    Gate,
    /// The ring to the topic's home, or to the control thread, is full.
    Congestion,
    /// The connection does not read what it is sent; goes on when its outbox is drained.
    Outbox,
    /// The connection is at its end; the rest does not matter.
    Ended,
}

impl Shard {
    pub(crate) fn on_received(&mut self, id: ConnectionId, input: &mut [u8]) {
        if !self.connections.is_current(id) {
            return;
        }
        let now = self.now_ms();
        let connection = self.connections.at_mut(id.slot);
        connection.heard_ms = now;
        if connection.flags.counted {
            self.counters().bytes_received.add(input.len() as u64);
        }
        if self.connections.at(id.slot).tls.is_some() {
            self.receive_cipher(id, input);
        } else {
            self.receive_plain(id.slot, input);
        }
    }

    /// Takes what the peer said, decrypted.
    pub(crate) fn receive_plain(&mut self, slot: u32, input: &mut [u8]) {
        match self.connections.at(slot).phase {
            Phase::Handshake if self.owes_answers(slot) => self.stash(slot, input),
            Phase::Handshake => self.receive_head(slot, input),
            Phase::Joining | Phase::Asking => self.stash(slot, input),
            Phase::Requesting => {
                self.stash(slot, input);
                self.parse_stash(slot);
            }
            Phase::Open | Phase::Closing => {
                if self.connections.at(slot).unparsed.is_some() {
                    return self.stash(slot, input);
                }
                let used = self.parse(slot, input);
                if used < input.len() {
                    self.stash(slot, &input[used..]);
                }
            }
            Phase::Draining | Phase::Gone => {}
        }
    }

    /// Keeps input for later.
    pub(crate) fn stash(&mut self, slot: u32, input: &[u8]) {
        self.counters().copied_bytes.add(input.len() as u64);
        let connection = self.connections.at_mut(slot);
        let unparsed = connection.unparsed.get_or_insert_default();
        unparsed.append(input);
        if unparsed.len() > PAUSE_BYTES && !connection.flags.paused {
            connection.flags.paused = true;
            self.port.pause(slot);
        }
    }

    /// Goes on with connections that a budget or a gate had stopped.
    pub(crate) fn run_backlog(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        // A time of its own: new input may have used up the turn's, in every turn.
        let began_us = self.clock.now_us();
        for taken in 0..self.backlog.len() {
            if taken > 0 && self.clock.now_us() - began_us > BACKLOG_US_PER_TURN {
                break;
            }
            let Some(id) = self.backlog.pop_front() else { break };
            if self.connections.is_current(id) {
                self.connections.at_mut(id.slot).flags.backlogged = false;
                self.parse_stash(id.slot);
            }
        }
    }

    fn parse_stash(&mut self, slot: u32) {
        match self.connections.at(slot).phase {
            Phase::Open | Phase::Closing => {
                if let Some(mut unparsed) = self.connections.at_mut(slot).unparsed.take() {
                    let used = self.parse(slot, unparsed.rest());
                    unparsed.consume(used);
                    let connection = self.connections.at_mut(slot);
                    if unparsed.len() > 0 && matches!(connection.phase, Phase::Open | Phase::Closing) {
                        connection.unparsed = Some(unparsed);
                    }
                }
            }
            Phase::Requesting => {
                self.receive_body(slot);
                let connection = self.connections.at(slot);
                if connection.is_receiving_request() && connection.flags.received_end {
                    // The rest of its body will not come.
                    return self.end(slot, Ended::Client, false);
                }
            }
            Phase::Handshake if self.owes_answers(slot) => return,
            Phase::Handshake => self.receive_next_head(slot),
            Phase::Joining | Phase::Asking | Phase::Draining | Phase::Gone => return,
        }
        let shutting_down = self.phase >= ShutdownPhase::StopReading;
        let connection = self.connections.at_mut(slot);
        let may_resume = connection.phase != Phase::Gone && (!shutting_down || connection.phase != Phase::Open);
        // Where a request is received, what is left of the input waits for more.
        let wants_more = connection.unparsed.is_none() || connection.is_receiving_request();
        if wants_more && may_resume && std::mem::take(&mut connection.flags.paused) {
            self.port.resume(slot);
        }
        self.on_last_input(slot);
    }

    /// Has the connection's stash parsed in the next turn, if it has one, and its end of stream heeded. Never at once: the
    /// caller may stand in the middle of a topic that would end with it.
    pub(crate) fn resume_parsing(&mut self, slot: u32) {
        let id = self.connections.id(slot);
        let connection = self.connections.at_mut(slot);
        connection.flags.gated = false;
        let has_input = connection.unparsed.is_some() || connection.flags.received_end;
        if has_input && !connection.flags.backlogged {
            connection.flags.backlogged = true;
            self.backlog.push_back(id);
        }
    }

    /// Parses as much as may be parsed now. Returns the bytes used; the rest must be stashed.
    fn parse(&mut self, slot: u32, input: &mut [u8]) -> usize {
        let id = self.connections.id(slot);
        let router = Rc::clone(&self.router);
        let connection = self.connections.at_mut(slot);
        let endpoint = router.endpoint(connection.endpoint);
        let mut decoder = std::mem::replace(&mut connection.decoder, Decoder::new(Role::Server));
        let (mut used, mut frames) = (0, 0);
        let received = input.as_ptr_range();
        let stop = loop {
            if let Some(stop) = self.must_stop(slot, frames) {
                break stop;
            }
            frames += 1;
            let decoded = match decoder.decode(&mut input[used..], &endpoint.limits, &mut self.assembly) {
                Ok(decoded) => decoded,
                Err(error) => {
                    self.fail(slot, error);
                    break Stop::Ended;
                }
            };
            used += decoded.consumed;
            let Some(event) = decoded.event else { break Stop::Done };
            match event {
                Event::Message(message) => {
                    self.counters().messages_received.inc();
                    if !received.contains(&message.payload.as_ptr()) {
                        // Put together from pieces.
                        self.counters().copied_bytes.add(message.payload.len() as u64);
                    }
                    let now = self.now_ms();
                    let connection = self.connections.at_mut(slot);
                    connection.active_ms = now;
                    if connection.phase == Phase::Open {
                        endpoint.mode.message(&mut Actions::new(self, slot), message);
                    }
                }
                Event::Ping(payload) => self.on_ping(slot, payload),
                Event::Pong(_) => {}
                Event::Close(frame) => self.on_close(slot, frame),
            }
        };
        if self.connections.is_current(id) && !matches!(stop, Stop::Ended) {
            self.connections.at_mut(slot).decoder = decoder;
        } else {
            decoder.release(&mut self.assembly);
            return input.len();
        }
        if used < input.len() {
            self.wait_for(id, &stop);
        }
        used
    }

    /// Why no further frame of this connection may be parsed now.
    fn must_stop(&self, slot: u32, frames: usize) -> Option<Stop> {
        let connection = self.connections.at(slot);
        match connection.phase {
            Phase::Open => {}
            Phase::Closing => return (frames >= FRAMES_AT_ONCE).then_some(Stop::Budget),
            _ => return Some(Stop::Ended),
        }
        if frames >= FRAMES_AT_ONCE {
            return Some(Stop::Budget);
        }
        if self.phase >= ShutdownPhase::StopReading {
            // What was read is accepted: nothing may hold it back any more.
            return None;
        }
        let endpoint = self.router.endpoint(connection.endpoint);
        if endpoint.tells_control && self.node.is_congested(self.control_node()) {
            return Some(Stop::Congestion);
        }
        let window_bytes = endpoint.bounds.window_bytes;
        if connection.outbox_bytes() as u64 + self.timers.delayed_bytes(self.connections.id(slot)) > window_bytes {
            return Some(Stop::Outbox);
        }
        let subscription = connection.subscription?;
        let topic = self.topics.topic(subscription.topic);
        if topic.is_closed() {
            return Some(Stop::Gate);
        }
        let home = topic.home.shard as usize;
        (home != self.index && self.node.is_congested(home)).then_some(Stop::Congestion)
    }

    /// Sees to it that parsing goes on when what stopped it is over.
    fn wait_for(&mut self, id: ConnectionId, stop: &Stop) {
        let connection = self.connections.at_mut(id.slot);
        match stop {
            Stop::Budget => {
                if !std::mem::replace(&mut connection.flags.backlogged, true) {
                    self.backlog.push_back(id);
                }
            }
            Stop::Gate => {
                if !std::mem::replace(&mut connection.flags.gated, true)
                    && let Some(subscription) = connection.subscription
                {
                    self.topics.topic_mut(subscription.topic).publishers.push(id);
                }
            }
            Stop::Congestion => {
                if !std::mem::replace(&mut connection.flags.gated, true) {
                    self.topics.congested.push(id);
                }
            }
            // The outbox, once drained, asks for the stash itself.
            Stop::Outbox | Stop::Done | Stop::Ended => {}
        }
    }

    /// While unfinished messages hold most of what they may, whoever has kept the others waiting for longest is closed: those
    /// who dribble cost only themselves. Of the large ones first; nobody who waits for us.
    pub(crate) fn relieve_assembly(&mut self) {
        while self.assembly.is_tight() {
            let holders = self.connections.alive().filter_map(|slot| {
                let connection = self.connections.at(slot);
                let waits_for_us = connection.unparsed.is_some() || connection.flags.paused;
                let held = connection.decoder.held().filter(|_| !waits_for_us)?;
                Some((held.bytes < LARGE_ASSEMBLY_BYTES, held.number, slot))
            });
            let Some((.., slot)) = holders.min() else { return };
            let mut decoder = std::mem::replace(&mut self.connections.at_mut(slot).decoder, Decoder::new(Role::Server));
            decoder.release(&mut self.assembly);
            self.fail(slot, ProtocolError::Overloaded);
        }
    }

    fn on_ping(&mut self, slot: u32, payload: &[u8]) {
        if self.connections.at(slot).phase == Phase::Open {
            self.counters().encoded(payload.len());
            self.outbox(slot).control(proto::Opcode::Pong, payload);
            self.want_send(slot);
        }
    }

    fn on_close(&mut self, slot: u32, frame: Option<CloseFrame<'_>>) {
        let connection = self.connections.at_mut(slot);
        connection.ended.get_or_insert(Ended::Client);
        if !std::mem::replace(&mut connection.flags.sent_close, true) {
            self.unsubscribe(slot, Dropped::Disconnected, true);
            self.outbox(slot).close(frame.map(|frame| (frame.code, "")));
        }
        self.begin_draining(slot);
    }

    /// The peer broke the protocol: says so in a Close frame and listens no more (RFC 6455 section 7.1.7).
    fn fail(&mut self, slot: u32, error: ProtocolError) {
        let code = error.close_code();
        let reason = match code {
            CloseCode::INVALID_PAYLOAD => Ended::Utf8,
            CloseCode::TOO_BIG => Ended::TooBig,
            CloseCode::TRY_AGAIN_LATER | CloseCode::INTERNAL => Ended::Internal,
            _ => Ended::Protocol,
        };
        self.log_closing(slot, &error.to_string());
        let connection = self.connections.at_mut(slot);
        connection.ended.get_or_insert(reason);
        if !std::mem::replace(&mut connection.flags.sent_close, true) {
            self.unsubscribe(slot, Dropped::Disconnected, true);
            self.outbox(slot).close(Some((code, &error.to_string())));
        }
        self.begin_draining(slot);
    }

    /// Begins the closing handshake from our side.
    pub(crate) fn begin_close(&mut self, slot: u32, code: CloseCode, text: &str, reason: Ended) {
        let now = self.now_ms();
        let connection = self.connections.at_mut(slot);
        if connection.phase != Phase::Open {
            return;
        }
        // One without a reason was asked for.
        let is_fault = code != CloseCode::NORMAL && !text.is_empty();
        if is_fault && matches!(reason, Ended::Protocol | Ended::Policy | Ended::Pong | Ended::Internal) {
            self.log_closing(slot, text);
        }
        let connection = self.connections.at_mut(slot);
        connection.ended.get_or_insert(reason);
        connection.flags.sent_close = true;
        connection.phase = Phase::Closing;
        connection.since_ms = now;
        self.unsubscribe(slot, super::accept::dropped_for(reason), true);
        self.outbox(slot).close(Some((code, text)));
        self.want_send(slot);
        self.arm_timer(slot);
        // Their Close stands behind what was not parsed or received.
        self.resume_parsing(slot);
        let connection = self.connections.at_mut(slot);
        if connection.unparsed.is_none() && std::mem::take(&mut connection.flags.paused) {
            self.port.resume(slot);
        }
    }

    /// The stream has ended: in good order (`None`) or not.
    pub(crate) fn on_ended(&mut self, id: ConnectionId, errno: Option<i32>) {
        if !self.connections.is_current(id) {
            return;
        }
        let slot = id.slot;
        if errno.is_some() {
            return self.end(slot, Ended::Reset, true);
        }
        let connection = self.connections.at_mut(slot);
        connection.flags.received_end = true;
        match connection.phase {
            Phase::Open | Phase::Closing | Phase::Joining => self.on_last_input(slot),
            // What was received may hold whole requests; their answers are still sent.
            Phase::Requesting | Phase::Asking => self.resume_parsing(slot),
            Phase::Handshake if connection.flags.kept_alive => self.resume_parsing(slot),
            Phase::Draining if connection.flags.sent_end => self.end(slot, Ended::Client, false),
            Phase::Draining => {}
            Phase::Handshake => self.end(slot, Ended::Client, false),
            Phase::Gone => {}
        }
    }

    /// Its end of stream says goodbye without a Close frame, once everything before it is parsed: a gate, a budget or the
    /// topic's home may still hold that up. What waits for it alone is still sent.
    fn on_last_input(&mut self, slot: u32) {
        let connection = self.connections.at_mut(slot);
        let waits = connection.unparsed.is_some() || !matches!(connection.phase, Phase::Open | Phase::Closing);
        if !connection.flags.received_end || waits {
            return;
        }
        connection.ended.get_or_insert(Ended::Client);
        self.unsubscribe(slot, Dropped::Disconnected, true);
        self.begin_draining(slot);
    }
}
