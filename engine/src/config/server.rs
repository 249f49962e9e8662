//! The sections `server`, `metrics` and `log`, and the words in them.

use serde_yaml::Value;

use super::section::section;
use super::setting::{Key, Setting, describe, words};

/// Shards at most: the mesh has a ring for each ordered pair of them.
pub const SHARDS_MAX: u16 = 64;

section! {
    /// `server`: the listener, the shards and the limits of the whole server.
    pub struct ServerConfig {
        /// address to listen on; 0.0.0.0 is every IPv4 interface, "::" every IPv6 one too
        host: String = "0.0.0.0".to_owned(), check non_empty;
        /// TCP port; 0 lets the kernel choose one
        port: u16 = 8443, in 0..=65535;
        /// 1 to 64, a core for each; auto: the cores allowed by affinity and cgroup quota
        shards: ShardCount = ShardCount::Auto;
        /// cores to pin the shards to, in order; [] is every core allowed
        cpus: Vec<usize> = Vec::new(), in 0..=1023, check distinct;
        /// auto, io_uring or epoll; auto falls back to epoll where io_uring is forbidden
        driver: Driver = Driver::Auto;
        /// connections that wait for each shard's accept; net.core.somaxconn caps it
        backlog: u32 = 4096, in 1..=1048576;
        /// connections at a time; 0 is no limit; above it 503
        connections_max: u64 = 0, in 0..=1000000000;
        /// connections at a time from one address; 0 is no limit; above it 429
        connections_per_ip_max: u64 = 0, in 0..=1000000000;
        /// connections accepted per second; 0 is no limit; above it 429
        accepts_per_second_max: u64 = 0, in 0..=1000000000;
        /// ms from accept to the end of the opening handshake; 0 is no limit; then 408
        handshake_timeout_ms: u64 = 10000, in 0..=604800000;
        /// ms from SIGTERM to exit at the latest; what has not closed by then is cut
        shutdown_timeout_ms: u64 = 10000, in 1..=3600000;
        /// answer a plain GET / with the demo page
        demo_page: bool = true;
        sections:
            /// TLS by rustls, 1.2 and 1.3.
            tls: TlsConfig;
    }
}

section! {
    /// `server.tls`: the certificate.
    pub struct TlsConfig {
        /// serve wss and https instead of ws and http
        enabled: bool = false;
        /// PEM certificate chain, leaf first; read again on SIGHUP
        cert_file: String = "cert.pem".to_owned(), check non_empty;
        /// PEM private key of the leaf; read again on SIGHUP
        key_file: String = "key.pem".to_owned(), check non_empty;
    }
}

section! {
    /// `metrics`: the admin port.
    pub struct MetricsConfig {
        /// serve /metrics, /healthz and /readyz on the admin port
        enabled: bool = true;
        /// address of the admin port
        host: String = "0.0.0.0".to_owned(), check non_empty;
        /// TCP port of the admin port; 0 lets the kernel choose one
        port: u16 = 9090, in 0..=65535;
        /// bearer token asked of every route but those three; "" asks none
        token: String = String::new(), check token;
    }
}

section! {
    /// `log`: what goes to stderr.
    pub struct LogConfig {
        /// text, or json: one object per line
        format: LogFormat = LogFormat::Text;
        /// least level shown: error, warn, info, debug or trace
        level: LogLevel = LogLevel::Info;
        /// level at which each connect and disconnect is logged
        connections: LogLevel = LogLevel::Debug;
    }
}

words! {
    /// Which kernel interface carries the sockets.
    pub enum Driver {
        /// io_uring where it is allowed, else epoll.
        Auto = "auto",
        /// io_uring, or refuse to start.
        IoUring = "io_uring",
        /// epoll.
        Epoll = "epoll",
    }
}

words! {
    /// The shape of a log line.
    pub enum LogFormat {
        /// Timestamp, level, message.
        Text = "text",
        /// One JSON object.
        Json = "json",
    }
}

words! {
    /// How much a log line matters.
    pub enum LogLevel {
        /// Something failed for good.
        Error = "error",
        /// Something was refused or given up.
        Warn = "warn",
        /// What an operator wants to know.
        Info = "info",
        /// Each connection's coming and going.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

/// How many shards to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardCount {
    /// One per core that affinity and cgroup quota allow.
    Auto,
    /// That many, 1 to [`SHARDS_MAX`].
    Count(u16),
}

impl Setting for ShardCount {
    fn from_yaml(value: &Value, key: &Key) -> Result<Self, String> {
        let key = Key { range: Some((1, u64::from(SHARDS_MAX))), ..*key };
        match value {
            Value::String(word) if word == "auto" => Ok(Self::Auto),
            Value::Number(_) => u16::from_yaml(value, &key).map(Self::Count),
            _ => Err(format!("{} is not auto or a whole number from 1 to {SHARDS_MAX}", describe(value))),
        }
    }

    fn to_yaml(&self) -> String {
        self.to_string()
    }
}

impl std::fmt::Display for ShardCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

impl std::str::FromStr for ShardCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_text(text, &Key { name: "shards", doc: "", range: None, loose: false })
    }
}

pub(super) fn non_empty(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err("must not be empty".to_owned()) } else { Ok(()) }
}

fn distinct(cpus: &[usize]) -> Result<(), String> {
    match cpus.iter().enumerate().find(|(index, cpu)| cpus[..*index].contains(cpu)) {
        Some((_, cpu)) => Err(format!("core {cpu} is named twice")),
        None if cpus.len() > usize::from(SHARDS_MAX) => Err(format!("more than {SHARDS_MAX} cores")),
        None => Ok(()),
    }
}

/// RFC 6750 section 2.1: what fits into an Authorization header as a bearer token.
fn token(token: &str) -> Result<(), String> {
    match token.chars().find(|c| !c.is_ascii_graphic()) {
        Some(c) => {
            Err(format!("must be visible ASCII characters without spaces; {} is not", describe(&c.to_string().into())))
        }
        None => Ok(()),
    }
}
