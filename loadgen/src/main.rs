//! `loadgen`: the WebSocket load generator. Arguments → command → exit code.
#![deny(unsafe_code)]

mod cli;
mod cmd;
mod compare;
mod drive;
mod live;
mod measure;
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

fn main() -> ExitCode {
    let done = match Cli::parse().command {
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
    };
    let exit = done.unwrap_or_else(|(exit, message)| {
        eprintln!("loadgen: {message}");
        exit
    });
    ExitCode::from(exit as u8)
}
