//! The server: starts a shard per core and the control thread, and conducts the shutdown.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::admission::AdmissionTable;
use crate::config::{Config, Driver, Loaded};
use crate::control::conductor::{Command, Conductor};
use crate::control::health::Health;
use crate::control::streams::Targets;
use crate::control::tls::Tls;
use crate::control::{http, runtime};
use crate::counters::Counters;
use crate::gateway::Hooks;
use crate::mesh::node;
use crate::shard::{Clock, Parts, host};
use crate::sys::affinity::{Cores, Placement, pin_thread};
use crate::sys::{limits, probe, socket};

pub use crate::mesh::message::Report;

/// Why a server could not start or serve. Display gives one line for the operator.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

fn cannot<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> StartError {
    move |error| StartError(format!("cannot {what}: {error}"))
}

/// A running server. Dropping it leaves it running; end it with [`Server::shutdown`] and [`Server::wait`].
pub struct Server {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    counters: Counters,
    commands: UnboundedSender<Command>,
    control: JoinHandle<Report>,
}

/// Starts a server from a loaded configuration, calls `started` with its address once it serves, and waits for its end.
/// For the binary.
#[must_use]
pub fn run(loaded: &Loaded, started: impl FnOnce(SocketAddr)) -> ExitCode {
    match Server::launch(&loaded.config, &loaded.origin.to_string(), true, None) {
        Ok(server) => {
            started(server.address);
            server.wait();
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

impl Server {
    /// Starts a server in this process; signals are left alone. Returns once it accepts connections.
    ///
    /// # Errors
    /// The reason in one line: an address in use, no io_uring where it is demanded, an unreadable certificate.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        Self::launch(config, "library", false, None)
    }

    /// The same, with code of one's own in the place of the applications behind the gateway.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with_hooks(config: &Config, hooks: impl Hooks) -> Result<Self, StartError> {
        Self::launch(config, "library", false, Some(Box::new(hooks)))
    }

    fn launch(config: &Config, origin: &str, signals: bool, hooks: Option<Box<dyn Hooks>>) -> Result<Self, StartError> {
        let cores = Cores::of_this_process().map_err(cannot("read the allowed cores"))?;
        let cores_count = cores.allowed.len().min(cores.quota);
        let placement = Placement::new(config.server.shards, &config.server.cpus, cores).map_err(StartError)?;
        let files = limits::raise_open_files().map_err(cannot("raise the limit of open files"))?;
        let io_uring = choose_driver(config.server.driver)?;
        let driver = if io_uring { "io_uring" } else { "epoll" };
        tracing::info!(
            "Starting ringrelay. CONFIG={origin} NOFILES={files} SHARDS={placement} NUMCPU={cores_count} DRIVER={driver}"
        );
        for line in config.endpoint_lines() {
            tracing::info!("{line}");
        }
        for line in config.warnings() {
            tracing::warn!("{line}");
        }
        let shards = placement.cores.len();
        let listeners = listen(config, shards)?;
        let address = listeners[0].local_addr().map_err(cannot("read the listening address"))?;
        let admin = admin_listener(config)?;
        let admin_address = admin.as_ref().and_then(|listener| listener.local_addr().ok());
        let tls = open_tls(config)?;
        let targets = Targets::of(config).map_err(StartError)?;
        let counters = Counters::new(shards);
        let health = Health::new();
        let config = Arc::new(config.clone());
        let mut nodes = node::mesh(shards + 1).map_err(cannot("build the mesh"))?;
        let control_node = nodes.pop().expect("the mesh has one node more than shards");
        let threads = spawn_shards(&config, nodes, listeners, &placement.cores, &counters, tls.as_ref(), io_uring)?;
        let (commands, inbox) = unbounded_channel();
        let (ready, conducting) = mpsc::channel();
        let conductor = Conductor {
            config: Arc::clone(&config),
            node: control_node,
            counters: counters.clone(),
            health,
            tls,
            admin,
            driver,
            shards: threads,
            inbox,
            commands: commands.clone(),
            signals,
            hooks,
            targets: Some(targets),
            ready,
        };
        let (control, _) =
            runtime::spawn(io_uring, "control", move || conductor.run()).map_err(cannot("start the control thread"))?;
        // Who reads "Listening" may send a signal at once.
        conducting.recv().map_err(cannot("start the control thread"))?;
        tracing::info!("Listening on {address}");
        if let Some(admin) = admin_address {
            tracing::info!("Admin on {admin}: /metrics /healthz /readyz");
        }
        if config.server.demo_page {
            let scheme = if config.server.tls.enabled { "https" } else { "http" };
            tracing::info!("Open {scheme}://localhost:{}/ in two browsers and talk", address.port());
        }
        Ok(Self { address, admin_address, counters, commands, control })
    }

    /// Where it listens for WebSockets.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its admin port listens, if it has one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// What its shards count.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The books of all shards, one report each. Empty if the server has ended.
    #[must_use]
    pub fn ledger(&self) -> Vec<Report> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Ledger(reply)).is_err() {
            return Vec::new();
        }
        answer.blocking_recv().unwrap_or_default()
    }

    /// Begins the shutdown, as SIGTERM does for the binary.
    pub fn shutdown(&self) {
        // Failure means that it has ended, which is what was asked for.
        let _ = self.commands.send(Command::Shutdown);
    }

    /// Waits for the end and returns the final books.
    ///
    /// # Panics
    /// If the control thread panicked.
    pub fn wait(self) -> Report {
        self.control.join().expect("the control thread ends by returning")
    }
}

