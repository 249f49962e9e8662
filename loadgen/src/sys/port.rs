//! The waist between sockets and the rest: what a backend reports, whichever it is.

use std::io;
use std::os::fd::RawFd;

use super::epoll::EpollPort;
use super::uring::UringPort;

/// One thing that happened to a registered descriptor.
#[derive(Debug)]
pub(crate) enum Ready {
    /// `len` bytes arrived; they stand in the port's buffer until the next call.
    Bytes { slot: u32, len: usize },
    /// The socket takes bytes (again), or its connect has ended.
    Writable { slot: u32 },
    /// No byte will come any more: an orderly end, or the error that broke the connection.
    End { slot: u32, error: Option<io::Error> },
    /// A descriptor that is no stream became readable.
    Readable,
}

/// Which backend waits for the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    Epoll,
    Uring,
}

impl Driver {
    /// As the command line and the report name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::Uring => "io_uring",
        }
    }
}

/// One thread's backend.
pub(crate) enum Port {
    Epoll(EpollPort),
    Uring(Box<UringPort>),
}

impl Port {
    /// Makes it on the calling thread, which must stay its only user.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new(driver: Driver) -> io::Result<Self> {
        Ok(match driver {
            Driver::Epoll => Self::Epoll(EpollPort::new()?),
            Driver::Uring => Self::Uring(Box::new(UringPort::new()?)),
        })
    }

    /// As [`EpollPort::add_stream`].
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn add_stream(&mut self, fd: RawFd, slot: u32) -> io::Result<()> {
        match self {
            Self::Epoll(port) => port.add_stream(fd, slot),
            Self::Uring(port) => {
                port.add_stream(fd, slot);
                Ok(())
            }
        }
    }

    /// The stream is about to be closed.
    pub(crate) fn remove(&mut self, slot: u32) {
        if let Self::Uring(port) = self {
            port.remove(slot);
        }
    }

    /// As [`EpollPort::add_readable`].
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn add_readable(&mut self, fd: RawFd) -> io::Result<()> {
        match self {
            Self::Epoll(port) => port.add_readable(fd),
            Self::Uring(port) => {
                port.add_readable(fd);
                Ok(())
            }
        }
    }

    /// A send was cut short: [`Ready::Writable`] is wanted when the stream takes more. (epoll's edge says so unasked.)
    pub(crate) fn watch_writable(&mut self, slot: u32) {
        if let Self::Uring(port) = self {
            port.watch_writable(slot);
        }
    }

    /// As [`EpollPort::set_receiving`].
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn set_receiving(&mut self, fd: RawFd, slot: u32, is_on: bool) -> io::Result<()> {
        match self {
            Self::Epoll(port) => port.set_receiving(fd, slot, is_on),
            Self::Uring(port) => {
                port.set_receiving(slot, is_on);
                Ok(())
            }
        }
    }

    /// As [`EpollPort::receive`].
    pub(crate) fn receive(&mut self, fd: RawFd, limit: usize) -> usize {
        match self {
            Self::Epoll(port) => port.receive(fd, limit),
            Self::Uring(port) => port.receive(fd, limit),
        }
    }

    /// As [`EpollPort::wait`].
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn wait(&mut self, timeout_ns: Option<u64>) -> io::Result<()> {
        match self {
            Self::Epoll(port) => port.wait(timeout_ns),
            Self::Uring(port) => port.wait(timeout_ns),
        }
    }

    /// As [`EpollPort::poll_ready`].
    #[inline]
    pub(crate) fn poll_ready(&mut self) -> Option<Ready> {
        match self {
            Self::Epoll(port) => port.poll_ready(),
            Self::Uring(port) => port.poll_ready(),
        }
    }

    /// As [`EpollPort::bytes`].
    #[inline]
    pub(crate) fn bytes(&self, len: usize) -> &[u8] {
        match self {
            Self::Epoll(port) => port.bytes(len),
            Self::Uring(port) => port.bytes(len),
        }
    }
}
