//! The server's own counters: reads a Prometheus text page over plain HTTP.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longest wait for the page.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A page above this size is cut off.
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// Values by name and labels, as they stand on the page.
pub(crate) type Samples = BTreeMap<String, f64>;

/// `http://host:port/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetricsUrl {
    authority: String,
    path: String,
}

impl MetricsUrl {
    /// # Errors
    /// A sentence that says what is wrong with the URL.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("http://").ok_or_else(|| format!("{text:?} must begin with http://"))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.is_empty() || rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("{text:?} is no URL: http://HOST:PORT/metrics"));
        }
        let port = if authority.contains(':') { "" } else { ":80" };
        let path = if path.is_empty() { "/metrics" } else { path };
        Ok(Self { authority: format!("{authority}{port}"), path: path.to_owned() })
    }

    /// Fetches the page.
    ///
    /// # Errors
    /// A sentence with the address and the reason.
    pub(crate) fn fetch(&self) -> Result<Samples, String> {
        let failed = |reason: String| format!("cannot read http://{}{}: {reason}", self.authority, self.path);
        let addresses = self.authority.to_socket_addrs().map_err(|e| failed(e.to_string()))?;
        let address = addresses.into_iter().next().ok_or_else(|| failed("no address".into()))?;
        let text = fetch(address, &self.authority, &self.path).map_err(|e| failed(e.to_string()))?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| failed("not HTTP".into()))?;
        match head.split(' ').nth(1) {
            Some("200") => Ok(parse(body)),
            _ => Err(failed(head.lines().next().unwrap_or_default().to_owned())),
        }
    }
}

/// Samples that differ: before and after.
pub(crate) fn changes(before: &Samples, after: &Samples) -> BTreeMap<String, (f64, f64)> {
    let both = after.iter().map(|(name, value)| (name, (before.get(name).copied().unwrap_or(0.0), *value)));
    both.filter(|(_, (before, after))| before != after).map(|(name, pair)| (name.clone(), pair)).collect()
}

/// HTTP/1.0, so that the server neither chunks nor keeps the connection.
fn fetch(address: std::net::SocketAddr, host: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: text/plain\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Lines `name{labels} value [time]`; comments, and what is no finite number, are passed over.
pub(crate) fn parse(page: &str) -> Samples {
    let sample = |line: &str| {
        let end = line.rfind('}').map_or_else(|| line.find(' '), |at| Some(at + 1))?;
        let (name, rest) = line.split_at(end);
        let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
        value.is_finite().then(|| (name.to_owned(), value))
    };
    page.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let page = "# HELP a b\n# TYPE a counter\na 5\nb{x=\"1 2\",y=\"}\"} 2.5e3 1700000000\nc NaN\nbroken\n";
        let expected = [("a", 5.0), ("b{x=\"1 2\",y=\"}\"}", 2500.0)];
        assert_eq!(parse(page), expected.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn only_what_changed_is_shown() {
        let samples = |list: &[(&str, f64)]| list.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        let changed = changes(&samples(&[("a", 1.0), ("b", 2.0)]), &samples(&[("a", 1.0), ("b", 3.0), ("c", 4.0)]));
        assert_eq!(changed, [("b".to_owned(), (2.0, 3.0)), ("c".to_owned(), (0.0, 4.0))].into());
    }

    #[test]
    fn urls_are_checked() {
        assert_eq!(
            MetricsUrl::parse("http://h").unwrap(),
            MetricsUrl { authority: "h:80".into(), path: "/metrics".into() }
        );
        assert!(MetricsUrl::parse("h:1/metrics").is_err() && MetricsUrl::parse("http:///x").is_err());
    }
}
