//! What a shard says about its connections, limited where clients could flood it.

use crate::counters::Ended;
use crate::logging::{self, RateLimited};
use crate::shard::Shard;

/// Lines per second of each kind.
const LINES_PER_SECOND: u32 = 5;

/// Failed accepts.
pub(crate) static ACCEPT: RateLimited = RateLimited::new("failed accepts", LINES_PER_SECOND);
/// Refused connections and handshakes.
pub(crate) static REFUSED: RateLimited = RateLimited::new("refused connections", LINES_PER_SECOND);
/// Connections that we end, for what the other side did or left undone.
pub(crate) static CLOSED: RateLimited = RateLimited::new("closed connections", LINES_PER_SECOND);
/// Slow consumers.
pub(crate) static SLOW: RateLimited = RateLimited::new("slow consumers", LINES_PER_SECOND);
/// Messages that chat does not take.
pub(crate) static CHAT: RateLimited = RateLimited::new("dropped chat messages", LINES_PER_SECOND);
/// TLS failures.
pub(crate) static TLS: RateLimited = RateLimited::new("TLS failures", LINES_PER_SECOND);

/// Says how many lines were left out, if any were.
pub(crate) fn report_suppressed() {
    [&ACCEPT, &REFUSED, &CLOSED, &SLOW, &CHAT, &TLS].into_iter().for_each(RateLimited::report);
}

/// A warning, unless there are too many of its kind.
pub(crate) fn warn(kind: &RateLimited, text: impl FnOnce() -> String) {
    if kind.admit() {
        tracing::warn!("{}", text());
    }
}

impl Shard {
    pub(crate) fn log_open(&self, slot: u32) {
        self.log_connection(|| format!("WebSocket connected: {}", self.connections.at(slot).peer_address()));
    }

    pub(crate) fn log_end(&self, slot: u32, reason: Ended) {
        self.log_connection(|| {
            let peer = self.connections.at(slot).peer_address();
            if reason == Ended::Client {
                format!("WebSocket disconnected: {peer}")
            } else {
                format!("WebSocket disconnected: {peer} ({reason})")
            }
        });
    }

    /// Why we end a connection that the client would have kept.
    pub(crate) fn log_closing(&self, slot: u32, text: &str) {
        warn(&CLOSED, || format!("closed {}: {text}", self.connections.at(slot).peer_address()));
    }

    fn log_connection(&self, text: impl FnOnce() -> String) {
        let at = logging::level(self.config.log.connections);
        if at > self.log_level {
            return;
        }
        match at {
            tracing::Level::ERROR => tracing::error!("{}", text()),
            tracing::Level::WARN => tracing::warn!("{}", text()),
            tracing::Level::INFO => tracing::info!("{}", text()),
            tracing::Level::DEBUG => tracing::debug!("{}", text()),
            tracing::Level::TRACE => tracing::trace!("{}", text()),
        }
    }
}
