//! "This topic has news", from one shard to another: a set of bits that cannot overflow.
//!
//! Setting a bit twice before it is drained is one piece of news, so there is nothing to bound and nothing to lose. A
//! word covers 64 bits, a summary word 64 words, the root all summary words: draining an empty bitmap is one load.
//!
//! `set` goes from the word up to the root, `drain` from the root down, and both only by read-modify-writes: what a
//! thread wrote before `set` is visible to the drain that finds the bit. A setter that finds its word not empty leaves
//! the rest to whoever set it first: a drain that takes the word comes later and takes the new bit with it.

use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use crate::sync::AtomicU64;

/// Bits that any thread sets and one thread drains.
pub struct Bitmap {
    /// Bit i: `summary[i]` is not zero, or is about to be.
    root: AtomicU64,
    /// Bit i of word w: `words[64 * w + i]` is not zero, or is about to be.
    summary: Box<[AtomicU64]>,
    words: Box<[AtomicU64]>,
}

impl Bitmap {
    /// The most bits a bitmap can have.
    pub const BITS_MAX: usize = 64 * 64 * 64;

    /// An empty bitmap of that many bits.
    ///
    /// # Panics
    /// If `bits` is above [`BITS_MAX`](Self::BITS_MAX).
    #[must_use]
    pub fn new(bits: usize) -> Self {
        assert!(bits <= Self::BITS_MAX, "a bitmap has at most {} bits, not {bits}", Self::BITS_MAX);
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self { root: AtomicU64::new(0), summary: zeros(bits.div_ceil(64 * 64)), words: zeros(bits.div_ceil(64)) }
    }

    /// Sets a bit.
    ///
    /// # Panics
    /// If the bitmap has no such bit (its bits are rounded up to a multiple of 64).
    #[inline]
    pub fn set(&self, bit: u32) {
        let word = bit as usize / 64;
        if self.words[word].fetch_or(1 << (bit % 64), AcqRel) != 0 {
            return;
        }
        if self.summary[word / 64].fetch_or(1 << (word % 64), AcqRel) != 0 {
            return;
        }
        self.root.fetch_or(1 << (word / 64), AcqRel);
    }

    /// Clears all bits and gives each that was set to `each`. A bit that is set meanwhile is in this drain or the next.
    #[inline]
    pub fn drain(&self, mut each: impl FnMut(u32)) {
        if self.is_empty() {
            return;
        }
        for_each_bit(self.root.swap(0, AcqRel), |root_bit| {
            for_each_bit(self.summary[root_bit].swap(0, AcqRel), |summary_bit| {
                let word = 64 * root_bit + summary_bit;
                for_each_bit(self.words[word].swap(0, AcqRel), |bit| each((64 * word + bit) as u32));
            });
        });
    }

    /// Whether there is nothing to drain at this moment. Exact for the thread that drains, between drains.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.root.load(Relaxed) == 0
    }
}

#[inline]
fn for_each_bit(mut word: u64, mut each: impl FnMut(usize)) {
    while word != 0 {
        each(word.trailing_zeros() as usize);
        word &= word - 1;
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::thread;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn drained(bitmap: &Bitmap) -> Vec<u32> {
        let mut bits = Vec::new();
        bitmap.drain(|bit| bits.push(bit));
        bits
    }

    proptest! {
        #[test]
        fn the_bitmap_is_a_set(bits in 1..=Bitmap::BITS_MAX, rounds in vec(vec(any::<u32>(), 0..100), 1..8)) {
            let bitmap = Bitmap::new(bits);
            for round in rounds {
                let model: BTreeSet<u32> = round.iter().map(|bit| bit % bits as u32).collect();
                for bit in round {
                    bitmap.set(bit % bits as u32);
                }
                prop_assert_eq!(bitmap.is_empty(), model.is_empty());
                prop_assert_eq!(drained(&bitmap), Vec::from_iter(model));
                prop_assert!(bitmap.is_empty());
            }
        }
    }

    #[test]
    fn every_bit_of_the_largest_bitmap_can_be_set() {
        let bitmap = Bitmap::new(Bitmap::BITS_MAX);
        for bit in 0..Bitmap::BITS_MAX as u32 {
            bitmap.set(bit);
        }
        assert!(drained(&bitmap).into_iter().eq(0..Bitmap::BITS_MAX as u32));
    }

    #[test]
    #[should_panic(expected = "at most 262144 bits")]
    fn a_bitmap_beyond_its_bound_is_refused() {
        let _ = Bitmap::new(Bitmap::BITS_MAX + 1);
    }

    #[test]
    fn a_bit_set_during_a_drain_is_in_this_drain_or_the_next() {
        let bitmap = Bitmap::new(128);
        bitmap.set(5);
        let mut seen = Vec::new();
        bitmap.drain(|bit| {
            seen.push(bit);
            if seen.len() == 1 {
                bitmap.set(5);
                bitmap.set(70);
            }
        });
        seen.extend(drained(&bitmap));
        assert_eq!(seen, [5, 5, 70]);
    }

    #[test]
    fn the_last_news_of_every_topic_reaches_the_drain() {
        const TOPICS: usize = 10_000;
        const ROUNDS: u32 = 100;
        let bitmap = Bitmap::new(TOPICS);
        let tails: Vec<AtomicU32> = (0..TOPICS).map(|_| AtomicU32::new(0)).collect();
        let mut seen = vec![0; TOPICS];
        let mut drain = || bitmap.drain(|topic| seen[topic as usize] = tails[topic as usize].load(Relaxed));
        thread::scope(|scope| {
            let setters = [0, 1].map(|half| {
                let (bitmap, tails) = (&bitmap, &tails);
                scope.spawn(move || {
                    for round in 1..=ROUNDS {
                        for topic in (half..TOPICS).step_by(2) {
                            tails[topic].store(round, Relaxed);
                            bitmap.set(topic as u32);
                        }
                    }
                })
            });
            while !setters.iter().all(thread::ScopedJoinHandle::is_finished) {
                drain();
            }
        });
        drain();
        assert!(bitmap.is_empty());
        assert!(seen.iter().all(|tail| *tail == ROUNDS));
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use std::sync::atomic::Ordering::Relaxed;

    use loom::sync::{Arc, atomic::AtomicU32};
    use loom::thread;

    use super::*;

    /// Topics that share a word, a summary word, and only the root.
    fn model_of(bits: [u32; 2]) {
        loom::model(move || {
            let bitmap = Arc::new(Bitmap::new(3 * 4096));
            let tails = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
            let publishing = {
                let (bitmap, tails) = (Arc::clone(&bitmap), Arc::clone(&tails));
                thread::spawn(move || {
                    for (index, tail) in [(0, 1), (1, 1), (0, 2)] {
                        tails[index].store(tail, Relaxed);
                        bitmap.set(bits[index]);
                    }
                })
            };
            let mut seen = [0, 0];
            let drain = |seen: &mut [u32; 2]| {
                bitmap.drain(|bit| {
                    let index = bits.iter().position(|known| *known == bit).expect("a bit that was set");
                    seen[index] = tails[index].load(Relaxed);
                });
            };
            drain(&mut seen);
            drain(&mut seen);
            publishing.join().unwrap();
            drain(&mut seen);
            assert_eq!(seen, [2, 1], "the last news of each topic was found");
        });
    }

    #[test]
    fn loom_no_news_is_lost_within_a_word() {
        model_of([3, 4]);
    }

    #[test]
    fn loom_no_news_is_lost_within_a_summary_word() {
        model_of([3, 64]);
    }

    #[test]
    fn loom_no_news_is_lost_across_the_root() {
        model_of([3, 4096]);
    }
}
