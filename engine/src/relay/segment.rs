//! A topic's log: framed bytes in a list of segments, written by the topic's home shard, read by all.
//!
//! The [`LogWriter`] appends whole server frames and numbers them; a reader holds an `Arc` to a [`Segment`] and offsets
//! into it, and goes on to `next`. A segment is ordinary heap: its bytes, and an index with one [`Record`] per frame.
//!
//! Laws: bytes and index up to `visible` never change (Release by the writer, Acquire by readers); a segment is final,
//! and has a `next`, before anything in that next one is visible; nothing is read beyond `visible`. Offsets in a segment
//! are `u32`, offsets in the log (`base + offset`) are `u64` and never start over.

use std::cell::UnsafeCell;
use std::mem::{self, MaybeUninit};
use std::ops::Range;
// std's also under loom: readers of the log name the type.
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use bytes::Bytes;
use proto::Opcode;

use crate::sync::{AtomicBool, AtomicU64, Touched};

/// The first segment that is written to; each that runs out is followed by one of twice its size.
const SEGMENT_BYTES_MIN: usize = 4 * 1024;
/// Measured with 4 KiB messages: 1,350 k deliveries per CPU-second, 1,191 k with 64 KiB, 1,323 k with one endless
/// mapping; larger ones bring nothing.
const SEGMENT_BYTES_MAX: usize = 256 * 1024;
/// One record of the index per so many bytes of a segment: a frame of 64 B of payload has 66.
const BYTES_PER_RECORD: usize = 64;
const RECORDS_MIN: usize = 4;
/// Memories kept for reuse, per topic.
const SPARES_MAX: usize = 2;

/// The index entry of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Where the frame ends in its segment (exclusive); it starts where the record before it ends.
    pub end: u32,
    /// Who published it; opaque to the log.
    pub origin: u32,
    /// When it was accepted, in µs of the caller's clock, wrapping.
    pub at_us: u32,
}

/// How much of a segment a reader may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Visible {
    /// Bytes from the segment's start; a frame boundary.
    pub bytes: u32,
    /// Frames in them.
    pub records: u32,
}

/// A piece of a topic's log.
pub struct Segment {
    base: u64,
    base_seq: u64,
    body: Body,
    /// A [`Visible`], bytes in the upper half; one word, so that both are of the same moment.
    visible: AtomicU64,
    /// Set after `link` was written, and after the last store to `visible`.
    is_final: AtomicBool,
    link: UnsafeCell<Option<Arc<Segment>>>,
    touched: Touched,
}

// SAFETY: there is one writer (`LogWriter`). It writes bytes and index beyond `visible` only, and readers read below it
// only, having acquired it; `link` is written once, before `is_final`, and read only by who has acquired that.
unsafe impl Sync for Segment {}

impl Segment {
    fn new(base: u64, base_seq: u64, body: Body) -> Self {
        let (visible, cells) = match &body {
            Body::Heap(memory) => (Visible::default(), memory.bytes.len() + memory.index.len()),
            Body::Frame { record, .. } => (Visible { bytes: record.end, records: 1 }, 0),
        };
        Self {
            base,
            base_seq,
            body,
            visible: AtomicU64::new(visible.pack()),
            is_final: AtomicBool::new(false),
            link: UnsafeCell::new(None),
            touched: Touched::new(cells + 1),
        }
    }

    /// Where this segment's byte 0 stands in the log.
    #[must_use]
    #[inline]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The sequence number of this segment's record 0.
    #[must_use]
    #[inline]
    pub fn base_seq(&self) -> u64 {
        self.base_seq
    }

    /// What may be read now. It grows until there is a [`next`](Self::next).
    #[must_use]
    #[inline]
    pub fn visible(&self) -> Visible {
        Visible::unpack(self.visible.load(Acquire))
    }

