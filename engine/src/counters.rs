//! What each shard counts and the control thread reads.
//!
//! Every shard owns one [`ShardCounters`]; it alone writes them, with plain relaxed stores (no read-modify-write
//! instruction on the data path). The control thread reads them for `/metrics`, relaxed: figures of one scrape may be a
//! few events apart from each other, each of them is exact.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One counter or gauge with a single writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning shard may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes `n` away (gauges only).
    #[inline]
    pub fn sub(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    /// Sets a gauge.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The value at this moment.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A histogram with fixed upper bounds, in the unit its name gives.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One per bound and a last one for everything above; not cumulative.
    buckets: Box<[Counter]>,
    /// Sum of the observed values as the bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    /// An empty histogram with these ascending upper bounds.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: (0..=bounds.len()).map(|_| Counter::default()).collect(), sum: AtomicU64::new(0) }
    }

    /// Records `value` as seen `weight` times.
    #[inline]
    pub fn observe(&self, value: f64, weight: u64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[index].add(weight);
        let sum = f64::from_bits(self.sum.load(Relaxed)) + value * weight as f64;
        self.sum.store(sum.to_bits(), Relaxed);
    }

    /// The upper bounds, ascending, without the implied `+Inf`.
    #[must_use]
    pub fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// Counts per bucket (one more than bounds; not cumulative).
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        self.buckets.iter().map(Counter::value).collect()
    }

    /// Sum of all observed values.
    #[must_use]
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Relaxed))
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $label:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every variant, in the order of its index.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value of the metric's label.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.label())
            }
        }
    };
}

reasons! {
    /// How a connection ended; the label of `websocket_disconnections_total`.
    Ended {
        /// The client closed it, or ended the stream in good order.
        Client = "client",
        /// The server is shutting down (1001).
        Shutdown = "shutdown",
        /// Protocol error (1002), also 1003.
        Protocol = "protocol",
        /// Invalid UTF-8 (1007).
        Utf8 = "utf8",
        /// Policy violation (1008), or closed by the endpoint's mode.
        Policy = "policy",
        /// Message too big (1009).
        TooBig = "too_big",
        /// Too far behind (1013).
        SlowConsumer = "slow_consumer",
        /// `idle_timeout_ms` passed.
        Idle = "idle",
        /// `pong_wait_ms` passed without a sign of life.
        Pong = "pong",
        /// A write made no progress for `write_timeout_ms`.
        Write = "write",
        /// The peer reset the connection or the network failed.
        Reset = "reset",
        /// Our fault (1011).
        Internal = "internal",
    }
}

reasons! {
    /// Why a connection or handshake was refused; the label of `websocket_refused_total`.
    Refused {
        /// Not HTTP, or not a valid opening handshake (400).
        Malformed = "malformed",
        /// Origin not allowed (403).
        Origin = "origin",
        /// No such path (404).
        Path = "path",
        /// A control route asked for from an address outside the allow-list (403).
        Network = "network",
        /// Wrong method (405).
        Method = "method",
        /// The handshake took longer than `handshake_timeout_ms` (408).
        Timeout = "timeout",
        /// Request head or body too large (413, 431).
        TooLarge = "too_large",
        /// No upgrade, or a version other than 13 (426).
        Upgrade = "upgrade",
        /// `connections_per_ip_max` (429).
        PerIp = "per_ip",
        /// `accepts_per_second_max` (429).
        AcceptRate = "accept_rate",
        /// `connections_max` or `topics_max` (503), or shutting down.
        Full = "full",
        /// No descriptor or memory left for the connection.
        Resources = "resources",
        /// TLS handshake failed.
        Tls = "tls",
    }
}

reasons! {
    /// Why a delivery did not happen; the label of `relay_dropped_total`.
    Dropped {
        /// The subscriber was disconnected as a slow consumer.
        SlowConsumer = "slow_consumer",
        /// The subscriber was moved to the newest message (`slow_consumer: skip`).
        Skipped = "skipped",
        /// The subscriber went away first.
        Disconnected = "disconnected",
        /// The publisher was above its rate (chat).
        RateLimited = "rate_limited",
        /// The message was too long (chat).
        TooLong = "too_long",
        /// The shutdown deadline came first.
        Shutdown = "shutdown",
    }
}

reasons! {
    /// Why `accept` failed; the label of `relay_accept_errors_total`.
    AcceptError {
        /// EMFILE: the process has no descriptors left.
        ProcessDescriptors = "emfile",
        /// ENFILE: the system has no descriptors left.
        SystemDescriptors = "enfile",
        /// ENOBUFS or ENOMEM.
        Memory = "memory",
        /// ECONNABORTED: the client left first.
        Aborted = "aborted",
        /// Anything else.
        Other = "other",
    }
}

/// Upper bounds of `relay_lag_bytes`, in bytes.
pub const LAG_BYTES_BOUNDS: &[f64] =
    &[0.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0];
