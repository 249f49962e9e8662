//! One io_uring ring, wrapped so that the ring port above it needs no `unsafe`.
//!
//! In: submissions by plain values; out: [`Completion`]s and received [`Buffer`]s. Two rules make it sound:
//! a send borrows its bytes only for the length of [`Ring::send_all`], because inline sends (`MSG_DONTWAIT`) are
//! executed inside the submit call and never kept by the kernel; and a provided buffer belongs either to the kernel or
//! to exactly one [`Buffer`].

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::sys::socket::Send;

/// Submission queue entries. Also the largest number of sends that one [`Ring::send_all`] submits at once. They are used
/// in turn, hence few: 64 KiB that stay in the cache.
const SUBMISSIONS: u32 = 1024;
/// Completion queue entries: room for everything a turn can leave behind.
const COMPLETIONS: u32 = 32768;
/// Provided buffers that the kernel is given at first: 20 completions of one call, with a burst or two among them.
/// With all 512, 10,000 connections took some 30 B more each.
const BUFFERS_AT_FIRST: u16 = 64;
/// Buffer group of the provided buffers.
const GROUP: u16 = 0;
/// So many calls in a row that brought nothing say that the kernel's mark of deferred work is a stale one. Each runs some 20
/// entries, so that far more than can bring nothing are through.
const FRUITLESS_MAX: u32 = 64;
/// `IORING_ENTER_GETEVENTS`.
const GETEVENTS: u32 = 1;

/// What the kernel reports about one submission.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completion {
    /// The value the submission carried.
    pub user_data: u64,
    /// Result, or a negated errno.
    pub result: i32,
    flags: u32,
}

impl Completion {
    /// True while the multishot submission stays armed.
    pub(crate) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The descriptor that a successful accept carries. Call it once per completion.
    pub(crate) fn accepted(&self) -> OwnedFd {
        assert!(self.result >= 0, "only a successful accept carries a descriptor");
        // SAFETY: the kernel just installed this descriptor for us and nobody else knows it.
        unsafe { OwnedFd::from_raw_fd(self.result) }
    }
}

/// A hosted ring with its provided buffers. Lives on the thread that built it.
pub(crate) struct Ring {
    ring: IoUring,
    buffers: BufferRing,
    /// Headers of the SENDMSG submissions of the running `send_all`.
    messages: Vec<libc::msghdr>,
    /// The timeout argument must outlive its submission, not longer.
    timespec: Box<[Timespec; 8]>,
    timespec_next: usize,
    /// Completions that were read while sends were submitted.
    stash: VecDeque<Completion>,
    /// Calls in a row that brought no completion and left the mark of deferred work.
    fruitless: u32,
    /// `enter` calls so far.
    pub(crate) enters: u64,
    /// Submissions pushed so far.
    pub(crate) submissions: u64,
    /// Completions read so far.
    pub(crate) completions: u64,
}

impl Ring {
    /// Builds the ring on the calling thread, registers `eventfd` for completions and `count` (a power of two)
    /// provided buffers of `bytes` each.
    ///
    /// # Errors
    /// What the kernel says: ENOSYS, EPERM, ENOMEM, EINVAL on a kernel that is too old.
    pub(crate) fn new(eventfd: BorrowedFd<'_>, count: u16, bytes: usize) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        // Saves the descriptor lookup of each enter; absent before Linux 5.18, and not needed.
        let _ = ring.submitter().register_ring_fd();
        let buffers = BufferRing::new(&ring, count, bytes)?;
        let timespec = Box::new([Timespec::new(); 8]);
        Ok(Self {
            ring,
            buffers,
            messages: Vec::with_capacity(SUBMISSIONS as usize),
            timespec,
            timespec_next: 0,
            stash: VecDeque::new(),
            fruitless: 0,
            enters: 0,
            submissions: 0,
            completions: 0,
        })
    }

    /// Accepts until cancelled; each completion carries a non-blocking, close-on-exec descriptor.
    pub(crate) fn accept_multishot(&mut self, listener: RawFd, user_data: u64) {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        self.push(opcode::AcceptMulti::new(Fd(listener)).flags(flags).build().user_data(user_data));
    }

