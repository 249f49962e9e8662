//! The control plane: everything that is not the data path, on one thread of its own.
//!
//! A shard never waits for anything in here, and nothing in here touches a client's socket. What shards count is read
//! from their [`Counters`](crate::counters::Counters), what they must answer is asked over the mesh. One tokio
//! current-thread runtime carries it all, driven by io_uring or by epoll; the code above is the same ([`runtime`]).

pub mod access;
pub mod admin;
mod bell;
mod books;
pub(crate) mod conductor;
mod gateway;
pub mod health;
pub mod http;
mod lingering;
pub mod metrics;
mod process_metrics;
pub mod runtime;
mod service_manager;
mod shard_metrics;
pub mod signals;
pub mod streams;
pub mod tls;
mod tls_error;
