//! Members: subscribers with names that are unique in their topic, whose coming and going everybody hears of.
//!
//! The home gives the names. A newcomer's shard claims one by the ring that its publishes take; the home writes the
//! join notice into the log and answers with the name and the notice's position, where the newcomer's subscription
//! starts: its own join notice is its first message. Until the answer is there, the shard's view keeps what may follow
//! the notice. Whoever leaves is told of behind its last publish, in the same ring; a connection that dies while its
//! claim is on the way leaves right behind it. Notices are messages like any other in the log and in the books. The
//! gate does not hold them: there are at most two per connection.

use std::rc::Rc;
use std::sync::Arc;

use proto::Opcode;

use crate::mesh::message::{Claim, Message, Phase as ShutdownPhase};
use crate::modes::{Actions, Membership};
use crate::net::connection::Phase;
use crate::net::port::ConnectionId;
use crate::relay::names::Holder;
use crate::relay::subscribe::Subscribed;
use crate::relay::topic::{Home, Joining};
use crate::relay::view::Position;
use crate::shard::Shard;

/// Marks the server's own messages in logs: no connection has this origin.
pub(crate) const SERVER: u32 = 0;

/// The law behind a name that is asked for.
const HAS_MEMBERS: &str = "only modes with members ask for names";

/// Why a newcomer is refused for whom no name is left.
const NO_NAME: &str = "every name like this one is taken";

/// A name, and where its join notice stands in the log.
#[derive(Debug)]
pub(crate) struct Named {
    name: Arc<str>,
    start: Position,
}

impl Shard {
    /// Asks the home of the connection's live topic for a name.
    pub(crate) fn claim(&mut self, slot: u32, wanted: Box<str>) -> Subscribed {
        let id = self.connections.id(slot);
        let subscription = self.connections.at(slot).subscription.expect("it asked for a topic");
        let topic = self.topics.topic_mut(subscription.topic);
        let home = topic.home;
        if home.shard as usize != self.index {
            let kept_from = Some(topic.view().tail());
            topic.joining.push_back(Joining { id, wanted: None, kept_from });
            self.node.send(home.shard as usize, Message::Claim(Claim { home, id, wanted }), 0);
            return Subscribed::Later;
        }
        match self.name(self.index, Claim { home, id, wanted }) {
            Some(named) => {
                self.admit_member(slot, &named);
                Subscribed::Now
            }
            None => Subscribed::Refused(NO_NAME),
        }
    }

    /// The home has answered a claim.
    pub(crate) fn on_named(&mut self, id: ConnectionId, named: Option<Named>) {
        let is_waiting = self.connections.is_current(id) && self.connections.at(id.slot).phase == Phase::Joining;
        // One that has left meanwhile has said so to the home.
        let Some(subscription) = self.connections.at(id.slot).subscription.filter(|_| is_waiting) else { return };
        let joining = &mut self.topics.topic_mut(subscription.topic).joining;
        if let Some(place) = joining.iter().position(|joining| joining.id == id) {
            joining.remove(place);
        }
        match named {
            Some(named) => {
                self.admit_member(id.slot, &named);
                self.open(id.slot);
            }
            None => self.refuse_subscription(id.slot, NO_NAME),
        }
    }

    /// Subscribes a connection that has a name from its join notice on.
    fn admit_member(&mut self, slot: u32, Named { name, start }: &Named) {
        let subscription = self.connections.at(slot).subscription.expect("it asked for a topic");
        let home = self.topics.topic(subscription.topic).home;
        // The notice is visible before the answer is; those who are here already hear it too.
        self.on_news(home.shard as usize, home.slot);
        self.add_subscriber(slot, *start);
        self.schedule(subscription.topic);
        let endpoint = self.connections.at(slot).endpoint;
        let router = Rc::clone(&self.router);
        router.endpoint(endpoint).mode.named(&mut Actions::new(self, slot), name);
    }

    /// A member's subscription has ended, or will not begin: its name is free again.
    pub(crate) fn leave(&mut self, home: Home, slot: u32) {
        // At a shutdown everybody leaves, and nobody is told.
        if self.phase >= ShutdownPhase::StopReading {
            return;
        }
        if home.shard as usize == self.index {
            self.on_leave(self.index, home, slot);
        } else {
            self.node.send(home.shard as usize, Message::Leave { home, slot }, 0);
        }
    }

    /// A reader shard's connection asks for a name in a topic that lives here.
    pub(crate) fn on_claim(&mut self, from: usize, claim: Claim) {
        let id = claim.id;
        let named = self.name(from, claim);
        self.node.send(from, Message::Named { id, named }, 0);
    }

    /// Gives a name and tells everybody. `None` if there is none left.
    fn name(&mut self, reader: usize, Claim { home: at, id, wanted }: Claim) -> Option<Named> {
        let router = Rc::clone(&self.router);
        let home = self.topics.home_mut(at.slot, at.generation).expect("a topic lives as long as a claim is pending");
        let endpoint = router.endpoint(home.endpoint);
        let holder = Holder { shard: reader as u32, slot: id.slot };
        let chars_max = endpoint.config.username_chars_max;
        let names = home.names.get_or_insert_default();
        let customs = endpoint.mode.members().expect(HAS_MEMBERS);
        let name = names.take(holder, &wanted, chars_max, |name| customs.is_reserved(name))?;
        let start = home.tail();
        self.post(at, &customs.notice(&name, Membership::Joined));
        Some(Named { name, start })
    }

    /// A reader shard's connection gives back its name in a topic that lives here.
    pub(crate) fn on_leave(&mut self, reader: usize, at: Home, slot: u32) {
        let router = Rc::clone(&self.router);
        let home = self.topics.home_mut(at.slot, at.generation).expect("a topic lives until its last member has left");
        let endpoint = router.endpoint(home.endpoint);
        let holder = Holder { shard: reader as u32, slot };
        // One whose claim was refused had none.
        if let Some(name) = home.names.as_mut().and_then(|names| names.free(holder)) {
            let customs = endpoint.mode.members().expect(HAS_MEMBERS);
            self.post(at, &customs.notice(&name, Membership::Left));
        }
    }

    /// Writes a message of the server itself into a topic that lives here.
    fn post(&mut self, at: Home, text: &str) {
        let at_us = self.now_us as u32;
        self.append(at.slot, at.generation, |home| home.append(Opcode::Text, text.as_bytes(), SERVER, at_us));
    }
}
