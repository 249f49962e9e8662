//! Connections end: by the server, by an error, or by our Close.

use std::io;

use super::{SECOND_NS, Worker};
use crate::drive::connection::{Connection, State};
use crate::drive::shared::Note;
use crate::sys::clock::now_ns;
use crate::wire::frame;
use crate::workload::Reading;

/// How long the server has to answer our Close.
const CLOSE_NS_MAX: u64 = 2 * SECOND_NS;

impl Worker {
    pub(super) fn end_or_fail(&mut self, slot: u32, reason: &str) {
        match self.connections[slot as usize].state {
            State::Connecting | State::Upgrading { .. } => self.fail_connect(slot, reason),
            _ => self.end(slot, reason),
        }
    }

    /// An open connection is over.
    pub(super) fn end(&mut self, slot: u32, reason: &str) {
        let connection = &self.connections[slot as usize];
        if !connection.is_alive() {
            return;
        }
        self.slow.remove(slot);
        if connection.is_open() {
            self.ended += 1;
            self.slow_ended += u64::from(self.shared.load.connections[connection.id as usize].is_slow);
            let _ = self.shared.notes.send(Note::Ended(reason.to_owned()));
        }
        if let Some(publisher) = connection.publisher {
            self.publishing.end(publisher);
        }
        self.bury(slot);
    }

    pub(super) fn bury(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if let Some(socket) = connection.socket.take() {
            self.port.remove(slot);
            self.graveyard.push(socket);
        }
        connection.state = State::Ended;
    }

    /// Says goodbye on every connection and waits a little for the answers.
    pub(super) fn close_all(&mut self) -> io::Result<()> {
        let deadline_ns = now_ns() + CLOSE_NS_MAX;
        for slot in 0..self.connections.len() as u32 {
            let connection = &mut self.connections[slot as usize];
            if connection.is_open() {
                let key = self.rng.next_key();
                frame::append_frame(&mut connection.outbox, frame::CLOSE, &1000u16.to_be_bytes(), Some(key));
                connection.state = State::Closing;
                self.send_waiting(slot);
            }
        }
        // Who reads slowly would hear the answer too late, or never.
        let is_awaited = |c: &Connection| matches!(c.state, State::Closing) && c.reading == Reading::Full;
        while self.connections.iter().any(is_awaited) && now_ns() < deadline_ns {
            self.port.wait(Some(deadline_ns.saturating_sub(now_ns())))?;
            while let Some(ready) = self.port.poll_ready() {
                self.take_ready(ready, now_ns());
            }
            self.graveyard.clear();
        }
        Ok(())
    }
}
