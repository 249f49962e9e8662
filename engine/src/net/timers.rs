//! Deadlines of connections and delayed replies.
//!
//! One entry per connection in a heap, checked again when it is due: what a deadline depends on changes far more often
//! than it passes. The port wakes the shard for the earliest; monoio's timers are not involved.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use proto::{CloseCode, Opcode};

use crate::counters::{Ended, Refused};
use crate::modes::Actions;
use crate::net::connection::{Connection, Phase};
use crate::net::port::ConnectionId;
use crate::net::request::{ANSWER_TIMEOUT_MS, KEEP_ALIVE_MS};
use crate::shard::Shard;

/// Deadlines are rounded up to multiples of this, so that those of many idle connections share a wake, in µs.
const GRAIN_US: u64 = 16_384;

/// ms that a client may take no byte of the answers to its requests.
const ANSWER_WRITE_TIMEOUT_MS: u64 = 10_000;

/// What a delayed reply costs beside its payload, in bytes.
const REPLY_BYTES: usize = 64;

/// A reply that waits for its time.
struct Reply {
    due_us: u64,
    opcode: Opcode,
    payload: Vec<u8>,
}

impl Reply {
    /// What it counts for against the connection's limit, in bytes.
    fn bytes(&self) -> u32 {
        (self.payload.len() + REPLY_BYTES) as u32
    }
}

/// All of a shard's deadlines.
#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, ConnectionId)>>,
    /// Connections with delayed replies, by the time of their first.
    delayed: BinaryHeap<Reverse<(u64, ConnectionId)>>,
    replies: HashMap<ConnectionId, VecDeque<Reply>>,
}

impl Timers {
    /// The earliest deadline, in µs.
    pub(crate) fn next_us(&self) -> Option<u64> {
        [&self.heap, &self.delayed].into_iter().filter_map(|heap| heap.peek().map(|Reverse((due, _))| *due)).min()
    }

    /// Forgets the delayed replies of a connection that has ended.
    pub(crate) fn forget(&mut self, id: ConnectionId) {
        self.replies.remove(&id);
    }
}

fn pop_due(heap: &mut BinaryHeap<Reverse<(u64, ConnectionId)>>, now_us: u64) -> Option<(u64, ConnectionId)> {
    let Reverse((due, _)) = heap.peek()?;
    (*due <= now_us).then(|| heap.pop().expect("it was just seen").0)
}

/// The timer entry's due time as a connection remembers it.
fn stamp(due_us: u64) -> u32 {
    ((due_us / GRAIN_US) as u32).max(1)
}

impl Shard {
    /// Now, in ms of the server's clock; wraps after 49 days, so only differences mean something.
    pub(crate) fn now_ms(&self) -> u32 {
        (self.now_us / 1000) as u32
    }

    /// ms until something about the connection is due; `None` if nothing is.
    fn due_in_ms(&self, connection: &Connection) -> Option<u32> {
        let now = self.now_ms();
        let left = |since: u32, limit: u64| (limit > 0).then(|| (limit as u32).saturating_sub(now.wrapping_sub(since)));
        match connection.phase {
            Phase::Gone => None,
            Phase::Handshake | Phase::Joining | Phase::Requesting => {
                let write = if connection.flags.blocked { ANSWER_WRITE_TIMEOUT_MS } else { 0 };
                let request = left(connection.since_ms, self.request_timeout_ms(connection));
                [request, left(connection.progress_ms, write)].into_iter().flatten().min()
            }
            Phase::Open => {
                let config = &self.router.endpoint(connection.endpoint).config;
                let write = if connection.flags.blocked { config.write_timeout_ms } else { 0 };
                [
                    left(connection.pinged_ms, config.ping_interval_ms),
                    left(connection.heard_ms, config.pong_wait_ms),
                    left(connection.active_ms, config.idle_timeout_ms),
                    left(connection.progress_ms, write),
                ]
                .into_iter()
                .flatten()
                .min()
            }
            Phase::Closing | Phase::Draining => left(connection.since_ms, self.close_timeout_ms(connection)),
        }
    }

    fn request_timeout_ms(&self, connection: &Connection) -> u64 {
        if connection.is_between_requests() {
            KEEP_ALIVE_MS
        } else if connection.is_being_answered() {
            ANSWER_TIMEOUT_MS
        } else {
            self.config.server.handshake_timeout_ms
        }
    }

    fn close_timeout_ms(&self, connection: &Connection) -> u64 {
        match connection.endpoint {
            u16::MAX => 5000,
            endpoint => self.router.endpoint(endpoint).config.close_timeout_ms,
        }
    }

    /// Makes sure that the connection is looked at when something about it is due.
    pub(crate) fn arm_timer(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let Some(left_ms) = self.due_in_ms(connection) else { return };
        let due_us = (self.now_us + u64::from(left_ms) * 1000).next_multiple_of(GRAIN_US);
        let armed = connection.timer;
        if armed != 0 && stamp(due_us).wrapping_sub(armed).cast_signed() >= 0 {
            return;
        }
        let id = self.connections.id(slot);
        self.connections.at_mut(slot).timer = stamp(due_us);
        self.timers.heap.push(Reverse((due_us, id)));
    }

