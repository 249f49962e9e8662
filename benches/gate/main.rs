//! What the performance gate counts: one gate per run, the same steps each time, figures that do not depend on the clock.
//!
//! ```text
//! gate list               the gates' names, one per line; those that need io_uring end in /ring
//! gate run NAME           runs it and prints its figures as one line of JSON; Exit: 1 if it did not do what it counts
//!          --kernel       with the kernel's own count of system calls, submissions and completions
//! ```
//!
//! `perf/gate.py` runs each gate natively for what [`meter`] counts, and under callgrind for the instructions below
//! [`meter::measured`]; `perf/budgets.toml` says what is allowed.

mod allocator;
mod client;
mod kernel;
mod meter;
mod pieces;
mod relaying;

use std::process::ExitCode;

use meter::Meter;

/// One gate: a name, what one operation of it is, and the steps.
struct Gate {
    name: &'static str,
    /// The singular of what is counted.
    operation: &'static str,
    /// How many operations a run must come to.
    operations: u64,
    /// Runs it and returns how many operations it saw done.
    run: fn(&mut Meter) -> u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let gates: Vec<Gate> = relaying::gates().into_iter().chain(pieces::gates()).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => {
            gates.iter().for_each(|gate| println!("{}", gate.name));
            ExitCode::SUCCESS
        }
        ["run", name] => run(&gates, name, false),
        ["run", name, "--kernel"] => run(&gates, name, true),
        _ => usage("gate list | gate run NAME [--kernel]"),
    }
}

fn run(gates: &[Gate], name: &str, kernel: bool) -> ExitCode {
    let Some(gate) = gates.iter().find(|gate| gate.name == name) else {
        return usage(&format!("there is no gate {name:?}: see `gate list`"));
    };
    let mut meter = Meter::new(kernel);
    let seen = (gate.run)(&mut meter);
    println!("{}", meter.json(gate.name, gate.operation, seen));
    if seen == gate.operations {
        return ExitCode::SUCCESS;
    }
    eprintln!("gate: {name}: {seen} operations, not {}", gate.operations);
    ExitCode::FAILURE
}

fn usage(text: &str) -> ExitCode {
    eprintln!("gate: {text}");
    ExitCode::from(2)
}
