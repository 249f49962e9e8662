//! The model: what a second of work costs, fitted to measured runs.

use serde::Serialize;

use super::coalescing::Coalescing;
use super::{FITTED, Observation, PARTS, Shape, Work, least_squares};

/// CPU time below this share of a core is not worth fitting relatively, in us per second.
const CPU_US_FLOOR: f64 = 5_000.0;

/// Prices of what a server does, in us of CPU time; `idle` is per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct UnitCosts {
    pub(crate) idle: f64,
    pub(crate) wake: f64,
    pub(crate) message: f64,
    pub(crate) send: f64,
    pub(crate) frame: f64,
    pub(crate) byte: f64,
    /// Of the opening handshake, TCP's included.
    pub(crate) connect: f64,
}

/// Resident memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct MemoryCosts {
    /// Without a connection, and what any load adds.
    pub(crate) base: f64,
    pub(crate) connection: f64,
    pub(crate) topic: f64,
}

/// Everything that is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Model {
    pub(crate) cpu_us: UnitCosts,
    pub(crate) memory_bytes: MemoryCosts,
    pub(crate) coalescing: Coalescing,
}

impl Model {
    /// Fits to runs against a server of so many shards.
    pub(crate) fn fit(observations: &[Observation], shards: u32) -> Self {
        let cpu: Vec<_> = observations.iter().map(|o| (o.work.amounts(), o.cpu_us)).collect();
        let [idle, wake, message, send, frame, byte] = least_squares::fit_relative(&cpu, CPU_US_FLOOR);
        let connects: Vec<f64> = observations.iter().map(|o| o.connect_cpu_us).collect();
        let connect = least_squares::median(&connects);
        let cpu_us = UnitCosts { idle, wake, message, send, frame, byte, connect };
        let memory = observations
            .iter()
            .map(|o| ([1.0, o.shape.connections(), f64::from(o.shape.topics - 1)], o.rss_bytes as f64));
        let [base, connection, topic] = least_squares::fit_relative(&memory.collect::<Vec<_>>(), 1.0);
        let sending = observations.iter().filter(|o| o.work.sends > 0.0);
        let frames: Vec<_> = sending.map(|o| (o.shape, o.work.frames / o.work.sends)).collect();
        Self {
            cpu_us,
            memory_bytes: MemoryCosts { base, connection, topic },
            coalescing: Coalescing::fit(&frames, &cpu_us, shards),
        }
    }

    pub(crate) fn frames_per_send(&self, shape: &Shape, shards: u32) -> f64 {
        self.coalescing.frames_per_send(shape, &self.cpu_us, shards)
    }

    /// What a server of so many shards does in a second of a load.
    pub(crate) fn work(&self, shape: &Shape, shards: u32) -> Work {
        let frames = shape.deliveries();
        let sends = frames / self.frames_per_send(shape, shards);
        Work {
            wakes: sends / shape.connections_per_topic() * passes(shape, shards),
            messages: shape.rate,
            sends,
            frames,
            bytes: frames * shape.frame_bytes(),
        }
    }

    /// CPU time of a second of a load, by [`PARTS`], in us.
    pub(crate) fn parts_us(&self, shape: &Shape, shards: u32) -> [f64; PARTS.len()] {
        let [idle, wake, message, send, frame, byte] = self.work_us(&self.work(shape, shards));
        [idle, wake, message, send, frame, byte, self.cpu_us.connect * shape.connects]
    }

    /// CPU time of a second's work as it was counted, in us.
    pub(super) fn work_us(&self, work: &Work) -> [f64; FITTED] {
        let costs = &self.cpu_us;
        let prices = [costs.idle, costs.wake, costs.message, costs.send, costs.frame, costs.byte];
        let amounts = work.amounts();
        std::array::from_fn(|part| prices[part] * amounts[part])
    }

    /// CPU time of a load in cores.
    pub(crate) fn cores(&self, shape: &Shape, shards: u32) -> f64 {
        self.parts_us(shape, shards).iter().sum::<f64>() / 1e6
    }

