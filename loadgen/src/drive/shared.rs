//! What the threads of a run share: the load, the stage, progress counters, and who waits for whom. Written at most
//! once per turn or per message, never per delivery.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};

use super::watch::OwnSoFar;
use crate::measure::recorder::Recorder;
use crate::measure::track::SharedTrack;
use crate::sys::wake::Wake;
use crate::workload::{Load, Pace};

/// The phases that threads tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Stage {
    Connect,
    /// Warm-up, measurement and drain: the schedule tells them apart.
    Run,
    Close,
}

/// Absolute times of a run, in ns since the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// The arrivals' zero.
    pub(super) start_ns: u64,
    pub(super) measure_ns: u64,
    /// No message is due at or after this.
    pub(super) end_ns: u64,
}

/// One thread's progress, stored once per turn.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) opened: AtomicU64,
    /// Connections that ended after they had been open, before the close phase.
    pub(super) ended: AtomicU64,
    /// Of these, slow readers.
    pub(super) slow_ended: AtomicU64,
    /// Connections that an event has cut and that are not back yet.
    pub(super) away: AtomicU64,
    /// Connections that an event has cut for good.
    pub(super) left: AtomicU64,
    pub(super) sent: AtomicU64,
    /// Deliveries that all messages sent so far make.
    pub(super) expected: AtomicU64,
    /// Distinct messages booked by subscribers, in all phases.
    pub(super) booked: AtomicU64,
    /// Deliveries that are not expected any more, because the subscriber is or was away.
    pub(super) excused: AtomicU64,
    /// Messages that connections heard which are no subscribers.
    pub(super) heard: AtomicU64,
    /// Publishers on this thread that can still send.
    pub(super) living_publishers: AtomicU64,
    /// All due messages have been sent.
    pub(super) has_finished_sending: AtomicBool,
}

/// News from a thread to the conductor.
#[derive(Debug)]
pub(super) enum Note {
    /// What a thread has seen in one second, counted from 1 after the schedule's start.
    Interval { thread: usize, second: u64, response: Recorder, own: Box<OwnSoFar> },
    /// A connection could not be opened.
    ConnectFailed(String),
    /// An open connection ended before the close phase; why.
    Ended(String),
}

/// Everything that threads share.
pub(super) struct Shared {
    pub(super) load: Load,
    pub(super) tracks: Arc<[SharedTrack]>,
    stage: AtomicU8,
    schedule: OnceLock<Schedule>,
    pub(super) threads: Vec<Thread>,
    /// Per publisher, messages completed by another thread than the publisher's.
    pub(super) completed: Vec<AtomicU32>,
    /// Per topic, threads with subscribers to it.
    pub(super) threads_of_topic: Vec<AtomicU32>,
    pub(super) notes: Sender<Note>,
}

/// One thread as others see it.
pub(super) struct Thread {
    pub(super) wake: Wake,
    pub(super) progress: Progress,
}

impl Shared {
    /// # Errors
    /// When the process is out of descriptors.
    pub(super) fn new(load: Load, thread_count: usize, notes: Sender<Note>) -> std::io::Result<Self> {
        let threads = std::iter::repeat_with(|| Ok(Thread { wake: Wake::new()?, progress: Progress::default() }));
        let threads = threads.take(thread_count).collect::<std::io::Result<_>>()?;
        let tracks = load.publishers.iter().map(|publisher| SharedTrack::new(track_window(&publisher.pace)));
        let mut has_subscribers = vec![vec![false; thread_count]; load.topics.len()];
        for (id, connection) in load.connections.iter().enumerate().filter(|(_, c)| c.is_subscriber) {
            has_subscribers[connection.topic as usize][thread_of(id as u32, thread_count)] = true;
        }
        let count = |threads: &Vec<bool>| threads.iter().filter(|has| **has).count() as u32;
        Ok(Self {
            tracks: tracks.collect(),
            stage: AtomicU8::new(Stage::Connect as u8),
            schedule: OnceLock::new(),
            threads,
            completed: load.publishers.iter().map(|_| AtomicU32::new(0)).collect(),
            threads_of_topic: has_subscribers.iter().map(count).map(AtomicU32::new).collect(),
            notes,
            load,
        })
    }

    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Connect,
            1 => Stage::Run,
            _ => Stage::Close,
        }
    }

    /// The schedule; there from [`Stage::Run`] on.
    pub(super) fn schedule(&self) -> Option<Schedule> {
        self.schedule.get().copied()
    }

    /// Starts the schedule.
    pub(super) fn start(&self, schedule: Schedule) {
        self.schedule.get_or_init(|| schedule);
        self.enter(Stage::Run);
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
        self.threads.iter().for_each(|thread| thread.wake.wake());
    }

    /// A progress counter, summed over the threads.
    pub(super) fn sum(&self, counter: impl Fn(&Progress) -> &AtomicU64) -> u64 {
        self.threads.iter().map(|thread| counter(&thread.progress).load(Ordering::Relaxed)).sum()
    }
}

/// Which thread owns a connection: dealt round, so that every thread has its share of each group.
pub(super) fn thread_of(connection: u32, thread_count: usize) -> usize {
    connection as usize % thread_count
}

/// Messages of one publisher whose completion is followed: ten seconds' worth, within 256 and 65,536.
fn track_window(pace: &Pace) -> usize {
    match pace {
        Pace::Outstanding(window) => (*window as usize * 2).max(64),
        Pace::Scheduled(arrivals) => ((arrivals.rate() * 10.0) as usize).clamp(256, 1 << 16),
    }
}
