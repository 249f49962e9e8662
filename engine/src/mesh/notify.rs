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
        // A swap, for it must come after a late waker's swap in the order of `sleeping`: else that waker's next look
        // at the flag might find what it wrote itself.
        self.sleeping.swap(true, Relaxed);
        fence(SeqCst);
        if has_work() {
            self.awake();
            return false;
        }
        true
    }

    /// Like [`awake`](Self::awake), for an owner whose signal others raise too (a ring that reports its completions
    /// on the same eventfd): clears the signal whoever raised it.
    #[inline]
    pub fn drain(&self) {
        self.awake();
        self.signal.lower();
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

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::mesh::bitmap::Bitmap;
    use crate::mesh::ring::ring;
    use crate::net::port::Port;

    /// Whether the bell has a signal, waiting for it at most `timeout_ms`.
    fn is_signalled(notify: &Notify, timeout_ms: u16) -> bool {
        let mut fds = [PollFd::new(notify.fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(timeout_ms)).expect("poll") == 1
    }

    #[test]
    fn only_a_sleeper_is_signalled_and_only_once() {
        let notify = Notify::new().unwrap();
        notify.wake();
        assert!(!is_signalled(&notify, 0), "nobody slept");
        assert!(notify.sleep_unless(|| false));
        notify.wake();
        notify.wake();
        assert!(is_signalled(&notify, 0));
        notify.awake();
        assert!(!is_signalled(&notify, 0), "awake clears the signal");
        assert_eq!(notify.raised.load(Relaxed), 0);
    }

    #[test]
    fn who_finds_work_does_not_sleep_and_leaves_no_signal_behind() {
        let notify = Notify::new().unwrap();
        assert!(!notify.sleep_unless(|| true));
        notify.wake();
        assert!(!is_signalled(&notify, 0));
        let has_work = || {
            notify.wake();
            true
        };
        assert!(!notify.sleep_unless(has_work));
        assert!(!is_signalled(&notify, 0));
    }

    #[test]
    fn a_signal_that_comes_late_does_not_keep_the_poll_port_busy() {
        let notify = Arc::new(Notify::new().unwrap());
        let mut port = Port::new(false, &notify).unwrap();
        assert!(notify.sleep_unless(|| false));
        // A waker has begun, a socket wakes the owner first, and the signal comes when it is awake.
        assert!(notify.sleeping.swap(false, Relaxed));
        notify.awake();
        notify.signal.raise();
        assert!(port.has_news());
        port.reap();
        assert!(port.next_event().is_none());
        assert!(!port.has_news(), "it is lowered");
    }

    #[test]
    fn a_signal_that_comes_late_is_cleared_at_the_next_awakening() {
        let notify = Notify::new().unwrap();
        assert!(notify.sleep_unless(|| false));
        // A waker that has taken the flag and not yet raised the signal.
        assert!(notify.sleeping.swap(false, Relaxed));
        notify.awake();
        assert!(notify.sleep_unless(|| false));
        notify.signal.raise();
        assert!(is_signalled(&notify, 0));
        notify.awake();
        assert!(!is_signalled(&notify, 0));
        assert_eq!(notify.raised.load(Relaxed), 0);
    }

    #[test]
    fn two_publishers_never_leave_a_sleeper_with_work() {
        const RECORDS: u32 = 100_000;
        const NEWS_BITS: u32 = 1000;
        let notify = Notify::new().unwrap();
        let bitmap = Bitmap::new(NEWS_BITS as usize);
        let (mut producer, mut consumer) = ring::<()>(1024, 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for record in 0..RECORDS {
                    while !producer.push([record; 4], &[0; 40]) {
                        thread::yield_now();
                    }
                    notify.wake();
                }
            });
            scope.spawn(|| {
                for bit in 0..NEWS_BITS {
                    bitmap.set(bit);
                    notify.wake();
                    thread::yield_now();
                }
            });
            let (mut records, mut news) = (0, 0);
            while records < RECORDS || news < NEWS_BITS {
                while consumer.pop(|_| ()).is_some() {
                    records += 1;
                }
                bitmap.drain(|_| news += 1);
                if (records < RECORDS || news < NEWS_BITS)
                    && notify.sleep_unless(|| !consumer.is_empty() || !bitmap.is_empty())
                {
                    assert!(is_signalled(&notify, 20_000), "a wake was lost at {records} records, {news} news");
                    notify.awake();
                }
            }
        });
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    use super::*;
    use crate::mesh::bitmap::Bitmap;
    use crate::mesh::ring::ring;

    /// An eventfd as loom can see it. A wait without an end is a deadlock, which fails the model.
    #[derive(Default)]
    struct Counter {
        count: Mutex<u64>,
        changed: Condvar,
    }

    impl Counter {
        fn wait(&self) {
            let mut count = self.count.lock().unwrap();
            while *count == 0 {
                count = self.changed.wait(count).unwrap();
            }
        }
    }

    impl Signal for Counter {
        fn raise(&self) {
            *self.count.lock().unwrap() += 1;
            self.changed.notify_one();
        }

        fn lower(&self) -> u64 {
            std::mem::take(&mut *self.count.lock().unwrap())
        }
    }

    #[test]
    fn loom_a_record_wakes_a_sleeper() {
        loom::model(|| {
            let notify = Arc::new(Notify::with_signal(Counter::default()));
            let (mut producer, mut consumer) = ring::<()>(128, 0);
            let publishing = {
                let notify = Arc::clone(&notify);
                thread::spawn(move || {
                    for _ in 0..2 {
                        assert!(producer.push([0; 4], &[]));
                        notify.wake();
                    }
                })
            };
            let mut records = 0;
            while records < 2 {
                while consumer.pop(|_| ()).is_some() {
                    records += 1;
                }
                if records < 2 && notify.sleep_unless(|| !consumer.is_empty()) {
                    notify.signal.wait();
                    notify.awake();
                }
            }
            publishing.join().unwrap();
            notify.awake();
            assert_eq!(*notify.signal.count.lock().unwrap(), 0, "no signal is left to end a later sleep");
        });
    }

    #[test]
    fn loom_records_and_news_from_two_shards_wake_a_sleeper() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let notify = Arc::new(Notify::with_signal(Counter::default()));
            let bitmap = Arc::new(Bitmap::new(64));
            let (mut producer, mut consumer) = ring::<()>(128, 0);
            let pushing = {
                let notify = Arc::clone(&notify);
                thread::spawn(move || {
                    assert!(producer.push([0; 4], &[]));
                    notify.wake();
                })
            };
            let setting = {
                let (notify, bitmap) = (Arc::clone(&notify), Arc::clone(&bitmap));
                thread::spawn(move || {
                    bitmap.set(1);
                    notify.wake();
                })
            };
            let (mut records, mut news) = (0, 0);
            while records < 1 || news < 1 {
                while consumer.pop(|_| ()).is_some() {
                    records += 1;
                }
                bitmap.drain(|_| news += 1);
                if (records < 1 || news < 1) && notify.sleep_unless(|| !consumer.is_empty() || !bitmap.is_empty()) {
                    notify.signal.wait();
                    notify.awake();
                }
            }
            pushing.join().unwrap();
            setting.join().unwrap();
        });
    }
}