    /// The bytes of `[from, to)`.
    ///
    /// # Panics
    /// Unless `from ≤ to ≤ visible().bytes`.
    #[must_use]
    #[inline]
    pub fn bytes(&self, from: u32, to: u32) -> &[u8] {
        let visible = self.visible();
        assert!(from <= to && to <= visible.bytes, "{from}..{to} B of {} B visible", visible.bytes);
        match &self.body {
            Body::Heap(memory) => {
                self.touched.read(from as usize..to as usize);
                let start = memory.bytes.as_ptr().wrapping_add(from as usize).cast::<u8>();
                // SAFETY: below `visible`, acquired above: inside the memory (`append` asserts it), initialised by the
                // writer before its Release, and never written again while a reference to the segment exists.
                unsafe { std::slice::from_raw_parts(start, (to - from) as usize) }
            }
            Body::Frame { frame, .. } => &frame[from as usize..to as usize],
        }
    }

    /// The index entry of the segment's frame number `index`.
    ///
    /// # Panics
    /// Unless `index < visible().records`.
    #[must_use]
    #[inline]
    pub fn record(&self, index: u32) -> Record {
        let visible = self.visible();
        assert!(index < visible.records, "record {index} of {} visible", visible.records);
        match &self.body {
            Body::Heap(memory) => {
                self.touched.read(memory.record_cells(index));
                let cell = memory.index[index as usize].as_ptr();
                // SAFETY: below `visible`, as in `bytes`.
                unsafe { *UnsafeCell::raw_get(cell) }
            }
            Body::Frame { record, .. } => *record,
        }
    }

