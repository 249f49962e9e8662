//! Faults on purpose: drop, repeat, reorder or corrupt one delivery in N, and count what was done.

use std::collections::HashMap;

use crate::cli::FaultArgs;
use crate::rng::Rng;
use crate::wire::frame;

/// Faults made so far, in deliveries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) dropped: u64,
    pub(crate) repeated: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupted: u64,
}

/// Decides about each delivery.
#[derive(Debug)]
pub(super) struct Faults {
    args: FaultArgs,
    rng: Rng,
    /// Frames held back until the next one of the same connection has been sent.
    held: HashMap<u32, Vec<u8>>,
    /// To who hears only, and to everybody in an echo.
    pub(super) made: Made,
    /// To who also publishes, in a fan-out: what loadgen does not account for.
    pub(super) made_to_publishers: Made,
}

impl Faults {
    pub(super) fn new(args: FaultArgs) -> Self {
        Self {
            args,
            rng: Rng::new(7, 7),
            held: HashMap::new(),
            made: Made::default(),
            made_to_publishers: Made::default(),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        let FaultArgs { drop_one_in, repeat_one_in, reorder_one_in, corrupt_one_in } = self.args;
        drop_one_in | repeat_one_in | reorder_one_in | corrupt_one_in != 0
    }

    /// Copies a turn's frames into one connection's outbox, each with its faults.
    pub(super) fn copy_turn(&mut self, slot: u32, is_publisher: bool, turn: &[u8], outbox: &mut Vec<u8>) {
        if is_publisher {
            std::mem::swap(&mut self.made, &mut self.made_to_publishers);
        }
        let mut at = 0;
        while let Ok(Some(header)) = frame::decode_header(&turn[at..], false) {
            let end = at + header.header_bytes + header.payload_bytes as usize;
            let start = outbox.len();
            outbox.extend_from_slice(&turn[at..end]);
            self.apply(slot, outbox, start);
            at = end;
        }
        if is_publisher {
            std::mem::swap(&mut self.made, &mut self.made_to_publishers);
        }
    }

    /// Applies at most one fault to the frame that `outbox` ends with, which begins at `start`.
    pub(super) fn apply(&mut self, slot: u32, outbox: &mut Vec<u8>, start: usize) {
        if !self.is_on() {
            return;
        }
        let held = self.held.remove(&slot);
        if self.strikes(self.args.drop_one_in) && held.is_none() {
            self.made.dropped += 1;
            outbox.truncate(start);
        } else if self.strikes(self.args.repeat_one_in) {
            self.made.repeated += 1;
            outbox.extend_from_within(start..);
        } else if self.strikes(self.args.corrupt_one_in) {
            self.made.corrupted += 1;
            let payload =
                start + frame::decode_header(&outbox[start..], false).ok().flatten().map_or(0, |h| h.header_bytes);
            let bit = self.rng.next_u64() as usize % ((outbox.len() - payload) * 8).max(1);
            if let Some(byte) = outbox.get_mut(payload + bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        } else if self.strikes(self.args.reorder_one_in) && held.is_none() {
            self.held.insert(slot, outbox.split_off(start));
        }
        if let Some(held) = held {
            self.made.reordered += 1;
            outbox.extend(held);
        }
    }

    /// Takes the frames that still wait for a next one, when none seems to come: they are late, not reordered.
    pub(super) fn take_held(&mut self) -> impl Iterator<Item = (u32, Vec<u8>)> {
        std::mem::take(&mut self.held).into_iter()
    }

    fn strikes(&mut self, one_in: u32) -> bool {
        one_in != 0 && self.rng.next_u64().is_multiple_of(u64::from(one_in))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(faults: &mut Faults, count: u8) -> Vec<u8> {
        let mut turn = Vec::new();
        (0..count).for_each(|i| frame::append_frame(&mut turn, frame::BINARY, &[i], None));
        let mut outbox = Vec::new();
        faults.copy_turn(3, false, &turn, &mut outbox);
        outbox.chunks(3).map(|frame| frame[2]).collect()
    }

    #[test]
    fn each_fault_does_what_it_says_and_is_counted() {
        let with = |set: fn(&mut FaultArgs)| {
            let mut args = FaultArgs::default();
            set(&mut args);
            Faults::new(args)
        };
        let mut drop = with(|a| a.drop_one_in = 1);
        assert_eq!((frames(&mut drop, 3), drop.made.dropped), (vec![], 3));
        drop.copy_turn(4, true, &[0x82, 0, 0x82, 0], &mut Vec::new());
        assert_eq!((drop.made.dropped, drop.made_to_publishers.dropped), (3, 2));
        let mut repeat = with(|a| a.repeat_one_in = 1);
        assert_eq!((frames(&mut repeat, 2), repeat.made.repeated), (vec![0, 0, 1, 1], 2));
        let mut reorder = with(|a| a.reorder_one_in = 1);
        assert_eq!((frames(&mut reorder, 4), reorder.made.reordered), (vec![1, 0, 3, 2], 2));
        let mut corrupt = with(|a| a.corrupt_one_in = 1);
        let corrupted = frames(&mut corrupt, 3);
        assert!((0..3).all(|i| (corrupted[i] ^ i as u8).count_ones() == 1) && corrupt.made.corrupted == 3);
        assert_eq!(frames(&mut with(|_| {}), 3), [0, 1, 2]);
    }
}
