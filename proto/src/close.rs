//! The closing handshake (RFC 6455 section 7): codes, and the payload of a close frame.

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
}
