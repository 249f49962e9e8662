//! Limits of this process and the cores it may use.

use std::io;

/// Raises the soft limit of open files to the hard one and returns what now holds.
///
/// # Errors
/// When the kernel refuses to tell or to change the limit.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the kernel to fill and then to read.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Cores that the affinity mask allows, in ascending order; never empty.
pub(crate) fn allowed_cores() -> Vec<usize> {
    // SAFETY: a zeroed cpu_set_t is valid and empty, and the kernel fills at most its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set);
        set
    };
    // SAFETY: every index is below CPU_SETSIZE.
    let cores = (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) });
    let cores: Vec<usize> = cores.collect();
    if cores.is_empty() { vec![0] } else { cores }
}

/// Binds the calling thread to one core. A refusal costs speed only, so it is not an error.
pub(crate) fn pin_to(core: usize) {
    // SAFETY: a zeroed cpu_set_t is valid; `core` came from the affinity mask, hence below CPU_SETSIZE.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// Asks for timers of the calling thread that fire within 1 ns of their time instead of the default 50 us.
pub(crate) fn sharpen_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes one integer and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}
