//! What a mode can do about one connection.

use std::any::Any;

use bytes::Bytes;
use proto::{CloseCode, Opcode, Payload};

use crate::counters::{Dropped, Ended};
use crate::gateway::Tags;
use crate::shard::{Shard, log};

/// One connection, in the hands of its mode.
pub(crate) struct Actions<'s> {
    shard: &'s mut Shard,
    slot: u32,
}

impl<'s> Actions<'s> {
    pub(crate) fn new(shard: &'s mut Shard, slot: u32) -> Self {
        Self { shard, slot }
    }

    /// Gives a message to everybody who hears the connection's topic.
    pub(crate) fn publish(&mut self, opcode: Opcode, payload: Payload<'_>) {
        self.shard.publish(self.slot, opcode, payload);
    }

    /// Sends a message to this connection alone.
    pub(crate) fn reply(&mut self, opcode: Opcode, payload: Payload<'_>) {
        self.shard.reply(self.slot, opcode, payload);
    }

    /// Sends a message to this connection alone, `delay_ms` from now; [`super::Mode::replied`] is called then.
    pub(crate) fn reply_later(&mut self, delay_ms: u64, opcode: Opcode, payload: &[u8]) {
        self.shard.reply_later(self.slot, delay_ms, opcode, payload);
    }

    /// Closes the connection with this code; counted under `reason`.
    pub(crate) fn close(&mut self, code: CloseCode, text: &str, reason: Ended) {
        self.shard.begin_close(self.slot, code, text, reason);
    }

    /// Makes it a connection of the gateway, and tells the applications.
    pub(crate) fn enter_gateway(&mut self, tags: Tags) {
        self.shard.enter_gateway(self.slot, tags);
    }

    /// Tells the applications of a message.
    pub(crate) fn tell(&mut self, opcode: Opcode, body: Bytes) {
        self.shard.tell_message(self.slot, opcode, body);
    }

    /// Tells the applications of its end.
    pub(crate) fn leave_gateway(&mut self) {
        self.shard.leave_gateway(self.slot);
    }

    /// Says in the log why a message of this connection is not taken, and counts it.
    pub(crate) fn drop_message(&mut self, reason: Dropped, why: impl FnOnce() -> String) {
        self.shard.counters().dropped(reason, 1);
        let connection = self.shard.connections.at(self.slot);
        log::warn(&log::CHAT, || format!("dropped a message of {} ({reason}): {}", connection.peer_address(), why()));
    }

    /// Now, in µs of the server's clock.
    pub(crate) fn now_us(&self) -> u64 {
        self.shard.now_us
    }

    /// What the mode keeps for the connection.
    pub(crate) fn state<T: Any>(&mut self) -> Option<&mut T> {
        self.shard.connections.at_mut(self.slot).state.as_mut()?.downcast_mut()
    }
}
