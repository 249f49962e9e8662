//! What a load takes, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::plan::estimate::{Estimator, Interval};
use crate::plan::{Observation, PARTS, Shape};
use crate::report::verdict::Verdict;

/// More cores than these are no plan.
const CORES_MAX: u32 = 1024;

/// The plan.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    schema: &'static str,
    shape: Shape,
    deliveries_per_s: f64,
    /// CPU time per second, in cores.
    cpu_cores: Interval,
    /// Whole cores: as few as take the high end of it at `utilisation`, or those that were asked for.
    cores: u32,
    /// They do.
    pub(super) fits: bool,
    utilisation: f64,
    frames_per_send: f64,
    /// Resident memory of the process; socket buffers are the kernel's.
    rss_bytes: Interval,
    network_bits_per_s: f64,
    /// Shares of the CPU time.
    parts: BTreeMap<&'static str, f64>,
    /// The largest of them.
    limited_by: &'static str,
    /// Of the costs that the plan is made with: relative errors of runs foretold from all others.
    back_test_runs: usize,
    back_test_error_median: f64,
    back_test_error_max: f64,
    /// What the reader must know.
    notes: Vec<String>,
}

impl Answer {
    /// # Errors
    /// A load that no number of cores would carry.
    pub(super) fn new(
        shape: &Shape,
        observations: &[Observation],
        estimator: &Estimator,
        utilisation: f64,
        cores: Option<u32>,
    ) -> Result<Self, String> {
        let fits = |cores: &u32| estimator.cores(shape, *cores).high <= utilisation * f64::from(*cores);
        let fewest = || (1..=CORES_MAX).find(fits).ok_or_else(|| format!("not even {CORES_MAX} cores would do"));
        let cores = cores.map_or_else(fewest, Ok)?;
        let model = &estimator.model;
        let work = model.work(shape, cores);
        let cpu_us = model.parts_us(shape, cores);
        let whole: f64 = cpu_us.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let parts: BTreeMap<&str, f64> = PARTS.into_iter().zip(cpu_us.map(|us| us / whole)).collect();
        let largest = parts.iter().max_by(|a, b| a.1.total_cmp(b.1));
        let mut notes = Vec::new();
        if cores > estimator.shards() {
            let shards = estimator.shards();
            notes.push(format!("measured on {shards} of {cores} shards: what passes between more is not in it"));
        }
        let doubtful = observations.iter().filter(|o| o.verdict != Verdict::Valid.name()).count();
        if doubtful * 4 > observations.len() {
            let all = observations.len();
            notes.push(format!("in {doubtful} of {all} measured runs the machine was too busy to be VALID: measure where nothing else runs"));
        }
        let back_test = &estimator.back_test;
        Ok(Self {
            schema: "ringrelay.loadgen.plan/1",
            shape: *shape,
            deliveries_per_s: shape.deliveries(),
            cpu_cores: estimator.cores(shape, cores),
            cores,
            fits: fits(&cores),
            utilisation,
            frames_per_send: model.frames_per_send(shape, cores),
            rss_bytes: estimator.rss_bytes(shape),
            network_bits_per_s: work.bytes * 8.0,
            limited_by: largest.map_or("idle", |(part, _)| part),
            parts,
            back_test_runs: back_test.runs.len(),
            back_test_error_median: back_test.error_median,
            back_test_error_max: back_test.error_max,
            notes,
        })
    }

    /// For a terminal.
    pub(super) fn render(&self) -> String {
        let mut out = String::new();
        let mut put = |name: &str, value: String| {
            let _ = writeln!(out, "{name:<13}{value}");
        };
        let shape = &self.shape;
        put(
            "load",
            format!(
                "{} topics, {} subscribers, {} publishers, {:.0} messages/s of {} B: {:.0} deliveries/s",
                shape.topics, shape.subscribers, shape.publishers, shape.rate, shape.size, self.deliveries_per_s
            ),
        );
        let Interval { estimate, low, high } = self.cpu_cores;
        let frames = self.frames_per_send;
        put("CPU", format!("{estimate:.3} cores (95 %: {low:.3} to {high:.3}), {frames:.1} frames per send"));
        let fits = if self.fits { "at up to" } else { "DO NOT DO at" };
        put("cores", format!("{} {fits} {:.0} % each", self.cores, self.utilisation * 100.0));
        let [estimate, low, high] =
            [self.rss_bytes.estimate, self.rss_bytes.low, self.rss_bytes.high].map(|bytes| bytes / 1048576.0);
        put("memory", format!("{estimate:.1} MiB (95 %: {low:.1} to {high:.1}) besides the kernel's socket buffers"));
        put("network", format!("{:.3} Gbit/s of frames", self.network_bits_per_s / 1e9));
        let share = self.parts.get(self.limited_by).copied().unwrap_or(0.0) * 100.0;
        put("limited by", format!("{}: {share:.0} % of the CPU time", self.limited_by));
        put(
            "back-test",
            format!(
                "{} runs foretold from all others: error {:.1} % in the median, {:.1} % at most",
                self.back_test_runs,
                self.back_test_error_median * 100.0,
                self.back_test_error_max * 100.0
            ),
        );
        self.notes.iter().for_each(|note| put("note", note.clone()));
        out
    }
}
