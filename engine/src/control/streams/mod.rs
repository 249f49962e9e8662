//! Event targets: what happens to gateway connections goes to Redis, AMQP, NATS and webhooks.
//!
//! An event enters by [`Streams::accept`] and is one [`Record`](record) that all targets share. Each target has a bounded
//! [`feed`] and a task that [`drive`]s it: a batch is written, acknowledged and settled before the next. So order is kept
//! per connection, the books balance, and a target that is slow or absent fills its own buffer and nothing else. With
//! state sync, a connection's [`state`] is written before its `open` event is handed on, and removed after its `close`.
//!
//! All of it lives on the control thread, in tasks of its `LocalSet`; nothing in here blocks or knows a client's socket.

mod amqp;
mod availability;
mod drive;
mod encode;
mod extract;
mod feed;
mod figures;
pub(crate) mod log;
mod nats;
mod record;
mod redis;
mod redis_url;
pub mod stage;
mod state;
mod template;
mod webhook;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use prometheus::core::Collector;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout_at;
use uuid::Uuid;

use self::amqp::Amqp;
use self::availability::Availability;
use self::drive::{BATCH_EVENTS_MAX, drive};
use self::extract::Variables;
use self::feed::{Feed, Limits};
use self::figures::{Collected, Figures};
use self::nats::Nats;
use self::record::{Record, Source};
use self::redis::Redis;
use self::redis_url::RedisUrl;
use self::state::State;
use self::webhook::Webhook;
use crate::config::{
    Config, EndpointConfig, StreamAmqpConfig, StreamNatsConfig, StreamRedisConfig, StreamWebhookConfig,
};
use crate::gateway::Tags;
use crate::gateway::event::{Action, Event};
use crate::logging::redact;

/// Where events go, and where the state of the connections is kept, as the configuration has it.
#[derive(Debug)]
pub(crate) struct Targets {
    state: Option<RedisUrl>,
    redis: Option<Redis>,
    amqp: Option<Amqp>,
    nats: Option<Nats>,
    webhook: Option<Webhook>,
}

impl Targets {
    /// Reads the addresses of a configuration. Nothing is connected yet.
    ///
    /// # Errors
    /// When one cannot be read; the text names the key and shows no password.
    pub(crate) fn of(config: &Config) -> Result<Self, String> {
        let Config { connection_redis_sync: state, stream_redis: redis, stream_amqp: amqp, .. } = config;
        let Config { stream_nats: nats, stream_webhook: webhook, .. } = config;
        Ok(Self {
            state: target("connection_redis_sync.addr", &state.addr, || RedisUrl::parse(&state.addr))?,
            redis: target("stream_redis.addr", &redis.addr, || Redis::new(redis))?,
            amqp: target("stream_amqp.addr", &amqp.addr, || Amqp::new(amqp))?,
            nats: target("stream_nats.addr", &nats.addr, || Nats::new(nats))?,
            webhook: target("stream_webhook.url", &webhook.url, || Webhook::new(webhook))?,
        })
    }
}

/// All event targets, and the state of the connections.
pub(crate) struct Streams {
    /// By index of the endpoint.
    sources: Vec<Rc<Source>>,
    targets: Vec<Running>,
    state: Option<(State, JoinHandle<()>)>,
    figures: Vec<Arc<Figures>>,
}

/// A target at work.
struct Running {
    feed: Feed,
    task: JoinHandle<()>,
}

