//! One way from one shard to another: a single-producer, single-consumer ring of bytes.
//!
//! Small records lie inline, large ones as a pointer in the same ring, so that one order holds for both. Bounded twice:
//! the ring's bytes for what lies in it, and a weight for what the pointers stand for.
//!
//! ```text
//! record  length:u32 kind:u32 | inline: meta 16 B, payload, padding to 8 B | boxed: pointer 8 B, weight 8 B
//! ```
//!
//! A record never wraps: what does not fit before the end of the memory starts over at its beginning, behind a skip
//! record that is published together with it. `head` and `tail` count bytes from the start and never wrap either
//! (usize); `head ≤ tail ≤ head + capacity`. The producer owns `[tail, head + capacity)`, the consumer `[head, tail)`.
//! The memory is zeroed by the allocator and touched as it is used: a ring without traffic costs next to nothing.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::sync::{Arc, AtomicUsize, Touched};

/// What goes with an inline payload; opaque to the ring.
pub type Meta = [u32; 4];

const HEADER_BYTES: usize = 8;
const META_BYTES: usize = 16;
/// An inline record without payload, and a boxed one.
const RECORD_BYTES: usize = HEADER_BYTES + META_BYTES;
const ALIGN_BYTES: usize = 8;
const CAPACITY_BYTES_MIN: usize = 128;

const INLINE: u32 = 0;
const BOXED: u32 = 1;
const SKIP: u32 = 2;

/// A ring of `capacity_bytes`, in which boxed items of up to `boxed_bytes_max` may wait.
///
/// # Panics
/// If `capacity_bytes` is not a power of two from 128 B to 2 GiB.
#[must_use]
pub fn ring<T: Send>(capacity_bytes: usize, boxed_bytes_max: usize) -> (Producer<T>, Consumer<T>) {
    assert!(
        capacity_bytes.is_power_of_two() && (CAPACITY_BYTES_MIN..=1 << 31).contains(&capacity_bytes),
        "a ring's capacity is a power of two from 128 B to 2 GiB, not {capacity_bytes}"
    );
    let shared = Arc::new(Shared {
        words: Box::new_zeroed_slice(capacity_bytes / ALIGN_BYTES),
        mask: capacity_bytes - 1,
        touched: Touched::new(capacity_bytes / ALIGN_BYTES),
        tail: Padded(AtomicUsize::new(0)),
        consumed: Padded(Consumed { head: AtomicUsize::new(0), boxed_bytes: AtomicUsize::new(0) }),
        items: PhantomData,
    });
    let producer =
        Producer { shared: Arc::clone(&shared), tail: 0, head_seen: 0, boxed_bytes: 0, boxed_seen: 0, boxed_bytes_max };
    (producer, Consumer { shared, head: 0, tail_seen: 0, boxed_bytes: 0 })
}

/// The end that pushes. Dropping it leaves what was pushed to the consumer.
pub struct Producer<T: Send> {
    shared: Arc<Shared<T>>,
    /// Equals `shared.tail`.
    tail: usize,
    /// A past value of `shared.consumed.head`; refreshed only when the ring looks full.
    head_seen: usize,
    /// Weight of all boxed items ever pushed, wrapping; minus `boxed_seen` it is at least what waits in the ring.
    boxed_bytes: usize,
    boxed_seen: usize,
    boxed_bytes_max: usize,
}

impl<T: Send> Producer<T> {
    /// Copies `payload` into the ring. `false`: no room now, and nothing was written.
    ///
    /// # Panics
    /// If the payload is longer than [`inline_bytes_max`](Self::inline_bytes_max): it would never fit.
    #[inline]
    pub fn push(&mut self, meta: Meta, payload: &[u8]) -> bool {
        assert!(payload.len() <= self.inline_bytes_max(), "a payload of {} B never fits inline", payload.len());
        let Some((start, record)) = self.claim(RECORD_BYTES + payload.len()) else { return false };
        write_header(record, payload.len() as u32, INLINE);
        for (to, word) in record[HEADER_BYTES..RECORD_BYTES].chunks_exact_mut(4).zip(meta) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        record[RECORD_BYTES..RECORD_BYTES + payload.len()].copy_from_slice(payload);
        let end = start + record.len();
        self.publish(end);
        true
    }

