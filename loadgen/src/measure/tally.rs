//! One thread's figures: every delivery is checked, booked and timed here, once, without allocating.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::ledger::{Delivery, Ledger};
use super::recorder::{Recorder, RunRecorder};
use super::seen::Seen;
use super::stamp::{Check, Stamp, Stamper};
use super::track::{LocalTrack, SharedTrack};
use crate::workload::Load;

/// Counts of the measured messages, unless it says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Intact first copies.
    pub(crate) received: u64,
    /// Payload bytes of them.
    pub(crate) received_bytes: u64,
    /// Further copies.
    pub(crate) duplicated: u64,
    /// First copies after a later message of the same publisher.
    pub(crate) reordered: u64,
    /// Arrived with other bytes than were sent.
    pub(crate) corrupted: u64,
    /// Never arrived, not even damaged.
    pub(crate) lost: u64,
    /// Not expected, because the subscriber was away, and not received.
    pub(crate) missed: u64,
    /// Whole messages of other runs, at any time.
    pub(crate) foreign: u64,
    /// Whole messages of this run on a topic that they were not sent to.
    pub(crate) misrouted: u64,
}

impl Counts {
    /// Adds another thread's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.lost += other.lost;
        self.missed += other.missed;
        self.foreign += other.foreign;
        self.misrouted += other.misrouted;
    }
}

/// A subscriber's place in the account: its topic and its first pair in the ledger.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) topic: u32,
    pub(crate) first_pair: u32,
    /// Nobody else on this thread hears the topic.
    is_alone: bool,
}

/// What one thread's subscribers have seen.
#[derive(Debug)]
pub(crate) struct Tally {
    stamper: Arc<Stamper>,
    seen: Seen,
    tracks: Arc<[SharedTrack]>,
    publishers: Vec<Heard>,
    accounts: Vec<Account>,
    /// Accounts of subscribers that are away, by their first pair.
    away: HashMap<u32, Account>,
    ledger: Ledger,
    /// Intended times that are measured, in ns since the epoch.
    pub(crate) measured: Range<u64>,
    /// Damaged beyond recognition, per account: each stands for one delivery that is missing.
    unrecognised: HashMap<u32, u64>,
    pub(crate) counts: Counts,
    /// Distinct messages booked in all phases, damaged ones included.
    pub(crate) booked: u64,
    /// From intended time, since the last [`Self::take_interval`].
    response: RunRecorder,
    /// From the actual send.
    service: RunRecorder,
    pub(crate) completion: Recorder,
    /// Between the first and the last subscriber.
    pub(crate) spread: Recorder,
    /// Publishers that have a message complete, since the last drain of this list.
    pub(crate) completed: Vec<u32>,
    is_closed_loop: bool,
}

#[derive(Debug)]
struct Heard {
    topic: u32,
    index_in_topic: u32,
    track: LocalTrack,
}

impl Tally {
    /// For a thread whose subscribers per topic are `local_subscribers`.
    pub(crate) fn new(
        load: &Load,
        stamper: Arc<Stamper>,
        tracks: Arc<[SharedTrack]>,
        local_subscribers: &[u32],
    ) -> Self {
        let publishers = load.publishers.iter().zip(&*tracks).map(|(publisher, shared)| Heard {
            topic: publisher.topic,
            index_in_topic: publisher.index_in_topic,
            track: LocalTrack::new(shared, local_subscribers[publisher.topic as usize]),
        });
        Self {
            publishers: publishers.collect(),
            stamper,
            seen: Seen::new(),
            tracks,
            accounts: Vec::new(),
            away: HashMap::new(),
            ledger: Ledger::default(),
            measured: 0..0,
            unrecognised: HashMap::new(),
            counts: Counts::default(),
            booked: 0,
            response: RunRecorder::new(),
            service: RunRecorder::new(),
            completion: Recorder::new(),
            spread: Recorder::new(),
            completed: Vec::with_capacity(1024),
            is_closed_loop: load.is_closed_loop(),
        }
    }

    /// Opens the account of one of `subscribers` to `topic` on this thread.
    pub(crate) fn open(&mut self, topic: u32, publishers: u32, subscribers: u32) -> Account {
        let account = Account { topic, first_pair: self.ledger.open(publishers), is_alone: subscribers == 1 };
        self.accounts.push(account);
        account
    }

    /// Books what a subscriber received at `now_ns`.
    #[inline]
    pub(crate) fn deliver(&mut self, account: Account, payload: &[u8], now_ns: u64) {
        let found = if account.is_alone { None } else { self.seen.find(payload) };
        let stamp = match found {
            Some(stamp) => stamp,
            None => match self.stamper.check(payload) {
                Check::Intact(stamp) => {
                    if !account.is_alone {
                        self.seen.keep(payload, stamp);
                    }
                    stamp
                }
                other => return self.deliver_other(account, other, now_ns),
            },
        };
        let Some(heard) = self.publishers.get_mut(stamp.publisher as usize) else {
            return self.deliver_other(account, Check::Damaged, now_ns);
        };
        if heard.topic != account.topic {
            self.counts.misrouted += 1;
            return;
        }
        let is_measured = self.measured.contains(&stamp.intended_ns);
        match self.ledger.book(account.first_pair + heard.index_in_topic, stamp.sequence) {
            Delivery::InOrder => {}
            Delivery::Late => self.counts.reordered += u64::from(is_measured),
            Delivery::Duplicate => {
                self.counts.duplicated += u64::from(is_measured);
                return;
            }
        }
        self.booked += 1;
        if is_measured {
            self.counts.received += 1;
            self.counts.received_bytes += payload.len() as u64;
            let response_ns = now_ns.saturating_sub(stamp.intended_ns);
            self.response.record(response_ns);
            // In a closed loop the two are the same by definition.
            if !self.is_closed_loop {
                self.service.record(response_ns.saturating_sub(stamp.lateness_us * 1000));
            }
        }
        if let Some(first_ns) = heard.track.book(stamp.sequence, now_ns) {
            self.complete(&stamp, first_ns, now_ns, is_measured);
        }
    }

