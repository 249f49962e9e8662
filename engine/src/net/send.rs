//! Bytes out, first half: one send per connection and flush is queued.
//!
//! Queueing moves cursors ahead as if every send succeeded; [`super::flush`] performs the sends, corrects those that fell
//! short before anything else looks, and confirms the rest.

use std::io::IoSlice;

use crate::net::connection::Phase;
use crate::net::outbox::Outbox;
use crate::net::port::ConnectionId;
use crate::net::queued::Queued;
use crate::net::tls::PLAIN_BYTES_PER_SEND;
use crate::shard::Shard;

/// Sends to connections that asked for it, per turn.
const PENDING_PER_TURN: usize = 1024;
/// Bytes of a log that one send takes: a publish window of 256 KiB with the headers of its frames, which would otherwise
/// leave a piece of the last one for a send of its own.
const BYTES_PER_SEND: u64 = 288 << 10;
/// What encrypting one send costs in terms of a plain one.
const TLS_COST: usize = 8;

impl Shard {
    /// The connection's outbox.
    pub(crate) fn outbox(&mut self, slot: u32) -> &mut Outbox {
        self.outboxes.of(&mut self.connections.at_mut(slot).outbox)
    }

    /// Has the connection sent what it is owed, in this turn.
    pub(crate) fn want_send(&mut self, slot: u32) {
        let id = self.connections.id(slot);
        let connection = self.connections.at_mut(slot);
        if !connection.flags.pending && !connection.flags.blocked {
            connection.flags.pending = true;
            self.pending.push(id);
        }
    }

    /// Sends a message to one connection.
    pub(crate) fn reply(&mut self, slot: u32, opcode: proto::Opcode, payload: proto::Payload<'_>) {
        match payload {
            proto::Payload::Slice(bytes) => {
                self.counters().encoded(bytes.len());
                self.outbox(slot).message(opcode, bytes);
            }
            proto::Payload::Owned(owned) => {
                self.counters().encoded(0);
                self.outbox(slot).shared_message(owned.into_server_frame(opcode));
            }
        }
        self.want_send(slot);
    }

    pub(crate) fn on_writable(&mut self, id: ConnectionId) {
        if !self.connections.is_current(id) {
            return;
        }
        let (now_ms, now_us) = (self.now_ms(), self.now_us);
        let connection = self.connections.at_mut(id.slot);
        connection.flags.blocked = false;
        connection.progress_ms = now_ms;
        if let Some(subscription) = connection.subscription
            && connection.phase == Phase::Open
        {
            self.topics.topic_mut(subscription.topic).unblock(subscription.index, now_us);
        }
        self.want_send(id.slot);
    }

    /// Queues the sends of connections that asked for it, a bounded amount of work per turn.
    pub(crate) fn queue_pending(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        let mut budget = PENDING_PER_TURN;
        let mut taken = 0;
        for id in &pending {
            if budget == 0 {
                break;
            }
            taken += 1;
            if self.connections.is_current(*id) {
                let connection = self.connections.at_mut(id.slot);
                connection.flags.pending = false;
                let cost = if connection.tls.is_some() { TLS_COST } else { 1 };
                if self.queue_send(id.slot) {
                    budget = budget.saturating_sub(cost);
                } else {
                    self.finish_draining(id.slot);
                }
            }
        }
        pending.drain(..taken);
        // Who says goodbye by TLS asks again meanwhile: that is for the next turn.
        pending.append(&mut self.pending);
        self.pending = pending;
    }

    /// Queues one send with everything the connection is owed. False if there is nothing or it must wait.
    pub(crate) fn queue_send(&mut self, slot: u32) -> bool {
        let connection = self.connections.at_mut(slot);
        if connection.flags.blocked || connection.flush == self.flush || connection.phase == Phase::Joining {
            return false;
        }
        if connection.tls.is_some() {
            return self.queue_cipher(slot);
        }
        let (outbox, whole) = connection.outbox.as_ref().map_or((0, true), |outbox| outbox.next_send());
        let log = match connection.subscription {
            Some(at) if connection.phase == Phase::Open => {
                let topic = self.topics.topic_mut(at.topic);
                // The rest of a begun frame goes before the outbox in any case; nothing follows one that is cut short.
                let room = if whole { BYTES_PER_SEND } else { topic.frame_rest(at.index) };
                topic.take(at.topic, at.index, room)
            }
            _ => None,
        };
        if outbox == 0 && log.is_none() {
            return false;
        }
        connection.flush = self.flush;
        self.batch.push(Queued { slot, outbox, log, cipher: None, shortfall: None });
        true
    }

    /// The same for a TLS connection: encrypts what one send takes, unless cipher text still waits.
    fn queue_cipher(&mut self, slot: u32) -> bool {
        let connection = self.connections.at_mut(slot);
        let tls = connection.tls.as_mut().expect("only TLS connections come here");
        let mut cipher = self.ciphers.pop().unwrap_or_default();
        let scratch = &mut self.plain;
        tls.take_waiting(&mut cipher);
        let mut outbox_bytes = 0;
        let mut log = None;
        if cipher.is_empty() {
            let subscription = connection.subscription.filter(|_| connection.phase == Phase::Open);
            let mut slices = reused(std::mem::take(&mut self.slices));
            let mut room = PLAIN_BYTES_PER_SEND as u64;
            let rest = subscription.map_or(0, |at| self.topics.topic(at.topic).frame_rest(at.index));
            let mut whole = true;
            if rest > 0 {
                // Nothing may come between the pieces of a frame.
                room = room.min(rest);
            } else {
                if let Some(outbox) = &connection.outbox {
                    outbox.slices(&mut slices);
                    outbox_bytes = tls.encrypt(&slices, scratch, &mut cipher);
                    whole = outbox_bytes == outbox.len();
                }
                room -= outbox_bytes as u64;
            }
            if let Some(at) = subscription
                && whole
                && room > 0
            {
                log = self.topics.topic_mut(at.topic).take(at.topic, at.index, room);
                if let Some(log) = &log {
                    slices.clear();
                    log.all_slices(self.topics.topic(log.topic), &mut slices);
                    tls.encrypt(&slices, scratch, &mut cipher);
                }
            }
            self.slices = reused(slices);
        }
        // A log slice of nothing but excluded messages has no bytes, and is booked like any other.
        if cipher.is_empty() && log.is_none() {
            self.ciphers.push(cipher);
            return false;
        }
        connection.flush = self.flush;
        if outbox_bytes > 0
            && let Some(outbox) = &mut connection.outbox
        {
            // Encrypted is as good as sent: what is left of it waits as cipher text.
            let messages = outbox.consume(outbox_bytes);
            let owed = outbox.is_empty().then(|| outbox.take_owed()).flatten();
            let tls = connection.tls.as_mut().expect("only TLS connections come here");
            tls.messages += messages;
            if let Some(owed) = owed {
                tls.owe(owed);
            }
        }
        self.batch.push(Queued { slot, outbox: 0, log, cipher: Some(cipher), shortfall: None });
        true
    }
}

/// An emptied vector for slices of another lifetime, in the same allocation.
pub(crate) fn reused<'a>(mut slices: Vec<IoSlice<'_>>) -> Vec<IoSlice<'a>> {
    slices.clear();
    slices.into_iter().map(|_| unreachable!("it was cleared")).collect()
}
