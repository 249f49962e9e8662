//! The closing handshake (RFC 6455 section 7): codes, the payload of a close frame, and who still owes one.

use std::fmt;

use crate::error::ProtocolError;

/// A status code of a close frame (section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(
    /// The code as it stands on the wire.
    pub u16,
);

impl CloseCode {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The server shuts down, or the browser left the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// A kind of data that this endpoint does not take.
    pub const UNSUPPORTED: Self = Self(1003);
    /// Data that is not what its type says, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// The peer broke a policy.
    pub const POLICY: Self = Self(1008);
    /// A message too big to take.
    pub const TOO_BIG: Self = Self(1009);
    /// Our own fault.
    pub const INTERNAL: Self = Self(1011);
    /// Overloaded, or the consumer is too slow (registered with IANA).
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// Whether a close frame may carry this code: those that RFC 6455 section 7.4.1 defines for the wire, 1012–1014 as
    /// registered with IANA, and the ranges for libraries and applications (3000–4999).
    #[must_use]
    pub const fn is_valid_on_wire(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a close frame says. A close frame without a code is an absent `CloseFrame`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// Why the peer closes; valid on the wire.
    pub code: CloseCode,
    /// The same in words, possibly empty; at most 123 bytes.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads the payload of a close frame (section 5.5.1).
    ///
    /// # Errors
    /// [`ProtocolError::ClosePayload`], [`ProtocolError::CloseCode`] or [`ProtocolError::CloseReason`].
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Option<Self>, ProtocolError> {
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            return if payload.is_empty() { Ok(None) } else { Err(ProtocolError::ClosePayload) };
        };
        let code = CloseCode(u16::from_be_bytes(*code));
        if !code.is_valid_on_wire() {
            return Err(ProtocolError::CloseCode);
        }
        let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::CloseReason)?;
        Ok(Some(Self { code, reason }))
    }
}

/// How far the closing handshake is: over when both sides have sent their close frame (section 7.1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closing {
    sent: bool,
    received: bool,
}

impl Closing {
    /// Neither side has closed.
    #[must_use]
    pub const fn new() -> Self {
        Self { sent: false, received: false }
    }

    /// Our close frame is on its way; nothing but it may follow. Returns whether it is the first: a second one must not be
    /// sent.
    pub const fn on_sent(&mut self) -> bool {
        let first = !self.sent;
        self.sent = true;
        first
    }

    /// The peer's close frame came; whatever follows it is to be discarded. Returns whether we still owe ours.
    #[must_use]
    pub const fn on_received(&mut self) -> bool {
        self.received = true;
        !self.sent
    }

    /// Whether our close frame went out.
    #[must_use]
    pub const fn is_sent(self) -> bool {
        self.sent
    }

    /// Whether the peer's close frame came in.
    #[must_use]
    pub const fn is_received(self) -> bool {
        self.received
    }

    /// Whether both sides have closed, so that the TCP connection may end.
    #[must_use]
    pub const fn is_done(self) -> bool {
        self.sent && self.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_of_section_7_4_and_no_others_are_valid_on_the_wire() {
        for code in 0..=u16::MAX {
            let expected = match code {
                1004..=1006 | 1015 => false, // reserved, must not be on the wire
                1000..=1014 => true,         // defined or registered
                3000..=4999 => true,         // libraries and private use
                _ => false,
            };
            assert_eq!(CloseCode(code).is_valid_on_wire(), expected, "{code}");
        }
    }

    #[test]
    fn a_close_payload_is_empty_or_a_code_and_a_reason() {
        assert_eq!(CloseFrame::parse(b""), Ok(None));
        assert_eq!(CloseFrame::parse(b"\x03"), Err(ProtocolError::ClosePayload));
        assert_eq!(CloseFrame::parse(b"\x03\xe8"), Ok(Some(CloseFrame { code: CloseCode::NORMAL, reason: "" })));
        assert_eq!(
            CloseFrame::parse("\u{3}\u{0}bye".as_bytes()),
            Err(ProtocolError::CloseCode),
            "768 is below the first code"
        );
        assert_eq!(
            CloseFrame::parse(b"\x0f\xa0gr\xc3\xbc\xc3\x9fe"),
            Ok(Some(CloseFrame { code: CloseCode(4000), reason: "grüße" }))
        );
        assert_eq!(CloseFrame::parse(b"\x03\xe8\xc3"), Err(ProtocolError::CloseReason));
    }

    #[test]
    fn whoever_receives_first_replies_once() {
        let mut closing = Closing::new();
        assert!(closing.on_received(), "the reply is owed");
        assert!(!closing.is_done());
        assert!(closing.on_sent());
        assert!(closing.is_done());
        assert!(!closing.on_sent(), "a second close frame must not leave");
    }

    #[test]
    fn whoever_sends_first_waits_and_does_not_reply() {
        let mut closing = Closing::new();
        assert!(closing.on_sent());
        assert!(closing.is_sent() && !closing.is_received() && !closing.is_done());
        assert!(!closing.on_received());
        assert!(closing.is_done());
    }
}
