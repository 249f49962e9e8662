//! The decoder under libFuzzer: any bytes, cut anywhere, within any limits. Whole and cut must come to the same events and
//! the same error; an error is for good; the pool's bound holds and everything goes back to it.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use proto::{AssemblyPool, Decoder, Event, Limits, Opcode, Payload, ProtocolError, Role, encode, utf8};

const HELD_BYTES_MAX: usize = 1 << 20;

/// The input's first bytes choose the setting, the rest is the stream.
struct Setting {
    role: Role,
    limits: Limits,
    /// Lengths of the pieces, used in turn.
    pieces_bytes: [usize; 3],
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((&[role, limit, a, b, c], stream)) = input.split_first_chunk() else { return Corpus::Reject };
    let setting = Setting {
        role: if role & 1 == 0 { Role::Server } else { Role::Client },
        limits: Limits { message_bytes_max: usize::from(limit) * 300, frame_bytes_max: usize::from(limit) * 200 },
        pieces_bytes: [a, b, c].map(|bytes| usize::from(bytes) + 1),
    };
    let whole = decode(&setting, [stream]);
    let cut = decode(&setting, pieces(stream, setting.pieces_bytes));
    assert_eq!(whole, cut);
    Corpus::Keep
});

fn pieces(mut stream: &[u8], pieces_bytes: [usize; 3]) -> impl Iterator<Item = &[u8]> {
    pieces_bytes.into_iter().cycle().map_while(move |piece_bytes| {
        let (piece, rest) = stream.split_at(piece_bytes.min(stream.len()));
        stream = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The events in words, and the error.
fn decode<'s>(setting: &Setting, pieces: impl IntoIterator<Item = &'s [u8]>) -> (Vec<String>, Option<ProtocolError>) {
    let mut pool = AssemblyPool::new(HELD_BYTES_MAX);
    let mut decoder = Decoder::new(setting.role);
    let mut events = Vec::new();
    let mut error = None;
    'stream: for piece in pieces {
        let mut input = piece.to_vec();
        let mut from = 0;
        loop {
            match decoder.decode(&mut input[from..], &setting.limits, &mut pool) {
                Ok(decoded) => {
                    from += decoded.consumed;
                    let Some(event) = decoded.event else { break };
                    events.push(describe(event, &setting.limits));
                }
                Err(first) => {
                    error = Some(first);
                    assert_eq!(decoder.decode(&mut [], &setting.limits, &mut pool).err(), error);
                    break 'stream;
                }
            }
            assert!(pool.held_bytes() <= HELD_BYTES_MAX);
        }
        assert_eq!(from, input.len());
    }
    decoder.release(&mut pool);
    assert!(decoder.is_between_messages());
    // All of it is idle now: a pool without room for more still serves.
    assert!(pool.held_bytes() <= HELD_BYTES_MAX);
    (events, error)
}

fn describe(event: Event<'_>, limits: &Limits) -> String {
    let Event::Message(message) = event else { return format!("{event:?}") };
    assert!(message.payload.len() <= limits.message_bytes_max);
    assert!(message.opcode != Opcode::Text || utf8::is_valid(&message.payload));
    let words = format!("{:?} {:x?}", message.opcode, &*message.payload);
    if let Payload::Owned(owned) = message.payload {
        let mut frame = Vec::new();
        encode::server_frame(&mut frame, message.opcode, &owned);
        assert_eq!(owned.into_server_frame(message.opcode), frame);
    }
    words
}
