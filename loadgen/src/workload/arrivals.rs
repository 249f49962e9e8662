//! When messages are due: an absolute schedule that nothing moves. A stall of the generator makes messages late, and
//! that is measured; it never makes them fewer or their latency smaller.

use super::turns::Turn;
use crate::rng::Rng;

/// The due times of one publisher, in ns after the schedule's start, ascending.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals {
    shape: Shape,
    /// When this shape's times count from.
    from_ns: u64,
    /// How many of its due times have been passed.
    index: u64,
    due_ns: u64,
    /// Shapes that follow and when they begin, the latest first.
    later: Vec<(u64, Shape)>,
    /// All times above are of a clock that runs in these slices only.
    turn: Option<Turn>,
}

#[derive(Debug, Clone)]
enum Shape {
    /// `offset + k * interval`.
    Uniform {
        offset_ns: f64,
        interval_ns: f64,
    },
    /// Exponential gaps.
    Poisson {
        mean_ns: f64,
        at_ns: f64,
        rng: Rng,
    },
    /// `count` at once at `offset + k * interval`.
    Burst {
        count: u64,
        offset_ns: f64,
        interval_ns: f64,
    },
    Never,
}

impl Arrivals {
    /// Every `interval_ns`, the first after `offset_ns`.
    pub(crate) fn uniform(offset_ns: f64, interval_ns: f64) -> Self {
        Self::new(Shape::Uniform { offset_ns, interval_ns })
    }

    /// At random, `mean_ns` apart in the mean.
    pub(crate) fn poisson(mean_ns: f64, rng: Rng) -> Self {
        Self::new(Shape::Poisson { mean_ns, at_ns: 0.0, rng })
    }

    /// `count` messages at once every `interval_ns`, the first after `offset_ns`.
    pub(crate) fn burst(count: u64, offset_ns: f64, interval_ns: f64) -> Self {
        Self::new(Shape::Burst { count, offset_ns, interval_ns })
    }

    /// No message at all.
    pub(crate) fn never() -> Self {
        Self::new(Shape::Never)
    }

    /// From `from_ns` after the schedule's start on these are `next`'s, counted from there. Steps come in ascending
    /// order.
    pub(crate) fn step(&mut self, from_ns: u64, next: Self) {
        self.later.insert(0, (from_ns, next.shape));
        self.follow();
    }

    fn new(mut shape: Shape) -> Self {
        let due_ns = shape.due_ns(0);
        Self { shape, from_ns: 0, index: 0, due_ns, later: Vec::new(), turn: None }
    }

    /// The next due time, in ns after the schedule's start.
    #[inline]
    pub(crate) fn due_ns(&self) -> u64 {
        self.turn.as_ref().map_or(self.due_ns, |turn| turn.wall_ns(self.due_ns))
    }

    /// From now on time passes in the slices of `turn` only.
    pub(crate) fn take_turns(&mut self, turn: Turn) {
        self.turn = Some(turn);
    }

    /// Passes the next due time.
    pub(crate) fn advance(&mut self) {
        self.index += 1;
        self.due_ns = self.from_ns.saturating_add(self.shape.due_ns(self.index));
        self.follow();
    }

    /// Messages per second in the mean, of the fastest step.
    pub(crate) fn rate(&self) -> f64 {
        self.later.iter().map(|(_, shape)| shape.rate()).fold(self.shape.rate(), f64::max)
    }

    /// Takes the next step when the time that is due lies in it.
    fn follow(&mut self) {
        while let Some((from_ns, _)) = self.later.last().filter(|(from_ns, _)| self.due_ns >= *from_ns) {
            self.from_ns = *from_ns;
            let Some((_, shape)) = self.later.pop() else { return };
            (self.shape, self.index) = (shape, 0);
            self.due_ns = self.from_ns.saturating_add(self.shape.due_ns(0));
        }
    }
}

impl Shape {
    fn rate(&self) -> f64 {
        match self {
            Self::Uniform { interval_ns, .. } => 1e9 / interval_ns,
            Self::Poisson { mean_ns, .. } => 1e9 / mean_ns,
            Self::Burst { count, interval_ns, .. } => *count as f64 * 1e9 / interval_ns,
            Self::Never => 0.0,
        }
    }

    /// Multiplied, not summed: an interval's rounding does not add up over a run.
    fn due_ns(&mut self, index: u64) -> u64 {
        match self {
            Self::Uniform { offset_ns, interval_ns } => (*offset_ns + index as f64 * *interval_ns) as u64,
            Self::Poisson { mean_ns, at_ns, rng } => {
                *at_ns -= *mean_ns * (1.0 - rng.next_share()).ln();
                *at_ns as u64
            }
            Self::Burst { count, offset_ns, interval_ns } => {
                (*offset_ns + (index / *count) as f64 * *interval_ns) as u64
            }
            Self::Never => u64::MAX,
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
    fn a_step_begins_at_its_time_and_counts_from_there() {
        let mut arrivals = Arrivals::uniform(10.0, 100.0);
        arrivals.step(250, Arrivals::never());
        arrivals.step(1000, Arrivals::burst(2, 5.0, 50.0));
        assert_eq!(arrivals.rate(), 4e7);
        assert_eq!(take(arrivals, 7), [10, 110, 210, 1005, 1005, 1055, 1055]);
        let mut paused = Arrivals::uniform(0.0, 1.0);
        paused.step(0, Arrivals::never());
        assert_eq!(take(paused, 2), [u64::MAX; 2]);
    }

    #[test]
    fn a_burst_is_due_at_once() {
        assert_eq!(take(Arrivals::burst(3, 5.0, 100.0), 7), [5, 5, 5, 105, 105, 105, 205]);
        assert!((Arrivals::burst(3, 5.0, 100.0).rate() - 3e7).abs() < 1.0);
    }
}
