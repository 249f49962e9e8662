//! A server that a command starts, measures and ends.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Exit;
use crate::sys::signal;

/// How long a server may take to listen, and to end.
const SERVER_PATIENCE: Duration = Duration::from_secs(30);

/// How often a server is looked at while waiting for it.
const LOOK: Duration = Duration::from_millis(20);

/// A server under way, in a process group of its own; killed if it is dropped.
pub(super) struct Server {
    child: Child,
    command: String,
    has_ended: bool,
}

impl Server {
    /// The process that is measured, with what descends from it.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs a command by sh.
    ///
    /// # Errors
    /// When there is no sh.
    pub(super) fn start(command: &str) -> Result<Self, (Exit, String)> {
        // `exec`: SIGTERM goes to the server, not to a shell around it. No stdin: what reads from the terminal outside
        // its foreground group is stopped.
        let mut sh = Command::new("sh");
        sh.args(["-c", &format!("exec {command}")]).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        let child = sh.spawn().map_err(|e| (Exit::Failed, format!("cannot start {command:?}: {e}")))?;
        Ok(Self { child, command: command.to_owned(), has_ended: false })
    }

    /// Waits until somebody accepts at `address`.
    ///
    /// # Errors
    /// When the command ends instead, or takes too long.
    pub(super) fn wait_until_it_listens(&mut self, address: SocketAddr) -> Result<(), (Exit, String)> {
        self.wait_for(|| {
            TcpStream::connect_timeout(&address, LOOK).map_err(|e| format!("cannot connect to {address}: {e}"))
        })
        .map(drop)
    }

    /// Waits for what `look` looks for, and returns it.
    ///
    /// # Errors
    /// When the command ends instead, or takes too long: the last reason of `look`.
    pub(super) fn wait_for<T>(&mut self, look: impl Fn() -> Result<T, String>) -> Result<T, (Exit, String)> {
        let deadline = Instant::now() + SERVER_PATIENCE;
        loop {
            let reason = match look() {
                Ok(found) => return Ok(found),
                Err(reason) => reason,
            };
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err((Exit::Failed, format!("{:?} ended with {status} instead of listening", self.command)));
            }
            if Instant::now() > deadline {
                return Err((Exit::Failed, format!("{:?} does not listen: {reason}", self.command)));
            }
            std::thread::park_timeout(LOOK);
        }
    }

    /// Ends it by SIGTERM; what it has started and left behind is killed.
    ///
    /// # Errors
    /// When it does not end.
    pub(super) fn stop(&mut self) -> Result<(), (Exit, String)> {
        signal::terminate(self.child.id());
        let deadline = Instant::now() + SERVER_PATIENCE;
        while !matches!(self.child.try_wait(), Ok(Some(_))) {
            if Instant::now() > deadline {
                return Err((Exit::Failed, format!("{:?} does not end on SIGTERM", self.command)));
            }
            std::thread::park_timeout(LOOK);
        }
        signal::kill_group(self.child.id());
        self.has_ended = true;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.has_ended {
            signal::kill_group(self.child.id());
            let _ = self.child.wait();
        }
    }
}
