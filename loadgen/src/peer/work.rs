//! Making a null peer as slow as is wanted: a capacity in deliveries per second, or CPU time per delivery.

use crate::cli::PeerArgs;
use crate::sys::clock::now_ns;
use crate::wire::frame;

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

    /// Waits, busy as a server is, until the deliveries so far are paid for.
    pub(super) fn wait_until_free(&mut self) {
        let now = now_ns() as f64;
        self.free_at_ns = self.free_at_ns.max(now);
        while (now_ns() as f64) < self.free_at_ns {
            std::hint::spin_loop();
        }
    }

    /// Books the delivery of a turn's frames to one connection.
    pub(super) fn spend(&mut self, turn: &[u8]) {
        if self.delivery_ns == 0.0 && self.work_ns == 0 {
            return;
        }
        let (mut at, mut frames) = (0, 0);
        while let Ok(Some(header)) = frame::decode_header(&turn[at..], false) {
            at += header.header_bytes + header.payload_bytes as usize;
            frames += 1;
        }
        self.free_at_ns += self.delivery_ns * frames as f64;
        let until = now_ns() + self.work_ns * frames;
        while self.work_ns > 0 && now_ns() < until {
            std::hint::spin_loop();
        }
    }
}
