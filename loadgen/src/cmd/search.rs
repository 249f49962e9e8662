//! `search`: the highest rate, or the most subscribers, at which the SLO holds: bracket, bisect in log space, verify
//! interleaved.

use serde::Serialize;

use super::load::{find, live, run_load, show, usage};
use super::{Exit, ceiling};
use crate::cli::{PeerKind, RunArgs, SearchArgs, SearchOver};
use crate::live::Live;
use crate::out;
use crate::report::Report;
use crate::report::env::Env;
use crate::report::slo::Slo;
use crate::report::verdict::Verdict;
use crate::sys::signal;

/// How often each end of the bracket is tried again at the end, taking turns.
const VERIFICATIONS: usize = 3;

/// How often the null peer is tried: once is enough to show that the generator can do it.
const NULL_TRIES: usize = 3;

/// Of a schedule less than this was not that load: above it a run is not INVALID for what was not sent.
const SENT_SHARE_MIN: f64 = 0.99;

/// The result, as JSON.
#[derive(Debug, Serialize)]
struct SearchReport {
    schema: &'static str,
    over: &'static str,
    /// Why it did not come to its end; then there are its runs, but no answer.
    failure: Option<String>,
    /// The highest value that held, also when verified; `null`: none did.
    holds: Option<f64>,
    /// The lowest value that did not; `null`: the search ended before one was found.
    fails: Option<f64>,
    /// What did not hold there.
    limited_by: Vec<String>,
    /// The load that failed (none did: the highest that held) against a null peer; `null` where there is no answer to be
    /// checked, and for wss, which null peers do not speak.
    null_peer: Option<NullProbe>,
    /// Every run, in order.
    runs: Vec<Probe>,
}

/// What the search is for.
#[derive(Debug, Clone, Copy, Default)]
struct Answer {
    holds: Option<f64>,
    fails: Option<f64>,
    null_peer: Option<NullProbe>,
}

/// What the generator, and this machine, can do without the server.
#[derive(Debug, Clone, Copy, Serialize)]
struct NullProbe {
    value: f64,
    held: bool,
    p99_us: Option<f64>,
    /// What was received, as a share of the generator's own ceiling.
    ceiling_share: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
struct Probe {
    value: f64,
    held: bool,
    verdict: Verdict,
    p99_us: Option<f64>,
    reach: Option<f64>,
    deliveries_per_s: f64,
    broken: Vec<String>,
}

struct Search<'a> {
    args: &'a SearchArgs,
    live: Live,
    runs: Vec<Probe>,
}

/// `loadgen search`.
///
/// # Errors
/// What is wrong with the arguments, a server that cannot be reached, or a generator that is the bottleneck.
pub(crate) fn search(args: &SearchArgs) -> Result<Exit, (Exit, String)> {
    if args.run.traffic.slo.is_none() || args.run.outstanding.is_some() || args.run.scenario.is_some() {
        return Err(usage("search needs --slo, and neither --outstanding nor a scenario".into()));
    }
    if args.to <= args.from {
        return Err(usage("--to must be above --from".into()));
    }
    let mut search = Search { args, live: live(&args.run.target)?, runs: Vec::new() };
    let found = search.find();
    let report = SearchReport::new(args.over, &found, search.runs);
    let is_own_limit = report.null_peer.is_some_and(|probe| !probe.held);
    let text = if found.is_ok() && !is_own_limit { report.render() } else { String::new() };
    let has_something = found.is_ok() || !report.runs.is_empty();
    let json = args.run.target.json.as_deref().filter(|_| has_something);
    let written = show(&text, json, &report);
    let answer = found?;
    written?;
    match answer.null_peer.filter(|_| is_own_limit) {
        Some(probe) => Err((
            Exit::Invalid,
            format!(
                "at {:.0} the SLO does not hold against a null peer either: the limit is the generator's, or this machine's",
                probe.value
            ),
        )),
        None => Ok(if answer.holds.is_some() { Exit::Held } else { Exit::NotHeld }),
    }
}

impl SearchReport {
    fn new(over: SearchOver, found: &Result<Answer, (Exit, String)>, runs: Vec<Probe>) -> Self {
        let answer = found.as_ref().copied().unwrap_or_default();
        let limited_by = runs.iter().rev().find(|probe| !probe.held).map(|probe| probe.broken.clone());
        Self {
            schema: "ringrelay.loadgen.search/1",
            over: over.name(),
            failure: found.as_ref().err().map(|(_, reason)| reason.clone()),
            holds: answer.holds,
            fails: answer.fails,
            limited_by: limited_by.unwrap_or_default(),
            null_peer: answer.null_peer,
            runs,
        }
    }

