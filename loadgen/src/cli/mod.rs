//! The command line, as `CONTRACT` section 8 fixes it. Values are checked here; what they mean is decided in `cmd`.

mod plan;
pub(crate) mod units;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::compare::diff::{Limit, RULES_DEFAULT, Rules};
use crate::report::slo::Slo;
use crate::scrape::MetricsUrl;
use crate::workload::build::Spread;
pub(crate) use plan::PlanArgs;
pub(crate) use values::{Listen, Sources};
use values::{parse_confidence, parse_share, parse_size, parse_sources, parse_spread};

/// WebSocket load generator: open loop, latency from the intended send time, every delivery accounted for.
///
/// Exit codes: 0 done, the SLO held or there was none; 1 the SLO did not hold; 2 usage; 3 invalid, the generator was
/// the bottleneck; 4 could not connect, finish or write.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publishers and subscribers on a topic.
    Run(RunArgs),
    /// Connections that hear what they say themselves.
    Echo(EchoArgs),
    /// What an idle connection costs the server.
    Idle(IdleArgs),
    /// Connections that are cut at once and come back, beside others that go on.
    Storm(StormArgs),
    /// The highest rate, or the most subscribers, at which the SLO holds.
    Search(SearchArgs),
    /// Two server commands, compared pair by pair under the load of `run`.
    Ab(AbArgs),
    /// Two reports, compared figure by figure.
    Diff(DiffArgs),
    /// Reports of several processes or hosts become one.
    Merge(MergeArgs),
    /// Cores and memory for a load, from the measured costs of a server.
    Plan(PlanArgs),
    /// What this machine allows, and how to raise what is too low.
    Doctor(DoctorArgs),
    /// A null peer to measure the generator itself against.
    Peer(PeerArgs),
}

/// Where to, and what every kind of load shares.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetArgs {
    /// Where to connect: ws://HOST:PORT/PATH or wss://…
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// A header for the upgrade request, "Name: value"; may be repeated.
    #[arg(long = "header", value_name = "H")]
    pub(crate) headers: Vec<String>,
    /// A subprotocol to ask for; may be repeated.
    #[arg(long = "subprotocol", value_name = "S")]
    pub(crate) subprotocols: Vec<String>,
    /// Certificates to trust instead of the system's, as PEM.
    #[arg(long, value_name = "F", conflicts_with = "insecure")]
    pub(crate) ca: Option<PathBuf>,
    /// Trust any certificate.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Source addresses to spread the connections over, like 127.0.0.2-127.0.0.9: each has its own 28,000 ports.
    #[arg(long, value_name = "A-B", value_parser = parse_sources)]
    pub(crate) source_ip: Option<Sources>,
    /// New connections per second; without it as fast as they are accepted.
    #[arg(long, value_name = "R", value_parser = units::positive)]
    pub(crate) connect_rate: Option<f64>,
    /// Connect up to so long before or after the times that --connect-rate gives, at random.
    #[arg(long, value_name = "TIME", value_parser = units::duration_ns)]
    pub(crate) jitter: Option<u64>,
    /// Process of the server, whose CPU time (with that of its descendants) and memory are then reported.
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
    /// Page with the server's own counters, http://HOST:PORT/metrics, reported beside the figures.
    #[arg(long, value_name = "URL", value_parser = MetricsUrl::parse)]
    pub(crate) server_metrics: Option<MetricsUrl>,
    /// Makes payloads, masking keys and random arrivals repeatable [default: 1].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// How to wait for sockets.
    #[arg(long, value_enum, default_value_t = DriverArg::Auto)]
    pub(crate) driver: DriverArg,
    /// Threads; 0: one per allowed core.
    #[arg(long, default_value_t = 0)]
    pub(crate) threads: usize,
    /// Write the report there, as JSON; "-" for stdout instead of the table.
    #[arg(long, value_name = "F")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report there, as a page for a browser that needs nothing else.
    #[arg(long, value_name = "F")]
    pub(crate) html: Option<PathBuf>,
    /// Write the response latencies there, second by second, as HdrHistogram's interval log.
    #[arg(long, value_name = "F")]
    pub(crate) hlog: Option<PathBuf>,
    /// Write the response latencies there by percentile, as HdrHistogram's plotters read them.
    #[arg(long, value_name = "F")]
    pub(crate) hgrm: Option<PathBuf>,
    /// No line per second.
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Where Prometheus may ask while it runs, http://ADDR/metrics; port 0 takes a free one and says it.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_listen: Option<Listen>,
}

