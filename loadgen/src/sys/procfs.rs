//! What /proc tells about a process: CPU time, context switches, memory; and its descendants, since a server may be
//! started by a shell or a package manager, and may fork workers.

use std::{fs, io};

use super::clock::process_cpu_ns;

/// A tick of the times in /proc/PID/stat, in ns: 100 a second on every architecture that we build for.
const TICK_NS: u64 = 10_000_000;

/// Usage of a process at one moment; subtract two of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// CPU time of all its threads, in nanoseconds (the scheduler's own count, not ticks).
    pub(crate) cpu_ns: u64,
    /// Time its living threads were ready to run but waited for a core, in nanoseconds.
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

/// CPU time and context switches of `pid` alone, summed over its threads.
///
/// # Errors
/// When there is no such process or it may not be read.
pub(crate) fn usage(pid: u32) -> io::Result<Usage> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    let mut sum = Usage { cpu_ns: process_cpu_ns(pid)?, ..Usage::default() };
    for thread in threads {
        let thread = thread?.path();
        // A thread may end between the listing and the reading.
        let Ok(schedstat) = fs::read_to_string(thread.join("schedstat")) else { continue };
        let mut fields = schedstat.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0));
        sum.run_delay_ns += fields.nth(1).unwrap_or(0);
        if let Ok(status) = fs::read_to_string(thread.join("status")) {
            sum.context_switches += status.lines().filter_map(context_switches).sum::<u64>();
        }
    }
    Ok(sum)
}

/// The same of `pid` with all that descends from it, as [`tree_cpu_ns`] counts.
///
/// # Errors
/// When there is no such process or it may not be read.
pub(crate) fn tree_usage(pid: u32) -> io::Result<Usage> {
    let mut sum = Usage { cpu_ns: tree_cpu_ns(pid)?, ..Usage::default() };
    for of in tree(pid).into_iter().filter_map(|pid| usage(pid).ok()) {
        sum.run_delay_ns += of.run_delay_ns;
        sum.context_switches += of.context_switches;
    }
    Ok(sum)
}

/// CPU time of `pid` with all that descends from it, in ns. What has ended counts when its parent has waited for it, in
/// ticks of 10 ms.
///
/// # Errors
/// When there is no such process or it may not be read.
pub(crate) fn tree_cpu_ns(pid: u32) -> io::Result<u64> {
    let cpu_ns = |pid: u32| -> io::Result<u64> { Ok(waited_for_ns(pid)? + process_cpu_ns(pid)?) };
    let itself = cpu_ns(pid)?;
    Ok(itself + tree(pid)[1..].iter().filter_map(|pid| cpu_ns(*pid).ok()).sum::<u64>())
}

/// `pid` and all that descends from it.
fn tree(pid: u32) -> Vec<u32> {
    let mut tree = vec![pid];
    let mut at = 0;
    while let Some(pid) = tree.get(at) {
        let children = children(*pid);
        tree.extend(children);
        at += 1;
    }
    tree
}

/// The children of all threads of `pid`; none where the kernel does not tell (CONFIG_PROC_CHILDREN).
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// CPU time of the children that `pid` has waited for, and of theirs, in ns.
fn waited_for_ns(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold anything; behind it cutime and cstime are the 14th and the 15th.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    Ok(fields.skip(13).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum::<u64>() * TICK_NS)
}

/// Resident and private dirty memory of `pid` alone.
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
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::sys::signal::Signal;

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
    fn work_of_descendants_shows_in_the_usage_of_the_tree() {
        let script = "(while :; do :; done) & wait";
        let mut shell = Command::new("sh").args(["-c", script]).spawn().unwrap();
        while tree_cpu_ns(shell.id()).unwrap() < 100_000_000 {
            std::hint::spin_loop();
        }
        let (alone, tree) = (usage(shell.id()).unwrap(), tree_usage(shell.id()).unwrap());
        for child in children(shell.id()) {
            Signal::Kill.send(child).unwrap();
        }
        assert!(tree.cpu_ns >= 100_000_000 && alone.cpu_ns < tree.cpu_ns / 2, "{alone:?} {tree:?}");
        assert!(tree.context_switches >= alone.context_switches);
        shell.wait().unwrap();
    }

    #[test]
    fn work_of_children_that_have_ended_shows_in_the_usage_of_the_tree() {
        let script = "i=0; (while [ $i -lt 300000 ]; do i=$((i + 1)); done); echo done; read line";
        let mut shell = Command::new("sh");
        let mut shell = shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (alone, tree) = (usage(shell.id()).unwrap(), tree_usage(shell.id()).unwrap());
        assert!(tree.cpu_ns >= alone.cpu_ns + TICK_NS, "{alone:?} {tree:?}");
        drop(shell.stdin.take());
        shell.wait().unwrap();
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
        assert!(usage(u32::MAX).is_err() && tree_usage(u32::MAX).is_err() && memory(u32::MAX).is_err());
    }
}
