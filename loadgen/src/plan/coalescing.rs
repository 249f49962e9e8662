//! How many frames share a send.
//!
//! A topic's messages that arrive during a pass over its connections, or are held for a while after one, leave together
//! in the next: frames per send = rate · (stretch · CPU time of a pass + hold), and never less than one, or than what is
//! published at once. Both are fitted. A pass lasts longer than its CPU time where the core has other things to do as
//! well (stretch above 1); a server that does not coalesce has neither stretch nor hold; one that holds a busy topic has
//! its flush window as hold.

use serde::Serialize;

use super::Shape;
use super::model::UnitCosts;

/// Above this no more can be gained.
const FRAMES_MAX: f64 = 1024.0;

/// Holds that are tried, in us.
const HOLDS_US: [f64; 15] = [0.0, 100.0, 200.0, 350.0, 500.0, 750.0, 1e3, 1.5e3, 2e3, 3e3, 4e3, 6e3, 8e3, 12e3, 20e3];

/// Stretches that are tried.
const STRETCHES: [f64; 16] = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 14.0, 20.0];

/// The fitted model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Coalescing {
    pub(crate) stretch: f64,
    pub(crate) hold_us: f64,
}

impl Coalescing {
    /// Fits to (shape, measured frames per send) of runs on so many shards.
    pub(super) fn fit(measured: &[(Shape, f64)], costs: &UnitCosts, shards: u32) -> Self {
        let candidates = STRETCHES.into_iter().flat_map(|stretch| HOLDS_US.map(|hold_us| Self { stretch, hold_us }));
        let badness = |candidate: &Self| -> f64 {
            let error = |(shape, frames): &(Shape, f64)| {
                (candidate.frames_per_send(shape, costs, shards) / frames.max(1.0)).ln().abs()
            };
            measured.iter().map(error).sum()
        };
        let best = candidates.map(|candidate| (badness(&candidate), candidate));
        best.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(Self { stretch: 0.0, hold_us: 0.0 }, |(_, candidate)| candidate)
    }

    /// Frames per send when a load is spread over so many shards.
    pub(super) fn frames_per_send(&self, shape: &Shape, costs: &UnitCosts, shards: u32) -> f64 {
        if self.stretch == 0.0 && self.hold_us == 0.0 {
            return 1.0;
        }
        let burst = f64::from(shape.burst);
        let here = (shape.connections_per_topic() / f64::from(shards)).max(1.0);
        let rate_us = shape.rate / f64::from(shape.topics) / 1e6;
        // A pass grows with the frames in it: frames = rate · (sends + frames · price + hold).
        let sends_us = self.stretch * here * costs.send;
        let frame_us = self.stretch * here * (costs.frame + costs.byte * shape.frame_bytes());
        let left = 1.0 - rate_us * frame_us;
        let frames = if left > 0.0 { rate_us * (sends_us + self.hold_us) / left } else { FRAMES_MAX };
        frames.clamp(burst.max(1.0), FRAMES_MAX.max(burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: UnitCosts =
        UnitCosts { idle: 0.0, wake: 5.0, message: 1.0, send: 4.0, frame: 0.05, byte: 0.0002, connect: 0.0 };

    fn shape(subscribers: u32, rate: f64) -> Shape {
        Shape { topics: 1, subscribers, publishers: 1, rate, burst: 1, size: 64, connects: 0.0 }
    }

    #[test]
    fn stretch_and_hold_are_found_again() {
        let truth = Coalescing { stretch: 1.0, hold_us: 2e3 };
        let shapes = [(1000, 50.0), (1000, 500.0), (250, 1000.0), (250, 250.0), (100, 2000.0)];
        let measured: Vec<_> = shapes
            .map(|(subscribers, rate)| {
                let shape = shape(subscribers, rate);
                (shape, truth.frames_per_send(&shape, &COSTS, 1))
            })
            .to_vec();
        assert_eq!(Coalescing::fit(&measured, &COSTS, 1), truth);
        let alone: Vec<_> = measured.iter().map(|(shape, _)| (*shape, 1.0)).collect();
        assert_eq!(Coalescing::fit(&alone, &COSTS, 1).frames_per_send(&shape(1000, 500.0), &COSTS, 1), 1.0);
    }

    #[test]
    fn more_load_means_more_frames_and_more_shards_mean_fewer() {
        let coalescing = Coalescing { stretch: 1.0, hold_us: 2e3 };
        let frames = |rate: f64, shards: u32| coalescing.frames_per_send(&shape(1000, rate), &COSTS, shards);
        assert!(frames(10.0, 1) == 1.0 && frames(500.0, 1) > 2.9 && frames(500.0, 1) < 3.2);
        assert!(frames(2000.0, 1) > frames(500.0, 1) && frames(500.0, 4) < frames(500.0, 1));
        assert_eq!(frames(1e6, 1), FRAMES_MAX);
        let burst = Shape { burst: 16, ..shape(10, 1.0) };
        assert_eq!(coalescing.frames_per_send(&burst, &COSTS, 1), 16.0);
    }
}
