//! One entry of `endpoints`: a path, its mode and the limits of the connections on it.

use std::collections::BTreeMap;

use super::section::{Section, section};
use super::setting::words;
use super::{pattern, template, wsgateway};

/// Topics of an endpoint at most: as many as a bitmap between two shards has bits.
pub const TOPICS_MAX: u64 = 262_144;

/// The keys that only chat endpoints have.
const CHAT_KEYS: [&str; 3] = ["username_chars_max", "message_chars_max", "messages_per_second_max"];

/// The keys that only gateway endpoints have.
const GATEWAY_KEYS: [&str; 3] = ["set_tags", "stream_include_tags", "json_extract_vars"];

section! {
    /// An endpoint: a configured path and its mode.
    pub struct EndpointConfig {
        /// path of the URL, without query; {name} stands for one non-empty segment
        path: String = "/".to_owned(), check pattern::check;
        /// relay, chat, echo or gateway
        mode: Mode = Mode::Relay;
        /// bytes of a message; above it Close 1009
        message_bytes_max: usize = 16777216, in 1..=1073741824;
        /// bytes of a frame's payload; above it Close 1009
        frame_bytes_max: usize = 16777216, in 125..=1073741824;
        /// ms without a message from the client until it is closed; 0 is never
        idle_timeout_ms: u64 = 0, in 0..=604800000;
        /// ms between pings to the client; 0 sends none
        ping_interval_ms: u64 = 54000, in 0..=604800000;
        /// ms without a sign of life until the client counts as gone; 0 is never
        pong_wait_ms: u64 = 60000, in 0..=604800000;
        /// ms that a write may make no progress; 0 is no limit
        write_timeout_ms: u64 = 10000, in 0..=604800000;
        /// ms to wait for the client's Close and end of stream until it is reset
        close_timeout_ms: u64 = 5000, in 1..=3600000;
        /// bytes of a topic's name, after percent-decoding; above it 400
        topic_name_bytes_max: usize = 255, in 1..=4096;
        /// topics at a time; above it 503
        topics_max: usize = 100000, in 1..=TOPICS_MAX;
        /// bytes that one topic keeps for its subscribers; at it publishers are paused
        topic_log_bytes_max: u64 = 67108864, in 65536..=17179869184;
        /// bytes that publishers may be ahead of the sends; beyond it they are paused
        publish_window_bytes: u64 = 262144, in 4096..=1073741824;
        /// bytes that a blocked subscriber may lag; one message always fits
        lag_bytes_max: u64 = 4194304, in 1..=17179869184;
        /// ms that a blocked subscriber's oldest unsent message may wait; 0 is no limit
        lag_age_max_ms: u64 = 10000, in 0..=2000000;
        /// ms without progress after which a lagging subscriber counts as stalled
        stall_ms: u64 = 100, in 1..=3600000;
        /// disconnect (Close 1013) or skip (go on with the newest message)
        slow_consumer: SlowConsumer = SlowConsumer::Disconnect;
        /// web pages that may connect: exact origins, "*" or same-origin; else 403
        allowed_origins: Vec<String> = vec!["*".to_owned()], check origins;
        /// WebSocket subprotocols offered, the server's favourite first
        subprotocols: Vec<String> = Vec::new(), check subprotocols;
        /// do not send a message back to its sender
        exclude_sender: bool = false;
        /// µs that a busy topic is held so that messages leave together, up to twice as long if a flush takes long; 0 is never
        flush_window_us: u64 = 2000, in 0..=1000000;
        /// characters of a user's name; above it 400
        username_chars_max: usize = 50, in 1..=1024;
        /// characters of a chat message; longer ones are dropped; 0 is no limit
        message_chars_max: usize = 500, in 0..=1073741824;
        /// messages of one user in any 1 s; more are dropped; 0 is no limit
        messages_per_second_max: u32 = 5, in 0..=1000000;
        /// tags that every connection has from its start; a tag cannot be called id
        set_tags: BTreeMap<String, String> = BTreeMap::new(), check tags, loose = true;
        /// tags that events carry, of those that the connection has
        stream_include_tags: Vec<String> = Vec::new(), loose = true;
        /// variables of {json.NAME}: name to path in the message (gjson syntax)
        json_extract_vars: BTreeMap<String, String> = BTreeMap::new(), check variables, loose = true;
    }
}

