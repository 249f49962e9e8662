//! What was measured, and how far beyond it a plan may go.

use serde::Serialize;

use super::{Observation, Shape};

/// A plan may ask for so many times of what was measured.
const BEYOND_MAX: f64 = 2.0;

/// One dimension of the loads that were measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Range {
    pub(crate) of: &'static str,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

type Dimension = (&'static str, fn(&Shape) -> f64);

const DIMENSIONS: [Dimension; 6] = [
    ("topics", |shape| f64::from(shape.topics)),
    ("connections", Shape::connections),
    ("connections per topic", Shape::connections_per_topic),
    ("messages per second", |shape| shape.rate),
    ("deliveries per second", Shape::deliveries),
    ("bytes per message", |shape| shape.size as f64),
];

/// All dimensions. Runs in which nothing was sent say nothing about rates and sizes.
pub(crate) fn ranges(observations: &[Observation]) -> Vec<Range> {
    let sending = || observations.iter().filter(|o| o.work.sends > 0.0);
    let range = |(of, value): Dimension| {
        let values = || sending().map(move |o| value(&o.shape));
        Range { of, low: values().fold(f64::INFINITY, f64::min), high: values().fold(0.0, f64::max) }
    };
    DIMENSIONS.map(range).to_vec()
}

/// # Errors
/// A sentence that names every dimension in which the load lies beyond twice what was measured.
pub(crate) fn check(shape: &Shape, observations: &[Observation]) -> Result<(), String> {
    let ranges = ranges(observations);
    let beyond = DIMENSIONS.iter().zip(&ranges).filter(|((_, value), range)| value(shape) > BEYOND_MAX * range.high);
    let told: Vec<String> = beyond
        .map(|((of, value), range)| {
            format!("{:.0} {of}, measured were {:.0} to {:.0}", value(shape), range.low, range.high)
        })
        .collect();
    if told.is_empty() {
        return Ok(());
    }
    Err(format!("that lies beyond twice the measured range: {}. Measure with a load as large as that", told.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::{observations, shape};
    use super::*;

    #[test]
    fn twice_is_allowed_and_more_is_refused_with_the_dimension() {
        let measured = observations(0.0, 1);
        assert_eq!(check(&shape(1, 1000, 500.0, 1, 64), &measured), Ok(()));
        assert_eq!(check(&shape(20, 2000, 900.0, 1, 2048), &measured), Ok(()));
        for (shape, said) in [
            (shape(1, 2100, 50.0, 1, 64), "2101 connections, measured were 61 to 1010"),
            (shape(21, 100, 50.0, 1, 64), "21 topics, measured were 1 to 10"),
            (shape(1, 100, 1001.0, 1, 64), "1001 messages per second, measured were 50 to 500"),
            (shape(1, 1000, 50.0, 1, 2049), "2049 bytes per message, measured were 64 to 1024"),
            (shape(1, 1900, 990.0, 1, 64), "deliveries per second"),
        ] {
            let refused = check(&shape, &measured).unwrap_err();
            assert!(refused.contains("twice") && refused.contains(said), "{refused}");
        }
    }
}
