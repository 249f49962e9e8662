//! When messages are due: an absolute schedule that nothing moves. A stall of the generator makes messages late, and
//! that is measured; it never makes them fewer or their latency smaller.

use crate::rng::Rng;

/// The due times of one publisher, in ns after the schedule's start, ascending.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals {
    shape: Shape,
    /// How many due times have been passed.
    index: u64,
    due_ns: u64,
}

#[derive(Debug, Clone)]
enum Shape {
    /// `offset + k * interval`.
    Uniform { offset_ns: f64, interval_ns: f64 },
    /// Exponential gaps.
    Poisson { mean_ns: f64, at_ns: f64, rng: Rng },
    /// `count` at once at `offset + k * interval`.
    Burst { count: u64, offset_ns: f64, interval_ns: f64 },
}

impl Arrivals {
    /// Every `interval_ns`, the first after `offset_ns`.
    pub(crate) fn uniform(offset_ns: f64, interval_ns: f64) -> Self {
        Self { shape: Shape::Uniform { offset_ns, interval_ns }, index: 0, due_ns: offset_ns as u64 }
    }

    /// At random, `mean_ns` apart in the mean.
    pub(crate) fn poisson(mean_ns: f64, rng: Rng) -> Self {
        let mut arrivals = Self { shape: Shape::Poisson { mean_ns, at_ns: 0.0, rng }, index: 0, due_ns: 0 };
        arrivals.due_ns = arrivals.compute();
        arrivals
    }

    /// `count` messages at once every `interval_ns`, the first after `offset_ns`.
    pub(crate) fn burst(count: u64, offset_ns: f64, interval_ns: f64) -> Self {
        Self { shape: Shape::Burst { count, offset_ns, interval_ns }, index: 0, due_ns: offset_ns as u64 }
    }

    /// The next due time, in ns after the schedule's start.
    #[inline]
    pub(crate) fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// Passes the next due time.
    pub(crate) fn advance(&mut self) {
        self.index += 1;
        self.due_ns = self.compute();
    }

    /// Messages per second in the mean.
    pub(crate) fn rate(&self) -> f64 {
        match self.shape {
            Shape::Uniform { interval_ns, .. } => 1e9 / interval_ns,
            Shape::Poisson { mean_ns, .. } => 1e9 / mean_ns,
            Shape::Burst { count, interval_ns, .. } => count as f64 * 1e9 / interval_ns,
        }
    }

    /// Multiplied, not summed: an interval's rounding does not add up over a run.
    fn compute(&mut self) -> u64 {
        match &mut self.shape {
            Shape::Uniform { offset_ns, interval_ns } => (*offset_ns + self.index as f64 * *interval_ns) as u64,
            Shape::Poisson { mean_ns, at_ns, rng } => {
                *at_ns -= *mean_ns * (1.0 - rng.next_share()).ln();
                *at_ns as u64
            }
            Shape::Burst { count, offset_ns, interval_ns } => {
                (*offset_ns + (self.index / *count) as f64 * *interval_ns) as u64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(mut arrivals: Arrivals, count: usize) -> Vec<u64> {
        let mut next = || {
            let due = arrivals.due_ns();
            arrivals.advance();
            due
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn uniform_times_do_not_drift() {
        let interval = 1e9 / 3.0;
        let times = take(Arrivals::uniform(0.0, interval), 30_001);
        assert_eq!((times[3], times[30_000]), (1_000_000_000, 10_000_000_000_000));
    }

    #[test]
    fn poisson_gaps_have_their_mean_and_their_spread() {
        let times = take(Arrivals::poisson(1000.0, Rng::new(1, 1)), 100_000);
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean - 1000.0).abs() < 20.0 && (deviation - 1000.0).abs() < 30.0, "{mean} {deviation}");
    }

    #[test]
    fn a_burst_is_due_at_once() {
        assert_eq!(take(Arrivals::burst(3, 5.0, 100.0), 7), [5, 5, 5, 105, 105, 105, 205]);
        assert!((Arrivals::burst(3, 5.0, 100.0).rate() - 3e7).abs() < 1.0);
    }
}