    /// Passes `item` as a pointer; `weight_bytes` counts against the ring's `boxed_bytes_max` until it is popped. An
    /// item of any weight fits when no other weight waits.
    ///
    /// # Errors
    /// The item, if there is no room for it now.
    #[inline]
    pub fn push_boxed(&mut self, item: Box<T>, weight_bytes: usize) -> Result<(), Box<T>> {
        if !self.has_room_for_weight(weight_bytes) {
            return Err(item);
        }
        let Some((start, record)) = self.claim(RECORD_BYTES) else { return Err(item) };
        write_header(record, 0, BOXED);
        record[8..16].copy_from_slice(&Box::into_raw(item).expose_provenance().to_ne_bytes());
        record[16..24].copy_from_slice(&weight_bytes.to_ne_bytes());
        let end = start + record.len();
        self.boxed_bytes = self.boxed_bytes.wrapping_add(weight_bytes);
        self.publish(end);
        Ok(())
    }

    /// The longest payload that [`push`](Self::push) can ever take, in bytes.
    #[must_use]
    #[inline]
    pub fn inline_bytes_max(&self) -> usize {
        // A record and the skip before it, which is shorter than the record, always fit an empty ring.
        self.shared.capacity() / 4 - RECORD_BYTES
    }

    /// Room for a record of `bytes`, rounded up to 8, in one piece, and its position; with a skip record before it if
    /// the end of the memory is in the way.
    #[inline]
    fn claim(&mut self, bytes: usize) -> Option<(usize, &mut [u8])> {
        let bytes = bytes.next_multiple_of(ALIGN_BYTES);
        let to_end = self.shared.to_end(self.tail);
        let skip = if bytes > to_end { to_end } else { 0 };
        if !self.has_room(skip + bytes) {
            return None;
        }
        if skip > 0 {
            write_header(self.writable(self.tail, HEADER_BYTES), 0, SKIP);
        }
        let start = self.tail + skip;
        Some((start, self.writable(start, bytes)))
    }

    /// The memory of positions `[start, start + bytes)`, which must be claimed, aligned and in one piece.
    #[inline]
    fn writable(&mut self, start: usize, bytes: usize) -> &mut [u8] {
        self.shared.touched.write(self.shared.cells(start, bytes));
        // SAFETY: `claim`, the only caller, has checked that the positions lie in [tail, head + capacity), which the
        // consumer does not look at before `publish` hands them over, and did give back before its Release of `head`
        // that `has_room` acquired. There is one producer, borrowed mutably. The words are initialised: zeroed at first.
        unsafe { std::slice::from_raw_parts_mut(self.shared.piece(start, bytes), bytes) }
    }

    #[inline]
    fn publish(&mut self, tail: usize) {
        self.tail = tail;
        self.shared.tail.0.store(tail, Release);
    }

    #[inline]
    fn has_room(&mut self, bytes: usize) -> bool {
        if self.shared.capacity() - (self.tail - self.head_seen) >= bytes {
            return true;
        }
        self.refresh();
        self.shared.capacity() - (self.tail - self.head_seen) >= bytes
    }

    #[inline]
    fn has_room_for_weight(&mut self, weight_bytes: usize) -> bool {
        if self.fits_weight(weight_bytes) {
            return true;
        }
        self.refresh();
        self.fits_weight(weight_bytes)
    }

    #[inline]
    fn fits_weight(&self, weight_bytes: usize) -> bool {
        let waiting = self.boxed_bytes.wrapping_sub(self.boxed_seen);
        waiting == 0 || waiting.saturating_add(weight_bytes) <= self.boxed_bytes_max
    }

