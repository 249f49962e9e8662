//! Connections begin: the TCP connect and the request.

use std::io;
use std::os::fd::AsRawFd;

use super::Worker;
use crate::drive::connection::State;
use crate::drive::shared::Note;
use crate::sys::clock::now_ns;
use crate::sys::socket;

impl Worker {
    pub(super) fn begin_connects(&mut self, now_ns: u64) {
        while let Some(slot) = self.connector.take_due(now_ns) {
            self.begin_connect(slot);
        }
    }

    pub(super) fn begin_connect(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let sources = &self.shared.load.sources;
        let source = (!sources.is_empty()).then(|| sources[connection.id as usize % sources.len()]);
        connection.started_ns = now_ns();
        let begun = socket::start_connect(self.shared.load.address, source).and_then(|socket| {
            self.port.add_stream(socket.as_raw_fd(), slot)?;
            Ok(socket)
        });
        match begun {
            Ok(socket) => {
                connection.socket = Some(socket);
                connection.tls = self.shared.load.tls.as_ref().map(|tls| Box::new(tls.session()));
                connection.state = State::Connecting;
            }
            Err(error) => self.fail_connect(slot, &connect_reason(&error)),
        }
    }

    pub(super) fn take_writable(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let Some(socket) = &connection.socket else { return };
        if matches!(connection.state, State::Connecting) {
            match socket.take_error() {
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => return self.fail_connect(slot, &connect_reason(&error)),
            }
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&self.rng.next_u64().to_le_bytes());
            nonce[8..].copy_from_slice(&self.rng.next_u64().to_le_bytes());
            let request =
                &self.shared.load.requests[self.shared.load.topics[connection.topic as usize].request as usize];
            connection.state = State::Upgrading { accept: request.append(&mut connection.outbox, nonce) };
        }
        self.send_waiting(slot);
    }

    pub(super) fn fail_connect(&mut self, slot: u32, reason: &str) {
        if self.cuts.is_away(slot) {
            self.cuts.fail(slot, now_ns());
            return self.bury(slot);
        }
        self.connector.ended();
        self.bury(slot);
        let _ = self.shared.notes.send(Note::ConnectFailed(reason.to_owned()));
    }
}

/// What to say when a connect fails; for the errors of this machine, what to do.
fn connect_reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => {
            format!("{error}: no free source port; widen net.ipv4.ip_local_port_range or use --source-ip A-B")
        }
        Some(libc::EMFILE | libc::ENFILE) => format!("{error}: raise the limit of open files (ulimit -n)"),
        _ => error.to_string(),
    }
}
