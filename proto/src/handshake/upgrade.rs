//! The server's half of the opening handshake (RFC 6455 section 4.2.1): is this request a WebSocket's, and a correct one?

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use sha1::{Digest as _, Sha1};

use super::field;
use super::head::{BodyLength, Head};

/// What the key is hashed with (section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The key needs to decode to 16 bytes (section 4.2.1); the bits that 16 bytes leave over in base64 may be anything.
const KEY_BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// A correct request for a WebSocket. Whether it is agreed to is the server's decision.
#[derive(Debug)]
pub struct Upgrade<'h> {
    head: &'h Head<'h>,
    host: &'h str,
    origin: Option<&'h str>,
    accept: [u8; 28],
}

impl<'h> Upgrade<'h> {
    /// The value of Sec-WebSocket-Accept that proves that the request was understood.
    #[must_use]
    pub fn accept(&self) -> [u8; 28] {
        self.accept
    }

    /// The host asked for, with its port if given.
    #[must_use]
    pub fn host(&self) -> &'h str {
        self.host
    }

    /// The origin of the page that asks, if a browser does; `null` is an origin too.
    #[must_use]
    pub fn origin(&self) -> Option<&'h str> {
        self.origin
    }

    /// The subprotocols offered, in the client's order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &'h str> + use<'h> {
        field::elements(self.head.lines(), "sec-websocket-protocol").filter_map(field::as_token)
    }
}

/// Why a request is not a correct one for a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpgradeError {
    /// Neither GET nor an upgrade.
    Method,
    /// Does not ask for `Upgrade: websocket` with `Connection: Upgrade`.
    NotAnUpgrade,
    /// HTTP/1.0.
    HttpVersion,
    /// Names no host.
    Host,
    /// Another version of the protocol than 13, or none.
    Version,
    /// Sec-WebSocket-Version stands more than once.
    VersionTwice,
    /// Sec-WebSocket-Key is absent, given twice, or not 16 bytes in base64.
    Key,
    /// Origin is given twice, or not text.
    Origin,
    /// Sec-WebSocket-Protocol is not a list of tokens.
    Subprotocol,
    /// The request has a body.
    Body,
}

impl UpgradeError {
    /// The HTTP status to answer with; 426 goes with `Sec-WebSocket-Version: 13`, 405 with `Allow: GET`.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::NotAnUpgrade | Self::Version => 426,
            Self::HttpVersion
            | Self::Host
            | Self::VersionTwice
            | Self::Key
            | Self::Origin
            | Self::Subprotocol
            | Self::Body => 400,
        }
    }
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "method is not GET",
            Self::NotAnUpgrade => "request is not an upgrade to websocket",
            Self::HttpVersion => "HTTP version is not 1.1",
            Self::Host => "request names no host",
            Self::Version => "Sec-WebSocket-Version is not 13",
            Self::VersionTwice => "Sec-WebSocket-Version is given more than once",
            Self::Key => "Sec-WebSocket-Key is not 16 bytes in base64, given once",
            Self::Origin => "Origin is malformed or given more than once",
            Self::Subprotocol => "Sec-WebSocket-Protocol is malformed",
            Self::Body => "request has a body",
        })
    }
}

impl std::error::Error for UpgradeError {}

/// Checks a request by RFC 6455 section 4.2.1.
///
/// # Errors
/// The first requirement that is not met: first those that make it a WebSocket's, then those that make it a correct one.
pub fn check_upgrade<'h>(head: &'h Head<'_>) -> Result<Upgrade<'h>, UpgradeError> {
    let lines = head.lines();
    if head.method() != "GET" {
        return Err(UpgradeError::Method);
    }
    if !head.wants_websocket() {
        return Err(UpgradeError::NotAnUpgrade);
    }
    if head.version_minor() != 1 {
        return Err(UpgradeError::HttpVersion);
    }
    // An absolute target names the host too, but the line must be there all the same (RFC 9112 section 3.2).
    head.header("host").ok_or(UpgradeError::Host)?;
    let host = head.host().ok_or(UpgradeError::Host)?;
    if head.body() != BodyLength::Bytes(0) {
        return Err(UpgradeError::Body);
    }
    match field::single(lines, "sec-websocket-version") {
        Ok(Some(b"13")) => {}
        Ok(_) => return Err(UpgradeError::Version),
        Err(()) => return Err(UpgradeError::VersionTwice),
    }
    let key = field::single(lines, "sec-websocket-key").ok().flatten().ok_or(UpgradeError::Key)?;
    if !is_key(key) {
        return Err(UpgradeError::Key);
    }
    let origin = field::single(lines, "origin").map_err(|()| UpgradeError::Origin)?;
    let origin = origin.map(std::str::from_utf8).transpose().map_err(|_| UpgradeError::Origin)?;
    if field::elements(lines, "sec-websocket-protocol").any(|element| field::as_token(element).is_none()) {
        return Err(UpgradeError::Subprotocol);
    }
    Ok(Upgrade { head, host, origin, accept: accept_of(key) })
}

/// The Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (section 4.2.2): the key as it stands in the request.
#[must_use]
pub fn accept_of(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; 28];
    STANDARD.encode_slice(digest, &mut accept).expect("20 bytes are 28 in base64");
    accept
}

fn is_key(key: &[u8]) -> bool {
    // 24 characters decode to 18 bytes at most.
    let mut decoded = [0; 18];
    key.len() == 24 && KEY_BASE64.decode_slice(key, &mut decoded) == Ok(16)
}