    /// Looks how far the consumer has come.
    fn refresh(&mut self) {
        self.head_seen = self.shared.consumed.0.head.load(Acquire);
        self.boxed_seen = self.shared.consumed.0.boxed_bytes.load(Relaxed);
    }
}

/// What a [`Consumer`] finds at the head of the ring.
pub enum Popped<'a, T> {
    /// A record that was copied in.
    Inline {
        /// As given to [`Producer::push`].
        meta: Meta,
        /// As given to [`Producer::push`].
        payload: &'a [u8],
    },
    /// An item that came as a pointer.
    Boxed(Box<T>),
}

/// The end that pops. Dropping it drops the boxed items that wait.
pub struct Consumer<T: Send> {
    shared: Arc<Shared<T>>,
    /// Equals `shared.consumed.head`.
    head: usize,
    /// A past value of `shared.tail`; refreshed only when the ring looks empty.
    tail_seen: usize,
    /// Weight of all boxed items ever popped, wrapping.
    boxed_bytes: usize,
}

impl<T: Send> Consumer<T> {
    /// Gives the oldest record to `read` and then its room back to the producer. `None`: the ring is empty.
    #[inline]
    pub fn pop<R>(&mut self, read: impl FnOnce(Popped<'_, T>) -> R) -> Option<R> {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.0.load(Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        // SAFETY: head < tail_seen, which was loaded by Acquire, and only the one consumer moves head.
        let (start, record) = unsafe { self.shared.record(self.head) };
        match record {
            Record::Inline { meta, payload } => {
                let end = start + (RECORD_BYTES + payload.len()).next_multiple_of(ALIGN_BYTES);
                let result = read(Popped::Inline { meta, payload });
                self.head = end;
                self.shared.consumed.0.head.store(end, Release);
                Some(result)
            }
            Record::Boxed { item, weight_bytes } => {
                // The room goes back first: should `read` unwind, the item is already its, and not the ring's.
                self.head = start + RECORD_BYTES;
                self.boxed_bytes = self.boxed_bytes.wrapping_add(weight_bytes);
                self.shared.consumed.0.boxed_bytes.store(self.boxed_bytes, Relaxed);
                self.shared.consumed.0.head.store(self.head, Release);
                // SAFETY: the pointer came from Box::into_raw in `push_boxed`; the record that carried it has just been
                // given back, so nothing makes a second box of it.
                Some(read(Popped::Boxed(unsafe { Box::from_raw(item) })))
            }
        }
    }

    /// Whether there is nothing to pop at this moment.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == self.tail_seen && self.head == self.shared.tail.0.load(Acquire)
    }
}

impl<T: Send> Drop for Consumer<T> {
    fn drop(&mut self) {
        while self.pop(|popped| drop(popped)).is_some() {}
    }
}

/// A record as it lies in the ring.
enum Record<'a, T> {
    Inline { meta: Meta, payload: &'a [u8] },
    Boxed { item: *mut T, weight_bytes: usize },
}

/// What both ends hold. Each index has 128 bytes to itself: the adjacent-line prefetcher pairs lines of 64.
struct Shared<T> {
    words: Box<[MaybeUninit<UnsafeCell<u64>>]>,
    /// Capacity in bytes less one.
    mask: usize,
    touched: Touched,
    /// Written by the producer alone.
    tail: Padded<AtomicUsize>,
    /// Written by the consumer alone.
    consumed: Padded<Consumed>,
    items: PhantomData<Box<T>>,
}

#[repr(align(128))]
struct Padded<A>(A);

struct Consumed {
    head: AtomicUsize,
    /// Weight of all boxed items ever popped; stored before the `head` that passes them.
    boxed_bytes: AtomicUsize,
}

