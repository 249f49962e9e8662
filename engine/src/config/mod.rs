//! The configuration: typed, checked, and explained when it is wrong.
//!
//! In: defaults < preset < file < `PORT` (for `start`) < environment < flags. Out: a [`Config`] that keeps every rule, or a
//! [`ConfigError`] that names each problem with file, line, key and what is allowed. Each setting is defined once, in
//! `section!`, with its default, range and docstring; `config.yaml` is printed from there. Nothing in here
//! opens sockets or asks the machine what it can do.

mod address;
mod document;
mod emit;
mod endpoint;
mod environment;
mod error;
pub mod pattern;
mod preset;
mod read;
mod rules;
mod section;
mod server;
mod setting;
mod sources;
mod streams;
pub mod template;
mod wsgateway;

use crate::control::access::Network;
use section::section;
use template::Template;

pub use endpoint::{EndpointConfig, Mode, SlowConsumer, TOPICS_MAX};
pub use error::{ConfigError, Place, Problem};
pub use preset::Preset;
pub use server::{
    Driver, LogConfig, LogFormat, LogLevel, MetricsConfig, SHARDS_MAX, ServerConfig, ShardCount, TlsConfig,
};
pub use sources::{Loaded, Origin, Overrides, Sources};
pub use streams::{
    ConnectionRedisSyncConfig, PrometheusConfig, StreamAmqpConfig, StreamNatsConfig, StreamRedisConfig,
    StreamWebhookConfig,
};

section! {
    /// Everything that can be configured. The default is what `config.yaml` holds.
    pub struct Config {
        /// networks that may use the control routes (/send, /close, …); others get 403
        internal_endpoint_access_whitelist: Vec<String> =
            ["127.0.0.1/8", "::1/128"].map(str::to_owned).to_vec(), check networks, loose = true;
        /// bytes of a control request's body; above it 413
        control_body_bytes_max: usize = 8388608, in 1..=1073741824;
        sections:
            /// The listener, the shards and the limits of the whole server.
            server: ServerConfig;
            /// The admin port.
            metrics: MetricsConfig;
            /// What goes to stderr.
            log: LogConfig;
            /// The metrics among the control routes.
            prometheus: PrometheusConfig;
            /// The connections' state in Redis.
            connection_redis_sync: ConnectionRedisSyncConfig;
            /// Events into a Redis stream.
            stream_redis: StreamRedisConfig;
            /// Events to an AMQP broker.
            stream_amqp: StreamAmqpConfig;
            /// Events to NATS.
            stream_nats: StreamNatsConfig;
            /// Events by HTTP POST.
            stream_webhook: StreamWebhookConfig;
        others:
            /// At least one; no two of the same path.
            endpoints: Vec<EndpointConfig> = default_endpoints();
    }
}

impl Config {
    /// The whole as YAML that reads back as the same configuration: every key, no comments.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        emit::plain(self)
    }

    /// The whole as YAML under a title, every key with its unit and reason; what `config.yaml` holds.
    #[must_use]
    pub fn to_commented_yaml(&self, title: &str) -> String {
        emit::commented(self, title)
    }

    /// What is accepted and has no effect, a line each, for `check` and the start of the log.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let names = [
            ("stream_redis.stream_name", &self.stream_redis.stream_name),
            ("stream_amqp.routing_key", &self.stream_amqp.routing_key),
            ("stream_nats.subject", &self.stream_nats.subject),
        ];
        let mut warnings = Vec::new();
        for (key, text) in names {
            for name in Template::parse(text).iter().flat_map(Template::unknown) {
                warnings.push(format!("{key}: {{{name}}} is neither tag.NAME nor json.NAME and always its default"));
            }
        }
        if self.stream_amqp.headers != StreamAmqpConfig::default().headers {
            warnings.push("stream_amqp.headers has no effect".to_owned());
        }
        warnings
    }

    /// Whether there is an endpoint of mode gateway.
    #[must_use]
    pub fn has_gateway(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.mode == Mode::Gateway)
    }

    /// One line per endpoint for the start of the log: path, mode and whatever is not the mode's default.
    #[must_use]
    pub fn endpoint_lines(&self) -> Vec<String> {
        let line = |endpoint: &EndpointConfig| {
            let changed: String = endpoint.changed().iter().map(|(key, value)| format!(" {key}={value}")).collect();
            format!("Endpoint {} mode={}{changed}", endpoint.path, endpoint.mode)
        };
        self.endpoints.iter().map(line).collect()
    }
}

fn default_endpoints() -> Vec<EndpointConfig> {
    let endpoints = [("/", Mode::Relay), ("/rooms/{topic}", Mode::Relay), ("/chat", Mode::Chat), ("/echo", Mode::Echo)];
    endpoints.map(|(path, mode)| EndpointConfig::new(path, mode)).to_vec()
}

fn networks(networks: &[String]) -> Result<(), String> {
    networks.iter().try_for_each(|network| network.parse::<Network>().map(drop))
}
