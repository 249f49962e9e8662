//! tungstenite as the judge: it reads what we write, we read what it writes, and both read the same broken streams alike.

mod common;

use std::io::{self, ErrorKind, Read, Write};

use common::{Owned, correct_stream, decode_pieces, mutated_stream, role};
use proptest::prelude::*;
use proto::{CloseCode, Limits, Opcode, ProtocolError, Role};
use tungstenite::protocol::{self, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

/// Small enough for mutations to exceed.
const LIMITS: Limits = Limits { message_bytes_max: 100_000, frame_bytes_max: 80_000 };

/// A stream that would block at its end, and takes whatever is written.
struct Wire {
    input: io::Cursor<Vec<u8>>,
    written: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tungstenite(role: Role, input: Vec<u8>) -> WebSocket<Wire> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LIMITS.message_bytes_max))
        .max_frame_size(Some(LIMITS.frame_bytes_max));
    let role = match role {
        Role::Client => protocol::Role::Client,
        Role::Server => protocol::Role::Server,
    };
    WebSocket::from_raw_socket(Wire { input: io::Cursor::new(input), written: Vec::new() }, role, Some(config))
}

/// A fault by its kind: what a close code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Protocol,
    Utf8,
    TooBig,
}

fn ours_by_kind(error: ProtocolError) -> Fault {
    match error.close_code() {
        CloseCode::PROTOCOL => Fault::Protocol,
        CloseCode::INVALID_PAYLOAD => Fault::Utf8,
        CloseCode::TOO_BIG => Fault::TooBig,
        code => panic!("{code} is no fault of a peer"),
    }
}

/// What tungstenite makes of a stream, up to a close frame.
fn read_by_tungstenite(role: Role, stream: &[u8]) -> (Vec<Owned>, Option<Fault>) {
    let mut socket = tungstenite(role, stream.to_vec());
    let mut events = Vec::new();
    let fault = loop {
        events.push(match socket.read() {
            Ok(Message::Text(text)) => Owned::Message(Opcode::Text, text.as_bytes().to_vec()),
            Ok(Message::Binary(payload)) => Owned::Message(Opcode::Binary, payload.to_vec()),
            Ok(Message::Ping(payload)) => Owned::Ping(payload.to_vec()),
            Ok(Message::Pong(payload)) => Owned::Pong(payload.to_vec()),
            Ok(Message::Close(close)) => {
                let close = close.map(|close| (CloseCode(close.code.into()), close.reason.to_string()));
                events.push(Owned::Close(close));
                break None;
            }
            Ok(Message::Frame(_)) => unreachable!("raw frames are never read"),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => break None,
            Err(Error::Protocol(_)) => break Some(Fault::Protocol),
            Err(Error::Utf8(_)) => break Some(Fault::Utf8),
            Err(Error::Capacity(_)) => break Some(Fault::TooBig),
            Err(error) => panic!("{error}"),
        });
    };
    (events, fault)
}

/// What we make of it, up to a close frame.
fn read_by_us(role: Role, stream: &[u8]) -> (Vec<Owned>, Option<ProtocolError>) {
    let mut outcome = decode_pieces(role, &LIMITS, stream.chunks(4096));
    if let Some(at) = outcome.events.iter().position(|event| matches!(event, Owned::Close(_))) {
        outcome.events.truncate(at + 1);
        outcome.error = None;
    }
    (outcome.events, outcome.error)
}

/// Compares both readings of a stream in which every frame is complete. Where they may differ, it is because we are strict:
/// tungstenite takes lengths that are not in their shortest form, replaces a bad close code (1014 among them) by 1002 where
/// we fail with 1002, and looks at a frame's size before its other faults.
fn compare(role: Role, stream: &[u8]) -> Result<(), TestCaseError> {
    let (theirs, their_fault) = read_by_tungstenite(role, stream);
    let (ours, our_error) = read_by_us(role, stream);
    let violation = Owned::Close(Some((CloseCode::PROTOCOL, "Protocol violation".to_owned())));
    match our_error {
        // A control frame's long length may be a short one in a long form.
        Some(ProtocolError::NonMinimalLength | ProtocolError::LengthTopBit | ProtocolError::ControlTooLong) => {
            prop_assert_eq!(&theirs[..ours.len()], &ours[..]);
        }
        Some(ProtocolError::CloseCode) => {
            // A reason that is not UTF-8 either is what tungstenite sees first.
            let judged = theirs.get(ours.len()) == Some(&violation) || their_fault == Some(Fault::Utf8);
            prop_assert!(judged, "{:?} {:?}", theirs, their_fault);
            prop_assert_eq!(&theirs[..ours.len()], &ours[..]);
        }
        None if theirs.last() == Some(&violation)
            && matches!(ours.last(), Some(Owned::Close(Some((CloseCode(1014), _))))) =>
        {
            prop_assert_eq!(&theirs[..theirs.len() - 1], &ours[..ours.len() - 1]);
        }
        _ => {
            prop_assert_eq!(&theirs, &ours, "our error: {:?}, their fault: {:?}", our_error, their_fault);
            let our_fault = our_error.map(ours_by_kind);
            let size_first = (our_fault, their_fault) == (Some(Fault::Protocol), Some(Fault::TooBig));
            prop_assert!(our_fault == their_fault || size_first, "{:?} but {:?}", our_error, their_fault);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn tungstenite_reads_what_we_write(
        (role, (stream, events)) in role().prop_flat_map(|role| (Just(role), correct_stream(role))),
    ) {
        let (theirs, fault) = read_by_tungstenite(role, &stream);
        let (ours, error) = read_by_us(role, &stream);
        // Messages of up to 70,000 bytes are within the limits, repeated text may not be.
        prop_assert_eq!(&theirs, &ours);
        prop_assert_eq!(error.map(ours_by_kind), fault);
        if fault.is_none() {
            prop_assert_eq!(theirs, events);
        }
    }

    #[test]
    fn we_read_what_tungstenite_writes(
        role in role(),
        messages in prop::collection::vec((any::<bool>(), any::<String>(), 0..3000_usize), 0..6),
    ) {
        // The writer plays the other role.
        let writer = if role == Role::Client { Role::Server } else { Role::Client };
        let mut socket = tungstenite(writer, Vec::new());
        let mut expected = Vec::new();
        for (is_text, text, times) in messages {
            let text = text.repeat(times % (1 + 80_000 / text.len().max(1)));
            let (opcode, message) = match is_text {
                true => (Opcode::Text, Message::text(text.clone())),
                false => (Opcode::Binary, Message::binary(text.clone().into_bytes())),
            };
            socket.write(message).unwrap();
            socket.write(Message::Ping(vec![1, 2, 3].into())).unwrap();
            expected.extend([Owned::Message(opcode, text.into_bytes()), Owned::Ping(vec![1, 2, 3])]);
        }
        socket.close(None).unwrap();
        expected.push(Owned::Close(None));
        let (ours, error) = read_by_us(role, &socket.get_ref().written);
        prop_assert_eq!(error, None);
        prop_assert_eq!(ours, expected);
    }

    #[test]
    fn broken_streams_are_judged_alike(
        (role, stream) in role().prop_flat_map(|role| (Just(role), mutated_stream(role))),
    ) {
        // Zeros complete any frame within the limits, so that both sides come to a verdict.
        compare(role, &[&stream[..], &[0; 90_000]].concat())?;
    }

    #[test]
    fn noise_is_judged_alike(role in role(), stream: Vec<u8>) {
        compare(role, &[&stream[..], &[0; 90_000]].concat())?;
    }
}
