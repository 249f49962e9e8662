//! What shards and the control thread both know of gateway mode: connections by id and tag, selectors, events, orders.
//!
//! A shard keeps a [`registry::Registry`] of its gateway connections and carries out [`order::Order`]s; what its clients do
//! goes to the control thread as [`event::Event`]s. Nothing in here awaits or knows a socket.

pub(crate) mod event;
pub(crate) mod handle;
mod hooks;
pub(crate) mod order;
pub(crate) mod registry;
mod selector;
mod tags;

pub use handle::{Answer, BadTag, Handle, Unanswered};
pub use hooks::{Connection, Hooks, Received};
pub use selector::Selector;
pub(crate) use selector::{Malformed, first_values};
pub use tags::Tags;

/// Paths of the control routes.
pub(crate) const CONTROL_PATHS: [&str; 6] = ["/send", "/settags", "/close", "/status", "/tree", "/metrics"];
