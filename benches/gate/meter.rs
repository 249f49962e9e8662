//! Counts while a gate runs: allocations, what the engine says of itself, what the kernel says of us.
//!
//! A gate warms up, calls [`Meter::begin`], has each step that belongs to the product run by [`Meter::measure`], and ends
//! with [`Meter::end`]. What it does between the steps (its clients' reads and writes) is not counted.

use std::fmt::Write as _;

use engine::counters::{Counter, Counters, ShardCounters};

use crate::allocator::{self, Asked};
use crate::client;
use crate::kernel::{self, Kernel};

/// A counter of the engine by the name of its figure.
type Reading = (&'static str, fn(&ShardCounters) -> &Counter);

/// What is read of the engine.
const ENGINE: &[Reading] = &[
    ("turns", |shard| &shard.turns),
    ("system_calls", |shard| &shard.system_calls),
    ("submissions", |shard| &shard.submissions),
    ("completions", |shard| &shard.completions),
    ("encodes", |shard| &shard.encodes),
    ("copied_bytes", |shard| &shard.copied_bytes),
];

/// See the module's description.
pub(crate) struct Meter {
    kernel: Option<Kernel>,
    /// Why the kernel's counts are missing, if they were asked for.
    no_kernel: Option<String>,
    before: Asked,
    engine: Vec<u64>,
    is_counting: bool,
    /// System calls of the gate's clients so far, at the beginning.
    clients_calls: u64,
    /// Name, total over all operations.
    figures: Vec<(&'static str, i64)>,
}

impl Meter {
    /// Nothing counted yet. `kernel`: the kernel's counts are wanted.
    pub(crate) fn new(kernel: bool) -> Self {
        let (kernel, no_kernel) = match kernel.then(Kernel::open) {
            Some(Ok(kernel)) => (Some(kernel), None),
            Some(Err(reason)) => (None, Some(reason)),
            None => (None, None),
        };
        let (before, engine, figures) = (Asked::default(), Vec::new(), Vec::new());
        Self { kernel, no_kernel, before, engine, is_counting: false, clients_calls: 0, figures }
    }

    /// From here on it counts. `counters`: of the engine that is at work, if one is.
    pub(crate) fn begin(&mut self, counters: Option<&Counters>) {
        self.engine = counters.map(read).unwrap_or_default();
        self.before = allocator::asked();
        self.clients_calls = client::calls();
        self.is_counting = true;
        kernel::mark(c"gate: begin");
        if let Some(kernel) = &mut self.kernel {
            kernel.begin();
        }
    }

    /// Runs a step of the product; counted only between [`Meter::begin`] and [`Meter::end`].
    pub(crate) fn measure(&mut self, work: impl FnOnce()) {
        if !self.is_counting {
            return work();
        }
        let mut work = Some(work);
        let mut once = || {
            if let Some(work) = work.take() {
                work();
            }
        };
        allocator::count(|| measured(&mut once));
    }

    /// Up to here it has counted.
    pub(crate) fn end(&mut self, counters: Option<&Counters>) {
        let kernel = self.kernel.as_mut().map(Kernel::end);
        kernel::mark(c"gate: end");
        self.is_counting = false;
        let clients_calls = client::calls() - self.clients_calls;
        let asked = allocator::asked();
        self.figures = vec![
            ("allocations", (asked.allocations - self.before.allocations) as i64),
            ("frees", (asked.frees - self.before.frees) as i64),
            ("held_bytes", asked.held_bytes - self.before.held_bytes),
        ];
        if let Some(counters) = counters {
            let now = read(counters);
            let grown = now.iter().zip(&self.engine).map(|(now, before)| (now - before) as i64);
            self.figures.extend(ENGINE.iter().map(|(name, _)| *name).zip(grown));
            self.figures.push(("clients_calls", clients_calls as i64));
        }
        if let (Some(kernel), Some(_)) = (kernel, counters) {
            self.figures.push(("kernel_system_calls", kernel.system_calls as i64 - clients_calls as i64));
            self.figures.push(("kernel_submissions", kernel.submissions as i64));
            self.figures.push(("kernel_completions", kernel.completions as i64));
        }
    }

    /// The figures as one line of JSON; totals, not per operation.
    pub(crate) fn json(&self, gate: &str, operation: &str, operations: u64) -> String {
        let mut out = format!(r#"{{"gate":"{gate}","operation":"{operation}","operations":{operations},"totals":{{"#);
        for (index, (name, total)) in self.figures.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(out, r#"{comma}"{name}":{total}"#);
        }
        out.push('}');
        if let Some(reason) = &self.no_kernel {
            let _ = write!(out, r#","no_kernel_counts":{reason:?}"#);
        }
        out.push('}');
        out
    }
}

/// Callgrind counts the instructions from here to its return, and no others.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
    // Something must follow, or the call above becomes a jump and callgrind never sees this function return.
    std::hint::black_box(());
}

fn read(counters: &Counters) -> Vec<u64> {
    ENGINE.iter().map(|(_, pick)| counters.sum(pick)).collect()
}