    /// Receives into provided buffers until the end, an error, a cancel or ENOBUFS.
    pub(crate) fn receive_multishot(&mut self, socket: RawFd, user_data: u64) {
        self.push(opcode::RecvMulti::new(Fd(socket), GROUP).build().user_data(user_data));
    }

    /// Completes once when `socket` takes bytes again.
    pub(crate) fn poll_writable(&mut self, socket: RawFd, user_data: u64) {
        self.push(opcode::PollAdd::new(Fd(socket), libc::POLLOUT as u32).build().user_data(user_data));
    }

    /// Cancels the submission that carries `target`.
    pub(crate) fn cancel(&mut self, target: u64, user_data: u64) {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(target));
        self.push(cancel.build().user_data(user_data).flags(squeue::Flags::SKIP_SUCCESS));
    }

    /// Completes after `micros` microseconds.
    pub(crate) fn timeout(&mut self, micros: u64, user_data: u64) {
        // Eight slots: each is free again once its submission was consumed, which every `enter` guarantees.
        if self.timespec_next == self.timespec.len() || self.ring.submission().is_full() {
            self.submit();
        }
        let slot = &mut self.timespec[self.timespec_next];
        *slot = Timespec::new().sec(micros / 1_000_000).nsec((micros % 1_000_000) as u32 * 1000);
        let entry = opcode::Timeout::new(slot).build().user_data(user_data);
        self.timespec_next += 1;
        self.push(entry);
    }

    /// Submits what is queued and runs some of the kernel's deferred work for this ring: one call on a DEFER_TASKRUN
    /// ring returns about 20 completions, [`Ring::next_completion`] asks for the others. False if the kernel could not.
    pub(crate) fn reap(&mut self) -> bool {
        let done = self.enter(GETEVENTS);
        let is_fruitless = self.ring.completion().is_empty() && self.is_marked();
        self.fruitless = if is_fruitless { self.fruitless.saturating_add(1) } else { 0 };
        done
    }

    /// The oldest completion that was not taken yet. When those at hand are used up, the kernel is asked for more:
    /// by then their buffers are given back, so that few are in use and those stay in the cache.
    #[inline]
    pub(crate) fn next_completion(&mut self) -> Option<Completion> {
        loop {
            if let Some(completion) = self.stash.pop_front().or_else(|| self.read_completion()) {
                return Some(completion);
            }
            // At most one call for nothing: the mark may be stale, and then stands until the next real work.
            if !self.is_marked() || !self.reap() || self.fruitless > 0 {
                return None;
            }
        }
    }

    /// Whether the kernel says that it has completions which it makes out only when it is called. It may say so wrongly: who
    /// adds work from another core sets the mark after this one may have done that very work and cleared the mark.
    fn is_marked(&mut self) -> bool {
        let mut queue = self.ring.submission();
        queue.sync();
        queue.taskrun()
    }

    #[inline]
    fn read_completion(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        self.completions += 1;
        Some(Completion { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() })
    }

    /// Whether completions signal the registered eventfd: only needed while the shard sleeps.
    pub(crate) fn signal_completions(&mut self, on: bool) {
        let queue = self.ring.completion();
        if on { queue.enable_eventfd() } else { queue.disable_eventfd() }
    }

    /// True if [`Ring::reap`] would have something to do or to show.
    pub(crate) fn has_news(&mut self) -> bool {
        if !self.stash.is_empty() || !self.ring.completion().is_empty() {
            return true;
        }
        let mut queue = self.ring.submission();
        queue.sync();
        if queue.cq_overflow() || !queue.is_empty() {
            return true;
        }
        if !queue.taskrun() {
            return false;
        }
        drop(queue);
        if self.fruitless < FRUITLESS_MAX {
            return true;
        }
        // A stale mark, which says nothing about what came after it: the kernel is asked. Whatever comes later finds no work
        // there, and signals.
        self.reap();
        !self.ring.completion().is_empty()
    }

    /// Sends each item at once and without waiting, inside this call. `user_data(i)` is `tag | i`; `short` is called
    /// for each send that the kernel did not take whole, with its index and the bytes taken or a negated errno.
    pub(crate) fn send_all(&mut self, tag: u64, tag_mask: u64, sends: &[Send<'_>], mut short: impl FnMut(usize, i32)) {
        self.messages.clear();
        self.messages.reserve(sends.len());
        for (index, send) in sends.iter().enumerate() {
            let (socket, slices) = (Fd(send.socket), send.slices);
            // All or as much as fits, hence the send runs inside the submit call.
            let flags = send.flags() | libc::MSG_WAITALL;
            let entry = if let [slice] = slices {
                opcode::Send::new(socket, slice.as_ptr(), slice.len() as u32).flags(flags).build()
            } else {
                // SAFETY: all-zero is a valid msghdr (null pointers, zero lengths).
                let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
                // IoSlice is ABI compatible with iovec; the kernel only reads.
                message.msg_iov = slices.as_ptr().cast_mut().cast();
                message.msg_iovlen = slices.len();
                self.messages.push(message);
                // The vector does not grow while submissions point into it: reserved above.
                let message: *const libc::msghdr = &raw const self.messages[self.messages.len() - 1];
                opcode::SendMsg::new(socket, message).flags(flags as u32).build()
            };
            self.push(entry.user_data(tag | index as u64).flags(squeue::Flags::SKIP_SUCCESS));
        }
        // Every submission is consumed, and so every inline send over, before this returns: nothing outlives `sends`.
        self.submit();
        // A full completion queue may have moved some of ours to the stash.
        self.stash.retain(|completion| {
            let ours = completion.user_data & tag_mask == tag;
            if ours {
                short((completion.user_data & !tag_mask) as usize, completion.result);
            }
            !ours
        });
        while let Some(completion) = self.read_completion() {
            if completion.user_data & tag_mask == tag {
                short((completion.user_data & !tag_mask) as usize, completion.result);
            } else {
                self.stash.push_back(completion);
            }
        }
    }

    /// Takes over the provided buffer of a receive.
    pub(crate) fn take_buffer(&mut self, completion: &Completion) -> Option<Buffer> {
        let index = cqueue::buffer_select(completion.flags)?;
        let len = usize::try_from(completion.result).unwrap_or(0);
        Some(Buffer { memory: Rc::clone(&self.buffers.memory), index, len })
    }

    /// Lets the kernel have more of the buffers, after it ran out of them. False if it has all. Many receives may run out
    /// at once: that is one shortage.
    pub(crate) fn add_buffers(&mut self) -> bool {
        self.buffers.has_more_to_come() || self.buffers.circulate_more()
    }

    /// Gives a buffer back to the kernel; it becomes usable with the next call into it.
    pub(crate) fn give_buffer(&mut self, buffer: Buffer) {
        self.buffers.give(buffer.index);
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.submissions += 1;
        loop {
            // SAFETY: every pointer in an entry is valid until the entry is consumed: sends point to memory that
            // `send_all` borrows until its submit returns, timeouts to `self.timespec`, the rest carries none.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            self.submit();
        }
    }

    /// Submits until the queue is empty.
    fn submit(&mut self) {
        loop {
            self.enter(0);
            let mut queue = self.ring.submission();
            queue.sync();
            if queue.is_empty() {
                break;
            }
        }
    }

    /// Returns whether the kernel took it.
    fn enter(&mut self, flags: u32) -> bool {
        // Before any receive is submitted, too: one that finds no buffer ends.
        self.buffers.publish();
        let to_submit = {
            let mut queue = self.ring.submission();
            queue.sync();
            queue.len() as u32
        };
        self.enters += 1;
        // SAFETY: no signal mask or extended argument is passed, so nothing is dereferenced.
        let result = unsafe { self.ring.submitter().enter::<libc::sigset_t>(to_submit, 0, flags, None) };
        if let Err(error) = result {
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // The completion queue is full: make room, the kernel flushes its backlog at the next enter.
                Some(libc::EBUSY | libc::EAGAIN) => {
                    while let Some(completion) = self.read_completion() {
                        self.stash.push_back(completion);
                    }
                }
                _ => panic!("io_uring_enter failed on a ring that works: {error}"),
            }
            return false;
        }
        self.timespec_next = 0;
        true
    }
}

