//! Logging: to stderr, with timestamps, as text or JSON; and what keeps hostile input from flooding or forging it.
//!
//! A payload is never logged. What a client sent otherwise (a path, a header) goes through [`printable`], an address with
//! credentials through [`redact`], a line that clients can provoke through [`RateLimited`].

use std::fmt::{self, Write};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Characters that [`printable`] shows at most.
const PRINTABLE_CHARS_MAX: usize = 256;

/// Libraries that would log what the server logs itself, with the address.
const QUIET: &str = ",async_nats=off,lapin=off";

/// Query parameters of an address that [`redact`] hides.
const SECRET_PARAMETERS: [&str; 4] = ["password", "passwd", "secret", "token"];

/// Sends the process's log to stderr. The first call counts; later ones (tests that start several servers) do nothing.
pub fn init(config: &LogConfig) {
    let builder = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        // A line that cannot be written is lost; told on the same stderr, that would be a panic.
        .log_internal_errors(false)
        .with_env_filter(EnvFilter::new(format!("{}{QUIET}", filter(config.level))));
    // Failure means that a subscriber is set already, which is the documented case.
    _ = match config.format {
        LogFormat::Text => tracing::subscriber::set_global_default(builder.finish()),
        LogFormat::Json => tracing::subscriber::set_global_default(builder.json().flatten_event(true).finish()),
    };
}

/// The configured level as tracing's.
#[must_use]
pub fn level(level: LogLevel) -> tracing::Level {
    match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    }
}

fn filter(at: LogLevel) -> LevelFilter {
    LevelFilter::from_level(level(at))
}

/// At most so many lines of one kind per second, from all threads together, and then how many were left out.
///
/// For a `static` beside the line that it guards. Two atomics, no lock, nothing allocated.
#[derive(Debug)]
pub struct RateLimited {
    kind: &'static str,
    lines_per_second_max: u32,
    /// Second (high half) and lines admitted in it (low half).
    window: AtomicU64,
    suppressed: AtomicU64,
}

/// What to do with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    /// Log it, and first say how many were left out since the last summary.
    Log { suppressed: u64 },
    /// Leave it out.
    Suppress,
}

impl RateLimited {
    /// A limit on lines of a kind, in the words of the summary: `refused connections`.
    #[must_use]
    pub const fn new(kind: &'static str, lines_per_second_max: u32) -> Self {
        Self { kind, lines_per_second_max, window: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Whether to log a line now. Logs the summary of what was left out before it.
    pub fn admit(&self) -> bool {
        match self.admit_at(second()) {
            Admission::Log { suppressed } => {
                self.summarize(suppressed);
                true
            }
            Admission::Suppress => false,
        }
    }

    /// Logs the summary of what was left out, if anything was: for a timer, and before the process ends.
    pub fn report(&self) {
        self.summarize(self.suppressed.swap(0, Relaxed));
    }

    fn summarize(&self, suppressed: u64) {
        if suppressed > 0 {
            tracing::warn!("{}: {suppressed} more like this were not logged", self.kind);
        }
    }

    fn admit_at(&self, second: u32) -> Admission {
        let decide = |window: u64| match (window >> 32 == u64::from(second), window as u32) {
            (true, lines) if lines >= self.lines_per_second_max => None,
            (true, _) => Some(window + 1),
            (false, _) => Some(u64::from(second) << 32 | 1),
        };
        match self.window.fetch_update(Relaxed, Relaxed, decide) {
            Ok(before) if before >> 32 == u64::from(second) => Admission::Log { suppressed: 0 },
            Ok(_) => Admission::Log { suppressed: self.suppressed.swap(0, Relaxed) },
            Err(_) => {
                self.suppressed.fetch_add(1, Relaxed);
                Admission::Suppress
            }
        }
    }
}

/// Seconds since the first call, from 1.
fn second() -> u32 {
    static START: OnceLock<Instant> = OnceLock::new();
    u32::try_from(START.get_or_init(Instant::now).elapsed().as_secs()).unwrap_or(u32::MAX - 1) + 1
}

/// Shows bytes that came from a client on one line, without anything that a terminal or a log reader would obey: control
/// characters, line separators and text direction marks as `\u{…}`, bytes that are not UTF-8 as `\xNN`, and no more than
/// 256 characters.
pub fn printable<'a, T: AsRef<[u8]> + ?Sized>(bytes: &'a T) -> impl fmt::Display + 'a {
    Printable(bytes.as_ref())
}

