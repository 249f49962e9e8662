//! Making a null peer as slow as is wanted: a capacity in deliveries per second, or CPU time per delivery.

use std::time::Duration;

use crate::cli::PeerArgs;
use crate::sys::clock::{now_ns, thread_cpu_ns};
use crate::wire::frame;

/// How far behind its capacity the peer may catch up.
const CREDIT_NS: f64 = 20e6;

/// What each delivery costs on top of what it takes.
#[derive(Debug)]
pub(super) struct Work {
    /// Time of the server per delivery, in ns; 0: as fast as it goes.
    delivery_ns: f64,
    /// CPU time per delivery, in ns.
    work_ns: u64,
    /// Busy until then, in ns since the epoch.
    free_at_ns: f64,
}

impl Work {
    pub(super) fn new(args: &PeerArgs) -> Self {
        Self { delivery_ns: args.capacity.map_or(0.0, |rate| 1e9 / rate), work_ns: args.work_ns, free_at_ns: 0.0 }
    }

    /// Pays for the delivery of a turn's frames to so many connections, before they are sent. Waiting for the capacity
    /// takes no CPU, which others may need to measure this peer.
    pub(super) fn pay(&mut self, turn: &[u8], connections: usize) {
        if self.delivery_ns == 0.0 && self.work_ns == 0 {
            return;
        }
        let (mut at, mut deliveries) = (0, 0);
        while let Ok(Some(header)) = frame::decode_header(&turn[at..], false) {
            at += header.header_bytes + header.payload_bytes as usize;
            deliveries += connections as u64;
        }
        // By the thread's own clock: what is taken from it while others have the core must be spent all the same.
        let spent_ns = thread_cpu_ns() + self.work_ns * deliveries;
        while thread_cpu_ns() < spent_ns {
            std::hint::spin_loop();
        }
        // A wake that comes late is made up for, idle time is not.
        self.free_at_ns = self.free_at_ns.max(now_ns() as f64 - CREDIT_NS) + self.delivery_ns * deliveries as f64;
        while let left @ 1.. = (self.free_at_ns - now_ns() as f64) as i64 {
            std::thread::park_timeout(Duration::from_nanos(left as u64));
        }
    }
}
