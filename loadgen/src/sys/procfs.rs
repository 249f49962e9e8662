//! What /proc tells about a process: CPU time, context switches, memory.

use std::{fs, io};

/// Usage of a process at one moment; subtract two of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// CPU time of all its living threads, in nanoseconds (the scheduler's own count, not 10 ms ticks).
    pub(crate) cpu_ns: u64,
    /// Time its threads were ready to run but waited for a core, in nanoseconds.
    pub(crate) run_delay_ns: u64,
    /// Voluntary and involuntary context switches.
    pub(crate) context_switches: u64,
}

/// Memory of a process, in bytes, from smaps_rollup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) rss_bytes: u64,
    pub(crate) private_dirty_bytes: u64,
}

/// CPU time and context switches of `pid`, summed over its threads.
///
/// # Errors
/// When there is no such process or it may not be read.
pub(crate) fn usage(pid: u32) -> io::Result<Usage> {
    let mut sum = Usage::default();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.path();
        // A thread may end between the listing and the reading.
        let Ok(schedstat) = fs::read_to_string(thread.join("schedstat")) else { continue };
        let mut fields = schedstat.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0));
        sum.cpu_ns += fields.next().unwrap_or(0);
        sum.run_delay_ns += fields.next().unwrap_or(0);
        if let Ok(status) = fs::read_to_string(thread.join("status")) {
            sum.context_switches += status.lines().filter_map(context_switches).sum::<u64>();
        }
    }
    Ok(sum)
}

/// Resident and private dirty memory of `pid`.
///
/// # Errors
/// When there is no such process or it may not be read.
pub(crate) fn memory(pid: u32) -> io::Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(Memory { rss_bytes: kilobytes(&text, "Rss:"), private_dirty_bytes: kilobytes(&text, "Private_Dirty:") })
}

/// Share of the machine's time that the hypervisor gave to others: (steal, total) in ticks since boot.
pub(crate) fn steal_and_total_ticks() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_ascii_whitespace().skip(1);
    // user nice system idle iowait irq softirq steal; guest time is part of user time already.
    let ticks: Vec<u64> = fields.take(8).map(|field| field.parse().unwrap_or(0)).collect();
    (ticks.get(7).copied().unwrap_or(0), ticks.iter().sum())
}

fn context_switches(line: &str) -> Option<u64> {
    let (name, count) = line.split_once(':')?;
    if name.ends_with("voluntary_ctxt_switches") { count.trim().parse().ok() } else { None }
}

fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_the_usage_of_the_own_process() {
        let pid = std::process::id();
        let before = usage(pid).unwrap();
        let mut x = 1u64;
        while usage(pid).unwrap().cpu_ns < before.cpu_ns + 20_000_000 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(usage(pid).unwrap().cpu_ns > before.cpu_ns);
    }

    #[test]
    fn touched_pages_show_in_the_memory_of_the_own_process() {
        let before = memory(std::process::id()).unwrap();
        let block = std::hint::black_box(vec![1u8; 32 << 20]);
        let after = memory(std::process::id()).unwrap();
        assert!(after.private_dirty_bytes >= before.private_dirty_bytes + (30 << 20));
        assert!(after.rss_bytes >= after.private_dirty_bytes && block[77] == 1);
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        assert!(usage(u32::MAX).is_err() && memory(u32::MAX).is_err());
    }
}
