//! Where the server is in its life, as `/readyz` tells it to load balancers.
//!
//! The state only moves forward: a start that finishes after a shutdown has begun cannot make the server ready again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The life of a server, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Not every shard listens yet.
    Starting = 0,
    /// All shards listen.
    Ready = 1,
    /// A shutdown has begun: no new connections.
    Draining = 2,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Draining => "draining",
        })
    }
}

/// The shared [`State`]; clones see the same one.
#[derive(Debug, Clone)]
pub struct Health(Arc<AtomicU8>);

impl Health {
    /// Starts at [`State::Starting`].
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(AtomicU8::new(State::Starting as u8)))
    }

    /// The state at this moment.
    #[must_use]
    pub fn state(&self) -> State {
        match self.0.load(Ordering::Acquire) {
            0 => State::Starting,
            1 => State::Ready,
            _ => State::Draining,
        }
    }

    /// Moves forward to `state`; without effect if it is already past it.
    pub fn advance(&self, state: State) {
        self.0.fetch_max(state as u8, Ordering::AcqRel);
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_state() {
        let health = Health::new();
        let clone = health.clone();
        assert_eq!(clone.state(), State::Starting);
        health.advance(State::Ready);
        assert_eq!(clone.state(), State::Ready);
    }

    #[test]
    fn a_late_start_does_not_undo_a_shutdown() {
        let health = Health::new();
        health.advance(State::Draining);
        health.advance(State::Ready);
        assert_eq!(health.state(), State::Draining);
    }
}
