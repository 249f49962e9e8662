//! What other nodes say to this shard.

use crate::mesh::message::{Message, PublishMeta};
use crate::mesh::ring::Popped;
use crate::shard::Shard;

impl Shard {
    /// Takes at most `budget` records of each other node, and all news. After an order that made the turn long the rest of
    /// that node's waits. True if records are left.
    pub(crate) fn drain_mesh(&mut self, budget: usize) -> bool {
        if self.node.retry() {
            for id in std::mem::take(&mut self.topics.congested) {
                if self.connections.is_current(id) {
                    self.resume_parsing(id.slot);
                }
            }
        }
        // Records act on the shard as a whole: the node is taken out for the time it reads.
        let mut inbox = self.node.take_inbox();
        let left = inbox.drain(budget, |from, record| match record {
            Popped::Inline { meta, payload } => {
                self.on_publish(PublishMeta::unpack(meta), payload);
                true
            }
            Popped::Boxed(message) => {
                // One order may be for ten thousand connections.
                let is_order = matches!(*message, Message::Order(_));
                self.on_message(from, *message);
                !is_order || !self.is_turn_long(1)
            }
        });
        inbox.drain_news(|home, slot| self.on_news(home, slot));
        inbox.drain_room(|slot| self.weigh_gate(slot));
        self.node.put_inbox(inbox);
        left
    }

    fn on_message(&mut self, from: usize, message: Message) {
        match message {
            Message::Subscribe { name, endpoint, topic } => self.on_subscribe(from, name, endpoint, topic),
            Message::Subscribed { topic, home, shared, segment } => {
                self.on_subscribed(topic, home, shared, segment);
            }
            Message::Refused { topic } => self.on_refused(topic),
            Message::Unsubscribe { home } => self.leave_home(from, home),
            Message::Claim(claim) => self.on_claim(from, claim),
            Message::Named { id, named } => self.on_named(id, named),
            Message::Leave { home, slot } => self.on_leave(from, home, slot),
            Message::Publish { to, frame } => self.on_publish_frame(to, frame),
            Message::Answer { id, bytes, close } => self.on_answer(id, bytes, close),
            Message::Order(order) => self.on_order(&order),
            Message::List(reply) => {
                let _ = reply.send(self.gateway_listing());
            }
            Message::Event(_) | Message::Tagged(..) | Message::Request(_) => {
                unreachable!("these go to the control thread")
            }
            Message::Begin(phase, done) => self.begin_phase(phase, done),
            Message::Alive(reply) => {
                // Whoever asked may have given up.
                let _ = reply.send(());
            }
            Message::Report(reply) => {
                // Whoever asked may have given up.
                let _ = reply.send(self.topics.report(self.counters().connections.value()));
            }
            Message::Stop(reply) => self.stop(reply),
        }
    }
}
