//! Service level objectives: `p99<20ms,reach>=1`.

use serde::{Deserialize, Serialize};

use super::latency::Summary;
use super::{CLOSED_LOOP, Report};
use crate::cli::units;

/// What must hold, all of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slo {
    clauses: Vec<Clause>,
}

/// How an objective came out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SloReport {
    /// `null`: there was none, or the run cannot judge it.
    pub(crate) held: Option<bool>,
    pub(crate) clauses: Vec<ClauseReport>,
}

/// How one clause came out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClauseReport {
    pub(crate) clause: String,
    pub(crate) value: Option<f64>,
    pub(crate) held: Option<bool>,
}

#[derive(Debug, Clone, PartialEq)]
struct Clause {
    text: String,
    metric: Metric,
    comparison: Comparison,
    /// In us for latencies.
    limit: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A figure of a report that rules can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    Latency(Distribution, Quantile),
    Reach,
    Lost,
    Duplicated,
    Reordered,
    Corrupted,
    DeliveriesPerS,
    CpuUsPerDelivery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distribution {
    Response,
    Service,
    Completion,
    Handshake,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantile {
    P50,
    P90,
    P99,
    P999,
    Max,
}

impl Slo {
    /// Clauses `METRIC OP LIMIT` with commas between them. METRIC is `p50 p90 p99 p99.9 max` (of the response; of
    /// another distribution as `completion.p99`), `reach lost duplicated reordered corrupted deliveries_per_s
    /// cpu_us_per_delivery`; OP is `< <= > >=`; limits of latencies have a unit.
    ///
    /// # Errors
    /// A sentence that names the clause and what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let clauses = text.split(',').map(str::trim).filter(|clause| !clause.is_empty());
        let clauses = clauses.map(Clause::parse).collect::<Result<Vec<_>, _>>()?;
        if clauses.is_empty() { Err("an SLO needs a clause, like p99<20ms".into()) } else { Ok(Self { clauses }) }
    }

    /// The lowest upper limit of a response latency, in us: what the generator's own errors are compared with.
    pub(crate) fn latency_limit_us(&self) -> Option<f64> {
        let of_response = |clause: &&Clause| {
            matches!(clause.metric, Metric::Latency(Distribution::Response | Distribution::Completion, _))
                && matches!(clause.comparison, Comparison::Less | Comparison::LessOrEqual)
        };
        self.clauses.iter().filter(of_response).map(|clause| clause.limit).reduce(f64::min)
    }

    /// Judges a report. In a closed loop no latency is judged.
    pub(crate) fn judge(&self, report: &Report) -> SloReport {
        let clauses: Vec<ClauseReport> = self.clauses.iter().map(|clause| clause.judge(report)).collect();
        let held = match clauses.iter().filter_map(|clause| clause.held).reduce(|a, b| a && b) {
            Some(true) if report.failure.is_some() => Some(false),
            other => other,
        };
        SloReport { held, clauses }
    }
}

impl Clause {
    fn parse(text: &str) -> Result<Self, String> {
        let at = text.find(['<', '>']).ok_or_else(|| format!("SLO {text:?}: there is no < or > in it"))?;
        let (name, rest) = text.split_at(at);
        let (comparison, limit) = match rest.as_bytes() {
            [b'<', b'=', ..] => (Comparison::LessOrEqual, &rest[2..]),
            [b'<', ..] => (Comparison::Less, &rest[1..]),
            [_, b'=', ..] => (Comparison::GreaterOrEqual, &rest[2..]),
            _ => (Comparison::Greater, &rest[1..]),
        };
        let metric = Metric::parse(name.trim()).ok_or_else(|| {
            format!("SLO {text:?}: {:?} is none of p50 p90 p99 p99.9 max [service. completion. handshake.] reach lost duplicated reordered corrupted deliveries_per_s cpu_us_per_delivery", name.trim())
        })?;
        let limit = match metric {
            Metric::Latency(..) => units::duration_ns(limit.trim()).map(|ns| ns as f64 / 1000.0),
            _ => limit.trim().parse().map_err(|_| format!("{:?} is no number", limit.trim())),
        };
        Ok(Self { text: text.to_owned(), metric, comparison, limit: limit.map_err(|e| format!("SLO {text:?}: {e}"))? })
    }

