//! The books: every delivery that was promised is delivered or counted as dropped.
//!
//! A subscription covers [start, end): Σ(end − start) − own excluded = delivered + Σ dropped, exactly, per topic.

use std::cell::Cell;
use std::rc::Rc;

use crate::counters::Dropped;

/// Reasons a covered delivery can be dropped for.
const REASONS: usize = Dropped::ALL.len();

/// Figures of one topic on one shard, or sums of them. All in messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Messages that topics accepted (counted at their home).
    pub accepted: u64,
    /// Σ(end − start) over ended subscriptions and over what running ones have been sent.
    pub covered: u64,
    /// Own messages that `exclude_sender` cut out.
    pub excluded: u64,
    /// Frames whose last byte the kernel took.
    pub delivered: u64,
    /// Deliveries that did not happen, by [`Dropped`].
    pub dropped: [u64; REASONS],
}

impl Ledger {
    /// Adds another ledger's figures.
    pub fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.covered += other.covered;
        self.excluded += other.excluded;
        self.delivered += other.delivered;
        self.dropped.iter_mut().zip(other.dropped).for_each(|(sum, n)| *sum += n);
    }

    /// All dropped deliveries together.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// True if the books balance; holds whenever nothing is under way.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.covered == self.excluded + self.delivered + self.dropped_total()
    }
}

/// The running figures of one topic on one shard, shared with deliveries that outlive the subscription.
#[derive(Debug, Default)]
pub(crate) struct Books {
    covered: Cell<u64>,
    excluded: Cell<u64>,
    delivered: Cell<u64>,
    dropped: [Cell<u64>; REASONS],
    parent: Option<Rc<Books>>,
}

fn add(cell: &Cell<u64>, n: u64) {
    cell.set(cell.get() + n);
}

impl Books {
    /// Books of a topic whose entries also go to the shard's.
    pub(crate) fn under(parent: &Rc<Self>) -> Rc<Self> {
        Rc::new(Self { parent: Some(Rc::clone(parent)), ..Self::default() })
    }

    pub(crate) fn cover(&self, n: u64) {
        add(&self.covered, n);
        if let Some(parent) = &self.parent {
            parent.cover(n);
        }
    }

    pub(crate) fn exclude(&self, n: u64) {
        add(&self.excluded, n);
        if let Some(parent) = &self.parent {
            parent.exclude(n);
        }
    }

    pub(crate) fn deliver(&self, n: u64) {
        add(&self.delivered, n);
        if let Some(parent) = &self.parent {
            parent.deliver(n);
        }
    }

    pub(crate) fn drop_for(&self, reason: Dropped, n: u64) {
        add(&self.dropped[reason as usize], n);
        if let Some(parent) = &self.parent {
            parent.drop_for(reason, n);
        }
    }

    /// The figures of this moment; `accepted` is the home's to fill in.
    pub(crate) fn figures(&self) -> Ledger {
        Ledger {
            accepted: 0,
            covered: self.covered.get(),
            excluded: self.excluded.get(),
            delivered: self.delivered.get(),
            dropped: std::array::from_fn(|index| self.dropped[index].get()),
        }
    }
}

/// Deliveries that left the log but not yet the process: they sit in an outbox or as cipher text.
#[derive(Debug)]
pub(crate) struct Owed {
    pub books: Rc<Books>,
    pub deliveries: u64,
}

impl Owed {
    /// Adds these to those of the same connection that wait already.
    pub(crate) fn join(self, waiting: &mut Option<Self>) {
        match waiting {
            Some(sum) => sum.deliveries += self.deliveries,
            None => *waiting = Some(self),
        }
    }

    /// They were handed to the kernel.
    pub(crate) fn settle(self) -> u64 {
        self.books.deliver(self.deliveries);
        self.deliveries
    }

    /// They never will be.
    pub(crate) fn forfeit(self, reason: Dropped) -> u64 {
        self.books.drop_for(reason, self.deliveries);
        self.deliveries
    }
}