struct Printable<'a>(&'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = PRINTABLE_CHARS_MAX;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if left == 0 {
                    return f.write_char('…');
                }
                left -= 1;
                match c {
                    '\\' => f.write_str("\\\\")?,
                    c if c.is_control() || is_obeyed(c) => write!(f, "{}", c.escape_unicode())?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                if left == 0 {
                    return f.write_char('…');
                }
                left -= 1;
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Line and paragraph separators, and marks that turn the direction of text.
pub(crate) fn is_obeyed(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// An address, or a list of them with commas, with passwords in it, and parameters that are named like one, as `***`.
#[must_use]
pub fn redact(addresses: &str) -> String {
    // A password may hold a comma: only one before a scheme parts two addresses.
    let is_scheme =
        |text: &str| text.split_once("://").is_some_and(|(scheme, _)| !scheme.contains(['/', '@', ',', ':']));
    match addresses.match_indices(',').find(|(at, _)| is_scheme(addresses[at + 1..].trim_start())) {
        Some((at, _)) => format!("{},{}", redact_one(&addresses[..at]), redact(&addresses[at + 1..])),
        None => redact_one(addresses),
    }
}

fn redact_one(address: &str) -> String {
    let (start, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    // A password may hold a / or ? that should have been escaped: then what stands before it is no host and port.
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    let host_ends_there = !authority.contains(':') || port.ends_with(']') || port.bytes().all(|b| b.is_ascii_digit());
    let at = if authority.contains('@') || host_ends_there { authority.rfind('@') } else { rest.rfind('@') };
    let (user, host) = match at.map(|at| rest.split_at(at)) {
        Some((user, host)) => (user, host),
        None => ("", rest),
    };
    let user = match user.split_once(':') {
        Some((name, _)) => format!("{name}:***"),
        // NATS takes a token there.
        None if matches!(start.trim_start(), "nats://" | "tls://") && !user.is_empty() => "***".to_owned(),
        None => user.to_owned(),
    };
    format!("{start}{user}{}", redact_parameters(host))
}

fn redact_parameters(text: &str) -> String {
    let Some((path, query)) = text.split_once('?') else { return text.to_owned() };
    let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, _)) if SECRET_PARAMETERS.iter().any(|secret| name.to_lowercase().contains(secret)) => {
            format!("{name}=***")
        }
        _ => parameter.to_owned(),
    });
    format!("{path}?{}", parameters.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_line_is_logged_so_often_per_second_and_the_rest_is_counted() {
        let limit = RateLimited::new("tests", 2);
        let admitted: Vec<_> = [7, 7, 7, 7, 8, 8, 8, 20].map(|second| limit.admit_at(second)).to_vec();
        let (log, suppress) = (|suppressed| Admission::Log { suppressed }, Admission::Suppress);
        assert_eq!(admitted, [log(0), log(0), suppress, suppress, log(2), log(0), suppress, log(1)]);
    }

    #[test]
    fn threads_together_keep_the_limit_and_lose_no_count() {
        let limit = RateLimited::new("tests", 100);
        let admitted: u64 = std::thread::scope(|scope| {
            let count = || (0..1000).filter(|_| limit.admit_at(1) != Admission::Suppress).count() as u64;
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((admitted, limit.suppressed.load(Relaxed)), (100, 3900));
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown() {
        for (bytes, expected) in [
            (&b"/rooms/a b"[..], "/rooms/a b"),
            (b"a\r\nINFO forged\x1b[31m\x7f", "a\\u{d}\\u{a}INFO forged\\u{1b}[31m\\u{7f}"),
            ("é🦀\u{85}\u{202e}\u{2028}".as_bytes(), "é🦀\\u{85}\\u{202e}\\u{2028}"),
            (b"a\xff\xc3(\\", "a\\xff\\xc3(\\\\"),
            (b"", ""),
        ] {
            assert_eq!(printable(bytes).to_string(), expected);
        }
        let long = printable(&"x".repeat(300)).to_string();
        assert_eq!((long.chars().count(), long.ends_with("x…")), (257, true));
        assert_eq!(printable(&[0xff; 300]).to_string().len(), 256 * 4 + '…'.len_utf8());
    }

    #[test]
    fn passwords_in_addresses_are_hidden() {
        for (address, expected) in [
            ("redis://localhost:6379/0?client_name=a", "redis://localhost:6379/0?client_name=a"),
            ("redis://:secret@localhost:6379/0", "redis://:***@localhost:6379/0"),
            ("amqp://guest:gu@est@rabbit/vhost", "amqp://guest:***@rabbit/vhost"),
            ("nats://token@host:4222", "nats://***@host:4222"),
            ("tls://token@host", "tls://***@host"),
            ("nats://u:p,q@a:1,nats://v:s@b, tls://token@c", "nats://u:***@a:1,nats://v:***@b, tls://***@c"),
            ("redis://user@host", "redis://user@host"),
            ("redis://u:pa/ss@host/0", "redis://u:***@host/0"),
            ("redis://[::1]:6379", "redis://[::1]:6379"),
            ("http://host:80/x?mail=a@b", "http://host:80/x?mail=a@b"),
            ("redis://host/0?password=x&db=1&Auth_Token=y", "redis://host/0?password=***&db=1&Auth_Token=***"),
            ("user:pass@host", "user:***@host"),
            ("host:80", "host:80"),
        ] {
            assert_eq!(redact(address), expected, "{address}");
        }
    }
}
