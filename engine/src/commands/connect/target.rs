//! Where to connect and as whom: the URL, or host and port, and the name in its query.
//!
//! Flags win over the environment (`HOST`, `PORT`, `USER_NAME`), that over the defaults. A URL is taken as it is; a name
//! in it stands unless `--username` gives another.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tungstenite::http::Uri;

use super::Connect;
use crate::logging::printable;

const HOST: &str = "localhost";
const PORT: u16 = 8080;
const USER_NAME: &str = "anonymous";

/// The path of the chat preset.
const PATH: &str = "/ws";

/// What stands as itself in a query's value.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A server, an endpoint on it, and a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// What the opening handshake asks for: scheme, authority, path and query.
    pub url: String,
    /// Name or address, without the brackets of IPv6.
    pub host: String,
    pub port: u16,
    pub tls: bool,
    /// As whom, for the eye.
    pub name: String,
}

impl Target {
    /// The target of what was typed, with the variables that `variable` gives.
    ///
    /// # Errors
    /// What is wrong with the URL or a variable, in one line.
    pub(super) fn new(typed: &Connect, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let name = typed.username.clone();
        let Some(url) = &typed.url else {
            let host = typed.host.clone().or_else(|| variable("HOST")).unwrap_or_else(|| HOST.to_owned());
            let port = match (typed.port, variable("PORT")) {
                (Some(port), _) => port,
                (None, Some(port)) => {
                    port.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("PORT is {port:?}, no port"))?
                }
                (None, None) => PORT,
            };
            let name = name.or_else(|| variable("USER_NAME")).unwrap_or_else(|| USER_NAME.to_owned());
            let bracketed = if host.contains(':') { format!("[{host}]") } else { host };
            return Self::of_url(&format!("ws://{bracketed}:{port}{PATH}"), Some(name));
        };
        let has_name = query_name(url).is_some();
        let default = || variable("USER_NAME").unwrap_or_else(|| USER_NAME.to_owned());
        Self::of_url(url, if has_name { name } else { Some(name.unwrap_or_else(default)) })
    }

    /// Host and port, for the eye.
    pub(super) fn place(&self) -> String {
        let host = printable(&self.host);
        if self.host.contains(':') { format!("[{host}]:{}", self.port) } else { format!("{host}:{}", self.port) }
    }

    /// The URL with this name in its query, in place of one that stands there.
    fn of_url(url: &str, name: Option<String>) -> Result<Self, String> {
        let shown = printable(url).to_string();
        let (url, _fragment) = url.split_once('#').unwrap_or((url, ""));
        let uri: Uri = url.parse().map_err(|error| format!("{shown} is no URL: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(format!("{shown} does not begin with ws:// or wss://")),
        };
        let authority = uri.authority().ok_or_else(|| format!("{shown} names no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(format!("{shown} must name a host, without a user"));
        }
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, digits)) if !digits.ends_with(']') => {
                digits.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{shown} has no valid port"))?
            }
            _ if tls => 443,
            _ => 80,
        };
        let mut target = format!("{}://{authority}{}", if tls { "wss" } else { "ws" }, uri.path());
        let mut parts: Vec<&str> = uri.query().unwrap_or("").split('&').filter(|part| !part.is_empty()).collect();
        let encoded = name.as_ref().map(|name| utf8_percent_encode(name, ESCAPED).to_string());
        let pair = encoded.map(|name| format!("username={name}"));
        if let Some(pair) = &pair {
            parts.retain(|part| !is_name(part));
            parts.push(pair);
        }
        if !parts.is_empty() {
            // Infallible: a String takes everything.
            _ = write!(target, "?{}", parts.join("&"));
        }
        let name = name.or_else(|| query_name(url)).unwrap_or_default();
        Ok(Self { url: target, host, port, tls, name })
    }
}

fn is_name(part: &str) -> bool {
    part.split('=').next() == Some("username")
}

/// The name in a URL's query, decoded as far as it can be.
fn query_name(url: &str) -> Option<String> {
    let (_, query) = url.split('#').next()?.split_once('?')?;
    let value = query.split('&').find(|part| is_name(part))?.split_once('=').map_or("", |(_, value)| value);
    Some(percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(typed: &Connect, variables: &[(&str, &str)]) -> Result<Target, String> {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Target::new(typed, variable)
    }

    fn url_of(typed: &Connect, variables: &[(&str, &str)]) -> String {
        target(typed, variables).unwrap().url
    }

    #[test]
    fn flags_win_over_variables_and_those_over_defaults() {
        let none = Connect::default();
        assert_eq!(url_of(&none, &[]), "ws://localhost:8080/ws?username=anonymous");
        let variables = [("HOST", "example.org"), ("PORT", "81"), ("USER_NAME", "ada")];
        assert_eq!(url_of(&none, &variables), "ws://example.org:81/ws?username=ada");
        let flags = Connect { host: Some("::1".into()), port: Some(82), username: Some("b n&".into()), ..none.clone() };
        let Target { url, host, name, .. } = target(&flags, &variables).unwrap();
        assert_eq!((url.as_str(), host.as_str(), name.as_str()), ("ws://[::1]:82/ws?username=b%20n%26", "::1", "b n&"));
        assert_eq!(url_of(&none, &[("HOST", ""), ("PORT", ""), ("USER_NAME", "")]), url_of(&none, &[]));
    }

    #[test]
    fn a_url_stands_as_it_is_but_for_the_name() {
        let of = |url: &str, username: Option<&str>| {
            let typed = Connect { url: Some(url.into()), username: username.map(str::to_owned), ..Connect::default() };
            target(&typed, &[("HOST", "other"), ("PORT", "1"), ("USER_NAME", "eve")]).unwrap()
        };
        let Target { url, port, tls, .. } = of("wss://example.org/chat?room=1", None);
        assert_eq!((url.as_str(), port, tls), ("wss://example.org/chat?room=1&username=eve", 443, true));
        let Target { url, name, .. } = of("ws://h:9?username=a+%C3%A9#top", None);
        assert_eq!((url.as_str(), name.as_str()), ("ws://h:9/?username=a+%C3%A9", "a é"));
        let Target { url, name, .. } = of("ws://h/?username=a&b=c", Some("ben"));
        assert_eq!((url.as_str(), name.as_str()), ("ws://h/?b=c&username=ben", "ben"));
    }

    #[test]
    fn what_is_no_target_is_told_in_one_line() {
        for url in [
            "localhost:8080",
            "http://h/",
            "ws://",
            "ws:///ws",
            "ws://h:0/",
            "ws://h:70000/",
            "ws://u:p@h/",
            "ws://h/\n",
            "",
        ] {
            let typed = Connect { url: Some(url.into()), ..Connect::default() };
            let error = target(&typed, &[]).unwrap_err();
            assert!(!error.is_empty() && !error.contains('\n'), "{error}");
        }
        for port in ["x", "0", "-1", "70000"] {
            assert!(target(&Connect::default(), &[("PORT", port)]).unwrap_err().starts_with("PORT is "));
        }
    }
}
