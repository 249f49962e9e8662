//! The reconnect storm: a share of the connections is cut at once and comes back, each with its own backoff and
//! jitter, as well-behaved clients do after a crash between them and the server.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::measure::recorder::Recorder;
use crate::rng::Rng;
use crate::workload::Storm as Spec;

/// One thread's part of the storm.
#[derive(Debug)]
pub(super) struct Storm {
    spec: Spec,
    rng: Rng,
    /// Connections that may be cut, by slot.
    candidates: Vec<u32>,
    /// When to cut, in ns since the epoch; `None`: not yet known, or done.
    due_ns: Option<u64>,
    /// (due, slot): when to try again.
    waiting: BinaryHeap<Reverse<(u64, u32)>>,
    /// Connections that are away.
    away: HashMap<u32, Away>,
    pub(super) figures: StormFigures,
}

#[derive(Debug, Clone, Copy)]
struct Away {
    since_ns: u64,
    attempts: u32,
}

/// What a storm has done.
#[derive(Debug, Clone)]
pub(crate) struct StormFigures {
    pub(crate) cut: u64,
    pub(crate) recovered: u64,
    /// Reconnects that failed.
    pub(crate) failed_attempts: u64,
    /// From the cut to the accepted upgrade, per connection that came back.
    pub(crate) recovery: Recorder,
}

impl StormFigures {
    /// Adds another thread's.
    pub(super) fn add(&mut self, other: &Self) {
        self.cut += other.cut;
        self.recovered += other.recovered;
        self.failed_attempts += other.failed_attempts;
        self.recovery.add(&other.recovery);
    }
}

impl Storm {
    pub(super) fn new(spec: Spec, candidates: Vec<u32>, rng: Rng) -> Self {
        let figures = StormFigures { cut: 0, recovered: 0, failed_attempts: 0, recovery: Recorder::new() };
        Self { spec, rng, candidates, due_ns: None, waiting: BinaryHeap::new(), away: HashMap::new(), figures }
    }

    /// The measurement begins at `measure_ns`: the storm breaks its own time after that.
    pub(super) fn start(&mut self, measure_ns: u64) {
        self.due_ns = Some(measure_ns + self.spec.after_ns);
    }

    /// When there is something to do, in ns since the epoch; `u64::MAX`: never.
    pub(super) fn next_due_ns(&self) -> u64 {
        let retry = self.waiting.peek().map_or(u64::MAX, |Reverse((due, _))| *due);
        self.due_ns.unwrap_or(u64::MAX).min(retry)
    }

    /// The slots to cut, if the storm breaks now.
    pub(super) fn take_cut(&mut self, now_ns: u64) -> Vec<u32> {
        if self.due_ns.is_none_or(|due| due > now_ns) {
            return Vec::new();
        }
        self.due_ns = None;
        let count = (self.candidates.len() as f64 * self.spec.share).round() as usize;
        for at in 0..count {
            let other = at + self.rng.next_u64() as usize % (self.candidates.len() - at);
            self.candidates.swap(at, other);
        }
        let cut = self.candidates[..count].to_vec();
        for slot in &cut {
            self.figures.cut += 1;
            self.away.insert(*slot, Away { since_ns: now_ns, attempts: 0 });
            self.wait(*slot, 0, now_ns);
        }
        cut
    }

    /// The next connection to try again now.
    pub(super) fn take_retry(&mut self, now_ns: u64) -> Option<u32> {
        let Reverse((due, slot)) = self.waiting.peek().copied()?;
        (due <= now_ns).then(|| {
            self.waiting.pop();
            slot
        })
    }

    /// Whether this connection is away because of the storm.
    pub(super) fn is_away(&self, slot: u32) -> bool {
        self.away.contains_key(&slot)
    }

    /// A reconnect has failed: the next one waits twice as long.
    pub(super) fn fail(&mut self, slot: u32, now_ns: u64) {
        let Some(away) = self.away.get_mut(&slot) else { return };
        away.attempts += 1;
        let attempts = away.attempts;
        self.figures.failed_attempts += 1;
        self.wait(slot, attempts, now_ns);
    }

    /// A connection is back.
    pub(super) fn recover(&mut self, slot: u32, now_ns: u64) {
        if let Some(away) = self.away.remove(&slot) {
            self.figures.recovered += 1;
            self.figures.recovery.record(now_ns.saturating_sub(away.since_ns));
        }
    }

    /// Full jitter: anywhere between now and the backoff.
    fn wait(&mut self, slot: u32, attempts: u32, now_ns: u64) {
        let backoff_ns = self.spec.backoff_ns.saturating_mul(1 << attempts.min(20)).min(self.spec.backoff_max_ns);
        let due = now_ns + (backoff_ns as f64 * self.rng.next_share()) as u64;
        self.waiting.push(Reverse((due, slot)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_cut_once_and_every_retry_waits_within_its_backoff() {
        let spec = Spec { after_ns: 50, share: 0.3, backoff_ns: 100, backoff_max_ns: 350 };
        let mut storm = Storm::new(spec, (0..100).collect(), Rng::new(1, 1));
        storm.start(1000);
        assert_eq!((storm.next_due_ns(), storm.take_cut(1049).len()), (1050, 0));
        let mut cut = storm.take_cut(1050);
        cut.sort_unstable();
        cut.dedup();
        assert_eq!((cut.len(), storm.take_cut(2000).len()), (30, 0));
        assert!(storm.next_due_ns() < 1150);
        for (attempt, limit) in [(0, 100), (1, 200), (2, 350), (3, 350)] {
            let now = 10_000 * (attempt + 1);
            let retries: Vec<u32> = std::iter::from_fn(|| storm.take_retry(now)).collect();
            assert_eq!(retries.len(), 30);
            retries.iter().for_each(|slot| storm.fail(*slot, now));
            assert!(storm.waiting.iter().all(|Reverse((due, _))| *due < now + 2 * limit), "attempt {attempt}");
        }
        cut.iter().for_each(|slot| storm.recover(*slot, 100_000));
        assert_eq!((storm.figures.recovered, storm.figures.failed_attempts, storm.is_away(cut[0])), (30, 120, false));
    }
}
