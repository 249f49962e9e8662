//! Frame headers and masking, RFC 6455 section 5: both directions, because the null peers are servers.

/// Opcodes of RFC 6455 section 5.2.
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

/// How the other side broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireError {
    /// A reserved bit is set, and no extension was agreed.
    ReservedBit,
    /// An opcode that RFC 6455 does not define.
    Opcode,
    /// A server masks, or a client does not.
    Masking,
    /// A control frame in fragments or above 125 bytes.
    Control,
    /// A length in more bytes than needed, or with its highest bit set.
    Length,
    /// A continuation without a beginning, or a beginning within a message.
    Fragmentation,
    /// A message above the limit that was set for it.
    TooLong,
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ReservedBit => "a frame has a reserved bit set",
            Self::Opcode => "a frame has an unknown opcode",
            Self::Masking => "a frame is masked the wrong way",
            Self::Control => "a control frame is fragmented or too long",
            Self::Length => "a frame's length is not in its shortest form",
            Self::Fragmentation => "a message's fragments are out of order",
            Self::TooLong => "a message is above the limit",
        })
    }
}

/// A frame's header; the payload follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    /// The masking key, on frames from clients.
    pub(crate) key: Option<[u8; 4]>,
    pub(crate) header_bytes: usize,
    pub(crate) payload_bytes: u64,
}

/// Reads the header at the start of `bytes`; `Ok(None)`: not enough of it yet. `masked`: the sender is a client.
///
/// # Errors
/// As soon as the bytes that are there break RFC 6455.
#[inline]
pub(crate) fn decode_header(bytes: &[u8], masked: bool) -> Result<Option<Header>, WireError> {
    let [b0, b1, rest @ ..] = bytes else { return Ok(None) };
    let (fin, opcode) = (b0 & 0x80 != 0, b0 & 0x0F);
    if b0 & 0x70 != 0 {
        return Err(WireError::ReservedBit);
    }
    if (b1 & 0x80 != 0) != masked {
        return Err(WireError::Masking);
    }
    if opcode & 0x7 > 2 {
        return Err(WireError::Opcode);
    }
    let short = b1 & 0x7F;
    if opcode >= CLOSE && (!fin || short > 125) {
        return Err(WireError::Control);
    }
    let (length_bytes, payload_bytes) = match short {
        126 => {
            let Some(length) = rest.first_chunk::<2>() else { return Ok(None) };
            (2, u64::from(u16::from_be_bytes(*length)))
        }
        127 => {
            let Some(length) = rest.first_chunk::<8>() else { return Ok(None) };
            (8, u64::from_be_bytes(*length))
        }
        length => (0, u64::from(length)),
    };
    let shortest = match length_bytes {
        0 => true,
        2 => payload_bytes > 125,
        _ => payload_bytes > 0xFFFF && payload_bytes >> 63 == 0,
    };
    if !shortest {
        return Err(WireError::Length);
    }
    let key = match masked {
        true => match rest[length_bytes..].first_chunk::<4>() {
            Some(key) => Some(*key),
            None => return Ok(None),
        },
        false => None,
    };
    let header_bytes = 2 + length_bytes + if masked { 4 } else { 0 };
    Ok(Some(Header { fin, opcode, key, header_bytes, payload_bytes }))
}

/// Appends a whole unfragmented frame to `out`; with a key as a client sends it.
pub(crate) fn append_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8], key: Option<[u8; 4]>) {
    append_header(out, opcode, payload.len(), key);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = key {
        mask(&mut out[start..], key);
    }
}

/// Appends the header of an unfragmented frame.
pub(crate) fn append_header(out: &mut Vec<u8>, opcode: u8, payload_bytes: usize, key: Option<[u8; 4]>) {
    let mask_bit = if key.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    match payload_bytes {
        0..=125 => out.push(mask_bit | payload_bytes as u8),
        126..=0xFFFF => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
    if let Some(key) = key {
        out.extend_from_slice(&key);
    }
}

/// Masks or unmasks in place, RFC 6455 section 5.3; `bytes` begin at the payload's start.
pub(crate) fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let word = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key) {
        *byte ^= key;
    }
    for (byte, key) in tail.iter_mut().skip(4).zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_6455_section_5_7_decode() {
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let header = decode_header(&masked, true).unwrap().unwrap();
        assert_eq!((header.fin, header.opcode, header.header_bytes, header.payload_bytes), (true, TEXT, 6, 5));
        let mut payload = masked[6..].to_vec();
        mask(&mut payload, header.key.unwrap());
        assert_eq!(payload, b"Hello");
        let long = decode_header(&[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0], false).unwrap().unwrap();
        assert_eq!((long.opcode, long.payload_bytes, long.header_bytes), (BINARY, 65536, 10));
    }

    #[test]
    fn every_encoded_length_decodes_to_itself() {
        for len in [0, 1, 7, 8, 13, 125, 126, 127, 255, 256, 65535, 65536, 70000] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            for key in [None, Some([1, 2, 3, 250])] {
                let mut out = Vec::new();
                append_frame(&mut out, BINARY, &payload, key);
                let header = decode_header(&out, key.is_some()).unwrap().unwrap();
                assert_eq!((header.payload_bytes as usize, header.key), (len, key));
                let body = &mut out[header.header_bytes..];
                mask(body, key.unwrap_or([0; 4]));
                assert_eq!(body, payload);
            }
        }
    }

    #[test]
    fn a_header_cut_anywhere_asks_for_more() {
        let mut out = Vec::new();
        append_header(&mut out, BINARY, 70000, Some([9; 4]));
        assert_eq!(out.len(), 14);
        for cut in 0..out.len() {
            assert_eq!(decode_header(&out[..cut], true), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn what_rfc_6455_forbids_is_refused() {
        for (bytes, error) in [
            (&[0xC1, 0][..], WireError::ReservedBit),
            (&[0x83, 0], WireError::Opcode),
            (&[0x8B, 0], WireError::Opcode),
            (&[0x81, 0x80], WireError::Masking),
            (&[0x09, 0], WireError::Control),
            (&[0x89, 126, 0, 126], WireError::Control),
            (&[0x81, 126, 0, 125], WireError::Length),
            (&[0x81, 127, 0, 0, 0, 0, 0, 0, 255, 255], WireError::Length),
            (&[0x81, 127, 128, 0, 0, 0, 0, 0, 255, 255], WireError::Length),
        ] {
            assert_eq!(decode_header(bytes, false), Err(error), "{bytes:?}");
        }
    }
}
