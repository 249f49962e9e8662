//! All topics that a shard knows: its own side of each, and the homes it hosts.
//!
//! A topic lives at the shard its name hashes to. The first subscriber of a shard asks the home and waits for its
//! answer, later ones start at the visible tail; when a shard's last subscriber leaves, it tells the home.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _};
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;

use crate::counters::Dropped;
use crate::mesh::message::{Message, Report};
use crate::net::connection::{Phase, Subscription};
use crate::net::port::ConnectionId;
use crate::relay::home::{HomeTopic, Shared};
use crate::relay::ledger::{Books, Owed};
use crate::relay::segment::Segment;
use crate::relay::topic::{Home, Topic};
use crate::relay::view::Position;
use crate::shard::Shard;

/// How a subscription went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subscribed {
    /// It stands.
    Now,
    /// The home is asked.
    Later,
    /// There are too many topics.
    Refused,
}

/// See the module's description.
pub(crate) struct Topics {
    pub books: Rc<Books>,
    /// Topics to fan out, in turn.
    pub hot: VecDeque<u32>,
    /// Topics that are held back, by the time they are released.
    pub held: BinaryHeap<Reverse<(u64, u32)>>,
    /// Topics with slow consumers under judgement, and when to look at them again.
    pub judging: Vec<u32>,
    pub judge_us: Option<u64>,
    /// Connections that wait for room in a ring.
    pub congested: Vec<ConnectionId>,
    /// Topics whose fan-out ends with the running flush, and the offset it covered.
    pub finished: Vec<(u32, u64)>,
    /// Homes with news to announce.
    pub announcing: Vec<u32>,
    pub homes: Slab<HomeTopic>,
    topics: Slab<Topic>,
    by_name: HashMap<(u16, Arc<str>), u32>,
    /// For each home shard, the topic here of each of its slots; `u32::MAX` for none.
    by_home: Vec<Vec<u32>>,
    /// Generation of each home slot.
    generations: Vec<u32>,
    accepted: u64,
    seed: u64,
}

impl Topics {
    pub(crate) fn new(shards: usize, seed: u64) -> Self {
        Self {
            books: Rc::new(Books::default()),
            hot: VecDeque::new(),
            held: BinaryHeap::new(),
            judging: Vec::new(),
            judge_us: None,
            congested: Vec::new(),
            finished: Vec::new(),
            announcing: Vec::new(),
            homes: Slab::new(),
            topics: Slab::new(),
            by_name: HashMap::new(),
            by_home: vec![Vec::new(); shards],
            generations: Vec::new(),
            accepted: 0,
            seed,
        }
    }

    #[inline]
    pub(crate) fn topic(&self, index: u32) -> &Topic {
        &self.topics[index as usize]
    }

