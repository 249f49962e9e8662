//! The commands of the binary: what was typed, and what each does.

pub mod config;
