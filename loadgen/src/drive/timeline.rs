//! The run second by second: what was sent and delivered in each, and the response latencies of what arrived in it.

use std::collections::BTreeMap;

use super::findings::{Interval, Second};
use crate::measure::recorder::Recorder;

const SECOND_NS: u64 = 1_000_000_000;

/// Seconds that threads may be apart; what is older is complete.
const SECONDS_OPEN: usize = 3;

/// All seconds so far.
#[derive(Debug)]
pub(super) struct Timeline {
    pub(super) seconds: Vec<Second>,
    /// Response latencies by second, as far as the threads have handed them over.
    response_of_second: BTreeMap<u64, Recorder>,
    /// Response latencies of all seconds that are complete.
    pub(super) response: Recorder,
    pub(super) intervals: Vec<Interval>,
}

impl Timeline {
    pub(super) fn new() -> Self {
        Self {
            seconds: Vec::new(),
            response_of_second: BTreeMap::new(),
            response: Recorder::new(),
            intervals: Vec::new(),
        }
    }

    /// Counts the second that has passed, if one has, `elapsed_ns` after the schedule's start. Counts are since then.
    pub(super) fn count(&mut self, elapsed_ns: u64, sent: u64, delivered: u64, open: u64) {
        let at = elapsed_ns / SECOND_NS;
        if at > self.seconds.len() as u64 {
            let sum = |pick: fn(&Second) -> u64| self.seconds.iter().map(pick).sum::<u64>();
            let (sent, delivered) = (sent - sum(|second| second.sent), delivered - sum(|second| second.delivered));
            self.seconds.push(Second { at, sent, delivered, open });
        }
    }

    /// Takes what a thread has seen in a second.
    pub(super) fn take(&mut self, second: u64, response: &Recorder) {
        self.response_of_second.entry(second).or_insert_with(Recorder::new).add(response);
        if self.response_of_second.len() > SECONDS_OPEN {
            self.close_second();
        }
    }

    /// The second after the last of which anything is known: what the threads still have counts as seen in it.
    pub(super) fn last_second(&self) -> u64 {
        self.response_of_second.keys().last().copied().unwrap_or(self.intervals.len() as u64) + 1
    }

    /// Everything has been handed over.
    pub(super) fn close(&mut self) {
        while self.close_second() {}
    }

    fn close_second(&mut self) -> bool {
        let Some((second, response)) = self.response_of_second.pop_first() else { return false };
        self.response.add(&response);
        self.intervals.push(Interval {
            second,
            p50_us: response.quantile_us(0.5),
            p99_us: response.quantile_us(0.99),
            max_us: response.max_us(),
            encoded: response.encode(),
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_counted_once_and_their_latencies_meet() {
        let mut timeline = Timeline::new();
        for (elapsed_ns, sent) in [(900_000_000, 9), (1_010_000_000, 10), (1_020_000_000, 11), (2_000_000_000, 30)] {
            timeline.count(elapsed_ns, sent, sent * 2, 5);
        }
        let seconds: Vec<_> = timeline.seconds.iter().map(|s| (s.at, s.sent, s.delivered)).collect();
        assert_eq!(seconds, [(1, 10, 20), (2, 20, 40)]);
        let mut response = Recorder::new();
        response.record(1_000_000);
        [1, 1, 2, 3, 4].into_iter().for_each(|second| timeline.take(second, &response));
        assert_eq!((timeline.intervals.len(), timeline.response.count(), timeline.last_second()), (1, 2, 5));
        timeline.close();
        assert_eq!((timeline.intervals.len(), timeline.response.count()), (4, 5));
    }
}
