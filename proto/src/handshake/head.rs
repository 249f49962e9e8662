//! The head of an HTTP/1.1 request: everything up to the empty line. In: the bytes received so far. Out: the head, borrowed
//! from them, or a reason to refuse it; whatever two recipients could read in two ways is refused.

use std::fmt;

use httparse::{Error, Header, Request, Status};

use super::field;

/// Bounds on a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The longest head in bytes, with the empty line that ends it.
    pub head_bytes_max: usize,
    /// The most header lines.
    pub headers_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { head_bytes_max: 16 * 1024, headers_max: 100 }
    }
}

/// A request's method, target and header lines.
#[derive(Debug)]
pub struct Head<'a> {
    method: &'a str,
    target: &'a str,
    parts: Target<'a>,
    version_minor: u8,
    body: BodyLength,
    headers: Vec<Header<'a>>,
}

impl<'a> Head<'a> {
    /// The method, case-sensitive.
    #[must_use]
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The target as it stands in the request line.
    #[must_use]
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The target's path, still percent-encoded; `/` if an absolute target has none.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.parts.path
    }

    /// What follows the `?` of the target, still percent-encoded.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.parts.query
    }

    /// The `x` of HTTP/1.x: 0 or 1.
    #[must_use]
    pub fn version_minor(&self) -> u8 {
        self.version_minor
    }

    /// The host asked for, with its port if given: the authority of an absolute target (RFC 9112 section 3.2.2), else the
    /// Host line; `None` if neither names one.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        let from_header = || self.header("host").and_then(|value| std::str::from_utf8(value).ok());
        self.parts.authority.or_else(from_header).filter(|host| !host.is_empty())
    }

    /// The length of the body that follows the head.
    #[must_use]
    pub fn body(&self) -> BodyLength {
        self.body
    }

    /// The value of the first line called `name`, in any case, without the white space around it.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// All header lines in order: names as received, values without the white space around them.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> {
        self.headers.iter().map(|header| (header.name, header.value))
    }

    /// Whether the connection may carry another request after this one (RFC 9112 section 9.3).
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        let says = |token| field::contains_token(&self.headers, "connection", token);
        !says("close") && (self.version_minor == 1 || says("keep-alive"))
    }

    /// Whether the client asks to speak WebSocket on this connection, rightly or wrongly otherwise.
    #[must_use]
    pub fn wants_websocket(&self) -> bool {
        field::contains_token(&self.headers, "upgrade", "websocket")
            && field::contains_token(&self.headers, "connection", "upgrade")
    }

    /// Whether the request speaks of WebSocket at all: the upgrade, or a header of the handshake's.
    #[must_use]
    pub fn mentions_websocket(&self) -> bool {
        const PREFIX: &str = "sec-websocket-";
        field::contains_token(&self.headers, "upgrade", "websocket")
            || self
                .headers
                .iter()
                .any(|line| line.name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX)))
    }

    pub(super) fn lines(&self) -> &[Header<'a>] {
        &self.headers
    }
}

/// How long a request's body is (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// This many bytes; 0 if there is no body.
    Bytes(u64),
    /// As long as its chunks say.
    Chunked,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadError {
    /// The request line is not one.
    RequestLine,
    /// The target is not a path, nor an absolute address without user and fragment.
    Target,
    /// Not HTTP/1.0 or HTTP/1.1.
    Version,
    /// A header line is malformed: its name, its value, white space before the colon, or a folded line.
    HeaderLine,
    /// A line ends in LF without CR.
    BareLineFeed,
    /// More than one Host, or one that is no host.
    Host,
    /// The body's length is malformed, given twice, or given in two ways.
    BodyLength,
    /// A transfer coding other than `chunked`.
    TransferCoding,
    /// Longer than `head_bytes_max`.
    TooLong,
    /// More lines than `headers_max`.
    TooManyHeaders,
}

impl HeadError {
    /// The HTTP status to answer with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::TooLong | Self::TooManyHeaders => 431,
            _ => 400,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestLine => "malformed request line",
            Self::Target => "malformed request target",
            Self::Version => "HTTP version is neither 1.0 nor 1.1",
            Self::HeaderLine => "malformed header line",
            Self::BareLineFeed => "line does not end in CR LF",
            Self::Host => "Host is malformed or given more than once",
            Self::BodyLength => "body length is malformed or ambiguous",
            Self::TransferCoding => "unknown transfer coding",
            Self::TooLong => "request head too long",
            Self::TooManyHeaders => "too many header lines",
        })
    }
}

