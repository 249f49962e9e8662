//! Accepting: admission, descriptors that run out, and how a connection begins.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::counters::{AcceptError, Dropped, Ended, Refused};
use crate::mesh::message::Phase as ShutdownPhase;
use crate::modes::Actions;
use crate::net::connection::{Connection, Phase};
use crate::net::tls::Tls;
use crate::relay::ledger::Owed;
use crate::shard::{Shard, log};
use crate::sys::socket;

/// How long accepting rests after it failed for want of descriptors or memory, in µs.
const BACKOFF_US: u64 = 100_000;
/// Connections closed at once per rest while descriptors are short, so that clients learn of it and do not hang.
const TURNED_AWAY_PER_BACKOFF: usize = 64;
/// Refused connections that may be answered (429, 503) at a time per shard; more are closed without an answer.
const ANSWERED_REFUSALS_MAX: usize = 256;

/// The listening socket of a shard.
pub(crate) struct Acceptor {
    pub listener: Option<TcpListener>,
    /// Given up for a moment when descriptors run out, to take a connection and close it.
    spare: Option<OwnedFd>,
    retry_us: Option<u64>,
    /// Connections that were refused and are being told.
    pub answered: usize,
    next_origin: u32,
    shard: u32,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener, shard: usize) -> Self {
        let spare = spare();
        Self { listener: Some(listener), spare, retry_us: None, answered: 0, next_origin: 0, shard: shard as u32 }
    }

    pub(crate) fn retry_us(&self) -> Option<u64> {
        self.retry_us
    }

    /// A mark for the next connection's messages: the shard in the upper 6 bits, a count from 1 below. Never
    /// [`crate::relay::members::SERVER`].
    fn origin(&mut self) -> u32 {
        self.next_origin = self.next_origin % 0x03ff_ffff + 1;
        self.shard << 26 | self.next_origin
    }
}

fn spare() -> Option<OwnedFd> {
    std::fs::File::open("/dev/null").ok().map(OwnedFd::from)
}

impl Shard {
    pub(crate) fn start_accepting(&mut self) {
        if let Some(listener) = self.listener_fd() {
            self.port.accept(listener);
        }
    }

    /// Ends accepting for good and closes the listener.
    pub(crate) fn stop_accepting(&mut self) {
        self.port.stop_accepting();
        self.acceptor.listener = None;
        self.acceptor.retry_us = None;
    }

    pub(crate) fn retry_accept(&mut self) {
        if self.acceptor.retry_us.is_some_and(|due| due <= self.now_us) {
            self.acceptor.retry_us = None;
            if self.acceptor.spare.is_none() {
                self.acceptor.spare = spare();
            }
            self.start_accepting();
        }
    }

    pub(crate) fn on_accept_failed(&mut self, errno: i32) {
        let reason = match errno {
            libc::EMFILE => AcceptError::ProcessDescriptors,
            libc::ENFILE => AcceptError::SystemDescriptors,
            libc::ENOBUFS | libc::ENOMEM => AcceptError::Memory,
            libc::ECONNABORTED => AcceptError::Aborted,
            _ => AcceptError::Other,
        };
        self.counters().accept_error(reason);
        if reason == AcceptError::Aborted {
            return self.start_accepting();
        }
        log::warn(&log::ACCEPT, || format!("cannot accept: {}", std::io::Error::from_raw_os_error(errno)));
        if matches!(reason, AcceptError::ProcessDescriptors | AcceptError::SystemDescriptors) {
            self.turn_away();
        }
        self.acceptor.retry_us = Some(self.now_us + BACKOFF_US);
    }

    /// Uses the spare descriptor to take waiting connections and close them.
    fn turn_away(&mut self) {
        if self.acceptor.spare.take().is_none() {
            return;
        }
        let mut turned_away = 0;
        if let Some(listener) = &self.acceptor.listener {
            while turned_away < TURNED_AWAY_PER_BACKOFF && listener.accept().is_ok() {
                turned_away += 1;
            }
        }
        for _ in 0..turned_away {
            self.counters().refused(Refused::Resources);
        }
        self.acceptor.spare = spare();
    }

    pub(crate) fn on_accepted(&mut self, socket: OwnedFd) {
        // Gone again already: nothing to serve, nothing to count.
        let Some(peer) = socket::peer_address(&socket) else { return };
        self.welcome(socket, peer);
    }