impl EndpointConfig {
    /// An endpoint with the defaults of its mode.
    #[must_use]
    pub fn new(path: &str, mode: Mode) -> Self {
        let defaults = Self { path: path.to_owned(), mode, ..Self::default() };
        match mode {
            Mode::Chat => Self { message_bytes_max: 512, ..defaults },
            Mode::Gateway => Self { message_bytes_max: 128 << 20, frame_bytes_max: 128 << 20, ..defaults },
            Mode::Relay | Mode::Echo => defaults,
        }
    }

    /// Whether a key means something in this endpoint's mode.
    #[must_use]
    pub(super) fn has(&self, key: &str) -> bool {
        mode_of(key).is_none_or(|mode| mode == self.mode)
    }

    /// The keys that differ from the defaults of the mode, with their values as YAML.
    pub(super) fn changed(&self) -> Vec<(&'static str, String)> {
        let defaults = Self::new(&self.path, self.mode);
        let changed = self.keys().iter().filter(|key| self.has(key.name) && self.show(key) != defaults.show(key));
        changed.map(|key| (key.name, self.show(key))).collect()
    }
}

/// The only mode that has this key; none if all have it.
pub(super) fn mode_of(key: &str) -> Option<Mode> {
    match key {
        key if CHAT_KEYS.contains(&key) => Some(Mode::Chat),
        key if GATEWAY_KEYS.contains(&key) => Some(Mode::Gateway),
        wsgateway::MAX_MESSAGE_SIZE_KB => Some(Mode::Gateway),
        _ => None,
    }
}

words! {
    /// What an endpoint does with a message.
    pub enum Mode {
        /// To every subscriber of the topic.
        Relay = "relay",
        /// To everybody, with the author's name, and with join and leave notices.
        Chat = "chat",
        /// Back to its sender.
        Echo = "echo",
        /// To an application behind an event stream.
        Gateway = "gateway",
    }
}

words! {
    /// What happens to a subscriber that lags too far behind.
    pub enum SlowConsumer {
        /// Close 1013.
        Disconnect = "disconnect",
        /// It goes on with the newest message; what it missed is counted.
        Skip = "skip",
    }
}

/// An origin is `*`, `same-origin`, or scheme and authority as browsers send them (RFC 6454 section 6.2).
fn origins(origins: &[String]) -> Result<(), String> {
    for origin in origins {
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        let exact = !authority.is_empty() && !authority.contains(['/', '?', '#', '*', '@']);
        if !exact && !matches!(origin.as_str(), "*" | "same-origin" | "null") {
            return Err(format!(
                "{origin:?} is no origin: allowed are *, same-origin, null and ones like https://example.org"
            ));
        }
    }
    Ok(())
}

/// `id` selects by connection and is no tag.
fn tags(tags: &BTreeMap<String, String>) -> Result<(), String> {
    match tags.keys().find(|name| name.is_empty() || *name == "id") {
        Some(name) => Err(format!("a tag cannot be called {name:?}")),
        None => Ok(()),
    }
}

fn variables(variables: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, path) in variables {
        if !template::json_name(name) {
            return Err(format!("{name:?} is no variable's name: letters, digits and _ only"));
        }
        if path.is_empty() {
            return Err(format!("{name} has no path; it is written like data.command"));
        }
    }
    Ok(())
}

/// RFC 6455 section 4.1: each a token of RFC 2616, all distinct.
fn subprotocols(names: &[String]) -> Result<(), String> {
    for (index, name) in names.iter().enumerate() {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            return Err(format!("{name:?} is no subprotocol: letters, digits and !#$%&'*+-.^_`|~ only"));
        }
        if names[..index].contains(name) {
            return Err(format!("{name:?} is named twice"));
        }
    }
    Ok(())
}
