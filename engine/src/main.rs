//! `ringrelay`: arguments → configuration → `Server::run` → exit code.

use std::process::ExitCode;

use clap::Parser;
use engine::commands::cli::{Cli, Command};
use engine::commands::{check, config, doctor, usage_error};
use engine::config::Sources;
use engine::logging;

fn main() -> ExitCode {
    match Cli::parse().command() {
        Command::Serve(serve) => run(&serve.sources()),
        Command::Start(settings) => run(&settings.chat_sources()),
        Command::Check(serve) => check::run(&serve.sources()),
        Command::Config { preset } => config::run(preset),
        Command::Doctor(serve) => doctor::run(&serve.sources()),
    }
}

/// Starts the server and waits for its end.
fn run(sources: &Sources) -> ExitCode {
    let loaded = match sources.load() {
        Ok(loaded) => loaded,
        Err(error) => return usage_error(&error),
    };
    logging::init(&loaded.config.log);
    engine::server::run(&loaded)
}