    pub(crate) fn rss_bytes(&self, shape: &Shape) -> f64 {
        let costs = &self.memory_bytes;
        costs.base + costs.connection * shape.connections() + costs.topic * (f64::from(shape.topics) - 1.0)
    }
}

impl Work {
    /// From what the server has counted in a second, or what follows from the deliveries.
    pub(crate) fn counted(shape: &Shape, shards: u32, messages: f64, sends: f64, frames: f64, bytes: f64) -> Self {
        let wakes = sends / shape.connections_per_topic() * passes(shape, shards);
        Self { wakes, messages, sends, frames, bytes }
    }
}

/// Shards that make a pass for each message of a topic: those that have connections of it.
fn passes(shape: &Shape, shards: u32) -> f64 {
    f64::from(shards).min(shape.connections_per_topic()).max(1.0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rng::Rng;

    pub(crate) const TRUTH: Model = Model {
        cpu_us: UnitCosts { idle: 800.0, wake: 9.0, message: 2.0, send: 4.0, frame: 0.06, byte: 0.0004, connect: 60.0 },
        memory_bytes: MemoryCosts { base: 9e6, connection: 700.0, topic: 5_000.0 },
        coalescing: Coalescing { stretch: 1.0, hold_us: 2e3 },
    };

    pub(crate) fn shape(topics: u32, subscribers: u32, rate: f64, burst: u32, size: usize) -> Shape {
        Shape { topics, subscribers, publishers: topics, rate, burst, size, connects: 0.0 }
    }

    /// What a server with these costs shows, with relative noise of up to ±`noise`.
    pub(crate) fn observations(noise: f64, seed: u64) -> Vec<Observation> {
        let mut rng = Rng::new(seed, 1);
        let mut shapes = Vec::new();
        for (topics, subscribers, burst) in [(1, 1000, 1), (1, 250, 1), (1, 60, 1), (1, 1000, 16), (10, 1000, 1)] {
            for (rate, size) in [(50.0, 64), (200.0, 64), (500.0, 64), (100.0, 1024), (200.0, 256)] {
                shapes.push(shape(topics, subscribers, rate, burst, size));
            }
        }
        let observation = |shape: Shape| Observation {
            work: TRUTH.work(&shape, 1),
            cpu_us: TRUTH.cores(&shape, 1) * 1e6 * (1.0 + noise * (2.0 * rng.next_share() - 1.0)),
            connect_cpu_us: 60.0,
            rss_bytes_before: 8_000_000,
            rss_bytes: TRUTH.rss_bytes(&shape) as u64,
            verdict: "VALID".into(),
            shape,
        };
        shapes.into_iter().map(observation).collect()
    }

    #[test]
    fn costs_are_found_again_and_say_what_another_load_takes() {
        let model = Model::fit(&observations(0.0, 1), 1);
        let (found, truth) = (model.cpu_us, TRUTH.cpu_us);
        for (found, truth) in [(found.send, truth.send), (found.frame, truth.frame), (found.byte, truth.byte)] {
            assert!((found / truth - 1.0).abs() < 0.01, "{found} is not {truth}");
        }
        assert_eq!(model.coalescing, TRUTH.coalescing);
        assert!((model.memory_bytes.connection - 700.0).abs() < 1.0, "{:?}", model.memory_bytes);
        let other = shape(4, 700, 333.0, 1, 500);
        assert!((model.cores(&other, 2) / TRUTH.cores(&other, 2) - 1.0).abs() < 0.01);
        let coming = Shape { connects: 500.0, ..other };
        assert!((model.cores(&coming, 2) - model.cores(&other, 2) - 500.0 * 60e-6).abs() < 1e-9);
    }

    #[test]
    fn noise_of_a_tenth_leaves_a_plan_within_a_tenth() {
        for seed in 1..20 {
            let model = Model::fit(&observations(0.1, seed), 1);
            let other = shape(1, 700, 333.0, 1, 500);
            let error = model.cores(&other, 1) / TRUTH.cores(&other, 1) - 1.0;
            assert!(error.abs() < 0.1, "seed {seed}: {error}");
        }
    }
}
