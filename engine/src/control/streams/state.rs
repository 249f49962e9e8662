//! The connections of this gateway in a Redis: hash `connection:ID` with the field `addr`, hash `connection:ID:tags`.
//!
//! Whatever changes marks its connection as dirty; the writer takes the dirty ones in order and writes what holds *now*.
//! So any number of changes costs one write, and after a break everything that lives is marked again. An `open` event
//! waits for its connection's state by its [`Ticket`], for a short time and only while this Redis is up; the state goes
//! when the last target lets the `close` event go ([`Removal`]).

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use redis::Pipeline;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::availability::{Availability, Failure};
use super::drive::{ANSWER_WITHIN, Backoff, CHECK_EVERY, reach, within, works};
use super::log;
use super::redis_url::{RedisConnection, RedisUrl};
use crate::gateway::Tags;

/// How long an `open` event, and what follows it, waits for the state of its connection.
const HOLD_MAX: Duration = Duration::from_secs(1);
/// How long a flush has in any case.
const FLUSH_MIN: Duration = Duration::from_millis(100);
/// Connections written in one transaction.
const BATCH_MAX: usize = 256;
/// Ended connections remembered, to be removed when the Redis is back: 32 MB of memory.
const ENDED_MAX: usize = 1_000_000;

/// The state of all connections; clones share it.
#[derive(Clone)]
pub(super) struct State(Rc<Inner>);

struct Inner {
    availability: Availability,
    live: RefCell<HashMap<Uuid, Live>>,
    dirty: RefCell<Dirty>,
    /// The place in the queue of dirty connections up to which everything is written.
    written: Cell<u64>,
    /// Nothing will change any more.
    closed: Cell<bool>,
    /// There is something to write, or nothing will come any more.
    news: Notify,
    /// More is written, or the Redis is down.
    progress: Notify,
}

/// A connection that is open.
struct Live {
    peer: SocketAddr,
    tags: Tags,
}

/// Connections to be written, each once, with their places in the queue.
#[derive(Default)]
struct Dirty {
    queue: VecDeque<(u64, Uuid)>,
    queued: HashSet<Uuid>,
    /// The last place given.
    last: u64,
}

impl Dirty {
    fn mark(&mut self, connection: Uuid) {
        if self.queued.insert(connection) {
            self.last += 1;
            self.queue.push_back((self.last, connection));
        }
    }

    fn take(&mut self, count_max: usize) -> Vec<(u64, Uuid)> {
        let count = self.queue.len().min(count_max);
        let taken: Vec<_> = self.queue.drain(..count).collect();
        for (_, connection) in &taken {
            self.queued.remove(connection);
        }
        taken
    }

    fn give_back(&mut self, taken: Vec<(u64, Uuid)>) {
        for (place, connection) in taken.into_iter().rev() {
            if self.queued.insert(connection) {
                self.queue.push_front((place, connection));
            }
        }
    }
}

impl State {
    pub(super) fn new(availability: Availability) -> Self {
        Self(Rc::new(Inner {
            availability,
            live: RefCell::default(),
            dirty: RefCell::default(),
            written: Cell::new(0),
            closed: Cell::new(false),
            news: Notify::new(),
            progress: Notify::new(),
        }))
    }

    /// A connection is there; the ticket tells when its state is.
    pub(super) fn opened(&self, connection: Uuid, peer: SocketAddr, tags: &Tags) -> Ticket {
        self.0.live.borrow_mut().insert(connection, Live { peer, tags: tags.clone() });
        let mut dirty = self.0.dirty.borrow_mut();
        dirty.mark(connection);
        self.0.news.notify_one();
        Ticket { state: self.clone(), place: dirty.last, until: Instant::now() + HOLD_MAX }
    }

    /// The tags of a connection have changed. Without effect once it has ended.
    pub(super) fn tags_changed(&self, connection: Uuid, tags: &Tags) {
        let mut live = self.0.live.borrow_mut();
        let Some(known) = live.get_mut(&connection) else { return };
        known.tags = tags.clone();
        self.mark(connection);
    }

    /// A connection has ended; its state goes when the removal is dropped.
    pub(super) fn closing(&self, connection: Uuid) -> Removal {
        Removal { state: self.clone(), connection }
    }

    fn mark(&self, connection: Uuid) {
        self.0.dirty.borrow_mut().mark(connection);
        self.0.news.notify_one();
    }

    fn remove(&self, connection: Uuid) {
        let mut live = self.0.live.borrow_mut();
        live.remove(&connection);
        let mut dirty = self.0.dirty.borrow_mut();
        if dirty.queue.len() >= live.len() + ENDED_MAX {
            // The oldest stays in the Redis. What it is instead is a process without memory.
            dirty.take(1);
            if log::FORGOTTEN.admit() {
                tracing::warn!("{}: more than {ENDED_MAX} connections have ended: states stay", self.0.availability);
            }
        }
        dirty.mark(connection);
        self.0.news.notify_one();
    }

