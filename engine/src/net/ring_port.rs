//! The port on io_uring: multishot accept and receive into provided buffers, inline sends.
//!
//! `user_data` = operation:8 | generation:24 | slot:32. A slot is free again only after its last completion, so a late
//! completion never meets the slot's next user.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::mesh::notify::Notify;
use crate::net::port::{ConnectionId, Event, Figures, Input, Shortfall};
use crate::sys::socket::{self, Send};
use crate::sys::uring::{Completion, Ring};

/// Provided buffers per shard at most: with [`BUFFER_BYTES`] 8 MiB of address space, touched only as deep as bursts go.
const BUFFER_COUNT: u16 = 512;
/// One receive takes at most this many bytes.
const BUFFER_BYTES: usize = 16 << 10;

const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;
const WRITABLE: u64 = 4;
const TIMEOUT: u64 = 5;
const CANCEL: u64 = 6;
const OPERATION_SHIFT: u32 = 56;
const GENERATION_MASK: u32 = (1 << 24) - 1;

fn user_data(operation: u64, id: ConnectionId) -> u64 {
    operation << OPERATION_SHIFT | u64::from(id.generation & GENERATION_MASK) << 32 | u64::from(id.slot)
}

/// The state of a slot's multishot receive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receive {
    Idle,
    Armed,
    Cancelling,
}

struct Slot {
    socket: Option<OwnedFd>,
    generation: u32,
    receive: Receive,
    /// Whether the receive shall be re-armed when it ends.
    wanted: bool,
    polling: bool,
    closing: bool,
}

