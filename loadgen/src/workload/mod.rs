//! What is to be done, resolved: every connection, topic and publisher by number. Made once, then shared read-only.

pub(crate) mod arrivals;
pub(crate) mod build;
pub(crate) mod events;
pub(crate) mod scenario;
pub(crate) mod turns;

use std::net::{IpAddr, SocketAddr};

use crate::wire::handshake::Request;
use crate::wire::tls::Tls;
use arrivals::Arrivals;
use events::{Action, Event};
use turns::Turn;

/// A whole run.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Tells this run's messages from others on the same topics; below 2^24.
    pub(crate) run: u32,
    pub(crate) seed: u64,
    pub(crate) address: SocketAddr,
    /// TLS to the server, if the URL says so.
    pub(crate) tls: Option<Tls>,
    /// The upgrade requests; topics choose among them by index.
    pub(crate) requests: Vec<Request>,
    pub(crate) topics: Vec<Topic>,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) connections: Vec<Connection>,
    /// Source addresses to spread the connections over; empty: the kernel chooses.
    pub(crate) sources: Vec<IpAddr>,
    /// New connections per second; `None`: as fast as they are accepted.
    pub(crate) connect_rate: Option<f64>,
    /// Each connect is up to so much before or after its time at that rate.
    pub(crate) connect_jitter_ns: u64,
    /// What happens during the measurement, ascending by time.
    pub(crate) events: Vec<Event>,
    /// Wall-clock time of the first message, in seconds since 1970; `None`: when all connections are open.
    pub(crate) start_at: Option<f64>,
    pub(crate) warmup_ns: u64,
    pub(crate) measure_ns: u64,
    /// How long after the last message deliveries are waited for.
    pub(crate) drain_ns: u64,
}

/// What is published to and heard together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Topic {
    /// Index into [`Load::requests`].
    pub(crate) request: u32,
    pub(crate) subscribers: u32,
    pub(crate) publishers: u32,
}

/// One WebSocket connection and its parts in the load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection {
    /// Index into [`Load::topics`].
    pub(crate) topic: u32,
    /// Whether what it hears is accounted for; what other connections hear is only counted.
    pub(crate) is_subscriber: bool,
    /// Index into [`Load::publishers`].
    pub(crate) publisher: Option<u32>,
    /// How it reads until an event says otherwise.
    pub(crate) reading: Reading,
    /// Reads slowly at some time: no subscriber, what it hears is not accounted for.
    pub(crate) is_slow: bool,
}

/// How a connection takes what the server sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reading {
    /// As fast as it comes.
    Full,
    /// Nothing after the upgrade.
    Stopped,
    /// So many bytes per second.
    Throttled { bytes_per_s: f64 },
    /// Nothing for the first `stall_ns` of every `every_ns`.
    Stalling { stall_ns: u64, every_ns: u64 },
}

/// Who publishes what and when.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    pub(crate) topic: u32,
    /// Which of its topic's publishers this is, from 0.
    pub(crate) index_in_topic: u32,
    /// Payload with the stamp, in bytes.
    pub(crate) size: usize,
    /// As text or binary messages.
    pub(crate) opcode: u8,
    pub(crate) pace: Pace,
    /// Ends after so many messages; only in a closed loop.
    pub(crate) messages_max: Option<u32>,
}

/// What decides when a message is sent.
#[derive(Debug, Clone)]
pub(crate) enum Pace {
    /// Open loop: an absolute schedule.
    Scheduled(Arrivals),
    /// Closed loop: so many messages in flight.
    Outstanding(u32),
}

impl Connection {
    /// Hears `topic`, and all that it hears is accounted for.
    pub(crate) fn subscriber(topic: u32) -> Self {
        Self { is_subscriber: true, ..Self::bystander(topic) }
    }

    /// Publishes to `topic`.
    pub(crate) fn publisher(topic: u32, publisher: u32) -> Self {
        Self { publisher: Some(publisher), ..Self::bystander(topic) }
    }

    /// Hears `topic`, and is not accounted for.
    pub(crate) fn bystander(topic: u32) -> Self {
        Self { topic, is_subscriber: false, publisher: None, reading: Reading::Full, is_slow: false }
    }
}

impl Load {
    /// The largest payload of any publisher, in bytes.
    pub(crate) fn size_max(&self) -> usize {
        self.publishers.iter().map(|publisher| publisher.size).max().unwrap_or(0)
    }

    /// Has the load publish in the slices of `turn` only. Its times are then longer by as many as share them.
    ///
    /// # Errors
    /// When something in it cannot wait for its turn.
    pub(crate) fn take_turns(&mut self, turn: &Turn) -> Result<(), String> {
        if !self.events.is_empty() {
            return Err("a scenario with events cannot be run side by side".into());
        }
        let slice_ns = turn.turns.slice_ns;
        let wall_ns = |own_ns: u64| turn.turns.slices(own_ns.div_ceil(slice_ns)) * slice_ns;
        (self.warmup_ns, self.measure_ns) = (wall_ns(self.warmup_ns), wall_ns(self.measure_ns));
        for publisher in &mut self.publishers {
            let Pace::Scheduled(arrivals) = &mut publisher.pace else {
                return Err("servers side by side need an open loop (--rate)".into());
            };
            arrivals.take_turns(turn.clone());
        }
        Ok(())
    }

    /// Whether connections are cut that come back.
    pub(crate) fn has_reconnects(&self) -> bool {
        self.events.iter().any(|event| matches!(event.action, Action::Cut { backoff: Some(_), .. }))
    }

    /// Whether any publisher waits for deliveries before it goes on.
    pub(crate) fn is_closed_loop(&self) -> bool {
        self.publishers.iter().any(|publisher| matches!(publisher.pace, Pace::Outstanding(_)))
    }
}
