//! `ringrelay`: arguments → command → exit code.

use std::process::ExitCode;

use clap::Parser;
use engine::commands::cli::{Cli, Command};
use engine::commands::{check, config, doctor, serve};

fn main() -> ExitCode {
    match Cli::parse().command() {
        Command::Serve(serve) => serve::run(&serve.sources()),
        Command::Start(settings) => serve::start(&settings.chat_sources()),
        Command::Check(serve) => check::run(&serve.sources()),
        Command::Config { preset } => config::run(preset),
        Command::Doctor(serve) => doctor::run(&serve.sources()),
    }
}
