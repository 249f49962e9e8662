//! What is due is stamped, and what waits is sent.

use super::Worker;

/// A publisher whose connection does not take its messages stops being given more at this backlog.
const OUTBOX_BYTES_MAX: usize = 64 << 20;

impl Worker {
    pub(super) fn publish_due(&mut self, now_ns: u64) {
        while let Some((publisher, intended_ns)) = self.publishing.take_due(now_ns) {
            self.publish(publisher, intended_ns, now_ns);
        }
    }

    /// Closed loop: fills every publisher's window.
    pub(super) fn publish_ready(&mut self, now_ns: u64) {
        // Who completes a message for a publisher of this thread wakes it afterwards.
        if std::mem::take(&mut self.was_woken) {
            self.publishing.collect_completed(&self.shared, now_ns);
        }
        while let Some((publisher, count)) = self.publishing.take_ready() {
            if now_ns < self.tally.measured.end {
                (0..count).for_each(|_| self.publish(publisher, now_ns, now_ns));
            }
        }
    }

    pub(super) fn publish(&mut self, publisher: u32, intended_ns: u64, now_ns: u64) {
        let Some(slot) = self.publishing.slot(publisher) else { return };
        let connection = &mut self.connections[slot as usize];
        if connection.waiting_bytes() > OUTBOX_BYTES_MAX {
            return;
        }
        self.publishing.stamp(publisher, intended_ns, now_ns, &self.shared, &mut connection.outbox);
        self.mark_dirty(slot);
    }

    /// The connection has something to send.
    pub(super) fn mark_dirty(&mut self, slot: u32) {
        if !std::mem::replace(&mut self.connections[slot as usize].is_dirty, true) {
            self.dirty.push(slot);
        }
    }

    pub(super) fn flush(&mut self) {
        while let Some(slot) = self.dirty.pop() {
            let connection = &mut self.connections[slot as usize];
            connection.is_dirty = false;
            self.send_waiting(slot);
        }
    }

    /// Sends what a connection's socket takes.
    pub(super) fn send_waiting(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        match connection.flush() {
            Ok(()) if connection.waiting_bytes() > 0 && connection.is_alive() => self.port.watch_writable(slot),
            Ok(()) => {}
            Err(error) => self.end_or_fail(slot, &format!("broken while sending: {error}")),
        }
    }
}
