//! A shard: all that one core owns, and its turn.
//!
//! ```text
//! reap ─► receive ─► parse ─► mode ─► publish      what arrived
//! drain the mesh ─► append to logs ─► announce     what other shards gave
//! timers                                           what is due
//! queue sends: outboxes, then one chunk of fan-out ─► flush ─► apply shortfalls ─► confirm
//! wake the shards that were given something        once per turn, only if they sleep
//! ```
//!
//! A turn never waits and does a bounded amount of each; [`host`] runs turns in the monoio runtime and sleeps between
//! them. The rooms add their verbs to [`Shard`]: `net/` for connections, `relay/` for topics, [`mesh_in`] for what
//! other nodes say, [`shutdown`] for the end.

mod gateway;
pub(crate) mod host;
pub(crate) mod log;
mod mesh_in;
mod shutdown;
pub mod stage;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use proto::AssemblyPool;
use tokio::sync::mpsc::UnboundedSender;

use crate::admission::AdmissionTable;
use crate::config::Config;
use crate::control::access::Access;
use crate::control::tls::TlsView;
use crate::counters::{Counters, ShardCounters};
use crate::gateway::registry::Registry;
use crate::mesh::message::{Phase, Report};
use crate::mesh::node::Node;
use crate::net::accept::Acceptor;
use crate::net::connection::Connections;
use crate::net::outbox::OutboxPool;
use crate::net::port::{ConnectionId, Event, Port, Shortfall};
use crate::net::queued::{Queued, Sending};
use crate::net::request::control_access;
use crate::net::router::Router;
use crate::net::timers::Timers;
use crate::relay::topics::Topics;
use crate::sys::socket::Send;

/// Port events that one turn takes at most. Also bounds the outboxes that a storm of handshakes fills at a time: with
/// four times as many, 10,000 connections left 100 B more each behind.
const EVENTS_PER_TURN: usize = 1024;
/// After so many events a turn looks at the clock: a TLS handshake costs a hundred times what a frame does.
const EVENTS_PER_LOOK: usize = 8;
/// µs of input after which a turn goes on to send what it has.
const INPUT_US_PER_TURN: u64 = 1000;
/// Records that one turn takes from each ring at most.
const RECORDS_PER_TURN: usize = 1024;
/// Bytes that partly received messages may hold per shard.
const ASSEMBLY_BYTES_MAX: usize = 512 << 20;

