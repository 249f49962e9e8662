//! How far the model can be trusted: leave-one-out errors, and from them intervals.
//!
//! An interval is that of another run, not of the mean: a bootstrap refits the model to resampled residuals and adds an
//! error that the model made in the back-test, where it had to foretell a run that it had not seen.

use serde::Serialize;

use super::model::Model;
use super::{Observation, Shape};
use crate::rng::Rng;

/// Refits per interval.
const REPLICATES: usize = 400;

/// Half of what lies outside the interval of 95 %.
const TAIL: f64 = 0.025;

/// With fewer runs the costs are not determined.
pub(crate) const OBSERVATIONS_MIN: usize = 8;

/// A figure and the interval that another run's lies in with 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Interval {
    pub(crate) estimate: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Each run foretold from its shape alone, by costs fitted to all others.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BackTest {
    pub(crate) runs: Vec<Foretold>,
    /// Of the errors without their signs.
    pub(crate) error_median: f64,
    pub(crate) error_max: f64,
}

/// One of them; runs that take next to no CPU time are not among them.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Foretold {
    pub(crate) shape: Shape,
    pub(crate) cores_measured: f64,
    pub(crate) cores_foretold: f64,
    /// Measured / foretold − 1.
    pub(crate) error: f64,
}

/// A model with everything that an interval needs.
#[derive(Debug, Clone)]
pub(crate) struct Estimator {
    pub(crate) model: Model,
    pub(crate) back_test: BackTest,
    shards: u32,
    replicates: Vec<(Model, f64)>,
}

impl Estimator {
    /// From at least [`OBSERVATIONS_MIN`] runs against a server of so many shards.
    pub(crate) fn new(observations: &[Observation], shards: u32) -> Self {
        let model = Model::fit(observations, shards);
        let back_test = BackTest::new(observations, shards);
        let replicates = replicates(&model, observations, &back_test, shards);
        Self { model, back_test, shards, replicates }
    }

    /// CPU time of a load in cores, spread over so many.
    pub(crate) fn cores(&self, shape: &Shape, shards: u32) -> Interval {
        self.interval(self.model.cores(shape, shards), |model, error| model.cores(shape, shards) * (1.0 + error))
    }

    pub(crate) fn rss_bytes(&self, shape: &Shape) -> Interval {
        self.interval(self.model.rss_bytes(shape), |model, _| model.rss_bytes(shape))
    }

    /// A figure of the model itself, like one of its prices.
    pub(crate) fn figure(&self, figure: impl Fn(&Model) -> f64) -> Interval {
        self.interval(figure(&self.model), |model, _| figure(model))
    }

    /// The shards of the server that was measured.
    pub(crate) fn shards(&self) -> u32 {
        self.shards
    }

    fn interval(&self, estimate: f64, value: impl Fn(&Model, f64) -> f64) -> Interval {
        let mut values: Vec<f64> = self.replicates.iter().map(|(model, error)| value(model, *error)).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
        Interval { estimate, low: at(TAIL).min(estimate), high: at(1.0 - TAIL).max(estimate) }
    }
}

impl BackTest {
    fn new(observations: &[Observation], shards: u32) -> Self {
        let mut runs = Vec::new();
        for left_out in observations.iter().filter(|o| o.work.sends > 0.0) {
            let mut others = observations.to_vec();
            // Its repetitions would give it away.
            others.retain(|other| !is_same(&other.shape, &left_out.shape));
            if others.is_empty() {
                continue;
            }
            let cores_foretold = Model::fit(&others, shards).cores(&left_out.shape, shards);
            let cores_measured = left_out.cpu_us / 1e6;
            let error = cores_measured / cores_foretold.max(f64::MIN_POSITIVE) - 1.0;
            runs.push(Foretold { shape: left_out.shape, cores_measured, cores_foretold, error });
        }
        let mut errors: Vec<f64> = runs.iter().map(|run| run.error.abs()).collect();
        errors.sort_by(f64::total_cmp);
        Self {
            error_median: errors.get(errors.len() / 2).copied().unwrap_or(0.0),
            error_max: errors.last().copied().unwrap_or(0.0),
            runs,
        }
    }
}

/// The same load was asked for; what came through may differ a little.
fn is_same(a: &Shape, b: &Shape) -> bool {
    let wanted = |shape: &Shape| (shape.topics, shape.subscribers, shape.burst, shape.size);
    wanted(a) == wanted(b) && (a.rate / b.rate.max(f64::MIN_POSITIVE) - 1.0).abs() < 0.2
}

/// Models refitted to resampled runs, each with an error of the back-test.
fn replicates(model: &Model, observations: &[Observation], back_test: &BackTest, shards: u32) -> Vec<(Model, f64)> {
    let mut rng = Rng::new(observations.len() as u64, 0x91A);
    let fitted = |o: &Observation| model.work_us(&o.work).iter().sum::<f64>();
    let residuals: Vec<f64> = observations.iter().map(|o| o.cpu_us / fitted(o).max(1.0) - 1.0).collect();
    let errors: Vec<f64> = back_test.runs.iter().map(|run| run.error).collect();
    let draw = |from: &[f64], rng: &mut Rng| match from.len() {
        0 => 0.0,
        count => from[rng.next_u64() as usize % count],
    };
    let replicate = |rng: &mut Rng| {
        let resampled = observations.iter().map(|o| {
            let cpu_us = (fitted(o) * (1.0 + draw(&residuals, rng))).max(1.0);
            // Memory comes in steps that no model of the load explains: whole runs stand in for each other.
            let rss = &observations[rng.next_u64() as usize % observations.len()];
            let rss_bytes = model.rss_bytes(&o.shape) + rss.rss_bytes as f64 - model.rss_bytes(&rss.shape);
            let connect_cpu_us = observations[rng.next_u64() as usize % observations.len()].connect_cpu_us;
            Observation { cpu_us, connect_cpu_us, rss_bytes: rss_bytes.max(0.0) as u64, ..o.clone() }
        });
        Model::fit(&resampled.collect::<Vec<_>>(), shards)
    };
    (0..REPLICATES).map(|_| (replicate(&mut rng), draw(&errors, &mut rng))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::{TRUTH, observations, shape};
    use super::*;

    #[test]
    fn intervals_hold_the_truth_about_as_often_as_they_say() {
        let other = shape(1, 700, 333.0, 1, 500);
        let truth = TRUTH.cores(&other, 1);
        let mut held = 0;
        for seed in 0..20 {
            let cores = Estimator::new(&observations(0.15, seed), 1).cores(&other, 1);
            held += u32::from(cores.low <= truth && truth <= cores.high);
            assert!(cores.high / cores.low < 2.0, "{cores:?}");
        }
        assert!(held >= 17, "{held} of 20");
    }

    #[test]
    fn the_back_test_is_exact_without_noise_and_shows_it_where_it_is() {
        let exact = BackTest::new(&observations(0.0, 1), 1);
        assert!(exact.error_max < 0.02 && exact.runs.len() == 25, "{exact:?}");
        let noisy = BackTest::new(&observations(0.2, 1), 1);
        assert!((0.03..0.25).contains(&noisy.error_median) && noisy.error_max > noisy.error_median);
    }
}
