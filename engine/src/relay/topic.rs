//! A shard's side of a topic: its view of the log, its subscribers with their cursors, and when to flush them.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::counters::Dropped;
use crate::net::port::ConnectionId;
use crate::net::queued::QueuedLog;
use crate::relay::home::Shared;
use crate::relay::ledger::{Books, Ledger};
use crate::relay::segment::Segment;
use crate::relay::view::{LogView, Position};

/// Runs of others' messages that one send takes when own ones are cut out.
const RUNS_PER_SEND: usize = 32;

/// Where a topic lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Home {
    pub shard: u32,
    /// Slot in the home's table, and the generation that tells its users apart.
    pub slot: u32,
    pub generation: u32,
}

/// A connection that hears a topic.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub slot: u32,
    /// Identifies its own records in the log.
    pub origin: u32,
    /// Everything before is sent, or queued in the running batch.
    pub cursor: Position,
    /// The first sequence number it was promised.
    pub start_seq: u64,
    /// Own messages published and not yet passed by the cursor; 0 unless the endpoint excludes senders.
    pub own_ahead: u32,
    /// The socket takes no more bytes now.
    pub blocked: bool,
    /// `cursor` lies inside a record whose beginning was sent.
    pub mid_frame: bool,
    /// When the cursor last moved or the socket last took bytes, in µs.
    pub progress_us: u64,
}

/// A fan-out that is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    /// Index of the subscriber that it began with.
    pub start: usize,
    /// Subscribers looked at.
    pub visited: usize,
    /// The tail when the pass began: what everybody unblocked will have been offered.
    pub target: u64,
    /// A subscriber was removed meanwhile, so that one may have been skipped.
    pub disturbed: bool,
    /// When it began, in µs.
    pub began_us: u64,
    /// Sends that it makes in one turn at most.
    pub sends_per_turn: usize,
}

/// Whether the topic stands in one of the shard's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Nothing to send.
    No,
    /// In the list of topics to fan out.
    Hot,
    /// Held back until this time, in µs, to gather more.
    Held(u64),
}

/// A connection whose handshake waits for the topic's home.
#[derive(Debug)]
pub(crate) struct Joining {
    pub id: ConnectionId,
    /// The name it will ask for once the topic is live.
    pub wanted: Option<Box<str>>,
    /// Set once it has asked: its subscription starts at or behind this, so the view keeps it.
    pub kept_from: Option<Position>,
}

/// See the module's description.
pub(crate) struct Topic {
    pub name: Arc<str>,
    pub endpoint: u16,
    pub home: Home,
    pub books: Rc<Books>,
    pub subscribers: Vec<Subscriber>,
    pub pass: Option<Pass>,
    pub waiting: Waiting,
    /// Where fan-outs start: moves on, so that nobody is always last.
    pub rotation: usize,
    /// When the last fan-out ended, in µs, and how often the shard had slept by then.
    pub flushed_us: u64,
    /// How long that flush took, in µs.
    pub flush_took_us: u64,
    /// The next flush ends a hold.
    pub was_held: bool,
    pub flushed_sleeps: u64,
    /// Every unblocked subscriber was offered everything before.
    pub attempted: u64,
    /// Publishers of this shard that wait for the gate.
    pub publishers: Vec<ConnectionId>,
    /// Connections whose handshake waits for the home's answer, in the order they asked.
    pub joining: VecDeque<Joining>,
    /// Its subscribers are members: the home gives them names.
    pub has_members: bool,
    /// Stands in the list of topics to report.
    pub report_due: bool,
    /// A slow consumer is under judgement.
    pub pressure: bool,
    /// Blocked subscribers.
    pub blocked: usize,
    /// Tail offset at the last look at lags.
    pub judged_at: u64,
    log: Option<(LogView, Arc<Shared>)>,
}

impl Topic {
    /// A topic whose home has not answered yet.
    pub(crate) fn joining(name: Arc<str>, endpoint: u16, home_shard: u32, books: Rc<Books>) -> Self {
        Self {
            name,
            endpoint,
            home: Home { shard: home_shard, slot: u32::MAX, generation: 0 },
            books,
            subscribers: Vec::new(),
            pass: None,
            waiting: Waiting::No,
            rotation: 0,
            flushed_us: 0,
            flush_took_us: 0,
            was_held: false,
            flushed_sleeps: u64::MAX,
            attempted: 0,
            publishers: Vec::new(),
            joining: VecDeque::new(),
            has_members: false,
            report_due: false,
            pressure: false,
            blocked: 0,
            judged_at: 0,
            log: None,
        }
    }

