//! A message on its way into its topic's log: at once if the topic lives here, else through the ring to its home.
//!
//! No shortcut: a publisher hears itself from the log like everybody else, so that all hear the same order.

use bytes::Bytes;
use proto::{Opcode, Payload, encode};

use crate::mesh::message::{Message, PublishMeta};
use crate::relay::home::HomeTopic;
use crate::shard::Shard;

/// How often busy logs are looked at, in µs: one that was quiet for so long lets its memory go.
const REST_US: u64 = 1_000_000;

impl Shard {
    /// Lets logs rest that were quiet since the last look.
    pub(crate) fn rest_quiet_logs(&mut self) {
        if self.topics.rest_us.is_none_or(|due| due > self.now_us) {
            return;
        }
        let mut busy = std::mem::take(&mut self.topics.busy);
        // A home that was busy, ended and came back stands there twice.
        busy.sort_unstable();
        busy.dedup();
        busy.retain(|&slot| {
            let Some(home) = self.topics.homes.get_mut(slot as usize).filter(|home| home.busy) else { return false };
            if !home.rest_if_quiet() {
                return true;
            }
            home.busy = false;
            if !std::mem::replace(&mut home.announcing, true) {
                self.topics.announcing.push(slot);
            }
            false
        });
        self.topics.busy = busy;
        self.topics.rest_us = (!self.topics.busy.is_empty()).then_some(self.now_us + REST_US);
    }

    /// Gives a message of connection `slot` to its topic.
    pub(crate) fn publish(&mut self, slot: u32, opcode: Opcode, payload: Payload<'_>) {
        let connection = self.connections.at(slot);
        let (origin, endpoint) = (connection.origin, connection.endpoint);
        let Some(subscription) = connection.subscription else { return };
        let excludes = self.router.endpoint(endpoint).config.exclude_sender;
        let topic = self.topics.topic_mut(subscription.topic);
        let home = topic.home;
        if excludes {
            topic.subscribers[subscription.index as usize].own_ahead += 1;
        }
        if home.shard as usize == self.index {
            let at_us = self.now_us as u32;
            self.counters().encoded(copied_bytes(&payload));
            self.append(home.slot, home.generation, |home| match payload {
                Payload::Slice(bytes) => home.append(opcode, bytes, origin, at_us),
                Payload::Owned(owned) => home.append_frame(owned.into_server_frame(opcode), origin, at_us),
            });
            return;
        }
        let to = PublishMeta { home_slot: home.slot, generation: home.generation, origin, opcode };
        let shard = home.shard as usize;
        match payload {
            Payload::Slice(bytes) if bytes.len() <= self.node.inline_bytes_max(shard) => {
                // Into the ring; the home frames it.
                self.counters().copied_bytes.add(bytes.len() as u64);
                self.node.send_inline(shard, to.pack(), bytes);
            }
            Payload::Slice(bytes) => {
                self.counters().encoded(bytes.len());
                let mut frame = Vec::with_capacity(encode::server_frame_bytes(bytes.len()));
                encode::server_frame(&mut frame, opcode, bytes);
                self.send_frame(shard, to, frame.into());
            }
            Payload::Owned(owned) => {
                self.counters().encoded(0);
                self.send_frame(shard, to, owned.into_server_frame(opcode));
            }
        }
    }

    fn send_frame(&mut self, shard: usize, to: PublishMeta, frame: Bytes) {
        let weight = frame.len();
        self.node.send(shard, Message::Publish { to, frame }, weight);
    }

    /// A message of another shard's connection, for a topic that lives here.
    pub(crate) fn on_publish(&mut self, to: PublishMeta, payload: &[u8]) {
        let at_us = self.now_us as u32;
        self.counters().encoded(payload.len());
        self.append(to.home_slot, to.generation, |home| home.append(to.opcode, payload, to.origin, at_us));
    }

    /// The same for a large one, which arrives framed.
    pub(crate) fn on_publish_frame(&mut self, to: PublishMeta, frame: Bytes) {
        let at_us = self.now_us as u32;
        self.append(to.home_slot, to.generation, |home| home.append_frame(frame, to.origin, at_us));
    }

    /// Writes one message into the log of a topic that lives here.
    pub(crate) fn append(&mut self, slot: u32, generation: u32, append: impl FnOnce(&mut HomeTopic) -> bool) {
        let home = self.topics.home_mut(slot, generation);
        // The publisher's own subscription keeps the topic alive until after its last message.
        let home = home.expect("a topic lives as long as somebody who publishes to it");
        let is_first = append(home);
        let wakes_up = !std::mem::replace(&mut home.busy, true);
        self.topics.accept();
        if is_first {
            self.topics.announcing.push(slot);
        }
        if wakes_up {
            self.topics.busy.push(slot);
            self.topics.rest_us.get_or_insert(self.now_us + REST_US);
        }
    }
}

/// What framing a payload copies: nothing of one that brings its own buffer.
fn copied_bytes(payload: &Payload<'_>) -> usize {
    match payload {
        Payload::Slice(bytes) => bytes.len(),
        Payload::Owned(_) => 0,
    }
}
