//! Flags' values that are no plain numbers, checked.

use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::measure::stamp::STAMP_BYTES;
use crate::wire::url;
use crate::workload::build::Spread;

/// A payload with its stamp, in bytes.
///
/// # Errors
/// A sentence that says what is wrong.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(size) if (STAMP_BYTES..=crate::wire::message::MESSAGE_BYTES_MAX as usize).contains(&size) => Ok(size),
        Ok(size) if size < STAMP_BYTES => Err(format!("the stamp alone takes {STAMP_BYTES} bytes")),
        _ => Err(format!("{text:?} is no size in bytes up to 64 MiB")),
    }
}

/// Source addresses, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources(pub(crate) Vec<IpAddr>);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listen {
    host: String,
    port: u16,
}

impl Listen {
    /// # Errors
    /// A sentence that says why the host has no address.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, String> {
        url::resolve(url::bare(&self.host), self.port)
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).unzip();
        let port = port.and_then(|port| port.parse().ok());
        let (host, port) = host.zip(port).ok_or_else(|| format!("{text:?} is no HOST:PORT"))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Above 0 and up to 1.
///
/// # Errors
/// A sentence that says so.
pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err(format!("{text:?} is no share above 0 and up to 1")),
    }
}

/// Between 0.5 and 0.999.
///
/// # Errors
/// A sentence that says so.
pub(super) fn parse_confidence(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.5..=0.999).contains(&share) => Ok(share),
        _ => Err(format!("{text:?} is not between 0.5 and 0.999")),
    }
}

/// One address, or a range of them: first-last.
///
/// # Errors
/// A sentence that says what is wrong.
pub(super) fn parse_sources(text: &str) -> Result<Sources, String> {
    let address = |text: &str| text.parse::<IpAddr>().map_err(|_| format!("{text:?} is no IP address"));
    let Some((from, to)) = text.split_once('-') else { return Ok(Sources(vec![address(text)?])) };
    match (address(from)?, address(to)?) {
        (IpAddr::V4(from), IpAddr::V4(to)) if from <= to && u32::from(to) - u32::from(from) < 65_536 => {
            Ok(Sources((u32::from(from)..=u32::from(to)).map(|bits| IpAddr::V4(bits.into())).collect()))
        }
        _ => Err(format!("{text:?} is no range of at most 65,536 IPv4 addresses, first to last")),
    }
}

/// `uniform`, `poisson` or `burst:N`.
///
/// # Errors
/// A sentence that says so.
pub(super) fn parse_spread(text: &str) -> Result<Spread, String> {
    match (text, text.strip_prefix("burst:").map(str::parse)) {
        ("uniform", _) => Ok(Spread::Uniform),
        ("poisson", _) => Ok(Spread::Poisson),
        (_, Some(Ok(count @ 1..=1_000_000))) => Ok(Spread::Burst(count)),
        _ => Err(format!("{text:?} is none of uniform, poisson, burst:N")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on_may_be_names() {
        let address = |text: &str| text.parse::<Listen>().and_then(|listen| listen.resolve());
        assert_eq!(address("[::1]:80"), Ok("[::1]:80".parse().unwrap()));
        assert_eq!(address("127.0.0.1:0"), Ok("127.0.0.1:0".parse().unwrap()));
        assert!(address("localhost:9000").is_ok_and(|address| address.ip().is_loopback() && address.port() == 9000));
        for wrong in ["localhost", ":80", "localhost:", "localhost:65536"] {
            assert!(address(wrong).unwrap_err().contains("no HOST:PORT"), "{wrong}");
        }
    }
}
