//! `ringrelay healthcheck`: asks a running server whether it is well; for containers without a shell or curl.
//!
//! In: a URL, or the configuration, which says where the admin port is. Out: exit code 0 for status 200, 1 with the reason
//! for anything else, 2 for a URL that is none.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use axum::http::Uri;

use super::{EXIT_USAGE, print, tell, usage_error};
use crate::config::{MetricsConfig, Sources};

/// Bytes of an answer that are read at most.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Asks `url`, or `/healthz` on the configuration's admin port, and waits for the answer for at most `timeout`.
#[must_use]
pub fn run(url: Option<&str>, timeout: Duration, sources: &Sources) -> ExitCode {
    let url = match url {
        Some(url) => url.to_owned(),
        None => match sources.load() {
            Err(error) => return usage_error(&error),
            Ok(loaded) if !loaded.config.metrics.enabled => {
                tell("metrics.enabled is false: there is no admin port to ask; name a URL");
                return ExitCode::FAILURE;
            }
            Ok(loaded) => admin_url(&loaded.config.metrics),
        },
    };
    let target = match Target::parse(&url) {
        Ok(target) => target,
        Err(reason) => {
            tell(format_args!("{url:?} {reason}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match target.ask(Instant::now() + timeout) {
        Ok(200) => print(&format!("{url}: 200\n")),
        Ok(status) => {
            tell(format_args!("{url}: status {status}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            tell(format_args!("{url}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Where a server with that admin port answers on this machine.
fn admin_url(metrics: &MetricsConfig) -> String {
    let host = match metrics.host.trim_start_matches('[').trim_end_matches(']') {
        "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "[::1]".to_owned(),
        v6 if v6.contains(':') => format!("[{v6}]"),
        name => name.to_owned(),
    };
    format!("http://{host}:{}/healthz", metrics.port)
}

/// What to ask, and whom.
#[derive(Debug, PartialEq)]
struct Target {
    host: String,
    port: u16,
    /// As in the URL: for the Host header.
    authority: String,
    path: String,
}

impl Target {
    /// Reads `http://host[:port][/path]`.
    fn parse(url: &str) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "is no URL")?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err("is not http://host:port/path");
        };
        let bare = authority.host().trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            host: bare.to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: authority.to_string(),
            path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        })
    }

    /// The status of the answer to a GET, by the first of the host's addresses that accepts a connection.
    fn ask(&self, deadline: Instant) -> io::Result<u16> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match connect(address, deadline) {
                Ok(stream) => return self.get(stream, deadline),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn get(&self, mut stream: TcpStream, deadline: Instant) -> io::Result<u16> {
        stream.set_write_timeout(Some(left(deadline)?))?;
        let (path, authority) = (&self.path, &self.authority);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        let mut bytes = [0; 4096];
        while !answer.contains(&b'\n') && answer.len() < ANSWER_BYTES_MAX as usize {
            stream.set_read_timeout(Some(left(deadline)?))?;
            match stream.read(&mut bytes)? {
                0 => break,
                read => answer.extend_from_slice(&bytes[..read]),
            }
        }
        status(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP"))
    }
}

fn connect(address: SocketAddr, deadline: Instant) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address, left(deadline)?)
}

/// The time left; an error if there is none.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")) } else { Ok(left) }
}

/// The status in a status line (RFC 9112 section 4).
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.trim_end().parse().ok().filter(|status| (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_what_is_none() {
        let target = |host: &str, port, authority: &str, path: &str| {
            Ok(Target { host: host.to_owned(), port, authority: authority.to_owned(), path: path.to_owned() })
        };
        assert_eq!(Target::parse("http://a"), target("a", 80, "a", "/"));
        assert_eq!(Target::parse("http://[::1]:9/b?c=d"), target("::1", 9, "[::1]:9", "/b?c=d"));
        for wrong in ["https://a", "a:1", "/a", "", "http://", "http://a b"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_admin_port_is_asked_on_this_machine() {
        let url = |host: &str| admin_url(&MetricsConfig { host: host.to_owned(), port: 7, ..MetricsConfig::default() });
        for (host, expected) in [
            ("0.0.0.0", "http://127.0.0.1:7/healthz"),
            ("::", "http://[::1]:7/healthz"),
            ("[::]", "http://[::1]:7/healthz"),
            ("fe80::1", "http://[fe80::1]:7/healthz"),
            ("admin.internal", "http://admin.internal:7/healthz"),
        ] {
            assert_eq!(url(host), expected);
        }
    }

    #[test]
    fn a_status_line_is_told_from_noise() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        for noise in ["", "HTTP/1.1", "SSH-2.0-x 200\r\n", "HTTP/1.1 2000 x\r\n", "HTTP/1.1 99 x\r\n"] {
            assert_eq!(status(noise.as_bytes()), None, "{noise}");
        }
    }
}
