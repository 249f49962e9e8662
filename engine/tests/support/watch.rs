//! What a running binary costs, by /proc.

use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

use super::process::Process;

impl Process {
    /// User and system time so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let (_, after_name) = stat.rsplit_once(") ").expect("the name stands in parentheses");
        let ticks = |field| after_name.split(' ').nth(field).unwrap().parse::<u64>().unwrap();
        let ticks_per_second = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap();
        (ticks(11) + ticks(12)) as f64 / ticks_per_second as f64
    }

    /// The share of one core that it uses over the next `span`.
    pub(crate) fn cpu_share_over(&self, span: Duration) -> f64 {
        let (before, began) = (self.cpu_seconds(), Instant::now());
        while began.elapsed() < span {
            std::thread::park_timeout(span.saturating_sub(began.elapsed()));
        }
        (self.cpu_seconds() - before) / began.elapsed().as_secs_f64()
    }

    /// What its open descriptors refer to.
    pub(crate) fn open_files(&self) -> Vec<String> {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        // One that is closed meanwhile is none.
        let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        targets.map(|target| target.to_string_lossy().into_owned()).collect()
    }

    /// The highest resident memory so far, in bytes.
    pub(crate) fn rss_peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a living process has VmHWM");
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }
}
