//! The meaning of what is relayed: topics and their logs. Nothing in here awaits.

pub mod segment;
