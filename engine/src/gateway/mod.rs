//! What shards and the control thread both know of gateway mode: connections by id and tag, selectors, events, orders.
//!
//! A shard keeps a [`registry::Registry`] of its gateway connections and carries out [`order::Order`]s; what its clients do
//! goes to the control thread as [`event::Event`]s. Nothing in here awaits or knows a socket.

pub(crate) mod event;
mod tags;

pub use tags::Tags;