    /// A subscriber has been cut: what it does not get from now on is not expected. True: its topic has nobody left on
    /// this thread.
    pub(crate) fn leave(&mut self, account: Account) -> bool {
        self.away.insert(account.first_pair, account);
        self.heard_on(account.topic).fold(false, |_, heard| heard.track.leave())
    }

    /// A subscriber is back: what is sent from now on is expected again. True: it is its topic's only one on this thread.
    pub(crate) fn come_back(&mut self, account: Account) -> bool {
        self.away.remove(&account.first_pair);
        self.excuse(account);
        self.heard_on(account.topic).fold(false, |_, heard| heard.track.come_back())
    }

    /// Deliveries of all messages sent so far that are not expected, because the subscriber is or was away.
    pub(crate) fn excused(&self) -> u64 {
        let mut sum = self.ledger.excused_ever();
        for account in self.away.values() {
            for (heard, track) in self.publishers.iter().zip(&*self.tracks).filter(|(h, _)| h.topic == account.topic) {
                let next = self.ledger.next(account.first_pair + heard.index_in_topic);
                sum += u64::from(track.next().saturating_sub(next));
            }
        }
        sum
    }

    fn heard_on(&mut self, topic: u32) -> impl Iterator<Item = &mut Heard> {
        self.publishers.iter_mut().filter(move |heard| heard.topic == topic)
    }

    /// What has been sent up to now, and has not arrived after the last that has, is not expected of this subscriber.
    fn excuse(&mut self, account: Account) {
        for (heard, track) in self.publishers.iter().zip(&*self.tracks).filter(|(h, _)| h.topic == account.topic) {
            self.ledger.excuse(account.first_pair + heard.index_in_topic, track.next());
        }
    }

    /// Takes the response latencies since the last call.
    pub(crate) fn take_interval(&mut self) -> Recorder {
        let response = self.response.settled();
        let taken = response.clone();
        response.clear();
        taken
    }

    /// Service times of the whole run.
    pub(crate) fn service(&mut self) -> &mut Recorder {
        self.service.settled()
    }

    /// Closes all accounts: what is missing is lost. `measured` are the measured sequences of each publisher.
    pub(crate) fn close(&mut self, load: &Load, measured: &[Range<u32>]) {
        let mut heard_by_topic = vec![Vec::new(); load.topics.len()];
        for (publisher, sequences) in load.publishers.iter().zip(measured) {
            heard_by_topic[publisher.topic as usize].push((publisher.index_in_topic, sequences));
        }
        for account in std::mem::take(&mut self.away).into_values() {
            self.excuse(account);
        }
        for account in &self.accounts {
            let pairs = heard_by_topic[account.topic as usize].iter();
            let missing = |(index, range): &(u32, &Range<u32>)| {
                let pair = account.first_pair + index;
                (self.ledger.missing(pair, (*range).clone()), self.ledger.excused(pair, range))
            };
            let (missing, excused) = pairs.map(missing).fold((0, 0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
            let damaged = self.unrecognised.get(&account.first_pair).copied().unwrap_or(0);
            self.counts.lost += missing.saturating_sub(damaged);
            self.counts.missed += excused;
        }
    }

    fn complete(&mut self, stamp: &Stamp, first_ns: u64, now_ns: u64, is_measured: bool) {
        let Some(done) = self.tracks[stamp.publisher as usize].finish(stamp.sequence, first_ns, now_ns) else { return };
        if is_measured {
            self.completion.record(done.last_ns.saturating_sub(stamp.intended_ns));
            self.spread.record(done.last_ns - done.first_ns);
        }
        if self.is_closed_loop {
            self.completed.push(stamp.publisher);
        }
    }

    #[cold]
    fn deliver_other(&mut self, account: Account, check: Check, now_ns: u64) {
        match check {
            Check::Foreign => self.counts.foreign += 1,
            Check::DamagedBody(stamp) if (stamp.publisher as usize) < self.publishers.len() => {
                self.counts.corrupted += u64::from(self.measured.contains(&stamp.intended_ns));
                let heard = &mut self.publishers[stamp.publisher as usize];
                let pair = account.first_pair + heard.index_in_topic;
                if heard.topic == account.topic && self.ledger.book(pair, stamp.sequence) != Delivery::Duplicate {
                    self.booked += 1;
                    if let Some(first_ns) = heard.track.book(stamp.sequence, now_ns) {
                        self.complete(&stamp, first_ns, now_ns, false);
                    }
                }
            }
            _ => {
                self.booked += 1;
                if now_ns >= self.measured.start {
                    self.counts.corrupted += 1;
                    *self.unrecognised.entry(account.first_pair).or_default() += 1;
                }
            }
        }
    }
}
