//! Which cores this process may use, and which shard is pinned to which.
//!
//! In: the affinity mask, the cgroup's quota and the configuration. Out: a [`Placement`], one entry per shard. A core is
//! never given twice: what exceeds the cores runs where the kernel puts it.

use std::fmt;
use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::config::{SHARDS_MAX, ShardCount};

/// What this process may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cores {
    /// The affinity mask, ascending.
    pub allowed: Vec<usize>,
    /// How many of them the cgroup's quota (v2 or v1) amounts to, rounded down; at least 1.
    pub quota: usize,
}

/// Where the shards run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// One per shard: the core that it is pinned to, if any.
    pub cores: Vec<Option<usize>>,
    /// What the placement was made from.
    pub available: Cores,
}

impl Cores {
    /// Asks the kernel. To be called before any thread is pinned: the mask is the calling thread's.
    ///
    /// # Errors
    /// That of `sched_getaffinity(2)`.
    pub fn of_this_process() -> io::Result<Self> {
        let mask = sched_getaffinity(Pid::from_raw(0))?;
        let allowed: Vec<usize> = (0..CpuSet::count()).filter(|core| mask.is_set(*core).unwrap_or(false)).collect();
        let quota = std::thread::available_parallelism()?.get();
        Ok(Self { allowed, quota })
    }
}

impl Placement {
    /// Places the shards on `cpus`, or on every core allowed if `cpus` is empty.
    ///
    /// With a quota below the cores allowed nothing is pinned: in each of many containers on a machine the first core would
    /// be the same one.
    ///
    /// # Errors
    /// A core in `cpus` that this process may not use, in words for the configuration's author.
    pub fn new(shards: ShardCount, cpus: &[usize], available: Cores) -> Result<Self, String> {
        if let Some(core) = cpus.iter().find(|core| !available.allowed.contains(core)) {
            let allowed = ranges(&available.allowed);
            return Err(format!("server.cpus: core {core} is not allowed by this process's affinity ({allowed})"));
        }
        let pinnable: &[usize] = match cpus {
            [] if available.quota < available.allowed.len() => &[],
            [] => &available.allowed,
            _ => cpus,
        };
        let auto = if cpus.is_empty() { available.quota.min(available.allowed.len()) } else { cpus.len() };
        let count = match shards {
            ShardCount::Auto => auto.clamp(1, usize::from(SHARDS_MAX)),
            ShardCount::Count(count) => usize::from(count),
        };
        let cores = (0..count).map(|shard| pinnable.get(shard).copied()).collect();
        Ok(Self { cores, available })
    }

    /// Shards that are not pinned to a core.
    #[must_use]
    pub fn unpinned_count(&self) -> usize {
        self.cores.iter().filter(|core| core.is_none()).count()
    }
}

/// `2`, or `4 (2 not pinned)`.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cores.len())?;
        match self.unpinned_count() {
            0 => Ok(()),
            unpinned => write!(f, " ({unpinned} not pinned)"),
        }
    }
}

/// Pins the calling thread to a core.
///
/// # Errors
/// That of `sched_setaffinity(2)`; `EINVAL` also for a core beyond the mask.
pub fn pin_thread(core: usize) -> io::Result<()> {
    let mut mask = CpuSet::new();
    mask.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &mask)?)
}

/// Ascending numbers as `0-3,8`.
#[must_use]
pub fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    runs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(shards: ShardCount, cpus: &[usize], allowed: &[usize], quota: usize) -> Vec<Option<usize>> {
        Placement::new(shards, cpus, Cores { allowed: allowed.to_vec(), quota }).unwrap().cores
    }

    #[test]
    fn shards_take_the_cores_in_order_and_the_surplus_is_not_pinned() {
        use ShardCount::{Auto, Count};
        assert_eq!(placed(Auto, &[], &[1, 3], 2), [Some(1), Some(3)]);
        assert_eq!(placed(Count(1), &[], &[1, 3], 2), [Some(1)]);
        assert_eq!(placed(Count(3), &[], &[1, 3], 2), [Some(1), Some(3), None]);
        assert_eq!(placed(Auto, &[3], &[1, 3], 2), [Some(3)]);
        assert_eq!(placed(Count(2), &[3], &[1, 3], 2), [Some(3), None]);
        assert_eq!(placed(Auto, &[], &(0..100).collect::<Vec<_>>(), 100).len(), 64);
    }

    #[test]
    fn under_a_quota_fewer_shards_start_and_none_is_pinned() {
        assert_eq!(placed(ShardCount::Auto, &[], &[0, 1, 2, 3], 2), [None, None]);
        assert_eq!(placed(ShardCount::Auto, &[2, 3], &[0, 1, 2, 3], 1), [Some(2), Some(3)]);
    }

    #[test]
    fn a_core_that_is_not_allowed_is_refused_by_name() {
        let error = Placement::new(ShardCount::Auto, &[0, 4], Cores { allowed: vec![0, 1, 3], quota: 3 }).unwrap_err();
        assert_eq!(error, "server.cpus: core 4 is not allowed by this process's affinity (0-1,3)");
    }

    #[test]
    fn a_pinned_thread_may_use_that_core_only() {
        let core = *Cores::of_this_process().unwrap().allowed.last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin_thread(core).unwrap();
            Cores::of_this_process().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), Cores { allowed: vec![core], quota: 1 });
    }
}