/// Messages, and for how long.
#[derive(Debug, Clone, Args)]
pub(crate) struct TrafficArgs {
    /// Open loop: messages per second of all publishers together.
    #[arg(long, value_name = "R", value_parser = units::positive)]
    pub(crate) rate: Option<f64>,
    /// How the messages of a rate are spread over time: uniform, poisson, or burst:N (N at once).
    #[arg(long, value_name = "SHAPE", default_value = "uniform", value_parser = parse_spread)]
    pub(crate) arrivals: Spread,
    /// Payload with the stamp, in bytes; at least 32.
    #[arg(long, value_name = "B", default_value_t = 64, value_parser = parse_size)]
    pub(crate) size: usize,
    /// Send text messages instead of binary ones.
    #[arg(long)]
    pub(crate) text: bool,
    /// How long to measure [default: 30s].
    #[arg(long, value_parser = units::duration_ns)]
    pub(crate) duration: Option<u64>,
    /// How long to publish before measuring [default: 2s].
    #[arg(long, value_parser = units::duration_ns)]
    pub(crate) warmup: Option<u64>,
    /// How long to wait for deliveries after the last message [default: 5s].
    #[arg(long, value_parser = units::duration_ns)]
    pub(crate) drain: Option<u64>,
    /// When to send the first message, in seconds since 1970 (date +%s): lines up several processes.
    #[arg(long, value_name = "TIME", value_parser = units::positive)]
    pub(crate) start_at: Option<f64>,
    /// What must hold, like 'p99<20ms,reach>=1'.
    #[arg(long, value_parser = Slo::parse)]
    pub(crate) slo: Option<Slo>,
}

/// Whether to measure the generator too.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct CeilingArgs {
    /// After the run drive the same load against a null peer for up to 3 s, and judge how near its own ceiling the
    /// generator was.
    #[arg(long)]
    pub(crate) ceiling: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) ceiling: CeilingArgs,
    /// A YAML file of groups, phases and objectives, instead of the flags that say what is sent by whom.
    #[arg(value_name = "SCENARIO.yaml", conflicts_with_all = ["subscribers", "publishers", "rate", "outstanding", "size", "text", "arrivals"])]
    pub(crate) scenario: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) traffic: TrafficArgs,
    /// Connections that hear the topic.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) subscribers: u32,
    /// Connections that publish.
    #[arg(long, value_name = "P", default_value_t = 1)]
    pub(crate) publishers: u32,
    /// Closed loop instead of a rate: messages in flight per publisher.
    #[arg(long, value_name = "W", conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) outstanding: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct EchoArgs {
    #[command(flatten)]
    pub(crate) ceiling: CeilingArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) traffic: TrafficArgs,
    /// Connections; "{n}" in the URL becomes the number of each.
    #[arg(long, value_name = "C", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Messages in flight per connection (closed loop); without --rate 1.
    #[arg(long, value_name = "D", conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) depth: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Connections to an echo endpoint; "{n}" in the URL becomes the number of each.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Messages that each sends and receives before it is idle.
    #[arg(long, value_name = "M", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) messages: u32,
    /// Payload with the stamp, in bytes; at least 32.
    #[arg(long, value_name = "B", default_value_t = 64, value_parser = parse_size)]
    pub(crate) size: usize,
    /// How long to hold the idle connections and watch the server's CPU.
    #[arg(long, default_value = "5s", value_parser = units::duration_ns)]
    pub(crate) hold: u64,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// What is raised until the SLO breaks.
    #[arg(long, value_enum, default_value_t = SearchOver::Rate)]
    pub(crate) over: SearchOver,
    /// Where to begin.
    #[arg(long, value_name = "LOW", default_value_t = 100.0, value_parser = units::positive)]
    pub(crate) from: f64,
    /// Where to stop, also if the SLO still holds.
    #[arg(long, value_name = "HIGH", default_value_t = 1_000_000.0, value_parser = units::positive)]
    pub(crate) to: f64,
    /// How close the two ends of the answer come, in per cent.
    #[arg(long, value_name = "PERCENT", default_value_t = 3.0, value_parser = units::positive)]
    pub(crate) precision: f64,
    /// The answer is given after so many runs at the latest.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) runs_max: usize,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What `search` raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SearchOver {
    Rate,
    Subscribers,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Connections that are wanted.
    #[arg(long, value_name = "N", default_value_t = 15_000)]
    pub(crate) connections: u32,
}

