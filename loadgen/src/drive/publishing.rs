//! The sending side of one thread: which publisher is due, stamping, and the account of what was sent.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::shared::Shared;
use crate::measure::recorder::Recorder;
use crate::measure::stamp::{Stamp, Stamper};
use crate::rng::Rng;
use crate::wire::frame;
use crate::workload::{Pace, Publisher as Spec};

/// A closed loop that has seen no completion for this long counts its messages as lost and goes on.
const GIVE_UP_NS: u64 = 5_000_000_000;

/// Nothing is due.
const NEVER: u64 = u64::MAX;

/// All publishers of one thread.
#[derive(Debug)]
pub(super) struct Publishing {
    list: Vec<Publisher>,
    /// (due in ns since the epoch, index): the next due first.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    /// Publishers in a closed loop that may have room for a message.
    ready: Vec<u32>,
    /// Publishers that can still send.
    living: u64,
    /// Publishers with a limit that have not reached it, or wait for their last messages.
    unfinished: u32,
    has_limits: bool,
    stamper: Arc<Stamper>,
    rng: Rng,
    start_ns: u64,
    measured: Range<u64>,
    pub(super) figures: Figures,
}

/// What was to be sent and what was.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// Measured messages that the schedule wanted.
    pub(crate) scheduled: u64,
    /// Measured messages handed to a connection.
    pub(crate) sent: u64,
    /// Messages of all phases handed to a connection.
    pub(crate) sent_ever: u64,
    /// Deliveries that the measured messages make when none is lost.
    pub(crate) expected: u64,
    /// Deliveries that the messages of all phases make when none is lost.
    pub(crate) expected_ever: u64,
    /// How much after its intended time each message was handed over.
    pub(crate) lateness: Recorder,
}

impl Figures {
    /// Adds another thread's.
    pub(super) fn add(&mut self, other: &Self) {
        self.scheduled += other.scheduled;
        self.sent += other.sent;
        self.sent_ever += other.sent_ever;
        self.expected += other.expected;
        self.expected_ever += other.expected_ever;
        self.lateness.add(&other.lateness);
    }
}

#[derive(Debug)]
struct Publisher {
    id: u32,
    /// The connection it sends on.
    slot: u32,
    spec: Spec,
    next_sequence: u32,
    /// Sequences whose intended time is measured.
    measured: Range<u32>,
    in_flight: u32,
    /// Messages that it may still send.
    left: u32,
    last_progress_ns: u64,
    is_alive: bool,
    is_ready: bool,
}

impl Publishing {
    pub(super) fn new(stamper: Arc<Stamper>, rng: Rng) -> Self {
        let figures =
            Figures { scheduled: 0, sent: 0, sent_ever: 0, expected: 0, expected_ever: 0, lateness: Recorder::new() };
        Self {
            list: Vec::new(),
            due: BinaryHeap::new(),
            ready: Vec::new(),
            living: 0,
            unfinished: 0,
            has_limits: false,
            stamper,
            rng,
            start_ns: 0,
            measured: 0..0,
            figures,
        }
    }

    /// Adds a publisher that sends on connection `slot`; returns its index in this thread.
    pub(super) fn add(&mut self, id: u32, slot: u32, spec: Spec) -> u32 {
        let index = self.list.len() as u32;
        self.living += 1;
        self.unfinished += u32::from(spec.messages_max.is_some());
        self.has_limits |= spec.messages_max.is_some();
        self.list.push(Publisher {
            id,
            slot,
            next_sequence: 0,
            measured: 0..0,
            in_flight: 0,
            left: spec.messages_max.unwrap_or(u32::MAX),
            spec,
            last_progress_ns: 0,
            is_alive: true,
            is_ready: false,
        });
        index
    }

    /// Begins: arrivals count from `start_ns`, nothing is due at or after `measured.end`.
    pub(super) fn start(&mut self, start_ns: u64, measured: Range<u64>) {
        self.start_ns = start_ns;
        self.measured = measured;
        for index in 0..self.list.len() as u32 {
            self.list[index as usize].last_progress_ns = start_ns;
            match &self.list[index as usize].spec.pace {
                Pace::Scheduled(arrivals) => {
                    self.due.push(Reverse((start_ns.saturating_add(arrivals.due_ns()), index)))
                }
                Pace::Outstanding(_) => self.mark_ready(index),
            }
        }
    }

    /// When the next message is due, in ns since the epoch; `u64::MAX`: never.
    #[inline]
    pub(super) fn next_due_ns(&self) -> u64 {
        match self.due.peek() {
            Some(Reverse((due, _))) if *due < self.measured.end => *due,
            _ => NEVER,
        }
    }

    /// Whether the schedule is worked off.
    pub(super) fn has_finished(&self, now_ns: u64) -> bool {
        let has_reached_limits = self.has_limits && self.unfinished == 0;
        self.next_due_ns() == NEVER && (now_ns >= self.measured.end || has_reached_limits)
    }

