//! The gateway connections of this shard: what they do is told to the control thread, what it orders is done to them.

use bytes::Bytes;
use proto::{CloseCode, Opcode};
use uuid::Uuid;

use crate::config::SlowConsumer;
use crate::counters::{Dropped, Ended};
use crate::gateway::Tags;
use crate::gateway::event::{Action, Event};
use crate::gateway::order::{Deed, Listing, Order};
use crate::gateway::registry::Member;
use crate::mesh::message::Message;
use crate::net::connection::Phase;
use crate::shard::Shard;

/// What an event costs beside its body on its way, in bytes.
const EVENT_BYTES: usize = 192;

impl Shard {
    /// The control thread's place in the mesh.
    pub(crate) fn control_node(&self) -> usize {
        self.shards
    }

    /// A gateway connection was opened: it can be selected before its event is told.
    pub(crate) fn enter_gateway(&mut self, slot: u32, tags: Tags) {
        self.gateway.insert(slot, Member { id: Uuid::new_v4(), tags });
        let peer = self.connections.at(slot).peer_address();
        self.tell(slot, Action::Open { peer }, 0);
    }

    /// A gateway connection sent a message.
    pub(crate) fn tell_message(&mut self, slot: u32, opcode: Opcode, body: Bytes) {
        let bytes = body.len();
        self.tell(slot, Action::Message { opcode, body }, bytes);
    }

    /// A gateway connection has ended.
    pub(crate) fn leave_gateway(&mut self, slot: u32) {
        self.tell(slot, Action::Close, 0);
        self.gateway.remove(slot);
    }

    fn tell(&mut self, slot: u32, action: Action, bytes: usize) {
        let Some(member) = self.gateway.member(slot) else { return };
        let endpoint = self.connections.at(slot).endpoint;
        let endpoint = self.router.endpoint(endpoint).index;
        let event = Event { connection: member.id, endpoint, tags: member.tags.clone(), action };
        self.node.send(self.control_node(), Message::Event(event), EVENT_BYTES + bytes);
    }

    /// Does what the control thread says, and answers how many connections it was done to.
    pub(crate) fn on_order(&mut self, order: &Order) {
        let mut slots = std::mem::take(&mut self.selected);
        self.gateway.select(&order.selector, &mut slots);
        slots.retain(|slot| self.connections.at(*slot).phase == Phase::Open);
        match &order.deed {
            Deed::Count => {}
            Deed::Send(frame) => slots.iter().for_each(|slot| self.unicast(*slot, frame)),
            Deed::SetTags(changes) => {
                for slot in &slots {
                    let Some(member) = self.gateway.set_tags(*slot, changes) else { continue };
                    let message = Message::Tagged(member.id, member.tags.clone());
                    self.node.send(self.control_node(), message, EVENT_BYTES);
                }
            }
            Deed::Close(frame) => {
                for slot in &slots {
                    if let Some(frame) = frame {
                        self.unicast(*slot, frame);
                    }
                    self.begin_close(*slot, CloseCode::NORMAL, "Closed by server", Ended::Policy);
                }
            }
        }
        // Whoever asked may have given up.
        let _ = order.reply.send(slots.len());
        slots.clear();
        self.selected = slots;
    }

    /// All gateway connections that are open.
    pub(crate) fn gateway_listing(&self) -> Listing {
        let open = self.gateway.members().filter(|(slot, _)| self.connections.at(*slot).phase == Phase::Open);
        open.map(|(_, member)| (member.id, member.tags.clone())).collect()
    }

    /// Sends a frame that others share to one connection; who does not read what it is sent meets the endpoint's policy
    /// for slow consumers.
    fn unicast(&mut self, slot: u32, frame: &Bytes) {
        let connection = self.connections.at(slot);
        if connection.phase != Phase::Open {
            return;
        }
        let config = &self.router.endpoint(connection.endpoint).config;
        let waiting = connection.outbox_bytes() as u64;
        // One message always fits.
        if connection.flags.blocked && waiting > 0 && waiting + frame.len() as u64 > config.lag_bytes_max {
            if config.slow_consumer == SlowConsumer::Skip {
                return self.counters().dropped(Dropped::Skipped, 1);
            }
            self.counters().dropped(Dropped::SlowConsumer, 1);
            return self.cut_off(slot);
        }
        self.outbox(slot).shared_message(frame.clone());
        self.want_send(slot);
    }
}
