//! `loadgen`: the WebSocket load generator. Arguments → command → exit code.
#![deny(unsafe_code)]

mod cli;
mod cmd;
mod compare;
mod drive;
mod live;
mod measure;
mod out;
mod peer;
mod plan;
mod report;
mod rng;
mod scrape;
#[allow(unsafe_code)]
mod sys;
mod wire;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use cmd::Exit;

fn main() -> ExitCode {
    let done = Cli::try_parse().map_or_else(|error| say(&error), |cli| run(cli.command));
    let exit = done.unwrap_or_else(|(exit, message)| {
        out::note(&format!("loadgen: {message}"));
        exit
    });
    ExitCode::from(exit as u8)
}

fn run(command: Command) -> Result<Exit, (Exit, String)> {
    match command {
        Command::Run(args) => cmd::load::run(&args),
        Command::Echo(args) => cmd::load::echo(&args),
        Command::Idle(args) => cmd::idle::idle(&args),
        Command::Ab(args) => cmd::ab::ab(&args),
        Command::Diff(args) => cmd::compare::diff(&args),
        Command::Merge(args) => cmd::compare::merge(&args),
        Command::Storm(args) => cmd::load::storm(&args),
        Command::Search(args) => cmd::search::search(&args),
        Command::Plan(args) => cmd::plan::plan(&args),
        Command::Doctor(args) => cmd::doctor::doctor(&args),
        Command::Peer(args) => cmd::peer::peer(&args),
    }
}

/// What there is to say instead of a command: what is wrong, or the help or the version that was asked for.
fn say(error: &clap::Error) -> Result<Exit, (Exit, String)> {
    let written = error.print();
    if error.use_stderr() { Ok(Exit::Usage) } else { out::checked(written).map(|()| Exit::Held) }
}
