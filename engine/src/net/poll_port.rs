//! The port on epoll, for where io_uring is forbidden: one instance per shard, hosted in the monoio runtime.
//!
//! Level-triggered and one receive per connection and turn: no readiness can be lost, and no flood can starve the rest.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, SockFlag, accept4, recv, send, sendmsg};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::mesh::notify::Notify;
use crate::net::port::{ConnectionId, Event, Figures, Input, Shortfall};
use crate::sys::socket::{self, Send};

/// The shard's one receive buffer.
const RECEIVE_BYTES: usize = 64 << 10;
/// Readiness reports taken per reap.
const EVENTS_PER_REAP: usize = 1024;
/// Connections accepted per reap, so that a storm of them leaves room for the others.
const ACCEPTS_PER_REAP: u32 = 64;

/// Keys of the descriptors that are no connections.
const LISTENER: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;
const TIMER: u64 = u64::MAX - 2;

struct Slot {
    socket: Option<OwnedFd>,
    generation: u32,
    receiving: bool,
    ended: bool,
    writing: bool,
    registered: bool,
}

impl Slot {
    fn interest(&self) -> EpollFlags {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, self.receiving && !self.ended);
        flags.set(EpollFlags::EPOLLOUT, self.writing);
        flags
    }
}

/// See the module's description.
pub(crate) struct PollPort {
    epoll: Epoll,
    timer: TimerFd,
    notify: Arc<Notify>,
    armed_us: Option<u64>,
    slots: Vec<Slot>,
    listener: RawFd,
    /// Room for reports; those of the last wait are `ready[ready_next..ready_count]`.
    ready: Vec<EpollEvent>,
    ready_next: usize,
    ready_count: usize,
    pending: VecDeque<Event>,
    buffer: Option<Vec<u8>>,
    calls: u64,
}

fn key(id: ConnectionId) -> u64 {
    u64::from(id.generation) << 32 | u64::from(id.slot)
}

impl PollPort {
    pub(crate) fn new(notify: &Arc<Notify>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        epoll.add(notify.fd(), EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        Ok(Self {
            epoll,
            timer,
            notify: Arc::clone(notify),
            armed_us: None,
            slots: Vec::new(),
            listener: -1,
            ready: vec![EpollEvent::empty(); EVENTS_PER_REAP],
            ready_next: 0,
            ready_count: 0,
            pending: VecDeque::new(),
            buffer: Some(vec![0; RECEIVE_BYTES]),
            calls: 0,
        })
    }

    pub(crate) fn wait_fd(&self) -> io::Result<OwnedFd> {
        self.epoll.0.try_clone()
    }

    pub(crate) fn accept(&mut self, listener: RawFd) {
        if self.listener != listener {
            self.listener = listener;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER);
            self.epoll.add(socket::borrow(listener), event).expect("epoll takes a listening socket");
        }
    }

    pub(crate) fn stop_accepting(&mut self) {
        if self.listener >= 0 {
            let _ = self.epoll.delete(socket::borrow(self.listener));
            self.listener = -1;
        }
    }

    pub(crate) fn open(&mut self, id: ConnectionId, socket: OwnedFd) {
        let slot = Slot {
            socket: Some(socket),
            generation: id.generation,
            receiving: true,
            ended: false,
            writing: false,
            registered: false,
        };
        let index = id.slot as usize;
        if index == self.slots.len() {
            self.slots.push(slot);
        } else {
            self.slots[index] = slot;
        }
        self.register(id.slot);
    }

    #[inline]
    pub(crate) fn socket(&self, slot: u32) -> RawFd {
        self.slots[slot as usize].socket.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Brings the kernel's interest list in line with the slot. An ended socket that waits for nothing leaves the
    /// list, since its hang-up would be reported for ever.
    fn register(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let Some(socket) = slot.socket.as_ref() else { return };
        let id = ConnectionId { slot: index, generation: slot.generation };
        let mut event = EpollEvent::new(slot.interest(), key(id));
        let unwanted = slot.ended && !slot.writing;
        self.calls += 1;
        let result = match (slot.registered, unwanted) {
            (false, true) => Ok(()),
            (true, true) => self.epoll.delete(socket),
            (false, false) => self.epoll.add(socket, event),
            (true, false) => self.epoll.modify(socket, &mut event),
        };
        slot.registered = !unwanted && result.is_ok();
        if let Err(errno) = result {
            self.pending.push_back(Event::Ended(id, Some(errno as i32)));
        }
    }

    pub(crate) fn pause(&mut self, index: u32) {
        if std::mem::replace(&mut self.slots[index as usize].receiving, false) {
            self.register(index);
        }
    }

    pub(crate) fn resume(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if !std::mem::replace(&mut slot.receiving, true) && !slot.ended {
            self.register(index);
        }
    }

    pub(crate) fn is_quiet(&self, index: u32) -> bool {
        !self.slots[index as usize].receiving
    }

    pub(crate) fn arm_writable(&mut self, index: u32) {
        if !std::mem::replace(&mut self.slots[index as usize].writing, true) {
            self.register(index);
        }
    }

    pub(crate) fn shutdown_send(&mut self, index: u32) {
        socket::shutdown_send(self.socket(index));
    }

    pub(crate) fn close(&mut self, index: u32, reset: bool) {
        if reset {
            socket::reset_on_close(self.socket(index));
        }
        let slot = &mut self.slots[index as usize];
        let id = ConnectionId { slot: index, generation: slot.generation };
        if slot.socket.take().is_some() {
            slot.generation = slot.generation.wrapping_add(1);
            self.pending.push_back(Event::Closed(id));
        }
    }

    pub(crate) fn arm_timeout(&mut self, now_us: u64, deadline_us: u64) -> bool {
        if self.armed_us.is_some_and(|armed| armed <= deadline_us) {
            return false;
        }
        self.armed_us = Some(deadline_us);
        self.calls += 1;
        let wait = std::time::Duration::from_micros(deadline_us.saturating_sub(now_us).max(1));
        let expiration = Expiration::OneShot(TimeSpec::from_duration(wait));
        self.timer.set(expiration, TimerSetTimeFlags::empty()).expect("a positive time is a valid timer");
        false
    }

    pub(crate) fn reap(&mut self) {
        self.fetch();
    }

    fn fetch(&mut self) {
        if self.ready_next < self.ready_count {
            return;
        }
        self.ready_next = 0;
        self.calls += 1;
        self.ready_count = self.epoll.wait(&mut self.ready, EpollTimeout::ZERO).unwrap_or(0);
    }

    pub(crate) fn has_news(&mut self) -> bool {
        if self.pending.is_empty() {
            // What is ready now is not slept on: the next reap finds it here.
            self.fetch();
        }
        self.ready_next < self.ready_count || !self.pending.is_empty()
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            let event = *self.ready[..self.ready_count].get(self.ready_next)?;
            self.ready_next += 1;
            match event.data() {
                // The shard lowers its signal when it wakes; one that came late, while it was awake, is left to us.
                WAKE => self.notify.awake(),
                TIMER => {
                    self.armed_us = None;
                    self.calls += 1;
                    let _ = self.timer.wait();
                }
                LISTENER => self.accept_some(),
                data => {
                    let id = ConnectionId { slot: data as u32, generation: (data >> 32) as u32 };
                    if let Some(event) = self.on_ready(id, event.events()) {
                        return Some(event);
                    }
                }
            }
        }
    }