    /// Takes the next publisher that is due: its index and the intended time.
    #[inline]
    pub(super) fn take_due(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        if self.next_due_ns() > now_ns {
            return None;
        }
        let Reverse((due, index)) = self.due.pop()?;
        let publisher = &mut self.list[index as usize];
        if let Pace::Scheduled(arrivals) = &mut publisher.spec.pace {
            arrivals.advance();
            self.due.push(Reverse((self.start_ns.saturating_add(arrivals.due_ns()), index)));
        }
        self.figures.scheduled += u64::from(self.measured.contains(&due));
        Some((index, due))
    }

    /// Takes the next closed-loop publisher with room, and how many messages it may send.
    pub(super) fn take_ready(&mut self) -> Option<(u32, u32)> {
        let index = self.ready.pop()?;
        let publisher = &mut self.list[index as usize];
        publisher.is_ready = false;
        let Pace::Outstanding(window) = publisher.spec.pace else { return Some((index, 0)) };
        Some((index, (window - publisher.in_flight).min(publisher.left)))
    }

    /// Books `count` completed messages of a publisher in a closed loop.
    pub(super) fn complete(&mut self, index: u32, count: u32, now_ns: u64) {
        let publisher = &mut self.list[index as usize];
        publisher.in_flight = publisher.in_flight.saturating_sub(count);
        publisher.last_progress_ns = now_ns;
        if publisher.left == 0 && publisher.in_flight == 0 {
            self.unfinished -= 1;
        } else {
            self.mark_ready(index);
        }
    }

    /// Gives up the messages of closed-loop publishers that wait for too long.
    pub(super) fn give_up_stalled(&mut self, now_ns: u64) {
        for index in 0..self.list.len() as u32 {
            let publisher = &self.list[index as usize];
            if publisher.in_flight > 0 && now_ns > publisher.last_progress_ns + GIVE_UP_NS {
                self.complete(index, u32::MAX, now_ns);
            }
        }
    }

    /// Writes the next message of a publisher into `outbox`, stamped now. `subscribers` hear it.
    pub(super) fn stamp(&mut self, index: u32, intended_ns: u64, now_ns: u64, shared: &Shared, outbox: &mut Vec<u8>) {
        let publisher = &mut self.list[index as usize];
        let (sequence, spec) = (publisher.next_sequence, &publisher.spec);
        let topic = shared.load.topics[spec.topic as usize];
        shared.tracks[publisher.id as usize]
            .open(sequence, shared.threads_of_topic[spec.topic as usize].load(Ordering::Relaxed));
        let lateness_ns = now_ns.saturating_sub(intended_ns);
        let stamp = Stamp { run: 0, publisher: publisher.id, sequence, intended_ns, lateness_us: lateness_ns / 1000 };
        let key = self.rng.next_key();
        frame::append_header(outbox, spec.opcode, spec.size, Some(key));
        let payload = outbox.len();
        self.stamper.append(outbox, &stamp, spec.size);
        frame::mask(&mut outbox[payload..], key);
        publisher.next_sequence += 1;
        let figures = &mut self.figures;
        figures.sent_ever += 1;
        figures.expected_ever += u64::from(topic.subscribers);
        if self.measured.contains(&intended_ns) {
            if publisher.measured.is_empty() {
                publisher.measured = sequence..sequence;
            }
            publisher.measured.end = sequence + 1;
            figures.sent += 1;
            figures.expected += u64::from(topic.subscribers);
            figures.lateness.record(lateness_ns);
        }
        if matches!(spec.pace, Pace::Outstanding(_)) {
            publisher.in_flight += 1;
            publisher.left -= u32::from(publisher.left != u32::MAX);
            figures.scheduled += u64::from(self.measured.contains(&intended_ns));
        }
    }

    /// The connection that a publisher sends on, while it can.
    pub(super) fn slot(&self, index: u32) -> Option<u32> {
        let publisher = &self.list[index as usize];
        publisher.is_alive.then_some(publisher.slot)
    }

    /// The connection of this publisher is gone.
    pub(super) fn end(&mut self, index: u32) {
        let was_alive = std::mem::replace(&mut self.list[index as usize].is_alive, false);
        self.living -= u64::from(was_alive);
    }

    pub(super) fn living(&self) -> u64 {
        self.living
    }

    /// Collects what other threads have completed for this thread's publishers.
    pub(super) fn collect_completed(&mut self, shared: &Shared, now_ns: u64) {
        for index in 0..self.list.len() as u32 {
            let count = shared.completed[self.list[index as usize].id as usize].swap(0, Ordering::Relaxed);
            if count > 0 {
                self.complete(index, count, now_ns);
            }
        }
    }

    /// Counts what the schedule still wanted up to `end_ns`, and returns the figures and each publisher's measured
    /// sequences.
    pub(super) fn finish(mut self, end_ns: u64) -> (Figures, Vec<(u32, Range<u32>)>) {
        while self.take_due(end_ns).is_some() {}
        (self.figures, self.list.into_iter().map(|publisher| (publisher.id, publisher.measured)).collect())
    }

    fn mark_ready(&mut self, index: u32) {
        let publisher = &mut self.list[index as usize];
        if !publisher.is_ready && publisher.is_alive {
            publisher.is_ready = true;
            self.ready.push(index);
        }
    }
}
