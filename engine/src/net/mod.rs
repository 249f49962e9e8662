//! The socket: the port and its two kinds, and the connections that it drives.
//!
//! A byte's way in: port → [`receive`] (TLS, request head, frames) → the endpoint's mode. Its way out: outbox and log →
//! [`send`] → port. Nothing in here awaits, and nothing in here knows what a message means.

pub(crate) mod accept;
pub(crate) mod connection;
pub(crate) mod flush;
pub(crate) mod handshake;
pub(crate) mod http;
pub(crate) mod outbox;
pub(crate) mod page;
mod poll_port;
pub(crate) mod port;
pub(crate) mod queued;
pub(crate) mod receive;
pub(crate) mod request;
mod ring_port;
pub(crate) mod router;
pub(crate) mod send;
pub(crate) mod timers;
pub(crate) mod tls;
