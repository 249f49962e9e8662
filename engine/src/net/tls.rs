//! TLS in the connection: rustls as a state machine between the port and the plain bytes.
//!
//! In: cipher text from the port, plain slices from outbox and log; out: plain text for the parser, cipher text for the
//! port. rustls' unbuffered interface keeps no buffers of its own: an idle connection holds none. At most
//! [`PLAIN_BYTES_PER_SEND`] are encrypted per connection and flush, and only when no cipher text waits: a cursor that was
//! encrypted from is never moved back; what the socket does not take stays here.

use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, WriteTraffic,
};
use rustls::{ProtocolVersion, ServerConfig};

use crate::counters::{Ended, Refused};
use crate::net::connection::Phase;
use crate::net::port::ConnectionId;
use crate::relay::ledger::Owed;
use crate::shard::{Shard, log};

/// Plain bytes encrypted per connection and flush: one full TLS record.
pub(crate) const PLAIN_BYTES_PER_SEND: usize = 16 << 10;
/// What a record has beside its plain bytes, at most, in any version and cipher suite.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// Cipher text that may wait for the rest of a record or of a handshake message.
const PARTIAL_BYTES_MAX: usize = 96 << 10;
/// Records after which a connection of TLS 1.2 is closed: a key may encrypt 2²⁴ (AES-GCM), and what follows until somebody
/// looks must be among them. TLS 1.3 changes keys by itself.
const RECORDS_MAX: u64 = (1 << 24) - (1 << 21);

/// The TLS half of a connection.
pub(crate) struct Tls {
    session: UnbufferedServerConnection,
    /// Cipher text received, of a record that is not there whole.
    partial: Vec<u8>,
    /// Cipher text that the session made on its own account: handshake, alerts.
    made: Vec<u8>,
    /// Cipher text that the socket did not take yet, and how much of it it did.
    waiting: Vec<u8>,
    sent: usize,
    /// Records encrypted.
    records: u64,
    /// The peer broke the protocol: nothing more is encrypted or decrypted.
    failed: bool,
    /// close_notify was sent, or is about to be.
    said_goodbye: bool,
    /// Deliveries in `waiting`.
    pub owed: Option<Owed>,
    /// Messages for this connection alone in `waiting`.
    pub messages: u64,
}

/// What a piece of cipher text held.
enum Read {
    /// Plain text, appended; there may be more behind it.
    Plain,
    /// All that there is is read.
    Nothing,
    /// The peer says that no more will come.
    End,
}

impl Tls {
    pub(crate) fn new(config: &Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            session: UnbufferedServerConnection::new(Arc::clone(config))?,
            partial: Vec::new(),
            made: Vec::new(),
            waiting: Vec::new(),
            sent: 0,
            records: 0,
            failed: false,
            said_goodbye: false,
            owed: None,
            messages: 0,
        })
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// True if it has cipher text to send.
    pub(crate) fn wants_send(&self) -> bool {
        !self.waiting.is_empty() || !self.made.is_empty()
    }

    /// True if its keys have encrypted as much as they may: the connection must end.
    pub(crate) fn is_worn_out(&self) -> bool {
        self.records >= RECORDS_MAX && self.session.protocol_version() == Some(ProtocolVersion::TLSv1_2)
    }

    /// Appends the cipher text that must go first: what waits, and what the session itself wants to say.
    pub(crate) fn take_waiting(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.waiting[self.sent..]);
        out.extend_from_slice(&self.made);
        self.waiting = Vec::new();
        self.made = Vec::new();
        self.sent = 0;
    }

    /// Encrypts slices as one record, cut to what one send takes. Returns the plain bytes used. `scratch` is where they
    /// are gathered if they are several.
    pub(crate) fn encrypt(&mut self, slices: &[IoSlice<'_>], scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> usize {
        let plain = match slices {
            [] => return 0,
            [slice] => &slice[..slice.len().min(PLAIN_BYTES_PER_SEND)],
            slices => {
                scratch.clear();
                for slice in slices {
                    let room = PLAIN_BYTES_PER_SEND - scratch.len();
                    scratch.extend_from_slice(&slice[..slice.len().min(room)]);
                }
                &scratch[..]
            }
        };
        if self.failed {
            return plain.len();
        }
        self.records += 1;
        let mut made = std::mem::take(&mut self.made);
        let mut traffic = self.write_traffic(&mut made).expect("plain text is there only after the handshake");
        // A change of keys goes before what the new keys encrypt.
        out.append(&mut made);
        append(out, plain.len() + RECORD_OVERHEAD_BYTES, |room| unless_worn_out(traffic.encrypt(plain, room)));
        plain.len()
    }

    /// The session's state for sending; what it says before goes to `made`.
    fn write_traffic(&mut self, made: &mut Vec<u8>) -> Option<WriteTraffic<'_, ServerConnectionData>> {
        self.say(made);
        match self.session.process_tls_records(&mut self.partial).state {
            Ok(ConnectionState::WriteTraffic(traffic)) => Some(traffic),
            _ => None,
        }
    }

    /// Appends what the session wants to say without being told anything more. It is shown the same partial record as
    /// before: it remembers places in there.
    fn say(&mut self, made: &mut Vec<u8>) {
        loop {
            match self.session.process_tls_records(&mut self.partial).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, made),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                _ => return,
            }
        }
    }

    /// Takes in one step's worth of cipher text, appends the plain text of it, and counts in `used` what is done with.
    fn read(&mut self, input: &mut [u8], used: &mut usize, plain: &mut Vec<u8>) -> Result<Read, rustls::Error> {
        loop {
            let status = self.session.process_tls_records(&mut input[*used..]);
            *used += status.discard;
            match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        *used += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    return Ok(Read::Plain);
                }
                ConnectionState::EncodeTlsData(data) => encode(data, &mut self.made),
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed | ConnectionState::Closed => return Ok(Read::End),
                // Blocked in the handshake, or free to write; early data is not offered.
                _ => return Ok(Read::Nothing),
            }
        }
    }

    /// Keeps the rest of cipher text of which `sent` bytes were taken.
    pub(crate) fn keep(&mut self, cipher: Vec<u8>, sent: usize) {
        self.waiting = cipher;
        self.sent = sent;
    }

    /// Adds deliveries that are settled when the waiting cipher text is sent.
    pub(crate) fn owe(&mut self, owed: Owed) {
        owed.join(&mut self.owed);
    }

    /// Says that no more will come (RFC 8446 section 6.1).
    pub(crate) fn send_close_notify(&mut self) {
        if self.failed || std::mem::replace(&mut self.said_goodbye, true) {
            return;
        }
        let mut made = std::mem::take(&mut self.made);
        // Before the end of the handshake there is nobody to take leave of.
        if let Some(mut traffic) = self.write_traffic(&mut made) {
            append(&mut made, RECORD_OVERHEAD_BYTES, |room| unless_worn_out(traffic.queue_close_notify(room)));
        }
        self.made = made;
    }

    /// The peer broke the protocol: the alert that says so is the last that it hears. The session must not be shown
    /// anything more.
    fn fail(&mut self) {
        self.failed = true;
        while self.session.wants_write() {
            match self.session.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.made),
                _ => break,
            }
        }
    }
}

