//! Who hears a topic: subscriptions, their end, and what the home tells the shards that read it.

use std::rc::Rc;
use std::sync::Arc;

use crate::counters::Dropped;
use crate::mesh::message::Message;
use crate::mesh::node::TOPICS_PER_HOME_MAX;
use crate::net::connection::{Phase, Subscription};
use crate::relay::home::{HomeTopic, Shared};
use crate::relay::ledger::{Books, Owed};
use crate::relay::segment::Segment;
use crate::relay::topic::{Home, Joining, Topic};
use crate::relay::view::Position;
use crate::shard::Shard;

/// Why a connection is refused that would be the first of one topic too many.
const NO_TOPIC: &str = "there are as many topics as the server takes";

/// How a subscription went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subscribed {
    /// It stands.
    Now,
    /// The home is asked.
    Later,
    /// It cannot be had, and why.
    Refused(&'static str),
}

impl Shard {
    /// Subscribes a connection to a topic, as a member of this name if there is one; what the connection hears starts no
    /// later than the answer.
    pub(crate) fn subscribe(&mut self, slot: u32, endpoint: u16, name: &str, member: Option<Box<str>>) -> Subscribed {
        let name: Arc<str> = name.into();
        let key = (endpoint, Arc::clone(&name));
        let topic = match self.topics.by_name.get(&key) {
            Some(&topic) => topic,
            None => {
                let home = self.topics.home_of(&name, self.shards);
                let books = Books::under(&self.topics.books);
                let mut topic = Topic::joining(Arc::clone(&name), endpoint, home, books);
                topic.has_members = member.is_some();
                let topic = self.topics.topics.insert(topic) as u32;
                self.topics.by_name.insert(key, topic);
                if home as usize != self.index {
                    self.node.send(home as usize, Message::Subscribe { name, endpoint, topic }, 0);
                } else if !self.join_own_home(topic) {
                    self.topics.remove(topic);
                    return Subscribed::Refused(NO_TOPIC);
                }
                topic
            }
        };
        let subscription = Subscription { topic, index: u32::MAX };
        self.connections.at_mut(slot).subscription = Some(subscription);
        if self.topics.topic(topic).is_live() {
            return self.join(slot, topic, member);
        }
        let id = self.connections.id(slot);
        self.topics.topic_mut(topic).joining.push_back(Joining { id, wanted: member, kept_from: None });
        Subscribed::Later
    }

    /// Puts a connection among the subscribers of its live topic: from the visible tail on, or once it has a name.
    fn join(&mut self, slot: u32, topic: u32, member: Option<Box<str>>) -> Subscribed {
        if let Some(wanted) = member {
            return self.claim(slot, wanted);
        }
        let start = self.topics.topic(topic).view().tail();
        self.add_subscriber(slot, start);
        Subscribed::Now
    }

    fn join_own_home(&mut self, topic: u32) -> bool {
        let (name, endpoint) = {
            let topic = self.topics.topic(topic);
            (Arc::clone(&topic.name), topic.endpoint)
        };
        let Some((home, segment, shared)) = self.join_home(name, endpoint, self.index) else { return false };
        self.topics.go_live(topic, home, segment, shared);
        true
    }

    /// Lets a shard read a topic that lives here; the topic is made if it does not live yet.
    fn join_home(&mut self, name: Arc<str>, endpoint: u16, reader: usize) -> Option<(Home, Arc<Segment>, Arc<Shared>)> {
        let slot = match self.topics.home_slot(endpoint, &name) {
            Some(slot) => slot,
            None => {
                let endpoint_of = self.router.endpoint(endpoint);
                let is_full = self.topics.homes.vacant_key() >= TOPICS_PER_HOME_MAX;
                if is_full || !self.admission.add_topic(endpoint, endpoint_of.config.topics_max as u64) {
                    return None;
                }
                let (shards, bounds) = (self.shards, endpoint_of.bounds);
                let slot =
                    self.topics.add_home(|generation| HomeTopic::new(name, endpoint, generation, shards, bounds));
                self.counters().topics.inc();
                slot
            }
        };
        let home = &mut self.topics.homes[slot as usize];
        let segment = home.join(reader);
        let at = Home { shard: self.index as u32, slot, generation: home.generation };
        Some((at, segment, Arc::clone(&home.shared)))
    }

    /// A reader shard asks for a topic that lives here.
    pub(crate) fn on_subscribe(&mut self, from: usize, name: Arc<str>, endpoint: u16, topic: u32) {
        let answer = match self.join_home(name, endpoint, from) {
            Some((home, segment, shared)) => Message::Subscribed { topic, home, shared, segment },
            None => Message::Refused { topic },
        };
        self.node.send(from, answer, 0);
    }

    /// The home has answered: everybody who waited is subscribed and gets the 101, members once they have a name.
    pub(crate) fn on_subscribed(&mut self, topic: u32, home: Home, shared: Arc<Shared>, segment: Arc<Segment>) {
        self.topics.go_live(topic, home, segment, shared);
        for Joining { id, wanted, .. } in std::mem::take(&mut self.topics.topic_mut(topic).joining) {
            let is_waiting = self.connections.is_current(id) && self.connections.at(id.slot).phase == Phase::Joining;
            if is_waiting && self.join(id.slot, topic, wanted) == Subscribed::Now {
                self.open(id.slot);
            }
        }
        // The home may have closed the gate for want of our report, and hears nothing more of us if all is sent.
        self.report(topic);
        self.drop_topic_if_unused(topic);
    }

