//! Wakes a shard that sleeps, and costs next to nothing while it does not.
//!
//! ```text
//! who publishes                          who sleeps
//! store into a ring or bitmap            sleeping = true
//! fence(SeqCst)                          fence(SeqCst)
//! sleeping? then false, and signal       work there? then do not sleep
//! ```
//!
//! With a fence on both sides at least one of the two sees the other's store, so no wake is lost; Release and Acquire
//! alone would let both miss it. Waking a core costs its waker about 5 µs, hence once per turn and only if it sleeps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::sync::{AtomicBool, AtomicU64, fence};

/// The bell of one shard: any thread wakes, the owner alone sleeps.
pub struct Notify<S: Signal = EventFd> {
    /// Set by the owner before it waits; whoever clears it signals, so one sleep draws at most one signal.
    sleeping: AtomicBool,
    /// The owner's own: whether it has set `sleeping` since it was last awake.
    slept: AtomicBool,
    /// The owner's own: signals that were or will be raised and are not lowered yet.
    raised: AtomicU64,
    signal: S,
}

impl Notify {
    /// A bell with an eventfd of its own (non-blocking, close-on-exec).
    ///
    /// # Errors
    /// What the kernel says, above all that the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        let signal = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self::with_signal(signal))
    }

    /// What to wait on for readability, after [`sleep_unless`](Self::sleep_unless) has returned `true`. Nothing else may
    /// write or read it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }
}

impl<S: Signal> Notify<S> {
    /// A bell that rings by `signal`.
    #[must_use]
    pub fn with_signal(signal: S) -> Self {
        Self { sleeping: AtomicBool::new(false), slept: AtomicBool::new(false), raised: AtomicU64::new(0), signal }
    }

    /// Wakes the owner if it sleeps. Call it after the stores that the owner shall see.
    #[inline]
    pub fn wake(&self) {
        fence(SeqCst);
        // The load first: a read-modify-write takes the line from an owner that is busy.
        if self.sleeping.load(Relaxed) && self.sleeping.swap(false, Relaxed) {
            self.signal.raise();
        }
    }

    /// Goes to sleep unless there is work. `true`: the owner may wait, and must call [`awake`](Self::awake) afterwards.
    /// `false`: it found work and is awake. `has_work` looks at everything that `wake` may follow.
    #[inline]
    pub fn sleep_unless(&self, has_work: impl FnOnce() -> bool) -> bool {
        self.slept.store(true, Relaxed);
        self.sleeping.store(true, Relaxed);
        fence(SeqCst);
        if has_work() {
            self.awake();
            return false;
        }
        true
    }

    /// Ends the sleep, whatever ended the wait, and clears the signal if there was one: no system call if not.
    #[inline]
    pub fn awake(&self) {
        let mut raised = self.raised.load(Relaxed);
        if self.slept.load(Relaxed) {
            self.slept.store(false, Relaxed);
            // Not set any more: a waker took it. Its signal may still be on the way, then a later call lowers it.
            raised += u64::from(!self.sleeping.swap(false, Relaxed));
        }
        if raised > 0 {
            self.raised.store(raised.saturating_sub(self.signal.lower()), Relaxed);
        }
    }
}

/// What a waker raises and a waiter waits for: an eventfd, or a model of one.
pub trait Signal {
    /// Adds one and makes the waiter wake.
    fn raise(&self);
    /// Takes what was added and says how much it was; never waits.
    fn lower(&self) -> u64;
}

impl Signal for EventFd {
    fn raise(&self) {
        self.write(1).expect("an open eventfd, far from its maximum, takes one more");
    }

    fn lower(&self) -> u64 {
        match self.read() {
            Ok(count) => count,
            Err(Errno::EAGAIN) => 0,
            Err(error) => panic!("an open eventfd can be read: {error}"),
        }
    }
}
