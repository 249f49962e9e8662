//! The ringrelay engine: one monoio runtime per core, from socket to fan-out.

mod admission;
pub mod commands;
pub mod config;
pub mod control;
pub mod counters;
pub mod gateway;
pub mod logging;
pub mod mesh;
mod modes;
mod net;
pub mod relay;
pub mod server;
mod shard;
mod sync;
pub mod sys;

pub use shard::stage;
