//! The presets: each makes ringrelay stand in for one of the servers that it replaces.

use super::endpoint::{EndpointConfig, Mode};
use super::server::LogLevel;
use super::setting::words;
use super::{Config, MetricsConfig, ServerConfig};

words! {
    /// A named set of defaults.
    pub enum Preset {
        /// A relay on port 8443, path `/`.
        Relay = "relay",
        /// A chat server on port 8080, path `/ws`.
        Chat = "chat",
        /// A test server that echoes, on port 3003, path `/ws`.
        Echo = "echo",
        /// A gateway to applications, on port 5000, path `/connect`.
        Gateway = "gateway",
    }
}

impl Preset {
    /// The whole configuration of the preset.
    #[must_use]
    pub fn config(self) -> Config {
        let mut config = Config::default();
        match self {
            Self::Relay => config.endpoints = vec![EndpointConfig::new("/", Mode::Relay)],
            Self::Chat => {
                config.server.port = 8080;
                config.endpoints = vec![EndpointConfig::new("/ws", Mode::Chat)];
            }
            Self::Echo => {
                config.server =
                    ServerConfig { port: 3003, shutdown_timeout_ms: 5000, demo_page: false, ..config.server };
                config.metrics = MetricsConfig { port: 9100, ..config.metrics };
                config.log.connections = LogLevel::Info;
                config.endpoints = vec![EndpointConfig::new("/ws", Mode::Echo)];
            }
            Self::Gateway => {
                config.server = ServerConfig { port: 5000, demo_page: false, ..config.server };
                config.endpoints = vec![EndpointConfig::new("/connect", Mode::Gateway)];
            }
        }
        config
    }
}
