//! What the tests of the decoder share: outcomes that own their bytes, frames to generate, and a stream cut in pieces.
#![allow(dead_code, reason = "each test file uses its own part")]

use proptest::prelude::*;
use proptest::sample::Index;
use proto::{AssemblyPool, CloseCode, Decoder, Event, Limits, Opcode, ProtocolError, Role, encode};

/// Far above what the tests send.
pub(crate) const LIMITS: Limits = Limits { message_bytes_max: 1 << 24, frame_bytes_max: 1 << 24 };

/// An [`Event`] that outlives its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owned {
    Message(Opcode, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(CloseCode, String)>),
}

impl From<Event<'_>> for Owned {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message(message) => Self::Message(message.opcode, message.payload.to_vec()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close(close) => Self::Close(close.map(|close| (close.code, close.reason.to_owned()))),
        }
    }
}

/// What became of a stream: the events, then the error if one ended it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) events: Vec<Owned>,
    pub(crate) error: Option<ProtocolError>,
}

/// Decodes a stream that arrives in `pieces`, as a connection does: until it is used up, or an error.
pub(crate) fn decode_pieces<'p>(role: Role, limits: &Limits, pieces: impl IntoIterator<Item = &'p [u8]>) -> Outcome {
    let mut pool = AssemblyPool::new(1 << 26);
    let mut decoder = Decoder::new(role);
    let mut events = Vec::new();
    for piece in pieces {
        let mut input = piece.to_vec();
        let mut from = 0;
        loop {
            let input_bytes = input.len() - from;
            match decoder.decode(&mut input[from..], limits, &mut pool) {
                Ok(decoded) => {
                    assert!(decoded.consumed <= input_bytes);
                    from += decoded.consumed;
                    let Some(event) = decoded.event else { break };
                    events.push(event.into());
                }
                Err(error) => {
                    assert_eq!(decoder.decode(&mut [], limits, &mut pool).err(), Some(error), "an error is for good");
                    return Outcome { events, error: Some(error) };
                }
            }
        }
        assert_eq!(from, input.len(), "without an event all input is consumed");
    }
    Outcome { events, error: None }
}

/// Cuts a stream at the given places, sorted or not, and also at none.
pub(crate) fn cut<'s>(stream: &'s [u8], cuts: &[Index]) -> Vec<&'s [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    at.extend([0, stream.len()]);
    at.sort_unstable();
    at.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect()
}

/// A message or control frame to send, with the fragments a message is sent in.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    Message { opcode: Opcode, payload: Vec<u8>, cuts: Vec<Index> },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// Payloads of every length form and around every edge, mostly short.
pub(crate) fn payload() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        8 => 0..300_usize,
        1 => prop::sample::select(vec![125, 126, 127, 16 * 1024 - 1, 16 * 1024, 65_535, 65_536, 70_000]),
    ];
    (length, any::<u8>()).prop_map(|(length, seed)| (0..length).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect())
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    (any::<String>(), 0..40_usize).prop_map(|(text, times)| text.repeat(times).into_bytes())
}

fn control() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=125)
}

/// A ping, pong, or message of any number of fragments.
pub(crate) fn sent() -> impl Strategy<Value = Sent> {
    let cuts = || prop::collection::vec(any::<Index>(), 0..4);
    prop_oneof![
        3 => (payload(), cuts())
            .prop_map(|(payload, cuts)| Sent::Message { opcode: Opcode::Binary, payload, cuts }),
        3 => (text(), cuts()).prop_map(|(payload, cuts)| Sent::Message { opcode: Opcode::Text, payload, cuts }),
        1 => control().prop_map(Sent::Ping),
        1 => control().prop_map(Sent::Pong),
    ]
}

/// A last frame.
pub(crate) fn close() -> impl Strategy<Value = Sent> {
    let reason = "\\PC{0,30}";
    prop_oneof![
        Just(Sent::Close(None)),
        (prop_oneof![Just(1000_u16), Just(1001), 3000..5000_u16], reason).prop_map(|close| Sent::Close(Some(close))),
    ]
}