    fn accept_some(&mut self) {
        for _ in 0..ACCEPTS_PER_REAP {
            if self.listener < 0 {
                return;
            }
            self.calls += 1;
            match accept4(self.listener, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC) {
                Ok(fd) => self.pending.push_back(Event::Accepted(socket::own(fd))),
                Err(Errno::EAGAIN | Errno::EINTR) => return,
                Err(errno) => {
                    // Level-triggered: leave the list until the shard's back-off calls `accept` again.
                    if errno != Errno::ECONNABORTED {
                        self.stop_accepting();
                    }
                    self.pending.push_back(Event::AcceptFailed(errno as i32));
                    return;
                }
            }
        }
    }

    fn on_ready(&mut self, id: ConnectionId, flags: EpollFlags) -> Option<Event> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation || slot.socket.is_none() {
            return None;
        }
        let failed = flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        if slot.writing && (failed || flags.contains(EpollFlags::EPOLLOUT)) {
            slot.writing = false;
            self.pending.push_back(Event::Writable(id));
            self.register(id.slot);
        }
        let slot = &self.slots[id.slot as usize];
        if slot.ended {
            return self.pending.pop_front();
        }
        if slot.receiving && (failed || flags.contains(EpollFlags::EPOLLIN)) {
            return self.receive(id);
        }
        if failed {
            return Some(self.end(id, Some(libc::ECONNRESET)));
        }
        self.pending.pop_front()
    }

    fn receive(&mut self, id: ConnectionId) -> Option<Event> {
        let mut buffer = self.buffer.take().unwrap_or_else(|| vec![0; RECEIVE_BYTES]);
        self.calls += 1;
        let result = recv(self.socket(id.slot), &mut buffer, MsgFlags::MSG_DONTWAIT);
        match result {
            Ok(0) => {
                self.buffer = Some(buffer);
                Some(self.end(id, None))
            }
            Ok(len) => Some(Event::Received(id, Input::Heap(buffer, len))),
            Err(errno) => {
                self.buffer = Some(buffer);
                match errno {
                    Errno::EAGAIN | Errno::EINTR => None,
                    errno => Some(self.end(id, Some(errno as i32))),
                }
            }
        }
    }

    fn end(&mut self, id: ConnectionId, errno: Option<i32>) -> Event {
        self.slots[id.slot as usize].ended = true;
        self.register(id.slot);
        Event::Ended(id, errno)
    }

    pub(crate) fn give_back(&mut self, input: Input) {
        if let Input::Heap(buffer, _) = input {
            self.buffer = Some(buffer);
        }
    }

    pub(crate) fn flush(&mut self, sends: &[Send<'_>], shortfalls: &mut Vec<(usize, Shortfall)>) {
        self.calls += sends.len() as u64;
        for (index, send) in sends.iter().enumerate() {
            let total: usize = send.slices.iter().map(|slice| slice.len()).sum();
            match send_once(send) {
                Ok(sent) if sent == total => {}
                Ok(sent) => shortfalls.push((index, Shortfall::Sent(sent))),
                Err(errno) => shortfalls.push((index, Shortfall::from_result(-(errno as i32)))),
            }
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures { system_calls: self.calls, ..Figures::default() }
    }
}

fn send_once(what: &Send<'_>) -> nix::Result<usize> {
    let flags = MsgFlags::from_bits_retain(what.flags());
    match what.slices {
        [slice] => send(what.socket, slice, flags),
        slices => sendmsg::<()>(what.socket, slices, &[], flags, None),
    }
}
