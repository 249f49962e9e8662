//! Gateway mode: connections with ids and tags, control routes on both ports, events for the hooks.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod events;
mod http;
mod selectors;
mod slow;

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use engine::config::{Config, Driver, EndpointConfig, Mode};
use engine::gateway::{Connection, Handle, Hooks, Received};
use engine::server::Server;
use support::http::KeptAlive;
use tungstenite::WebSocket;

/// A gateway at `/connect` whose connections begin with `foo=bar` and `version=2`.
fn config(driver: Driver, shards: u16) -> Config {
    let mut config = support::config(driver, shards);
    let mut endpoint = EndpointConfig::new("/connect", Mode::Gateway);
    endpoint.set_tags = [("foo", "bar"), ("version", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    config.endpoints = vec![endpoint];
    config
}

/// What happened, as a line: `open ID foo=bar`, `text ID hello`, `binary ID [0, 1]`, `close ID foo=bar`.
struct Recorder {
    lines: Sender<String>,
    handle: Sender<Handle>,
}

impl Hooks for Recorder {
    fn start(&mut self, handle: Handle) {
        self.handle.send(handle).unwrap();
    }

    fn open(&mut self, connection: &Connection<'_>) {
        assert!(connection.peer.is_some_and(|peer| peer.ip().is_loopback()));
        self.tell("open", connection, &tags(connection));
    }

    fn message(&mut self, connection: &Connection<'_>, message: &Received) {
        match message {
            Received::Text(text) => self.tell("text", connection, std::str::from_utf8(text).unwrap()),
            Received::Binary(body) => self.tell("binary", connection, &format!("{body:?}")),
        }
    }

    fn close(&mut self, connection: &Connection<'_>) {
        self.tell("close", connection, &tags(connection));
    }
}

impl Recorder {
    fn tell(&self, what: &str, connection: &Connection<'_>, text: &str) {
        assert_eq!(connection.path, "/connect");
        // A test that has seen enough listens no more.
        let _ = self.lines.send(format!("{what} {} {text}", connection.id));
    }
}

fn tags(connection: &Connection<'_>) -> String {
    connection.tags.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// A server whose events are recorded.
struct Gateway {
    server: Server,
    handle: Handle,
    events: Receiver<String>,
}

impl Gateway {
    fn start(config: &Config) -> Self {
        support::seccomp::obey();
        let (lines, events) = channel();
        let (give, handle) = channel();
        let server = Server::start_with_hooks(config, Recorder { lines, handle: give }).unwrap();
        Self { server, handle: handle.recv().unwrap(), events }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// A connection and its id.
    fn connect(&self) -> (WebSocket<TcpStream>, String) {
        let client = support::connect(self.address(), "/connect");
        let event = self.event();
        let id = event.strip_prefix("open ").and_then(|rest| rest.split(' ').next()).expect("it is opened next");
        (client, id.to_owned())
    }

    fn event(&self) -> String {
        self.events.recv_timeout(support::PATIENCE).expect("an event comes")
    }

    fn control(&self) -> KeptAlive {
        KeptAlive::dial(self.address())
    }
}
