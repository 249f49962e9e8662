//! `ringrelay connect`: a client for a terminal or a pipe.
//!
//! [`client`] is the loop: it dials, drives a [`session`], gives it what [`input`] has and shows on the [`screen`] what
//! comes. tungstenite speaks the protocol here: an implementation that the server does not share.

mod client;
mod dial;
mod editor;
mod input;
mod screen;
mod session;
mod stream;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_USAGE, print, tell};
use crate::logging::printable;
use client::{Client, Stop};
use target::Target;

/// Added to a signal's number for the exit code.
const EXIT_SIGNAL: u8 = 128;

/// What `connect` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Connect {
    /// Where to connect: ws://HOST:PORT/PATH or wss://…
    #[arg(conflicts_with_all = ["host", "port"])]
    pub url: Option<String>,
    /// Host of a chat server; else the variable HOST, else localhost.
    #[arg(long, value_name = "H", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub host: Option<String>,
    /// Its port; else the variable PORT, else 8080.
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Your name; else the variable USER_NAME, else anonymous.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Connect again whenever the connection is lost or cannot be had for the time being.
    #[arg(long)]
    pub reconnect: bool,
    /// PEM file of the certificates to trust instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Trust any certificate.
    #[arg(long, conflicts_with = "ca")]
    pub insecure: bool,
}

/// Connects, talks, and returns the exit code: 0 ended as asked, 1 could not connect or lost the connection, 2 usage,
/// 130 and 143 by a signal where there was nothing to close, or by a second one.
#[must_use]
pub fn run(typed: &Connect) -> ExitCode {
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let target = match Target::new(typed, variable) {
        Ok(target) => target,
        Err(error) => {
            tell(format_args!("ringrelay connect: {error}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    print(&format!("Connecting to {} as {}...\n", target.place(), printable(&target.name)));
    match Client::new(typed, target).and_then(|mut client| client.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Signal(signal)) => ExitCode::from(EXIT_SIGNAL + signal),
        Err(Stop::Failed(why)) => {
            tell(format_args!("ringrelay connect: {why}"));
            ExitCode::FAILURE
        }
    }
}