    #[inline]
    pub(crate) fn topic_mut(&mut self, index: u32) -> &mut Topic {
        &mut self.topics[index as usize]
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Topic> {
        self.topics.get_mut(index as usize)
    }

    pub(crate) fn indices(&self) -> Vec<u32> {
        self.topics.iter().map(|(index, _)| index as u32).collect()
    }

    /// True if a topic is to be fanned out or announced in the next turn.
    pub(crate) fn has_work(&self) -> bool {
        !self.hot.is_empty() || !self.announcing.is_empty()
    }

    /// When a topic must be looked at, in µs.
    pub(crate) fn next_us(&self) -> Option<u64> {
        let held = self.held.peek().map(|Reverse((due, _))| *due);
        [held, self.judge_us].into_iter().flatten().min()
    }

    /// The shard that owns a topic: a hash of its name with the server's own seed.
    fn home_of(&self, name: &str, shards: usize) -> u32 {
        let mut hasher = SeededHash(self.seed).build_hasher();
        hasher.write(name.as_bytes());
        (hasher.finish() % shards as u64) as u32
    }

    /// The topic here that lives in a home's slot.
    pub(crate) fn at_home(&self, shard: usize, slot: u32) -> Option<u32> {
        self.by_home[shard].get(slot as usize).copied().filter(|topic| *topic != u32::MAX)
    }

    /// The home in `slot`, if it still is the one of this generation.
    pub(crate) fn home_mut(&mut self, slot: u32, generation: u32) -> Option<&mut HomeTopic> {
        self.homes.get_mut(slot as usize).filter(|home| home.generation == generation)
    }

    pub(crate) fn accept(&mut self) {
        self.accepted += 1;
    }

    /// The topic is live from here on.
    fn go_live(&mut self, topic: u32, home: Home, segment: Arc<Segment>, shared: Arc<Shared>, start: Position) {
        let slots = &mut self.by_home[home.shard as usize];
        if slots.len() <= home.slot as usize {
            slots.resize(home.slot as usize + 1, u32::MAX);
        }
        slots[home.slot as usize] = topic;
        self.topic_mut(topic).go_live(home, segment, shared, start);
    }

    fn remove(&mut self, index: u32) -> Topic {
        let topic = self.topics.remove(index as usize);
        self.by_name.remove(&(topic.endpoint, Arc::clone(&topic.name)));
        if topic.is_live() {
            self.by_home[topic.home.shard as usize][topic.home.slot as usize] = u32::MAX;
        }
        topic
    }

    fn add_home(&mut self, home: impl FnOnce(u32) -> HomeTopic) -> u32 {
        let entry = self.homes.vacant_entry();
        let slot = entry.key();
        if self.generations.len() <= slot {
            self.generations.resize(slot + 1, 0);
        }
        self.generations[slot] = self.generations[slot].wrapping_add(1);
        entry.insert(home(self.generations[slot]));
        slot as u32
    }

    /// Figures for `Server::ledger()` and the last log line.
    pub(crate) fn report(&self, connections: u64) -> Report {
        let mut total = self.books.figures();
        total.accepted = self.accepted;
        let mut topics = Vec::new();
        for (_, topic) in &self.topics {
            if !topic.is_live() {
                continue;
            }
            let mut figures = topic.figures();
            total.covered += topic.running_coverage();
            if topic.home.shard as usize == self.index_of_self(topic) {
                figures.accepted = self.homes.get(topic.home.slot as usize).map_or(0, |home| home.accepted);
            }
            topics.push((topic.name.to_string(), figures));
        }
        Report { total, topics, connections }
    }

    /// The home shard of `topic` if the home is hosted here, else a number that is none.
    fn index_of_self(&self, topic: &Topic) -> usize {
        let hosted = self
            .homes
            .get(topic.home.slot as usize)
            .is_some_and(|home| home.generation == topic.home.generation && home.name == topic.name);
        if hosted { topic.home.shard as usize } else { usize::MAX }
    }
}

/// The standard library's SipHash, keyed by the server's seed, so that all shards agree.
struct SeededHash(u64);

impl std::hash::BuildHasher for SeededHash {
    type Hasher = std::hash::DefaultHasher;

