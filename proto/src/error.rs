//! What a peer can do wrong, and the close code each fault is answered with (RFC 6455 section 7.4.1).

use std::fmt;

use crate::close::CloseCode;

/// A peer's fault, or the limit it ran into. The connection that caused it cannot go on.
///
/// `Display` gives a reason short enough for a close frame (at most 123 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ProtocolError {
    /// RSV1, RSV2 or RSV3 is set and no extension was negotiated (section 5.2).
    ReservedBits,
    /// Opcode 3–7 or 11–15 (section 5.2).
    ReservedOpcode,
    /// A control frame without FIN (section 5.5).
    FragmentedControl,
    /// A control frame that announces more than 125 bytes (section 5.5).
    ControlTooLong,
    /// A length that fits a shorter form (section 5.2).
    NonMinimalLength,
    /// A 64-bit length with its top bit set (section 5.2).
    LengthTopBit,
    /// A client's frame came without a mask (section 5.1).
    UnmaskedFrame,
    /// A server's frame came with a mask (section 5.1).
    MaskedFrame,
    /// A continuation frame although no message is in progress (section 5.4).
    UnexpectedContinuation,
    /// A new message began within an unfinished one (section 5.4).
    ExpectedContinuation,
    /// A text message that is not UTF-8 (section 8.1).
    InvalidUtf8,
    /// A message longer than `message_bytes_max`.
    MessageTooBig,
    /// A frame longer than `frame_bytes_max`.
    FrameTooBig,
    /// A close payload of one byte (section 5.5.1).
    ClosePayload,
    /// A close code that must not be on the wire (section 7.4).
    CloseCode,
    /// A close reason that is not UTF-8 (section 5.5.1).
    CloseReason,
    /// The shard holds as many unfinished messages as it may; the peer did nothing wrong.
    Overloaded,
}

impl ProtocolError {
    /// The code to close with.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::NonMinimalLength
            | Self::LengthTopBit
            | Self::UnmaskedFrame
            | Self::MaskedFrame
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::ClosePayload
            | Self::CloseCode => CloseCode::PROTOCOL,
            Self::InvalidUtf8 | Self::CloseReason => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooBig | Self::FrameTooBig => CloseCode::TOO_BIG,
            Self::Overloaded => CloseCode::TRY_AGAIN_LATER,
        }
    }

    /// The reason in words, as it stands in the close frame.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bits are set",
            Self::ReservedOpcode => "reserved opcode",
            Self::FragmentedControl => "fragmented control frame",
            Self::ControlTooLong => "control frame longer than 125 bytes",
            Self::NonMinimalLength => "length is not in its shortest form",
            Self::LengthTopBit => "length has its top bit set",
            Self::UnmaskedFrame => "client frame is not masked",
            Self::MaskedFrame => "server frame is masked",
            Self::UnexpectedContinuation => "continuation frame without a message",
            Self::ExpectedContinuation => "new message within a fragmented one",
            Self::InvalidUtf8 => "text is not UTF-8",
            Self::MessageTooBig => "message too big",
            Self::FrameTooBig => "frame too big",
            Self::ClosePayload => "close payload of one byte",
            Self::CloseCode => "invalid close code",
            Self::CloseReason => "close reason is not UTF-8",
            Self::Overloaded => "too many unfinished messages, try again later",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::close_payload;

    const ALL: [ProtocolError; 17] = [
        ProtocolError::ReservedBits,
        ProtocolError::ReservedOpcode,
        ProtocolError::FragmentedControl,
        ProtocolError::ControlTooLong,
        ProtocolError::NonMinimalLength,
        ProtocolError::LengthTopBit,
        ProtocolError::UnmaskedFrame,
        ProtocolError::MaskedFrame,
        ProtocolError::UnexpectedContinuation,
        ProtocolError::ExpectedContinuation,
        ProtocolError::InvalidUtf8,
        ProtocolError::MessageTooBig,
        ProtocolError::FrameTooBig,
        ProtocolError::ClosePayload,
        ProtocolError::CloseCode,
        ProtocolError::CloseReason,
        ProtocolError::Overloaded,
    ];

    #[test]
    fn every_error_fits_into_a_close_frame() {
        for (i, error) in ALL.into_iter().enumerate() {
            assert_eq!(error as usize, i, "the list is complete and in order");
            let reason = error.to_string();
            let (payload, length) = close_payload(error.close_code(), &reason);
            assert_eq!(&payload[2..length], reason.as_bytes(), "cut");
            assert!(error.close_code().is_valid_on_wire());
        }
    }
}