/// Upper bounds of `relay_delivery_seconds`, in seconds.
pub const DELIVERY_SECONDS_BOUNDS: &[f64] =
    &[50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Upper bounds of `relay_frames_per_send`, in frames.
pub const FRAMES_PER_SEND_BOUNDS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// All that one shard counts.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShardCounters {
    /// Open WebSocket connections now (gauge): from the 101 to the end.
    pub connections: Counter,
    /// Opening handshakes completed.
    pub connections_total: Counter,
    /// Ended connections by [`Ended`].
    pub disconnections: [Counter; Ended::ALL.len()],
    /// Refusals by [`Refused`].
    pub refused: [Counter; Refused::ALL.len()],
    /// Messages received from clients, whole and valid.
    pub messages_received: Counter,
    /// Deliveries handed whole to the kernel.
    pub messages_sent: Counter,
    /// Bytes read from WebSocket connections' sockets.
    pub bytes_received: Counter,
    /// Bytes taken by the kernel for WebSocket connections.
    pub bytes_sent: Counter,
    /// Deliveries that did not happen, by [`Dropped`].
    pub dropped: [Counter; Dropped::ALL.len()],
    /// Failed accepts by [`AcceptError`].
    pub accept_errors: [Counter; AcceptError::ALL.len()],
    /// Passes of the shard's loop.
    pub turns: Counter,
    /// Bytes a blocked subscriber lags behind, one observation per short send.
    pub lag_bytes: Histogram,
    /// Accepted → handed to the kernel, in seconds, weighted by deliveries.
    pub delivery_seconds: Histogram,
    /// Frames that one send carried.
    pub frames_per_send: Histogram,
    /// Live topics whose home is this shard (gauge).
    pub topics: Counter,
    /// Times a receive found no provided buffer although all circulate (ring port).
    pub buffers_exhausted: Counter,
    /// System calls made by the port for receiving, sending and readiness.
    pub system_calls: Counter,
    /// Submissions pushed to the ring (ring port).
    pub submissions: Counter,
    /// Completions taken from the ring (ring port).
    pub completions: Counter,
    /// Frames of messages and pongs that were written: one per message, however many hear it.
    pub encodes: Counter,
    /// Bytes copied in user space between a receive buffer and a send: payloads, and input that had to wait.
    pub copied_bytes: Counter,
}

impl Default for ShardCounters {
    fn default() -> Self {
        Self {
            connections: Counter::default(),
            connections_total: Counter::default(),
            disconnections: Default::default(),
            refused: Default::default(),
            messages_received: Counter::default(),
            messages_sent: Counter::default(),
            bytes_received: Counter::default(),
            bytes_sent: Counter::default(),
            dropped: Default::default(),
            accept_errors: Default::default(),
            turns: Counter::default(),
            lag_bytes: Histogram::new(LAG_BYTES_BOUNDS),
            delivery_seconds: Histogram::new(DELIVERY_SECONDS_BOUNDS),
            frames_per_send: Histogram::new(FRAMES_PER_SEND_BOUNDS),
            topics: Counter::default(),
            buffers_exhausted: Counter::default(),
            system_calls: Counter::default(),
            submissions: Counter::default(),
            completions: Counter::default(),
            encodes: Counter::default(),
            copied_bytes: Counter::default(),
        }
    }
}

impl ShardCounters {
    /// Counts an ended connection.
    pub fn ended(&self, reason: Ended) {
        self.disconnections[reason as usize].inc();
    }

    /// Counts a refusal.
    pub fn refused(&self, reason: Refused) {
        self.refused[reason as usize].inc();
    }

    /// Counts `n` deliveries that did not happen.
    pub fn dropped(&self, reason: Dropped, n: u64) {
        self.dropped[reason as usize].add(n);
    }

    /// Counts a frame that was written, and how many bytes of payload were copied for it.
    #[inline]
    pub fn encoded(&self, copied_bytes: usize) {
        self.encodes.inc();
        self.copied_bytes.add(copied_bytes as u64);
    }

    /// Counts a failed accept.
    pub fn accept_error(&self, reason: AcceptError) {
        self.accept_errors[reason as usize].inc();
    }
}

/// The counters of all shards, in shard order.
#[derive(Debug, Clone)]
pub struct Counters(Arc<[ShardCounters]>);

impl Counters {
    /// Zeroed counters for `shards` shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| ShardCounters::default()).collect())
    }

    /// The counters of one shard.
    #[must_use]
    pub fn shard(&self, index: usize) -> &ShardCounters {
        &self.0[index]
    }

    /// All shards' counters in shard order.
    pub fn iter(&self) -> impl Iterator<Item = &ShardCounters> {
        self.0.iter()
    }

    /// The sum of one counter over all shards.
    pub fn sum(&self, pick: impl Fn(&ShardCounters) -> &Counter) -> u64 {
        self.iter().map(|shard| pick(shard).value()).sum()
    }
}