    fn build_hasher(&self) -> Self::Hasher {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

impl Shard {
    /// Subscribes a connection to a topic; what the connection hears starts no later than the answer.
    pub(crate) fn subscribe(&mut self, slot: u32, endpoint: u16, name: &str) -> Subscribed {
        let name: Arc<str> = name.into();
        let key = (endpoint, Arc::clone(&name));
        let topic = match self.topics.by_name.get(&key) {
            Some(&topic) => topic,
            None => {
                let home = self.topics.home_of(&name, self.shards);
                let books = Books::under(&self.topics.books);
                let topic = self.topics.topics.insert(Topic::joining(Arc::clone(&name), endpoint, home, books)) as u32;
                self.topics.by_name.insert(key, topic);
                if home as usize != self.index {
                    self.node.send(home as usize, Message::Subscribe { name, endpoint, topic }, 0);
                } else if !self.join_own_home(topic) {
                    self.topics.remove(topic);
                    return Subscribed::Refused;
                }
                topic
            }
        };
        let subscription = Subscription { topic, index: u32::MAX };
        self.connections.at_mut(slot).subscription = Some(subscription);
        if self.topics.topic(topic).is_live() {
            self.add_subscriber(slot);
            return Subscribed::Now;
        }
        let id = self.connections.id(slot);
        self.topics.topic_mut(topic).joining.push(id);
        Subscribed::Later
    }

    fn join_own_home(&mut self, topic: u32) -> bool {
        let (name, endpoint) = {
            let topic = self.topics.topic(topic);
            (Arc::clone(&topic.name), topic.endpoint)
        };
        let Some((home, segment, shared, start)) = self.join_home(name, endpoint, self.index) else { return false };
        self.topics.go_live(topic, home, segment, shared, start);
        true
    }

    /// Lets a shard read a topic that lives here; the topic is made if it does not live yet.
    fn join_home(
        &mut self,
        name: Arc<str>,
        endpoint: u16,
        reader: usize,
    ) -> Option<(Home, Arc<Segment>, Arc<Shared>, Position)> {
        let found = self.topics.homes.iter().find(|(_, home)| home.endpoint == endpoint && home.name == name);
        let slot = match found {
            Some((slot, _)) => slot as u32,
            None => {
                let endpoint_of = self.router.endpoint(endpoint);
                if !self.admission.add_topic(endpoint, endpoint_of.config.topics_max as u64) {
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
        let (segment, start) = home.join(reader);
        let at = Home { shard: self.index as u32, slot, generation: home.generation };
        Some((at, segment, Arc::clone(&home.shared), start))
    }

    /// A reader shard asks for a topic that lives here.
    pub(crate) fn on_subscribe(&mut self, from: usize, name: Arc<str>, endpoint: u16, topic: u32) {
        let answer = match self.join_home(name, endpoint, from) {
            Some((home, segment, shared, start)) => Message::Subscribed { topic, home, shared, segment, start },
            None => Message::Refused { topic },
        };
        self.node.send(from, answer, 0);
    }

    /// The home has answered: everybody who waited is subscribed and gets the 101.
    pub(crate) fn on_subscribed(
        &mut self,
        topic: u32,
        home: Home,
        shared: Arc<Shared>,
        segment: Arc<Segment>,
        start: Position,
    ) {
        self.topics.go_live(topic, home, segment, shared, start);
        for id in std::mem::take(&mut self.topics.topic_mut(topic).joining) {
            if self.connections.is_current(id) && self.connections.at(id.slot).phase == Phase::Joining {
                self.add_subscriber(id.slot);
                self.open(id.slot);
            }
        }
        self.drop_topic_if_unused(topic);
    }

    pub(crate) fn on_refused(&mut self, topic: u32) {
        for id in std::mem::take(&mut self.topics.topic_mut(topic).joining) {
            if self.connections.is_current(id) && self.connections.at(id.slot).phase == Phase::Joining {
                self.connections.at_mut(id.slot).subscription = None;
                self.refuse_topic(id.slot);
            }
        }
        self.topics.remove(topic);
    }

    /// Puts a connection among the subscribers of its live topic, from the visible tail on.
    fn add_subscriber(&mut self, slot: u32) {
        let now_us = self.now_us;
        let connection = self.connections.at_mut(slot);
        let subscription = connection.subscription.as_mut().expect("it asked for a topic");
        let topic = self.topics.topic_mut(subscription.topic);
        let start = topic.view().tail();
        subscription.index = topic.subscribe(slot, connection.origin, start, now_us);
    }

    /// Ends a connection's subscription and books what it was not sent as dropped. With `keep_frame` the rest of a
    /// frame that was begun moves to its outbox, so that something can follow it.
    pub(crate) fn unsubscribe(&mut self, slot: u32, reason: Dropped, keep_frame: bool) {
        let id = self.connections.id(slot);
        let Some(subscription) = self.connections.at_mut(slot).subscription.take() else { return };
        let index = subscription.topic;
        if subscription.index == u32::MAX {
            self.topics.topic_mut(index).joining.retain(|joining| *joining != id);
            // While the home is asked the topic stays: its answer is on the way.
            return;
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
        if let Some((segment, from, to)) = kept {
            let outbox = self.outbox(slot);
            outbox.log_range_first(segment, from, to);
            outbox.owe(Owed { books, deliveries: 1 });
        }
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
            self.topics.homes.remove(at.slot as usize);
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
        self.topics.announcing.append(&mut announcing);
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
        }
    }
}
