//! Turns: loads that share the machine by slices of time, one at a time, in an order drawn anew for every round. What
//! disturbs the machine for longer than a slice then disturbs all of them alike.

use std::sync::Arc;

use crate::rng::Rng;

/// Who comes when.
#[derive(Debug)]
pub(crate) struct Turns {
    pub(crate) slice_ns: u64,
    /// Per round, the sides in the order in which they have their slices.
    orders: Vec<Vec<usize>>,
}

/// One side's part.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) turns: Arc<Turns>,
    pub(crate) side: usize,
}

impl Turns {
    /// So many rounds of `sides` slices.
    pub(crate) fn new(slice_ns: u64, sides: usize, rounds: u64, seed: u64) -> Self {
        Self { slice_ns, orders: orders(rounds as usize, sides, seed) }
    }

    pub(crate) fn rounds(&self) -> u64 {
        self.orders.len() as u64
    }

    /// The slices up to a round.
    pub(crate) fn slices(&self, rounds: u64) -> u64 {
        rounds * self.orders.first().map_or(1, Vec::len) as u64
    }

    /// Which of all slices is the one of `side` in `round`; `None` after the last round.
    pub(crate) fn slice(&self, round: u64, side: usize) -> Option<u64> {
        let place = self.orders.get(round as usize)?.iter().position(|other| *other == side)?;
        Some(self.slices(round) + place as u64)
    }
}

impl Turn {
    /// When the side's own clock, which runs in its slices only, shows `own_ns`: in ns after the first slice began;
    /// `u64::MAX`: never.
    pub(crate) fn wall_ns(&self, own_ns: u64) -> u64 {
        let (round, within_ns) = (own_ns / self.turns.slice_ns, own_ns % self.turns.slice_ns);
        self.turns.slice(round, self.side).map_or(u64::MAX, |slice| slice * self.turns.slice_ns + within_ns)
    }
}

/// For each of `rounds` the order of the sides: each possible one as often as the others, in random sequence.
pub(crate) fn orders(rounds: usize, sides: usize, seed: u64) -> Vec<Vec<usize>> {
    let all: &[&[usize]] = match sides {
        2 => &[&[0, 1], &[1, 0]],
        3 => &[&[0, 1, 2], &[1, 2, 0], &[2, 0, 1], &[0, 2, 1], &[1, 0, 2], &[2, 1, 0]],
        _ => panic!("two sides are compared, or three with a canary"),
    };
    let mut orders: Vec<Vec<usize>> = all.iter().cycle().take(rounds).map(|order| order.to_vec()).collect();
    let mut rng = Rng::new(seed, 0xAB);
    for at in (1..rounds).rev() {
        orders.swap(at, rng.next_u64() as usize % (at + 1));
    }
    orders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_balanced_and_differ_by_seed() {
        for rounds in [7, 10] {
            let orders = orders(rounds, 2, 3);
            assert_eq!(orders.iter().filter(|order| order[0] == 0).count(), rounds.div_ceil(2));
        }
        assert!((0..10).any(|seed| orders(10, 2, seed) != orders(10, 2, 77)));
    }

    #[test]
    fn each_of_three_sides_is_as_often_first_second_and_last() {
        let orders = orders(12, 3, 5);
        for side in 0..3 {
            for place in 0..3 {
                assert_eq!(orders.iter().filter(|order| order[place] == side).count(), 4);
            }
        }
    }

    #[test]
    fn every_moment_belongs_to_one_side() {
        for sides in [2, 3] {
            let turns = Arc::new(Turns::new(50, sides, 12, 9));
            let side = |side| Turn { turns: turns.clone(), side };
            let mut walls: Vec<u64> = (0..sides)
                .flat_map(|n| (0..12 * 50).map(move |own| (n, own)))
                .map(|(n, own)| side(n).wall_ns(own))
                .collect();
            walls.sort_unstable();
            assert_eq!(walls, (0..turns.slices(12) * 50).collect::<Vec<_>>());
            assert_eq!((side(0).wall_ns(12 * 50), turns.rounds()), (u64::MAX, 12));
        }
    }
}
