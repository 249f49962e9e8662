//! Reports of several processes or hosts become one: counts add up, distributions are added value by value, shares
//! are the worst of them, and the SLO is judged anew by the whole.

use std::collections::BTreeMap;

use crate::measure::recorder::Recorder;
use crate::report::latency::{Distributions, Histograms};
use crate::report::process::CeilingReport;
use crate::report::slo::Slo;
use crate::report::verdict::Verdict;
use crate::report::{Report, SecondReport, StormReport};

/// Runs that began further apart were no runs at the same time.
const APART_S_MAX: f64 = 1.0;

/// Merges at least one report.
///
/// # Errors
/// A sentence, when the reports do not belong together or a histogram in them cannot be read.
pub(crate) fn merge(reports: &[Report]) -> Result<Report, String> {
    let (first, rest) = reports.split_first().ok_or("there is no report to merge")?;
    if let Some(other) = rest.iter().find(|other| other.mode != first.mode) {
        return Err(format!("reports of an {} and of an {} run do not add up", first.mode, other.mode));
    }
    let mut whole = first.clone();
    rest.iter().for_each(|report| add(&mut whole, report));
    whole.reach = (whole.expected > 0).then(|| whole.received as f64 / whole.expected as f64);
    let apart_s = seconds_apart(reports);
    if apart_s > APART_S_MAX {
        whole.verdict = whole.verdict.max(Verdict::Degraded);
        whole
            .reasons
            .push(format!("the runs began {apart_s:.1} s apart (--start-at lines them up): rates do not add up"));
    }
    whole.reasons = distinct(&whole.reasons);
    whole.connections.ramp = ramp(reports);
    let sum = |pick: fn(&Histograms) -> &String| -> Result<Recorder, String> {
        let mut sum = Recorder::new();
        for report in reports {
            let part = Recorder::decode(pick(&report.histograms)).ok_or("a histogram in the reports cannot be read")?;
            sum.add(&part);
        }
        Ok(sum)
    };
    let (response, service) = (sum(|h| &h.response)?, sum(|h| &h.service)?);
    let (lateness, completion) = (sum(|h| &h.lateness)?, sum(|h| &h.completion)?);
    let (spread, handshake) = (sum(|h| &h.spread)?, sum(|h| &h.handshake)?);
    let distributions = Distributions {
        response: &response,
        service: &service,
        lateness: &lateness,
        completion: &completion,
        spread: &spread,
        handshake: &handshake,
    };
    whole.latency_us = distributions.latencies(whole.lost + whole.corrupted);
    whole.curves = distributions.curves();
    whole.histograms = distributions.histograms();
    whole.seconds = seconds(reports);
    // A quantile of the whole may hold where one of the parts does not, and the other way round.
    let clauses: Vec<String> = whole.slo.clauses.iter().map(|clause| clause.clause.clone()).collect();
    if !clauses.is_empty() {
        whole.slo = Slo::parse(&distinct(&clauses).join(","))?.judge(&whole);
    }
    Ok(whole)
}