    /// Begins a connection on a socket from `peer`, if it may be had.
    pub(crate) fn welcome(&mut self, socket: OwnedFd, peer: SocketAddr) {
        if self.phase != ShutdownPhase::Serving {
            self.counters().refused(Refused::Full);
            return;
        }
        let ip = canonical(peer.ip());
        let refusal = self.admission.enter(ip).err();
        if let Some(reason) = refusal {
            self.count_refusal(reason, ip, "the limit is reached");
            if self.acceptor.answered >= ANSWERED_REFUSALS_MAX {
                return;
            }
            self.acceptor.answered += 1;
        }
        let id = self.connections.next_id();
        let origin = self.acceptor.origin();
        let mut connection = Connection::new(id.generation, origin, (ip, peer.port()), self.now_ms());
        connection.refusal = refusal;
        if let Some(tls) = &mut self.tls {
            match Tls::new(tls.config()) {
                Ok(tls) => connection.tls = Some(Box::new(tls)),
                Err(error) => {
                    log::warn(&log::TLS, || format!("cannot begin TLS: {error}"));
                    return self.leave_admission(ip, refusal.is_some());
                }
            }
        }
        self.connections.insert(id, connection);
        self.port.open(id, socket);
        self.arm_timer(id.slot);
    }

    fn leave_admission(&mut self, ip: IpAddr, refused: bool) {
        if refused {
            self.acceptor.answered -= 1;
        } else {
            self.admission.leave(ip);
        }
    }

    /// Ends a connection: its books, its place, its descriptor. The first cause of the end is what is counted.
    pub(crate) fn end(&mut self, slot: u32, reason: Ended, reset: bool) {
        if self.connections.at(slot).phase == Phase::Gone {
            return;
        }
        let reason = *self.connections.at_mut(slot).ended.get_or_insert(reason);
        self.unsubscribe(slot, dropped_for(reason), false);
        let id = self.connections.id(slot);
        let connection = self.connections.at_mut(slot);
        let delayed = self.timers.forget(id) as u64;
        let was_open = std::mem::take(&mut connection.flags.counted);
        connection.phase = Phase::Gone;
        connection.decoder.release(&mut self.assembly);
        connection.unparsed = None;
        let tls = connection.tls.take();
        let endpoint = connection.endpoint;
        let unsent = delayed + connection.outbox_messages() + tls.as_ref().map_or(0, |tls| tls.messages);
        self.discard_outbox(slot);
        self.forfeit(tls.and_then(|mut tls| tls.owed.take()), slot);
        if was_open {
            self.counters().connections.sub(1);
            self.counters().ended(reason);
            self.counters().dropped(dropped_for(reason), unsent);
            let router = Rc::clone(&self.router);
            router.endpoint(endpoint).mode.closed(&mut Actions::new(self, slot), reason);
            self.log_end(slot, reason);
        }
        self.connections.at_mut(slot).state = None;
        let connection = self.connections.at(slot);
        self.leave_admission(connection.peer, connection.refusal.is_some());
        self.port.close(slot, reset);
    }
}

impl Shard {
    /// Forgets what waits for the connection alone; deliveries in it are dropped.
    pub(crate) fn discard_outbox(&mut self, slot: u32) {
        if let Some(mut outbox) = self.connections.at_mut(slot).outbox.take() {
            self.forfeit(outbox.take_owed(), slot);
            self.outboxes.put(outbox);
        }
    }

    /// Books deliveries that left the log and will never reach the kernel.
    pub(crate) fn forfeit(&mut self, owed: Option<Owed>, slot: u32) {
        if let Some(owed) = owed {
            let reason = self.connections.at(slot).ended.map_or(Dropped::Disconnected, dropped_for);
            let dropped = owed.forfeit(reason);
            self.counters().dropped(reason, dropped);
        }
    }
}

/// What the undelivered rest counts as when a connection ends for `reason`.
pub(crate) fn dropped_for(reason: Ended) -> Dropped {
    match reason {
        Ended::SlowConsumer => Dropped::SlowConsumer,
        Ended::Shutdown => Dropped::Shutdown,
        _ => Dropped::Disconnected,
    }
}

/// An IPv4 client is the same client on a dual-stack socket.
fn canonical(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, |v4: Ipv4Addr| v4.into()),
        IpAddr::V4(_) => ip,
    }
}
