//! Every possible pair of first bytes, for both roles, between messages and within one: 262,144 frames against the rules of
//! RFC 6455 written down as plainly as possible, sharing nothing with the decoder.

mod common;

use common::{LIMITS, Owned, decode_pieces};
use proto::{CloseCode, Opcode, ProtocolError as E, Role};

/// The rules of sections 5.1, 5.2, 5.4 and 5.5, in the order of the header's bits.
fn fault(first: u8, second: u8, role: Role, in_message: bool) -> Option<E> {
    let fin = first & 0b1000_0000 != 0;
    let rsv = (first & 0b0111_0000) >> 4;
    let opcode = first & 0b0000_1111;
    let mask = second & 0b1000_0000 != 0;
    let length = second & 0b0111_1111;
    if rsv != 0 {
        return Some(E::ReservedBits);
    }
    if (0x3..=0x7).contains(&opcode) || (0xb..=0xf).contains(&opcode) {
        return Some(E::ReservedOpcode);
    }
    if opcode >= 0x8 && !fin {
        return Some(E::FragmentedControl);
    }
    if opcode == 0x0 && !in_message {
        return Some(E::UnexpectedContinuation);
    }
    if (opcode == 0x1 || opcode == 0x2) && in_message {
        return Some(E::ExpectedContinuation);
    }
    match role {
        Role::Server if !mask => return Some(E::UnmaskedFrame),
        Role::Client if mask => return Some(E::MaskedFrame),
        _ => {}
    }
    if opcode >= 0x8 && length > 125 {
        return Some(E::ControlTooLong);
    }
    None
}

/// The rest of a frame whose first two bytes are correct: the shortest length of its form, a masking key of zeros, and a
/// payload that is good for a close frame too.
fn rest_of_frame(second: u8) -> (Vec<u8>, Vec<u8>) {
    let (length_field, length) = match second & 0x7f {
        126 => (126_u16.to_be_bytes().to_vec(), 126),
        127 => (65_536_u64.to_be_bytes().to_vec(), 65_536),
        length => (Vec::new(), usize::from(length)),
    };
    let key = if second & 0x80 != 0 { vec![0; 4] } else { Vec::new() };
    let payload: Vec<u8> = [0x03, 0xe8].into_iter().chain(std::iter::repeat(b'a')).take(length).collect();
    ([length_field, key, payload.clone()].concat(), payload)
}

/// What a correct frame is to the receiver, once it is there whole. The payload starts with byte 0x03 0xe8, which is no
/// UTF-8: 0xe8 must be followed by a continuation byte.
fn outcome(first: u8, in_message: bool, payload: Vec<u8>) -> Result<Option<Owned>, E> {
    let fin = first & 0x80 != 0;
    let is_text = first & 0x0f == 1;
    match first & 0x0f {
        1 if payload.len() > 2 || (fin && payload.len() == 2) => Err(E::InvalidUtf8),
        _ if first & 0x08 == 0 && !fin => Ok(None),
        0 => {
            assert!(in_message);
            Ok(Some(Owned::Message(Opcode::Binary, payload)))
        }
        1 | 2 => Ok(Some(Owned::Message(if is_text { Opcode::Text } else { Opcode::Binary }, payload))),
        8 => match payload.len() {
            0 => Ok(Some(Owned::Close(None))),
            1 => Err(E::ClosePayload),
            length => Ok(Some(Owned::Close(Some((CloseCode(1000), "a".repeat(length - 2)))))),
        },
        9 => Ok(Some(Owned::Ping(payload))),
        10 => Ok(Some(Owned::Pong(payload))),
        _ => unreachable!("reserved opcodes are faults"),
    }
}

fn check_all(role: Role, in_message: bool) {
    // An empty first fragment puts the decoder within a binary message.
    let prefix: &[u8] = match (in_message, role) {
        (false, _) => &[],
        (true, Role::Client) => &[0x02, 0x00],
        (true, Role::Server) => &[0x02, 0x80, 0, 0, 0, 0],
    };
    let (mut faults, mut frames) = (0, 0);
    for bits in 0..=u16::MAX {
        let [first, second] = bits.to_be_bytes();
        let header = [prefix, &[first, second]].concat();
        if let Some(fault) = fault(first, second, role, in_message) {
            let seen = decode_pieces(role, &LIMITS, [&header[..]]);
            assert_eq!((seen.events.len(), seen.error), (0, Some(fault)), "{first:08b} {second:08b} {role:?}");
            faults += 1;
            continue;
        }
        let (rest, payload) = rest_of_frame(second);
        let seen = decode_pieces(role, &LIMITS, [&header[..], &rest]);
        let (event, error) = match outcome(first, in_message, payload) {
            Ok(event) => (event, None),
            Err(error) => (None, Some(error)),
        };
        assert_eq!(
            (seen.events, seen.error),
            (event.into_iter().collect(), error),
            "{first:08b} {second:08b} {role:?} in_message={in_message}"
        );
        frames += 1;
    }
    // Data: 2 opcodes or 1, with and without FIN, 128 lengths. Control: 3 opcodes with 126 lengths.
    let data_opcodes = if in_message { 1 } else { 2 };
    assert_eq!(frames, data_opcodes * 2 * 128 + 3 * 126);
    assert_eq!(faults + frames, 65_536);
}

#[test]
fn all_first_two_bytes_as_a_server_between_messages() {
    check_all(Role::Server, false);
}

#[test]
fn all_first_two_bytes_as_a_server_within_a_message() {
    check_all(Role::Server, true);
}

#[test]
fn all_first_two_bytes_as_a_client_between_messages() {
    check_all(Role::Client, false);
}

#[test]
fn all_first_two_bytes_as_a_client_within_a_message() {
    check_all(Role::Client, true);
}

#[test]
fn lengths_must_be_in_their_shortest_form() {
    let frame = |second: u8, length: &[u8]| [&[0x82, second], length].concat();
    for length in 0..126_u16 {
        let stream = frame(126, &length.to_be_bytes());
        assert_eq!(decode_pieces(Role::Client, &LIMITS, [&stream[..]]).error, Some(E::NonMinimalLength), "{length}");
    }
    for length in [0, 1, 125, 126, 65_535_u64] {
        let stream = frame(127, &length.to_be_bytes());
        assert_eq!(decode_pieces(Role::Client, &LIMITS, [&stream[..]]).error, Some(E::NonMinimalLength), "{length}");
    }
    for length in [1 << 63, u64::MAX] {
        let stream = frame(127, &length.to_be_bytes());
        assert_eq!(decode_pieces(Role::Client, &LIMITS, [&stream[..]]).error, Some(E::LengthTopBit), "{length}");
    }
}