    /// Handles everything that is due.
    pub(crate) fn run_timers(&mut self) {
        while let Some((due_us, id)) = pop_due(&mut self.timers.heap, self.now_us) {
            // An entry that a later, earlier one replaced no longer counts.
            if self.connections.is_current(id) && self.connections.at(id.slot).timer == stamp(due_us) {
                self.connections.at_mut(id.slot).timer = 0;
                self.on_due(id.slot);
                if self.connections.is_current(id) {
                    self.arm_timer(id.slot);
                }
            }
        }
        while let Some((_, id)) = pop_due(&mut self.timers.delayed, self.now_us) {
            self.reply_delayed(id);
        }
        self.run_topic_timers();
        self.retry_accept();
    }

    fn on_due(&mut self, slot: u32) {
        let now = self.now_ms();
        let connection = self.connections.at(slot);
        let due = |since: u32, limit: u64| limit > 0 && u64::from(now.wrapping_sub(since)) >= limit;
        match connection.phase {
            Phase::Gone => {}
            Phase::Handshake | Phase::Joining | Phase::Requesting => {
                if connection.flags.blocked && due(connection.progress_ms, ANSWER_WRITE_TIMEOUT_MS) {
                    return self.end(slot, Ended::Write, true);
                }
                if !due(connection.since_ms, self.request_timeout_ms(connection)) {
                    return;
                }
                if connection.is_between_requests() {
                    self.begin_draining(slot);
                } else if connection.is_being_answered() {
                    self.refuse(slot, 503, Refused::Timeout, "the control thread does not answer");
                } else {
                    self.refuse(slot, 408, Refused::Timeout, "the request took too long");
                }
            }
            Phase::Open => self.on_due_open(slot),
            Phase::Closing | Phase::Draining => {
                if due(connection.since_ms, self.close_timeout_ms(connection)) {
                    self.end(slot, Ended::Reset, true);
                }
            }
        }
    }

    fn on_due_open(&mut self, slot: u32) {
        let now = self.now_ms();
        let router = std::rc::Rc::clone(&self.router);
        let connection = self.connections.at_mut(slot);
        let config = &router.endpoint(connection.endpoint).config;
        let due = |since: u32, limit: u64| limit > 0 && u64::from(now.wrapping_sub(since)) >= limit;
        if connection.flags.blocked && due(connection.progress_ms, config.write_timeout_ms) {
            return self.end(slot, Ended::Write, true);
        }
        if connection.unparsed.is_some() || connection.flags.paused {
            // We do not listen at present: its silence is ours.
            connection.heard_ms = now;
        }
        if due(connection.heard_ms, config.pong_wait_ms) {
            return self.begin_close(slot, CloseCode::POLICY, "no sign of life", Ended::Pong);
        }
        if connection.tls.as_ref().is_some_and(|tls| tls.is_worn_out()) {
            return self.begin_close(slot, CloseCode::GOING_AWAY, "its TLS keys are used up", Ended::Policy);
        }
        if due(connection.active_ms, config.idle_timeout_ms) {
            return self.begin_close(slot, CloseCode::NORMAL, "idle", Ended::Idle);
        }
        if due(connection.pinged_ms, config.ping_interval_ms) {
            connection.pinged_ms = now;
            if !connection.flags.blocked {
                self.outbox(slot).control(Opcode::Ping, &[]);
                self.want_send(slot);
            }
        }
    }

    /// Sends a message to one connection after a delay, behind those that were delayed before.
    pub(crate) fn reply_later(&mut self, slot: u32, delay_ms: u64, opcode: Opcode, payload: &[u8]) {
        let id = self.connections.id(slot);
        let reply = Reply { due_us: self.now_us + delay_ms * 1000, opcode, payload: payload.to_vec() };
        self.connections.at_mut(slot).delayed_bytes += reply.bytes();
        let replies = self.timers.replies.entry(id).or_default();
        if replies.is_empty() {
            self.timers.delayed.push(Reverse((reply.due_us, id)));
        }
        replies.push_back(reply);
    }

    /// Sends the first delayed reply of a connection, and has the next one wait for its time.
    fn reply_delayed(&mut self, id: ConnectionId) {
        let Some(replies) = self.timers.replies.get_mut(&id) else { return };
        let Some(reply) = replies.pop_front() else { return };
        match replies.front() {
            Some(next) => self.timers.delayed.push(Reverse((next.due_us, id))),
            None => self.timers.forget(id),
        }
        let slot = id.slot;
        let connection = self.connections.at_mut(slot);
        connection.delayed_bytes -= reply.bytes();
        if connection.phase != Phase::Open {
            return;
        }
        let endpoint = connection.endpoint;
        self.reply(slot, reply.opcode, proto::Payload::Slice(&reply.payload));
        let router = std::rc::Rc::clone(&self.router);
        router.endpoint(endpoint).mode.replied(&mut Actions::new(self, slot));
        self.resume_parsing(slot);
    }
}
