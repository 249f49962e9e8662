//! Deadlines of connections and delayed replies.
//!
//! One entry per connection in a heap, checked again when it is due: what a deadline depends on changes far more often
//! than it passes. The port wakes the shard for the earliest; monoio's timers are not involved.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap, VecDeque};

use proto::{CloseCode, Opcode};

use crate::counters::{Dropped, Ended, Refused};
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

/// Bytes that delayed replies may hold per shard.
const DELAYED_BYTES_MAX: u64 = 256 << 20;

/// A reply that waits for its time.
struct Reply {
    due_us: u64,
    opcode: Opcode,
    payload: Vec<u8>,
}

impl Reply {
    /// What it counts for against the connection's limit, in bytes.
    fn bytes(&self) -> u64 {
        (self.payload.len() + REPLY_BYTES) as u64
    }
}

/// The delayed replies of one connection.
#[derive(Default)]
struct Replies {
    waiting: VecDeque<Reply>,
    bytes: u64,
}

/// All of a shard's deadlines.
#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    /// Connections with delayed replies, by the time of their first.
    delayed: BinaryHeap<Reverse<(u64, ConnectionId)>>,
    replies: HashMap<ConnectionId, Replies>,
    /// Bytes of all delayed replies.
    delayed_bytes: u64,
}

impl Timers {
    /// The earliest deadline, in µs.
    pub(crate) fn next_us(&self, now_us: u64) -> Option<u64> {
        let armed = self.heap.peek().map(|Reverse(entry)| entry.due_us(now_us));
        let delayed = self.delayed.peek().map(|Reverse((due_us, _))| *due_us);
        [armed, delayed].into_iter().flatten().min()
    }

    /// Bytes of a connection's delayed replies.
    pub(crate) fn delayed_bytes(&self, id: ConnectionId) -> u64 {
        if self.replies.is_empty() { 0 } else { self.replies.get(&id).map_or(0, |replies| replies.bytes) }
    }

    /// Forgets the delayed replies of a connection that has ended. Returns how many there were.
    pub(crate) fn forget(&mut self, id: ConnectionId) -> usize {
        if self.replies.is_empty() {
            return 0;
        }
        let Some(replies) = self.replies.remove(&id) else { return 0 };
        self.delayed_bytes -= replies.bytes;
        replies.waiting.len()
    }
}

fn pop_due<T: Ord>(heap: &mut BinaryHeap<Reverse<T>>, is_due: impl FnOnce(&T) -> bool) -> Option<T> {
    let Reverse(first) = heap.peek()?;
    if is_due(first) { heap.pop().map(|Reverse(first)| first) } else { None }
}

/// When a connection is to be looked at. It counts while the connection remembers the same time: one that a later,
/// earlier entry replaced, or whose slot has changed hands, says nothing, or at worst has a connection looked at early.
#[derive(PartialEq, Eq)]
struct Entry {
    stamp: u32,
    slot: u32,
}

impl Entry {
    fn due_us(&self, now_us: u64) -> u64 {
        let ahead = self.stamp.wrapping_sub(stamp(now_us)).cast_signed();
        (now_us / GRAIN_US).saturating_add_signed(ahead.into()) * GRAIN_US
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.stamp.wrapping_sub(other.stamp).cast_signed().cmp(&0).then(self.slot.cmp(&other.slot))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A time as entries have it, in units of [`GRAIN_US`]; never 0. Wraps after two years: deadlines are days ahead at most,
/// so the order of those at hand is right.
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
            Phase::Handshake | Phase::Joining | Phase::Requesting | Phase::Asking => {
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
            Phase::Closing | Phase::Draining => left(connection.closing_since_ms(), self.close_timeout_ms(connection)),
        }
    }

