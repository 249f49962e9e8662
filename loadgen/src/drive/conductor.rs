//! The conductor: starts the threads, takes them through the phases, reads the server's usage at the edges of the
//! measured window, and gathers what everybody has found.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::findings::{Connections, Findings};
use super::happenings::Happenings;
use super::meeting::{CALLED_OFF, Meeting};
use super::outcome::Outcome;
use super::shared::{Note, Progress, Schedule, Shared, Stage};
use super::timeline::Timeline;
use super::watch::Watch;
use super::window::{Snapshot, Window, usage_between};
use super::worker::Worker;
use crate::live::{Live, Phase};
use crate::measure::stamp::Stamper;
use crate::scrape::MetricsUrl;
use crate::sys::clock::now_ns;
use crate::sys::port::Driver;
use crate::sys::procfs::{self, Memory};
use crate::sys::{limits, signal};
use crate::workload::Load;

/// How often the conductor looks around.
const LOOK: Duration = Duration::from_millis(10);

const SECOND_NS: u64 = 1_000_000_000;

/// After its messages an idle run waits this long at most for the server's memory to settle.
const SETTLE_LOOKS_MAX: u32 = 25;

/// How the load is to be driven.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Ends when all publishers have sent their limit, then holds the idle connections for so long, in ns.
    pub(crate) idle_hold_ns: Option<u64>,
    pub(crate) threads: usize,
    pub(crate) driver: Driver,
    pub(crate) server_pid: Option<u32>,
    /// The server's own counters, in Prometheus' text form.
    pub(crate) server_metrics: Option<MetricsUrl>,
    /// The latency that the SLO asks for, against which the generator is judged while the run goes on.
    pub(crate) latency_limit_us: Option<f64>,
    /// Begins together with others.
    pub(crate) meeting: Option<Arc<Meeting>>,
}

/// Runs a load from the first connect to the last Close, and shows on `live` where it stands.
///
/// # Errors
/// When this machine refuses what a thread needs; what goes wrong between the two ends is among the findings.
pub(crate) fn run(load: Load, options: &Options, live: &mut Live) -> std::io::Result<Findings> {
    let (notes, inbox) = channel();
    let stamper = Arc::new(Stamper::new(load.run, load.seed, load.size_max()));
    let shared = Arc::new(Shared::new(load, options.threads, notes)?);
    let memory_before = options.server_pid.and_then(|pid| procfs::memory(pid).ok());
    let server_before = options.server_pid.and_then(|pid| procfs::tree_usage(pid).ok());
    let cores = limits::allowed_cores();
    let mut threads = Vec::new();
    for index in 0..options.threads {
        let (driver, shared, stamper) = (options.driver, shared.clone(), stamper.clone());
        let core = cores[index % cores.len()];
        let is_pinned = options.threads > 1;
        threads.push(thread::Builder::new().name(format!("load-{index}")).spawn(move || {
            if is_pinned {
                limits::pin_to(core);
            }
            // Made here, not outside: a ring belongs to its thread.
            let notes = shared.notes.clone();
            Worker::new(index, shared, stamper, driver)
                .inspect_err(|error| {
                    let _ = notes.send(Note::ConnectFailed(format!("this machine refuses: {error}")));
                })?
                .run()
        })?);
    }
    let mut conductor = Conductor {
        inbox,
        options,
        connections: Connections { asked: shared.load.connections.len() as u64, ..Connections::default() },
        timeline: Timeline::new(),
        failure: None,
        happenings: Happenings::new(&shared.load, options.server_pid),
        watch: Watch::new(live, &shared, options.latency_limit_us),
        shared,
        memory_before,
    };
    let is_connected = conductor.connect();
    let connected = options.server_pid.and_then(|pid| procfs::tree_usage(pid).ok());
    let server_connect = server_before.zip(connected).map(|(before, after)| usage_between(&before, &after));
    let window = match (is_connected, options.idle_hold_ns) {
        (false, _) => Window::default(),
        (true, None) => conductor.measure(),
        (true, Some(hold_ns)) => conductor.idle(hold_ns),
    };
    conductor.watch.end();
    conductor.shared.enter(Stage::Close);
    let outcomes = threads.into_iter().map(|thread| thread.join().expect("a thread of the generator panicked"));
    let outcomes = outcomes.collect::<std::io::Result<Vec<_>>>()?;
    Ok(Findings { server_connect, ..conductor.gather(outcomes, window) })
}

