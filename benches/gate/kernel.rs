//! The kernel's own counts of this thread, from its tracepoints: what the engine says of itself is checked against them.

use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};

/// Where the kernel says which tracepoints it has, one of them mounted where they can be used.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];
/// Names by kernel version, the newest first.
const SUBMISSION: [&str; 3] =
    ["io_uring/io_uring_submit_req", "io_uring/io_uring_submit_sqe", "io_uring/io_uring_submit"];

/// What the kernel counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub system_calls: u64,
    pub submissions: u64,
    pub completions: u64,
}

/// The counters, of the calling thread.
pub(crate) struct Kernel {
    system_calls: Counter,
    submissions: Counter,
    completions: Counter,
}

impl Kernel {
    /// Opens them.
    ///
    /// # Errors
    /// Why they cannot be had: no tracefs, no rights, no such tracepoint.
    pub(crate) fn open() -> Result<Self, String> {
        Ok(Self {
            system_calls: open(&["raw_syscalls/sys_enter"])?,
            submissions: open(&SUBMISSION)?,
            completions: open(&["io_uring/io_uring_complete"])?,
        })
    }

    /// Counts from here on.
    pub(crate) fn begin(&mut self) {
        for counter in [&mut self.submissions, &mut self.completions, &mut self.system_calls] {
            counter.enable().expect("an open counter can be enabled");
        }
    }

    /// Ends it and says what came.
    pub(crate) fn end(&mut self) -> Counted {
        for counter in [&mut self.system_calls, &mut self.submissions, &mut self.completions] {
            counter.disable().expect("an open counter can be disabled");
        }
        let read = |counter: &mut Counter| counter.read().expect("an open counter can be read");
        Counted {
            // The call that ends the counting is counted itself.
            system_calls: read(&mut self.system_calls) - 1,
            submissions: read(&mut self.submissions),
            completions: read(&mut self.completions),
        }
    }
}

fn open(names: &[&str]) -> Result<Counter, String> {
    let id = names.iter().find_map(|name| id_of(name));
    let id = id.ok_or_else(|| format!("no tracepoint {} (is tracefs mounted, and are we root?)", names[0]))?;
    let counter = Builder::new(Tracepoint::with_id(id)).include_kernel().observe_self().any_cpu().build();
    counter.map_err(|error| format!("perf_event_open for {}: {error}", names[0]))
}

fn id_of(name: &str) -> Option<u64> {
    TRACEFS.iter().find_map(|folder| std::fs::read_to_string(format!("{folder}/{name}/id")).ok()?.trim().parse().ok())
}

/// Marks this moment for whoever watches our system calls from outside (strace): gives the thread this name.
pub(crate) fn mark(name: &std::ffi::CStr) {
    // A thread without a name of its own goes on as well.
    let _ = nix::sys::prctl::set_name(name);
}
