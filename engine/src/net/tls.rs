//! TLS in the connection: rustls as a state machine between the port and the plain bytes.
//!
//! In: cipher text from the port, plain slices from outbox and log; out: plain text for the parser, cipher text for the
//! port. At most [`PLAIN_BYTES_PER_SEND`] are encrypted per connection and flush, and only when no cipher text waits: a
//! cursor that was encrypted from is never moved back; what the socket does not take stays here.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use crate::counters::{Ended, Refused};
use crate::net::connection::Phase;
use crate::net::port::ConnectionId;
use crate::relay::ledger::Owed;
use crate::shard::{Shard, log};

/// Plain bytes encrypted per connection and flush: one full TLS record.
pub(crate) const PLAIN_BYTES_PER_SEND: usize = 16 << 10;

/// The TLS half of a connection.
pub(crate) struct Tls {
    session: ServerConnection,
    /// Cipher text that the socket did not take yet, and how much of it it did.
    waiting: Vec<u8>,
    sent: usize,
    /// Deliveries in `waiting`.
    pub owed: Option<Owed>,
    /// Messages for this connection alone in `waiting`.
    pub messages: u64,
}

impl Tls {
    pub(crate) fn new(config: &Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut session = ServerConnection::new(Arc::clone(config))?;
        // A limit would cut writes short; none is needed, since what is encrypted is handed over at once.
        session.set_buffer_limit(None);
        Ok(Self { session, waiting: Vec::new(), sent: 0, owed: None, messages: 0 })
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// True if it has cipher text to send, made or to be made.
    pub(crate) fn wants_send(&self) -> bool {
        !self.waiting.is_empty() || self.session.wants_write()
    }

    /// Appends the cipher text that must go first: what waits, and what the session itself wants to say.
    pub(crate) fn take_waiting(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.waiting[self.sent..]);
        self.waiting = Vec::new();
        self.sent = 0;
        self.drain_session(out);
    }

    /// Encrypts slices, cut to what one send takes. Returns the plain bytes used.
    pub(crate) fn encrypt(&mut self, slices: &[IoSlice<'_>], out: &mut Vec<u8>) -> usize {
        let mut used = 0;
        for slice in slices {
            let cut = slice.len().min(PLAIN_BYTES_PER_SEND - used);
            used += self.session.writer().write(&slice[..cut]).expect("writing into a session's buffer cannot fail");
            if used == PLAIN_BYTES_PER_SEND {
                break;
            }
        }
        self.drain_session(out);
        used
    }

    fn drain_session(&mut self, out: &mut Vec<u8>) {
        while self.session.wants_write() {
            self.session.write_tls(out).expect("writing into memory cannot fail");
        }
    }

    /// Keeps the rest of cipher text of which `sent` bytes were taken.
    pub(crate) fn keep(&mut self, cipher: Vec<u8>, sent: usize) {
        self.waiting = cipher;
        self.sent = sent;
    }

    /// Adds deliveries that are settled when the waiting cipher text is sent.
    pub(crate) fn owe(&mut self, owed: Owed) {
        match &mut self.owed {
            Some(sum) => sum.deliveries += owed.deliveries,
            None => self.owed = Some(owed),
        }
    }

    /// Says that no more will come (RFC 8446 section 6.1).
    pub(crate) fn send_close_notify(&mut self) {
        self.session.send_close_notify();
    }
}

impl Shard {
    /// Takes cipher text: decrypts, parses what it holds, answers what TLS itself asks.
    pub(crate) fn receive_cipher(&mut self, id: ConnectionId, input: &[u8]) {
        let slot = id.slot;
        let Some(mut tls) = self.connections.at_mut(slot).tls.take() else { return };
        let mut plain = std::mem::take(&mut self.plain);
        plain.resize(PLAIN_BYTES_PER_SEND, 0);
        let mut rest = input;
        let mut ended = false;
        while !rest.is_empty() && !ended {
            let result = tls.session.read_tls(&mut rest).and_then(|_| {
                tls.session.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            });
            if let Err(error) = result {
                self.on_tls_error(id, tls, &error);
                self.plain = plain;
                return;
            }
            loop {
                match tls.session.reader().read(&mut plain) {
                    Ok(0) => {
                        ended = true;
                        break;
                    }
                    Ok(len) => {
                        self.receive_plain(slot, &mut plain[..len]);
                        if !self.connections.is_current(id) {
                            // It ended meanwhile, without the session that we hold: what that owes is lost.
                            self.plain = plain;
                            return self.forfeit(tls.owed.take(), slot);
                        }
                    }
                    Err(_) => break,
                }
            }
        }
        let wants_send = tls.wants_send();
        self.plain = plain;
        self.connections.at_mut(slot).tls = Some(tls);
        if wants_send {
            self.want_send(slot);
        }
        if ended {
            self.on_ended(id, None);
        }
    }

    /// Tells the peer by alert, and ends.
    fn on_tls_error(&mut self, id: ConnectionId, tls: Box<Tls>, error: &io::Error) {
        let slot = id.slot;
        let handshaking = tls.is_handshaking();
        let connection = self.connections.at_mut(slot);
        connection.tls = Some(tls);
        let peer = connection.peer;
        if handshaking {
            self.count_refusal(Refused::Tls, peer, &format!("TLS: {error}"));
        } else {
            log::warn(&log::TLS, || format!("TLS of {peer} failed: {error}"));
        }
        let connection = self.connections.at_mut(slot);
        connection.ended.get_or_insert(Ended::Protocol);
        if connection.phase == Phase::Draining {
            return self.end(slot, Ended::Protocol, true);
        }
        self.unsubscribe(slot, crate::counters::Dropped::Disconnected, false);
        self.discard_outbox(slot);
        self.begin_draining(slot);
    }
}
