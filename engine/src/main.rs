//! `ringrelay`: arguments → command → exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use engine::commands::cli::{Cli, Command};
use engine::commands::{check, config, connect, doctor, healthcheck, serve};

fn main() -> ExitCode {
    match Cli::parse().command() {
        Command::Serve(serve) => serve::run(&serve.sources()),
        Command::Start(settings) => serve::start(&settings.chat_sources()),
        Command::Connect(settings) => connect::run(&settings),
        Command::Check(serve) => check::run(&serve.sources()),
        Command::Config { preset } => config::run(preset),
        Command::Doctor(serve) => doctor::run(&serve.sources()),
        Command::Healthcheck(it) => {
            let timeout = Duration::from_millis(it.timeout_ms);
            healthcheck::run(it.url.as_deref(), timeout, &it.serve.sources())
        }
    }
}
