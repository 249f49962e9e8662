//! At most one log line per interval for what clients can provoke at any rate.
//!
//! The caller keeps one [`LogLimit`] per kind of line (a `static` will do), asks it before each line, and writes how
//! many were left out. No lock and no allocation; from any thread.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Decides which lines are written.
#[derive(Debug)]
pub struct LogLimit {
    interval_ms: u64,
    /// When the next line may go out, in milliseconds since [`EPOCH`].
    next_ms: AtomicU64,
    left_out: AtomicU64,
}

impl LogLimit {
    /// One line per `interval`; the first passes at once.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self { interval_ms: interval.as_millis() as u64, next_ms: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// `Some(lines left out since the last one)` if a line may be written now, else `None`, and it is counted.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(EPOCH.elapsed().as_millis() as u64)
    }

    fn pass_at(&self, now_ms: u64) -> Option<u64> {
        let next = self.next_ms.load(Relaxed);
        let due = now_ms >= next
            && self.next_ms.compare_exchange(next, now_ms.saturating_add(self.interval_ms), Relaxed, Relaxed).is_ok();
        if due {
            return Some(self.left_out.swap(0, Relaxed));
        }
        self.left_out.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_with_the_number_left_out() {
        let limit = LogLimit::new(Duration::from_secs(5));
        assert_eq!(limit.pass_at(0), Some(0));
        assert_eq!(limit.pass_at(1), None);
        assert_eq!(limit.pass_at(4_999), None);
        assert_eq!(limit.pass_at(5_000), Some(2));
        assert_eq!(limit.pass_at(9_999), None);
        assert_eq!(limit.pass_at(60_000), Some(1));
    }

    #[test]
    fn every_call_is_either_a_line_or_counted_in_one_whatever_the_threads() {
        let limit = LogLimit::new(Duration::from_nanos(1));
        let passed: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..10_000).filter_map(|i| limit.pass_at(i)).map(|out| out + 1).sum::<u64>()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed + limit.left_out.load(Relaxed), 40_000);
    }
}
