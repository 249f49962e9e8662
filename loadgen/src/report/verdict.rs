//! Can the figures be trusted? The generator judges itself before it shows anything about the server.

use serde::{Deserialize, Serialize};

use super::Report;

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
const STEAL_SHARE: Limit = Limit { degraded: 0.02, invalid: 0.1 };

/// Judges a report by what it says about the generator; `latency_limit_us` is the SLO's, if it has one.
pub(crate) fn judge(report: &Report, latency_limit_us: Option<f64>) -> (Verdict, Vec<String>) {
    let mut judged = Judged { verdict: Verdict::Valid, reasons: Vec::new() };
    let generator = &report.generator;
    if report.scheduled > 0 {
        let unsent = 1.0 - report.sent as f64 / report.scheduled as f64;
        judged.hold(unsent, &UNSENT_SHARE, |share| {
            format!("{:.2} % of the scheduled messages were not sent", share * 100.0)
        });
    }
    let scale_us = latency_limit_us.or(report.latency_us.response.p99).unwrap_or(0.0).max(1.0);
    let lateness_us = report.latency_us.lateness.p99.unwrap_or(0.0);
    if report.mode == "open_loop" && lateness_us > LATENESS_FLOOR_US {
        judged.hold(lateness_us / scale_us, &LATENESS_SHARE, |share| {
            format!(
                "messages left late: p99 {:.1} ms, {:.0} % of the latency in question",
                lateness_us / 1000.0,
                share * 100.0
            )
        });
    }
    let stamping_us = generator.stamping_us.p99.unwrap_or(0.0);
    if report.mode == "open_loop" && stamping_us > STAMPING_FLOOR_US {
        judged.hold(stamping_us / scale_us, &STAMPING_SHARE, |share| {
            format!(
                "arrivals waited for their time stamp: p99 up to {:.1} ms, {:.0} % of the latency in question",
                stamping_us / 1000.0,
                share * 100.0
            )
        });
    }
    judged.hold(generator.busy_share_max, &BUSY_SHARE, |share| {
        format!("the busiest generator thread was busy {:.0} % of the time", share * 100.0)
    });
    judged.hold(generator.run_delay_share, &RUN_DELAY_SHARE, |share| {
        format!("the generator waited for a core {:.0} % of the time", share * 100.0)
    });
    judged.hold(generator.steal_share, &STEAL_SHARE, |share| {
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
