//! The commands of the binary: what was typed, and what each does.
//!
//! Exit codes: 0 done, 1 something to fix or not possible, 2 configuration or usage.

pub mod check;
pub mod cli;
pub mod config;
pub mod connect;
pub mod doctor;
pub mod healthcheck;
pub mod serve;

use std::io::Write;
use std::process::ExitCode;

use crate::config::ConfigError;

/// The exit code for mistakes in the configuration or on the command line.
pub const EXIT_USAGE: u8 = 2;

/// Tells what is wrong with the configuration, on stderr.
#[must_use]
pub fn usage_error(error: &ConfigError) -> ExitCode {
    tell(error);
    ExitCode::from(EXIT_USAGE)
}

/// Says something on stderr. Where nobody takes it, the exit code has to do; `eprintln!` would abort the process.
fn tell(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints a command's answer; exit code 1 if nobody takes it.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
