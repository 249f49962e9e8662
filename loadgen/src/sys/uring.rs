//! The io_uring port: multishot receive into provided buffers, so that a message costs no system call of its own.
//!
//! Sends stay plain `send(2)`. A slot's submissions carry its generation, so that what completes for a connection that
//! is gone is never taken for its successor's.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::port::Ready;

const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 16_384;
/// Few enough to stay in the cache while they go round.
const BUFFERS: u16 = 256;
const BUFFER_BYTES: usize = 16 << 10;
const GROUP: u16 = 0;
/// `IORING_ENTER_GETEVENTS`.
const GETEVENTS: u32 = 1;
/// One `enter` hands out about 20 completions of deferred work; a turn takes up to so many times that.
const ENTERS_PER_TURN_MAX: u32 = 64;

const RECEIVE: u64 = 1 << 56;
const WRITABLE: u64 = 2 << 56;
const SIGNAL: u64 = 3 << 56;
const CANCEL: u64 = 4 << 56;
const OPERATION: u64 = 0xFF << 56;

/// One ring with its buffers; owned by the thread that made it.
pub(crate) struct UringPort {
    ring: IoUring,
    buffers: Buffers,
    streams: Vec<Stream>,
    /// What the last [`Ready::Bytes`] stands in.
    current: Current,
    /// For receives that are asked for one by one.
    side: Box<[u8]>,
    enters: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    fd: RawFd,
    generation: u32,
    is_receiving: bool,
    is_watched: bool,
    is_off: bool,
}

#[derive(Debug, Clone, Copy)]
enum Current {
    Nothing,
    Provided(u16),
    Side,
}

impl UringPort {
    /// Makes the ring on the calling thread, which must stay its only user.
    ///
    /// # Errors
    /// What the kernel says: EPERM where io_uring is forbidden, ENOSYS or EINVAL where it is too old.
    pub(crate) fn new() -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let buffers = Buffers::new(&ring)?;
        let side = vec![0; BUFFER_BYTES].into_boxed_slice();
        Ok(Self { ring, buffers, streams: Vec::new(), current: Current::Nothing, side, enters: 0 })
    }

    /// As the epoll port's.
    pub(crate) fn add_stream(&mut self, fd: RawFd, slot: u32) {
        let index = slot as usize;
        if self.streams.len() <= index {
            self.streams.resize(index + 1, Stream::default());
        }
        let generation = (self.streams[index].generation + 1) & 0xFF_FFFF;
        self.streams[index] = Stream { fd, generation, ..Stream::default() };
        self.watch_writable(slot);
    }

    /// The stream is about to be closed: lets go of it.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(stream) = self.streams.get_mut(slot as usize).filter(|stream| stream.generation > 0) else { return };
        let (is_receiving, is_watched, generation) = (stream.is_receiving, stream.is_watched, stream.generation);
        *stream = Stream { generation: (generation + 1) & 0xFF_FFFF, ..Stream::default() };
        if is_receiving {
            self.cancel(user_data(RECEIVE, slot, generation));
        }
        if is_watched {
            self.cancel(user_data(WRITABLE, slot, generation));
        }
    }

    /// As the epoll port's.
    pub(crate) fn add_readable(&mut self, fd: RawFd) {
        self.push(&opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true).build().user_data(SIGNAL | fd as u64));
    }

    /// Reports once when the stream takes bytes again.
    pub(crate) fn watch_writable(&mut self, slot: u32) {
        let stream = &mut self.streams[slot as usize];
        if !std::mem::replace(&mut stream.is_watched, true) {
            let (fd, data) = (stream.fd, user_data(WRITABLE, slot, stream.generation));
            self.push(&opcode::PollAdd::new(Fd(fd), libc::POLLOUT as u32).build().user_data(data));
        }
    }

    /// As the epoll port's.
    pub(crate) fn set_receiving(&mut self, slot: u32, is_on: bool) {
        let stream = &mut self.streams[slot as usize];
        stream.is_off = !is_on;
        match (is_on, stream.is_receiving) {
            (true, false) => self.receive_multishot(slot),
            (false, true) => {
                let data = user_data(RECEIVE, slot, stream.generation);
                self.cancel(data);
            }
            _ => {}
        }
    }

    /// As the epoll port's.
    pub(crate) fn receive(&mut self, fd: RawFd, limit: usize) -> usize {
        self.give_back();
        let limit = limit.min(self.side.len());
        // SAFETY: the buffer is writable for `limit` bytes.
        let received = unsafe { libc::recv(fd, self.side.as_mut_ptr().cast(), limit, libc::MSG_DONTWAIT) };
        self.current = Current::Side;
        usize::try_from(received).unwrap_or(0)
    }

    /// As the epoll port's.
    ///
    /// # Errors
    /// What io_uring_enter says, except an interruption and the end of the time.
    pub(crate) fn wait(&mut self, timeout_ns: Option<u64>) -> io::Result<()> {
        self.give_back();
        self.enters = 0;
        let time = timeout_ns.map(|ns| Timespec::new().sec(ns / 1_000_000_000).nsec((ns % 1_000_000_000) as u32));
        let mut arguments = SubmitArgs::new();
        if let Some(time) = &time {
            arguments = arguments.timespec(time);
        }
        match self.ring.submitter().submit_with_args(1, &arguments) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// As the epoll port's.
    #[inline]
    pub(crate) fn poll_ready(&mut self) -> Option<Ready> {
        self.give_back();
        loop {
            let Some(completion) = self.ring.completion().next() else {
                if self.take_deferred() {
                    continue;
                }
                return None;
            };
            if let Some(ready) = self.judge(&completion) {
                return Some(ready);
            }
        }
    }

    /// As the epoll port's.
    pub(crate) fn bytes(&self, len: usize) -> &[u8] {
        match self.current {
            Current::Provided(id) => self.buffers.bytes(id, len),
            Current::Side => &self.side[..len],
            Current::Nothing => &[],
        }
    }

    fn judge(&mut self, completion: &cqueue::Entry) -> Option<Ready> {
        let (data, result, flags) = (completion.user_data(), completion.result(), completion.flags());
        let slot = data as u32;
        let operation = data & OPERATION;
        if operation == SIGNAL {
            if !cqueue::more(flags) {
                self.add_readable(slot as RawFd);
            }
            return Some(Ready::Readable);
        }
        let buffer = cqueue::buffer_select(flags);
        let generation = (data >> 32) as u32 & 0xFF_FFFF;
        let stream = self.streams.get_mut(slot as usize).filter(|stream| stream.generation == generation);
        let Some(stream) = stream.filter(|_| operation != CANCEL) else {
            buffer.into_iter().for_each(|id| self.buffers.give_back(id));
            return None;
        };
        if operation == WRITABLE {
            stream.is_watched = false;
            if !stream.is_receiving && !stream.is_off {
                self.receive_multishot(slot);
            }
            return Some(Ready::Writable { slot });
        }
        stream.is_receiving = cqueue::more(flags);
        let is_to_arm = !stream.is_receiving && !stream.is_off;
        if let (1.., Some(id)) = (result, buffer) {
            if is_to_arm {
                self.receive_multishot(slot);
            }
            self.current = Current::Provided(id);
            return Some(Ready::Bytes { slot, len: result as usize });
        }
        buffer.into_iter().for_each(|id| self.buffers.give_back(id));
        match -result {
            0 => Some(Ready::End { slot, error: None }),
            libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {
                if is_to_arm {
                    self.receive_multishot(slot);
                }
                None
            }
            error => Some(Ready::End { slot, error: Some(io::Error::from_raw_os_error(error)) }),
        }
    }

    /// Runs the kernel's deferred work for this ring, if there is some; false: there is none, or enough for a turn.
    fn take_deferred(&mut self) -> bool {
        if self.enters >= ENTERS_PER_TURN_MAX || !self.ring.submission().taskrun() {
            return false;
        }
        self.enters += 1;
        // SAFETY: no argument is passed that the kernel could read or write.
        let _ = unsafe { self.ring.submitter().enter::<()>(0, 0, GETEVENTS, None) };
        true
    }

    fn receive_multishot(&mut self, slot: u32) {
        let stream = &mut self.streams[slot as usize];
        stream.is_receiving = true;
        let (fd, data) = (stream.fd, user_data(RECEIVE, slot, stream.generation));
        self.push(&opcode::RecvMulti::new(Fd(fd), GROUP).build().user_data(data));
    }

    fn cancel(&mut self, target: u64) {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(target)).build();
        self.push(&cancel.user_data(CANCEL).flags(squeue::Flags::SKIP_SUCCESS));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: every entry made in this file carries descriptors and numbers only, no pointer.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            // Full: what is there goes first. An error shows at the next wait.
            let _ = self.ring.submit();
        }
    }

    fn give_back(&mut self) {
        if let Current::Provided(id) = std::mem::replace(&mut self.current, Current::Nothing) {
            self.buffers.give_back(id);
        }
    }
}

