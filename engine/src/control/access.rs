//! Who may use the guarded routes: allowed networks, and a bearer token where one is set.
//!
//! In comes the peer's address and the request's headers; out comes a [`Denied`] with its status, or nothing. The
//! address is the socket's: headers like `X-Forwarded-For` are the client's to invent and are not looked at.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::config::Config;
use crate::logging::RateLimited;

/// The rule: an address of one of the networks, and the token if there is one.
#[derive(Debug, Clone)]
pub struct Access {
    networks: Vec<Network>,
    token: Option<Token>,
}

impl Access {
    /// Allows `networks`; with a non-empty `token` only those requests that carry it.
    #[must_use]
    pub fn new(networks: Vec<Network>, token: &str) -> Self {
        Self { networks, token: (!token.is_empty()).then(|| Token(token.to_owned())) }
    }

    /// The allow-list of a configuration, with this token.
    ///
    /// # Panics
    /// If an entry is no network, which the configuration's rules rule out.
    pub(crate) fn of_config(config: &Config, token: &str) -> Self {
        let networks = config.internal_endpoint_access_whitelist.iter();
        Self::new(networks.map(|text| text.parse().expect("networks are checked when they are read")).collect(), token)
    }

    /// The default: this machine only, by 127.0.0.0/8 and ::1.
    #[must_use]
    pub fn loopback(token: &str) -> Self {
        Self::new(vec![Network::LOOPBACK_V4, Network::LOOPBACK_V6], token)
    }

    /// Whether the allow-list names this address. IPv4 in IPv6 (`::ffff:a.b.c.d`) counts as IPv4.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Checks a request from `peer`.
    ///
    /// # Errors
    /// [`Denied::Network`] first, so that the token cannot be probed from outside, then [`Denied::Token`].
    pub fn check(&self, peer: IpAddr, headers: &HeaderMap) -> Result<(), Denied> {
        if !self.allows(peer) {
            return Err(Denied::Network);
        }
        match &self.token {
            Some(token) if !token.matches(headers) => Err(Denied::Token),
            _ => Ok(()),
        }
    }
}

/// A secret that does not show in logs.
#[derive(Clone)]
struct Token(String);

impl Token {
    /// Looks for `Authorization: Bearer TOKEN` (RFC 6750, 2.1), compared in a time that tells nothing but the length.
    fn matches(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(AUTHORIZATION) else { return false };
        let Some((scheme, token)) = value.as_bytes().split_at_checked("bearer ".len()) else { return false };
        scheme.eq_ignore_ascii_case(b"bearer ") && token.trim_ascii().ct_eq(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a request was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The address is not on the allow-list: 403.
    Network,
    /// No token, or a wrong one: 401.
    Token,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denied::Network => "address not allowed",
            Denied::Token => "bearer token missing or wrong",
        })
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        match self {
            Denied::Network => (StatusCode::FORBIDDEN, text).into_response(),
            Denied::Token => (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], text).into_response(),
        }
    }
}

/// The middleware in front of the guarded routes.
pub(crate) async fn guard(
    State(access): State<Arc<Access>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    static LIMIT: RateLimited = RateLimited::new("refused admin requests", 1);
    match access.check(peer.ip(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(denied) => {
            if LIMIT.admit() {
                tracing::warn!("admin: {peer} refused: {denied}");
            }
            denied.into_response()
        }
    }
}

/// An address range in CIDR notation. Host bits are accepted and ignored: `127.0.0.1/8` is `127.0.0.0/8`; an address
/// alone is itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// ≤ 32 for IPv4, ≤ 128 for IPv6.
    prefix: u8,
}

impl Network {
    const LOOPBACK_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::LOCALHOST), prefix: 8 };
    const LOOPBACK_V6: Self = Self { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 };

    /// Whether `address` lies in it. IPv4 in IPv6 (`::ffff:a.b.c.d`) counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr =
            address.parse().map_err(|_| format!("{text:?} is not an address or a network like 10.0.0.0/8"))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let digits = |prefix: &&str| !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = match prefix {
            None => longest,
            Some(prefix) => Some(prefix)
                .filter(digits)
                .and_then(|prefix| prefix.parse().ok())
                .filter(|prefix| *prefix <= longest)
                .ok_or_else(|| format!("{text:?}: the prefix must be a number from 0 to {longest}"))?,
        };
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    fn bearer(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn networks_contain_what_their_prefix_says() {
        assert!(contains("127.0.0.1/8", "127.255.0.9"));
        assert!(!contains("127.0.0.1/8", "128.0.0.1"));
        assert!(contains("10.1.2.3", "10.1.2.3"));
        assert!(!contains("10.1.2.3", "10.1.2.2"));
        assert!(contains("0.0.0.0/0", "203.0.113.7"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("172.16.0.0/12", "172.31.255.255"));
        assert!(!contains("172.16.0.0/12", "172.32.0.0"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!contains("2001:db8::/33", "2001:db8:8000::1"));
        assert!(contains("::/0", "::1"));
    }

    #[test]
    fn an_ipv4_peer_of_an_ipv6_listener_counts_as_ipv4() {
        assert!(contains("127.0.0.0/8", "::ffff:127.0.0.1"));
        assert!(!contains("::/0", "::ffff:127.0.0.1"));
    }

    #[test]
    fn what_is_no_network_is_an_error_that_shows_it() {
        for text in
            ["", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "::1/129", "10.0.0/8", "localhost", "1.2.3.4/8/8"]
        {
            let error = text.parse::<Network>().unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn the_network_is_checked_before_the_token() {
        let access = Access::loopback("s3cret");
        let [inside, outside] = ["127.0.0.1", "192.0.2.1"].map(|address| address.parse().unwrap());
        assert_eq!(access.check(outside, &bearer("Bearer s3cret")), Err(Denied::Network));
        assert_eq!(access.check(inside, &HeaderMap::new()), Err(Denied::Token));
        assert_eq!(access.check(inside, &bearer("Bearer s3cret")), Ok(()));
    }

    #[test]
    fn only_the_whole_token_passes() {
        let access = Access::loopback("s3cret");
        let check = |value: &str| access.check(Ipv4Addr::LOCALHOST.into(), &bearer(value));
        for right in ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "] {
            assert_eq!(check(right), Ok(()), "{right:?}");
        }
        for wrong in
            ["", "s3cret", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crett", "Basic s3cret", "Bearers3cret"]
        {
            assert_eq!(check(wrong), Err(Denied::Token), "{wrong:?}");
        }
    }

    #[test]
    fn without_a_token_the_network_is_enough_and_debug_output_hides_a_token() {
        assert_eq!(Access::loopback("").check(Ipv6Addr::LOCALHOST.into(), &HeaderMap::new()), Ok(()));
        let shown = format!("{:?}", Access::loopback("s3cret"));
        assert!(shown.contains("***") && !shown.contains("s3cret"), "{shown}");
    }
}