    /// The number of the frame that contains the byte at `offset`.
    ///
    /// # Panics
    /// Unless `offset < visible().bytes`.
    #[must_use]
    pub fn record_at(&self, offset: u32) -> u32 {
        let visible = self.visible();
        assert!(offset < visible.bytes, "byte {offset} of {} visible", visible.bytes);
        let (mut low, mut high) = (0, visible.records - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.record(middle).end <= offset { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The segment after this one, only once this one is final. A reader that gets it must look at
    /// [`visible`](Self::visible) once more before it leaves: what it saw before may not have been the last.
    #[must_use]
    #[inline]
    pub fn next(&self) -> Option<&Arc<Segment>> {
        if !self.is_final.load(Acquire) {
            return None;
        }
        self.touched.read(self.link_cell());
        // SAFETY: `is_final` was acquired: the link has been written, and is not again while `self` is borrowed.
        unsafe { (*self.link.get()).as_ref() }
    }

    /// Writes one frame behind `filled` and makes it visible; gives what is visible now.
    ///
    /// # Panics
    /// If it does not fit.
    ///
    /// # Safety
    /// Only the log's one writer may call this, with `filled` equal to `visible()`.
    unsafe fn append(&self, filled: Visible, header: &[u8], payload: &[u8], origin: u32, at_us: u32) -> Visible {
        let Body::Heap(memory) = &self.body else { unreachable!("a frame of its own is never appended to") };
        let (start, end) = (filled.bytes as usize, filled.bytes as usize + header.len() + payload.len());
        assert!(memory.has_room(filled, end - start), "the writer opens a segment before it overruns one");
        self.touched.write(start..end);
        self.touched.write(memory.record_cells(filled.records));
        let to = memory.bytes.as_ptr().cast::<u8>().cast_mut();
        let record = Record { end: end as u32, origin, at_us };
        // SAFETY: `start..end` and the record lie inside the memory and beyond `visible`, where no reader looks; the
        // caller is the only writer. The sources are other memory: nobody has a reference to what is not visible.
        unsafe {
            to.add(start).copy_from_nonoverlapping(header.as_ptr(), header.len());
            to.add(start + header.len()).copy_from_nonoverlapping(payload.as_ptr(), payload.len());
            UnsafeCell::raw_get(memory.index[filled.records as usize].as_ptr()).write(record);
        }
        let visible = Visible { bytes: end as u32, records: filled.records + 1 };
        self.visible.store(visible.pack(), Release);
        visible
    }

    /// Makes this segment final, with `next` after it.
    ///
    /// # Safety
    /// Only the log's one writer may call this, once, and never `append` afterwards.
    unsafe fn finish(&self, next: Arc<Segment>) {
        self.touched.write(self.link_cell());
        // SAFETY: nobody reads the link before `is_final`; the caller is the only writer, and this its only call.
        unsafe { *self.link.get() = Some(next) };
        self.is_final.store(true, Release);
    }

    fn link_cell(&self) -> Range<usize> {
        match &self.body {
            Body::Heap(memory) => memory.bytes.len() + memory.index.len()..memory.bytes.len() + memory.index.len() + 1,
            Body::Frame { .. } => 0..1,
        }
    }
}

impl Drop for Segment {
    /// Takes the list behind it apart one by one: a recursion would run as deep as the list is long.
    fn drop(&mut self) {
        let mut next = self.link.get_mut().take();
        while let Some(mut segment) = next.and_then(Arc::into_inner) {
            next = segment.link.get_mut().take();
        }
    }
}

/// The one writer of a topic's log. Lives on the topic's home shard.
pub struct LogWriter {
    tail: Arc<Segment>,
    /// What the tail holds; equals `tail.visible()`.
    filled: Visible,
    /// Size of the next segment; follows use between `bytes_min` and `bytes_max`.
    segment_bytes: usize,
    bytes_min: usize,
    bytes_max: usize,
    /// Memories of `segment_bytes`, at most [`SPARES_MAX`].
    spares: Vec<Memory>,
}

impl LogWriter {
    /// An empty log, and its first segment. That one has no room: memory comes with the first frame.
    #[must_use]
    pub fn new() -> (Self, Arc<Segment>) {
        Self::with_segments(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
    }

    fn with_segments(bytes_min: usize, bytes_max: usize) -> (Self, Arc<Segment>) {
        let first = Arc::new(Segment::new(0, 0, Body::Heap(Memory::default())));
        let tail = Arc::clone(&first);
        let (filled, spares) = (Visible::default(), Vec::new());
        (Self { tail, filled, segment_bytes: bytes_min, bytes_min, bytes_max, spares }, first)
    }

    /// The segment that is written to.
    #[must_use]
    #[inline]
    pub fn tail(&self) -> &Arc<Segment> {
        &self.tail
    }

    /// Where the next frame will start in the log.
    #[must_use]
    #[inline]
    pub fn tail_offset(&self) -> u64 {
        self.tail.base + u64::from(self.filled.bytes)
    }

    /// The sequence number that the next frame will get.
    #[must_use]
    #[inline]
    pub fn tail_seq(&self) -> u64 {
        self.tail.base_seq + u64::from(self.filled.records)
    }

    /// Appends `payload` as one unmasked frame (RFC 6455, 5.2), visible to readers at once.
    ///
    /// # Panics
    /// If the frame has 4 GiB or more.
    #[inline]
    pub fn append(&mut self, opcode: Opcode, payload: &[u8], origin: u32, at_us: u32) {
        let (header, header_bytes) = proto::encode::server_header(opcode, payload.len());
        let frame_bytes = header_bytes + payload.len();
        if !self.tail.body.has_room(self.filled, frame_bytes) {
            self.open(frame_bytes);
        }
        // SAFETY: a log has one writer, borrowed mutably, and `filled` follows the tail.
        self.filled = unsafe { self.tail.append(self.filled, &header[..header_bytes], payload, origin, at_us) };
    }

    /// Appends a whole server frame as a segment of its own, without a copy. Worth it for payloads from 16 KiB up.
    ///
    /// # Panics
    /// If the frame is empty or has 4 GiB or more.
    pub fn append_frame(&mut self, frame: Bytes, origin: u32, at_us: u32) {
        assert!(!frame.is_empty(), "a frame has a header");
        let end = u32::try_from(frame.len()).expect("a frame has less than 4 GiB");
        // Small messages between large ones leave their segments nearly empty: then smaller ones do.
        if let Body::Heap(memory) = &self.tail.body
            && (self.filled.bytes as usize) < memory.bytes.len() / 4
        {
            self.resize_segments(self.segment_bytes / 2);
        }
        self.follow(Body::Frame { frame, record: Record { end, origin, at_us } });
    }

    /// Takes a segment that its reader has left. If nobody else holds it, its memory serves again.
    pub fn recycle(&mut self, segment: Arc<Segment>) {
        let Some(mut segment) = Arc::into_inner(segment) else { return };
        if let Body::Heap(memory) = mem::replace(&mut segment.body, Body::Heap(Memory::default()))
            && memory.bytes.len() == self.segment_bytes
            && self.spares.len() < SPARES_MAX
        {
            self.spares.push(memory);
        }
    }

    /// Goes on in a new segment with room for a frame of `frame_bytes`.
    #[cold]
    fn open(&mut self, frame_bytes: usize) {
        assert!(u32::try_from(frame_bytes).is_ok(), "a frame has less than 4 GiB");
        let ran_out = matches!(&self.tail.body, Body::Heap(memory) if memory.bytes.len() == self.segment_bytes);
        let used_bytes = if ran_out { 2 * self.segment_bytes } else { self.segment_bytes };
        self.resize_segments(used_bytes.max(frame_bytes.checked_next_power_of_two().unwrap_or(usize::MAX)));
        let spare = self.spares.pop_if(|memory| memory.bytes.len() >= frame_bytes);
        let memory = spare.unwrap_or_else(|| Memory::new(self.segment_bytes.max(frame_bytes)));
        self.follow(Body::Heap(memory));
    }

    /// Makes `body` the tail.
    fn follow(&mut self, body: Body) {
        let segment = Arc::new(Segment::new(self.tail_offset(), self.tail_seq(), body));
        let left = mem::replace(&mut self.tail, segment);
        self.filled = self.tail.visible();
        // SAFETY: a log has one writer, borrowed mutably; `left` was the tail and is not any more.
        unsafe { left.finish(Arc::clone(&self.tail)) };
    }

    fn resize_segments(&mut self, bytes: usize) {
        let bytes = bytes.clamp(self.bytes_min, self.bytes_max);
        if bytes != self.segment_bytes {
            self.segment_bytes = bytes;
            self.spares.clear();
        }
    }
}

impl Visible {
    #[inline]
    fn pack(self) -> u64 {
        u64::from(self.bytes) << 32 | u64::from(self.records)
    }

    #[inline]
    fn unpack(word: u64) -> Self {
        Self { bytes: (word >> 32) as u32, records: word as u32 }
    }
}

/// Where a segment's bytes are.
enum Body {
    Heap(Memory),
    Frame { frame: Bytes, record: Record },
}

impl Body {
    #[inline]
    fn has_room(&self, filled: Visible, frame_bytes: usize) -> bool {
        match self {
            Body::Heap(memory) => memory.has_room(filled, frame_bytes),
            Body::Frame { .. } => false,
        }
    }
}

/// Memory for frames and their index, not initialised beyond what its segment has visible.
#[derive(Default)]
struct Memory {
    bytes: Box<[MaybeUninit<UnsafeCell<u8>>]>,
    index: Box<[MaybeUninit<UnsafeCell<Record>>]>,
}

impl Memory {
    fn new(bytes: usize) -> Self {
        Self {
            bytes: Box::new_uninit_slice(bytes),
            index: Box::new_uninit_slice(bytes / BYTES_PER_RECORD + RECORDS_MIN),
        }
    }

    #[inline]
    fn has_room(&self, filled: Visible, frame_bytes: usize) -> bool {
        self.bytes.len() - filled.bytes as usize >= frame_bytes && (filled.records as usize) < self.index.len()
    }

    /// A record's cell of `touched`.
    #[inline]
    fn record_cells(&self, index: u32) -> Range<usize> {
        let cell = self.bytes.len() + index as usize;
        cell..cell + 1
    }
}
