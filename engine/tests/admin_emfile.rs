//! The admin port without descriptors: accept fails, the listener lives, the CPU stays idle, and it recovers.
//!
//! Alone in its file: it lowers the process's limit of open files, which would harm other tests beside it.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::control::access::Access;
use engine::control::admin::{Admin, AdminSource, LedgerFuture};
use engine::control::health::Health;
use engine::control::http::bind;
use engine::control::metrics::Metrics;
use engine::control::runtime;
use engine::counters::Counters;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;
use tokio::sync::oneshot;

struct NoLedger;

impl AdminSource for NoLedger {
    fn ledger(&self) -> LedgerFuture {
        Box::pin(async { Err(io::Error::other("no ledger here")) })
    }
}

#[test]
fn the_listener_outlives_a_lack_of_descriptors() {
    let listener = bind("127.0.0.1", 0).unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Metrics::new(Counters::new(1), "epoll");
    let admin = Admin::new(metrics, Health::new(), Arc::new(NoLedger), Access::loopback(""));
    let (stop, stopped) = oneshot::channel::<()>();
    let main = move || async move {
        admin.serve(listener, async { stopped.await.unwrap_or_default() }, Duration::from_secs(10)).await
    };
    let (thread, _) = runtime::spawn(true, "admin", main).unwrap();
    ask(TcpStream::connect(address).unwrap());

    // Room for exactly one descriptor more, and the client takes it. The kernel completes its handshake all the same.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let holes = fill_holes();
    setrlimit(Resource::RLIMIT_NOFILE, lowest_free() + 1, hard).unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    assert_eq!(File::open("/dev/null").unwrap_err().raw_os_error(), Some(libc::EMFILE));

    client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let cpu_before = cpu_seconds();
    let unanswered = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(unanswered.kind(), io::ErrorKind::WouldBlock, "it was accepted without a descriptor");
    let cpu = cpu_seconds() - cpu_before;
    assert!(cpu < 0.05 * 2.0, "{cpu} s of CPU in 2 s of waiting");

    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    let recovered = Instant::now();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    ask(client);
    assert!(recovered.elapsed() < Duration::from_secs(1), "{:?} to recover", recovered.elapsed());
    drop(holes);

    stop.send(()).unwrap();
    thread.join().unwrap().unwrap();
}

fn ask(mut client: TcpStream) {
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer}");
}

/// Opens files until descriptors come in sequence, so that the limit, which is on the number, counts the open ones.
fn fill_holes() -> Vec<File> {
    (0..64).map(|_| File::open("/dev/null").unwrap()).collect()
}

fn lowest_free() -> u64 {
    File::open("/dev/null").unwrap().as_raw_fd() as u64
}

fn cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
}
