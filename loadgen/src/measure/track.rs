//! When a message is complete: its last subscriber has it.
//!
//! Each thread counts its own subscribers; the thread that finishes its share last completes the message. A window of
//! the newest messages per publisher is followed; one that is pushed out unfinished is not judged here (the ledger
//! still counts what of it is lost).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Completion of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Completion {
    /// When the first and the last subscriber had it, in ns since the epoch.
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
}

/// One publisher's newest messages, as all threads see them.
#[derive(Debug)]
pub(crate) struct SharedTrack {
    slots: Box<[SharedSlot]>,
    /// The sequence after the newest.
    next: AtomicU32,
}

#[derive(Debug)]
struct SharedSlot {
    /// Sequence in the upper half, threads that have not finished in the lower.
    state: AtomicU64,
    first_ns: AtomicU64,
    last_ns: AtomicU64,
}

impl SharedTrack {
    /// Follows at least the newest `window` messages.
    pub(crate) fn new(window: usize) -> Self {
        let slot = || SharedSlot { state: AtomicU64::new(0), first_ns: AtomicU64::new(0), last_ns: AtomicU64::new(0) };
        Self { slots: std::iter::repeat_with(slot).take(window.next_power_of_two()).collect(), next: AtomicU32::new(0) }
    }

    pub(crate) fn window(&self) -> usize {
        self.slots.len()
    }

    /// Called by the publisher's thread before the message leaves: `threads` have subscribers that wait for it.
    pub(crate) fn open(&self, sequence: u32, threads: u32) {
        self.next.store(sequence.wrapping_add(1), Ordering::Release);
        let slot = self.slot(sequence);
        slot.first_ns.store(u64::MAX, Ordering::Relaxed);
        slot.last_ns.store(0, Ordering::Relaxed);
        // Release: who reads this state sees the two times reset. The message itself travels through the kernel.
        slot.state.store(u64::from(sequence) << 32 | u64::from(threads), Ordering::Release);
    }

    /// The sequence after the newest message's.
    pub(crate) fn next(&self) -> u32 {
        self.next.load(Ordering::Acquire)
    }

    /// Called once by each thread whose subscribers all have the message; the last one gets the completion.
    pub(crate) fn finish(&self, sequence: u32, first_ns: u64, last_ns: u64) -> Option<Completion> {
        let slot = self.slot(sequence);
        let state = slot.state.load(Ordering::Acquire);
        if (state >> 32) as u32 != sequence || state as u32 == 0 {
            return None;
        }
        slot.first_ns.fetch_min(first_ns, Ordering::Relaxed);
        slot.last_ns.fetch_max(last_ns, Ordering::Relaxed);
        let is_ours = |state: u64| ((state >> 32) as u32 == sequence && state as u32 != 0).then(|| state - 1);
        let before = slot.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, is_ours).ok()?;
        (before as u32 == 1).then(|| Completion {
            first_ns: slot.first_ns.load(Ordering::Relaxed),
            last_ns: slot.last_ns.load(Ordering::Relaxed),
        })
    }

    fn slot(&self, sequence: u32) -> &SharedSlot {
        &self.slots[sequence as usize & (self.slots.len() - 1)]
    }
}

/// The same publisher's messages, as one thread's subscribers have them.
#[derive(Debug)]
pub(crate) struct LocalTrack {
    slots: Box<[LocalSlot]>,
    /// Subscribers of this thread that hear the publisher, as of now.
    subscribers: u32,
}

#[derive(Debug, Clone, Copy)]
struct LocalSlot {
    sequence: u32,
    /// Subscribers that do not have it yet.
    left: u32,
    first_ns: u64,
}

impl LocalTrack {
    pub(crate) fn new(shared: &SharedTrack, subscribers: u32) -> Self {
        let window = if subscribers == 0 { 1 } else { shared.window() };
        Self { slots: vec![LocalSlot { sequence: u32::MAX, left: 0, first_ns: 0 }; window].into(), subscribers }
    }

    /// Books the first copy for one subscriber; the last one of this thread gets when the first one had it.
    #[inline]
    pub(crate) fn book(&mut self, sequence: u32, now_ns: u64) -> Option<u64> {
        let mask = self.slots.len() - 1;
        let slot = &mut self.slots[sequence as usize & mask];
        if slot.sequence != sequence {
            if slot.sequence != u32::MAX && slot.sequence > sequence {
                return None;
            }
            *slot = LocalSlot { sequence, left: self.subscribers, first_ns: now_ns };
        }
        // Who has come back since may have it beside those that were counted.
        slot.left = slot.left.checked_sub(1)?;
        (slot.left == 0).then_some(slot.first_ns)
    }

    /// A subscriber is gone; messages under way to it do not become complete. True: it was the last one.
    pub(crate) fn leave(&mut self) -> bool {
        self.subscribers -= 1;
        self.subscribers == 0
    }

    /// A subscriber is back. True: it is the only one.
    pub(crate) fn come_back(&mut self) -> bool {
        self.subscribers += 1;
        self.subscribers == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_subscriber_of_the_last_thread_completes_a_message() {
        let shared = SharedTrack::new(4);
        let (mut a, mut b) = (LocalTrack::new(&shared, 2), LocalTrack::new(&shared, 1));
        shared.open(6, 2);
        assert_eq!(a.book(6, 10), None);
        let first = b.book(6, 7).unwrap();
        assert_eq!(shared.finish(6, first, 7), None);
        let first = a.book(6, 12).unwrap();
        assert_eq!(shared.finish(6, first, 12), Some(Completion { first_ns: 7, last_ns: 12 }));
    }

    #[test]
    fn a_message_pushed_out_of_the_window_is_left_alone() {
        let shared = SharedTrack::new(4);
        let mut local = LocalTrack::new(&shared, 2);
        shared.open(1, 1);
        assert_eq!(local.book(1, 1), None);
        shared.open(5, 1);
        assert_eq!(local.book(5, 2), None);
        assert_eq!(local.book(1, 3), None);
        assert_eq!(shared.finish(1, 1, 3), None);
        assert_eq!(local.book(5, 4), Some(2));
        assert_eq!(shared.finish(5, 2, 4), Some(Completion { first_ns: 2, last_ns: 4 }));
    }
}
