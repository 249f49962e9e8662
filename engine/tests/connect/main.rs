//! `ringrelay connect` and `ringrelay start` as their users see them: through a pipe, through a terminal, beside a server
//! that is ours and one that is not.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod client;
mod failures;
mod host;
mod pipe;
mod reconnect;
mod start;
mod terminal;

use engine::config::{Config, EndpointConfig, Mode};

/// One chat at `/ws`, without a limit of messages.
fn chat() -> Config {
    let mut endpoint = EndpointConfig::new("/ws", Mode::Chat);
    endpoint.messages_per_second_max = 0;
    Config { endpoints: vec![endpoint], ..support::config(engine::config::Driver::Epoll, 1) }
}
