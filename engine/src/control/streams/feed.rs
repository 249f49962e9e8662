//! What waits for one target: a buffer bounded in events and bytes, and its books.
//!
//! Events come in by [`Feed::offer`], which never waits. Whoever writes them [takes](Feed::take) them in order, and
//! [settles](Feed::settle) each one or [gives it back](Feed::give_back). Until it is settled an event is held and counts
//! as waiting, so that accepted = written + dropped + waiting at any moment.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::Notify;

use super::availability::Availability;
use super::figures::Figures;
use super::log::OVERFLOWN;
use super::record::Record;

/// Bytes that one batch carries at most, unless its first event alone is larger.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// The bounds of a buffer. One event fits however large it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub events_max: usize,
    pub bytes_max: usize,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The target has acknowledged it.
    Written,
    /// The target will not have it.
    Dropped,
}

/// The buffer of one target; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Feed(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    availability: Availability,
    limits: Limits,
    queue: RefCell<VecDeque<Rc<Record>>>,
    /// Of the queue, and of what was taken and is not yet settled.
    events_held: Cell<usize>,
    bytes_held: Cell<usize>,
    /// Nothing will be offered any more.
    closed: Cell<bool>,
    /// There is something to take, or nothing will come any more.
    news: Notify,
    /// Nothing is held, or nothing will come any more.
    idle: Notify,
}

impl Feed {
    pub(super) fn new(availability: Availability, limits: Limits) -> Self {
        Self(Rc::new(Inner {
            availability,
            limits,
            queue: RefCell::default(),
            events_held: Cell::new(0),
            bytes_held: Cell::new(0),
            closed: Cell::new(false),
            news: Notify::new(),
            idle: Notify::new(),
        }))
    }

    /// Buffers an event, or drops it if it does not fit. Both are counted.
    pub(super) fn offer(&self, record: &Rc<Record>) {
        let inner = &*self.0;
        add(&self.figures().accepted, 1);
        let (events, bytes) = (inner.events_held.get() + 1, inner.bytes_held.get() + record.bytes());
        if events > inner.limits.events_max || (bytes > inner.limits.bytes_max && events > 1) {
            add(&self.figures().dropped, 1);
            if OVERFLOWN.admit() {
                tracing::warn!(
                    "{}: events are dropped: {} wait ({} bytes), and no more may",
                    inner.availability,
                    inner.events_held.get(),
                    inner.bytes_held.get()
                );
            }
            return;
        }
        inner.queue.borrow_mut().push_back(Rc::clone(record));
        self.hold(events, bytes);
        inner.news.notify_one();
    }

    /// Waits for events and takes them from the front: up to `events_max` of them, to be settled or given back. Nothing
    /// once the feed is closed and nothing is queued. May be cancelled.
    pub(super) async fn take(&self, events_max: usize) -> Vec<Rc<Record>> {
        loop {
            let first = self.0.queue.borrow().front().cloned();
            match first {
                Some(first) => {
                    if let Some(ticket) = &first.ticket {
                        ticket.passed().await;
                    }
                    return self.take_ready(events_max);
                }
                None if self.0.closed.get() => return Vec::new(),
                None => self.0.news.notified().await,
            }
        }
    }

    /// The first event, and those after it whose states are written.
    fn take_ready(&self, events_max: usize) -> Vec<Rc<Record>> {
        let mut queue = self.0.queue.borrow_mut();
        let mut bytes = 0;
        let fits = |record: &&Rc<Record>| {
            let first = bytes == 0;
            bytes += record.bytes();
            first || (bytes <= BATCH_BYTES_MAX && record.ticket.as_ref().is_none_or(|ticket| ticket.has_passed()))
        };
        let count = queue.iter().take(events_max).take_while(fits).count();
        queue.drain(..count).collect()
    }

    /// Puts events that were taken back to the front, in the order given.
    pub(super) fn give_back(&self, records: impl DoubleEndedIterator<Item = Rc<Record>>) {
        let mut queue = self.0.queue.borrow_mut();
        records.rev().for_each(|record| queue.push_front(record));
        self.0.news.notify_one();
    }

    /// Ends an event that was taken.
    pub(super) fn settle(&self, record: &Record, fate: Fate) {
        match fate {
            Fate::Written => add(&self.figures().written, 1),
            Fate::Dropped => add(&self.figures().dropped, 1),
        }
        self.hold(self.0.events_held.get() - 1, self.0.bytes_held.get() - record.bytes());
        if self.is_idle() {
            self.0.idle.notify_waiters();
        }
    }

    /// Says that nothing more will be offered.
    pub(super) fn close(&self) {
        self.0.closed.set(true);
        self.0.news.notify_one();
        self.0.idle.notify_waiters();
    }

    /// Drops all that is held and returns how many events that were. For the end, when nobody writes any more.
    pub(super) fn forfeit(&self) -> usize {
        let events = self.0.events_held.get();
        self.0.queue.borrow_mut().clear();
        add(&self.figures().dropped, events as u64);
        self.hold(0, 0);
        events
    }

    /// Whether every event is settled.
    pub(super) fn is_idle(&self) -> bool {
        self.0.events_held.get() == 0
    }

    /// Waits until every event is settled.
    pub(super) async fn idle(&self) {
        while !self.is_idle() {
            self.0.idle.notified().await;
        }
    }

    /// Waits until the feed is closed and every event is settled.
    pub(super) async fn done(&self) {
        while !self.0.closed.get() || !self.is_idle() {
            self.0.idle.notified().await;
        }
    }

    /// Whether the target can be reached.
    pub(super) fn availability(&self) -> &Availability {
        &self.0.availability
    }

    fn figures(&self) -> &Figures {
        self.0.availability.figures()
    }

    fn hold(&self, events: usize, bytes: usize) {
        self.0.events_held.set(events);
        self.0.bytes_held.set(bytes);
        self.figures().waiting.store(events as u64, Relaxed);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}
