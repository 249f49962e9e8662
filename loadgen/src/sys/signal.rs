//! SIGINT and SIGTERM as a flag: the run ends early and keeps what it has measured; a second signal ends at once.

use std::sync::atomic::{AtomicBool, Ordering};

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

/// Sends SIGTERM to a process that we have started.
pub(crate) fn terminate(pid: u32) {
    // SAFETY: kill touches no memory; a process that is gone is an error that needs no answer.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
}

extern "C" fn note(_signal: libc::c_int) {
    ASKED_TO_STOP.store(true, Ordering::Relaxed);
}
