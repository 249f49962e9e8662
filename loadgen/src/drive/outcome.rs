//! What one thread of the generator hands over when it is done.

use std::ops::Range;

use super::cuts::CutFigures;
use super::publishing::Figures;
use crate::measure::recorder::Recorder;
use crate::measure::tally::Tally;

/// What a thread has found out when it is done.
pub(super) struct Outcome {
    pub(super) tally: Tally,
    pub(super) figures: Figures,
    /// Measured sequences by publisher.
    pub(super) measured: Vec<(u32, Range<u32>)>,
    /// From the start of the TCP connect to the accepted upgrade.
    pub(super) handshake: Recorder,
    /// How long what was ready may have waited for its time stamp: the length of each turn while measuring.
    pub(super) turns: Recorder,
    pub(super) cuts: CutFigures,
    /// Share of the measured time in which this thread did not wait.
    pub(super) busy_share: f64,
}

impl Outcome {
    /// Adds what another thread of the same run has found out.
    pub(super) fn merge(&mut self, other: &mut Self) {
        self.tally.counts.add(&other.tally.counts);
        self.figures.add(&other.figures);
        self.tally.service().add(other.tally.service());
        self.tally.completion.add(&other.tally.completion);
        self.tally.spread.add(&other.tally.spread);
        self.handshake.add(&other.handshake);
        self.turns.add(&other.turns);
        self.cuts.add(&other.cuts);
        self.busy_share = self.busy_share.max(other.busy_share);
    }
}
