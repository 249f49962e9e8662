//! What can be typed: commands and flags, and the configuration's sources that follow from them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::connect::Connect;
use crate::config::{Driver, LogFormat, LogLevel, Overrides, Preset, ShardCount, Sources};

/// The command line. A mistake in it ends the process with exit code 2.
#[derive(Debug, Parser)]
#[command(name = "ringrelay", version, about = "A WebSocket relay: one io_uring runtime per core")]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

/// A command; without one, [`Command::Serve`].
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Starts the server (also without this word).
    Serve(Serve),
    /// Starts a chat server: serve --preset chat, with the port also from the variable PORT.
    Start(Settings),
    /// Connects to a chat server: what you type is said, what others say is shown.
    Connect(Connect),
    /// Validates a configuration and prints what is in effect, all sources taken together.
    Check(Serve),
    /// Prints a preset, or the defaults, as a configuration file with every key commented.
    Config {
        /// The preset; without it, the defaults.
        #[arg(long, value_name = "NAME")]
        preset: Option<Preset>,
    },
    /// Tells what this machine allows, with the fix for each thing that it does not; exit 0 good, 1 something to fix.
    Doctor(Serve),
    /// Asks a running server whether it is well; exit 0 yes, 1 no. For containers without a shell.
    Healthcheck(Healthcheck),
}

/// What `healthcheck` takes.
#[derive(Debug, Args)]
pub struct Healthcheck {
    /// What to ask, http://HOST:PORT/PATH; without it /healthz on the admin port of the configuration.
    pub url: Option<String>,
    /// How long to wait for the answer, in ms.
    #[arg(long, value_name = "MS", default_value_t = 3000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub timeout_ms: u64,
    /// The configuration of the server that is asked.
    #[command(flatten)]
    pub serve: Serve,
}

/// What `serve` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Serve {
    /// Start from the defaults of the server that ringrelay replaces.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<Preset>,
    /// What the other commands take too.
    #[command(flatten)]
    pub settings: Settings,
}

/// Sources and overrides of the configuration.
#[derive(Debug, Clone, Default, Args)]
pub struct Settings {
    /// Configuration file; without it ./config.yaml if there is one, but not with a preset.
    #[arg(long, value_name = "FILE", visible_alias = "config-file")]
    pub config: Option<PathBuf>,
    /// Address to listen on.
    #[arg(long, value_name = "H", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub host: Option<String>,
    /// Port to listen on; 0 lets the kernel choose.
    #[arg(long, value_name = "P")]
    pub port: Option<u16>,
    /// Port of /metrics and /healthz.
    #[arg(long, value_name = "P")]
    pub metrics_port: Option<u16>,
    /// How many shards: auto, or 1 to 64.
    #[arg(long, value_name = "auto|N")]
    pub shards: Option<ShardCount>,
    /// Kernel interface for the sockets.
    #[arg(long, value_name = "D")]
    pub driver: Option<Driver>,
    /// Shape of the log's lines.
    #[arg(long, value_name = "F")]
    pub log_format: Option<LogFormat>,
    /// Least level logged.
    #[arg(long, value_name = "L")]
    pub log_level: Option<LogLevel>,
}

impl Cli {
    /// The command typed.
    #[must_use]
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

impl Serve {
    /// The configuration's sources, with this process's environment.
    #[must_use]
    pub fn sources(self) -> Sources {
        Sources { preset: self.preset, ..self.settings.sources() }
    }
}

impl Settings {
    /// The configuration's sources for `start`.
    #[must_use]
    pub fn chat_sources(self) -> Sources {
        Sources { preset: Some(Preset::Chat), port_variable: true, ..self.sources() }
    }

    fn sources(self) -> Sources {
        let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
        let overrides = Overrides {
            host: self.host,
            port: self.port,
            metrics_port: self.metrics_port,
            shards: self.shards,
            driver: self.driver,
            log_format: self.log_format,
            log_level: self.log_level,
        };
        Sources {
            file: self.config,
            environment: std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect(),
            overrides,
            ..Sources::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn flags_mean_the_same_with_and_without_serve() {
        for words in [vec!["ringrelay"], vec!["ringrelay", "serve"]] {
            let flags = ["--config-file", "a.yaml", "--preset", "echo", "--shards", "3", "--driver", "io_uring"];
            let Command::Serve(serve) = Cli::try_parse_from(words.into_iter().chain(flags)).unwrap().command() else {
                panic!("not serve");
            };
            let sources = serve.sources();
            assert_eq!(sources.file, Some(PathBuf::from("a.yaml")));
            assert_eq!(sources.preset, Some(Preset::Echo));
            assert_eq!(sources.overrides.shards, Some(ShardCount::Count(3)));
            assert_eq!(sources.overrides.driver, Some(Driver::IoUring));
            assert!(!sources.port_variable);
        }
    }

    #[test]
    fn start_is_the_chat_preset_with_port_from_the_environment() {
        let Command::Start(settings) = Cli::try_parse_from(["ringrelay", "start", "--port", "1"]).unwrap().command()
        else {
            panic!("not start");
        };
        let sources = settings.chat_sources();
        assert_eq!((sources.preset, sources.port_variable), (Some(Preset::Chat), true));
        assert_eq!(sources.overrides.port, Some(1));
    }

    #[test]
    fn mistakes_exit_with_2() {
        for words in [
            &["ringrelay", "--port", "70000"][..],
            &["ringrelay", "--shards", "65"],
            &["ringrelay", "--shards", "0"],
            &["ringrelay", "--driver", "kqueue"],
            &["ringrelay", "--host", ""],
            &["ringrelay", "--prot", "1"],
            &["ringrelay", "--port", "1", "check"],
            &["ringrelay", "start", "--preset", "echo"],
            &["ringrelay", "config", "--preset", "none"],
            &["ringrelay", "healthcheck", "--timeout-ms", "0"],
            &["ringrelay", "nonsense"],
        ] {
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
        assert_eq!(Cli::try_parse_from(["ringrelay", "--version"]).unwrap_err().exit_code(), 0);
    }
}
