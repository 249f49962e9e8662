//! The control thread's part in the gateway: events go to the hooks and the event streams; the control routes act on
//! connections.

mod main_port;
mod routes;
mod wsgateway_metrics;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;

use super::conductor::{Command, Conductor};
use super::metrics::Metrics;
use super::streams::Streams;
use crate::config::Config;
use crate::gateway::event::{Action, Event};
use crate::gateway::{Connection, Handle, Hooks, Received, Tags};
use crate::mesh::message::Message;
use crate::mesh::node::Node;
use crate::mesh::ring::Popped;
use crate::net::request::PlainRequest;
use routes::{control_routes, main_port_routes};
use wsgateway_metrics::WsgatewayMetrics;

/// Records of each shard that are taken in at a time, before other tasks have their turn.
const RECORDS_AT_A_TIME: usize = 256;

/// Where what the shards say is taken in.
pub(crate) struct Desk {
    applications: Applications,
    commands: UnboundedSender<Command>,
    /// Without `/metrics`, and with what the main port has; `None` without a gateway.
    routes: Option<(Router, Router)>,
}

impl Desk {
    pub(crate) fn new(conductor: &mut Conductor, metrics: &Metrics, handle: Handle) -> Self {
        let config = Arc::clone(&conductor.config);
        let routes = config.has_gateway().then(|| {
            let control = control_routes(handle, config.control_body_bytes_max);
            let metrics = (metrics.clone(), WsgatewayMetrics::new(conductor.counters.clone()));
            (control.clone(), main_port_routes(control, config.prometheus.enabled.then_some(metrics)))
        });
        let streams = Streams::open(&config, conductor.targets.take().expect("there is one desk"));
        metrics.register(streams.collector()).expect("the metrics of event targets have names of their own");
        let applications = Applications { config, hooks: conductor.hooks.take(), streams };
        Self { applications, commands: conductor.commands.clone(), routes }
    }

    /// The routes for the admin port.
    pub(crate) fn control_routes(&self) -> Option<Router> {
        self.routes.as_ref().map(|(control, _)| control.clone())
    }

    /// Takes in what the shards have sent; gives way to other tasks after a bounded amount. True if some is left.
    pub(crate) async fn take_in(&mut self, node: &mut Node) -> bool {
        node.retry();
        let mut inbox = node.take_inbox();
        let left = inbox.drain(RECORDS_AT_A_TIME, |_, record| {
            let Popped::Boxed(message) = record else { unreachable!("publishes go to shards") };
            match *message {
                Message::Event(event) => self.applications.on_event(event),
                Message::Tagged(connection, tags) => self.applications.on_tagged(connection, &tags),
                Message::Request(request) => self.on_request(*request),
                _ => unreachable!("the rest is for shards"),
            }
            true
        });
        node.put_inbox(inbox);
        node.wake_peers();
        if left {
            tokio::task::yield_now().await;
        }
        left
    }

    fn on_request(&self, request: PlainRequest) {
        let Some((_, routes)) = &self.routes else { return };
        let (routes, commands) = (routes.clone(), self.commands.clone());
        tokio::spawn(async move {
            let (shard, connection) = (request.shard, request.connection);
            let (bytes, close) = main_port::answer(routes, request).await;
            // Failure: the server has shut down meanwhile, and the shard with it.
            let _ = commands.send(Command::Answer { shard, connection, bytes, close });
        });
    }

    /// No more events come: what waits is written, until the deadline.
    pub(crate) async fn finish(self, deadline: Instant) {
        self.applications.finish(deadline).await;
    }
}

/// Everybody who hears of events.
struct Applications {
    config: Arc<Config>,
    hooks: Option<Box<dyn Hooks>>,
    streams: Streams,
}

impl Applications {
    /// Something happened to a connection.
    fn on_event(&mut self, event: Event) {
        if let Some(hooks) = &mut self.hooks {
            let mut connection = Connection {
                id: event.connection,
                tags: &event.tags,
                path: &self.config.endpoints[usize::from(event.endpoint)].path,
                peer: None,
            };
            match &event.action {
                Action::Open { peer } => {
                    connection.peer = Some(*peer);
                    hooks.open(&connection);
                }
                Action::Message { opcode: proto::Opcode::Binary, body } => {
                    hooks.message(&connection, &Received::Binary(body.clone()));
                }
                Action::Message { body, .. } => hooks.message(&connection, &Received::Text(body.clone())),
                Action::Close => hooks.close(&connection),
            }
        }
        self.streams.accept(event);
    }

    /// The tags of a connection were changed.
    fn on_tagged(&mut self, connection: Uuid, tags: &Tags) {
        self.streams.tags_changed(connection, tags);
    }

    /// No more events come: writes what waits, until the deadline.
    async fn finish(self, deadline: Instant) {
        self.streams.flush(deadline).await;
    }
}
