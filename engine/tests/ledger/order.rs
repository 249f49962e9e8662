//! What arrived, compared: all subscribers of a topic hear one order, and what one of them misses is counted.

use std::collections::HashMap;

use engine::config::SlowConsumer;

use super::stage::{Seat, Stage};
use super::stamp::Stamp;
use super::support::crowd::End;

/// What all seats of a play heard together.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) messages: u64,
    /// Messages between the first and the end that a seat did not hear.
    pub(crate) missing: u64,
    /// Seats that ended by a reset, a cut or Close 1013.
    pub(crate) cut: usize,
}

impl Heard {
    /// Compares what each seat heard with what the reference of its topic did.
    pub(crate) fn of(stage: &Stage) -> Self {
        let topics = &stage.seats[..stage.play.topics];
        let orders: Vec<Order> = topics.iter().map(|reference| Order::new(&reference.run)).collect();
        for (topic, order) in orders.iter().enumerate() {
            order.check_publishers(stage.seats.iter().filter(|seat| usize::from(seat.topic) == topic));
        }
        let mut heard = Self::default();
        for (number, seat) in stage.seats.iter().enumerate() {
            let end = stage.crowd.end(number).expect("everybody was closed");
            let to_the_end = end == End::Closed(1001);
            heard.messages += seat.run.len() as u64;
            heard.cut += usize::from(!matches!(end, End::Closed(1000 | 1001)));
            let own = stage.play.exclude_sender.then_some(seat.publisher);
            let missing = orders[usize::from(seat.topic)].missing(&seat.run, own, to_the_end);
            if stage.play.policy == SlowConsumer::Disconnect {
                assert_eq!(missing, 0, "{:?} {number}, {end:?}: gaps", seat.manner);
            }
            heard.missing += missing;
        }
        heard
    }
}

/// The order of a topic, as its reference heard it.
pub(crate) struct Order<'a> {
    run: &'a [Option<Stamp>],
    positions: HashMap<Stamp, usize>,
}

impl<'a> Order<'a> {
    pub(crate) fn new(run: &'a [Option<Stamp>]) -> Self {
        let positions: HashMap<_, _> =
            run.iter().enumerate().filter_map(|(position, stamp)| stamp.map(|stamp| (stamp, position))).collect();
        let stamped = run.iter().flatten().count();
        assert_eq!(positions.len(), stamped, "the reference heard something twice");
        Self { run, positions }
    }

    /// Each publisher's messages are all there, in its order.
    pub(crate) fn check_publishers(&self, seats: impl Iterator<Item = &'a Seat>) {
        let mut empty = 0;
        for seat in seats {
            let mut last = None;
            for seq in 0..seat.published {
                let stamp = Stamp { topic: seat.topic, publisher: seat.publisher, seq };
                if stamp.size() == 0 {
                    empty += 1;
                    continue;
                }
                let position = self.positions.get(&stamp).copied();
                assert!(position.is_some() && position > last, "{stamp:?} is lost or out of order");
                last = position;
            }
        }
        assert_eq!(self.run.iter().filter(|stamp| stamp.is_none()).count(), empty);
    }

    /// How many messages are missing in a run, from its first to its last, or to the end of the topic.
    pub(crate) fn missing(&self, run: &[Option<Stamp>], own: Option<u16>, to_the_end: bool) -> u64 {
        let Some(first) = run.iter().position(Option::is_some) else { return 0 };
        let position = self.positions[&run[first].expect("it is no empty one")];
        let mut expected = position.checked_sub(first).expect("nothing is heard twice");
        let mut missing = 0;
        let is_own = |position: usize| self.run[position].is_some_and(|stamp| Some(stamp.publisher) == own);
        for stamp in run {
            loop {
                let next = self.run.get(expected).unwrap_or_else(|| panic!("{stamp:?} is out of order"));
                expected += 1;
                if next == stamp {
                    break;
                }
                missing += u64::from(!is_own(expected - 1));
            }
        }
        let rest = if to_the_end { expected..self.run.len() } else { 0..0 };
        missing + rest.filter(|position| !is_own(*position)).count() as u64
    }
}