/// Nothing is written with keys that are worn out: nobody looked in time, and the peer hears no more.
fn unless_worn_out(written: Result<usize, EncryptError>) -> Result<usize, InsufficientSizeError> {
    match written {
        Ok(written) => Ok(written),
        Err(EncryptError::EncryptExhausted) => Ok(0),
        Err(EncryptError::InsufficientSize(error)) => Err(error),
    }
}

fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    append(out, 0, |room| {
        data.encode(room).map_err(|error| match error {
            EncodeError::InsufficientSize(error) => error,
            EncodeError::AlreadyEncoded => unreachable!("each is encoded once"),
        })
    });
}

/// Appends what `fill` writes into the room that it is given: `guess` bytes, or as many as it then asks for.
fn append(out: &mut Vec<u8>, guess: usize, mut fill: impl FnMut(&mut [u8]) -> Result<usize, InsufficientSizeError>) {
    let before = out.len();
    let mut room = guess;
    loop {
        out.resize(before + room, 0);
        match fill(&mut out[before..]) {
            Ok(written) => return out.truncate(before + written),
            Err(error) => room = error.required_size,
        }
    }
}

impl Shard {
    /// Takes cipher text: decrypts, parses what it holds, answers what TLS itself asks.
    pub(crate) fn receive_cipher(&mut self, id: ConnectionId, input: &mut [u8]) {
        let slot = id.slot;
        let Some(mut tls) = self.connections.at_mut(slot).tls.take_if(|tls| !tls.failed) else { return };
        let mut joined = std::mem::take(&mut tls.partial);
        let input = if joined.is_empty() {
            input
        } else {
            joined.extend_from_slice(input);
            &mut joined[..]
        };
        let mut plain = std::mem::take(&mut self.plain);
        let mut used = 0;
        let ended = loop {
            plain.clear();
            match tls.read(input, &mut used, &mut plain) {
                Ok(Read::Plain) => {}
                Ok(Read::Nothing) => break false,
                Ok(Read::End) => break true,
                Err(error) => {
                    self.plain = plain;
                    return self.on_tls_error(id, tls, &error);
                }
            }
            self.receive_plain(slot, &mut plain);
            if !self.connections.is_current(id) {
                // It ended meanwhile, without the session that we hold: what that owes is lost.
                self.plain = plain;
                return self.forfeit(tls.owed.take(), slot);
            }
        };
        self.plain = plain;
        let rest = &input[used..];
        if rest.len() > PARTIAL_BYTES_MAX {
            return self.on_tls_error(id, tls, &"a handshake message is too long");
        }
        if !ended {
            tls.partial = rest.to_vec();
        }
        let wants_send = tls.wants_send();
        self.connections.at_mut(slot).tls = Some(tls);
        if wants_send {
            self.want_send(slot);
        }
        if ended {
            self.on_ended(id, None);
        }
    }

    /// Tells the peer by alert, and ends.
    fn on_tls_error(&mut self, id: ConnectionId, mut tls: Box<Tls>, error: &dyn fmt::Display) {
        let slot = id.slot;
        tls.fail();
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
        let unsent = self.connections.at(slot).outbox_messages();
        self.counters().dropped(crate::counters::Dropped::Disconnected, unsent);
        self.discard_outbox(slot);
        self.begin_draining(slot);
    }
}
