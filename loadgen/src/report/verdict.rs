//! Can the figures be trusted? The generator judges itself before it shows anything about the server.

use serde::{Deserialize, Serialize};

use super::{CLOSED_LOOP, Report};

/// What a run is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verdict {
    /// The figures are the server's.
    Valid,
    /// The generator had a part in them; the reasons say which.
    Degraded,
    /// The generator was the bottleneck.
    Invalid,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Valid => "VALID",
            Self::Degraded => "DEGRADED",
            Self::Invalid => "INVALID",
        }
    }
}

/// What stands in the place of the figures of an INVALID run.
pub(super) const NO_FIGURES: &str =
    "The generator was the bottleneck: no figures are shown. They are in the JSON (--json).";

/// Limits above which a run is degraded, and above which it is invalid.
struct Limit {
    degraded: f64,
    invalid: f64,
}

/// Lateness p99 as a share of the latency that the SLO asks for (without one, of the response p99).
const LATENESS_SHARE: Limit = Limit { degraded: 0.1, invalid: 0.5 };
/// Lateness below this never matters, in us: what a timer and a busy loop cost.
const LATENESS_FLOOR_US: f64 = 500.0;
/// Time that what had arrived may have waited for its stamp, p99, as a share of the same latency.
const STAMPING_SHARE: Limit = Limit { degraded: 0.5, invalid: f64::INFINITY };
const STAMPING_FLOOR_US: f64 = 2000.0;
/// Messages that the schedule wanted and that were not sent.
const UNSENT_SHARE: Limit = Limit { degraded: 0.001, invalid: 0.01 };
/// The busiest thread's share of time in which it did not wait. Waiting for a core counts as busy.
const BUSY_SHARE: Limit = Limit { degraded: 0.85, invalid: 0.97 };
/// Time in which threads were ready but had no core.
const RUN_DELAY_SHARE: Limit = Limit { degraded: 0.1, invalid: 0.5 };
/// What was received, as a share of the generator's own ceiling.
const CEILING_SHARE: Limit = Limit { degraded: 0.8, invalid: 0.95 };
const STEAL_SHARE: Limit = Limit { degraded: 0.02, invalid: 0.1 };

/// What a run, or the part of it that is over, says about the generator. Shares lie between 0 and 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Evidence {
    pub(crate) is_closed_loop: bool,
    pub(crate) scheduled: u64,
    pub(crate) sent: u64,
    /// The latency in question: the SLO's limit, or without one the response p99.
    pub(crate) latency_us: Option<f64>,
    pub(crate) lateness_p99_us: Option<f64>,
    pub(crate) stamping_p99_us: Option<f64>,
    pub(crate) busy_share_max: f64,
    pub(crate) run_delay_share: f64,
    pub(crate) steal_share: f64,
    /// 0 where it is not known.
    pub(crate) ceiling_share: f64,
}

impl Evidence {
    /// `latency_limit_us` is the SLO's, if it has one.
    pub(super) fn of(report: &Report, latency_limit_us: Option<f64>) -> Self {
        let (latency, generator) = (&report.latency_us, &report.generator);
        Self {
            is_closed_loop: report.mode == CLOSED_LOOP,
            scheduled: report.scheduled,
            sent: report.sent,
            latency_us: latency_limit_us.or(latency.response.p99),
            lateness_p99_us: latency.lateness.p99,
            stamping_p99_us: generator.stamping_us.p99,
            busy_share_max: generator.busy_share_max,
            run_delay_share: generator.run_delay_share,
            steal_share: generator.steal_share,
            ceiling_share: generator.ceiling.as_ref().map_or(0.0, |ceiling| ceiling.share),
        }
    }
}

