//! The conductor's part of the events: tells of each when its time has come, and signals the server's process.

use std::collections::VecDeque;

use crate::sys::signal::Signal;
use crate::workload::Load;
use crate::workload::events::{Action, Event};

/// Events to come and those that have been.
#[derive(Debug)]
pub(super) struct Happenings {
    /// The next first.
    coming: VecDeque<Event>,
    /// The beginning of the measurement, in ns since the epoch; `u64::MAX` before it is known.
    measure_ns: u64,
    server_pid: Option<u32>,
    /// The server's process is stopped by us.
    has_stopped: bool,
    /// ns after the beginning of the measurement, and what.
    pub(super) been: Vec<(u64, String)>,
}

impl Happenings {
    pub(super) fn new(load: &Load, server_pid: Option<u32>) -> Self {
        let coming = load.events.iter().cloned().collect();
        Self { coming, measure_ns: u64::MAX, server_pid, has_stopped: false, been: Vec::new() }
    }

    /// The measurement begins at `measure_ns`.
    pub(super) fn start(&mut self, measure_ns: u64) {
        self.measure_ns = measure_ns;
    }

    /// When there is something to do, in ns since the epoch; `u64::MAX`: never.
    pub(super) fn next_due_ns(&self) -> u64 {
        self.coming.front().map_or(u64::MAX, |event| self.measure_ns.saturating_add(event.at_ns))
    }

    /// Takes the next event that is due: its signal is sent, the threads do the rest. Returns what it is.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Option<Result<String, String>> {
        if self.next_due_ns() > now_ns {
            return None;
        }
        let event = self.coming.pop_front()?;
        if let (Action::Signal(signal), Some(pid)) = (&event.action, self.server_pid) {
            if let Err(error) = signal.send(pid) {
                return Some(Err(format!("cannot send SIG{} to process {pid}: {error}", signal.name())));
            }
            self.has_stopped = match signal {
                Signal::Stop => true,
                Signal::Cont => false,
                _ => self.has_stopped,
            };
        }
        self.been.push((event.at_ns, event.what.clone()));
        Some(Ok(event.what))
    }

    /// The run is over: a server that we have stopped goes on.
    pub(super) fn end(&mut self) {
        if let (true, Some(pid)) = (std::mem::take(&mut self.has_stopped), self.server_pid) {
            // If it has gone meanwhile, there is nothing to wake.
            let _ = Signal::Cont.send(pid);
        }
    }
}