/// Received bytes in a provided buffer, ours until given back.
pub(crate) struct Buffer {
    memory: Rc<BufferMemory>,
    index: u16,
    len: usize,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `index` is a buffer the kernel handed to us alone, and `len ≤ bytes` of it were written.
        unsafe { std::slice::from_raw_parts(self.memory.buffer(self.index), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; `&mut self` is the only handle to this index.
        unsafe { std::slice::from_raw_parts_mut(self.memory.buffer(self.index), self.len) }
    }
}

/// The provided-buffer ring that we fill and the kernel drains. The kernel uses the buffers in turn, so as few circulate
/// as bursts need: what is written next was read a moment ago, and memory that no burst needs is never touched.
struct BufferRing {
    memory: Rc<BufferMemory>,
    count: u16,
    /// How many are in use or with the kernel; the others were never touched.
    circulating: u16,
    /// Of these, how many the kernel has been told of.
    published: u16,
    tail: u16,
}

/// Entries and buffers; freed when the ring and every [`Buffer`] are gone.
struct BufferMemory {
    entries: NonNull<u8>,
    entries_layout: Layout,
    buffers: NonNull<u8>,
    buffers_layout: Layout,
    bytes: usize,
}

impl BufferMemory {
    fn buffer(&self, index: u16) -> *mut u8 {
        // SAFETY: indices come from the entries that we wrote, all below the count the memory was sized for.
        unsafe { self.buffers.as_ptr().add(usize::from(index) * self.bytes) }
    }
}

impl Drop for BufferMemory {
    fn drop(&mut self) {
        // SAFETY: allocated with these layouts in `BufferRing::new`; the ring that used them was dropped before.
        unsafe {
            dealloc(self.entries.as_ptr(), self.entries_layout);
            dealloc(self.buffers.as_ptr(), self.buffers_layout);
        }
    }
}

fn allocate(bytes: usize) -> (NonNull<u8>, Layout) {
    let layout = Layout::from_size_align(bytes, 4096).expect("a few MiB at page alignment is a valid layout");
    // SAFETY: the layout is not empty.
    let pointer = unsafe { alloc_zeroed(layout) };
    (NonNull::new(pointer).unwrap_or_else(|| handle_alloc_error(layout)), layout)
}

impl BufferRing {
    fn new(ring: &IoUring, count: u16, bytes: usize) -> io::Result<Self> {
        let (entries, entries_layout) = allocate(usize::from(count) * size_of::<BufRingEntry>());
        let (buffers, buffers_layout) = allocate(usize::from(count) * bytes);
        let memory = Rc::new(BufferMemory { entries, entries_layout, buffers, buffers_layout, bytes });
        // SAFETY: the entries stay allocated as long as `memory`, which `Ring` drops after its `IoUring`.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, count, GROUP, 0)? };
        let mut this = Self { memory, count, circulating: 0, published: 0, tail: 0 };
        this.circulate_more();
        this.publish();
        Ok(this)
    }

