//! Shards without their host: turns are taken by hand, on the calling thread, with sockets that the caller made.
//!
//! In: socket pairs and time; out: whatever the shards send, and what they count. The port, its ring and its system calls
//! are those of a served shard; only monoio, sleeping and the control thread are absent, and with them all that
//! depends on who runs when. Time is what [`Stage::advance`] says: a machine that stands still for a minute ages nothing.
//! So the same steps cost the same each time, and can be counted.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::AdmissionTable;
use crate::config::Config;
use crate::counters::Counters;
use crate::mesh::node::{self, Node};
use crate::shard::{Clock, Parts, Shard};

/// Where topics live depends on it; any number will do that is always the same.
const TOPIC_SEED: u64 = 1;
/// Turns without an end to the work after which something must be wrong.
const TURNS_MAX: u64 = 10_000;
/// The time at which a stage begins: not 0, so that "long ago" can be told from "never".
const BEGIN: Duration = Duration::from_secs(1);

/// Shards and their mesh, of the calling thread.
pub struct Stage {
    shards: Vec<Shard>,
    counters: Counters,
    /// What the shards' clock showed when it was last set.
    time: Duration,
    /// The place of the control thread, which says nothing.
    _control: Node,
}

impl Stage {
    /// `shards` shards that serve `config`, by io_uring or by epoll. They accept nothing: see [`Stage::connect`].
    ///
    /// # Errors
    /// A port cannot be built: no io_uring, no descriptors.
    pub fn new(config: &Config, shards: usize, io_uring: bool) -> io::Result<Self> {
        let counters = Counters::new(shards);
        let admission = Arc::new(AdmissionTable::new(&config.server, config.endpoints.len()));
        let config = Arc::new(config.clone());
        let clock = Clock::showing(BEGIN);
        let mut nodes = node::mesh(shards + 1)?;
        let control = nodes.pop().expect("the mesh has one node more than shards");
        let build = |(index, node)| {
            let mut shard = Shard::new(Parts {
                index,
                shards,
                config: Arc::clone(&config),
                node,
                counters: counters.clone(),
                admission: Arc::clone(&admission),
                listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
                tls: None,
                clock,
                topic_seed: TOPIC_SEED,
                io_uring,
            })?;
            shard.port.sleeping(false);
            Ok(shard)
        };
        let shards = nodes.into_iter().enumerate().map(build).collect::<io::Result<_>>()?;
        Ok(Self { shards, counters, time: BEGIN, _control: control })
    }

    /// Gives a shard a connected, non-blocking stream socket, as if it had accepted it.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn connect(&mut self, shard: usize, socket: OwnedFd) {
        self.shards[shard].welcome(socket, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    }

    /// Takes turns until no shard has anything to do, as before it sleeps. Returns how many.
    ///
    /// # Panics
    /// If that does not come to an end.
    pub fn turn(&mut self) -> u64 {
        let mut turns = 0;
        loop {
            for shard in &mut self.shards {
                shard.turn();
            }
            turns += 1;
            assert!(turns < TURNS_MAX, "after {turns} turns there is still something to do");
            if !self.shards.iter_mut().any(Shard::has_work) {
                break;
            }
        }
        for shard in &mut self.shards {
            shard.sleeps += 1;
        }
        turns
    }

    /// Lets so much time pass for the shards since the last call, however much really has. Call it before each turn: only
    /// within a turn is time what it is.
    pub fn advance(&mut self, by: Duration) {
        self.time += by;
        for shard in &mut self.shards {
            shard.clock = Clock::showing(self.time);
        }
    }

    /// What the shards count.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
