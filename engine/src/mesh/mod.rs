//! Between cores: the only place where two shards touch.
//!
//! A shard gives records to another through a [`ring`], says "this topic has news" in a [`bitmap`] and wakes it, if it
//! sleeps, by a [`notify`]. Nothing in here blocks, locks or knows what a record means.

pub mod bitmap;
pub mod notify;
pub mod ring;
