//! The costs of a server as a file: every run that was measured, and what was made of them for people to read.

use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::Exit;
use super::super::load::usage;
use crate::plan::Observation;
use crate::plan::estimate::{BackTest, Estimator, Interval};
use crate::plan::range::{Range, ranges};
use crate::report::env::Env;

const SCHEMA: &str = "ringrelay.loadgen.costs/1";

/// What was measured; planning needs nothing else.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Costs {
    schema: String,
    server_command: String,
    /// Threads that serve connections, as the server's metrics tell; else 1.
    pub(super) shards: u32,
    pub(super) observations: Vec<Observation>,
    env: Env,
}

/// The file: what was measured with what follows from it.
#[derive(Debug, Serialize)]
pub(super) struct WithFit<'a> {
    #[serde(flatten)]
    costs: &'a Costs,
    unit_costs: UnitCosts,
    back_test: &'a BackTest,
    measured: Vec<Range>,
}

/// Prices with their intervals: CPU time in us, memory in bytes.
#[derive(Debug, Serialize)]
struct UnitCosts {
    cpu_us_per_wake: Interval,
    cpu_us_per_message: Interval,
    cpu_us_per_send: Interval,
    cpu_us_per_frame: Interval,
    cpu_us_per_byte: Interval,
    cpu_us_idle_per_s: Interval,
    cpu_us_per_connect: Interval,
    rss_bytes_base: Interval,
    rss_bytes_per_connection: Interval,
    rss_bytes_per_topic: Interval,
    /// Messages leave together that arrive within so many times a pass's CPU time, and the hold.
    coalescing_stretch: f64,
    coalescing_hold_us: f64,
}

impl Costs {
    /// Nothing measured yet.
    pub(super) fn new(command: &str, env: Env) -> Self {
        Self { schema: SCHEMA.to_owned(), server_command: command.to_owned(), shards: 1, observations: Vec::new(), env }
    }

    /// # Errors
    /// When it is no such file, or its numbers cannot be those of a run.
    pub(super) fn read(path: &Path) -> Result<Self, (Exit, String)> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| usage(format!("cannot read {shown}: {e}")))?;
        let costs: Self =
            serde_json::from_str(&text).map_err(|e| usage(format!("{shown} has no costs of plan --measure: {e}")))?;
        if costs.schema != SCHEMA {
            return Err(usage(format!("{shown}: its schema is {:?}, not {SCHEMA:?}", costs.schema)));
        }
        match costs.observations.iter().position(|o| !o.is_sound()) {
            _ if costs.shards == 0 => Err(usage(format!("{shown}: shards must be above 0"))),
            Some(index) => Err(usage(format!("{shown}: observations[{index}] cannot be what a run has measured"))),
            None => Ok(costs),
        }
    }

    pub(super) fn with_fit<'a>(&'a self, estimator: &'a Estimator) -> WithFit<'a> {
        let model = &estimator.model;
        WithFit {
            costs: self,
            unit_costs: UnitCosts {
                cpu_us_per_wake: estimator.figure(|model| model.cpu_us.wake),
                cpu_us_per_message: estimator.figure(|model| model.cpu_us.message),
                cpu_us_per_send: estimator.figure(|model| model.cpu_us.send),
                cpu_us_per_frame: estimator.figure(|model| model.cpu_us.frame),
                cpu_us_per_byte: estimator.figure(|model| model.cpu_us.byte),
                cpu_us_idle_per_s: estimator.figure(|model| model.cpu_us.idle),
                cpu_us_per_connect: estimator.figure(|model| model.cpu_us.connect),
                rss_bytes_base: estimator.figure(|model| model.memory_bytes.base),
                rss_bytes_per_connection: estimator.figure(|model| model.memory_bytes.connection),
                rss_bytes_per_topic: estimator.figure(|model| model.memory_bytes.topic),
                coalescing_stretch: model.coalescing.stretch,
                coalescing_hold_us: model.coalescing.hold_us,
            },
            back_test: &estimator.back_test,
            measured: ranges(&self.observations),
        }
    }
}

/// The prices as a table.
pub(super) fn render(estimator: &Estimator) -> String {
    let mut out = format!("{:<28}{:>12}{:>12}{:>12}\n", "costs", "estimate", "from", "to (95 %)");
    let mut put = |name: &str, interval: Interval, decimals: usize| {
        let Interval { estimate, low, high } = interval;
        let _ = writeln!(out, "  {name:<26}{estimate:>12.decimals$}{low:>12.decimals$}{high:>12.decimals$}");
    };
    put("us CPU per wake-up", estimator.figure(|model| model.cpu_us.wake), 3);
    put("us CPU per message", estimator.figure(|model| model.cpu_us.message), 3);
    put("us CPU per send", estimator.figure(|model| model.cpu_us.send), 3);
    put("us CPU per frame", estimator.figure(|model| model.cpu_us.frame), 4);
    put("us CPU per KiB", estimator.figure(|model| model.cpu_us.byte * 1024.0), 4);
    put("us CPU per connect", estimator.figure(|model| model.cpu_us.connect), 1);
    put("us CPU per idle second", estimator.figure(|model| model.cpu_us.idle), 0);
    put("bytes per connection", estimator.figure(|model| model.memory_bytes.connection), 0);
    put("bytes per topic", estimator.figure(|model| model.memory_bytes.topic), 0);
    out
}
