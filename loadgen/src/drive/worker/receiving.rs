//! What the port reports: bytes become upgrades and messages, messages are booked.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use super::Worker;
use crate::drive::connection::State;
use crate::sys::port::Ready;
use crate::wire::frame;
use crate::wire::handshake::Answer;
use crate::wire::message::{self, Incoming};
use crate::workload::Reading;

impl Worker {
    /// Lets the slow readers read what they may.
    pub(super) fn drive_slow(&mut self, now_ns: u64) -> io::Result<()> {
        while let Some((slot, bytes)) = self.slow.drive(now_ns, &mut self.port)? {
            self.take_bytes(slot, bytes, now_ns);
        }
        Ok(())
    }

    pub(super) fn take_ready(&mut self, ready: Ready, now_ns: u64) {
        match ready {
            Ready::Bytes { slot, len } => self.take_bytes(slot, len, now_ns),
            Ready::Writable { slot } => self.take_writable(slot),
            Ready::End { slot, error } => {
                let reason = error.map_or("the server closed the connection without a Close".into(), |e| e.to_string());
                self.end_or_fail(slot, &reason);
            }
            Ready::Readable => {
                self.shared.threads[self.index].wake.drain();
                self.was_woken = true;
            }
        }
    }

    #[inline]
    fn take_bytes(&mut self, slot: u32, len: usize, now_ns: u64) {
        if !self.has_started {
            // Another thread may have begun to publish while this one was busy.
            self.start_once();
        }
        if self.connections[slot as usize].tls.is_some() && !self.decrypt(slot, len) {
            return;
        }
        let connection = &mut self.connections[slot as usize];
        let mut bytes = if connection.tls.is_some() { &self.plaintext } else { self.port.bytes(len) };
        if !matches!(connection.state, State::Open | State::Closing) {
            connection.partial.extend_from_slice(bytes);
            bytes = &[];
            if !self.take_answer(slot, now_ns) {
                return;
            }
        }
        let connection = &mut self.connections[slot as usize];
        let mut close = None;
        let (tally, heard, rng) = (&mut self.tally, &mut self.heard, &mut self.rng);
        let (account, outbox) = (connection.account, &mut connection.outbox);
        let on = |incoming: Incoming<'_>| match incoming {
            Incoming::Message { payload, .. } => match account {
                Some(account) => tally.deliver(account, payload, now_ns),
                None => *heard += 1,
            },
            Incoming::Ping(payload) => frame::append_frame(outbox, frame::PONG, payload, Some(rng.next_key())),
            Incoming::Pong => {}
            Incoming::Close { code } => close = Some(code),
        };
        let decoded = if connection.partial.is_empty() {
            let decoded = message::decode_server(bytes, &mut connection.assembly, on);
            connection.partial.extend_from_slice(&bytes[*decoded.as_ref().unwrap_or(&0)..]);
            decoded
        } else {
            connection.partial.extend_from_slice(bytes);
            let decoded = message::decode_server(&connection.partial, &mut connection.assembly, on);
            connection.partial.drain(..*decoded.as_ref().unwrap_or(&0));
            decoded
        };
        if let Err(error) = decoded {
            return self.end(slot, &format!("the server breaks RFC 6455: {error}"));
        }
        if let Some(code) = close {
            return self.end(slot, &format!("the server closed with code {code}"));
        }
        if connection.waiting_bytes() > 0 {
            self.mark_dirty(slot);
        }
    }

    /// Decrypts what the port holds for a connection into `plaintext`; false: the connection is over.
    fn decrypt(&mut self, slot: u32, len: usize) -> bool {
        let connection = &mut self.connections[slot as usize];
        let Some(session) = &mut connection.tls else { return true };
        self.plaintext.clear();
        let decrypted = session.decrypt(self.port.bytes(len), &mut self.plaintext);
        if let Err(error) = decrypted {
            let _ = connection.flush();
            self.end_or_fail(slot, &format!("TLS: {error}"));
            return false;
        }
        if session.wants_write() {
            self.mark_dirty(slot);
        }
        true
    }

    /// Judges the server's answer to our request in `partial`; false: it is not whole, or no upgrade.
    fn take_answer(&mut self, slot: u32, now_ns: u64) -> bool {
        let connection = &mut self.connections[slot as usize];
        let State::Upgrading { accept } = &connection.state else { return false };
        let request = self.shared.load.topics[connection.topic as usize].request;
        match self.shared.load.requests[request as usize].judge(&connection.partial, accept) {
            Answer::Partial => false,
            Answer::Refused(reason) => {
                self.fail_connect(slot, &reason);
                false
            }
            Answer::Upgraded { head_bytes } => {
                connection.partial.drain(..head_bytes);
                connection.state = State::Open;
                self.handshake.record(now_ns.saturating_sub(connection.started_ns));
                if let (true, Some(socket)) = (connection.reading != Reading::Full, &connection.socket) {
                    self.slow.set(slot, socket.as_raw_fd(), connection.reading, now_ns);
                }
                if self.cuts.is_away(slot) {
                    self.take_back(slot, now_ns);
                } else {
                    self.opened += 1;
                    self.connector.ended();
                }
                true
            }
        }
    }

    /// Tells the publishers' threads what is complete.
    pub(super) fn hand_over_completed(&mut self, now_ns: u64) {
        let mut is_for_others = false;
        for publisher in self.tally.completed.drain(..) {
            match self.local_publishers[publisher as usize] {
                Some(local) => self.publishing.complete(local, 1, now_ns),
                None => {
                    self.shared.completed[publisher as usize].fetch_add(1, Ordering::Relaxed);
                    is_for_others = true;
                }
            }
        }
        if is_for_others {
            // Which connection publishes is the load's affair; all threads are few enough to wake.
            let others = self.shared.threads.iter().enumerate().filter(|(thread, _)| *thread != self.index);
            others.for_each(|(_, other)| other.wake.wake());
        }
    }
}