    pub(crate) fn on_refused(&mut self, topic: u32) {
        for Joining { id, .. } in std::mem::take(&mut self.topics.topic_mut(topic).joining) {
            if self.connections.is_current(id) && self.connections.at(id.slot).phase == Phase::Joining {
                self.connections.at_mut(id.slot).subscription = None;
                self.refuse_subscription(id.slot, NO_TOPIC);
            }
        }
        self.topics.remove(topic);
    }

    /// Puts a connection among the subscribers of its live topic, from `start` on.
    pub(crate) fn add_subscriber(&mut self, slot: u32, start: Position) {
        let now_us = self.now_us;
        let connection = self.connections.at_mut(slot);
        let subscription = connection.subscription.as_mut().expect("it asked for a topic");
        let topic = self.topics.topic_mut(subscription.topic);
        subscription.index = topic.subscribe(slot, connection.origin, start, now_us);
        if connection.flags.blocked {
            // By an answer to an earlier request that it has not read.
            topic.block(subscription.index, now_us);
        }
    }

    /// Ends a connection's subscription and books what it was not sent as dropped. With `keep_frame` the rest of a
    /// frame that was begun moves to its outbox, so that something can follow it.
    pub(crate) fn unsubscribe(&mut self, slot: u32, reason: Dropped, keep_frame: bool) {
        let id = self.connections.id(slot);
        let Some(subscription) = self.connections.at_mut(slot).subscription.take() else { return };
        let index = subscription.topic;
        if subscription.index == u32::MAX {
            let topic = self.topics.topic_mut(index);
            let (home, place) = (topic.home, topic.joining.iter().position(|joining| joining.id == id));
            let joining = place.and_then(|place| topic.joining.remove(place));
            if joining.is_some_and(|joining| joining.kept_from.is_some()) {
                self.leave(home, slot);
            }
            // While the home is asked for the topic it stays: the answer is on the way.
            return self.drop_topic_if_unused(index);
        }
        let topic = self.topics.topic_mut(index);
        let kept = if keep_frame { topic.begun_frame(subscription.index) } else { None };
        let books = Rc::clone(&topic.books);
        let (moved, dropped) = topic.unsubscribe(subscription.index, reason, u64::from(kept.is_some()));
        topic.publishers.retain(|publisher| *publisher != id);
        if let Some(moved) = moved {
            let moved = self.connections.at_mut(moved).subscription.as_mut();
            moved.expect("a subscriber's connection is subscribed").index = subscription.index;
        }
        self.counters().dropped(reason, dropped);
        if let Some(rest) = kept {
            self.outbox(slot).rest_of_frame(rest, Owed { books, deliveries: 1 });
        }
        let topic = self.topics.topic(index);
        if topic.has_members {
            self.leave(topic.home, slot);
        }
        self.report_soon(index);
        self.drop_topic_if_unused(index);
    }

    fn drop_topic_if_unused(&mut self, index: u32) {
        let topic = self.topics.topic(index);
        if !topic.subscribers.is_empty() || !topic.joining.is_empty() || !topic.is_live() {
            return;
        }
        let home = self.topics.remove(index).home;
        if home.shard as usize == self.index {
            self.leave_home(self.index, home);
        } else {
            self.node.send(home.shard as usize, Message::Unsubscribe { home }, 0);
        }
    }

    /// A reader shard has no subscribers left.
    pub(crate) fn leave_home(&mut self, reader: usize, at: Home) {
        let Some(home) = self.topics.home_mut(at.slot, at.generation) else { return };
        if home.leave(reader) {
            let endpoint = home.endpoint;
            self.topics.remove_home(at.slot);
            self.admission.remove_topic(endpoint);
            self.counters().topics.sub(1);
        } else {
            self.weigh_gate(at.slot);
        }
    }

    /// Something about the topic's gate has changed: opens or closes it, and tells everybody when it opens.
    pub(crate) fn weigh_gate(&mut self, home_slot: u32) {
        let Some(home) = self.topics.homes.get_mut(home_slot as usize) else { return };
        if home.weigh() && !std::mem::replace(&mut home.announcing, true) {
            self.topics.announcing.push(home_slot);
        }
    }

    /// Tells every shard with subscribers of topics that have news; our own view follows at once.
    pub(crate) fn announce(&mut self) {
        let mut announcing = std::mem::take(&mut self.topics.announcing);
        for slot in announcing.drain(..) {
            let Some(home) = self.topics.homes.get_mut(slot as usize) else { continue };
            home.announcing = false;
            let mut readers = home.readers;
            while readers != 0 {
                let reader = readers.trailing_zeros() as usize;
                readers &= readers - 1;
                if reader == self.index {
                    self.on_news(self.index, slot);
                } else {
                    self.node.announce(reader, slot);
                }
            }
        }
        // The list goes back for its memory, with whatever came meanwhile.
        announcing.append(&mut self.topics.announcing);
        self.topics.announcing = announcing;
    }

    /// A topic has news: more to send, or an open gate.
    pub(crate) fn on_news(&mut self, home_shard: usize, home_slot: u32) {
        let Some(index) = self.topics.at_home(home_shard, home_slot) else { return };
        let topic = self.topics.topic_mut(index);
        let moved = topic.view_mut().refresh();
        if !topic.is_closed() && !topic.publishers.is_empty() {
            for id in std::mem::take(&mut self.topics.topic_mut(index).publishers) {
                if self.connections.is_current(id) {
                    self.resume_parsing(id.slot);
                }
            }
        }
        if moved {
            self.schedule(index);
        } else {
            // A log that went to rest has a new, empty segment: the old one is given back.
            self.report_soon(index);
        }
    }
}
