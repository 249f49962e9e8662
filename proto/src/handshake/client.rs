//! The client's half of the opening handshake (RFC 6455 section 4.1): the request, and whether the answer agrees to it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use httparse::{Header, Response, Status};

use super::field;
use super::head::HeadLimits;
use super::upgrade::accept_of;

/// A request for a WebSocket.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    /// Path and query, percent-encoded: begins with `/`.
    pub target: &'a str,
    /// The host, with its port unless that is the scheme's own.
    pub host: &'a str,
    /// 16 random bytes, fresh for each connection; the caller's, as there is no randomness in here.
    pub key: [u8; 16],
    /// The subprotocols to offer, in order of preference; each a token.
    pub subprotocols: &'a [&'a str],
    /// Further header lines, such as Origin or Authorization.
    pub headers: &'a [(&'a str, &'a str)],
}

impl ClientRequest<'_> {
    /// Appends the request.
    ///
    /// # Errors
    /// A part that would break the request apart; nothing is appended then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.check()?;
        let mut line = |parts: &[&str]| {
            parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
            out.extend_from_slice(b"\r\n");
        };
        line(&["GET ", self.target, " HTTP/1.1"]);
        line(&["Host: ", self.host]);
        line(&["Upgrade: websocket"]);
        line(&["Connection: Upgrade"]);
        line(&["Sec-WebSocket-Version: 13"]);
        line(&["Sec-WebSocket-Key: ", &STANDARD.encode(self.key)]);
        if !self.subprotocols.is_empty() {
            line(&["Sec-WebSocket-Protocol: ", &self.subprotocols.join(", ")]);
        }
        for (name, value) in self.headers {
            line(&[name, ": ", value]);
        }
        line(&[]);
        Ok(())
    }

    fn check(&self) -> Result<(), RequestError> {
        let is_visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_value = |text: &str| text.chars().all(|c| c == '\t' || !c.is_control());
        let is_token = |text: &str| field::as_token(text.as_bytes()).is_some();
        if !self.target.starts_with('/') || !is_visible(self.target) || self.target.contains('#') {
            return Err(RequestError::Target);
        }
        if !is_visible(self.host) {
            return Err(RequestError::Host);
        }
        if !self.subprotocols.iter().all(|subprotocol| is_token(subprotocol)) {
            return Err(RequestError::Subprotocol);
        }
        if !self.headers.iter().all(|(name, value)| is_token(name) && is_value(value)) {
            return Err(RequestError::Header);
        }
        Ok(())
    }
}

/// What a server agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Length of the response in bytes; frames follow.
    pub response_bytes: usize,
    /// Index of the subprotocol it chose, among those offered.
    pub subprotocol: Option<usize>,
}

/// Checks the server's answer at the beginning of `input`; `Ok(None)` if more bytes are needed.
///
/// # Errors
/// Why the connection is not a WebSocket now.
pub fn check_response(
    input: &[u8],
    request: &ClientRequest<'_>,
    limits: &HeadLimits,
) -> Result<Option<Accepted>, ResponseError> {
    let mut headers = vec![httparse::EMPTY_HEADER; limits.headers_max];
    let mut response = Response::new(&mut headers);
    let input = &input[..input.len().min(limits.head_bytes_max)];
    let response_bytes = match response.parse(input).map_err(|_| ResponseError::Syntax)? {
        Status::Complete(response_bytes) => response_bytes,
        Status::Partial if input.len() < limits.head_bytes_max => return Ok(None),
        Status::Partial => return Err(ResponseError::TooLong),
    };
    if field::has_bare_line_feed(&input[..response_bytes]) {
        return Err(ResponseError::Syntax);
    }
    match response.code {
        Some(101) => {}
        code => return Err(ResponseError::Status(code.unwrap_or_default())),
    }
    let headers = &*response.headers;
    if !field::contains_token(headers, "upgrade", "websocket") {
        return Err(ResponseError::Upgrade);
    }
    if !field::contains_token(headers, "connection", "upgrade") {
        return Err(ResponseError::Connection);
    }
    let accept = accept_of(STANDARD.encode(request.key).as_bytes());
    if field::single(headers, "sec-websocket-accept") != Ok(Some(&accept[..])) {
        return Err(ResponseError::Accept);
    }
    if field::elements(headers, "sec-websocket-extensions").next().is_some() {
        return Err(ResponseError::Extension);
    }
    let subprotocol = chosen_subprotocol(headers, request.subprotocols)?;
    Ok(Some(Accepted { response_bytes, subprotocol }))
}

fn chosen_subprotocol(headers: &[Header<'_>], offered: &[&str]) -> Result<Option<usize>, ResponseError> {
    let Some(chosen) = field::single(headers, "sec-websocket-protocol").map_err(|()| ResponseError::Subprotocol)?
    else {
        return Ok(None);
    };
    let index = offered.iter().position(|offer| offer.as_bytes() == chosen);
    index.map(Some).ok_or(ResponseError::Subprotocol)
}

/// Which part of a request cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestError {
    /// Does not begin with `/`, or is not visible ASCII without `#`.
    Target,
    /// Empty, or not visible ASCII.
    Host,
    /// Not a token.
    Subprotocol,
    /// The name is no token, or the value has control characters.
    Header,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Target => "the path must begin with / and be percent-encoded",
            Self::Host => "the host is not a host name",
            Self::Subprotocol => "a subprotocol is not a token",
            Self::Header => "a header's name is not a token, or its value has control characters",
        })
    }
}

impl std::error::Error for RequestError {}

/// Why a server's answer does not open a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseError {
    /// Not an HTTP response.
    Syntax,
    /// Longer than `head_bytes_max`.
    TooLong,
    /// Refused, with this HTTP status.
    Status(u16),
    /// No `Upgrade: websocket`.
    Upgrade,
    /// No `Connection: Upgrade`.
    Connection,
    /// Sec-WebSocket-Accept does not answer our key.
    Accept,
    /// An extension that was not offered.
    Extension,
    /// A subprotocol that was not offered.
    Subprotocol,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "the server does not speak HTTP/1.1",
            Self::TooLong => "the server's response is too long",
            Self::Status(status) => return write!(f, "the server refused with HTTP status {status}"),
            Self::Upgrade => "the server's response has no Upgrade: websocket",
            Self::Connection => "the server's response has no Connection: Upgrade",
            Self::Accept => "the server's Sec-WebSocket-Accept does not answer our key",
            Self::Extension => "the server chose an extension that was not offered",
            Self::Subprotocol => "the server chose a subprotocol that was not offered",
        })
    }
}

impl std::error::Error for ResponseError {}