    /// For a terminal.
    fn render(&self) -> String {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.0}"));
        let mut out = format!("{}: holds at {}, fails at {}\n", self.over, number(self.holds), number(self.fails));
        self.limited_by.iter().for_each(|clause| out += &format!("limited by {clause}\n"));
        out
    }
}

impl Search<'_> {
    fn find(&mut self) -> Result<Answer, (Exit, String)> {
        let (holds, fails) = self.bracket()?;
        let (holds, fails) = self.bisect(holds, fails)?;
        let null_peer = holds.map_or(Ok(None), |holds| self.probe_null_peer(fails.unwrap_or(holds)))?;
        Ok(Answer { holds, fails, null_peer })
    }

    /// Doubles from the lowest value until one fails.
    fn bracket(&mut self) -> Result<(Option<f64>, Option<f64>), (Exit, String)> {
        let mut holds = None;
        let mut value = self.args.from;
        loop {
            if !self.probe(value)? {
                return Ok((holds, Some(value)));
            }
            holds = Some(value);
            if value >= self.args.to {
                return Ok((holds, None));
            }
            value = (value * 2.0).min(self.args.to);
        }
    }

    /// Halves the bracket in log space to the precision asked for, then tries both ends again, taking turns. If the
    /// lower end does not hold again, what held there was luck, and the search goes on below it.
    fn bisect(&mut self, holds: Option<f64>, fails: Option<f64>) -> Result<(Option<f64>, Option<f64>), (Exit, String)> {
        let (Some(mut low), Some(mut high)) = (holds, fails) else { return Ok((holds, fails)) };
        loop {
            while high / low > 1.0 + self.args.precision / 100.0 && self.args.over.differ(low, high) {
                let middle = self.args.over.round((low * high).sqrt());
                if self.probe(middle)? { low = middle } else { high = middle }
            }
            let (mut held, mut failed) = (0, 0);
            for _ in 0..VERIFICATIONS {
                held += usize::from(self.probe(low)?);
                failed += usize::from(!self.probe(high)?);
            }
            if held * 2 > VERIFICATIONS {
                let is_sure = failed * 2 > VERIFICATIONS;
                return Ok((Some(low), if is_sure { Some(high) } else { self.lowest_failure_above(high) }));
            }
            high = low;
            match self.highest_hold_below(high) {
                Some(below) => low = below,
                None => return Ok((None, Some(high))),
            }
            if self.runs.len() >= self.args.runs_max {
                return Ok((Some(low), Some(high)));
            }
        }
    }

    fn lowest_failure_above(&self, value: f64) -> Option<f64> {
        let above = self.runs.iter().filter(|probe| !probe.held && probe.value > value);
        above.map(|probe| probe.value).reduce(f64::min)
    }

    fn highest_hold_below(&self, value: f64) -> Option<f64> {
        let below = self.runs.iter().filter(|probe| probe.held && probe.value < value);
        below.map(|probe| probe.value).reduce(f64::max)
    }

    /// A run in which the generator itself was too slow says nothing, and is done again; the third one ends the search.
    fn probe(&mut self, value: f64) -> Result<bool, (Exit, String)> {
        let mut outcome = self.probe_once(value);
        for _ in 0..2 {
            if matches!(outcome, Err((Exit::Invalid, _))) {
                outcome = self.probe_once(value);
            }
        }
        outcome
    }

    /// The same load against a null peer, up to three times until the SLO holds.
    fn probe_null_peer(&mut self, value: f64) -> Result<Option<NullProbe>, (Exit, String)> {
        let args = self.args_at(value);
        let (load, slo) = run_load(&args)?;
        if ceiling::check(&load).is_err() {
            return Ok(None);
        }
        let mut probe = None;
        for _ in 0..NULL_TRIES {
            let (report, ceiling) =
                ceiling::measure(&load, PeerKind::Fanout, &args.target, slo.as_ref(), &mut self.live)?;
            let held = has_held(&report);
            let p99_us = report.latency_us.response_with_lost.p99;
            let ceiling_share = ceiling.map(|ceiling| report.received_per_s() / ceiling.received_per_s);
            let share = ceiling_share.map_or("-".into(), |share| format!("{:.0}", share * 100.0));
            out::note(&format!("null peer at {value:.0}: {}, {share} % of the own ceiling", describe(&report)));
            probe = Some(NullProbe { value, held, p99_us, ceiling_share });
            if held {
                break;
            }
        }
        Ok(probe)
    }

    fn args_at(&self, value: f64) -> RunArgs {
        let mut args = self.args.run.clone();
        match self.args.over {
            SearchOver::Rate => args.traffic.rate = Some(value),
            SearchOver::Subscribers => args.subscribers = value as u32,
        }
        args
    }

    fn probe_once(&mut self, value: f64) -> Result<bool, (Exit, String)> {
        let args = self.args_at(value);
        let (load, slo) = run_load(&args)?;
        let env = Env::read(args.target.url.as_deref().unwrap_or_default(), load.seed, load.measure_ns as f64 / 1e9);
        let (found, facts) = find(load, &args.target, None, slo.as_ref(), &mut self.live)?;
        if signal::asked_to_stop() {
            return Err((Exit::Failed, "stopped by a signal".into()));
        }
        let report = Report::new(&facts, &found, slo.as_ref(), env);
        let held = has_held(&report);
        let broken = report.slo.clauses.iter().filter(|clause| clause.held == Some(false));
        let broken = broken.map(|clause| clause.clause.clone());
        self.runs.push(Probe {
            value,
            held,
            verdict: report.verdict,
            p99_us: report.latency_us.response_with_lost.p99,
            reach: report.reach,
            deliveries_per_s: report.deliveries_per_s,
            broken: broken.chain((!is_sent(&report)).then(|| "the schedule: not all was sent".to_owned())).collect(),
        });
        out::note(&format!("{} {value:.0}: {}", self.args.over.name(), describe(&report)));
        if let Some(failure) = report.failure.filter(|_| found.connections.opened < found.connections.asked) {
            return Err((Exit::Failed, failure));
        }
        // Where even the lowest load fails, and the generator was too slow, there is nothing to be said.
        let is_own_fault = value <= self.args.from || is_own_fault(slo.as_ref(), &report.latency_us.lateness.p99);
        if !held && report.verdict == Verdict::Invalid && is_own_fault {
            return Err((
                Exit::Invalid,
                format!("the generator is the bottleneck at {value:.0}: {}", report.reasons.join("; ")),
            ));
        }
        Ok(held)
    }
}

