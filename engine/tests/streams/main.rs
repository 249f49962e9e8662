//! Event targets and the state of connections, with the real Redis, RabbitMQ and NATS and a real HTTP server: what is
//! written, in which order, what happens when they break, and that the books balance all the while.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]
#![allow(clippy::disallowed_types, reason = "threads of a test share what they have seen under a lock")]

#[path = "../support/mod.rs"]
pub(crate) mod support;

mod amqp;
mod breaks;
mod brokers;
mod consumers;
mod heard;
mod load;
mod nats;
mod redis_streams;
mod state;
mod tls;
mod webhook;

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use engine::config::{Config, Driver, EndpointConfig, Mode};
use engine::server::Server;
use support::eventually;
use support::http::KeptAlive;
use tungstenite::{Message, WebSocket};

/// A gateway at `/connect` whose connections have two tags, one of which events show; and `/echo`.
fn config(driver: Driver, shards: u16) -> Config {
    let mut config = support::config(driver, shards);
    let mut gateway = EndpointConfig::new("/connect", Mode::Gateway);
    gateway.set_tags = [("group", "a b"), ("hidden", "x")].map(|(name, value)| (name.into(), value.into())).into();
    gateway.stream_include_tags = ["group", "user"].map(str::to_owned).to_vec();
    gateway.json_extract_vars = [("command".to_owned(), "do.what".to_owned())].into();
    config.endpoints = vec![gateway, EndpointConfig::new("/echo", Mode::Echo)];
    config
}

/// The books of one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Figures {
    accepted: u64,
    written: u64,
    dropped: u64,
    waiting: u64,
    up: bool,
}

/// A server whose events go to targets.
struct Stage(Server);

impl Stage {
    fn start(config: &Config) -> Self {
        Self(support::start(config))
    }

    fn connect(&self) -> WebSocket<TcpStream> {
        support::connect(self.0.address(), "/connect")
    }

    fn admin(&self) -> SocketAddr {
        self.0.admin_address().unwrap()
    }

    /// The value of a series, of one scrape or another.
    fn metric(&self, series: &str) -> u64 {
        metric(&scrape(self.admin()), series)
    }

    fn is_up(&self, target: &str) -> bool {
        self.metric(&format!("relay_event_target_up{{target=\"{target}\"}}")) == 1
    }

    /// The books of a target, of one scrape; they balance.
    fn figures(&self, target: &str) -> Figures {
        let scrape = scrape(self.admin());
        let one = |name: &str| metric(&scrape, &format!("{name}{{target=\"{target}\"}}"));
        let result =
            |result| metric(&scrape, &format!("relay_events_total{{target=\"{target}\",result=\"{result}\"}}"));
        let figures = Figures {
            accepted: one("relay_events_accepted_total"),
            written: result("written"),
            dropped: result("dropped"),
            waiting: one("relay_events_waiting"),
            up: one("relay_event_target_up") == 1,
        };
        assert_eq!(figures.accepted, figures.written + figures.dropped + figures.waiting, "{target}: {figures:?}");
        figures
    }

    /// Waits until a target has accepted so many events and holds none.
    fn settled(&self, target: &str, accepted: u64) -> Figures {
        eventually(&format!("{target} accepts {accepted} events and settles them"), || {
            let figures = self.figures(target);
            figures.accepted >= accepted && figures.waiting == 0
        });
        self.figures(target)
    }

    /// Asks a control route of the main port; the answer is a 200.
    fn control(&self, path: &str, body: &str) -> String {
        KeptAlive::dial(self.0.address()).post(path, body)
    }

    /// Ends the server in good order.
    fn end(self) {
        self.0.shutdown();
        self.0.wait();
    }
}

fn scrape(admin: SocketAddr) -> String {
    let (status, text) = support::process::get(admin, "/metrics");
    assert_eq!(status, 200);
    text
}

fn metric(scrape: &str, series: &str) -> u64 {
    let line = scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {scrape}")).parse::<f64>().unwrap() as u64
}

/// Sends texts, then closes and waits for the end.
fn send_and_close(mut client: WebSocket<TcpStream>, messages: impl IntoIterator<Item = Message>) {
    for message in messages {
        client.send(message).unwrap();
    }
    close(client);
}

/// Closes and waits for the end.
fn close(mut client: WebSocket<TcpStream>) {
    client.close(None).unwrap();
    while client.read().is_ok() {}
}

/// How long `condition` takes to hold.
fn time_until(what: &str, condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    eventually(what, condition);
    began.elapsed()
}
