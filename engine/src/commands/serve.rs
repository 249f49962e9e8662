//! `ringrelay serve` and `ringrelay start`: configuration → log → server → exit code.

use std::io::Write;
use std::process::ExitCode;

use super::usage_error;
use crate::config::{Loaded, Sources};
use crate::{logging, server};

/// Starts the server and waits for its end.
#[must_use]
pub fn run(sources: &Sources) -> ExitCode {
    match load(sources) {
        Ok(loaded) => server::run(&loaded, |_| {}),
        Err(exit) => exit,
    }
}

/// The same for `start`, which tells on stdout that it starts and that it serves.
#[must_use]
pub fn start(sources: &Sources) -> ExitCode {
    match load(sources) {
        Ok(loaded) => {
            tell(&format!("Starting server on port {}...", loaded.config.server.port));
            server::run(&loaded, |address| tell(&format!("Server started on port {}", address.port())))
        }
        Err(exit) => exit,
    }
}

fn load(sources: &Sources) -> Result<Loaded, ExitCode> {
    let loaded = sources.load().map_err(|error| usage_error(&error))?;
    logging::init(&loaded.config.log);
    Ok(loaded)
}

/// A server whose stdout nobody reads serves all the same.
fn tell(line: &str) {
    _ = writeln!(std::io::stdout(), "{line}");
}
