//! The home side of a topic: the one writer of its log, and the gate that publishers on all shards obey.
//!
//! In: publishes in the order the home took them; out: the log, whose order is the order for everybody. The gate is
//! closed while subscribers that could take more have not been offered it (`publish_window_bytes`), while a shard
//! reports a slow consumer under judgement, or while too much is retained. A record that is under way when the gate
//! closes is taken all the same: the excess is bounded by the rings, and no record ever blocks those behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Release, Ordering::SeqCst, fence};

use crate::relay::names::Names;
use crate::relay::segment::{LogWriter, Segment};
use crate::relay::view::Position;

/// Set in [`Marks::oldest`] while the shard judges a slow consumer.
const PRESSURE: u64 = 1 << 63;

/// What the index of a log costs per message, in bytes: with it, a log of empty messages is bounded too.
const INDEX_BYTES_PER_MESSAGE: u64 = 64;

/// Memory that `messages` messages of `bytes` bytes take in a log.
pub(crate) fn weight(bytes: u64, messages: u64) -> u64 {
    bytes + messages * INDEX_BYTES_PER_MESSAGE
}

/// What one reader shard tells the home about a topic.
#[derive(Debug, Default)]
struct Marks {
    /// Up to here every subscriber that could take bytes was offered them.
    attempted: AtomicU64,
    /// The oldest byte a subscriber still needs, and [`PRESSURE`].
    oldest: AtomicU64,
    /// The sequence number there.
    oldest_seq: AtomicU64,
}

/// What all shards see of a topic.
#[derive(Debug)]
pub(crate) struct Shared {
    closed: AtomicBool,
    marks: Box<[Marks]>,
}

impl Shared {
    fn new(shards: usize) -> Self {
        Self { closed: AtomicBool::new(false), marks: (0..shards).map(|_| Marks::default()).collect() }
    }

    /// True while publishers must wait.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Acquire)
    }

    /// Tells the home how far shard `shard` is.
    pub(crate) fn report(&self, shard: usize, attempted: u64, oldest: Position, pressure: bool) {
        let marks = &self.marks[shard];
        marks.attempted.store(attempted, Release);
        marks.oldest_seq.store(oldest.seq, Release);
        marks.oldest.store(oldest.at | if pressure { PRESSURE } else { 0 }, Release);
    }
}

/// Bounds of one topic, from its endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes accepted beyond what every unblocked subscriber was offered.
    pub window_bytes: u64,
    /// Bytes the log may hold for its slowest subscriber.
    pub retained_bytes: u64,
}

/// See the module's description.
pub(crate) struct HomeTopic {
    pub name: Arc<str>,
    pub endpoint: u16,
    pub generation: u32,
    pub shared: Arc<Shared>,
    /// Shards with subscribers, a bit each.
    pub readers: u64,
    /// True while the topic stands in the list of topics with news to announce.
    pub announcing: bool,
    pub accepted: u64,
    /// Stands in the list of logs that may rest soon.
    pub busy: bool,
    /// The tail at the last look.
    quiet_at: u64,
    /// The names of its members, once it has any.
    pub names: Option<Box<Names>>,
    writer: LogWriter,
    bounds: Bounds,
    /// Lower bound of all `attempted` marks when last computed.
    attempted: u64,
}

impl HomeTopic {
    pub(crate) fn new(name: Arc<str>, endpoint: u16, generation: u32, shards: usize, bounds: Bounds) -> Self {
        let (writer, _) = LogWriter::new();
        Self {
            name,
            endpoint,
            generation,
            shared: Arc::new(Shared::new(shards)),
            readers: 0,
            announcing: false,
            accepted: 0,
            busy: false,
            quiet_at: 0,
            names: None,
            writer,
            bounds,
            attempted: 0,
        }
    }