impl std::error::Error for HeadError {}

/// Reads a request's head from the beginning of `input`. Gives it with its length in bytes, or `Ok(None)` if more bytes are
/// needed. Allocates: a head is read once per connection.
///
/// # Errors
/// What is wrong with it, as early as that can be seen.
pub fn parse_head<'a>(input: &'a [u8], limits: &HeadLimits) -> Result<Option<(Head<'a>, usize)>, HeadError> {
    let mut headers = vec![httparse::EMPTY_HEADER; limits.headers_max];
    let mut request = Request::new(&mut headers);
    // What lies beyond the limit is not looked at, so that the verdict does not depend on how much came at once.
    let input = &input[..input.len().min(limits.head_bytes_max)];
    let head_bytes = match request.parse(input).map_err(error_of)? {
        Status::Complete(head_bytes) => head_bytes,
        Status::Partial if input.len() < limits.head_bytes_max => return Ok(None),
        Status::Partial => return Err(HeadError::TooLong),
    };
    if field::has_bare_line_feed(&input[..head_bytes]) {
        return Err(HeadError::BareLineFeed);
    }
    let (Some(method), Some(target), Some(version_minor)) = (request.method, request.path, request.version) else {
        return Err(HeadError::RequestLine);
    };
    let headers_count = request.headers.len();
    headers.truncate(headers_count);
    let parts = Target::parse(method, target).ok_or(HeadError::Target)?;
    check_host(&headers)?;
    let body = body_length(&headers, version_minor)?;
    Ok(Some((Head { method, target, parts, version_minor, body, headers }, head_bytes)))
}

/// A request target (RFC 9112 section 3.2), taken apart.
#[derive(Clone, Copy, Debug)]
struct Target<'a> {
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Target<'a> {
    fn parse(method: &str, target: &'a str) -> Option<Self> {
        if target.contains('#') {
            return None;
        }
        if target.starts_with('/') {
            return Some(Self::of_path(None, target));
        }
        match method {
            "OPTIONS" if target == "*" => return Some(Self::of_path(None, target)),
            "CONNECT" => {
                let path = "";
                return is_host(target.as_bytes()).then_some(Self { authority: Some(target), path, query: None });
            }
            _ => {}
        }
        let (scheme, rest) = target.split_once("://")?;
        if !["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return None;
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let is_authority = !authority.is_empty() && is_host(authority.as_bytes());
        is_authority.then(|| Self::of_path(Some(authority), path))
    }

    fn of_path(authority: Option<&'a str>, path: &'a str) -> Self {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        Self { authority, path: if path.is_empty() { "/" } else { path }, query }
    }
}

fn error_of(error: Error) -> HeadError {
    match error {
        Error::TooManyHeaders => HeadError::TooManyHeaders,
        Error::HeaderName | Error::HeaderValue => HeadError::HeaderLine,
        Error::Version => HeadError::Version,
        // The end of a line is checked both after the request line and after header lines.
        Error::NewLine | Error::Token | Error::Status => HeadError::RequestLine,
    }
}

fn check_host(headers: &[Header<'_>]) -> Result<(), HeadError> {
    match field::single(headers, "host") {
        Ok(host) if host.is_none_or(is_host) => Ok(()),
        _ => Err(HeadError::Host),
    }
}

/// Whether these are the characters of a host with an optional port (RFC 3986 section 3.2), or empty. A user is not part
/// of it (RFC 9110 section 4.2.4), nor is anything that could end it.
fn is_host(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%:[]".contains(byte))
}

fn body_length(headers: &[Header<'_>], version_minor: u8) -> Result<BodyLength, HeadError> {
    let length = field::single(headers, "content-length").map_err(|()| HeadError::BodyLength)?;
    let coding = field::single(headers, "transfer-encoding").map_err(|()| HeadError::TransferCoding)?;
    match (length, coding) {
        (None, None) => Ok(BodyLength::Bytes(0)),
        (Some(length), None) => parse_decimal(length).map(BodyLength::Bytes).ok_or(HeadError::BodyLength),
        (None, Some(_)) if version_minor == 0 => Err(HeadError::TransferCoding),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(BodyLength::Chunked),
        (None, Some(_)) => Err(HeadError::TransferCoding),
        (Some(_), Some(_)) => Err(HeadError::BodyLength),
    }
}

/// Digits and nothing else, unlike `str::parse`, which takes a sign.
fn parse_decimal(bytes: &[u8]) -> Option<u64> {
    if !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}