fn choose_driver(driver: Driver) -> Result<bool, StartError> {
    match driver {
        Driver::Epoll => Ok(false),
        Driver::IoUring => {
            probe::probe_io_uring().map_err(cannot("use io_uring"))?;
            Ok(true)
        }
        Driver::Auto => Ok(probe::probe_io_uring()
            .inspect_err(|failure| tracing::warn!("no io_uring, serving by epoll: {failure}"))
            .is_ok()),
    }
}

/// One listening socket per shard, all on one address; the kernel spreads connections over them.
fn listen(config: &Config, shards: usize) -> Result<Vec<TcpListener>, StartError> {
    let server = &config.server;
    let what = || format!("listen on {}:{}", server.host, server.port);
    let addresses = (socket::bare_host(&server.host), server.port).to_socket_addrs().map_err(cannot(what()))?;
    let addresses: Vec<_> = addresses.collect();
    // Long enough that a stalled but living reader is dealt with by policy and not by the kernel.
    let user_timeout_ms = config
        .endpoints
        .iter()
        .map(|endpoint| match endpoint.pong_wait_ms.max(endpoint.write_timeout_ms) {
            0 => u64::MAX,
            limit => limit,
        })
        .max()
        .filter(|limit| *limit < u64::MAX)
        .unwrap_or(0)
        .min(u64::from(u32::MAX)) as u32;
    // Without SO_REUSEPORT first: another server on the port is an error, not a partner. Of a name's addresses the first
    // that this machine has.
    let first = TcpListener::bind(&addresses[..]).map_err(cannot(what()))?;
    let mut address = first.local_addr().map_err(cannot("read the listening address"))?;
    address.set_port(server.port);
    drop(first);
    let mut listeners = Vec::with_capacity(shards);
    for _ in 0..shards {
        let listener = socket::listen(address, server.backlog, user_timeout_ms).map_err(cannot(what()))?;
        address = listener.local_addr().map_err(cannot("read the listening address"))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn admin_listener(config: &Config) -> Result<Option<TcpListener>, StartError> {
    let metrics = &config.metrics;
    if !metrics.enabled {
        return Ok(None);
    }
    http::bind(&metrics.host, metrics.port).map(Some).map_err(|error| StartError(format!("admin port: {error}")))
}

fn open_tls(config: &Config) -> Result<Option<Tls>, StartError> {
    let tls = &config.server.tls;
    if !tls.enabled {
        return Ok(None);
    }
    Tls::open(Path::new(&tls.cert_file), Path::new(&tls.key_file)).map(Some).map_err(cannot("serve TLS"))
}

fn spawn_shards(
    config: &Arc<Config>,
    nodes: Vec<node::Node>,
    listeners: Vec<TcpListener>,
    cores: &[Option<usize>],
    counters: &Counters,
    tls: Option<&Tls>,
    io_uring: bool,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let admission = Arc::new(AdmissionTable::new(&config.server, config.endpoints.len()));
    let (clock, topic_seed) = (Clock::start(), random_seed());
    let (ready, started) = mpsc::channel();
    let mut threads = Vec::new();
    for (index, ((node, listener), core)) in nodes.into_iter().zip(listeners).zip(cores).enumerate() {
        let parts = Parts {
            index,
            shards: cores.len(),
            config: Arc::clone(config),
            node,
            counters: counters.clone(),
            admission: Arc::clone(&admission),
            listener,
            tls: tls.map(Tls::view),
            clock,
            topic_seed,
            io_uring,
        };
        let (core, ready) = (*core, ready.clone());
        let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
            if let Some(Err(error)) = core.map(pin_thread) {
                tracing::warn!("shard {index} is not pinned: {error}");
            }
            run_shard(parts, ready);
        });
        threads.push(thread.map_err(cannot(format!("start shard {index}")))?);
    }
    drop(ready);
    for _ in 0..threads.len() {
        let answer = started.recv().map_err(cannot("start the shards"))?;
        answer.map_err(|error: io::Error| StartError(format!("cannot start a shard: {error}")))?;
    }
    Ok(threads)
}

/// A shard cannot be lost: its connections and topics would hang. A panic ends the process and says why.
fn run_shard(parts: Parts, ready: mpsc::Sender<io::Result<()>>) {
    let index = parts.index;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        host::run(parts, move |result| {
            // Nobody waits any more if another shard failed first.
            let _ = ready.send(result);
        });
    }));
    if outcome.is_err() {
        tracing::error!("shard {index} panicked, see above; the process ends");
        std::process::abort();
    }
}

/// Unpredictable to clients, who could otherwise choose names that all live on one shard.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}