fn add(whole: &mut Report, part: &Report) {
    whole.verdict = whole.verdict.max(part.verdict);
    whole.reasons.extend(part.reasons.iter().cloned());
    whole.failure = whole.failure.take().or_else(|| part.failure.clone());
    whole.slo.clauses.extend(part.slo.clauses.iter().cloned());
    // The server's CPU time belongs to the deliveries of all.
    let rate = Report::received_per_s;
    let share = rate(whole) / (rate(whole) + rate(part)).max(f64::MIN_POSITIVE);
    let opened = |report: &Report| report.connections.opened.max(1) as f64;
    let connections_share = opened(whole) / (opened(whole) + opened(part));
    match (&mut whole.server, &part.server) {
        (server @ None, Some(other)) => server.insert(*other).spread_over(1.0 - share, 1.0 - connections_share),
        // Each process saw the same server; the first one's figures stand.
        (Some(server), _) => server.spread_over(share, connections_share),
        (None, None) => {}
    }
    for (sum, more) in [
        (&mut whole.scheduled, part.scheduled),
        (&mut whole.sent, part.sent),
        (&mut whole.expected, part.expected),
        (&mut whole.received, part.received),
        (&mut whole.lost, part.lost),
        (&mut whole.missed, part.missed),
        (&mut whole.duplicated, part.duplicated),
        (&mut whole.reordered, part.reordered),
        (&mut whole.corrupted, part.corrupted),
        (&mut whole.foreign, part.foreign),
        (&mut whole.misrouted, part.misrouted),
        (&mut whole.heard, part.heard),
        (&mut whole.connections.asked, part.connections.asked),
        (&mut whole.connections.opened, part.connections.opened),
        (&mut whole.connections.failed, part.connections.failed),
        (&mut whole.connections.ended, part.connections.ended),
        (&mut whole.connections.left, part.connections.left),
        (&mut whole.connections.slow, part.connections.slow),
        (&mut whole.connections.slow_ended, part.connections.slow_ended),
    ] {
        *sum += more;
    }
    for (reason, count) in &part.connections.reasons {
        *whole.connections.reasons.entry(reason.clone()).or_default() += count;
    }
    whole.connections.connect_seconds = whole.connections.connect_seconds.max(part.connections.connect_seconds);
    whole.deliveries_per_s += part.deliveries_per_s;
    whole.sent_per_s += part.sent_per_s;
    whole.server_metrics.extend(part.server_metrics.iter().map(|(name, pair)| (name.clone(), *pair)));
    whole.storm = match (whole.storm, part.storm) {
        (Some(ours), Some(more)) => Some(StormReport {
            cut: ours.cut + more.cut,
            recovered: ours.recovered + more.recovered,
            failed_attempts: ours.failed_attempts + more.failed_attempts,
            recovery_us: ours.recovery_us.worse(&more.recovery_us),
        }),
        (ours, other) => ours.or(other),
    };
    whole.events.extend(part.events.iter().cloned());
    let received_per_s = whole.received_per_s();
    let (generator, more) = (&mut whole.generator, &part.generator);
    generator.threads += more.threads;
    generator.cpu_share += more.cpu_share;
    generator.cpu_us_per_received = (received_per_s > 0.0).then(|| generator.cpu_share * 1e6 / received_per_s);
    generator.stamping_us = generator.stamping_us.worse(&more.stamping_us);
    generator.busy_share_max = generator.busy_share_max.max(more.busy_share_max);
    generator.run_delay_share = generator.run_delay_share.max(more.run_delay_share);
    generator.ceiling = match (generator.ceiling.take(), &more.ceiling) {
        (Some(ours), Some(other)) => Some(CeilingReport {
            received_per_s: ours.received_per_s + other.received_per_s,
            share: ours.share.max(other.share),
            ..ours
        }),
        // Of some of the processes it says nothing about all.
        _ => None,
    };
    generator.steal_share = generator.steal_share.max(more.steal_share);
}

/// How far apart the first and the last of the runs began.
fn seconds_apart(reports: &[Report]) -> f64 {
    let began = || reports.iter().filter_map(|report| report.env.started_at);
    (began().fold(f64::MIN, f64::max) - began().fold(f64::MAX, f64::min)).max(0.0)
}

fn distinct(texts: &[String]) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::new();
    for text in texts {
        if !distinct.contains(text) {
            distinct.push(text.clone());
        }
    }
    distinct
}

/// Connections that are open in all of them together, by the time since the first connect of each.
fn ramp(reports: &[Report]) -> Vec<(f64, u64)> {
    let mut times: Vec<f64> = reports.iter().flat_map(|report| &report.connections.ramp).map(|(at, _)| *at).collect();
    times.sort_by(f64::total_cmp);
    let open_at = |time: f64, ramp: &[(f64, u64)]| match ramp.partition_point(|(at, _)| *at <= time) {
        0 => 0,
        count => ramp[count - 1].1,
    };
    let sum = |time| reports.iter().map(|report| open_at(time, &report.connections.ramp)).sum();
    times.into_iter().map(|time| (time, sum(time))).collect()
}

/// Rates add up; of the quantiles only the maximum can be told.
fn seconds(reports: &[Report]) -> Vec<SecondReport> {
    let mut seconds: BTreeMap<u64, SecondReport> = BTreeMap::new();
    for second in reports.iter().flat_map(|report| &report.seconds) {
        let sum = seconds.entry(second.at).or_insert(SecondReport {
            sent: 0,
            delivered: 0,
            open: 0,
            p50_us: None,
            p99_us: None,
            max_us: None,
            ..*second
        });
        sum.sent += second.sent;
        sum.delivered += second.delivered;
        sum.open += second.open;
        sum.max_us = sum.max_us.into_iter().chain(second.max_us).reduce(f64::max);
    }
    seconds.into_values().collect()
}
