//! SIGINT and SIGTERM as a flag: the run ends early and keeps what it has measured; a second signal ends at once. And
//! the signals that are sent to servers.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;

static ASKED_TO_STOP: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM set the flag; the second one has its usual effect.
pub(crate) fn install() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic and is async-signal-safe; SA_RESETHAND restores the default
        // action for the next signal. `action` is fully initialised.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESETHAND;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Whether SIGINT or SIGTERM has arrived since [`install`].
pub(crate) fn asked_to_stop() -> bool {
    ASKED_TO_STOP.load(Ordering::Relaxed)
}

/// A signal that a scenario may send to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Signal {
    Stop,
    Cont,
    Term,
    Kill,
    Hup,
    Usr1,
    Usr2,
}

impl Signal {
    /// Without the SIG in front.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Cont => "CONT",
            Self::Term => "TERM",
            Self::Kill => "KILL",
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        }
    }

    /// Sends it.
    ///
    /// # Errors
    /// When there is no such process, or it is not ours to signal.
    pub(crate) fn send(self, pid: u32) -> io::Result<()> {
        let number = match self {
            Self::Stop => libc::SIGSTOP,
            Self::Cont => libc::SIGCONT,
            Self::Term => libc::SIGTERM,
            Self::Kill => libc::SIGKILL,
            Self::Hup => libc::SIGHUP,
            Self::Usr1 => libc::SIGUSR1,
            Self::Usr2 => libc::SIGUSR2,
        };
        // SAFETY: kill touches no memory.
        match unsafe { libc::kill(pid as libc::pid_t, number) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Sends SIGTERM to a process that we have started.
pub(crate) fn terminate(pid: u32) {
    // SAFETY: kill touches no memory; a process that is gone is an error that needs no answer.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
}

/// Kills what is left of the process group of a process that we have started as its leader.
pub(crate) fn kill_group(leader: u32) {
    // SAFETY: kill touches no memory; a group that is gone is an error that needs no answer.
    unsafe { libc::kill(-(leader as libc::pid_t), libc::SIGKILL) };
}

extern "C" fn note(_signal: libc::c_int) {
    ASKED_TO_STOP.store(true, Ordering::Relaxed);
}