// SAFETY: the words are written by the producer and read by the consumer, each only in the part that is its own, which
// changes hands by Release and Acquire of `tail` and `head`. Items move from thread to thread, which T: Send allows.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above; neither end hands out a shared reference to an item.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    #[inline]
    fn capacity(&self) -> usize {
        self.mask + 1
    }

    /// Bytes from a position to the end of the memory: 8 to capacity.
    #[inline]
    fn to_end(&self, position: usize) -> usize {
        self.capacity() - (position & self.mask)
    }

    /// The memory of `[position, position + bytes)`.
    ///
    /// # Panics
    /// If that is not in one piece: all that is unsafe in this file rests on it.
    #[inline]
    fn piece(&self, position: usize, bytes: usize) -> *mut u8 {
        assert!(bytes <= self.to_end(position), "a record lies in one piece");
        self.words.as_ptr().cast::<u8>().wrapping_add(position & self.mask).cast_mut()
    }

    /// The same as cells of `touched`.
    #[inline]
    fn cells(&self, position: usize, bytes: usize) -> std::ops::Range<usize> {
        let start = (position & self.mask) / ALIGN_BYTES;
        start..start + bytes / ALIGN_BYTES
    }

    /// The record at `head`, or behind the skip record that lies there, and where it starts.
    ///
    /// # Safety
    /// `head` is the consumer's, below a `tail` that the calling thread acquired, and does not move while the result is
    /// in use.
    #[inline]
    unsafe fn record(&self, head: usize) -> (usize, Record<'_, T>) {
        let readable = |start: usize, bytes: usize| {
            self.touched.read(self.cells(start, bytes));
            // SAFETY: the caller vouches for [head, tail) being the consumer's, and only whole records are in it, a skip
            // record always with the one behind it.
            unsafe { std::slice::from_raw_parts(self.piece(start, bytes).cast_const(), bytes) }
        };
        let mut start = head;
        let (mut length, mut kind) = read_header(readable(start, HEADER_BYTES));
        if kind == SKIP {
            start += self.to_end(start);
            (length, kind) = read_header(readable(start, HEADER_BYTES));
        }
        let body_bytes = META_BYTES + (length as usize).next_multiple_of(ALIGN_BYTES);
        let (fixed, payload) = readable(start + HEADER_BYTES, body_bytes).split_at(META_BYTES);
        let record = if kind == BOXED {
            let item = ptr::with_exposed_provenance_mut(usize::from_ne_bytes(array(&fixed[..8])));
            Record::Boxed { item, weight_bytes: usize::from_ne_bytes(array(&fixed[8..])) }
        } else {
            let meta = std::array::from_fn(|index| u32::from_ne_bytes(array(&fixed[4 * index..4 * index + 4])));
            Record::Inline { meta, payload: &payload[..length as usize] }
        };
        (start, record)
    }
}

impl<T> Drop for Shared<T> {
    /// Drops the boxed items that were pushed after the consumer had gone.
    fn drop(&mut self) {
        let (mut head, tail) = (self.consumed.0.head.load(Relaxed), self.tail.0.load(Relaxed));
        while head < tail {
            // SAFETY: both ends are gone, and what they wrote happened before; head < tail.
            let (start, record) = unsafe { self.record(head) };
            head = match record {
                Record::Inline { payload, .. } => start + (RECORD_BYTES + payload.len()).next_multiple_of(ALIGN_BYTES),
                Record::Boxed { item, .. } => {
                    // SAFETY: from Box::into_raw in `push_boxed`, and not popped, for head has not passed it.
                    drop(unsafe { Box::from_raw(item) });
                    start + RECORD_BYTES
                }
            };
        }
    }
}

#[inline]
fn write_header(record: &mut [u8], length: u32, kind: u32) {
    record[..4].copy_from_slice(&length.to_ne_bytes());
    record[4..HEADER_BYTES].copy_from_slice(&kind.to_ne_bytes());
}