impl Streams {
    /// Begins to reach the targets; none must be there yet. To be called within a `LocalSet`.
    pub(crate) fn open(config: &Config, targets: Targets) -> Self {
        let sources = config.endpoints.iter().map(|endpoint| Rc::new(source(endpoint))).collect();
        let mut streams = Self { sources, targets: Vec::new(), state: None, figures: Vec::new() };
        if let Some(url) = targets.state {
            let figures = Figures::of_availability("state");
            streams.figures.push(Arc::clone(&figures));
            let state = State::new(Availability::new(figures, redact(&config.connection_redis_sync.addr)));
            streams.state = Some((state.clone(), spawn_local(state.keep(url))));
        }
        if let Some(target) = targets.redis {
            let StreamRedisConfig { addr, buffer_events_max, buffer_bytes_max, .. } = &config.stream_redis;
            let limits = Limits { events_max: *buffer_events_max, bytes_max: *buffer_bytes_max };
            streams.run("redis", addr, limits, |feed| spawn_local(drive(target, feed, BATCH_EVENTS_MAX)));
        }
        if let Some(target) = targets.amqp {
            let StreamAmqpConfig { addr, buffer_events_max, buffer_bytes_max, .. } = &config.stream_amqp;
            let limits = Limits { events_max: *buffer_events_max, bytes_max: *buffer_bytes_max };
            streams.run("amqp", addr, limits, |feed| spawn_local(drive(target, feed, BATCH_EVENTS_MAX)));
        }
        if let Some(target) = targets.nats {
            let StreamNatsConfig { addr, buffer_events_max, buffer_bytes_max, .. } = &config.stream_nats;
            let limits = Limits { events_max: *buffer_events_max, bytes_max: *buffer_bytes_max };
            streams.run("nats", addr, limits, |feed| spawn_local(drive(target, feed, BATCH_EVENTS_MAX)));
        }
        if let Some(target) = targets.webhook {
            let StreamWebhookConfig { url, buffer_events_max, buffer_bytes_max, .. } = &config.stream_webhook;
            let limits = Limits { events_max: *buffer_events_max, bytes_max: *buffer_bytes_max };
            streams.run("webhook", url, limits, |feed| spawn_local(webhook::drive(target, feed)));
        }
        streams
    }

    fn run(&mut self, name: &'static str, addr: &str, limits: Limits, spawn: impl FnOnce(Feed) -> JoinHandle<()>) {
        let figures = Figures::of_events(name);
        self.figures.push(Arc::clone(&figures));
        let feed = Feed::new(Availability::new(figures, redact(addr)), limits);
        let task = spawn(feed.clone());
        self.targets.push(Running { feed, task });
    }

    /// The figures of all targets, for the registry.
    pub(crate) fn collector(&self) -> Box<dyn Collector> {
        Box::new(Collected::new(self.figures.clone()))
    }

    /// Hands an event to every target: into its buffer, or dropped and counted. Never waits.
    ///
    /// # Panics
    /// If the event's endpoint is none of the configuration's.
    pub(crate) fn accept(&mut self, event: Event) {
        if self.targets.is_empty() && self.state.is_none() {
            return;
        }
        let source = &self.sources[usize::from(event.endpoint)];
        let (mut ticket, mut removal) = (None, None);
        if let Some((state, _)) = &self.state {
            match event.action {
                Action::Open { peer } => ticket = Some(state.opened(event.connection, peer, &event.tags)),
                Action::Close => removal = Some(state.closing(event.connection)),
                Action::Message { .. } => {}
            }
        }
        let record = Rc::new(Record::new(event, source, ticket, removal));
        self.targets.iter().for_each(|target| target.feed.offer(&record));
    }

    /// Brings the state of a connection up to date with its tags.
    pub(crate) fn tags_changed(&mut self, connection: Uuid, tags: &Tags) {
        if let Some((state, _)) = &self.state {
            state.tags_changed(connection, tags);
        }
    }

    /// Waits until everything accepted is acknowledged, the states are removed, and the targets are told goodbye. What
    /// is left at the deadline is dropped, counted and logged. Returns how many events that were, over all targets.
    pub(crate) async fn flush(self, deadline: Instant) -> usize {
        self.targets.iter().for_each(|target| target.feed.close());
        let mut dropped = 0;
        for Running { feed, mut task } in self.targets {
            if timeout_at(deadline.into(), &mut task).await.is_err() {
                task.abort();
                // Nothing but the abort.
                let _ = task.await;
            }
            let left = feed.forfeit();
            if left > 0 {
                tracing::warn!("{}: {left} events dropped at shutdown", feed.availability());
            }
            dropped += left;
        }
        if let Some((state, task)) = self.state {
            state.flush(task, deadline).await;
        }
        dropped
    }
}

fn source(endpoint: &EndpointConfig) -> Source {
    Source { include: endpoint.stream_include_tags.clone(), variables: Variables(endpoint.json_extract_vars.clone()) }
}

/// What `new` makes of a target's address, if it has one.
///
/// # Errors
/// What is wrong with it, and under which key.
fn target<T>(key: &str, addr: &str, new: impl FnOnce() -> Result<T, String>) -> Result<Option<T>, String> {
    if addr.is_empty() {
        return Ok(None);
    }
    new().map(Some).map_err(|reason| format!("{key}: {reason}"))
}
