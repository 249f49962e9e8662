//! One thread's part of the events: what it is to do with which of its connections, and when.

use std::collections::VecDeque;

use super::shared::thread_of;
use crate::workload::events::{Action, Backoff};
use crate::workload::{Load, Reading};

/// Events of one thread, the next first.
#[derive(Debug)]
pub(super) struct Agenda {
    /// (due: before the start after the beginning of the measurement, then since the epoch; in ns).
    items: VecDeque<(u64, Item)>,
    has_started: bool,
}

/// Something to do with connections, given by their slots.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Cut { slots: Vec<u32>, backoff: Option<Backoff> },
    Read { slots: Vec<u32>, reading: Reading },
}

impl Agenda {
    /// The part of thread `index` of `threads`.
    pub(super) fn new(load: &Load, index: usize, threads: usize) -> Self {
        // Connections are dealt round, so a thread's slot is the number of rounds before.
        let mine = |connections: &[u32]| -> Vec<u32> {
            let own = connections.iter().filter(|id| thread_of(**id, threads) == index);
            own.map(|id| id / threads as u32).collect()
        };
        let item = |action: &Action| match action {
            Action::Cut { connections, backoff } => Some(Item::Cut { slots: mine(connections), backoff: *backoff }),
            Action::Read { connections, reading } => Some(Item::Read { slots: mine(connections), reading: *reading }),
            Action::Rate | Action::Signal(_) => None,
        };
        let items = load.events.iter().filter_map(|event| Some((event.at_ns, item(&event.action)?))).collect();
        Self { items, has_started: false }
    }

    /// The measurement begins at `measure_ns`.
    pub(super) fn start(&mut self, measure_ns: u64) {
        self.has_started = true;
        self.items.iter_mut().for_each(|(due, _)| *due += measure_ns);
    }

    /// When there is something to do, in ns since the epoch; `u64::MAX`: never.
    pub(super) fn next_due_ns(&self) -> u64 {
        self.items.front().filter(|_| self.has_started).map_or(u64::MAX, |(due, _)| *due)
    }

    /// What is to be done now.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Option<Item> {
        if self.next_due_ns() > now_ns {
            return None;
        }
        self.items.pop_front().map(|(_, item)| item)
    }
}