impl Drop for UringPort {
    fn drop(&mut self) {
        // The kernel lets go of the buffers before they are freed.
        let _ = self.ring.submitter().unregister_buf_ring(GROUP);
    }
}

/// Buffers that the kernel fills; each is either the kernel's or the current one.
struct Buffers {
    entries: NonNull<BufRingEntry>,
    bytes: Box<[u8]>,
    tail: u16,
}

impl Buffers {
    fn new(ring: &IoUring) -> io::Result<Self> {
        let layout = Self::layout();
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(entries) = NonNull::new(memory.cast::<BufRingEntry>()) else { handle_alloc_error(layout) };
        let mut buffers = Self { entries, bytes: vec![0; usize::from(BUFFERS) * BUFFER_BYTES].into(), tail: 0 };
        // SAFETY: the memory is page-aligned, holds BUFFERS entries, and outlives the registration (UringPort::drop).
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, BUFFERS, GROUP, 0)? };
        (0..BUFFERS).for_each(|id| buffers.give_back(id));
        Ok(buffers)
    }

    fn bytes(&self, id: u16, len: usize) -> &[u8] {
        let start = usize::from(id) * BUFFER_BYTES;
        &self.bytes[start..start + len]
    }

    /// Hands buffer `id` to the kernel.
    fn give_back(&mut self, id: u16) {
        let index = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: `index` is below BUFFERS, and the kernel does not read this entry before the tail passes it.
        let entry = unsafe { self.entries.add(index).as_mut() };
        entry.set_addr(&raw mut self.bytes[usize::from(id) * BUFFER_BYTES] as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `entries` is the first entry of the ring, so this is the tail that the kernel reads; it is 2-aligned.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    fn layout() -> Layout {
        let bytes = usize::from(BUFFERS) * size_of::<BufRingEntry>();
        Layout::from_size_align(bytes, 4096).expect("a page is a valid alignment")
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout, and not registered any more.
        unsafe { dealloc(self.entries.as_ptr().cast(), Self::layout()) };
    }
}

fn user_data(operation: u64, slot: u32, generation: u32) -> u64 {
    operation | u64::from(generation) << 32 | u64::from(slot)
}