/// The SLO held, under the load that was to be tried.
fn has_held(report: &Report) -> bool {
    report.slo.held == Some(true) && is_sent(report)
}

/// What was not sent cannot have been lost: an SLO may hold under less than the load.
fn is_sent(report: &Report) -> bool {
    report.sent as f64 >= report.scheduled as f64 * SENT_SHARE_MIN
}

/// A run in a line; figures of an INVALID one are not shown.
fn describe(report: &Report) -> String {
    let outcome = if has_held(report) { "holds" } else { "fails" };
    let p99 = report.latency_us.response_with_lost.p99.filter(|_| report.verdict != Verdict::Invalid);
    let p99 = p99.map(|us| format!(", p99 {:.2} ms", us / 1000.0)).unwrap_or_default();
    format!("{outcome}{p99}, {}", report.verdict.name())
}

/// The generator's lateness alone breaks the objective.
fn is_own_fault(slo: Option<&Slo>, lateness_p99_us: &Option<f64>) -> bool {
    slo.and_then(Slo::latency_limit_us).is_some_and(|limit| lateness_p99_us.is_some_and(|late| late > limit))
}

impl SearchOver {
    fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Subscribers => "subscribers",
        }
    }

    fn round(self, value: f64) -> f64 {
        match self {
            Self::Rate => value,
            Self::Subscribers => value.round(),
        }
    }

    /// There is a value between the two.
    fn differ(self, low: f64, high: f64) -> bool {
        match self {
            Self::Rate => true,
            Self::Subscribers => high - low > 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::slo::SloReport;

    #[test]
    fn what_was_not_sent_does_not_hold_and_figures_of_invalid_runs_are_not_shown() {
        let slo = SloReport { held: Some(true), ..SloReport::default() };
        let held = Report { slo, ..Report::example() };
        assert!(has_held(&held) && describe(&held) == "holds, p99 3.00 ms, VALID");
        let unsent = Report { scheduled: 1000, sent: 980, ..held.clone() };
        assert!(!has_held(&unsent) && has_held(&Report { sent: 995, ..unsent }));
        assert_eq!(describe(&Report { verdict: Verdict::Invalid, ..held }), "holds, INVALID");
    }
}
