//! The epoll port: waits for many sockets, and receives into one buffer per thread.
//!
//! Edge-triggered, so that a socket is registered once in its life. A receive that filled less than the buffer has
//! emptied the socket, unless the event also announced the end of the stream.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::port::Ready;

const EVENTS_PER_WAIT: usize = 1024;
const RECEIVE_BYTES: usize = 256 << 10;
const ENDED: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// One epoll instance with its receive buffer; owned by one thread.
pub(crate) struct EpollPort {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    at: usize,
    len: usize,
    buffer: Box<[u8]>,
}

impl EpollPort {
    /// # Errors
    /// When the process is out of descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 takes no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // SAFETY: the kernel has just handed out `fd`, and nothing else owns it.
            epoll: unsafe { OwnedFd::from_raw_fd(fd) },
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_WAIT],
            at: 0,
            len: 0,
            buffer: vec![0; RECEIVE_BYTES].into_boxed_slice(),
        })
    }

    /// Registers a stream socket under `slot`. It leaves by being closed.
    ///
    /// # Errors
    /// What epoll_ctl says, for instance that the kernel is out of memory or of watches.
    pub(crate) fn add_stream(&mut self, fd: RawFd, slot: u32) -> io::Result<()> {
        self.add(fd, slot, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET)
    }

    /// Turns receiving from a stream off or (again) on; its end is reported all the same.
    ///
    /// # Errors
    /// What epoll_ctl says.
    pub(crate) fn set_receiving(&mut self, fd: RawFd, slot: u32, is_on: bool) -> io::Result<()> {
        let receiving = if is_on { libc::EPOLLIN } else { 0 };
        self.control(libc::EPOLL_CTL_MOD, fd, slot, receiving | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET)
    }

    /// Receives at most `limit` bytes from a stream whose receiving is off; 0: there are none, or it has ended.
    pub(crate) fn receive(&mut self, fd: RawFd, limit: usize) -> usize {
        let limit = limit.min(self.buffer.len());
        // SAFETY: the buffer is writable for `limit` bytes.
        let received = unsafe { libc::recv(fd, self.buffer.as_mut_ptr().cast(), limit, libc::MSG_DONTWAIT) };
        usize::try_from(received).unwrap_or(0)
    }

    /// Registers anything else that becomes readable (a listener, an eventfd), level-triggered, reported as
    /// [`Ready::Readable`].
    ///
    /// # Errors
    /// As [`Self::add_stream`].
    pub(crate) fn add_readable(&mut self, fd: RawFd) -> io::Result<()> {
        self.add(fd, SIGNAL, libc::EPOLLIN)
    }

    /// Waits up to `timeout_ns` (`None`: for ever) until something is ready.
    ///
    /// # Errors
    /// What epoll_pwait2 says, except an interruption by a signal, which counts as nothing ready.
    pub(crate) fn wait(&mut self, timeout_ns: Option<u64>) -> io::Result<()> {
        let time = timeout_ns.map(|ns| libc::timespec {
            tv_sec: (ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (ns % 1_000_000_000) as libc::c_long,
        });
        let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `events` has room for EVENTS_PER_WAIT entries; `time` is null or outlives the call; no signal mask.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS_PER_WAIT as libc::c_int,
                time,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        (self.at, self.len) = (0, usize::try_from(count).unwrap_or(0));
        if count < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The next thing that happened, receiving on the way; `None`: wait again.
    #[inline]
    pub(crate) fn poll_ready(&mut self) -> Option<Ready> {
        while self.at < self.len {
            let event = &mut self.events[self.at];
            let (slot, fd) = (event.u64 as u32, (event.u64 >> 32) as RawFd);
            if slot == SIGNAL {
                self.at += 1;
                return Some(Ready::Readable);
            }
            if event.events & libc::EPOLLOUT as u32 != 0 {
                event.events &= !(libc::EPOLLOUT as u32);
                return Some(Ready::Writable { slot });
            }
            if event.events == 0 {
                self.at += 1;
                continue;
            }
            let flags = event.events;
            // SAFETY: the buffer is writable for its whole length. `fd` was registered by us; a closed one gives EBADF.
            let received = unsafe { libc::recv(fd, self.buffer.as_mut_ptr().cast(), self.buffer.len(), 0) };
            if received > 0 {
                if (received as usize) < self.buffer.len() && flags & ENDED == 0 {
                    self.at += 1;
                }
                return Some(Ready::Bytes { slot, len: received as usize });
            }
            self.at += 1;
            if received == 0 {
                return Some(Ready::End { slot, error: None });
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock => {}
                io::ErrorKind::Interrupted => self.at -= 1,
                _ => return Some(Ready::End { slot, error: Some(error) }),
            }
        }
        None
    }

    /// The bytes of the [`Ready::Bytes`] just taken.
    pub(crate) fn bytes(&self, len: usize) -> &[u8] {
        &self.buffer[..len]
    }

    fn add(&mut self, fd: RawFd, slot: u32, events: libc::c_int) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, slot, events)
    }

    fn control(&mut self, operation: libc::c_int, fd: RawFd, slot: u32, events: libc::c_int) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: (fd as u64) << 32 | u64::from(slot) };
        // SAFETY: `event` is valid for the call, and `fd` is open.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// The slot of everything that came by [`EpollPort::add_readable`]; no run has four thousand million connections.
const SIGNAL: u32 = u32::MAX;
