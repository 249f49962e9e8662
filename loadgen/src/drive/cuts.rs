//! Connections that an event has cut: who is away, and when each comes back, with its own backoff and jitter, as
//! well-behaved clients do after a crash between them and the server.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::measure::recorder::Recorder;
use crate::rng::Rng;
use crate::workload::events::Backoff;

/// One thread's connections that are away.
#[derive(Debug)]
pub(super) struct Cuts {
    rng: Rng,
    /// (due, slot): when to try again.
    waiting: BinaryHeap<Reverse<(u64, u32)>>,
    /// Connections that are to come back.
    away: HashMap<u32, Away>,
    pub(super) figures: CutFigures,
    /// Connections that are not to come back.
    pub(super) left: u64,
}

#[derive(Debug, Clone, Copy)]
struct Away {
    since_ns: u64,
    attempts: u32,
    backoff: Backoff,
}

/// What became of the connections that were cut to come back.
#[derive(Debug, Clone)]
pub(crate) struct CutFigures {
    pub(crate) cut: u64,
    pub(crate) recovered: u64,
    /// Reconnects that failed.
    pub(crate) failed_attempts: u64,
    /// From the cut to the accepted upgrade, per connection that came back.
    pub(crate) recovery: Recorder,
}

impl CutFigures {
    /// Adds another thread's.
    pub(super) fn add(&mut self, other: &Self) {
        self.cut += other.cut;
        self.recovered += other.recovered;
        self.failed_attempts += other.failed_attempts;
        self.recovery.add(&other.recovery);
    }
}

impl Cuts {
    pub(super) fn new(rng: Rng) -> Self {
        let figures = CutFigures { cut: 0, recovered: 0, failed_attempts: 0, recovery: Recorder::new() };
        Self { rng, waiting: BinaryHeap::new(), away: HashMap::new(), figures, left: 0 }
    }

    /// When there is something to do, in ns since the epoch; `u64::MAX`: never.
    pub(super) fn next_due_ns(&self) -> u64 {
        self.waiting.peek().map_or(u64::MAX, |Reverse((due, _))| *due)
    }

    /// A connection has just been cut; without a backoff it is not to come back.
    pub(super) fn cut(&mut self, slot: u32, backoff: Option<Backoff>, now_ns: u64) {
        let Some(backoff) = backoff else {
            self.left += 1;
            return;
        };
        self.figures.cut += 1;
        self.away.insert(slot, Away { since_ns: now_ns, attempts: 0, backoff });
        self.wait(slot, now_ns);
    }

    /// The next connection to try again now.
    pub(super) fn take_retry(&mut self, now_ns: u64) -> Option<u32> {
        let Reverse((due, slot)) = self.waiting.peek().copied()?;
        (due <= now_ns).then(|| {
            self.waiting.pop();
            slot
        })
    }

    /// Whether this connection was cut and is to come back.
    pub(super) fn is_away(&self, slot: u32) -> bool {
        self.away.contains_key(&slot)
    }

    /// A reconnect has failed: the next one waits twice as long.
    pub(super) fn fail(&mut self, slot: u32, now_ns: u64) {
        let Some(away) = self.away.get_mut(&slot) else { return };
        away.attempts += 1;
        self.figures.failed_attempts += 1;
        self.wait(slot, now_ns);
    }

    /// A connection is back.
    pub(super) fn recover(&mut self, slot: u32, now_ns: u64) {
        if let Some(away) = self.away.remove(&slot) {
            self.figures.recovered += 1;
            self.figures.recovery.record(now_ns.saturating_sub(away.since_ns));
        }
    }

    /// Full jitter: anywhere between now and the backoff.
    fn wait(&mut self, slot: u32, now_ns: u64) {
        let Some(Away { backoff, attempts, .. }) = self.away.get(&slot) else { return };
        let limit_ns = backoff.first_ns.saturating_mul(1 << (*attempts).min(20)).min(backoff.max_ns);
        let due = now_ns + (limit_ns as f64 * self.rng.next_share()) as u64;
        self.waiting.push(Reverse((due, slot)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_retry_waits_within_its_backoff_and_who_is_back_is_counted() {
        let backoff = Backoff { first_ns: 100, max_ns: 350 };
        let mut cuts = Cuts::new(Rng::new(1, 1));
        assert_eq!(cuts.next_due_ns(), u64::MAX);
        (0..30).for_each(|slot| cuts.cut(slot, Some(backoff), 1050));
        (30..35).for_each(|slot| cuts.cut(slot, None, 1050));
        assert!((1050..1150).contains(&cuts.next_due_ns()));
        for (attempt, limit) in [(0, 100), (1, 200), (2, 350), (3, 350)] {
            let now = 10_000 * (attempt + 1);
            let retries: Vec<u32> = std::iter::from_fn(|| cuts.take_retry(now)).collect();
            assert_eq!(retries.len(), 30);
            retries.iter().for_each(|slot| cuts.fail(*slot, now));
            assert!(cuts.waiting.iter().all(|Reverse((due, _))| *due < now + 2 * limit), "attempt {attempt}");
        }
        assert!(cuts.is_away(7) && !cuts.is_away(31));
        (0..30).for_each(|slot| cuts.recover(slot, 100_000));
        assert_eq!((cuts.figures.cut, cuts.figures.recovered, cuts.figures.failed_attempts), (30, 30, 120));
        assert_eq!((cuts.left, cuts.is_away(7)), (5, false));
    }
}
