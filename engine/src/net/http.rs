//! Answers to requests that do not become WebSockets: refusals, and the demo page.

use std::fmt::Write as _;

use proto::handshake::Head;

use crate::counters::{Ended, Refused};
use crate::net::connection::Phase;
use crate::net::page::page;
use crate::shard::{Shard, log};

/// Lets the page do what it does and nothing else; it loads nothing.
const DEMO_HEADERS: &str = "Content-Type: text/html; charset=utf-8\r\n\
    Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
    X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-cache\r\n";

/// Seconds in `Retry-After`.
const RETRY_AFTER_SECONDS: u32 = 1;

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

/// Headers that belong to a status.
fn headers_of(status: u16) -> String {
    match status {
        405 => "Allow: GET\r\n".to_owned(),
        426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n".to_owned(),
        429 | 503 => format!("Retry-After: {RETRY_AFTER_SECONDS}\r\n"),
        _ => String::new(),
    }
}

impl Shard {
    /// Whether a request is for the demo page: at `/`, and not a handshake, be it an incomplete one.
    pub(crate) fn wants_page(&self, head: &Head<'_>) -> bool {
        let is_there = self.config.server.demo_page && head.path() == "/" && !head.mentions_websocket();
        is_there && matches!(head.method(), "GET" | "HEAD")
    }

    /// Answers with the demo page.
    pub(crate) fn serve_page(&mut self, slot: u32, head: &Head<'_>) {
        let page = page(&self.config.endpoints);
        let body = if head.method() == "HEAD" { "" } else { &page };
        self.answer(slot, 200, DEMO_HEADERS, body, page.len());
    }

    /// Refuses a handshake: answers, counts, logs, and closes once the answer is read.
    pub(crate) fn refuse(&mut self, slot: u32, status: u16, counted: Refused, text: &str) {
        let connection = self.connections.at(slot);
        // One that was refused when it was accepted is counted already.
        let (peer, told) = (connection.peer, connection.refusal.is_some());
        let head_only = connection.flags.head_only;
        // A TLS handshake that did not finish has no way to carry an answer.
        if connection.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            if !told {
                self.count_refusal(counted, peer, text);
            }
            return self.end(slot, Ended::Protocol, true);
        }
        if connection.phase == Phase::Joining {
            // The 101 was prepared and never sent.
            self.discard_outbox(slot);
        }
        if !told {
            self.count_refusal(counted, peer, text);
        }
        let headers = headers_of(status) + "Content-Type: text/plain; charset=utf-8\r\n";
        let body = format!("{text}\n");
        self.answer(slot, status, &headers, if head_only { "" } else { &body }, body.len());
    }

    fn answer(&mut self, slot: u32, status: u16, headers: &str, body: &str, length: usize) {
        let mut head = String::with_capacity(256);
        let _ = write!(
            head,
            "HTTP/1.1 {status} {}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n",
            reason_phrase(status)
        );
        self.outbox(slot).raw(|out| {
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(body.as_bytes());
        });
        self.unsubscribe(slot, crate::counters::Dropped::Disconnected, false);
        self.begin_draining(slot);
    }

    /// Counts a refusal and says why in the log.
    pub(crate) fn count_refusal(&self, counted: Refused, peer: std::net::IpAddr, text: &str) {
        self.counters().refused(counted);
        log::warn(&log::REFUSED, || format!("refused {peer} ({counted}): {}", crate::logging::printable(text)));
    }

    /// Sends what waits, then FIN, then discards input until the peer ends too or the close timeout passes: a `close`
    /// with unread input would lose what was sent.
    pub(crate) fn begin_draining(&mut self, slot: u32) {
        let now = self.now_ms();
        let connection = self.connections.at_mut(slot);
        connection.phase = Phase::Draining;
        connection.since_ms = now;
        connection.unparsed = None;
        if std::mem::take(&mut connection.flags.paused) {
            self.port.resume(slot);
        }
        self.want_send(slot);
        self.arm_timer(slot);
    }
}
