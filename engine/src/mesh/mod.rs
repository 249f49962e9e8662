//! Between cores: the only place where two shards touch.
//!
//! A shard gives records to another through a [`ring`], says "this topic has news" in a [`bitmap`] and wakes it, if it
//! sleeps, by a [`notify`]; [`node`] holds a node's ends of all of them. Nothing in here blocks or locks, and only
//! [`message`] knows what a record means.

pub mod bitmap;
pub(crate) mod message;
pub(crate) mod node;
pub mod notify;
pub mod ring;