    /// Adds a reader shard, which hears everything from the returned segment's tail on.
    pub(crate) fn join(&mut self, shard: usize) -> Arc<Segment> {
        let start = self.tail();
        self.shared.report(shard, start.at, start, false);
        self.readers |= 1 << shard;
        Arc::clone(self.writer.tail())
    }

    /// Takes a reader shard away. True if none is left.
    pub(crate) fn leave(&mut self, shard: usize) -> bool {
        self.readers &= !(1 << shard);
        self.readers == 0
    }

    pub(crate) fn tail(&self) -> Position {
        Position { at: self.writer.tail_offset(), seq: self.writer.tail_seq() }
    }

    /// Writes one message. True if the topic must now be announced (it was not yet this turn).
    pub(crate) fn append(&mut self, opcode: proto::Opcode, payload: &[u8], origin: u32, at_us: u32) -> bool {
        self.writer.append(opcode, payload, origin, at_us);
        self.appended()
    }

    /// Writes one message whose frame is complete and becomes a segment of its own.
    pub(crate) fn append_frame(&mut self, frame: bytes::Bytes, origin: u32, at_us: u32) -> bool {
        self.writer.append_frame(frame, origin, at_us);
        self.appended()
    }

    fn appended(&mut self) -> bool {
        self.accepted += 1;
        if self.writer.tail_offset() - self.attempted > self.bounds.window_bytes {
            self.weigh();
        }
        !std::mem::replace(&mut self.announcing, true)
    }

    /// Lets the log rest if nothing was written since the last look and everybody has everything. True if it rests now.
    pub(crate) fn rest_if_quiet(&mut self) -> bool {
        let tail = self.writer.tail_offset();
        let quiet = std::mem::replace(&mut self.quiet_at, tail) == tail && self.oldest() == tail;
        if quiet {
            self.writer.rest();
        }
        quiet
    }

    fn readers(&self) -> impl Iterator<Item = &Marks> {
        let readers = self.readers;
        self.shared.marks.iter().enumerate().filter(move |(shard, _)| readers & 1 << shard != 0).map(|(_, marks)| marks)
    }

    fn oldest(&self) -> u64 {
        let oldest = self.readers().map(|marks| marks.oldest.load(Acquire) & !PRESSURE);
        oldest.min().unwrap_or_else(|| self.writer.tail_offset())
    }

    /// The local view has moved on: gives back what is no longer read.
    pub(crate) fn trim(&mut self) {
        self.writer.trim();
    }

    /// Looks at the marks of all reader shards and closes or opens the gate. True if it has just opened.
    pub(crate) fn weigh(&mut self) -> bool {
        let mut was_closed = self.shared.is_closed();
        let mut closed = self.must_be_closed(was_closed);
        if closed && !was_closed {
            self.shared.closed.store(true, Release);
            was_closed = true;
            // Either we see a report that came meanwhile, or its sender sees the closed gate and asks us to look again.
            fence(SeqCst);
            closed = self.must_be_closed(true);
        }
        if !closed {
            self.shared.closed.store(false, Release);
        }
        was_closed && !closed
    }

    fn must_be_closed(&mut self, is_closed: bool) -> bool {
        let Position { at: tail, seq: tail_seq } = self.tail();
        let (mut attempted, mut retained, mut pressure) = (tail, 0, false);
        for marks in self.readers() {
            attempted = attempted.min(marks.attempted.load(Acquire));
            let mark = marks.oldest.load(Acquire);
            pressure |= mark & PRESSURE != 0;
            let messages = tail_seq - marks.oldest_seq.load(Acquire).min(tail_seq);
            retained = retained.max(weight(tail - (mark & !PRESSURE), messages));
        }
        self.attempted = attempted;
        // Opens at half of what closes it, so that publishers are not stopped and started for every message.
        let slack = if is_closed { 2 } else { 1 };
        pressure || tail - attempted > self.bounds.window_bytes / slack || retained > self.bounds.retained_bytes / slack
    }
}
