//! SIGINT, SIGTERM and SIGHUP as events on the control thread.
//!
//! From [`Signals::new`] on, none of the three kills the process any more: whoever owns the [`Signals`] decides, also
//! about the second one. Equal signals that arrive before the first is read are one event, as in the kernel.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGINT or SIGTERM: stop.
    Shutdown(Stop),
    /// SIGHUP: read certificate and key again.
    Reload,
}

/// Which signal asked for the stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT, Ctrl+C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Stop {
    /// The exit code of a process that this signal ended at once: 128 + its number.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Stop::Interrupt => 130,
            Stop::Terminate => 143,
        }
    }

    /// The signal's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stop::Interrupt => "SIGINT",
            Stop::Terminate => "SIGTERM",
        }
    }
}

/// The stream of requests.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes over the three signals. Must be called on a [runtime](super::runtime).
    ///
    /// # Errors
    /// When a signal handler cannot be installed.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next request; never ends. May be cancelled without losing one.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Request::Shutdown(Stop::Terminate),
            _ = self.interrupt.recv() => Request::Shutdown(Stop::Interrupt),
            _ = self.hangup.recv() => Request::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, raise};

    use super::*;
    use crate::control::runtime;

    #[test]
    fn each_signal_is_its_request_on_both_runtimes() {
        for prefer_io_uring in [true, false] {
            let (thread, _) = runtime::spawn(prefer_io_uring, "signals", || async {
                let mut signals = Signals::new().unwrap();
                let mut seen = Vec::new();
                for number in [SIGHUP, SIGTERM, SIGINT, SIGTERM] {
                    raise(number).unwrap();
                    seen.push(signals.next().await);
                }
                seen
            })
            .unwrap();
            let [terminate, interrupt] = [Stop::Terminate, Stop::Interrupt].map(Request::Shutdown);
            assert_eq!(thread.join().unwrap(), [Request::Reload, terminate, interrupt, terminate]);
        }
    }

    #[test]
    fn exit_codes_are_those_a_shell_shows() {
        assert_eq!(Stop::Interrupt.exit_code(), 128 + SIGINT as u8);
        assert_eq!(Stop::Terminate.exit_code(), 128 + SIGTERM as u8);
    }
}