#[inline]
fn read_header(record: &[u8]) -> (u32, u32) {
    (u32::from_ne_bytes(array(&record[..4])), u32::from_ne_bytes(array(&record[4..HEADER_BYTES])))
}

#[inline]
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the slice was cut to this length")
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::collections::{BTreeSet, VecDeque};
    use std::sync::Arc;
    use std::thread;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What a test pushes as a pointer: `alive` counts the copies that are not dropped.
    struct Item {
        id: usize,
        _alive: Arc<()>,
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Push(usize),
        PushBoxed(usize),
        Pop,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (0..=1000_usize).prop_map(Step::Push),
            2 => (0..=40_usize).prop_map(Step::Push),
            1 => (0..=3000_usize).prop_map(Step::PushBoxed),
            3 => Just(Step::Pop),
        ]
    }

    /// A payload that says which record it is of, at every byte.
    fn payload(id: usize, bytes: usize) -> Vec<u8> {
        (0..bytes).map(|index| (id * 31 + index * 7) as u8).collect()
    }

    const BOXED_BYTES_MAX: usize = 2000;

    proptest! {
        #[test]
        fn the_ring_is_a_bounded_queue(steps in vec(step(), 0..400), capacity_log in 7..13_u32, left in 0..3_u8) {
            let alive = Arc::new(());
            let capacity = 1 << capacity_log;
            let (mut producer, mut consumer) = ring::<Item>(capacity, BOXED_BYTES_MAX);
            // Model: (id, inline payload length | boxed weight)
            let mut model: VecDeque<(usize, Result<usize, usize>)> = VecDeque::new();
            for (id, step) in steps.into_iter().enumerate() {
                let ring_bytes: usize =
                    model.iter().map(|(_, body)| RECORD_BYTES + body.unwrap_or(0).next_multiple_of(8)).sum();
                let waiting: usize = model.iter().filter_map(|(_, body)| body.err()).sum();
                match step {
                    Step::Push(bytes) => {
                        let bytes = bytes % (producer.inline_bytes_max() + 1);
                        let meta = [id as u32, !(id as u32), bytes as u32, 7];
                        let record_bytes = RECORD_BYTES + bytes.next_multiple_of(8);
                        if producer.push(meta, &payload(id, bytes)) {
                            prop_assert!(ring_bytes + record_bytes <= capacity);
                            model.push_back((id, Ok(bytes)));
                        } else {
                            // At most a quarter lost to each of: this record, the skip before it, one skip inside.
                            prop_assert!(ring_bytes + record_bytes + capacity / 2 > capacity);
                        }
                    }
                    Step::PushBoxed(weight) => {
                        let fits_weight = waiting == 0 || waiting + weight <= BOXED_BYTES_MAX;
                        match producer.push_boxed(Box::new(Item { id, _alive: Arc::clone(&alive) }), weight) {
                            Ok(()) => {
                                prop_assert!(fits_weight && ring_bytes + RECORD_BYTES <= capacity);
                                model.push_back((id, Err(weight)));
                            }
                            Err(item) => {
                                prop_assert_eq!(item.id, id);
                                prop_assert!(!fits_weight || ring_bytes + RECORD_BYTES + capacity / 2 > capacity);
                            }
                        }
                    }
                    Step::Pop => {
                        let popped = consumer.pop(|popped| match popped {
                            Popped::Inline { meta, payload } => (meta[0] as usize, Ok((meta, payload.to_vec()))),
                            Popped::Boxed(item) => (item.id, Err(())),
                        });
                        match (model.pop_front(), popped) {
                            (None, None) => {}
                            (Some((id, Ok(bytes))), Some((_, Ok((meta, got))))) => {
                                prop_assert_eq!(meta, [id as u32, !(id as u32), bytes as u32, 7]);
                                prop_assert_eq!(got, payload(id, bytes));
                            }
                            (Some((id, Err(_))), Some((got, Err(())))) => prop_assert_eq!(got, id),
                            (expected, got) => prop_assert!(false, "expected {expected:?}, popped {got:?}"),
                        }
                    }
                }
                prop_assert_eq!(consumer.is_empty(), model.is_empty());
                let boxed = model.iter().filter(|(_, body)| body.is_err()).count();
                prop_assert_eq!(Arc::strong_count(&alive), 1 + boxed);
            }
            match left {
                0 => drop((producer, consumer)),
                1 => drop((consumer, producer)),
                _ => {
                    drop(consumer);
                    prop_assert_eq!(Arc::strong_count(&alive), 1, "the consumer takes what waits with it");
                    // Whoever pushes now pushes to nobody; it is dropped all the same.
                    let late = producer.push_boxed(Box::new(Item { id: 0, _alive: Arc::clone(&alive) }), 1);
                    prop_assert!(late.is_ok());
                    drop(producer);
                }
            }
            prop_assert_eq!(Arc::strong_count(&alive), 1);
        }
    }

    #[test]
    fn an_empty_ring_takes_the_longest_payload_wherever_it_stands() {
        for capacity in [128, 1024, 4096] {
            let (mut producer, mut consumer) = ring::<()>(capacity, 0);
            let longest = payload(capacity, producer.inline_bytes_max());
            let mut positions = BTreeSet::new();
            for step in 0..20 * capacity {
                positions.insert(producer.tail % capacity);
                assert!(producer.push([1; 4], &longest), "at {} of {capacity}", producer.tail % capacity);
                let whole =
                    |popped: Popped<'_, ()>| matches!(popped, Popped::Inline { payload, .. } if payload == longest);
                assert_eq!(consumer.pop(whole), Some(true));
                assert!(producer.push([0; 4], &longest[..step * step % (longest.len() + 1)]));
                assert!(consumer.pop(|_| ()).is_some());
            }
            assert!(positions.len() > capacity / 64, "{} positions of {capacity}", positions.len());
        }
    }

    #[test]
    #[should_panic(expected = "never fits inline")]
    fn a_payload_that_never_fits_is_refused_loudly() {
        let (mut producer, _consumer) = ring::<()>(1024, 0);
        let bytes = producer.inline_bytes_max() + 1;
        producer.push([0; 4], &vec![0; bytes]);
    }

    #[test]
    fn an_item_of_any_weight_fits_when_no_other_waits() {
        let (mut producer, mut consumer) = ring::<u8>(128, 10);
        assert!(producer.push_boxed(Box::new(1), usize::MAX).is_ok());
        assert_eq!(producer.push_boxed(Box::new(2), 1), Err(Box::new(2)));
        assert!(producer.push([0; 4], b"inline"), "the weight is no bound for what lies inline");
        assert!(consumer.pop(|_| ()).is_some());
        assert!(producer.push_boxed(Box::new(2), 6).is_ok());
        assert!(producer.push_boxed(Box::new(3), 4).is_ok());
        assert!(producer.push_boxed(Box::new(4), 1).is_err());
    }

    #[test]
    fn a_reader_that_unwinds_neither_loses_an_inline_record_nor_doubles_an_item() {
        let alive = Arc::new(());
        let (mut producer, mut consumer) = ring::<Item>(1024, 10);
        assert!(producer.push([5; 4], b"kept"));
        assert!(producer.push_boxed(Box::new(Item { id: 1, _alive: Arc::clone(&alive) }), 1).is_ok());
        let unwind = |consumer: &mut Consumer<Item>| {
            let pop = std::panic::AssertUnwindSafe(|| consumer.pop(|_| panic!("on purpose")));
            assert!(std::panic::catch_unwind(pop).is_err());
        };
        unwind(&mut consumer);
        assert_eq!(consumer.pop(|popped| matches!(popped, Popped::Inline { payload: b"kept", .. })), Some(true));
        unwind(&mut consumer);
        assert!(consumer.is_empty());
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn rings_without_traffic_take_no_memory() {
        let resident_pages = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
        };
        let before = resident_pages();
        let rings: Vec<_> = (0..64).map(|_| ring::<()>(16 << 20, 0)).collect();
        let grown_bytes = resident_pages().saturating_sub(before) * 4096;
        assert!(grown_bytes < 256 << 20, "{} rings of 16 MiB: {grown_bytes} B resident", rings.len());
    }

    #[test]
    fn two_threads_pass_half_a_million_records_in_order() {
        const RECORDS: usize = 500_000;
        let alive = Arc::new(());
        let (mut producer, mut consumer) = ring::<Item>(4096, 300);
        let items = Arc::clone(&alive);
        let pushing = thread::spawn(move || {
            for id in 0..RECORDS {
                if id % 5 == 0 {
                    let mut item = Box::new(Item { id, _alive: Arc::clone(&items) });
                    while let Err(back) = producer.push_boxed(item, id % 400) {
                        item = back;
                        thread::yield_now();
                    }
                } else {
                    let payload = payload(id, id * 13 % 700);
                    while !producer.push([id as u32; 4], &payload) {
                        thread::yield_now();
                    }
                }
            }
        });
        let mut expected = 0;
        while expected < RECORDS {
            let popped = consumer.pop(|popped| match popped {
                Popped::Inline { meta, payload: got } => {
                    assert_eq!(meta, [expected as u32; 4]);
                    assert_eq!(got, payload(expected, expected * 13 % 700));
                }
                Popped::Boxed(item) => assert_eq!((item.id, expected % 5), (expected, 0)),
            });
            match popped {
                Some(()) => expected += 1,
                None => thread::yield_now(),
            }
        }
        pushing.join().unwrap();
        assert!(consumer.is_empty());
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use loom::thread;

    use super::*;

    /// Full at first, so that the producer must reuse room while the consumer gives it back.
    #[test]
    fn loom_records_arrive_whole_and_in_order_across_the_wrap() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring::<u32>(128, 0);
            for id in 0..4_u32 {
                assert!(producer.push([id; 4], &[id as u8; 8]));
            }
            assert!(!producer.push([4; 4], &[4; 8]));
            let pushing = thread::spawn(move || {
                for id in 4..6_u32 {
                    while !producer.push([id; 4], &[id as u8; 8]) {
                        thread::yield_now();
                    }
                }
            });
            for expected in 0..6_u32 {
                let check = |popped: Popped<'_, u32>| match popped {
                    Popped::Inline { meta, payload } => {
                        assert_eq!((meta, payload), ([expected; 4], &[expected as u8; 8][..]))
                    }
                    Popped::Boxed(_) => panic!("nothing boxed was pushed"),
                };
                while consumer.pop(check).is_none() {
                    thread::yield_now();
                }
            }
            assert!(consumer.is_empty());
            pushing.join().unwrap();
        });
    }

    /// The weight of the first item keeps the second out until it is popped.
    #[test]
    fn loom_boxed_items_are_dropped_once_and_their_weight_comes_back() {
        loom::model(|| {
            let alive = std::sync::Arc::new(());
            let (mut producer, mut consumer) = ring::<std::sync::Arc<()>>(128, 1);
            let item = std::sync::Arc::clone(&alive);
            let pushing = thread::spawn(move || {
                assert!(producer.push_boxed(Box::new(std::sync::Arc::clone(&item)), 1).is_ok());
                let mut second = Box::new(item);
                while let Err(back) = producer.push_boxed(second, 1) {
                    second = back;
                    thread::yield_now();
                }
            });
            while consumer.pop(|popped| assert!(matches!(popped, Popped::Boxed(_)))).is_none() {
                thread::yield_now();
            }
            // Whether the second item comes before or after the consumer goes, it is dropped once.
            drop(consumer);
            pushing.join().unwrap();
            assert_eq!(std::sync::Arc::strong_count(&alive), 1);
        });
    }
}
