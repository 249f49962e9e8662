//! What all targets with a connection share: reach it, write batch after batch, and begin again after a break.
//!
//! One batch is under way at a time, and nothing behind it is written before every event of it is acknowledged. So after
//! a break exactly the events of one batch are in doubt; they are written again in their order, and no event ever
//! overtakes another. Batches grow with what waits, which is where the throughput comes from.

use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::availability::{Availability, Failure};
use super::feed::{Fate, Feed};
use super::record::Record;

/// Events of one batch at most.
pub(super) const BATCH_EVENTS_MAX: usize = 512;
/// How long a connection may take to stand.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long the acknowledgement of a batch may take, beside the time for its bytes.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The slowest a target may take bytes.
const BYTES_PER_SECOND_MIN: usize = 1 << 20;
/// How often an idle connection is looked after.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long a proper goodbye may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// First and longest wait between two attempts. The longest leaves time for the attempt within five seconds.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// Something that events are written to over a connection.
pub(super) trait Target: 'static {
    /// A connection that stands.
    type Link: Link;

    /// Whether events that were not answered in time are written again: at least once. Otherwise they are dropped: at
    /// most once.
    const AT_LEAST_ONCE: bool = true;

    /// Connects, and declares what must be there.
    async fn connect(&self) -> Result<Self::Link, Failure>;
}

/// A connection to a target.
pub(super) trait Link {
    /// Writes a batch in its order and waits until all of it is acknowledged.
    async fn write(&mut self, batch: &[Rc<Record>]) -> Progress;

    /// Whether the connection is still good, asked while nothing is to be written.
    async fn check(&mut self) -> Result<(), Failure>;

    /// Says goodbye.
    async fn close(self);
}

/// How far the writing of a batch came.
#[derive(Debug)]
pub(super) struct Progress {
    /// What became of the batch's first events; the others are to be written again.
    pub fates: Vec<Fate>,
    /// Why the connection is of no use any more.
    pub failure: Option<Failure>,
}

impl Progress {
    /// Everything is in doubt.
    pub(super) fn none(failure: Failure) -> Self {
        Self { fates: Vec::new(), failure: Some(failure) }
    }
}

/// Writes what the feed holds to the target, so many events at a time, until the feed is closed and empty.
pub(super) async fn drive<T: Target>(target: T, feed: Feed, batch_events_max: usize) {
    let mut backoff = Backoff::default();
    loop {
        let link = tokio::select! {
            link = reach(feed.availability(), &mut backoff, || target.connect()) => link,
            () = feed.done() => return,
        };
        match serve::<T>(link, &feed, batch_events_max, &mut backoff).await {
            Some(failure) => feed.availability().down(failure),
            None => return,
        }
    }
}

/// Connects, again and again. Whether the connection is of use shows later.
pub(super) async fn reach<L>(
    availability: &Availability,
    backoff: &mut Backoff,
    connect: impl AsyncFn() -> Result<L, Failure>,
) -> L {
    loop {
        backoff.wait().await;
        match within(CONNECT_WITHIN, connect()).await {
            Ok(link) => return link,
            Err(failure) => availability.down(failure),
        }
    }
}

/// Writes until the link fails, which is returned, or nothing is left to write.
async fn serve<T: Target>(
    mut link: T::Link,
    feed: &Feed,
    batch_events_max: usize,
    backoff: &mut Backoff,
) -> Option<Failure> {
    // What broke a connection may break the next one too: begin small.
    let mut events_max = 1;
    let mut patience = Duration::ZERO;
    loop {
        let Ok(batch) = timeout(patience, feed.take(events_max)).await else {
            if let Err(failure) = within(ANSWER_WITHIN, link.check()).await {
                return Some(failure);
            }
            works(feed.availability(), backoff);
            patience = CHECK_EVERY;
            continue;
        };
        if batch.is_empty() {
            // Whether it is heard does not matter any more.
            let _ = timeout(CLOSE_WITHIN, link.close()).await;
            return None;
        }
        if let Some(failure) = write::<T>(&mut link, feed, batch).await {
            return Some(failure);
        }
        works(feed.availability(), backoff);
        patience = CHECK_EVERY;
        events_max = batch_events_max.min(events_max * 4);
    }
}

/// A connection has shown that it is of use.
pub(super) fn works(availability: &Availability, backoff: &mut Backoff) {
    availability.up();
    backoff.reset();
}

/// Writes one batch, settles what is certain, and gives the rest back.
async fn write<T: Target>(link: &mut T::Link, feed: &Feed, batch: Vec<Rc<Record>>) -> Option<Failure> {
    let bytes: usize = batch.iter().map(|record| record.bytes()).sum();
    let patience = ANSWER_WITHIN + Duration::from_secs((bytes / BYTES_PER_SECOND_MIN) as u64);
    let written = within(patience, async { Ok(link.write(&batch).await) }).await;
    let progress = written.unwrap_or_else(|failure| {
        let in_doubt = if T::AT_LEAST_ONCE { 0 } else { batch.len() };
        Progress { fates: vec![Fate::Dropped; in_doubt], failure: Some(failure) }
    });
    let mut rest = batch.into_iter();
    for (fate, record) in progress.fates.iter().zip(&mut rest) {
        feed.settle(&record, *fate);
    }
    feed.give_back(rest);
    progress.failure
}

/// The result of `work`, or a failure after `limit`.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(Failure(format!("no answer within {} s", limit.as_secs()))),
    }
}

/// The waits between attempts: twice as long each time, with jitter, so that many servers do not come at once.
#[derive(Debug, Default)]
pub(super) struct Backoff(Option<Duration>);

impl Backoff {
    /// Nothing before the first attempt; the longer, the more attempts there were since the last [`Backoff::reset`].
    pub(super) async fn wait(&mut self) {
        let Some(wait) = self.0 else {
            self.0 = Some(BACKOFF.0);
            return;
        };
        self.0 = Some((wait * 2).min(BACKOFF.1));
        sleep(wait.mul_f64(jitter())).await;
    }

    /// As it stands after so many attempts.
    pub(super) fn after(attempts: u32) -> Self {
        Self(attempts.checked_sub(1).map(|doublings| BACKOFF.0.saturating_mul(1 << doublings.min(16)).min(BACKOFF.1)))
    }

    /// What was attempted works.
    pub(super) fn reset(&mut self) {
        self.0 = Some(BACKOFF.0);
    }
}

/// A random factor from 0.5 to 1.
fn jitter() -> f64 {
    // The keys of std's hash maps are the randomness that is at hand.
    let random = RandomState::new().hash_one(()) >> 11;
    0.5 + random as f64 / (1_u64 << 54) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_spreads_between_half_and_whole() {
        let drawn: Vec<f64> = (0..1000).map(|_| jitter()).collect();
        assert!(drawn.iter().all(|factor| (0.5..=1.0).contains(factor)));
        for quarter in 0..4 {
            let from = 0.5 + f64::from(quarter) * 0.125;
            let count = drawn.iter().filter(|factor| (from..from + 0.125).contains(*factor)).count();
            assert!((150..350).contains(&count), "{count} of 1000 from {from}");
        }
    }
}
