//! The narrow waist between sockets and the rest of a shard.
//!
//! In: [`Event`]s (bytes, ends, room to write); out: one [`Port::flush`] per batch of sends, which reports only the
//! sends that the kernel did not take whole. Both kinds behave alike: at most one send per connection in a flush, no
//! byte kept after it, readiness reported once after a short send. Nothing above knows which kind it is.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use crate::mesh::notify::Notify;
use crate::net::poll_port::PollPort;
use crate::net::ring_port::RingPort;
use crate::sys::socket::Send;
use crate::sys::uring;

/// A slot of the shard's connection slab and the generation that tells its users apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId {
    /// Index into the slab.
    pub slot: u32,
    /// Low 24 bits count; changes whenever the slot is reused.
    pub generation: u32,
}

/// What happened on a socket.
pub(crate) enum Event {
    /// A connection was accepted.
    Accepted(OwnedFd),
    /// Accepting failed with this errno; accepting goes on after [`Port::accept`].
    AcceptFailed(i32),
    /// Bytes arrived.
    Received(ConnectionId, Input),
    /// The peer ended its stream (`None`) or the connection failed (errno). No more input follows.
    Ended(ConnectionId, Option<i32>),
    /// After a short send: the socket takes bytes again.
    Writable(ConnectionId),
    /// The descriptor is closed and its last completion seen: the slot is free.
    Closed(ConnectionId),
}

/// Received bytes. Give them back with [`Port::give_back`].
pub(crate) enum Input {
    /// In a provided buffer of the ring.
    Provided(uring::Buffer),
    /// In the poll port's one receive buffer; the valid length.
    Heap(Vec<u8>, usize),
}

impl Deref for Input {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Provided(buffer) => buffer,
            Self::Heap(buffer, len) => &buffer[..*len],
        }
    }
}

impl DerefMut for Input {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Provided(buffer) => buffer,
            Self::Heap(buffer, len) => &mut buffer[..*len],
        }
    }
}

/// How a send fell short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortfall {
    /// The socket took this many bytes and no more; `Writable` follows once armed.
    Sent(usize),
    /// The connection failed with this errno.
    Failed(i32),
}

impl Shortfall {
    pub(crate) fn from_result(result: i32) -> Self {
        match result {
            sent if sent >= 0 => Self::Sent(sent as usize),
            errno if errno == -libc::EAGAIN || errno == -libc::EINTR || errno == -libc::ENOBUFS => Self::Sent(0),
            errno => Self::Failed(-errno),
        }
    }
}

/// What a port counts, since its beginning. See the counters of the same names.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub system_calls: u64,
    pub submissions: u64,
    pub completions: u64,
    pub buffers_exhausted: u64,
}

/// The sockets of one shard, in one of two kinds.
pub(crate) enum Port {
    /// A raw io_uring ring hosted in the shard's monoio runtime.
    Ring(Box<RingPort>),
    /// One epoll instance, for where io_uring is forbidden.
    Poll(Box<PollPort>),
}

macro_rules! each {
    ($self:ident, $port:ident => $body:expr) => {
        match $self {
            Self::Ring($port) => $body,
            Self::Poll($port) => $body,
        }
    };
}

impl Port {
    /// Builds the port on the calling thread. `notify` is the eventfd that wakes this shard.
    pub(crate) fn new(io_uring: bool, notify: &Arc<Notify>) -> io::Result<Self> {
        Ok(if io_uring {
            Self::Ring(Box::new(RingPort::new(notify)?))
        } else {
            Self::Poll(Box::new(PollPort::new(notify)?))
        })
    }

    /// The descriptor that becomes readable when [`Port::reap`] has something to do.
    pub(crate) fn wait_fd(&self) -> io::Result<OwnedFd> {
        each!(self, port => port.wait_fd())
    }

    /// Starts (or goes on) accepting from `listener`.
    pub(crate) fn accept(&mut self, listener: RawFd) {
        each!(self, port => port.accept(listener));
    }

    /// Stops accepting. Connections accepted before may still be reported.
    pub(crate) fn stop_accepting(&mut self) {
        each!(self, port => port.stop_accepting());
    }

    /// Takes over a socket and starts receiving from it.
    pub(crate) fn open(&mut self, id: ConnectionId, socket: OwnedFd) {
        each!(self, port => port.open(id, socket));
    }

    /// The descriptor of a connection.
    #[inline]
    pub(crate) fn socket(&self, slot: u32) -> RawFd {
        each!(self, port => port.socket(slot))
    }

    /// Stops receiving without loss; what was received already may still be reported.
    pub(crate) fn pause(&mut self, slot: u32) {
        each!(self, port => port.pause(slot));
    }

    /// Goes on receiving after [`Port::pause`].
    pub(crate) fn resume(&mut self, slot: u32) {
        each!(self, port => port.resume(slot));
    }

    /// True once a paused connection can report no more input (its receive is over).
    pub(crate) fn is_quiet(&self, slot: u32) -> bool {
        each!(self, port => port.is_quiet(slot))
    }

    /// Reports [`Event::Writable`] once the socket takes bytes again.
    pub(crate) fn arm_writable(&mut self, slot: u32) {
        each!(self, port => port.arm_writable(slot));
    }

    /// Ends the sending direction (FIN after what the kernel holds).
    pub(crate) fn shutdown_send(&mut self, slot: u32) {
        each!(self, port => port.shutdown_send(slot));
    }

    /// Closes the descriptor; `reset` discards what is unsent and tells the peer so. [`Event::Closed`] follows.
    pub(crate) fn close(&mut self, slot: u32, reset: bool) {
        each!(self, port => port.close(slot, reset));
    }

    /// Wakes the shard no later than `deadline_us`. True if that must still be submitted, by a reap.
    pub(crate) fn arm_timeout(&mut self, now_us: u64, deadline_us: u64) -> bool {
        each!(self, port => port.arm_timeout(now_us, deadline_us))
    }

    /// Begins to collect what has happened, without waiting; [`Port::next_event`] collects the rest.
    pub(crate) fn reap(&mut self) {
        each!(self, port => port.reap());
    }

    /// The next thing that happened.
    #[inline]
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        each!(self, port => port.next_event())
    }

    /// True if there is something to reap.
    pub(crate) fn has_news(&mut self) -> bool {
        each!(self, port => port.has_news())
    }

    /// To be called before the last look for work and the wait on [`Port::wait_fd`], and after it with `false`.
    pub(crate) fn sleeping(&mut self, asleep: bool) {
        if let Self::Ring(port) = self {
            port.sleeping(asleep);
        }
    }

    /// Gives back received bytes.
    #[inline]
    pub(crate) fn give_back(&mut self, input: Input) {
        each!(self, port => port.give_back(input));
    }

    /// Performs all sends inside this call; appends (index, shortfall) for those not taken whole.
    pub(crate) fn flush(&mut self, sends: &[Send<'_>], shortfalls: &mut Vec<(usize, Shortfall)>) {
        each!(self, port => port.flush(sends, shortfalls));
    }

    /// What it has cost so far.
    pub(crate) fn figures(&self) -> Figures {
        each!(self, port => port.figures())
    }
}
