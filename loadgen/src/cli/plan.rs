//! The arguments of `plan`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::values::{parse_share, parse_size};
use super::{TargetArgs, units};

/// Two steps: `--measure` runs a server under a grid of loads up to the one that is asked for and writes what it saw
/// to `--json`; `--costs` takes that and plans any load within twice the measured range.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("step").required(true).args(["measure", "costs"])))]
pub(crate) struct PlanArgs {
    /// Measure what a server costs, up to the load that the other flags say.
    #[arg(long, requires = "server_command")]
    pub(crate) measure: bool,
    /// Command of the server to measure, run by sh; it listens where --url says and ends on SIGTERM.
    #[arg(long, value_name = "COMMAND", conflicts_with = "costs")]
    pub(crate) server_command: Option<String>,
    /// Costs that --measure has written.
    #[arg(long, value_name = "F")]
    pub(crate) costs: Option<PathBuf>,
    /// Connections that hear, over all topics.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) subscribers: u32,
    /// Connections that publish, and hear, over all topics [default: one per topic].
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) publishers: Option<u32>,
    /// Topics that the connections are dealt round. Several need {topic} in the URL to be measured.
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) topics: u32,
    /// Messages per second of all publishers together.
    #[arg(long, value_name = "R", default_value_t = 200.0, value_parser = units::positive)]
    pub(crate) rate: f64,
    /// Payload in bytes; at least 32.
    #[arg(long, value_name = "B", default_value_t = 1024, value_parser = parse_size)]
    pub(crate) size: usize,
    /// Share of each core that the load may take.
    #[arg(long, value_name = "SHARE", default_value_t = 0.7, value_parser = parse_share)]
    pub(crate) utilisation: f64,
    /// Plan for so many cores instead of as few as do; exit 1 if the load does not fit them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) cores: Option<u32>,
    /// How long to measure each load.
    #[arg(long, default_value = "2s", value_parser = units::duration_ns)]
    pub(crate) duration: u64,
    /// How long to publish before that.
    #[arg(long, default_value = "500ms", value_parser = units::duration_ns)]
    pub(crate) warmup: u64,
    /// How often to measure the grid.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}
