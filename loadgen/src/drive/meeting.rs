//! A start line for several runs of this process: the schedules of all begin together, once every one has its
//! connections open.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::sys::clock::now_ns;

/// Why a run ends that was called off.
pub(crate) const CALLED_OFF: &str = "the run beside it failed";

/// From the last arrival to the first message, in ns.
const LEAD_NS: u64 = 20_000_000;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Meeting {
    runs: usize,
    awaited: AtomicUsize,
    is_off: AtomicBool,
    start_ns: OnceLock<u64>,
}

impl Meeting {
    /// Of so many runs.
    pub(crate) fn new(runs: usize) -> Self {
        Self { runs, awaited: AtomicUsize::new(runs), is_off: AtomicBool::new(false), start_ns: OnceLock::new() }
    }

    /// How many meet.
    pub(crate) fn runs(&self) -> usize {
        self.runs
    }

    /// One more is ready; to be called once by each.
    pub(crate) fn arrive(&self) {
        if self.awaited.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.start_ns.get_or_init(|| now_ns() + LEAD_NS);
        }
    }

    /// One of them has failed: there is no sense in the others.
    pub(crate) fn call_off(&self) {
        self.is_off.store(true, Ordering::Release);
    }

    pub(crate) fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Acquire)
    }

    /// When all begin, in ns since the epoch; `None`: not all are there.
    pub(crate) fn start_ns(&self) -> Option<u64> {
        self.start_ns.get().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_when_the_last_has_come() {
        let meeting = Meeting::new(2);
        meeting.arrive();
        assert_eq!(meeting.start_ns(), None);
        meeting.arrive();
        assert!(meeting.start_ns().is_some_and(|start_ns| start_ns > now_ns()) && !meeting.is_off());
    }
}
