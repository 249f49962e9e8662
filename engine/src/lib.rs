//! The ringrelay engine: one monoio runtime per core, from socket to fan-out.

pub mod commands;
pub mod config;
pub mod control;
pub mod counters;
pub mod logging;
pub mod mesh;
pub mod relay;
mod sync;
pub mod sys;
