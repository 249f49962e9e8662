//! One thread of the generator and its turn: publish what is due → flush → wait → receive everything that is ready.
//!
//! What falls due while a long turn receives is published in between, so that a burst of deliveries does not make the
//! schedule late. The pieces of a turn stand beside this file: `opening`, `sending`,
//! `receiving`, `closing`, `events`.

mod closing;
mod events;
mod opening;
mod receiving;
mod sending;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use socket2::Socket;

use super::agenda::Agenda;
use super::connection::{Connection, State};
use super::connector::{self, Connector};
use super::cuts::Cuts;
use super::outcome::Outcome;
use super::publishing::Publishing;
use super::shared::{Note, Shared, Stage, thread_of};
use super::slow::SlowReaders;
use super::watch::OwnSoFar;
use crate::measure::recorder::Recorder;
use crate::measure::stamp::Stamper;
use crate::measure::tally::Tally;
use crate::rng::Rng;
use crate::sys::clock::now_ns;
use crate::sys::limits;
use crate::sys::port::{Driver, Port};

const SECOND_NS: u64 = 1_000_000_000;

/// One thread of the generator.
pub(super) struct Worker {
    index: usize,
    shared: Arc<Shared>,
    port: Port,
    connections: Vec<Connection>,
    connector: Connector,
    publishing: Publishing,
    slow: SlowReaders,
    agenda: Agenda,
    cuts: Cuts,
    tally: Tally,
    /// Per publisher of the load, its index in this thread.
    local_publishers: Vec<Option<u32>>,
    /// Connections with something in their outbox that has not been tried.
    dirty: Vec<u32>,
    /// Sockets to close when no event of theirs can be in the port any more.
    graveyard: Vec<Socket>,
    /// What TLS has decrypted of one receive.
    plaintext: Vec<u8>,
    rng: Rng,
    handshake: Recorder,
    turns: Recorder,
    /// Another thread has something for this one.
    was_woken: bool,
    has_started: bool,
    next_second_ns: u64,
    opened: u64,
    ended: u64,
    slow_ended: u64,
    heard: u64,
    waited_ns: u64,
}

