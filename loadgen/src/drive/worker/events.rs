//! The events: connections are cut and come back, readers change their pace.

use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use super::Worker;
use crate::drive::agenda::Item;
use crate::workload::Reading;
use crate::workload::events::Backoff;

impl Worker {
    /// Does what is due, and lets come back who is due.
    pub(super) fn drive_events(&mut self, now_ns: u64) {
        while let Some(item) = self.agenda.take_due(now_ns) {
            match item {
                Item::Cut { slots, backoff } => slots.iter().for_each(|slot| self.cut(*slot, backoff, now_ns)),
                Item::Read { slots, reading } => slots.iter().for_each(|slot| self.set_reading(*slot, reading, now_ns)),
            }
        }
        // No event of theirs is in the port: the turn is over.
        self.graveyard.clear();
        while let Some(slot) = self.cuts.take_retry(now_ns) {
            self.connections[slot as usize].renew();
            self.begin_connect(slot);
        }
    }

    /// Resets an open connection, as of a client or a path that is gone: not a goodbye.
    fn cut(&mut self, slot: u32, backoff: Option<Backoff>, now_ns: u64) {
        let connection = &self.connections[slot as usize];
        if !connection.is_open() {
            return;
        }
        if let Some(socket) = &connection.socket {
            let _ = socket.set_linger(Some(std::time::Duration::ZERO));
        }
        if let Some(account) = connection.account
            && self.tally.leave(account)
        {
            self.shared.threads_of_topic[account.topic as usize].fetch_sub(1, Ordering::Relaxed);
        }
        self.slow.remove(slot);
        self.bury(slot);
        self.cuts.cut(slot, backoff, now_ns);
    }

    /// A connection that was cut is open again: from here on all that is sent is expected of it.
    pub(super) fn take_back(&mut self, slot: u32, now_ns: u64) {
        self.cuts.recover(slot, now_ns);
        if let Some(account) = self.connections[slot as usize].account
            && self.tally.come_back(account)
        {
            self.shared.threads_of_topic[account.topic as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One that is away reads so when it is back.
    fn set_reading(&mut self, slot: u32, reading: Reading, now_ns: u64) {
        let connection = &mut self.connections[slot as usize];
        connection.reading = reading;
        if let (true, Some(socket)) = (connection.is_open(), &connection.socket) {
            self.slow.set(slot, socket.as_raw_fd(), reading, now_ns);
        }
    }
}
