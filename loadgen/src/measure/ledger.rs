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
    /// Sequences below `next` that are not expected and have not arrived, in the same form.
    excused: HashMap<u32, Vec<Range<u32>>>,
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
        let tail = self.next[pair as usize]..u32::MAX;
        let gaps = self.missing.get(&pair).into_iter().flatten();
        gaps.chain([&tail]).map(|gap| overlap(gap, &range)).sum()
    }

    /// What a pair has not had of the sequences below `end` is not expected, from its next one on.
    pub(crate) fn excuse(&mut self, pair: u32, end: u32) {
        let next = &mut self.next[pair as usize];
        if *next < end {
            self.excused.entry(pair).or_default().push(*next..end);
            *next = end;
        }
    }

    /// How many of the sequences in `range` were excused for `pair` and have not arrived.
    pub(crate) fn excused(&self, pair: u32, range: &Range<u32>) -> u64 {
        self.excused.get(&pair).map_or(0, |gaps| gaps.iter().map(|gap| overlap(gap, range)).sum())
    }

    /// How many sequences were excused and have not arrived, in all.
    pub(crate) fn excused_ever(&self) -> u64 {
        self.excused.values().flatten().map(|gap| u64::from(gap.end - gap.start)).sum()
    }

    /// The next sequence expected.
    pub(crate) fn next(&self, pair: u32) -> u32 {
        self.next[pair as usize]
    }

    #[cold]
    fn book_other(&mut self, pair: u32, sequence: u32) -> Delivery {
        let next = &mut self.next[pair as usize];
        if sequence > *next {
            self.missing.entry(pair).or_default().push(*next..sequence);
            *next = sequence + 1;
            return Delivery::InOrder;
        }
        if take(&mut self.missing, pair, sequence) {
            Delivery::Late
        } else if take(&mut self.excused, pair, sequence) {
            // It was under way while the subscriber was not there, or not yet: in its place, as far as one can tell.
            Delivery::InOrder
        } else {
            Delivery::Duplicate
        }
    }
}

/// Takes one sequence out of a pair's gaps; false: it is in none.
fn take(gaps_of_pair: &mut HashMap<u32, Vec<Range<u32>>>, pair: u32, sequence: u32) -> bool {
    let Some(gaps) = gaps_of_pair.get_mut(&pair) else { return false };
    let Some(at) = gaps.iter().position(|gap| gap.contains(&sequence)) else { return false };
    let gap = gaps[at].clone();
    let rest = [gap.start..sequence, sequence + 1..gap.end];
    gaps.splice(at..=at, rest.into_iter().filter(|piece| !piece.is_empty()));
    if gaps.is_empty() {
        gaps_of_pair.remove(&pair);
    }
    true
}

fn overlap(gap: &Range<u32>, range: &Range<u32>) -> u64 {
    u64::from(gap.end.min(range.end).saturating_sub(gap.start.max(range.start)))
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
    fn what_is_excused_is_not_missing_and_may_still_arrive() {
        let mut ledger = Ledger::default();
        let pair = ledger.open(1);
        assert_eq!([0, 2].map(|sequence| ledger.book(pair, sequence)), [Delivery::InOrder; 2]);
        ledger.excuse(pair, 7);
        ledger.excuse(pair, 5);
        assert_eq!((ledger.missing(pair, 0..10), ledger.excused(pair, &(0..10)), ledger.next(pair)), (4, 4, 7));
        use Delivery::{Duplicate, InOrder, Late};
        assert_eq!(
            [8, 5, 5, 1, 7].map(|sequence| ledger.book(pair, sequence)),
            [InOrder, InOrder, Duplicate, Late, Late]
        );
        assert_eq!((ledger.missing(pair, 0..10), ledger.excused(pair, &(4..10)), ledger.excused_ever()), (1, 2, 3));
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
