//! Reports of several processes or hosts become one: counts add up, distributions are added value by value, shares
//! are the worst of them.

use std::collections::BTreeMap;

use crate::measure::recorder::Recorder;
use crate::report::latency::{Distributions, Histograms};
use crate::report::process::CeilingReport;
use crate::report::{Report, SecondReport};

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
    whole.reasons.dedup();
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
    Ok(whole)
}

fn add(whole: &mut Report, part: &Report) {
    whole.verdict = whole.verdict.max(part.verdict);
    whole.reasons.extend(part.reasons.iter().cloned());
    whole.failure = whole.failure.take().or_else(|| part.failure.clone());
    whole.slo.held = match (whole.slo.held, part.slo.held) {
        (Some(a), Some(b)) => Some(a && b),
        (a, b) => a.or(b),
    };
    whole.slo.clauses.extend(part.slo.clauses.iter().cloned());
    // The server's CPU time belongs to the deliveries of all.
    let rate = Report::received_per_s;
    let share = rate(whole) / (rate(whole) + rate(part)).max(f64::MIN_POSITIVE);
    match (&mut whole.server, &part.server) {
        (Some(server), None) => server.spread_over(share),
        (server @ None, Some(other)) => server.insert(*other).spread_over(1.0 - share),
        // Each process saw the same server; the first one's figures stand.
        (Some(server), Some(_)) => server.spread_over(share),
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
    let (generator, more) = (&mut whole.generator, &part.generator);
    generator.threads += more.threads;
    generator.cpu_share += more.cpu_share;
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