    /// The home has answered: the topic is live from here.
    pub(crate) fn go_live(&mut self, home: Home, segment: Arc<Segment>, shared: Arc<Shared>) {
        let view = LogView::new(segment);
        self.home = home;
        // What came between the home's answer and now concerns nobody here.
        self.attempted = view.tail().at;
        self.judged_at = self.attempted;
        self.log = Some((view, shared));
    }

    pub(crate) fn is_live(&self) -> bool {
        self.log.is_some()
    }

    pub(crate) fn view(&self) -> &LogView {
        &self.log.as_ref().expect("only live topics have subscribers").0
    }

    pub(crate) fn view_mut(&mut self) -> &mut LogView {
        &mut self.log.as_mut().expect("only live topics have subscribers").0
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.log.as_ref().expect("only live topics have a gate").1
    }

    /// True while publishers must wait.
    pub(crate) fn is_closed(&self) -> bool {
        self.log.as_ref().is_some_and(|(_, shared)| shared.is_closed())
    }

    /// Takes what the subscriber has not been sent, at most `bytes_max` bytes of it, and moves its cursor ahead.
    pub(crate) fn take(&mut self, topic: u32, index: u32, bytes_max: u64) -> Option<QueuedLog> {
        let view = &self.log.as_ref().expect("only live topics have subscribers").0;
        let subscriber = &mut self.subscribers[index as usize];
        let from = subscriber.cursor;
        if from.at == view.tail().at || subscriber.blocked {
            return None;
        }
        let rest = if subscriber.mid_frame { view.frame_rest(from) } else { 0 };
        let reach = view.reach(from);
        let accepted_us = view.accepted_at(from).unwrap_or(0);
        let queued = if subscriber.own_ahead == 0 {
            let to = if reach.at - from.at > bytes_max { view.advance(from, bytes_max) } else { reach };
            QueuedLog::new(topic, from, to, rest.min(to.at - from.at), accepted_us)
        } else {
            let limits = (RUNS_PER_SEND, bytes_max);
            let (to, own) = view.reach_without(from, reach, subscriber.origin, limits);
            subscriber.own_ahead = subscriber.own_ahead.saturating_sub(own as u32);
            QueuedLog::new(topic, from, to, rest.min(to.at - from.at), accepted_us).cutting(subscriber.origin, own)
        };
        let to = queued.to;
        subscriber.cursor = to;
        subscriber.mid_frame = view.frame_rest(to) > 0;
        Some(queued)
    }

    /// Moves the cursor back to where a send that took only `sent` bytes of the log left it, and books what was
    /// delivered by it.
    pub(crate) fn roll_back(&mut self, index: u32, queued: &QueuedLog, sent: u64) -> u64 {
        let view = &self.log.as_ref().expect("only live topics have subscribers").0;
        let subscriber = &mut self.subscribers[index as usize];
        let (at, own) = match queued.cut {
            None => (view.advance(queued.from, sent), 0),
            Some(origin) => view.advance_without(queued.from, queued.to, sent, origin),
        };
        subscriber.cursor = at;
        subscriber.mid_frame = view.frame_rest(at) > 0;
        subscriber.own_ahead += (queued.excluded - own) as u32;
        let delivered = at.seq - queued.from.seq - own;
        self.books.exclude(own);
        self.books.deliver(delivered);
        delivered
    }

    /// Bytes of a begun frame that the subscriber must get before anything else.
    pub(crate) fn frame_rest(&self, index: u32) -> u64 {
        let subscriber = &self.subscribers[index as usize];
        if subscriber.mid_frame { self.view().frame_rest(subscriber.cursor) } else { 0 }
    }

    /// True if the subscriber was not sent everything that is visible.
    pub(crate) fn is_behind(&self, index: u32) -> bool {
        self.subscribers.get(index as usize).is_some_and(|s| !s.blocked && s.cursor.at < self.view().tail().at)
    }

    /// The subscriber's socket takes no more. Returns the bytes it lags.
    pub(crate) fn block(&mut self, index: u32, now_us: u64) -> u64 {
        let tail = self.view().tail().at;
        let subscriber = &mut self.subscribers[index as usize];
        subscriber.progress_us = now_us;
        self.blocked += usize::from(!std::mem::replace(&mut subscriber.blocked, true));
        tail - subscriber.cursor.at
    }