/// Judges the generator by the evidence: the verdict, and why it is not VALID.
pub(crate) fn judge(evidence: &Evidence) -> (Verdict, Vec<String>) {
    let mut judged = Judged { verdict: Verdict::Valid, reasons: Vec::new() };
    if evidence.scheduled > 0 {
        let unsent = 1.0 - evidence.sent as f64 / evidence.scheduled as f64;
        judged.hold(unsent, &UNSENT_SHARE, |share| {
            format!("{:.2} % of the scheduled messages were not sent", share * 100.0)
        });
    }
    if !evidence.is_closed_loop {
        let scale_us = evidence.latency_us.unwrap_or(0.0).max(1.0);
        for (us, floor_us, limit, what) in [
            (evidence.lateness_p99_us, LATENESS_FLOOR_US, &LATENESS_SHARE, "messages left late: p99"),
            (
                evidence.stamping_p99_us,
                STAMPING_FLOOR_US,
                &STAMPING_SHARE,
                "arrivals waited for their time stamp: p99 up to",
            ),
        ] {
            let Some(us) = us.filter(|us| *us > floor_us) else { continue };
            judged.hold(us / scale_us, limit, |share| {
                format!("{what} {:.1} ms, {:.0} % of the latency in question", us / 1000.0, share * 100.0)
            });
        }
    }
    judged.hold(evidence.busy_share_max, &BUSY_SHARE, |share| {
        format!("the busiest generator thread was busy {:.0} % of the time", share * 100.0)
    });
    judged.hold(evidence.ceiling_share, &CEILING_SHARE, |share| {
        format!("{:.0} % of what the generator takes from a null peer at most", share * 100.0)
    });
    judged.hold(evidence.run_delay_share, &RUN_DELAY_SHARE, |share| {
        format!("the generator waited for a core {:.0} % of the time", share * 100.0)
    });
    judged.hold(evidence.steal_share, &STEAL_SHARE, |share| {
        format!("the hypervisor took {:.1} % of the machine's time", share * 100.0)
    });
    (judged.verdict, judged.reasons)
}

struct Judged {
    verdict: Verdict,
    reasons: Vec<String>,
}

impl Judged {
    fn hold(&mut self, value: f64, limit: &Limit, reason: impl Fn(f64) -> String) {
        let verdict = match value {
            v if v > limit.invalid => Verdict::Invalid,
            v if v > limit.degraded => Verdict::Degraded,
            _ => return,
        };
        self.verdict = self.verdict.max(verdict);
        self.reasons.push(reason(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_of_evidence_degrades_and_then_invalidates_with_its_own_reason() {
        let sound = Evidence {
            scheduled: 1000,
            sent: 1000,
            latency_us: Some(10_000.0),
            lateness_p99_us: Some(400.0),
            ..Evidence::default()
        };
        assert_eq!(judge(&sound), (Verdict::Valid, vec![]));
        let cases: [(&str, Evidence, Evidence); 6] = [
            ("not sent", Evidence { sent: 995, ..sound }, Evidence { sent: 900, ..sound }),
            (
                "left late: p99 2.0 ms",
                Evidence { lateness_p99_us: Some(2000.0), ..sound },
                Evidence { lateness_p99_us: Some(2000.0), latency_us: Some(3000.0), ..sound },
            ),
            ("busy", Evidence { busy_share_max: 0.9, ..sound }, Evidence { busy_share_max: 0.99, ..sound }),
            ("null peer", Evidence { ceiling_share: 0.85, ..sound }, Evidence { ceiling_share: 0.97, ..sound }),
            ("a core", Evidence { run_delay_share: 0.2, ..sound }, Evidence { run_delay_share: 0.6, ..sound }),
            ("hypervisor", Evidence { steal_share: 0.05, ..sound }, Evidence { steal_share: 0.2, ..sound }),
        ];
        for (said, worse, worst) in cases {
            for (evidence, verdict) in [(worse, Verdict::Degraded), (worst, Verdict::Invalid)] {
                let (judged, reasons) = judge(&evidence);
                assert!(judged == verdict && reasons.len() == 1 && reasons[0].contains(said), "{said}: {reasons:?}");
            }
        }
        let stamped = Evidence { stamping_p99_us: Some(6000.0), ..sound };
        assert!(judge(&stamped).1[0].contains("time stamp: p99 up to 6.0 ms, 60 %"));
        assert_eq!(judge(&Evidence { is_closed_loop: true, ..stamped }).0, Verdict::Valid);
    }
}