/// The one clock of a server: µs since its start. All shards share its origin, so that a time written by one can be
/// read by another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        // Not from 0, so that "long ago" can be told from "never".
        let origin = Instant::now();
        Self(origin.checked_sub(std::time::Duration::from_secs(1)).unwrap_or(origin))
    }

    /// A clock that shows this time now.
    fn showing(time: std::time::Duration) -> Self {
        Self(Instant::now().checked_sub(time).expect("a clock begins after time itself"))
    }

    #[inline]
    pub(crate) fn now_us(self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

/// What a shard is made of, before its thread runs.
pub(crate) struct Parts {
    pub index: usize,
    pub shards: usize,
    pub config: Arc<Config>,
    pub node: Node,
    pub counters: Counters,
    pub admission: Arc<AdmissionTable>,
    pub listener: std::net::TcpListener,
    pub tls: Option<TlsView>,
    pub clock: Clock,
    pub topic_seed: u64,
    pub io_uring: bool,
}

/// See the module's description.
pub(crate) struct Shard {
    pub(crate) index: usize,
    pub(crate) shards: usize,
    pub(crate) config: Arc<Config>,
    pub(crate) router: Rc<Router>,
    pub(crate) clock: Clock,
    /// Time of this turn's reap.
    pub(crate) now_us: u64,
    pub(crate) port: Port,
    pub(crate) acceptor: Acceptor,
    pub(crate) connections: Connections,
    pub(crate) outboxes: OutboxPool,
    pub(crate) assembly: AssemblyPool,
    pub(crate) timers: Timers,
    /// Connections with something to send, in the order they asked.
    pub(crate) pending: Vec<ConnectionId>,
    /// Connections with input to parse that a budget or a gate had stopped.
    pub(crate) backlog: VecDeque<ConnectionId>,
    pub(crate) topics: Topics,
    pub(crate) gateway: Registry,
    /// Who may use the control routes on this port; `None` without a gateway.
    pub(crate) control_access: Option<Access>,
    /// An allocation that orders reuse.
    pub(crate) selected: Vec<u32>,
    pub(crate) node: Node,
    pub(crate) counters: Counters,
    pub(crate) admission: Arc<AdmissionTable>,
    pub(crate) tls: Option<TlsView>,
    pub(crate) log_level: tracing::Level,
    /// Number of the running flush; connections note the last one they took part in.
    pub(crate) flush: u64,
    pub(crate) batch: Vec<Queued>,
    pub(crate) shortfalls: Vec<(usize, Shortfall)>,
    /// Allocations that flushes reuse.
    pub(crate) slices: Vec<IoSlice<'static>>,
    pub(crate) sending: Vec<Sending>,
    pub(crate) sends: Vec<Send<'static>>,
    /// Plain text of TLS connections on its way in.
    pub(crate) plain: Vec<u8>,
    /// Buffers for the cipher text of one flush.
    pub(crate) ciphers: Vec<Vec<u8>>,
    /// How often the shard has slept.
    pub(crate) sleeps: u64,
    pub(crate) phase: Phase,
    /// Whom to tell that the phase is over.
    pub(crate) phase_done: Option<UnboundedSender<usize>>,
    /// Whom to answer at the very end, and until when that may wait, in µs of the clock.
    pub(crate) stopping: Option<(UnboundedSender<Report>, u64)>,
    pub(crate) stopped: bool,
    /// Records of the mesh that the last turn's budget left.
    mesh_left: bool,
}

impl Shard {
    /// Builds the shard on the thread that will run it.
    ///
    /// # Errors
    /// The port cannot be built: no io_uring, no descriptors.
    pub(crate) fn new(parts: Parts) -> std::io::Result<Self> {
        let port = Port::new(parts.io_uring, &parts.node.notify)?;
        let router = Rc::new(Router::new(&parts.config.endpoints));
        let mut shard = Self {
            index: parts.index,
            shards: parts.shards,
            topics: Topics::new(parts.shards, parts.topic_seed),
            gateway: Registry::default(),
            control_access: control_access(&parts.config),
            selected: Vec::new(),
            router,
            clock: parts.clock,
            now_us: parts.clock.now_us(),
            port,
            acceptor: Acceptor::new(parts.listener, parts.index),
            connections: Connections::default(),
            outboxes: OutboxPool::default(),
            assembly: AssemblyPool::new(ASSEMBLY_BYTES_MAX),
            timers: Timers::default(),
            pending: Vec::new(),
            backlog: VecDeque::new(),
            node: parts.node,
            counters: parts.counters,
            admission: parts.admission,
            tls: parts.tls,
            log_level: crate::logging::level(parts.config.log.level),
            flush: 1,
            batch: Vec::new(),
            shortfalls: Vec::new(),
            slices: Vec::new(),
            sending: Vec::new(),
            sends: Vec::new(),
            plain: Vec::new(),
            ciphers: Vec::new(),
            sleeps: 0,
            phase: Phase::Serving,
            phase_done: None,
            stopping: None,
            stopped: false,
            mesh_left: false,
            config: parts.config,
        };
        shard.start_accepting();
        Ok(shard)
    }

    pub(crate) fn counters(&self) -> &ShardCounters {
        self.counters.shard(self.index)
    }

    /// One pass: a bounded amount of everything there is to do.
    pub(crate) fn turn(&mut self) {
        self.now_us = self.clock.now_us();
        self.counters().turns.inc();
        self.port.reap();
        self.take_events();
        self.run_backlog();
        self.relieve_assembly();
        self.mesh_left = self.drain_mesh(RECORDS_PER_TURN);
        self.run_timers();
        self.announce();
        self.node.wake_peers();
        self.queue_pending();
        self.fan_out();
        self.flush_batch();
        self.drive_shutdown();
        self.node.wake_peers();
        self.show_port_figures();
    }

    fn show_port_figures(&self) {
        let (figures, counters) = (self.port.figures(), self.counters());
        counters.system_calls.set(figures.system_calls);
        counters.submissions.set(figures.submissions);
        counters.completions.set(figures.completions);
        counters.buffers_exhausted.set(figures.buffers_exhausted);
    }

    fn take_events(&mut self) {
        for taken in 0..EVENTS_PER_TURN {
            if taken % EVENTS_PER_LOOK == 0 && self.is_turn_long(taken) {
                break;
            }
            let Some(event) = self.port.next_event() else { break };
            match event {
                Event::Received(id, mut input) => {
                    self.on_received(id, &mut input);
                    self.port.give_back(input);
                }
                Event::Writable(id) => self.on_writable(id),
                Event::Accepted(socket) => self.on_accepted(socket),
                Event::AcceptFailed(errno) => self.on_accept_failed(errno),
                Event::Ended(id, errno) => self.on_ended(id, errno),
                Event::Closed(id) => self.connections.release(id),
            }
        }
    }

    /// True if this turn has taken input for long enough; it always takes some.
    pub(crate) fn is_turn_long(&self, taken: usize) -> bool {
        taken > 0 && self.clock.now_us() - self.now_us > INPUT_US_PER_TURN
    }

    /// True if another turn has something to do at once.
    pub(crate) fn has_work(&mut self) -> bool {
        self.stopping.is_some()
            || self.mesh_left
            || !self.pending.is_empty()
            || !self.backlog.is_empty()
            || self.topics.has_work()
            || self.port.has_news()
            || self.node.has_news()
            || self.node.must_retry()
    }

    /// When the shard must look again at the latest, in µs of its clock.
    pub(crate) fn deadline_us(&self) -> Option<u64> {
        [self.timers.next_us(self.now_us), self.topics.next_us(), self.acceptor.retry_us()].into_iter().flatten().min()
    }

    /// Descriptor of the port to wait on, for the host.
    pub(crate) fn wait_fd(&self) -> std::io::Result<std::os::fd::OwnedFd> {
        self.port.wait_fd()
    }

    pub(crate) fn listener_fd(&self) -> Option<RawFd> {
        self.acceptor.listener.as_ref().map(AsRawFd::as_raw_fd)
    }
}
