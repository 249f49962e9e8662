//! Chat: names that are unique, notices that everybody hears in one order, and the limits of what is said.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod limits;
mod names;
mod presence;
mod talker;

use engine::config::{Config, Driver, EndpointConfig, Mode};

/// One chat at `/chat`, its settings changed.
fn chat(driver: Driver, shards: u16, change: impl FnOnce(&mut EndpointConfig)) -> Config {
    let mut endpoint = EndpointConfig::new("/chat", Mode::Chat);
    change(&mut endpoint);
    Config { endpoints: vec![endpoint], ..support::config(driver, shards) }
}
