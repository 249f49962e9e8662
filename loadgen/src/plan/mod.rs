//! Capacity planning: unit costs are fitted to measured runs, and say what another load would take.
//!
//! CPU time is a sum of what a server does: it wakes up, takes messages, makes sends, puts frames into them, moves
//! bytes. How many frames share a send depends on how busy it is, so that is a model of its own (`coalescing`). Numbers
//! in, numbers out: nothing in here drives a load (`cmd::plan` does).

mod coalescing;
pub(crate) mod estimate;
pub(crate) mod grid;
mod least_squares;
pub(crate) mod model;
pub(crate) mod range;

use serde::{Deserialize, Serialize};

/// A load as who plans it thinks of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) topics: u32,
    /// Connections that hear, over all topics.
    pub(crate) subscribers: u32,
    /// Connections that publish, and hear, over all topics.
    pub(crate) publishers: u32,
    /// Messages per second of all publishers together.
    pub(crate) rate: f64,
    /// Messages that are published at once.
    pub(crate) burst: u32,
    /// Payload, in bytes.
    pub(crate) size: usize,
    /// Connections that come, and go, per second.
    #[serde(default)]
    pub(crate) connects: f64,
}

/// One measured run. Counts are per second of the measured window, as the server counted them where it tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Observation {
    /// What was offered; its rate is what came through.
    pub(crate) shape: Shape,
    pub(crate) work: Work,
    /// CPU time of the server in us.
    pub(crate) cpu_us: f64,
    /// CPU time of the server until all connections were open, in us per connection.
    pub(crate) connect_cpu_us: f64,
    /// Resident memory of the server before the first connection.
    pub(crate) rss_bytes_before: u64,
    pub(crate) rss_bytes: u64,
    /// What the generator says about itself.
    pub(crate) verdict: String,
}

/// What a server does in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Work {
    /// Passes over a topic's connections, each with what precedes it: a sleeping core that wakes, a receive.
    pub(crate) wakes: f64,
    /// Messages received.
    pub(crate) messages: f64,
    pub(crate) sends: f64,
    /// Frames in them.
    pub(crate) frames: f64,
    /// Bytes in them.
    pub(crate) bytes: f64,
}

/// What CPU time is a sum of.
pub(crate) const PARTS: [&str; 7] = ["idle", "wake", "message", "send", "frame", "byte", "connect"];

/// The first of them have prices that are fitted; that of a connect is measured by itself.
const FITTED: usize = 6;

impl Shape {
    pub(crate) fn connections(&self) -> f64 {
        f64::from(self.subscribers) + f64::from(self.publishers)
    }

    /// Connections of each topic, in the mean.
    pub(crate) fn connections_per_topic(&self) -> f64 {
        self.connections() / f64::from(self.topics)
    }

    /// Messages received whole by a connection, publishers included, per second.
    pub(crate) fn deliveries(&self) -> f64 {
        self.rate * self.connections_per_topic()
    }

    /// Bytes of a frame from a server: RFC 6455, section 5.2, unmasked.
    pub(crate) fn frame_bytes(&self) -> f64 {
        let header = match self.size {
            0..126 => 2,
            126..65_536 => 4,
            _ => 10,
        };
        (self.size + header) as f64
    }
}

impl Observation {
    /// Its numbers can be those of a run: finite, not negative, and of a load that has connections.
    pub(crate) fn is_sound(&self) -> bool {
        let Work { wakes, messages, sends, frames, bytes } = self.work;
        let numbers = [wakes, messages, sends, frames, bytes, self.cpu_us, self.connect_cpu_us, self.shape.rate];
        numbers.iter().all(|number| number.is_finite() && *number >= 0.0)
            && self.shape.topics > 0
            && self.shape.connections() > 0.0
    }
}

impl Work {
    /// The amounts of what has fitted prices, as in [`PARTS`]; being there is one of the first.
    fn amounts(&self) -> [f64; FITTED] {
        [1.0, self.wakes, self.messages, self.sends, self.frames, self.bytes]
    }
}
