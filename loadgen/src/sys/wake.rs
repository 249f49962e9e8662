//! An eventfd: what one thread writes to end another's wait.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A counter in the kernel that is readable while it is not zero.
pub(crate) struct Wake(OwnedFd);

impl Wake {
    /// # Errors
    /// When the process is out of descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just handed out `fd`, and nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Ends the current wait of whoever polls this, or else the next one.
    pub(crate) fn wake(&self) {
        let one = 1u64;
        // SAFETY: eight readable bytes, as eventfd wants; a full counter (EAGAIN) means the wake is pending anyway.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Takes all pending wakes.
    pub(crate) fn drain(&self) {
        let mut count = 0u64;
        // SAFETY: eight writable bytes, as eventfd wants; EAGAIN means there was nothing to take.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
