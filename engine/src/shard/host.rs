//! Runs a shard in its monoio runtime: turns while there is work, then sleep until the port or another node has some.
//!
//! The port's ring (or epoll instance) is a guest of the runtime: monoio awaits one descriptor for it. Measured, that
//! costs at most 3 % against a bare loop, and leaves room for other tasks on the shard's thread.

use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::{AsFd as _, OwnedFd};

use monoio::net::TcpStream;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Parts, Shard};

/// After so many µs of turns without a sleep the runtime's other tasks get a chance.
const YIELD_US: u64 = 1000;

/// Builds the shard and runs it to its end on this thread. `ready` is called once it accepts, or with why it cannot.
pub(crate) fn run(parts: Parts, ready: impl FnOnce(io::Result<()>)) {
    if parts.io_uring {
        match monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().with_entries(256).build() {
            Ok(mut runtime) => runtime.block_on(serve(parts, ready)),
            Err(error) => ready(Err(error)),
        }
    } else {
        match monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().build() {
            Ok(mut runtime) => runtime.block_on(serve(parts, ready)),
            Err(error) => ready(Err(error)),
        }
    }
}

async fn serve(parts: Parts, ready: impl FnOnce(io::Result<()>)) {
    let built = Shard::new(parts).and_then(|shard| Ok((Waiter::new(&shard)?, shard)));
    match built {
        Ok((waiter, shard)) => {
            ready(Ok(()));
            drive(shard, waiter).await;
        }
        Err(error) => ready(Err(error)),
    }
}

async fn drive(mut shard: Shard, waiter: Waiter) {
    let io_uring = matches!(shard.port, crate::net::port::Port::Ring(_));
    let notify = std::sync::Arc::clone(&shard.node.notify);
    let mut yielded_us = shard.now_us;
    loop {
        shard.turn();
        if shard.stopped {
            return;
        }
        if shard.has_work() {
            if shard.now_us - yielded_us > YIELD_US {
                waiter.yield_once().await;
                yielded_us = shard.now_us;
            }
            continue;
        }
        if let Some(deadline) = shard.deadline_us() {
            let now = shard.clock.now_us();
            if deadline <= now {
                continue;
            }
            if shard.port.arm_timeout(now, deadline) {
                continue;
            }
        }
        shard.port.sleeping(true);
        if notify.sleep_unless(|| shard.port.has_news() || shard.node.has_news() || shard.node.must_retry()) {
            shard.sleeps += 1;
            waiter.wait().await;
            if io_uring {
                notify.drain()
            } else {
                notify.awake()
            }
            yielded_us = shard.clock.now_us();
        }
        shard.port.sleeping(false);
    }
}

/// The descriptors that monoio waits on for the shard.
struct Waiter {
    /// The port's.
    port: TcpStream,
    /// A bell of our own, to give way with.
    bell: TcpStream,
    ring: EventFd,
}

impl Waiter {
    fn new(shard: &Shard) -> io::Result<Self> {
        let ring = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let bell = ring.as_fd().try_clone_to_owned()?;
        Ok(Self { port: hosted(shard.wait_fd()?)?, bell: hosted(bell)?, ring })
    }

    /// Returns when the port has something to reap. `readable(true)` would spin on the legacy driver.
    async fn wait(&self) {
        self.port.readable(false).await.expect("an open eventfd or epoll instance can be polled");
    }

    /// Lets every other task of the runtime run once. A future that wakes itself starves them: so this one waits for
    /// an eventfd, written only after the wait was begun.
    async fn yield_once(&self) {
        let mut wait = std::pin::pin!(self.bell.readable(false));
        let begun = std::future::poll_fn(|context| std::task::Poll::Ready(wait.as_mut().poll(context))).await;
        if begun.is_pending() {
            self.ring.write(1).expect("an open eventfd takes one more");
            wait.await.expect("an open eventfd can be polled");
        }
        let _ = self.ring.read();
    }
}

/// monoio waits for the readiness of any pollable descriptor through its stream type, which only names it.
fn hosted(fd: OwnedFd) -> io::Result<TcpStream> {
    TcpStream::from_std(StdTcpStream::from(fd))
}
