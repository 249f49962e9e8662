//! One monotonic clock for the whole process, in nanoseconds since the first reading. All times of a run are on it,
//! so a stamp needs 48 bits only, and no step of the wall clock can bend a latency. Beside it a thread's CPU time.

use std::sync::OnceLock;

/// Nanoseconds since the epoch of this process (its first call). About 20 ns per call through the vDSO.
pub(crate) fn now_ns() -> u64 {
    static EPOCH: OnceLock<u64> = OnceLock::new();
    let now = read_ns(libc::CLOCK_MONOTONIC);
    // Another thread may have read a later first time in between.
    now.saturating_sub(*EPOCH.get_or_init(|| now))
}

/// CPU time of the calling thread in nanoseconds: stands still while the thread has no core.
pub(crate) fn thread_cpu_ns() -> u64 {
    read_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the kernel to fill; both clocks always exist on Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