impl Slot {
    fn raw(&self) -> RawFd {
        self.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

/// See the module's description.
pub(crate) struct RingPort {
    ring: Ring,
    notify: Arc<Notify>,
    slots: Vec<Slot>,
    listener: RawFd,
    accepting: bool,
    /// Slots whose receive shall be armed at the beginning of the next turn, after buffers went back.
    rearm: Vec<u32>,
    closed: VecDeque<ConnectionId>,
    /// Deadlines of the timeouts under way, latest first; few.
    timeouts: Vec<u64>,
    buffers_exhausted: u64,
}

impl RingPort {
    pub(crate) fn new(notify: &Arc<Notify>) -> io::Result<Self> {
        Ok(Self {
            ring: Ring::new(notify.fd(), BUFFER_COUNT, BUFFER_BYTES)?,
            notify: Arc::clone(notify),
            slots: Vec::new(),
            listener: -1,
            accepting: false,
            rearm: Vec::new(),
            closed: VecDeque::new(),
            timeouts: Vec::new(),
            buffers_exhausted: 0,
        })
    }

    pub(crate) fn wait_fd(&self) -> io::Result<OwnedFd> {
        self.notify.fd().try_clone_to_owned()
    }

    pub(crate) fn accept(&mut self, listener: RawFd) {
        self.listener = listener;
        if !self.accepting {
            self.accepting = true;
            self.ring.accept_multishot(listener, ACCEPT << OPERATION_SHIFT);
        }
    }

    pub(crate) fn stop_accepting(&mut self) {
        self.listener = -1;
        if self.accepting {
            self.ring.cancel(ACCEPT << OPERATION_SHIFT, CANCEL << OPERATION_SHIFT);
        }
    }

    pub(crate) fn open(&mut self, id: ConnectionId, socket: OwnedFd) {
        let slot = Slot {
            socket: Some(socket),
            generation: id.generation & GENERATION_MASK,
            receive: Receive::Idle,
            wanted: true,
            polling: false,
            closing: false,
        };
        let index = id.slot as usize;
        if index == self.slots.len() {
            self.slots.push(slot);
        } else {
            self.slots[index] = slot;
        }
        self.arm_receive(id.slot);
    }

    #[inline]
    pub(crate) fn socket(&self, slot: u32) -> RawFd {
        self.slots[slot as usize].raw()
    }

    fn id(&self, slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: self.slots[slot as usize].generation }
    }

    fn arm_receive(&mut self, index: u32) {
        let data = user_data(RECEIVE, self.id(index));
        let slot = &mut self.slots[index as usize];
        if slot.receive == Receive::Idle && slot.wanted && !slot.closing {
            slot.receive = Receive::Armed;
            let socket = slot.raw();
            self.ring.receive_multishot(socket, data);
        }
    }

    pub(crate) fn pause(&mut self, index: u32) {
        self.slots[index as usize].wanted = false;
        self.cancel_receive(index);
    }

    fn cancel_receive(&mut self, index: u32) {
        let data = user_data(RECEIVE, self.id(index));
        let slot = &mut self.slots[index as usize];
        if slot.receive == Receive::Armed {
            slot.receive = Receive::Cancelling;
            self.ring.cancel(data, CANCEL << OPERATION_SHIFT);
        }
    }

    pub(crate) fn resume(&mut self, index: u32) {
        self.slots[index as usize].wanted = true;
        // If the cancel is still under way, the receive's last completion re-arms it.
        self.arm_receive(index);
    }

    pub(crate) fn is_quiet(&self, index: u32) -> bool {
        let slot = &self.slots[index as usize];
        !slot.wanted && slot.receive == Receive::Idle
    }

    pub(crate) fn arm_writable(&mut self, index: u32) {
        let data = user_data(WRITABLE, self.id(index));
        let slot = &mut self.slots[index as usize];
        if !slot.polling && !slot.closing {
            slot.polling = true;
            let socket = slot.raw();
            self.ring.poll_writable(socket, data);
        }
    }

    pub(crate) fn shutdown_send(&mut self, index: u32) {
        socket::shutdown_send(self.slots[index as usize].raw());
    }

    pub(crate) fn close(&mut self, index: u32, reset: bool) {
        let id = self.id(index);
        if reset {
            socket::reset_on_close(self.slots[index as usize].raw());
        }
        self.slots[index as usize].closing = true;
        self.slots[index as usize].wanted = false;
        self.cancel_receive(index);
        if self.slots[index as usize].polling {
            self.ring.cancel(user_data(WRITABLE, id), CANCEL << OPERATION_SHIFT);
        }
        self.close_if_done(index);
    }

    fn close_if_done(&mut self, index: u32) {
        let id = self.id(index);
        let slot = &mut self.slots[index as usize];
        if slot.closing && slot.receive == Receive::Idle && !slot.polling && slot.socket.take().is_some() {
            self.closed.push_back(id);
        }
    }

    pub(crate) fn arm_timeout(&mut self, now_us: u64, deadline_us: u64) -> bool {
        // One that ends earlier is under way: whoever it wakes looks at the deadlines again.
        if self.timeouts.last().is_some_and(|armed| *armed <= deadline_us) {
            return false;
        }
        self.timeouts.push(deadline_us);
        self.ring.timeout(deadline_us.saturating_sub(now_us).max(1), TIMEOUT << OPERATION_SHIFT);
        true
    }

    pub(crate) fn reap(&mut self) {
        for index in std::mem::take(&mut self.rearm) {
            self.arm_receive(index);
        }
        self.ring.reap();
    }

    pub(crate) fn has_news(&mut self) -> bool {
        !self.closed.is_empty() || !self.rearm.is_empty() || self.ring.has_news()
    }

    pub(crate) fn sleeping(&mut self, asleep: bool) {
        self.ring.signal_completions(asleep);
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        if let Some(id) = self.closed.pop_front() {
            return Some(Event::Closed(id));
        }
        while let Some(completion) = self.ring.next_completion() {
            let slot = completion.user_data as u32;
            let event = match completion.user_data >> OPERATION_SHIFT {
                ACCEPT => self.accepted(&completion),
                RECEIVE => self.received(slot, &completion),
                WRITABLE => self.writable(slot),
                TIMEOUT => {
                    self.timeouts.pop();
                    None
                }
                _ => None,
            };
            if event.is_some() {
                return event;
            }
        }
        self.closed.pop_front().map(Event::Closed)
    }

    fn accepted(&mut self, completion: &Completion) -> Option<Event> {
        if !completion.more() {
            self.accepting = false;
        }
        if completion.result >= 0 {
            if !self.accepting && self.listener >= 0 {
                self.accept(self.listener);
            }
            return Some(Event::Accepted(completion.accepted()));
        }
        (self.listener >= 0).then_some(Event::AcceptFailed(-completion.result))
    }

    fn received(&mut self, index: u32, completion: &Completion) -> Option<Event> {
        let id = self.id(index);
        let buffer = self.ring.take_buffer(completion);
        let slot = &mut self.slots[index as usize];
        let mut ended = None;
        if !completion.more() {
            slot.receive = Receive::Idle;
            match completion.result {
                0 => ended = Some(Event::Ended(id, None)),
                errno if errno == -libc::ENOBUFS => {
                    self.buffers_exhausted += u64::from(!self.ring.add_buffers());
                    self.rearm.push(index);
                }
                errno if errno < 0 && errno != -libc::ECANCELED && errno != -libc::EINTR => {
                    ended = Some(Event::Ended(id, Some(-errno)));
                }
                _ => self.rearm.push(index),
            }
            if self.slots[index as usize].closing {
                self.close_if_done(index);
                ended = None;
            }
        }
        match buffer {
            Some(buffer) if completion.result > 0 && !self.slots[index as usize].closing => {
                Some(Event::Received(id, Input::Provided(buffer)))
            }
            Some(buffer) => {
                self.ring.give_buffer(buffer);
                ended
            }
            None => ended,
        }
    }

    fn writable(&mut self, index: u32) -> Option<Event> {
        self.slots[index as usize].polling = false;
        if self.slots[index as usize].closing {
            self.close_if_done(index);
            return None;
        }
        Some(Event::Writable(self.id(index)))
    }

    pub(crate) fn give_back(&mut self, input: Input) {
        if let Input::Provided(buffer) = input {
            self.ring.give_buffer(buffer);
        }
    }

    pub(crate) fn flush(&mut self, sends: &[Send<'_>], shortfalls: &mut Vec<(usize, Shortfall)>) {
        let tag = SEND << OPERATION_SHIFT;
        self.ring.send_all(tag, !0 << OPERATION_SHIFT, sends, |index, result| {
            shortfalls.push((index, Shortfall::from_result(result)));
        });
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            system_calls: self.ring.enters,
            submissions: self.ring.submissions,
            completions: self.ring.completions,
            buffers_exhausted: self.buffers_exhausted,
        }
    }
}
