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

use crate::mesh::message::Report;
use crate::net::port::ConnectionId;
use crate::relay::home::{HomeTopic, Shared};
use crate::relay::ledger::{Books, Ledger};
use crate::relay::segment::Segment;
use crate::relay::topic::{Home, Pass, Topic};

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
    pub finished: Vec<(u32, Pass)>,
    /// Topics to report at the end of the running flush.
    pub report_due: Vec<u32>,
    /// Homes whose logs were written to lately, and when to look at them again.
    pub busy: Vec<u32>,
    pub rest_us: Option<u64>,
    /// Homes with news to announce.
    pub announcing: Vec<u32>,
    pub homes: Slab<HomeTopic>,
    pub topics: Slab<Topic>,
    pub by_name: HashMap<(u16, Arc<str>), u32>,
    /// For each home shard, the topic here of each of its slots; `u32::MAX` for none.
    by_home: Vec<Vec<u32>>,
    /// The slot of each topic that lives here.
    homes_by_name: HashMap<(u16, Arc<str>), u32>,
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
            report_due: Vec::new(),
            busy: Vec::new(),
            rest_us: None,
            announcing: Vec::new(),
            homes: Slab::new(),
            topics: Slab::new(),
            by_name: HashMap::new(),
            by_home: vec![Vec::new(); shards],
            homes_by_name: HashMap::new(),
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
        [held, self.judge_us, self.rest_us].into_iter().flatten().min()
    }

    /// The shard that owns a topic: a hash of its name with the server's own seed.
    pub(crate) fn home_of(&self, name: &str, shards: usize) -> u32 {
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
    pub(crate) fn go_live(&mut self, topic: u32, home: Home, segment: Arc<Segment>, shared: Arc<Shared>) {
        let slots = &mut self.by_home[home.shard as usize];
        if slots.len() <= home.slot as usize {
            slots.resize(home.slot as usize + 1, u32::MAX);
        }
        slots[home.slot as usize] = topic;
        self.topic_mut(topic).go_live(home, segment, shared);
    }

    pub(crate) fn remove(&mut self, index: u32) -> Topic {
        let topic = self.topics.remove(index as usize);
        self.by_name.remove(&(topic.endpoint, Arc::clone(&topic.name)));
        if topic.is_live() {
            self.by_home[topic.home.shard as usize][topic.home.slot as usize] = u32::MAX;
        }
        topic
    }

    /// The slot of the topic `name`, if it lives here.
    pub(crate) fn home_slot(&self, endpoint: u16, name: &Arc<str>) -> Option<u32> {
        self.homes_by_name.get(&(endpoint, Arc::clone(name))).copied()
    }

    pub(crate) fn add_home(&mut self, home: impl FnOnce(u32) -> HomeTopic) -> u32 {
        let entry = self.homes.vacant_entry();
        let slot = entry.key();
        if self.generations.len() <= slot {
            self.generations.resize(slot + 1, 0);
        }
        self.generations[slot] = self.generations[slot].wrapping_add(1);
        let home = entry.insert(home(self.generations[slot]));
        self.homes_by_name.insert((home.endpoint, Arc::clone(&home.name)), slot as u32);
        slot as u32
    }

    pub(crate) fn remove_home(&mut self, slot: u32) {
        let home = self.homes.remove(slot as usize);
        self.homes_by_name.remove(&(home.endpoint, home.name));
    }

    /// Figures for `Server::ledger()` and the last log line.
    pub(crate) fn report(&self, connections: u64) -> Report {
        let mut total = self.books.figures();
        total.accepted = self.accepted;
        let mut topics: Vec<(String, Ledger)> = Vec::new();
        for (_, topic) in self.topics.iter().filter(|(_, topic)| topic.is_live()) {
            total.covered += topic.running_coverage();
            topics.push((topic.name.to_string(), topic.figures()));
        }
        for (_, home) in &self.homes {
            topics.push((home.name.to_string(), Ledger { accepted: home.accepted, ..Ledger::default() }));
        }
        Report { total, topics, connections }
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
