//! `search`: the highest rate, or the most subscribers, at which the SLO holds: bracket, bisect in log space, verify
//! interleaved.

use serde::Serialize;

use super::load::{find, is_json_on_stdout, live, run_load, usage, write_json};
use super::{Exit, ceiling};
use crate::cli::{PeerKind, RunArgs, SearchArgs, SearchOver};
use crate::live::Live;
use crate::report::Report;
use crate::report::env::Env;
use crate::report::slo::Slo;
use crate::report::verdict::Verdict;
use crate::sys::signal;

/// How often each end of the bracket is tried again at the end, taking turns.
const VERIFICATIONS: usize = 3;

/// How often the null peer is tried: once is enough to show that the generator can do it.
const NULL_TRIES: usize = 3;

/// The result, as JSON.
#[derive(Debug, Serialize)]
struct SearchReport {
    schema: &'static str,
    over: &'static str,
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
    let (holds, fails) = search.bracket()?;
    let (holds, fails) = search.bisect(holds, fails)?;
    let null_peer = holds.map_or(Ok(None), |holds| search.probe_null_peer(fails.unwrap_or(holds)))?;
    let limited_by = search.runs.iter().rev().find(|probe| !probe.held).map(|probe| probe.broken.clone());
    let report = SearchReport {
        schema: "ringrelay.loadgen.search/1",
        over: args.over.name(),
        holds,
        fails,
        limited_by: limited_by.unwrap_or_default(),
        null_peer,
        runs: search.runs,
    };
    let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.0}"));
    let is_own_limit = null_peer.is_some_and(|probe| !probe.held);
    if !is_own_limit && !is_json_on_stdout(args.run.target.json.as_deref()) {
        println!("{}: holds at {}, fails at {}", report.over, number(report.holds), number(report.fails));
        report.limited_by.iter().for_each(|clause| println!("limited by {clause}"));
    }
    if let Some(path) = &args.run.target.json {
        write_json(path, &report)?;
    }
    if let Some(probe) = null_peer.filter(|_| is_own_limit) {
        return Err((
            Exit::Invalid,
            format!(
                "at {:.0} the SLO does not hold against a null peer either: the limit is the generator's, or this machine's",
                probe.value
            ),
        ));
    }
    Ok(if report.holds.is_some() { Exit::Held } else { Exit::NotHeld })
}

impl Search<'_> {
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
            let held = report.slo.held == Some(true);
            let p99_us = report.latency_us.response_with_lost.p99;
            let ceiling_share = ceiling.map(|ceiling| report.received_per_s() / ceiling.received_per_s);
            let outcome = if held { "holds" } else { "fails" };
            let (p99_ms, share) = (p99_us.unwrap_or(0.0) / 1000.0, ceiling_share.unwrap_or(0.0) * 100.0);
            eprintln!("null peer at {value:.0}: {outcome}, p99 {p99_ms:.2} ms, {share:.0} % of the own ceiling");
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
        if signal::asked_to_stop() {
            return Err((Exit::Failed, "stopped by a signal".into()));
        }
        let args = self.args_at(value);
        let (load, slo) = run_load(&args)?;
        let env = Env::read(args.target.url.as_deref().unwrap_or_default(), load.seed, load.measure_ns as f64 / 1e9);
        let (found, facts) = find(load, &args.target, None, slo.as_ref(), &mut self.live)?;
        let report = Report::new(&facts, &found, slo.as_ref(), env);
        let held = report.slo.held == Some(true);
        let broken = report.slo.clauses.iter().filter(|clause| clause.held == Some(false));
        self.runs.push(Probe {
            value,
            held,
            verdict: report.verdict,
            p99_us: report.latency_us.response_with_lost.p99,
            reach: report.reach,
            deliveries_per_s: report.deliveries_per_s,
            broken: broken.map(|clause| clause.clause.clone()).collect(),
        });
        let outcome = if held { "holds" } else { "fails" };
        let p99_ms = report.latency_us.response.p99.unwrap_or(0.0) / 1000.0;
        eprintln!("{} {value:.0}: {outcome}, p99 {p99_ms:.2} ms, {:?}", self.args.over.name(), report.verdict);
        if let Some(failure) = report.failure.filter(|_| found.connections.opened < found.connections.asked) {
            return Err((Exit::Failed, failure));
        }
        if !held && report.verdict == Verdict::Invalid && is_own_fault(slo.as_ref(), &report.latency_us.lateness.p99) {
            return Err((
                Exit::Invalid,
                format!("the generator is the bottleneck at {value:.0}: {}", report.reasons.join("; ")),
            ));
        }
        Ok(held)
    }
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
