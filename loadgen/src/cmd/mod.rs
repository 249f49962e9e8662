//! The commands: from arguments to an exit code. Each file is one command.

pub(crate) mod ab;
mod ceiling;
pub(crate) mod compare;
pub(crate) mod doctor;
pub(crate) mod idle;
pub(crate) mod load;
pub(crate) mod peer;
pub(crate) mod plan;
pub(crate) mod search;
mod server;

/// How the process ends, as the contract fixes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; the SLO held, or there was none.
    Held = 0,
    /// The SLO did not hold.
    NotHeld = 1,
    /// The command line or a scenario is wrong.
    Usage = 2,
    /// The generator was the bottleneck.
    Invalid = 3,
    /// Could not connect, finish or write.
    Failed = 4,
}
