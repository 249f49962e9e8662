//! Watching a run while it goes on: gathers once per second what a [`Moment`] is made of, judges the generator by the
//! part of the measurement that is over, and shows both.

use super::findings::Connections;
use super::publishing::Figures;
use super::shared::{Schedule, Shared};
use super::window::{share_between, usage_between};
use crate::live::{ConnectionsNow, Live, Moment, Phase};
use crate::measure::recorder::Recorder;
use crate::report::latency::Summary;
use crate::report::verdict::{self, Evidence, Verdict};
use crate::sys::clock::now_ns;
use crate::sys::procfs::{self, Usage};

const SECOND_NS: u64 = 1_000_000_000;

/// No verdict is made of less than this.
const JUDGED_NS_MIN: u64 = SECOND_NS / 2;

/// What a thread says about itself once per second, cumulative since the beginning of the measurement.
#[derive(Debug)]
pub(super) struct OwnSoFar {
    pub(super) figures: Figures,
    pub(super) turns: Recorder,
    pub(super) busy_share: f64,
}

/// The view of a run from its first connect to its end.
pub(super) struct Watch<'a> {
    live: &'a mut Live,
    is_closed_loop: bool,
    latency_limit_us: Option<f64>,
    phase: Phase,
    /// The first connect, then the first message, in ns since the epoch.
    began_ns: u64,
    schedule: Option<Schedule>,
    next_second_ns: u64,
    /// Sent and delivered by the end of the last whole second, and within it.
    counted: (u64, u64),
    last_second: (u64, u64),
    response: Recorder,
    /// By thread; `None`: it has not said anything yet.
    own: Vec<Option<Box<OwnSoFar>>>,
    /// The generator's usage and the machine's stolen time when the measurement began.
    before: Option<(u64, Usage, (u64, u64))>,
    verdict: Option<Verdict>,
}

impl<'a> Watch<'a> {
    /// A run begins to connect; `latency_limit_us` is its SLO's.
    pub(super) fn new(live: &'a mut Live, shared: &Shared, latency_limit_us: Option<f64>) -> Self {
        live.begin_run();
        Self {
            live,
            is_closed_loop: shared.load.is_closed_loop(),
            latency_limit_us,
            phase: Phase::Connecting,
            began_ns: now_ns(),
            schedule: None,
            next_second_ns: now_ns() + SECOND_NS,
            counted: (0, 0),
            last_second: (0, 0),
            response: Recorder::new(),
            own: shared.threads.iter().map(|_| None).collect(),
            before: None,
            verdict: None,
        }
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        if phase == Phase::Measuring {
            let usage = procfs::usage(std::process::id()).unwrap_or_default();
            self.before = Some((now_ns(), usage, procfs::steal_and_total_ticks()));
        }
    }

    /// Seconds count from here on.
    pub(super) fn start(&mut self, schedule: Schedule) {
        self.schedule = Some(schedule);
        self.began_ns = schedule.start_ns;
        self.next_second_ns = schedule.start_ns + SECOND_NS;
    }

    /// What a thread has handed over.
    pub(super) fn take(&mut self, thread: usize, response: &Recorder, own: Box<OwnSoFar>) {
        self.response.add(response);
        if self.before.is_some_and(|(since_ns, ..)| now_ns() > since_ns + JUDGED_NS_MIN) {
            self.own[thread] = Some(own);
        }
    }

    /// Shows what is due, and answers who asks.
    pub(super) fn look(&mut self, shared: &Shared, connections: &Connections) {
        if now_ns() >= self.next_second_ns {
            self.next_second_ns += SECOND_NS;
            let counted = (shared.sum(|p| &p.sent), shared.sum(|p| &p.booked));
            self.last_second = (counted.0 - self.counted.0, counted.1 - self.counted.1);
            self.counted = counted;
            if self.phase == Phase::Measuring {
                self.verdict = self.evidence().map(|evidence| verdict::judge(&evidence).0);
            }
            let moment = self.moment(shared, connections);
            self.live.show(&moment);
        }
        self.live.answer(|| self.moment(shared, connections));
    }

    /// Tells what has happened.
    pub(super) fn say(&mut self, what: &str) {
        self.live.say(what);
    }

    /// The run is over: the terminal's line is free.
    pub(super) fn end(&mut self) {
        self.next_second_ns = u64::MAX;
        self.live.end_run();
    }

    fn moment(&self, shared: &Shared, connections: &Connections) -> Moment {
        let gone = shared.sum(|p| &p.ended) + shared.sum(|p| &p.away) + shared.sum(|p| &p.left);
        let opened = shared.sum(|p| &p.opened);
        let now_ns = now_ns();
        let seconds = now_ns.saturating_sub(self.began_ns) as f64 / 1e9;
        let done = match (self.phase, &self.schedule) {
            (Phase::Measuring | Phase::WarmUp, Some(schedule)) => {
                seconds * 1e9 / (schedule.end_ns - schedule.start_ns).max(1) as f64
            }
            (Phase::Connecting | Phase::Waiting, _) => opened as f64 / connections.asked.max(1) as f64,
            _ => 1.0,
        };
        Moment {
            phase: self.phase,
            seconds,
            done: done.min(1.0),
            connections: ConnectionsNow {
                asked: connections.asked,
                opened,
                open: opened.saturating_sub(gone),
                failed: connections.failed,
                ended: connections.ended,
            },
            sent: shared.sum(|p| &p.sent),
            expected: shared.sum(|p| &p.expected),
            delivered: shared.sum(|p| &p.booked),
            heard: shared.sum(|p| &p.heard),
            sent_per_s: self.last_second.0,
            delivered_per_s: self.last_second.1,
            response: self.response.clone(),
            verdict: self.verdict,
        }
    }

    /// `None`: there is none before the measurement, and until every thread has said something.
    fn evidence(&self) -> Option<Evidence> {
        let (since_ns, usage, steal) = &self.before?;
        let seconds = now_ns().saturating_sub(*since_ns).max(1) as f64 / 1e9;
        let usage = usage_between(usage, &procfs::usage(std::process::id()).unwrap_or_default());
        let own: Vec<&OwnSoFar> = self.own.iter().map(Option::as_deref).collect::<Option<_>>()?;
        let (mut lateness, mut turns) = (Recorder::new(), Recorder::new());
        own.iter().for_each(|own| lateness.add(&own.figures.lateness));
        own.iter().for_each(|own| turns.add(&own.turns));
        Some(Evidence {
            is_closed_loop: self.is_closed_loop,
            scheduled: own.iter().map(|own| own.figures.scheduled).sum(),
            sent: own.iter().map(|own| own.figures.sent).sum(),
            latency_us: self.latency_limit_us.or(self.response.quantile_us(0.99)),
            lateness_p99_us: Summary::new(&lateness, 0).p99,
            stamping_p99_us: Summary::new(&turns, 0).p99,
            busy_share_max: own.iter().map(|own| own.busy_share).fold(0.0, f64::max),
            run_delay_share: usage.run_delay_ns as f64 / 1e9 / seconds / own.len() as f64,
            steal_share: share_between(*steal, procfs::steal_and_total_ticks()),
            ceiling_share: 0.0,
        })
    }
}