struct Conductor<'a> {
    shared: Arc<Shared>,
    inbox: Receiver<Note>,
    options: &'a Options,
    connections: Connections,
    timeline: Timeline,
    failure: Option<String>,
    happenings: Happenings,
    memory_before: Option<Memory>,
    watch: Watch<'a>,
}

impl Conductor<'_> {
    /// Waits until all connections are open; false if that cannot be.
    fn connect(&mut self) -> bool {
        let began_ns = now_ns();
        loop {
            self.look(LOOK);
            self.connections.opened = self.shared.sum(|p| &p.opened);
            self.connections.connect_seconds = (now_ns() - began_ns) as f64 / 1e9;
            self.connections.extend_ramp();
            if self.connections.failed > 0 {
                let (reason, _) = self.connections.reasons.first_key_value().expect("a failure has a reason");
                self.failure = Some(format!("could not connect: {reason}"));
                return false;
            }
            if self.connections.ended > 0 {
                self.failure = Some(format!("the server ended connections while others connected: {}", self.reasons()));
                return false;
            }
            if self.connections.opened == self.connections.asked {
                return true;
            }
            if signal::asked_to_stop() {
                self.failure = Some("stopped by a signal while connecting".into());
                return false;
            }
        }
    }

    /// Warm-up, measurement and drain.
    fn measure(&mut self) -> Window {
        let load = &self.shared.load;
        let (warmup_ns, measure_ns, drain_ns) = (load.warmup_ns, load.measure_ns, load.drain_ns);
        let Some(start_ns) = self.start_ns() else { return Window::default() };
        let started_at = wall_clock() + (start_ns as f64 - now_ns() as f64) / 1e9;
        let schedule =
            Schedule { start_ns, measure_ns: start_ns + warmup_ns, end_ns: start_ns + warmup_ns + measure_ns };
        self.happenings.start(schedule.measure_ns);
        self.watch.start(schedule);
        self.watch.enter(Phase::WarmUp);
        self.shared.start(schedule);
        self.watch_until(schedule.measure_ns, start_ns);
        self.watch.enter(Phase::Measuring);
        let before = self.snapshot();
        self.watch_until(schedule.end_ns, start_ns);
        let after = self.snapshot();
        let memory = self.server_memory();
        self.happenings.end();
        self.watch.enter(Phase::Draining);
        self.drain(schedule.end_ns + drain_ns);
        Window { started_at: Some(started_at), ..Window::between(&before, &after, self.memory_before.zip(memory)) }
    }

    /// When the first message is due, in ns since the epoch: at once, or at the wall-clock time that was asked for.
    fn start_ns(&mut self) -> Option<u64> {
        if let Some(meeting) = self.options.meeting.clone() {
            return self.meet(&meeting);
        }
        let Some(at) = self.shared.load.start_at else { return Some(now_ns() + 20_000_000) };
        let wall = wall_clock();
        if at < wall {
            self.failure = Some(format!("the start time passed {:.1} s before all connections were open", wall - at));
            return None;
        }
        let start_ns = now_ns() + ((at - wall) * 1e9) as u64;
        self.watch.enter(Phase::Waiting);
        self.watch_until(start_ns.saturating_sub(20_000_000), u64::MAX);
        Some(start_ns)
    }

    /// Waits for the others.
    fn meet(&mut self, meeting: &Meeting) -> Option<u64> {
        meeting.arrive();
        while self.failure.is_none() {
            if let Some(start_ns) = meeting.start_ns() {
                return Some(start_ns);
            }
            self.look(LOOK);
            self.judge();
        }
        None
    }

    /// Every connection exchanges its messages; then the window is the time in which nothing happens.
    fn idle(&mut self, hold_ns: u64) -> Window {
        let start_ns = now_ns();
        let end_ns = start_ns + self.shared.load.measure_ns;
        let schedule = Schedule { start_ns, measure_ns: start_ns, end_ns };
        self.watch.start(schedule);
        self.watch.enter(Phase::Idle);
        self.shared.start(schedule);
        self.drain(end_ns);
        if self.failure.is_none() && now_ns() >= end_ns {
            self.failure = Some("not every connection got its messages back: is this an echo endpoint?".into());
        }
        let mut memory = self.server_memory();
        for _ in 0..SETTLE_LOOKS_MAX {
            self.watch_until(now_ns() + SECOND_NS / 5, start_ns);
            let next = self.server_memory();
            if std::mem::replace(&mut memory, next) == next {
                break;
            }
        }
        let before = self.snapshot();
        self.watch_until(now_ns() + hold_ns, start_ns);
        let after = self.snapshot();
        Window::between(&before, &after, self.memory_before.zip(self.server_memory()))
    }

    fn server_memory(&self) -> Option<Memory> {
        self.options.server_pid.and_then(|pid| procfs::memory(pid).ok())
    }

    /// Watches until `until_ns`, or until there is no sense in going on.
    fn watch_until(&mut self, until_ns: u64, start_ns: u64) {
        while self.failure.is_none() && now_ns() < until_ns {
            let next_ns = until_ns.min(self.happenings.next_due_ns());
            let left = Duration::from_nanos(next_ns.saturating_sub(now_ns()));
            self.look(left.min(LOOK));
            self.drive_events();
            self.count_second(start_ns);
            self.judge();
        }
    }

    /// What is due happens, and is told.
    fn drive_events(&mut self) {
        while let Some(happened) = self.happenings.take_due(now_ns()) {
            match happened {
                Ok(what) => self.watch.say(&format!("event: {what}")),
                Err(reason) => {
                    self.failure.get_or_insert(reason);
                }
            }
        }
    }

    /// Waits for the deliveries of what has been sent.
    fn drain(&mut self, deadline_ns: u64) {
        while self.failure.is_none() && now_ns() < deadline_ns {
            let has_finished = |p: &Progress| p.has_finished_sending.load(Ordering::Acquire);
            if self.shared.threads.iter().all(|thread| has_finished(&thread.progress))
                && self.shared.sum(|p| &p.booked) + self.shared.sum(|p| &p.excused) >= self.shared.sum(|p| &p.expected)
                && self.shared.sum(|p| &p.away) == 0
            {
                break;
            }
            self.look(LOOK);
            self.judge();
        }
    }

    /// Ends the run when the server is gone or the user has had enough.
    fn judge(&mut self) {
        let has_publishers = !self.shared.load.publishers.is_empty();
        let are_all_gone = self.are_all_gone();
        if are_all_gone || (has_publishers && self.shared.sum(|p| &p.living_publishers) == 0) {
            self.look_until_quiet();
            let are_all_gone = self.are_all_gone();
            let what = if are_all_gone { "all connections" } else { "all publishing connections" };
            self.failure = Some(format!("{what} ended before the run did: {}", self.reasons()));
        } else if signal::asked_to_stop() {
            self.failure = Some("stopped by a signal".into());
        } else if self.options.meeting.as_ref().is_some_and(|meeting| meeting.is_off()) {
            self.failure = Some(CALLED_OFF.into());
        }
    }

    /// Whether no connection is left that the server or an error could end.
    fn are_all_gone(&self) -> bool {
        let (ended, left) = (self.connections.ended, self.shared.sum(|p| &p.left));
        ended > 0 && ended + left == self.connections.opened
    }

    /// Takes what the threads report, for up to `patience`.
    fn look(&mut self, patience: Duration) {
        let mut next = self.inbox.recv_timeout(patience);
        self.watch.look(&self.shared, &self.connections);
        loop {
            match next {
                Ok(Note::Interval { thread, second, response, own }) => {
                    self.watch.take(thread, &response, own);
                    self.timeline.take(second, &response);
                }
                Ok(Note::ConnectFailed(reason)) => {
                    self.connections.failed += 1;
                    *self.connections.reasons.entry(reason).or_default() += 1;
                }
                Ok(Note::Ended(reason)) => {
                    self.connections.ended += 1;
                    *self.connections.reasons.entry(reason).or_default() += 1;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
            next = self.inbox.try_recv().map_err(|_| RecvTimeoutError::Timeout);
        }
    }

    /// A server that dies takes its connections one after the other: hears of all of them.
    fn look_until_quiet(&mut self) {
        let mut before = u64::MAX;
        while std::mem::replace(&mut before, self.connections.ended) != self.connections.ended {
            self.look(LOOK * 10);
        }
    }

    fn count_second(&mut self, start_ns: u64) {
        let gone = self.shared.sum(|p| &p.ended) + self.shared.sum(|p| &p.away) + self.shared.sum(|p| &p.left);
        let open = self.shared.sum(|p| &p.opened).saturating_sub(gone);
        let (sent, delivered) = (self.shared.sum(|p| &p.sent), self.shared.sum(|p| &p.booked));
        self.timeline.count(now_ns().saturating_sub(start_ns), sent, delivered, open);
    }

    fn snapshot(&mut self) -> Snapshot {
        let (snapshot, read) = Snapshot::take(&self.shared, self.options);
        if let Err(reason) = read {
            self.failure.get_or_insert(reason);
        }
        snapshot
    }

    fn reasons(&self) -> String {
        let reasons = self.connections.reasons.iter().map(|(reason, count)| format!("{reason} ({count}x)"));
        reasons.collect::<Vec<_>>().join("; ")
    }

    fn gather(mut self, outcomes: Vec<Outcome>, window: Window) -> Findings {
        self.happenings.end();
        let away = self.shared.sum(|p| &p.away);
        if away > 0 {
            self.failure.get_or_insert(format!("{away} connections did not come back after they were cut"));
        }
        self.look(Duration::ZERO);
        self.connections.slow = self.shared.load.connections.iter().filter(|c| c.is_slow).count() as u64;
        self.connections.left = self.shared.sum(|p| &p.left);
        self.connections.slow_ended = self.shared.sum(|p| &p.slow_ended);
        let last_second = self.timeline.last_second();
        let mut outcomes = outcomes.into_iter();
        let mut measured = vec![0..0; self.shared.load.publishers.len()];
        let first = outcomes.next().expect("there is at least one thread");
        let mut rest: Vec<Outcome> = outcomes.collect();
        let mut all = first;
        for outcome in std::iter::once(&all).chain(&rest) {
            outcome.measured.iter().for_each(|(id, range): &(u32, Range<u32>)| measured[*id as usize] = range.clone());
        }
        all.tally.close(&self.shared.load, &measured);
        self.timeline.take(last_second, &all.tally.take_interval());
        for outcome in &mut rest {
            outcome.tally.close(&self.shared.load, &measured);
            self.timeline.take(last_second, &outcome.tally.take_interval());
            all.merge(outcome);
        }
        self.timeline.close();
        // Who was away was not to be reached.
        all.figures.expected -= all.tally.counts.missed;
        let service = if self.shared.load.is_closed_loop() {
            self.timeline.response.clone()
        } else {
            all.tally.service().clone()
        };
        Findings {
            connections: self.connections,
            counts: all.tally.counts,
            figures: all.figures,
            response: self.timeline.response,
            service,
            completion: all.tally.completion,
            spread: all.tally.spread,
            handshake: all.handshake,
            turns: all.turns,
            server_connect: None,
            cuts: self.shared.load.has_reconnects().then_some(all.cuts),
            events: self.happenings.been,
            // An idle run is judged by its silence: before, all messages go as fast as they can.
            busy_share_max: self.options.idle_hold_ns.map_or(all.busy_share, |_| window.own_cpu_share()),
            window,
            failure: self.failure,
            seconds: self.timeline.seconds,
            intervals: self.timeline.intervals,
        }
    }
}

/// In seconds since 1970.
fn wall_clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
