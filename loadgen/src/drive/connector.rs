//! Opening connections: at a rate if one was asked for, and never more than a few hundred handshakes at a time.

use std::collections::VecDeque;

use crate::rng::Rng;

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

/// When connections are opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The first one's time, in ns since the epoch.
    pub(super) start_ns: u64,
    pub(super) interval_ns: f64,
    /// Each is up to so much before or after its time.
    pub(super) jitter_ns: u64,
}

impl Pace {
    /// The time of connection `k`, at random around `start + k * interval`. What would lie before the start lies as far
    /// behind it: nobody comes early, and they do not come all at once.
    fn due_ns(&self, k: usize, rng: &mut Rng) -> u64 {
        let shift_ns = self.jitter_ns as f64 * (2.0 * rng.next_share() - 1.0);
        self.start_ns + (k as f64 * self.interval_ns + shift_ns).abs() as u64
    }
}

impl Connector {
    /// Opens `slots`, as `pace` says.
    pub(super) fn new(slots: impl Iterator<Item = u32>, pace: &Pace, rng: &mut Rng) -> Self {
        let mut waiting: Vec<_> = slots.enumerate().map(|(k, slot)| (pace.due_ns(k, rng), slot)).collect();
        waiting.sort_by_key(|(due, _)| *due);
        Self { waiting: waiting.into(), under_way: VecDeque::new(), under_way_count: 0 }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(jitter_ns: u64, seed: u64) -> Vec<u64> {
        let pace = Pace { start_ns: 1000, interval_ns: 10.0, jitter_ns };
        let connector = Connector::new(0..1000, &pace, &mut Rng::new(seed, 1));
        connector.waiting.iter().map(|(due, _)| *due).collect()
    }

    #[test]
    fn without_jitter_the_rate_is_even() {
        assert!(dues(0, 1).iter().enumerate().all(|(k, due)| *due == 1000 + 10 * k as u64));
    }

    #[test]
    fn jitter_spreads_the_connects_around_the_schedule_and_keeps_the_rate() {
        let times = dues(500, 1);
        assert_eq!((times == dues(500, 1), times == dues(500, 2)), (true, false));
        assert!(times.is_sorted() && times.iter().all(|due| (1000..1000 + 10_000 + 500).contains(due)));
        // A tenth of the time has a tenth of the connects, also at the start; at random they are not evenly apart.
        for tenth in 0..9_u64 {
            let from = 1000 + tenth * 1000;
            let count = times.iter().filter(|due| (from..from + 1000).contains(*due)).count();
            assert!((60..140).contains(&count), "{count} in tenth {tenth}");
        }
        let gaps: std::collections::BTreeSet<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.len() > 20, "{gaps:?}");
    }
}
