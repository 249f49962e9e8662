//! A topic's log: framed bytes in a list of segments, written by the topic's home shard, read by all.
//!
//! The [`LogWriter`] appends whole server frames and numbers them; a reader holds an `Arc` to a [`Segment`] and offsets
//! into it, and goes on to `next`. A segment is ordinary heap: its bytes, and an index with one [`Record`] per frame.
//!
//! Laws: bytes and index up to `visible` never change (Release by the writer, Acquire by readers); a segment is final,
//! and has a `next`, before anything in that next one is visible; nothing is read beyond `visible`. Offsets in a segment
//! are `u32`, offsets in the log (`base + offset`) are `u64` and never start over.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
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
/// Segments that nobody reads any more and that are kept for reuse, per topic.
const SPARES_MAX: usize = 2;
/// Segments that may serve again and are watched for it, per topic: what a lag of several MiB holds.
const LEFT_MAX: usize = 32;

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

    /// Bytes `from..to` apart from the segment: shared if they are part of a frame of its own, else copied.
    ///
    /// # Panics
    /// Unless `from <= to <= visible().bytes`.
    #[must_use]
    pub fn copy(&self, from: u32, to: u32) -> Bytes {
        match &self.body {
            Body::Frame { frame, .. } => frame.slice(from as usize..to as usize),
            Body::Heap(_) => Bytes::copy_from_slice(self.bytes(from, to)),
        }
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
    /// The last segments before the tail, oldest first and without gaps, all of `segment_bytes`; at most [`LEFT_MAX`].
    /// One that nobody else holds serves again. Without gaps, for each holds all that follow it.
    left: VecDeque<Arc<Segment>>,
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
        let (filled, left) = (Visible::default(), VecDeque::new());
        (Self { tail, filled, segment_bytes: bytes_min, bytes_min, bytes_max, left }, first)
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
        let body = Body::Frame { frame, record: Record { end, origin, at_us } };
        self.follow(Arc::new(Segment::new(self.tail_offset(), self.tail_seq(), body)));
        self.left.clear();
    }

    /// Gives memory back that no reader needs any more, but for some that is kept for what comes. To be called when
    /// readers have moved on.
    pub fn trim(&mut self) {
        // The oldest is held by the list alone; each of the others also by the one before it.
        let is_spare = |segment: &Arc<Segment>| Arc::strong_count(segment) == 2;
        while self.left.get(SPARES_MAX).is_some_and(is_spare) && Arc::strong_count(&self.left[0]) == 1 {
            self.left.pop_front();
        }
    }

    /// Lets go of the memory that a busy log keeps: goes on in an empty segment, small again. For a log that nobody needs
    /// anything of.
    pub fn rest(&mut self) {
        self.segment_bytes = self.bytes_min;
        if self.filled != Visible::default() {
            let body = Body::Heap(Memory::default());
            self.follow(Arc::new(Segment::new(self.tail_offset(), self.tail_seq(), body)));
        }
        self.left.clear();
    }

    /// Goes on in a new segment with room for a frame of `frame_bytes`.
    #[cold]
    fn open(&mut self, frame_bytes: usize) {
        assert!(u32::try_from(frame_bytes).is_ok(), "a frame has less than 4 GiB");
        let ran_out = matches!(&self.tail.body, Body::Heap(memory) if memory.bytes.len() == self.segment_bytes);
        let used_bytes = if ran_out { 2 * self.segment_bytes } else { self.segment_bytes };
        self.resize_segments(used_bytes.max(frame_bytes.checked_next_power_of_two().unwrap_or(usize::MAX)));
        let segment = self.reclaim(frame_bytes).unwrap_or_else(|| {
            let memory = Memory::new(self.segment_bytes.max(frame_bytes));
            Arc::new(Segment::new(self.tail_offset(), self.tail_seq(), Body::Heap(memory)))
        });
        self.follow(segment);
        self.trim();
    }

    /// The oldest segment that was left, to be the tail, if nobody reads it any more.
    fn reclaim(&mut self, frame_bytes: usize) -> Option<Arc<Segment>> {
        let (base, base_seq) = (self.tail_offset(), self.tail_seq());
        let oldest = Arc::get_mut(self.left.front_mut()?)?;
        let body = mem::replace(&mut oldest.body, Body::Heap(Memory::default()));
        *oldest = Segment::new(base, base_seq, body);
        self.left.pop_front().filter(|segment| segment.body.has_room(Visible::default(), frame_bytes))
    }

    /// Makes `segment` the tail.
    fn follow(&mut self, segment: Arc<Segment>) {
        let left = mem::replace(&mut self.tail, segment);
        self.filled = self.tail.visible();
        // SAFETY: a log has one writer, borrowed mutably; `left` was the tail and is not any more.
        unsafe { left.finish(Arc::clone(&self.tail)) };
        if matches!(&left.body, Body::Heap(memory) if memory.bytes.len() == self.segment_bytes) {
            if self.left.len() == LEFT_MAX {
                self.left.pop_front();
            }
            self.left.push_back(left);
        } else {
            self.left.clear();
        }
    }

    fn resize_segments(&mut self, bytes: usize) {
        let bytes = bytes.clamp(self.bytes_min, self.bytes_max);
        if bytes != self.segment_bytes {
            self.segment_bytes = bytes;
            self.left.clear();
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

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::thread;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A frame as RFC 6455, 5.2 has it, written down independently of the crate that the log uses.
    fn framed(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode as u8];
        match payload.len() {
            bytes @ 0..126 => frame.push(bytes as u8),
            bytes @ 126..65536 => {
                frame.push(126);
                frame.extend((bytes as u16).to_be_bytes());
            }
            bytes => {
                frame.push(127);
                frame.extend((bytes as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    fn payload(id: usize, bytes: usize) -> Vec<u8> {
        (0..bytes).map(|index| (id * 131 + index * 7 + index / 251) as u8).collect()
    }

    fn payload_bytes() -> impl Strategy<Value = usize> {
        prop_oneof![
            8 => 0..20_usize,
            8 => 0..500_usize,
            4 => 100..140_usize,
            4 => 0..20_000_usize,
            1 => 65_500..65_600_usize,
            1 => 0..=1_048_576_usize,
        ]
    }

    /// A cursor that follows the log and collects whole frames.
    struct Reader {
        segment: Arc<Segment>,
        offset: u32,
        record: u32,
        frames: Vec<Vec<u8>>,
        left: Vec<Arc<Segment>>,
    }

    impl Reader {
        fn new(segment: Arc<Segment>) -> Self {
            Self { segment, offset: 0, record: 0, frames: Vec::new(), left: Vec::new() }
        }

        fn read_all(&mut self) {
            loop {
                let next = self.segment.next().cloned();
                let visible = self.segment.visible();
                while self.record < visible.records {
                    let record = self.segment.record(self.record);
                    assert_eq!(record.origin as usize, self.frames.len(), "origins count up in these tests");
                    assert_eq!(self.segment.base_seq() + u64::from(self.record), u64::from(record.origin));
                    self.frames.push(self.segment.bytes(self.offset, record.end).to_vec());
                    (self.offset, self.record) = (record.end, self.record + 1);
                }
                assert_eq!(self.offset, visible.bytes, "the index ends where the bytes end");
                let Some(next) = next else { return };
                assert_eq!(next.base(), self.segment.base() + u64::from(visible.bytes));
                assert_eq!(next.base_seq(), self.segment.base_seq() + u64::from(visible.records));
                self.left.push(mem::replace(&mut self.segment, next));
                (self.offset, self.record) = (0, 0);
            }
        }
    }

    fn append(log: &mut LogWriter, id: usize, bytes: usize, whole: bool) -> Vec<u8> {
        let opcode = if id.is_multiple_of(2) { Opcode::Text } else { Opcode::Binary };
        let payload = payload(id, bytes);
        let frame = framed(opcode, &payload);
        if whole {
            log.append_frame(Bytes::from(frame.clone()), id as u32, !(id as u32));
        } else {
            log.append(opcode, &payload, id as u32, !(id as u32));
        }
        frame
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_log_is_a_list_of_frames(
            sizes in vec((payload_bytes(), any::<bool>(), 0..8_u8), 1..200),
            positions in vec(any::<prop::sample::Index>(), 20),
        ) {
            let (mut log, first) = LogWriter::new();
            let mut early = Reader::new(Arc::clone(&first));
            let mut late = Reader::new(Arc::clone(&first));
            let mut model: Vec<Vec<u8>> = Vec::new();
            for (id, (bytes, whole, then)) in sizes.into_iter().enumerate() {
                model.push(append(&mut log, id, bytes, whole && bytes >= 16 * 1024));
                prop_assert_eq!(log.tail_seq(), model.len() as u64);
                prop_assert_eq!(log.tail_offset(), model.iter().map(|frame| frame.len() as u64).sum::<u64>());
                if then == 0 {
                    early.read_all();
                    prop_assert_eq!(&early.frames, &model);
                }
            }
            late.read_all();
            prop_assert_eq!(&late.frames, &model);
            // From any byte: its segment, its frame, and the rest of that frame.
            let whole = model.concat();
            for position in positions {
                let position = position.index(whole.len());
                let segment = late.left.iter().chain([&late.segment])
                    .rfind(|segment| segment.base() <= position as u64).expect("the first starts at 0");
                let offset = (position as u64 - segment.base()) as u32;
                let index = segment.record_at(offset);
                let seq = (segment.base_seq() + u64::from(index)) as usize;
                let start: usize = model[..seq].iter().map(Vec::len).sum();
                prop_assert!(start <= position && position < start + model[seq].len());
                let record = segment.record(index);
                prop_assert_eq!((record.origin, record.at_us), (seq as u32, !(seq as u32)));
                prop_assert_eq!(segment.bytes(offset, record.end), &whole[position..start + model[seq].len()]);
            }
        }

        #[test]
        fn memory_is_reused_only_when_nobody_reads_it(
            sizes in vec((0..300_usize, any::<bool>()), 1..600),
        ) {
            let (mut log, first) = LogWriter::with_segments(256, 1024);
            let mut reader = Reader::new(Arc::clone(&first));
            let mut holder = Reader::new(first);
            let mut model = Vec::new();
            for (id, (bytes, read)) in sizes.into_iter().enumerate() {
                model.push(append(&mut log, id, bytes, false));
                if read {
                    reader.read_all();
                    reader.left.clear();
                    log.trim();
                }
                // The holder keeps the second half of the time everything that it has not read.
                if id == 300 {
                    holder.read_all();
                    holder.left.clear();
                }
                prop_assert!(log.left.len() <= LEFT_MAX);
            }
            reader.read_all();
            holder.read_all();
            prop_assert_eq!(&reader.frames, &model);
            prop_assert_eq!(&holder.frames, &model);
            (reader.left, holder.left) = (Vec::new(), Vec::new());
            log.trim();
            prop_assert!(log.left.len() <= SPARES_MAX);
        }
    }

    fn capacity(segment: &Segment) -> usize {
        match &segment.body {
            Body::Heap(memory) => memory.bytes.len(),
            Body::Frame { .. } => 0,
        }
    }

    #[test]
    fn segments_grow_with_use_and_a_quiet_topic_has_none() {
        let (mut log, first) = LogWriter::new();
        assert_eq!(capacity(&first), 0);
        let mut sizes = Vec::new();
        for id in 0..20_000 {
            log.append(Opcode::Binary, &[0; 64], id, 0);
            if sizes.last() != Some(&capacity(log.tail())) {
                sizes.push(capacity(log.tail()));
            }
        }
        assert_eq!(sizes, [4, 8, 16, 32, 64, 128, 256].map(|kib| kib * 1024));
    }

    #[test]
    fn small_messages_between_large_ones_shrink_their_segments() {
        let (mut log, _first) = LogWriter::new();
        for id in 0..20_000 {
            log.append(Opcode::Binary, &[0; 64], id, 0);
        }
        let large = Bytes::from(framed(Opcode::Binary, &payload(0, 16 * 1024)));
        for id in 0..10 {
            log.append_frame(large.clone(), id, 0);
            log.append(Opcode::Binary, b"small", id, 0);
        }
        assert_eq!(capacity(log.tail()), SEGMENT_BYTES_MIN);
    }

    #[test]
    fn a_segment_that_nobody_reads_serves_again() {
        let (mut log, first) = LogWriter::with_segments(1024, 1024);
        let mut reader = Reader::new(first);
        let fill = |log: &mut LogWriter, id: usize| append(log, id, 1000, false);
        let address = |segment: &Segment| segment.bytes(0, 1).as_ptr();
        fill(&mut log, 0);
        let old = address(log.tail());
        fill(&mut log, 1);
        let again = Arc::as_ptr(&log.left[0]);
        reader.read_all();
        reader.left.clear();
        fill(&mut log, 2);
        assert_eq!((Arc::as_ptr(log.tail()), address(log.tail())), (again, old));
        // The reader still stands in the segment of frame 1.
        let in_use = address(&reader.segment);
        fill(&mut log, 3);
        assert!(![old, in_use].contains(&address(log.tail())));
        reader.read_all();
        assert_eq!(reader.frames[3], framed(Opcode::Binary, &payload(3, 1000)));
    }

    #[test]
    fn large_messages_after_small_ones_are_given_back_once_read() {
        let (mut log, first) = LogWriter::with_segments(1024, 1024);
        let mut reader = Reader::new(first);
        for id in 0..3 {
            append(&mut log, id, 1000, false);
        }
        append(&mut log, 3, 20_000, true);
        let large = Arc::downgrade(log.tail());
        append(&mut log, 4, 20_000, true);
        reader.read_all();
        reader.left.clear();
        assert!(large.upgrade().is_none(), "no segment that is kept for reuse holds it");
    }

    #[test]
    fn a_frame_of_its_own_is_not_copied() {
        let (mut log, first) = LogWriter::new();
        log.append(Opcode::Text, b"before", 0, 0);
        let frame = Bytes::from(framed(Opcode::Binary, &payload(1, 20_000)));
        log.append_frame(frame.clone(), 1, 0);
        assert_eq!(log.tail().bytes(0, 1).as_ptr(), frame.as_ptr());
        log.append(Opcode::Text, b"after", 2, 0);
        let mut reader = Reader::new(first);
        reader.read_all();
        assert_eq!(reader.frames, [framed(Opcode::Text, b"before"), frame.to_vec(), framed(Opcode::Text, b"after")]);
    }

    #[test]
    #[should_panic(expected = "visible")]
    fn no_slice_reaches_beyond_what_is_visible() {
        let (mut log, _first) = LogWriter::new();
        log.append(Opcode::Text, b"four", 0, 0);
        let _ = log.tail().bytes(0, 7);
    }

    #[test]
    #[should_panic(expected = "visible")]
    fn no_record_is_read_beyond_what_is_visible() {
        let (mut log, _first) = LogWriter::new();
        log.append(Opcode::Text, b"four", 0, 0);
        let _ = log.tail().record(1);
    }

    #[test]
    fn a_long_list_is_dropped_on_a_small_stack() {
        let dropping = thread::Builder::new().stack_size(64 * 1024).spawn(|| {
            let (mut log, first) = LogWriter::new();
            for id in 0..200_000 {
                log.append_frame(Bytes::from_static(&[0x82, 0]), id, 0);
            }
            drop(log);
            assert!(first.next().is_some());
            drop(first);
        });
        dropping.unwrap().join().unwrap();
    }

    #[test]
    fn three_readers_follow_a_writer_that_reuses_what_they_left() {
        const FRAMES: usize = 30_000;
        let size = |id: usize| if id.is_multiple_of(1000) { 20_000 } else { id * 37 % 700 };
        let (mut log, first) = LogWriter::with_segments(4096, 16 * 1024);
        let mut reused = 0;
        thread::scope(|scope| {
            for _ in 0..3 {
                let mut reader = Reader::new(Arc::clone(&first));
                scope.spawn(move || {
                    let mut checked = 0;
                    while checked < FRAMES {
                        reader.read_all();
                        for frame in reader.frames[checked..].iter_mut() {
                            let opcode = if checked.is_multiple_of(2) { Opcode::Text } else { Opcode::Binary };
                            assert_eq!(mem::take(frame), framed(opcode, &payload(checked, size(checked))));
                            checked += 1;
                        }
                        reader.left.clear();
                        thread::yield_now();
                    }
                });
            }
            drop(first);
            for id in 0..FRAMES {
                let oldest = log.left.front().map(Arc::as_ptr);
                append(&mut log, id, size(id), size(id) >= 16 * 1024);
                reused += usize::from(oldest == Some(Arc::as_ptr(log.tail())));
                while id % 500 == 499 && log.left.front().is_some_and(|oldest| Arc::strong_count(oldest) > 1) {
                    thread::yield_now();
                }
            }
        });
        assert!(reused > 0);
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use loom::thread;

    use super::*;

    /// Reads what is visible from `segment` on, in that many looks.
    fn read(mut segment: Arc<Segment>, looks: usize) -> Vec<Vec<u8>> {
        let (mut frames, mut offset, mut index) = (Vec::new(), 0, 0);
        for _ in 0..looks {
            let next = segment.next().cloned();
            let visible = segment.visible();
            for _ in index..visible.records {
                let record = segment.record(index);
                assert_eq!(record.origin as usize, frames.len());
                frames.push(segment.bytes(offset, record.end).to_vec());
                (offset, index) = (record.end, index + 1);
            }
            assert_eq!(offset, visible.bytes);
            if let Some(next) = next {
                assert_eq!(next.base(), segment.base() + u64::from(visible.bytes));
                (segment, offset, index) = (next, 0, 0);
            }
        }
        frames
    }

    /// Three frames: two in one segment, one in the next; the first segment, without room, before them.
    fn write(log: &mut LogWriter) {
        for id in 0..3_u8 {
            log.append(Opcode::Binary, &[id; 4], u32::from(id), 0);
        }
    }

    fn expected() -> Vec<Vec<u8>> {
        (0..3_u8).map(|id| vec![0x82, 4, id, id, id, id]).collect()
    }

    #[test]
    fn loom_a_reader_sees_every_frame_whole_and_once() {
        loom::model(|| {
            let (mut log, first) = LogWriter::with_segments(16, 16);
            let reading = {
                let first = Arc::clone(&first);
                thread::spawn(move || read(first, 4))
            };
            write(&mut log);
            assert!(expected().starts_with(&reading.join().unwrap()));
            assert_eq!(read(first, 3), expected());
        });
    }

    #[test]
    fn loom_two_readers_follow_into_a_frame_of_its_own() {
        loom::model(|| {
            let (mut log, first) = LogWriter::with_segments(16, 16);
            let readers = [3, 2].map(|looks| {
                let first = Arc::clone(&first);
                thread::spawn(move || read(first, looks))
            });
            log.append(Opcode::Binary, &[0; 4], 0, 0);
            log.append_frame(Bytes::from_static(&[0x82, 4, 1, 1, 1, 1]), 1, 0);
            for reader in readers {
                assert!(expected().starts_with(&reader.join().unwrap()));
            }
            assert_eq!(read(first, 3), expected()[..2]);
        });
    }
}
