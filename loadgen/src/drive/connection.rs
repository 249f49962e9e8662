//! One connection of the generator: a socket, what waits to be sent on it, and how far it has come.

use std::io;

use socket2::Socket;

use crate::measure::tally::Account;
use crate::sys::socket;
use crate::wire::message::Assembly;
use crate::wire::tls::Session;
use crate::workload::Reading;

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum State {
    /// Not begun.
    Idle,
    /// TCP connect under way.
    Connecting,
    /// The request is sent; the accept value to expect.
    Upgrading {
        accept: String,
    },
    Open,
    /// Our Close is sent.
    Closing,
    Ended,
}

/// One connection; law: `wire_at ≤ wire.len()`, and the socket is there from connect to end.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Option<Socket>,
    pub(super) state: State,
    /// Index into the load's connections.
    pub(super) id: u32,
    pub(super) topic: u32,
    /// Its place in the account, if it is a subscriber.
    pub(super) account: Option<Account>,
    /// How it reads now.
    pub(super) reading: Reading,
    /// Index into this thread's publishers.
    pub(super) publisher: Option<u32>,
    /// Bytes of a frame whose end has not arrived.
    pub(super) partial: Vec<u8>,
    pub(super) assembly: Assembly,
    /// What is to be said.
    pub(super) outbox: Vec<u8>,
    /// Bytes as they go to the socket, up to `wire_at` gone; without TLS they have been the outbox.
    wire: Vec<u8>,
    wire_at: usize,
    /// There from the connect on, if the connection is by TLS.
    pub(super) tls: Option<Box<Session>>,
    /// Stands in the list of connections to flush.
    pub(super) is_dirty: bool,
    /// When the connect began, in ns since the epoch.
    pub(super) started_ns: u64,
}

impl Connection {
    pub(super) fn new(id: u32, topic: u32, account: Option<Account>, publisher: Option<u32>, reading: Reading) -> Self {
        Self {
            socket: None,
            state: State::Idle,
            id,
            topic,
            account,
            reading,
            publisher,
            partial: Vec::new(),
            assembly: Assembly::default(),
            outbox: Vec::new(),
            wire: Vec::new(),
            wire_at: 0,
            tls: None,
            is_dirty: false,
            started_ns: 0,
        }
    }

    /// As it was before its connect, to connect again.
    pub(super) fn renew(&mut self) {
        *self = Self::new(self.id, self.topic, self.account, self.publisher, self.reading);
    }

    /// Sends what the socket takes of the outbox; the rest waits for the socket to become writable.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        loop {
            self.refill()?;
            let Some(socket) = self.socket.as_ref().filter(|_| !self.wire.is_empty()) else { return Ok(()) };
            let sent = socket::send(socket, &self.wire[self.wire_at..])?;
            if sent == 0 {
                return Ok(());
            }
            self.wire_at += sent;
        }
    }

    /// Bytes that wait to be sent.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.outbox.len() + self.wire.len() - self.wire_at
    }

    /// When all of `wire` is gone: moves the outbox into it, by way of TLS if there is one.
    fn refill(&mut self) -> io::Result<()> {
        if self.wire_at < self.wire.len() {
            return Ok(());
        }
        self.wire.clear();
        self.wire_at = 0;
        match &mut self.tls {
            Some(session) => session.encrypt(&mut self.outbox, &mut self.wire),
            None => {
                std::mem::swap(&mut self.outbox, &mut self.wire);
                Ok(())
            }
        }
    }

    /// Messages can be sent.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Begun and not ended.
    pub(super) fn is_alive(&self) -> bool {
        self.socket.is_some()
    }
}