impl Worker {
    /// Sets up thread `index`; connects begin when it runs.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub(super) fn new(index: usize, shared: Arc<Shared>, stamper: Arc<Stamper>, driver: Driver) -> io::Result<Self> {
        let load = &shared.load;
        let threads = shared.threads.len();
        let rng = Rng::new(load.seed, 1 + index as u64);
        let mut port = Port::new(driver)?;
        port.add_readable(std::os::fd::AsRawFd::as_raw_fd(&shared.threads[index].wake))?;
        let mine = || (0..load.connections.len() as u32).filter(|id| thread_of(*id, threads) == index);
        let mut local_subscribers = vec![0; load.topics.len()];
        for connection in mine().map(|id| load.connections[id as usize]).filter(|c| c.is_subscriber) {
            local_subscribers[connection.topic as usize] += 1;
        }
        let mut tally = Tally::new(load, stamper.clone(), shared.tracks.clone(), &local_subscribers);
        let mut publishing = Publishing::new(stamper, rng.clone());
        let mut local_publishers = vec![None; load.publishers.len()];
        let mut connections = Vec::new();
        for (slot, id) in mine().enumerate() {
            let spec = load.connections[id as usize];
            let publishers = load.topics[spec.topic as usize].publishers;
            let account =
                spec.is_subscriber.then(|| tally.open(spec.topic, publishers, local_subscribers[spec.topic as usize]));
            let publisher = spec.publisher.map(|publisher| {
                let local = publishing.add(publisher, slot as u32, load.publishers[publisher as usize].clone());
                local_publishers[publisher as usize] = Some(local);
                local
            });
            connections.push(Connection::new(id, spec.topic, account, publisher, spec.reading));
        }
        let agenda = Agenda::new(load, index, threads);
        let cuts = Cuts::new(Rng::new(load.seed, 1000 + index as u64));
        let pace = connector::Pace {
            start_ns: now_ns(),
            interval_ns: load.connect_rate.map_or(0.0, |rate| 1e9 * threads as f64 / rate),
            jitter_ns: load.connect_jitter_ns,
        };
        let mut connect_rng = Rng::new(load.seed, 2000 + index as u64);
        Ok(Self {
            index,
            connector: Connector::new(0..connections.len() as u32, &pace, &mut connect_rng),
            port,
            connections,
            publishing,
            slow: SlowReaders::default(),
            agenda,
            cuts,
            tally,
            local_publishers,
            dirty: Vec::new(),
            graveyard: Vec::new(),
            plaintext: Vec::new(),
            rng,
            handshake: Recorder::new(),
            turns: Recorder::new(),
            was_woken: false,
            has_started: false,
            next_second_ns: now_ns() + SECOND_NS,
            opened: 0,
            ended: 0,
            slow_ended: 0,
            heard: 0,
            waited_ns: 0,
            shared,
        })
    }

    /// Works until the close phase is over.
    ///
    /// # Errors
    /// When the kernel refuses to wait: a fault of this machine.
    pub(super) fn run(mut self) -> io::Result<Outcome> {
        limits::sharpen_timers();
        while self.shared.stage() != Stage::Close {
            let now_ns = now_ns();
            if self.shared.stage() == Stage::Run {
                self.start_once();
            } else {
                self.begin_connects(now_ns);
            }
            self.drive_second(now_ns);
            self.publish_due(now_ns);
            self.publish_ready(now_ns);
            self.drive_slow(now_ns)?;
            self.drive_events(now_ns);
            self.flush();
            self.store_progress(now_ns);
            self.wait(now_ns)?;
        }
        // Of a run that is cut short the rest was neither scheduled nor worked through.
        let end_ns = now_ns().min(self.tally.measured.end);
        let busy_share = self.busy_share(end_ns);
        self.close_all()?;
        let (figures, measured) = self.publishing.finish(end_ns);
        Ok(Outcome {
            tally: self.tally,
            figures,
            measured,
            handshake: self.handshake,
            turns: self.turns,
            cuts: self.cuts.figures,
            busy_share,
        })
    }

    fn start_once(&mut self) {
        let Some(schedule) = self.shared.schedule().filter(|_| !self.has_started) else { return };
        self.has_started = true;
        self.next_second_ns = schedule.start_ns + SECOND_NS;
        let measured = schedule.measure_ns..schedule.end_ns;
        self.tally.measured = measured.clone();
        self.publishing.start(schedule.start_ns, measured);
        self.agenda.start(schedule.measure_ns);
    }

    /// Once per second: hands over the interval's latencies and looks for what has waited too long.
    fn drive_second(&mut self, now_ns: u64) {
        if now_ns < self.next_second_ns {
            return;
        }
        self.next_second_ns += SECOND_NS;
        let connections = &self.connections;
        let is_under_way =
            |slot: u32| matches!(connections[slot as usize].state, State::Connecting | State::Upgrading { .. });
        if let Some(slot) = self.connector.take_overdue(now_ns, is_under_way) {
            self.fail_connect(slot, "the handshake took longer than 30 s");
        }
        if self.has_started {
            self.publishing.give_up_stalled(now_ns);
            let start_ns = self.shared.schedule().map_or(now_ns, |schedule| schedule.start_ns);
            let second = (self.next_second_ns - start_ns) / SECOND_NS - 1;
            let (response, own) = (self.tally.take_interval(), self.own_so_far(now_ns));
            let _ = self.shared.notes.send(Note::Interval { thread: self.index, second, response, own });
        }
    }

    fn own_so_far(&self, now_ns: u64) -> Box<OwnSoFar> {
        let (figures, turns) = (self.publishing.figures.clone(), self.turns.clone());
        Box::new(OwnSoFar { figures, turns, busy_share: self.busy_share(now_ns) })
    }

    /// Share of the measured time up to `now_ns` in which this thread did not wait.
    fn busy_share(&self, now_ns: u64) -> f64 {
        let measured = &self.tally.measured;
        let measured_ns = now_ns.min(measured.end).saturating_sub(measured.start);
        // A run that ended before its measurement was not busy measuring.
        if measured_ns == 0 { 0.0 } else { (1.0 - self.waited_ns as f64 / measured_ns as f64).clamp(0.0, 1.0) }
    }

    fn store_progress(&self, now_ns: u64) {
        let progress = &self.shared.threads[self.index].progress;
        for (counter, value) in [
            (&progress.opened, self.opened),
            (&progress.ended, self.ended),
            (&progress.slow_ended, self.slow_ended),
            (&progress.away, self.cuts.figures.cut - self.cuts.figures.recovered),
            (&progress.left, self.cuts.left),
            (&progress.excused, if now_ns < self.tally.measured.end { 0 } else { self.tally.excused() }),
            (&progress.sent, self.publishing.figures.sent_ever),
            (&progress.expected, self.publishing.figures.expected_ever),
            (&progress.booked, self.tally.booked),
            (&progress.heard, self.heard),
            (&progress.living_publishers, self.publishing.living()),
        ] {
            counter.store(value, Ordering::Relaxed);
        }
        let has_finished = self.has_started && self.publishing.has_finished(now_ns);
        progress.has_finished_sending.store(has_finished, Ordering::Release);
    }

    /// Waits until something is ready or due, then takes everything that is ready.
    fn wait(&mut self, now_ns: u64) -> io::Result<()> {
        let mut until_ns = self.next_second_ns.min(self.publishing.next_due_ns()).min(self.slow.next_due_ns());
        if now_ns < self.tally.measured.end {
            // Then it can tell that all is sent.
            until_ns = until_ns.min(self.tally.measured.end);
        }
        until_ns = until_ns.min(self.agenda.next_due_ns()).min(self.cuts.next_due_ns());
        if self.shared.stage() == Stage::Connect {
            until_ns = until_ns.min(self.connector.next_due_ns().unwrap_or(u64::MAX));
        }
        self.port.wait(Some(until_ns.saturating_sub(now_ns)))?;
        let woken_ns = crate::sys::clock::now_ns();
        if self.tally.measured.contains(&now_ns) {
            self.waited_ns += woken_ns - now_ns;
        }
        let mut last_ns = woken_ns;
        while let Some(ready) = self.port.poll_ready() {
            last_ns = crate::sys::clock::now_ns();
            self.take_ready(ready, last_ns);
            if last_ns >= self.publishing.next_due_ns() {
                self.publish_due(last_ns);
                self.flush();
            }
        }
        self.graveyard.clear();
        if self.tally.measured.contains(&woken_ns) {
            self.turns.record(last_ns - woken_ns);
        }
        self.hand_over_completed(last_ns);
        Ok(())
    }
}