#[derive(Debug, Args)]
pub(crate) struct AbArgs {
    /// Command of server A, run by sh; it must end on SIGTERM. CPU time is that of the process and its descendants.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) a: String,
    /// Command of server B; both listen where --url says. With {port} in the URL and in both commands the servers run
    /// side by side, and the load goes from one to the other by slices: that finds smaller differences in less time.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) b: String,
    /// Side by side: how long a server has the load at a time.
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = units::duration_ns)]
    pub(crate) slice: u64,
    /// Pairs of runs.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) pairs: usize,
    /// What is compared, and by how much B may be worse. Exit 1: B is worse (the whole interval of the difference lies
    /// above 0) and the estimate lies above the limit. Exit 0: the estimate does not lie above the limit, and a
    /// difference as large as the limit would have shown; or B is better. Exit 3: neither can be said.
    #[arg(long, value_name = "RULE", default_value = "cpu_us_per_delivery>+5%", value_parser = Limit::parse)]
    pub(crate) fail_on: Limit,
    /// Confidence of the interval.
    #[arg(long, default_value_t = 0.98, value_parser = parse_confidence)]
    pub(crate) confidence: f64,
    /// Run A a second time among each pair; where A differs from itself, the machine moved and nothing is concluded.
    #[arg(long)]
    pub(crate) canary: bool,
    /// Write the result there, as Markdown.
    #[arg(long, value_name = "F")]
    pub(crate) markdown: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The report to compare with.
    pub(crate) a: PathBuf,
    /// The report to judge.
    pub(crate) b: PathBuf,
    #[arg(
        long,
        value_name = "RULES",
        value_parser = Rules::parse,
        allow_hyphen_values = true,
        help = format!("What counts as worse: changes from A to B, like 'cpu_us_per_delivery>+5%'. A rule given here that cannot be judged makes the comparison inconclusive (exit 3) [default: {RULES_DEFAULT}]")
    )]
    pub(crate) fail_on: Option<Rules>,
    /// Write the comparison there, as Markdown.
    #[arg(long, value_name = "F")]
    pub(crate) markdown: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// Reports of runs at the same time against the same server.
    #[arg(required = true)]
    pub(crate) reports: Vec<PathBuf>,
    /// Write the whole there, as JSON; "-" for stdout instead of the table.
    #[arg(long, value_name = "F")]
    pub(crate) json: Option<PathBuf>,
    /// Write the whole there, as a page for a browser.
    #[arg(long, value_name = "F")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct StormArgs {
    /// Connections of which a share is cut; they hear the same URL as the subscribers, who are left alone.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Share of them that is cut.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = parse_share)]
    pub(crate) kill: f64,
    /// When, after the beginning of the measurement.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration_ns)]
    pub(crate) after: u64,
    /// The first wait before a reconnect is up to this, at random; each failure doubles it.
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = units::duration_ns)]
    pub(crate) backoff: u64,
    /// The longest wait before a reconnect.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration_ns)]
    pub(crate) backoff_max: u64,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PeerArgs {
    /// What it does with messages.
    #[arg(value_enum)]
    pub(crate) kind: PeerKind,
    /// Where to listen; port 0 takes a free one and prints it.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Listen,
    #[command(flatten)]
    pub(crate) faults: FaultArgs,
    /// Fan out at most so many deliveries per second.
    #[arg(long, value_name = "R", value_parser = units::positive)]
    pub(crate) capacity: Option<f64>,
    /// Spend so many ns of CPU on each delivery.
    #[arg(long, value_name = "NS", default_value_t = 0)]
    pub(crate) work_ns: u64,
}

/// Faults per delivery, for testing whether a load generator finds them.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct FaultArgs {
    /// Leave out one delivery in so many.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) drop_one_in: u32,
    /// Send one delivery in so many twice.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) repeat_one_in: u32,
    /// Send one delivery in so many after the next one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) reorder_one_in: u32,
    /// Flip a bit in one delivery in so many.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) corrupt_one_in: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PeerKind {
    /// Takes messages and says nothing.
    Sink,
    /// Says every message to who sent it.
    Echo,
    /// Says every message to everybody on the same path, the sender included.
    Fanout,
}

impl PeerKind {
    /// As the command line has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sink => "sink",
            Self::Echo => "echo",
            Self::Fanout => "fanout",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DriverArg {
    /// The best that this machine allows.
    Auto,
    #[value(name = "io_uring")]
    Uring,
    Epoll,
}
