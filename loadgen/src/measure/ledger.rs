//! Which messages of which publisher a subscriber has had: the exact account behind lost, duplicated and reordered.
//!
//! A pair of subscriber and publisher costs four bytes, the next sequence expected, as long as nothing goes wrong.
//! Sequences that were jumped over stand in a side table until they arrive late or the run ends.

use std::collections::HashMap;
use std::ops::Range;

/// What a delivery is to the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The first copy, in its place.
    InOrder,
    /// The first copy, after a later message of the same publisher.
    Late,
    /// Another copy.
    Duplicate,
}

/// The account of all subscribers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Next sequence expected, per pair.
    next: Vec<u32>,
    /// Sequences below `next` that have not arrived, per pair; ascending, apart, never empty.
    missing: HashMap<u32, Vec<Range<u32>>>,
}

impl Ledger {
    /// Opens the account of `count` more pairs and returns the number of the first.
    pub(crate) fn open(&mut self, count: u32) -> u32 {
        let first = self.next.len() as u32;
        self.next.resize(self.next.len() + count as usize, 0);
        first
    }

    /// Books the arrival of `sequence` for `pair`.
    #[inline]
    pub(crate) fn book(&mut self, pair: u32, sequence: u32) -> Delivery {
        let next = &mut self.next[pair as usize];
        if sequence == *next {
            *next += 1;
            return Delivery::InOrder;
        }
        self.book_other(pair, sequence)
    }

    /// How many of the sequences in `range` have not arrived for `pair`.
    pub(crate) fn missing(&self, pair: u32, range: Range<u32>) -> u64 {
        let overlap = |gap: &Range<u32>| u64::from(gap.end.min(range.end).saturating_sub(gap.start.max(range.start)));
        let tail = self.next[pair as usize]..u32::MAX;
        overlap(&tail) + self.missing.get(&pair).map_or(0, |gaps| gaps.iter().map(overlap).sum())
    }

    #[cold]
    fn book_other(&mut self, pair: u32, sequence: u32) -> Delivery {
        let next = &mut self.next[pair as usize];
        if sequence > *next {
            self.missing.entry(pair).or_default().push(*next..sequence);
            *next = sequence + 1;
            return Delivery::InOrder;
        }
        let Some(gaps) = self.missing.get_mut(&pair) else { return Delivery::Duplicate };
        let Some(at) = gaps.iter().position(|gap| gap.contains(&sequence)) else { return Delivery::Duplicate };
        let gap = gaps[at].clone();
        let rest = [gap.start..sequence, sequence + 1..gap.end];
        gaps.splice(at..=at, rest.into_iter().filter(|piece| !piece.is_empty()));
        if gaps.is_empty() {
            self.missing.remove(&pair);
        }
        Delivery::Late
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_stream_in_order_misses_nothing_but_its_end() {
        let mut ledger = Ledger::default();
        let pair = ledger.open(2) + 1;
        assert!((0..10).all(|sequence| ledger.book(pair, sequence) == Delivery::InOrder));
        assert_eq!((ledger.missing(pair, 0..10), ledger.missing(pair, 5..12), ledger.missing(0, 0..3)), (0, 2, 3));
    }

    #[test]
    fn gaps_late_arrivals_and_copies_are_told_apart() {
        let mut ledger = Ledger::default();
        let pair = ledger.open(1);
        let booked: Vec<_> = [0, 3, 1, 1, 3, 0, 2, 2].into_iter().map(|s| ledger.book(pair, s)).collect();
        use Delivery::{Duplicate, InOrder, Late};
        assert_eq!(booked, [InOrder, InOrder, Late, Duplicate, Duplicate, Duplicate, Late, Duplicate]);
        assert!(ledger.missing.is_empty());
    }

    #[test]
    fn any_sequence_of_arrivals_gives_the_account_of_a_set() {
        let mut rng = Rng::new(3, 0);
        for _ in 0..200 {
            let (mut ledger, mut model, mut highest) = (Ledger::default(), HashSet::new(), None);
            let pair = ledger.open(1);
            for _ in 0..rng.next_u64() % 60 {
                let sequence = (rng.next_u64() % 40) as u32;
                let expected = match (model.insert(sequence), highest) {
                    (false, _) => Delivery::Duplicate,
                    (true, Some(highest)) if sequence < highest => Delivery::Late,
                    _ => Delivery::InOrder,
                };
                highest = highest.max(Some(sequence));
                assert_eq!(ledger.book(pair, sequence), expected);
            }
            let absent = |range: Range<u32>| range.filter(|s| !model.contains(s)).count() as u64;
            for range in [0..40, 10..20, 0..0, 35..60] {
                assert_eq!(ledger.missing(pair, range.clone()), absent(range));
            }
        }
    }
}