impl Sent {
    /// What the other side is to see.
    pub(crate) fn expected(&self) -> Owned {
        match self {
            Self::Message { opcode, payload, .. } => Owned::Message(*opcode, payload.clone()),
            Self::Ping(payload) => Owned::Ping(payload.clone()),
            Self::Pong(payload) => Owned::Pong(payload.clone()),
            Self::Close(close) => Owned::Close(close.as_ref().map(|(code, reason)| (CloseCode(*code), reason.clone()))),
        }
    }

    /// Appends the frames, each followed by `between` unless it is the last: what may come between two fragments. `role`
    /// is the receiver's.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, role: Role, key: [u8; 4], between: &[Self]) {
        let key_of = |key| (role == Role::Server).then_some(key);
        match self {
            Self::Ping(payload) => encode::frame(out, true, Opcode::Ping, payload, key_of(key)),
            Self::Pong(payload) => encode::frame(out, true, Opcode::Pong, payload, key_of(key)),
            Self::Close(None) => encode::frame(out, true, Opcode::Close, &[], key_of(key)),
            Self::Close(Some((code, reason))) => {
                let (payload, length) = encode::close_payload(CloseCode(*code), reason);
                encode::frame(out, true, Opcode::Close, &payload[..length], key_of(key));
            }
            Self::Message { opcode, payload, cuts } => {
                let fragments = cut(payload, cuts);
                for (i, fragment) in fragments.iter().enumerate() {
                    let opcode = if i == 0 { *opcode } else { Opcode::Continuation };
                    let fin = i + 1 == fragments.len();
                    encode::frame(out, fin, opcode, fragment, key_of(key.map(|byte| byte.wrapping_add(i as u8))));
                    if !fin {
                        between.iter().for_each(|control| control.encode(out, role, key, &[]));
                    }
                }
            }
        }
    }
}

/// Either role.
pub(crate) fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Server)]
}

/// A correct stream for a receiver of this role, and the events it stands for; ends with a close frame or without.
pub(crate) fn correct_stream(role: Role) -> impl Strategy<Value = (Vec<u8>, Vec<Owned>)> {
    let interlude = prop_oneof![control().prop_map(Sent::Ping), control().prop_map(Sent::Pong)];
    let interludes = prop::collection::vec(interlude, 0..2);
    let messages = prop::collection::vec((sent(), any::<[u8; 4]>(), interludes), 0..6);
    (messages, prop::option::of(close())).prop_map(move |(messages, close)| {
        let mut stream = Vec::new();
        let mut events = Vec::new();
        for (sent, key, between) in messages {
            sent.encode(&mut stream, role, key, &between);
            if let Sent::Message { cuts, .. } = &sent {
                // `cut` makes one fragment more than there are cuts: as many gaps as cuts.
                for _ in cuts {
                    events.extend(between.iter().map(Sent::expected));
                }
            }
            events.push(sent.expected());
        }
        if let Some(close) = close {
            close.encode(&mut stream, role, [1, 2, 3, 4], &[]);
            events.push(close.expected());
        }
        (stream, events)
    })
}

/// A correct stream with a few bytes replaced, taken out, or put in.
pub(crate) fn mutated_stream(role: Role) -> impl Strategy<Value = Vec<u8>> {
    // Half of them among the first bytes, where the headers are.
    let mutation = (any::<Index>(), any::<bool>(), any::<u8>(), 0..4_u8);
    (correct_stream(role), prop::collection::vec(mutation, 1..4)).prop_map(|((mut stream, _), mutations)| {
        for (index, is_early, byte, kind) in mutations {
            if stream.is_empty() {
                break;
            }
            let at = index.index(if is_early { stream.len().min(16) } else { stream.len() });
            match kind {
                0 => stream[at] = byte,
                1 => stream[at] ^= 1 << (byte & 7),
                2 => drop(stream.remove(at)),
                _ => stream.insert(at, byte),
            }
        }
        stream
    })
}
