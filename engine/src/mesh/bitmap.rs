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
