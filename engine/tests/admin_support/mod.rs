//! An admin port on a runtime of its own, and a client that is a `TcpStream` and some strings.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use engine::control::access::Access;
use engine::control::admin::{Admin, AdminSource, LedgerFuture};
use engine::control::health::Health;
use engine::control::http::{Limits, bind};
use engine::control::metrics::Metrics;
use engine::control::runtime;
use engine::counters::Counters;
use tokio::sync::{Notify, oneshot};

/// Longest wait for anything; only a failing test reaches it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What `/ledger` has to tell.
#[derive(Clone, Copy)]
pub(crate) enum Ledger {
    Empty,
    Fails(&'static str),
}

impl AdminSource for Ledger {
    fn ledger(&self) -> LedgerFuture {
        let answer = match self {
            Ledger::Empty => Ok(r#"{"topics":[]}"#.to_owned()),
            Ledger::Fails(reason) => Err(io::Error::other(*reason)),
        };
        Box::pin(async { answer })
    }
}

/// What a test wants to be different.
pub(crate) struct Setup {
    pub(crate) prefer_io_uring: bool,
    pub(crate) access: Access,
    pub(crate) ledger: Ledger,
    pub(crate) limits: Limits,
    pub(crate) routes: Router,
    pub(crate) deadline: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            prefer_io_uring: true,
            access: Access::loopback(""),
            ledger: Ledger::Empty,
            limits: Limits::default(),
            routes: Router::new(),
            deadline: PATIENCE,
        }
    }
}

/// An admin port that serves.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) health: Health,
    stop: Option<oneshot::Sender<()>>,
    thread: JoinHandle<io::Result<()>>,
}

impl Running {
    pub(crate) fn start(setup: Setup) -> Self {
        let listener = bind("127.0.0.1", 0).unwrap();
        let address = listener.local_addr().unwrap();
        let health = Health::new();
        let metrics = Metrics::new(Counters::new(2), "epoll");
        let admin = Admin::new(metrics, health.clone(), Arc::new(setup.ledger), setup.access)
            .guarded(setup.routes)
            .limits(setup.limits);
        let (stop, stopped) = oneshot::channel::<()>();
        let main = move || async move {
            let stopped = async { stopped.await.unwrap_or_default() };
            admin.serve(listener, stopped, setup.deadline).await
        };
        let (thread, _) = runtime::spawn(setup.prefer_io_uring, "admin", main).unwrap();
        Self { address, health, stop: Some(stop), thread }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The whole answer to bytes after which the server closes the connection.
    pub(crate) fn send(&self, bytes: &str) -> String {
        send(self.connect(), bytes)
    }

    pub(crate) fn get(&self, path: &str) -> String {
        self.send(&request("GET", path))
    }

    /// Asks again and again until the answer is 200.
    pub(crate) fn until_ok(&self, path: &str) {
        let started = Instant::now();
        while !self.get(path).starts_with("HTTP/1.1 200 ") {
            assert!(started.elapsed() < PATIENCE, "{path} is never answered with 200");
        }
    }

    pub(crate) fn request_stop(&mut self) {
        self.stop.take().expect("stopped once").send(()).unwrap();
    }

    pub(crate) fn stop(mut self) {
        if self.stop.is_some() {
            self.request_stop();
        }
        self.thread.join().unwrap().unwrap();
    }
}

/// Writes `bytes` and reads until the server closes. What arrived before a reset counts: a server that refuses does not
/// wait for the request.
pub(crate) fn send(mut stream: TcpStream, bytes: &str) -> String {
    let written = stream.write_all(bytes.as_bytes());
    let mut answer = Vec::new();
    match written.and_then(|()| stream.read_to_end(&mut answer).map(drop)) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
        Err(error) => panic!("{error}"),
    }
    String::from_utf8(answer).unwrap()
}

/// A request after which the server closes the connection.
pub(crate) fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

/// The status of an answer.
pub(crate) fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}"));
    status.parse().unwrap()
}

/// One field of an answer's head.
pub(crate) fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = answer.split_once("\r\n\r\n")?;
    head.lines().skip(1).find_map(|line| {
        let (field, value) = line.split_once(": ")?;
        field.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// Blocks until somebody notifies.
pub(crate) fn wait(notify: &Notify) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, notify.notified()).await }).expect("notified in time");
}
