//! The meaning of what is relayed: topics, their logs, and who hears them. Nothing in here awaits, and nothing in here
//! knows a socket: it says which connection to queue, [`crate::net::send`] does.

mod fan_out;
pub(crate) mod home;
pub mod ledger;
pub(crate) mod members;
pub(crate) mod names;
mod policy;
mod publish;
pub mod segment;
pub(crate) mod subscribe;
pub(crate) mod topic;
pub(crate) mod topics;
pub(crate) mod view;