    fn judge(&self, report: &Report) -> ClauseReport {
        let value = self.metric.value(report);
        let holds = |value: f64| match self.comparison {
            Comparison::Less => value < self.limit,
            Comparison::LessOrEqual => value <= self.limit,
            Comparison::Greater => value > self.limit,
            Comparison::GreaterOrEqual => value >= self.limit,
        };
        let is_latency = self.metric.is_latency();
        let held = match value {
            _ if is_latency && report.mode == CLOSED_LOOP => None,
            // A quantile that lies among the lost is above any limit.
            None => Some(is_latency && matches!(self.comparison, Comparison::Greater | Comparison::GreaterOrEqual)),
            Some(value) => Some(holds(value)),
        };
        ClauseReport { clause: self.text.clone(), value, held }
    }
}

impl Metric {
    /// By its name, as [`Slo::parse`] says; `None`: there is none of this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "reach" => Self::Reach,
            "lost" => Self::Lost,
            "duplicated" => Self::Duplicated,
            "reordered" => Self::Reordered,
            "corrupted" => Self::Corrupted,
            "deliveries_per_s" => Self::DeliveriesPerS,
            "cpu_us_per_delivery" => Self::CpuUsPerDelivery,
            latency => {
                let (distribution, quantile) = match latency.split_once('.') {
                    Some(("response", quantile)) => (Distribution::Response, quantile),
                    Some(("service", quantile)) => (Distribution::Service, quantile),
                    Some(("completion", quantile)) => (Distribution::Completion, quantile),
                    Some(("handshake", quantile)) => (Distribution::Handshake, quantile),
                    _ => (Distribution::Response, latency),
                };
                let quantile = match quantile {
                    "p50" => Quantile::P50,
                    "p90" => Quantile::P90,
                    "p99" => Quantile::P99,
                    "p99.9" | "p99_9" => Quantile::P999,
                    "max" => Quantile::Max,
                    _ => return None,
                };
                Self::Latency(distribution, quantile)
            }
        })
    }

    pub(crate) fn is_latency(self) -> bool {
        matches!(self, Self::Latency(..))
    }

    /// More of it is better.
    pub(crate) fn is_better_high(self) -> bool {
        matches!(self, Self::Reach | Self::DeliveriesPerS)
    }

    /// What a report says; `None`: it was not measured, or the quantile lies among the lost.
    pub(crate) fn value(self, report: &Report) -> Option<f64> {
        match self {
            Self::Latency(distribution, quantile) => {
                let of = distribution.of(report);
                match quantile {
                    Quantile::P50 => of.p50,
                    Quantile::P90 => of.p90,
                    Quantile::P99 => of.p99,
                    Quantile::P999 => of.p99_9,
                    Quantile::Max => of.max,
                }
            }
            Self::Reach => report.reach,
            Self::Lost => Some(report.lost as f64),
            Self::Duplicated => Some(report.duplicated as f64),
            Self::Reordered => Some(report.reordered as f64),
            Self::Corrupted => Some(report.corrupted as f64),
            Self::DeliveriesPerS => Some(report.deliveries_per_s),
            Self::CpuUsPerDelivery => report.server.and_then(|server| server.cpu_us_per_delivery),
        }
    }

    /// The same for comparing: what lies among the lost is beyond any figure, and only what was not measured is `None`.
    pub(crate) fn comparable(self, report: &Report) -> Option<f64> {
        let beyond = match self {
            Self::Latency(distribution, _) if distribution.of(report).count > 0 => Some(f64::INFINITY),
            _ => None,
        };
        self.value(report).or(beyond)
    }
}

impl Distribution {
    fn of(self, report: &Report) -> &Summary {
        let latency = &report.latency_us;
        match self {
            // What is lost was not in time.
            Self::Response => &latency.response_with_lost,
            Self::Service => &latency.service,
            Self::Completion => &latency.completion,
            Self::Handshake => &latency.handshake,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_are_read_with_their_units() {
        let slo = Slo::parse("p99<20ms, completion.p99.9<=1.5s,reach>=1,lost<1").unwrap();
        let limits: Vec<f64> = slo.clauses.iter().map(|clause| clause.limit).collect();
        assert_eq!(limits, [20_000.0, 1_500_000.0, 1.0, 1.0]);
        assert_eq!(slo.clauses[1].metric, Metric::Latency(Distribution::Completion, Quantile::P999));
        assert_eq!(slo.latency_limit_us(), Some(20_000.0));
    }

    #[test]
    fn wrong_clauses_say_what_is_wrong() {
        for (text, reason) in [
            ("", "needs"),
            ("p99=3ms", "no < or >"),
            ("p98<3ms", "none of"),
            ("p99<3", "unit"),
            ("reach>x", "no number"),
        ] {
            let error = Slo::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
