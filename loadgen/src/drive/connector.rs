//! Opening connections: at a rate if one was asked for, and never more than a few hundred handshakes at a time.

use std::collections::VecDeque;

/// Handshakes under way per thread; a listener's backlog is usually 4096 at most.
const UNDER_WAY_MAX: usize = 256;

/// A handshake that takes longer has failed.
const HANDSHAKE_NS_MAX: u64 = 30_000_000_000;

/// Which connections are to be opened, and when.
#[derive(Debug)]
pub(super) struct Connector {
    /// (due in ns since the epoch, slot), ascending.
    waiting: VecDeque<(u64, u32)>,
    /// (started, slot) in the order of starting; ended ones are skipped lazily.
    under_way: VecDeque<(u64, u32)>,
    under_way_count: usize,
}

impl Connector {
    /// Opens `slots` in this order, one every `interval_ns` from `start_ns` on.
    pub(super) fn new(slots: impl Iterator<Item = u32>, start_ns: u64, interval_ns: f64) -> Self {
        let due = |(k, slot)| (start_ns + (k as f64 * interval_ns) as u64, slot);
        Self { waiting: slots.enumerate().map(due).collect(), under_way: VecDeque::new(), under_way_count: 0 }
    }

    /// The next connection to begin now.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Option<u32> {
        if self.next_due_ns()? > now_ns {
            return None;
        }
        let (_, slot) = self.waiting.pop_front()?;
        self.under_way.push_back((now_ns, slot));
        self.under_way_count += 1;
        Some(slot)
    }

    /// When the next connection may begin, in ns since the epoch; `None`: not before another has ended.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        if self.under_way_count >= UNDER_WAY_MAX {
            return None;
        }
        self.waiting.front().map(|(due, _)| *due)
    }

    /// A handshake has ended, well or badly.
    pub(super) fn ended(&mut self) {
        self.under_way_count -= 1;
    }

    /// Takes a connection whose handshake takes too long; `is_under_way` tells whether it still is.
    pub(super) fn take_overdue(&mut self, now_ns: u64, is_under_way: impl Fn(u32) -> bool) -> Option<u32> {
        while let Some((started, slot)) = self.under_way.front().copied() {
            let is_waiting = is_under_way(slot);
            if is_waiting && started + HANDSHAKE_NS_MAX > now_ns {
                return None;
            }
            self.under_way.pop_front();
            if is_waiting {
                return Some(slot);
            }
        }
        None
    }
}