    /// Waits until everything is written by the task that [keeps](State::keep) the state, unless this Redis is down, until
    /// the deadline. What is left is logged.
    pub(super) async fn flush(&self, mut task: JoinHandle<()>, deadline: std::time::Instant) {
        self.0.closed.set(true);
        self.0.news.notify_one();
        // The last to go: where others took all the time there was, this has a little more.
        let deadline = Instant::from_std(deadline).max(Instant::now() + FLUSH_MIN);
        if !self.is_up() || timeout_at(deadline, &mut task).await.is_err() {
            task.abort();
            // Nothing but the abort.
            let _ = task.await;
        }
        let left = self.0.dirty.borrow().queue.len();
        if left > 0 {
            tracing::warn!("{}: the states of {left} connections are not up to date at shutdown", self.0.availability);
        }
    }

    fn is_up(&self) -> bool {
        self.0.availability.is_up()
    }

    /// Writes whatever is dirty, until the state is closed and nothing is.
    pub(super) async fn keep(self, url: RedisUrl) {
        let mut backoff = Backoff::default();
        loop {
            let mut link = reach(&self.0.availability, &mut backoff, || url.connect()).await;
            // Whatever happened to this Redis, it will know everything again.
            self.0.live.borrow().keys().for_each(|connection| self.mark(*connection));
            match self.serve(&mut link, &mut backoff).await {
                Ok(()) => return,
                Err(failure) => self.0.availability.down(failure),
            }
            self.0.progress.notify_waiters();
        }
    }

    async fn serve(&self, link: &mut RedisConnection, backoff: &mut Backoff) -> Result<(), Failure> {
        let mut patience = Duration::ZERO;
        loop {
            let batch = self.0.dirty.borrow_mut().take(BATCH_MAX);
            let Some((place, _)) = batch.last().copied() else {
                if self.0.closed.get() {
                    return Ok(());
                }
                if timeout(patience, self.0.news.notified()).await.is_err() {
                    within(ANSWER_WITHIN, link.check()).await?;
                    works(&self.0.availability, backoff);
                    patience = CHECK_EVERY;
                }
                continue;
            };
            let mut pipeline = self.pipeline(&batch);
            if link.transactions {
                pipeline.atomic();
            }
            let written = within(ANSWER_WITHIN, async { Ok(pipeline.exec_async(&mut link.inner).await?) });
            if let Err(failure) = written.await {
                self.0.dirty.borrow_mut().give_back(batch);
                return Err(failure);
            }
            works(&self.0.availability, backoff);
            patience = CHECK_EVERY;
            self.0.written.set(place.max(self.0.written.get()));
            self.0.progress.notify_waiters();
        }
    }

    /// What makes the state of these connections what it should be.
    fn pipeline(&self, batch: &[(u64, Uuid)]) -> Pipeline {
        let live = self.0.live.borrow();
        let mut pipeline = redis::pipe();
        for (_, connection) in batch {
            let (address, tags) = (format!("connection:{connection}"), format!("connection:{connection}:tags"));
            let Some(connection) = live.get(connection) else {
                pipeline.cmd("DEL").arg(address).arg(tags);
                continue;
            };
            pipeline.cmd("HSET").arg(address).arg("addr").arg(connection.peer.to_string());
            // Tags that are no more go with the rest.
            pipeline.cmd("DEL").arg(&tags);
            if connection.tags.iter().len() > 0 {
                let set = pipeline.cmd("HSET").arg(&tags);
                for (name, value) in connection.tags.iter() {
                    set.arg(name).arg(value);
                }
            }
        }
        pipeline
    }
}

/// Tells when the state of a connection is written.
pub(super) struct Ticket {
    state: State,
    place: u64,
    until: Instant,
}

impl Ticket {
    /// Whether the state is written, cannot be written, or has been waited for long enough.
    pub(super) fn has_passed(&self) -> bool {
        self.state.0.written.get() >= self.place || !self.state.is_up() || Instant::now() >= self.until
    }

    /// Waits for [`Ticket::has_passed`].
    pub(super) async fn passed(&self) {
        loop {
            let progress = self.state.0.progress.notified();
            if self.has_passed() || timeout_at(self.until, progress).await.is_err() {
                return;
            }
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({})", self.place)
    }
}

/// Removes the state of a connection when dropped.
pub(super) struct Removal {
    state: State,
    connection: Uuid,
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.state.remove(self.connection);
    }
}

impl fmt::Debug for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Removal({})", self.connection)
    }
}
