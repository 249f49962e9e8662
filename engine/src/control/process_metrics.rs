//! `process_*`: what the kernel knows about this process.
//!
//! Not the prometheus crate's own collector: that one counts CPU time in whole seconds, which is too coarse for
//! CPU-per-delivery figures, and brings a dozen crates. A number that cannot be read is left out, not shown as 0.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeVal;
use nix::unistd::{SysconfVar, sysconf};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Metric, MetricFamily, MetricType};

use super::metrics::{desc, family, gauge};

const CPU: (&str, &str) = ("process_cpu_seconds_total", "User and system CPU time in seconds.");
const OPEN_FDS: (&str, &str) = ("process_open_fds", "Open file descriptors.");
const MAX_FDS: (&str, &str) = ("process_max_fds", "Most file descriptors the process may open.");
const RESIDENT: (&str, &str) = ("process_resident_memory_bytes", "Resident memory in bytes.");
const VIRTUAL: (&str, &str) = ("process_virtual_memory_bytes", "Virtual memory in bytes.");
const START: (&str, &str) = ("process_start_time_seconds", "Start of the process in seconds since the Unix epoch.");
const THREADS: (&str, &str) = ("process_threads", "Threads.");

/// The collector.
pub(super) struct ProcessMetrics {
    descs: Vec<Desc>,
    start_seconds: Option<f64>,
}

impl ProcessMetrics {
    pub(super) fn new() -> Self {
        let descs =
            [CPU, OPEN_FDS, MAX_FDS, RESIDENT, VIRTUAL, START, THREADS].map(|(name, help)| desc(name, help, &[]));
        Self { descs: descs.to_vec(), start_seconds: start_seconds() }
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |key| status_number(&status, key).map(|kilobytes| kilobytes * 1024.0);
        let gauges = [
            (OPEN_FDS, open_fds()),
            (MAX_FDS, getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft as f64)),
            (RESIDENT, bytes("VmRSS:")),
            (VIRTUAL, bytes("VmSize:")),
            (START, self.start_seconds),
            (THREADS, status_number(&status, "Threads:")),
        ];
        let mut families: Vec<MetricFamily> = gauges
            .into_iter()
            .filter_map(|((name, help), value)| Some(family(name, help, MetricType::GAUGE, vec![gauge(&[], value?)])))
            .collect();
        families.extend(cpu_seconds().map(|seconds| {
            let mut counter = Counter::default();
            counter.set_value(seconds);
            let mut metric = Metric::default();
            metric.set_counter(counter);
            family(CPU.0, CPU.1, MetricType::COUNTER, vec![metric])
        }));
        families
    }
}

fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Some(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// Since Linux 6.2 the directory's size is the number of descriptors; before, it is 0 and they are counted one by one.
fn open_fds() -> Option<f64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // The directory is read through a descriptor of its own.
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64 - 1.0),
        count => Some(count as f64),
    }
}

/// The number behind `key` in `/proc/self/status`.
fn status_number(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The start of the process: the boot time plus the ticks from there to its start (field 22 of `/proc/self/stat`).
fn start_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name, in parentheses, may contain anything; field 3 follows the last of them.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: f64 = fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()?;
    let ticks_per_second = sysconf(SysconfVar::CLK_TCK).ok()?? as f64;
    let boot_seconds = status_number(&fs::read_to_string("/proc/stat").ok()?, "btime ")?;
    Some(boot_seconds + ticks / ticks_per_second)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    /// The value of one metric at this moment.
    fn value(name: &str) -> f64 {
        let families = ProcessMetrics::new().collect();
        let family = families.iter().find(|family| family.name() == name).unwrap_or_else(|| panic!("no {name}"));
        let metric = &family.get_metric()[0];
        if family.get_field_type() == MetricType::COUNTER {
            return metric.get_counter().get_value();
        }
        metric.get_gauge().get_value()
    }

    #[test]
    fn open_descriptors_are_counted() {
        let before = value(OPEN_FDS.0);
        let files: Vec<_> = (0..200).map(|_| File::open("/dev/null").unwrap()).collect();
        // Other tests open and close some at the same time.
        let growth = value(OPEN_FDS.0) - before;
        assert!((150.0..=250.0).contains(&growth), "{} files, growth {growth}", files.len());
        assert!(value(MAX_FDS.0) >= value(OPEN_FDS.0));
    }

    #[test]
    fn memory_is_in_bytes() {
        let before = [RESIDENT, VIRTUAL].map(|(name, _)| value(name));
        let block = vec![1_u8; 64 << 20];
        let after = [RESIDENT, VIRTUAL].map(|(name, _)| value(name));
        let growth = [after[0] - before[0], after[1] - before[1]];
        assert!(growth.iter().all(|growth| *growth > 0.9 * block.len() as f64), "{growth:?}");
        assert!(after[1] >= after[0]);
    }

    #[test]
    fn cpu_time_grows_in_fractions_of_a_second() {
        let before = value(CPU.0);
        let mut rounds: u64 = 0;
        while value(CPU.0) < before + 0.02 {
            rounds += 1;
            assert!(rounds < 10_000_000, "CPU time does not grow");
        }
        assert!(value(CPU.0) < before + 10.0);
    }

    #[test]
    fn the_start_lies_shortly_before_now() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value(START.0);
        // The boot time is given in whole seconds.
        assert!((-2.0..3600.0).contains(&age), "{age}");
    }

    #[test]
    fn threads_are_counted() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || stopped.recv());
        assert!(value(THREADS.0) >= 2.0);
        drop(stop);
        assert!(thread.join().unwrap().is_err());
    }
}
