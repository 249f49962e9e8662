//! What the tests of the whole server share: servers in this process ([`start`]) or in their own ([`process::Process`]),
//! clients that keep the rules ([`connect`]) or break them ([`raw::RawClient`]), and waiting without sleeping.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

pub(crate) mod crowd;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod raw;
#[path = "../seccomp/mod.rs"]
pub(crate) mod seccomp;
pub(crate) mod tls;
pub(crate) mod watch;

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use engine::config::{Config, Driver, EndpointConfig, Mode, ShardCount};
use engine::server::Server;
use tungstenite::{Message, WebSocket};

/// Longest wait for anything; only a failing test reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Both drivers.
const DRIVERS: [Driver; 2] = [Driver::IoUring, Driver::Epoll];

/// The drivers that tests run with: both, or what `auto` falls back to where the environment has io_uring forbidden.
pub(crate) fn drivers() -> &'static [Driver] {
    if seccomp::is_asked_for() { &[Driver::Auto] } else { &DRIVERS }
}

/// Runs a test with both drivers, each on one shard and on three.
pub(crate) fn for_each_setup(test: impl Fn(Driver, u16)) {
    for &driver in drivers() {
        for shards in [1, 3] {
            // Shown only if the test fails.
            eprintln!("--- {driver}, {shards} shards");
            test(driver, shards);
        }
    }
}

/// Ports that the kernel chooses on 127.0.0.1; endpoints `/` and `/rooms/{topic}` (relay) and `/echo`.
pub(crate) fn config(driver: Driver, shards: u16) -> Config {
    let endpoints = [("/", Mode::Relay), ("/rooms/{topic}", Mode::Relay), ("/echo", Mode::Echo)];
    let mut config = Config {
        endpoints: endpoints.map(|(path, mode)| EndpointConfig::new(path, mode)).to_vec(),
        ..Config::default()
    };
    config.server.host = "127.0.0.1".to_owned();
    config.server.port = 0;
    config.server.driver = if seccomp::is_asked_for() { Driver::Auto } else { driver };
    config.server.shards = ShardCount::Count(shards);
    config.metrics.host = "127.0.0.1".to_owned();
    config.metrics.port = 0;
    config
}

/// The same with `change` applied to every endpoint.
pub(crate) fn config_with(driver: Driver, shards: u16, change: impl FnMut(&mut EndpointConfig)) -> Config {
    let mut config = config(driver, shards);
    config.endpoints.iter_mut().for_each(change);
    config
}

/// A server in this process that serves.
pub(crate) fn start(config: &Config) -> Server {
    seccomp::obey();
    Server::start(config).unwrap_or_else(|error| panic!("{error}"))
}

/// A client that keeps the rules and waits at most [`PATIENCE`] for a read or a write.
pub(crate) fn connect(address: SocketAddr, path: &str) -> WebSocket<TcpStream> {
    upgrade(dial(address), address, path)
}

/// A connection without handshake that waits at most [`PATIENCE`] for a read or a write.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// The opening handshake on a stream of any kind.
pub(crate) fn upgrade<S: std::io::Read + std::io::Write>(stream: S, address: SocketAddr, path: &str) -> WebSocket<S> {
    let (socket, _response) =
        tungstenite::client(format!("ws://{address}{path}"), stream).unwrap_or_else(|error| panic!("{path}: {error}"));
    socket
}

/// The next text message.
pub(crate) fn read_text<S: std::io::Read + std::io::Write>(socket: &mut WebSocket<S>) -> String {
    match socket.read().unwrap() {
        Message::Text(text) => text.to_string(),
        other => panic!("not a text message: {other:?}"),
    }
}

/// Looks until `condition` holds.
///
/// # Panics
/// If it does not within [`PATIENCE`].
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(what, || condition().then_some(()));
}

/// Looks until there is an answer, and returns it.
///
/// # Panics
/// If there is none within [`PATIENCE`].
pub(crate) fn eventually_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Numbers that look random and are the same in every run (xorshift64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// Tells threads to stop when it goes, also by a failed assertion: a scope waits for its threads before it reports one.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// An empty directory of this test's own.
pub(crate) fn directory(test: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}
