//! What one flush sends to one connection: [rest of a frame | outbox | log …].

use std::io::IoSlice;
use std::ops::Range;
use std::os::fd::RawFd;

use crate::net::port::Shortfall;
use crate::relay::topic::Topic;
use crate::relay::view::Position;
use crate::sys::socket::Send;

/// One queued send.
pub(crate) struct Queued {
    pub slot: u32,
    /// Bytes from the outbox.
    pub outbox: usize,
    /// What follows from the topic's log.
    pub log: Option<QueuedLog>,
    /// Of a TLS connection: what is sent instead, the above encrypted.
    pub cipher: Option<Vec<u8>>,
    pub shortfall: Option<Shortfall>,
}

/// A queued send as the port is given it.
pub(crate) struct Sending {
    pub bytes: usize,
    pub socket: RawFd,
    /// Which of the flush's slices are its own.
    pub slices: Range<usize>,
    /// FIN follows at once. Never set for TLS, whose close_notify is a send of its own.
    pub is_last: bool,
}

impl Sending {
    pub(crate) fn send<'a>(&self, slices: &'a [IoSlice<'a>]) -> Send<'a> {
        Send { socket: self.socket, slices: &slices[self.slices.clone()], is_last: self.is_last }
    }
}

/// The part of a send that comes from a log.
#[derive(Clone, Copy)]
pub(crate) struct QueuedLog {
    pub topic: u32,
    pub from: Position,
    pub to: Position,
    /// Bytes of it that go before the outbox: the rest of a frame.
    pub rest: u64,
    /// Whose own messages are cut out, if any lie in the range.
    pub cut: Option<u32>,
    /// Messages that are complete with it, without those cut out.
    pub deliveries: u64,
    pub excluded: u64,
    pub accepted_us: u32,
}

impl QueuedLog {
    pub(crate) fn new(topic: u32, from: Position, to: Position, rest: u64, accepted_us: u32) -> Self {
        Self { topic, from, to, rest, cut: None, deliveries: to.seq - from.seq, excluded: 0, accepted_us }
    }

    /// The same with the messages of `origin` cut out, `excluded` in number.
    pub(crate) fn cutting(mut self, origin: u32, excluded: u64) -> Self {
        self.cut = Some(origin);
        self.deliveries -= excluded;
        self.excluded = excluded;
        self
    }

    /// All of it.
    pub(crate) fn all_slices<'a>(&self, topic: &'a Topic, out: &mut Vec<IoSlice<'a>>) {
        self.rest_slices(topic, out);
        self.slices(topic, out);
    }

    /// What goes before the outbox.
    pub(crate) fn rest_slices<'a>(&self, topic: &'a Topic, out: &mut Vec<IoSlice<'a>>) {
        if self.rest > 0 {
            topic.view().slices(self.from.at, self.from.at + self.rest, out);
        }
    }

    /// What goes behind the outbox.
    pub(crate) fn slices<'a>(&self, topic: &'a Topic, out: &mut Vec<IoSlice<'a>>) {
        let from = self.from.at + self.rest;
        match self.cut {
            None => topic.view().slices(from, self.to.at, out),
            Some(origin) => {
                let start = if self.rest > 0 { topic.view().advance(self.from, self.rest) } else { self.from };
                topic.view().slices_without(start, self.to, origin, out);
            }
        }
    }
}