    fn has_more_to_come(&self) -> bool {
        self.published < self.circulating
    }

    /// Gives the kernel as many again as circulate, if there are more.
    fn circulate_more(&mut self) -> bool {
        let more = self.circulating.max(BUFFERS_AT_FIRST).min(self.count - self.circulating);
        for index in self.circulating..self.circulating + more {
            self.give(index);
        }
        self.circulating += more;
        more > 0
    }

    fn give(&mut self, index: u16) {
        let position = usize::from(self.tail & (self.count - 1));
        // SAFETY: `position < count`, the entries are zeroed or written before, and the kernel reads an entry only
        // after `publish` moved the tail past it.
        let entry = unsafe { &mut *self.memory.entries.as_ptr().cast::<BufRingEntry>().add(position) };
        entry.set_addr(self.memory.buffer(index) as u64);
        entry.set_len(self.memory.bytes as u32);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        self.published = self.circulating;
        // SAFETY: the base of a registered buffer ring; its tail is a u16 inside the first entry, shared with the
        // kernel and therefore accessed as an atomic.
        unsafe {
            let tail = BufRingEntry::tail(self.memory.entries.as_ptr().cast::<BufRingEntry>());
            AtomicU16::from_ptr(tail.cast_mut()).store(self.tail, Ordering::Release);
        }
    }
}
