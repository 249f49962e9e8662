//! What is said on stdout and stderr. `println!` panics where nothing can be written; here a reader that has gone
//! (`| head`) has had enough and costs nothing else, and a full disk is a failure.

use std::io::{self, ErrorKind, Write};

use crate::cmd::Exit;

/// Writes `text`, which was asked for, to stdout.
///
/// # Errors
/// As [`checked`].
pub(crate) fn print(text: &str) -> Result<(), (Exit, String)> {
    let mut stdout = io::stdout().lock();
    checked(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Judges a write to stdout.
///
/// # Errors
/// It failed, and not because its reader has gone.
pub(crate) fn checked(written: io::Result<()>) -> Result<(), (Exit, String)> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err((Exit::Failed, format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Says a line on stderr. One that is gone is no reason to end a measurement.
pub(crate) fn note(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