    fn request_timeout_ms(&self, connection: &Connection) -> u64 {
        if connection.is_between_requests() {
            KEEP_ALIVE_MS
        } else if connection.phase == Phase::Asking {
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
        self.connections.at_mut(slot).timer = stamp(due_us);
        self.timers.heap.push(Reverse(Entry { stamp: stamp(due_us), slot }));
    }

    /// Handles everything that is due.
    pub(crate) fn run_timers(&mut self) {
        let now_us = self.now_us;
        while let Some(Entry { stamp, slot }) = pop_due(&mut self.timers.heap, |entry| entry.due_us(now_us) <= now_us) {
            let connection = self.connections.at_mut(slot);
            if connection.phase != Phase::Gone && connection.timer == stamp {
                connection.timer = 0;
                self.on_due(slot);
                if self.connections.at(slot).phase != Phase::Gone {
                    self.arm_timer(slot);
                }
            }
        }
        while let Some((_, id)) = pop_due(&mut self.timers.delayed, |(due_us, _)| *due_us <= now_us) {
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
            Phase::Handshake | Phase::Joining | Phase::Requesting | Phase::Asking => {
                if connection.flags.blocked && due(connection.progress_ms, ANSWER_WRITE_TIMEOUT_MS) {
                    return self.end(slot, Ended::Write, true);
                }
                if !due(connection.since_ms, self.request_timeout_ms(connection)) {
                    return;
                }
                if connection.is_between_requests() {
                    self.begin_draining(slot);
                } else if connection.phase == Phase::Asking {
                    self.refuse(slot, 503, Refused::Timeout, "the control thread does not answer");
                } else {
                    self.refuse(slot, 408, Refused::Timeout, "the request took too long");
                }
            }
            Phase::Open => self.on_due_open(slot),
            Phase::Closing | Phase::Draining => {
                if due(connection.closing_since_ms(), self.close_timeout_ms(connection)) {
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
            self.log_closing(slot, "it takes nothing of what it is sent");
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

    /// Sends a message to one connection after a delay, behind those that were delayed before. Closes it with 1013 if the
    /// shard's delayed replies leave no room.
    pub(crate) fn reply_later(&mut self, slot: u32, delay_ms: u64, opcode: Opcode, payload: &[u8]) {
        let id = self.connections.id(slot);
        if self.timers.delayed_bytes + payload.len() as u64 > DELAYED_BYTES_MAX {
            self.counters().dropped(Dropped::Disconnected, 1);
            return self.begin_close(slot, CloseCode::TRY_AGAIN_LATER, "too many delayed messages", Ended::Internal);
        }
        let reply = Reply { due_us: self.now_us + delay_ms * 1000, opcode, payload: payload.to_vec() };
        self.timers.delayed_bytes += reply.bytes();
        let replies = self.timers.replies.entry(id).or_default();
        if replies.waiting.is_empty() {
            self.timers.delayed.push(Reverse((reply.due_us, id)));
        }
        replies.bytes += reply.bytes();
        replies.waiting.push_back(reply);
    }

    /// Sends the first delayed reply of a connection, and has the next one wait for its time.
    fn reply_delayed(&mut self, id: ConnectionId) {
        let Some(replies) = self.timers.replies.get_mut(&id) else { return };
        let Some(reply) = replies.waiting.pop_front() else { return };
        replies.bytes -= reply.bytes();
        self.timers.delayed_bytes -= reply.bytes();
        match replies.waiting.front() {
            Some(next) => self.timers.delayed.push(Reverse((next.due_us, id))),
            None => _ = self.timers.forget(id),
        }
        let slot = id.slot;
        let connection = self.connections.at(slot);
        if connection.phase != Phase::Open {
            return self.counters().dropped(Dropped::Disconnected, 1);
        }
        let endpoint = connection.endpoint;
        self.reply(slot, reply.opcode, proto::Payload::Slice(&reply.payload));
        let router = std::rc::Rc::clone(&self.router);
        router.endpoint(endpoint).mode.replied(&mut Actions::new(self, slot));
        self.resume_parsing(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_order_where_stamps_wrap() {
        let wrap_us = (1 << 32) * GRAIN_US;
        let mut heap = BinaryHeap::new();
        for (slot, due_us) in
            [wrap_us + 5 * GRAIN_US, wrap_us - 5 * GRAIN_US, wrap_us + GRAIN_US].into_iter().enumerate()
        {
            heap.push(Reverse(Entry { stamp: stamp(due_us), slot: slot as u32 }));
        }
        let now_us = wrap_us - 10 * GRAIN_US;
        assert_eq!(heap.peek().map(|Reverse(entry)| entry.due_us(now_us)), Some(wrap_us - 5 * GRAIN_US));
        let due = |now_us: u64| move |entry: &Entry| entry.due_us(now_us) <= now_us;
        assert!(pop_due(&mut heap, due(now_us)).is_none());
        let popped: Vec<u32> =
            std::iter::from_fn(|| pop_due(&mut heap, due(wrap_us + 6 * GRAIN_US))).map(|entry| entry.slot).collect();
        assert_eq!(popped, [1, 2, 0]);
    }
}
