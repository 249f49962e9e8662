//! Readers that are slow on purpose: they stop, throttle or stall after their upgrade.

use std::io;
use std::os::fd::RawFd;

use crate::sys::port::Port;
use crate::workload::Reading;

/// How often a throttled reader reads.
const THROTTLE_NS: u64 = 10_000_000;

/// All slow readers of one thread.
#[derive(Debug, Default)]
pub(super) struct SlowReaders {
    list: Vec<SlowReader>,
    /// The earliest due time of them all, in ns since the epoch.
    next_due_ns: Option<u64>,
}

#[derive(Debug)]
struct SlowReader {
    slot: u32,
    fd: RawFd,
    reading: Reading,
    due_ns: u64,
    /// A stalling reader is in the time in which it reads.
    is_reading: bool,
}

impl SlowReaders {
    /// From now on this connection reads so; [`Reading::Full`] ends its being slow.
    pub(super) fn set(&mut self, slot: u32, fd: RawFd, reading: Reading, now_ns: u64) {
        self.remove(slot);
        self.list.push(SlowReader { slot, fd, reading, due_ns: now_ns, is_reading: true });
        self.next_due_ns = Some(now_ns);
    }

    /// The connection is gone.
    pub(super) fn remove(&mut self, slot: u32) {
        self.list.retain(|reader| reader.slot != slot);
    }

    /// When a reader is due to act, in ns since the epoch; `u64::MAX`: none.
    pub(super) fn next_due_ns(&self) -> u64 {
        self.next_due_ns.unwrap_or(u64::MAX)
    }

    /// Acts for the next reader that is due; `Some((slot, bytes))`: so many are in the port's buffer for it.
    ///
    /// # Errors
    /// When the kernel refuses to turn a socket's events off or on.
    pub(super) fn drive(&mut self, now_ns: u64, port: &mut Port) -> io::Result<Option<(u32, usize)>> {
        if self.next_due_ns() > now_ns {
            return Ok(None);
        }
        while let Some(reader) = self.list.iter_mut().find(|reader| reader.due_ns <= now_ns) {
            match reader.reading {
                Reading::Full => {
                    let SlowReader { fd, slot, .. } = *reader;
                    self.remove(slot);
                    port.set_receiving(fd, slot, true)?;
                }
                Reading::Stopped => {
                    port.set_receiving(reader.fd, reader.slot, false)?;
                    reader.due_ns = u64::MAX;
                }
                Reading::Throttled { bytes_per_s } => {
                    port.set_receiving(reader.fd, reader.slot, false)?;
                    // Below one byte per turn the turns are further apart.
                    let bytes = (bytes_per_s * THROTTLE_NS as f64 / 1e9).max(1.0);
                    reader.due_ns = now_ns + (bytes / bytes_per_s * 1e9) as u64;
                    let received = port.receive(reader.fd, bytes as usize);
                    if received > 0 {
                        return Ok(Some((reader.slot, received)));
                    }
                }
                Reading::Stalling { stall_ns, every_ns } => {
                    reader.is_reading = !reader.is_reading;
                    port.set_receiving(reader.fd, reader.slot, reader.is_reading)?;
                    reader.due_ns = now_ns + if reader.is_reading { every_ns - stall_ns } else { stall_ns };
                }
            }
        }
        self.next_due_ns = self.list.iter().map(|reader| reader.due_ns).min().filter(|due| *due != u64::MAX);
        Ok(None)
    }
}
