//! `ws://host:port/path?query` and `wss://…`, RFC 6455 section 3.

use std::net::{SocketAddr, ToSocketAddrs};

/// Where to connect and what to ask for there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WsUrl {
    /// By TLS.
    pub(crate) is_secure: bool,
    /// Host as it stands in the URL, IPv6 in brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query; at least `/`.
    pub(crate) resource: String,
}

impl WsUrl {
    /// # Errors
    /// A sentence that says what is wrong with the URL.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| format!("{text:?} is no URL: ws://HOST:PORT/PATH"))?;
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" => true,
            _ => return Err(format!("{text:?}: the scheme must be ws or wss")),
        };
        if text.contains(|c: char| c.is_ascii_whitespace() || c.is_control()) {
            return Err(format!("{text:?}: blanks and control characters do not belong in a URL"));
        }
        if rest.contains('#') {
            return Err(format!("{text:?}: a WebSocket URL has no #fragment"));
        }
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, resource) = rest.split_at(split);
        if authority.contains('@') {
            return Err(format!("{scheme}://***@…: user and password do not belong in a WebSocket URL; use --header"));
        }
        let bracket = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[bracket..].rfind(':') {
            Some(colon) => {
                let (host, port) = authority.split_at(bracket + colon);
                let port = port[1..].parse().map_err(|_| format!("{text:?}: {:?} is no port", &port[1..]))?;
                (host, port)
            }
            None => (authority, if is_secure { 443 } else { 80 }),
        };
        if host.is_empty() || port == 0 {
            return Err(format!("{text:?}: host and a port above 0 are needed"));
        }
        let slash = if resource.starts_with('/') { "" } else { "/" };
        Ok(Self { is_secure, host: host.to_owned(), port, resource: format!("{slash}{resource}") })
    }

    /// The `Host` field's value.
    pub(crate) fn authority(&self) -> String {
        let port_default = if self.is_secure { 443 } else { 80 };
        if self.port == port_default { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// The host without the brackets of an IPv6 address.
    pub(crate) fn bare_host(&self) -> &str {
        bare(&self.host)
    }

    /// Its address.
    ///
    /// # Errors
    /// As [`resolve`].
    pub(crate) fn resolve(&self) -> Result<SocketAddr, String> {
        resolve(self.bare_host(), self.port)
    }
}

/// A host without the brackets of an IPv6 address.
pub(crate) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The first address that a host's name has, IPv4 preferred.
///
/// # Errors
/// A sentence with the resolver's reason.
pub(crate) fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let addresses = (host, port).to_socket_addrs();
    let mut addresses: Vec<_> = addresses.map_err(|e| format!("cannot resolve {host:?}: {e}"))?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| format!("{host:?} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_apart() {
        let url = WsUrl::parse("ws://localhost:8443/rooms/a?x=1").unwrap();
        assert_eq!((&*url.host, url.port, &*url.resource), ("localhost", 8443, "/rooms/a?x=1"));
        let url = WsUrl::parse("WSS://h").unwrap();
        assert_eq!((url.is_secure, url.port, &*url.authority()), (true, 443, "h"));
        let url = WsUrl::parse("ws://[::1]?q").unwrap();
        assert_eq!((&*url.host, url.port, &*url.resource), ("[::1]", 80, "/?q"));
        assert_eq!(url.resolve().unwrap(), "[::1]:80".parse().unwrap());
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        for (text, reason) in [
            ("localhost:80", "no URL"),
            ("http://x", "scheme"),
            ("ws://x:99999/", "no port"),
            ("ws://:80/", "host"),
            ("ws://x/#a", "fragment"),
            ("ws://x/a b", "blanks"),
            ("ws://user:secret@x/", "--header"),
        ] {
            let error = WsUrl::parse(text).unwrap_err();
            assert!(error.contains(reason) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
