//! The configuration: typed, checked, and explained when it is wrong.
//!
//! In: defaults < preset < file < `PORT` (for `start`) < environment < flags. Out: a [`Config`] that keeps every rule, or a
//! [`ConfigError`] that names each problem with file, line, key and what is allowed. Each setting is defined once, in
//! `section!`, with its default, range and docstring; `config.yaml` is printed from there. Nothing in here
//! opens sockets or asks the machine what it can do.

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

use section::{Input, Section};
use setting::Key;

pub use endpoint::{EndpointConfig, Mode, SlowConsumer, TOPICS_MAX};
pub use error::{ConfigError, Place, Problem};
pub use preset::Preset;
pub use server::{
    Driver, LogConfig, LogFormat, LogLevel, MetricsConfig, SHARDS_MAX, ServerConfig, ShardCount, TlsConfig,
};
pub use sources::{Loaded, Origin, Overrides, Sources};

/// Everything that can be configured. The default is what `config.yaml` holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The listener, the shards and the limits of the whole server.
    pub server: ServerConfig,
    /// The admin port.
    pub metrics: MetricsConfig,
    /// What goes to stderr.
    pub log: LogConfig,
    /// At least one; no two of the same path.
    pub endpoints: Vec<EndpointConfig>,
}

impl Default for Config {
    fn default() -> Self {
        let endpoints =
            [("/", Mode::Relay), ("/rooms/{topic}", Mode::Relay), ("/chat", Mode::Chat), ("/echo", Mode::Echo)];
        Self {
            server: ServerConfig::default(),
            metrics: MetricsConfig::default(),
            log: LogConfig::default(),
            endpoints: endpoints.map(|(path, mode)| EndpointConfig::new(path, mode)).to_vec(),
        }
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

impl Section for Config {
    fn keys(&self) -> &'static [Key] {
        &[]
    }

    fn section_names(&self) -> &'static [&'static str] {
        &["server", "metrics", "log"]
    }

    fn section(&self, name: &str) -> Option<&dyn Section> {
        match name {
            "server" => Some(&self.server),
            "metrics" => Some(&self.metrics),
            "log" => Some(&self.log),
            _ => None,
        }
    }

    fn section_mut(&mut self, name: &str) -> Option<&mut dyn Section> {
        match name {
            "server" => Some(&mut self.server),
            "metrics" => Some(&mut self.metrics),
            "log" => Some(&mut self.log),
            _ => None,
        }
    }

    fn set(&mut self, key: &Key, _input: Input<'_>) -> Result<(), String> {
        unreachable!("{} is not a key: the root has sections only", key.name)
    }

    fn show(&self, key: &Key) -> String {
        unreachable!("{} is not a key: the root has sections only", key.name)
    }
}