    /// The subscriber's socket takes bytes again.
    pub(crate) fn unblock(&mut self, index: u32, now_us: u64) {
        let subscriber = &mut self.subscribers[index as usize];
        subscriber.progress_us = now_us;
        self.blocked -= usize::from(std::mem::take(&mut subscriber.blocked));
    }

    /// Adds a subscriber that hears everything from `start` on. Returns its index.
    pub(crate) fn subscribe(&mut self, slot: u32, origin: u32, start: Position, now_us: u64) -> u32 {
        self.subscribers.push(Subscriber {
            slot,
            origin,
            cursor: start,
            start_seq: start.seq,
            own_ahead: 0,
            blocked: false,
            mid_frame: false,
            progress_us: now_us,
        });
        (self.subscribers.len() - 1) as u32
    }

    /// Removes a subscriber and books what it was not sent as dropped for `reason`. `sent_elsewhere` messages from
    /// its cursor on are taken over by its outbox. Returns the slot of the subscriber that moved to `index`, if any.
    pub(crate) fn unsubscribe(&mut self, index: u32, reason: Dropped, sent_elsewhere: u64) -> (Option<u32>, u64) {
        let gone = self.subscribers.swap_remove(index as usize);
        let end = self.view().tail();
        let mut rest = end.seq - gone.cursor.seq - sent_elsewhere;
        if gone.own_ahead > 0 {
            let own = self.view().count_from(gone.cursor, end, gone.origin);
            self.books.exclude(own);
            rest -= own;
        }
        self.books.cover(end.seq - gone.start_seq);
        self.books.drop_for(reason, rest);
        self.blocked -= usize::from(gone.blocked);
        if let Some(pass) = &mut self.pass {
            pass.disturbed |= pass.visited > 0;
        }
        (self.subscribers.get(index as usize).map(|moved| moved.slot), rest)
    }

    /// The rest of the frame that the subscriber was begun to be sent.
    pub(crate) fn begun_frame(&self, index: u32) -> Option<Bytes> {
        let rest = self.frame_rest(index);
        let at = self.subscribers[index as usize].cursor.at;
        (rest > 0).then(|| self.view().copy(at, at + rest))
    }

    /// Moves the subscriber to the visible tail. Of the messages passed over, `kept` are taken over by its outbox; the
    /// rest is returned.
    pub(crate) fn skip_to_tail(&mut self, index: u32, kept: u64) -> u64 {
        let tail = self.view().tail();
        let subscriber = &self.subscribers[index as usize];
        let (from, origin, own_ahead) = (subscriber.cursor, subscriber.origin, subscriber.own_ahead);
        let own = if own_ahead > 0 { self.view().count_from(from, tail, origin) } else { 0 };
        self.books.exclude(own);
        let subscriber = &mut self.subscribers[index as usize];
        subscriber.own_ahead = subscriber.own_ahead.saturating_sub(own as u32);
        subscriber.cursor = tail;
        subscriber.mid_frame = false;
        tail.seq - from.seq - kept - own
    }

    /// The oldest position a subscriber still needs, or one whose name is being asked for will need.
    pub(crate) fn oldest(&self) -> Position {
        // Those who asked first keep the most.
        let kept = self.joining.front().and_then(|joining| joining.kept_from);
        let cursors = self.subscribers.iter().map(|subscriber| subscriber.cursor).chain(kept);
        cursors.min_by_key(|cursor| cursor.at).unwrap_or_else(|| self.view().tail())
    }

    /// Everything before was offered to every subscriber that takes bytes.
    pub(crate) fn least_offered(&self) -> u64 {
        let unblocked = self.subscribers.iter().filter(|subscriber| !subscriber.blocked);
        unblocked.map(|subscriber| subscriber.cursor.at).min().unwrap_or(u64::MAX)
    }

    /// True if the subscriber was sent everything that is visible, and the kernel took it.
    pub(crate) fn has_everything(&self, index: u32) -> bool {
        let subscriber = &self.subscribers[index as usize];
        !subscriber.blocked && subscriber.cursor.at == self.view().tail().at
    }

    /// Messages that running subscriptions cover up to their cursors.
    pub(crate) fn running_coverage(&self) -> u64 {
        self.subscribers.iter().map(|subscriber| subscriber.cursor.seq - subscriber.start_seq).sum()
    }

    /// Books of this topic with its running subscriptions counted in up to their cursors.
    pub(crate) fn figures(&self) -> Ledger {
        let mut figures = self.books.figures();
        figures.covered += self.running_coverage();
        figures
    }
}
