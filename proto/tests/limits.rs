//! What a peer can make the decoder do or hold: limits, the pool's bound, early failure, and nothing left behind.
#![allow(clippy::unwrap_used, reason = "the helpers belong to the tests")]

mod common;

use common::{LIMITS, Owned, decode_pieces};
use proto::{
    AssemblyPool, Decoded, Decoder, Event, Limits, OWNED_BYTES_MIN, Opcode, Payload, ProtocolError, Role, encode,
};

const SMALL: Limits = Limits { message_bytes_max: 1000, frame_bytes_max: 600 };

fn server_frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::frame(&mut out, fin, opcode, payload, Some([9, 8, 7, 6]));
    out
}

/// Feeds one piece that must not complete anything.
fn feed(decoder: &mut Decoder, piece: &[u8], limits: &Limits, pool: &mut AssemblyPool) -> Result<(), ProtocolError> {
    let mut input = piece.to_vec();
    let decoded = decoder.decode(&mut input, limits, pool)?;
    assert!(decoded.event.is_none());
    assert_eq!(decoded.consumed, piece.len());
    Ok(())
}

#[test]
fn a_limit_is_enforced_from_the_header_alone() {
    let header = |length: u64| [&[0x82, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
    for (length, limits, error) in [
        (1 << 40, LIMITS, ProtocolError::FrameTooBig),
        ((1 << 63) - 1, LIMITS, ProtocolError::FrameTooBig),
        (70_001, Limits { message_bytes_max: 70_000, frame_bytes_max: 80_000 }, ProtocolError::MessageTooBig),
        (70_001, Limits { message_bytes_max: 80_000, frame_bytes_max: 70_000 }, ProtocolError::FrameTooBig),
    ] {
        let mut pool = AssemblyPool::new(1 << 20);
        let mut decoder = Decoder::new(Role::Server);
        assert_eq!(feed(&mut decoder, &header(length), &limits, &mut pool), Err(error), "{length}");
        assert_eq!(pool.held_bytes(), 0, "nothing was buffered");
    }
}

#[test]
fn limits_are_inclusive() {
    let at_limit = server_frame(true, Opcode::Binary, &[1; 600]);
    let outcome = decode_pieces(Role::Server, &SMALL, [&at_limit[..]]);
    assert_eq!(outcome.events, [Owned::Message(Opcode::Binary, vec![1; 600])]);
    let above = server_frame(true, Opcode::Binary, &[1; 601]);
    assert_eq!(decode_pieces(Role::Server, &SMALL, [&above[..]]).error, Some(ProtocolError::FrameTooBig));
}

#[test]
fn the_message_limit_counts_over_fragments() {
    let first = server_frame(false, Opcode::Binary, &[1; 600]);
    let fits = server_frame(true, Opcode::Continuation, &[2; 400]);
    let outcome = decode_pieces(Role::Server, &SMALL, [&first[..], &fits]);
    assert_eq!(outcome.events, [Owned::Message(Opcode::Binary, [&[1; 600][..], &[2; 400]].concat())]);
    // Its header is enough.
    let exceeds = server_frame(true, Opcode::Continuation, &[2; 401]);
    let outcome = decode_pieces(Role::Server, &SMALL, [&first[..], &exceeds[..8]]);
    assert_eq!(outcome.error, Some(ProtocolError::MessageTooBig));
}

#[test]
fn limits_of_zero_still_let_control_frames_and_empty_messages_through() {
    let nothing = Limits { message_bytes_max: 0, frame_bytes_max: 0 };
    let stream = [server_frame(true, Opcode::Ping, b"hi"), server_frame(true, Opcode::Text, b"")].concat();
    let outcome = decode_pieces(Role::Server, &nothing, [&stream[..]]);
    assert_eq!(outcome.events, [Owned::Ping(b"hi".to_vec()), Owned::Message(Opcode::Text, Vec::new())]);
}

#[test]
fn an_announced_gigabyte_costs_what_has_arrived_of_it() {
    let limits = Limits { message_bytes_max: 1 << 30, frame_bytes_max: 1 << 30 };
    let mut pool = AssemblyPool::new(1 << 30);
    let mut decoder = Decoder::new(Role::Server);
    let header = [&[0x82, 0xff][..], &(1_u64 << 30).to_be_bytes(), &[0; 4]].concat();
    feed(&mut decoder, &header, &limits, &mut pool).unwrap();
    assert_eq!(pool.held_bytes(), 0);
    let mut arrived = 0;
    for _ in 0..1000 {
        feed(&mut decoder, &[7; 100], &limits, &mut pool).unwrap();
        arrived += 100;
        assert!(pool.held_bytes() <= 2 * arrived + 1024, "{} held for {arrived}", pool.held_bytes());
    }
    decoder.release(&mut pool);
    assert!(decoder.is_between_messages());
}

#[test]
fn a_message_in_one_frame_is_not_given_more_room_than_it_needs() {
    let mut pool = AssemblyPool::new(1 << 30);
    let mut decoder = Decoder::new(Role::Server);
    let frame = server_frame(true, Opcode::Binary, &[1; 100_000]);
    for piece in frame[..frame.len() - 1].chunks(1000) {
        feed(&mut decoder, piece, &LIMITS, &mut pool).unwrap();
    }
    assert!(pool.held_bytes() < 100_000 + 512, "{}", pool.held_bytes());
}

#[test]
fn a_million_empty_fragments_cost_nothing() {
    let mut pool = AssemblyPool::new(0);
    let mut decoder = Decoder::new(Role::Server);
    feed(&mut decoder, &server_frame(false, Opcode::Text, b""), &SMALL, &mut pool).unwrap();
    let thousand = server_frame(false, Opcode::Continuation, b"").repeat(1000);
    for _ in 0..1000 {
        feed(&mut decoder, &thousand, &SMALL, &mut pool).unwrap();
    }
    assert_eq!(pool.held_bytes(), 0);
    // A pool without any room suffices for the whole message.
    let mut last = server_frame(true, Opcode::Continuation, b"end");
    let decoded = decoder.decode(&mut last, &SMALL, &mut pool).unwrap();
    let Some(Event::Message(message)) = decoded.event else { panic!("{decoded:?}") };
    assert_eq!((message.opcode, &*message.payload), (Opcode::Text, &b"end"[..]));
}

#[test]
fn a_million_pings_within_a_message_are_handed_out_one_by_one() {
    let mut pool = AssemblyPool::new(4096);
    let mut decoder = Decoder::new(Role::Server);
    feed(&mut decoder, &server_frame(false, Opcode::Binary, b"a"), &SMALL, &mut pool).unwrap();
    let held = pool.held_bytes();
    let ping = server_frame(true, Opcode::Ping, b"payload");
    let mut pings = 0;
    for _ in 0..1000 {
        let mut input = ping.repeat(1000);
        let mut from = 0;
        while let Decoded { consumed, event: Some(event) } =
            decoder.decode(&mut input[from..], &SMALL, &mut pool).unwrap()
        {
            assert_eq!(event, Event::Ping(b"payload"));
            from += consumed;
            pings += 1;
        }
    }
    assert_eq!((pings, pool.held_bytes()), (1_000_000, held));
}

#[test]
fn the_pool_bounds_the_sum_over_all_decoders() {
    let mut pool = AssemblyPool::new(8192);
    let first_fragment = server_frame(false, Opcode::Binary, &[1; 500]);
    let mut decoders = Vec::new();
    let error = loop {
        let mut decoder = Decoder::new(Role::Server);
        let fed = feed(&mut decoder, &first_fragment, &SMALL, &mut pool);
        decoders.push(decoder);
        assert!(pool.held_bytes() <= 8192);
        if let Err(error) = fed {
            break error;
        }
    };
    assert_eq!(error, ProtocolError::Overloaded);
    assert_eq!(error.close_code(), proto::CloseCode::TRY_AGAIN_LATER);
    assert!((10..16).contains(&decoders.len()), "about 8192 / 670: {}", decoders.len());
    // What is given back is there for others, in any size.
    decoders.iter_mut().for_each(|decoder| decoder.release(&mut pool));
    let mut decoder = Decoder::new(Role::Server);
    feed(&mut decoder, &server_frame(false, Opcode::Binary, &[1; 7000]), &LIMITS, &mut pool).unwrap();
    assert!(pool.held_bytes() <= 8192);
}

#[test]
fn where_doubling_does_not_fit_what_is_needed_does() {
    let mut pool = AssemblyPool::new(8192);
    let mut decoder = Decoder::new(Role::Server);
    feed(&mut decoder, &server_frame(false, Opcode::Binary, &[1; 4500]), &LIMITS, &mut pool).unwrap();
    feed(&mut decoder, &server_frame(false, Opcode::Continuation, &[1; 2000]), &LIMITS, &mut pool).unwrap();
    assert!((6500..=8192).contains(&pool.held_bytes()), "{}", pool.held_bytes());
    let beyond = feed(&mut decoder, &server_frame(false, Opcode::Continuation, &[1; 2000]), &LIMITS, &mut pool);
    assert_eq!(beyond, Err(ProtocolError::Overloaded));
}

#[test]
fn a_burst_does_not_leave_its_buffers_behind() {
    let mut pool = AssemblyPool::new(1 << 26);
    let fragment = server_frame(false, Opcode::Binary, &[1; 15_000]);
    let mut decoders: Vec<Decoder> = (0..200).map(|_| Decoder::new(Role::Server)).collect();
    for decoder in &mut decoders {
        feed(decoder, &fragment, &LIMITS, &mut pool).unwrap();
    }
    assert!(pool.held_bytes() > 200 * 15_000);
    decoders.iter_mut().for_each(|decoder| decoder.release(&mut pool));
    assert!(pool.held_bytes() <= 1 << 20, "{} are idle", pool.held_bytes());
    assert!(pool.held_bytes() >= 1 << 19, "some wait for their next use");
}

#[test]
fn a_message_that_lies_whole_in_the_input_needs_no_pool() {
    let mut pool = AssemblyPool::new(0);
    let mut decoder = Decoder::new(Role::Server);
    let mut input = server_frame(true, Opcode::Binary, &[5; 200_000]);
    let decoded = decoder.decode(&mut input, &LIMITS, &mut pool).unwrap();
    let Some(Event::Message(message)) = decoded.event else { panic!("{decoded:?}") };
    assert!(matches!(message.payload, Payload::Slice(payload) if payload == [5; 200_000]));
}

/// Decodes a message of this size in two pieces and calls `check` with its payload.
fn assembled(payload: &[u8], pool: &mut AssemblyPool, check: impl FnOnce(Payload<'_>)) {
    let mut decoder = Decoder::new(Role::Server);
    let mut frame = server_frame(true, Opcode::Binary, payload);
    let half = frame.len() / 2;
    feed(&mut decoder, &frame[..half], &LIMITS, pool).unwrap();
    let decoded = decoder.decode(&mut frame[half..], &LIMITS, pool).unwrap();
    let Some(Event::Message(message)) = decoded.event else { panic!("{decoded:?}") };
    check(message.payload);
    feed(&mut decoder, b"", &LIMITS, pool).unwrap();
    assert!(decoder.is_between_messages());
}

#[test]
fn short_assembled_payloads_are_lent_and_long_ones_are_owned() {
    let mut pool = AssemblyPool::new(1 << 20);
    let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
    let short = &bytes[..OWNED_BYTES_MIN - 1];
    assembled(short, &mut pool, |payload| assert!(matches!(payload, Payload::Slice(lent) if lent == short)));
    let held = pool.held_bytes();
    assert!(held >= OWNED_BYTES_MIN, "the buffer waits for its next use");

    for length in [OWNED_BYTES_MIN, 65_535, 65_536, 100_000] {
        let long = &bytes[..length];
        let mut expected = Vec::new();
        encode::server_frame(&mut expected, Opcode::Binary, long);
        assembled(long, &mut pool, |payload| {
            let Payload::Owned(owned) = payload else { panic!("{length} bytes are not owned") };
            assert_eq!(&*owned, long);
            assert_eq!(owned.into_server_frame(Opcode::Binary), expected);
        });
        assembled(long, &mut pool, |payload| {
            let Payload::Owned(owned) = payload else { panic!("{length} bytes are not owned") };
            assert_eq!(owned.into_payload(), long);
        });
        assert!(pool.held_bytes() < held, "an owned payload is not in the pool's account");
    }
}

#[test]
fn an_owned_payload_of_many_fragments_carries_little_spare_room() {
    let mut pool = AssemblyPool::new(1 << 20);
    let mut decoder = Decoder::new(Role::Server);
    // Doubling has just happened: nearly half of the buffer is spare.
    feed(&mut decoder, &server_frame(false, Opcode::Binary, &[1; 33_000]), &LIMITS, &mut pool).unwrap();
    feed(&mut decoder, &server_frame(false, Opcode::Continuation, &[1; 100]), &LIMITS, &mut pool).unwrap();
    let held = pool.held_bytes();
    let mut last = server_frame(true, Opcode::Continuation, b"");
    let decoded = decoder.decode(&mut last, &LIMITS, &mut pool).unwrap();
    let Some(Event::Message(message)) = decoded.event else { panic!("{decoded:?}") };
    let Payload::Owned(owned) = message.payload else { panic!("33,100 bytes are owned") };
    let bytes = owned.into_payload();
    assert!(held > 60_000, "the buffer had doubled: {held}");
    let buffer = bytes.try_into_mut().expect("the only reference");
    assert!(buffer.capacity() < 33_100 * 5 / 4, "{}", buffer.capacity());
}

#[test]
fn bad_utf8_fails_at_the_first_bad_byte_of_an_unfinished_frame() {
    // "κόσμε" and then a surrogate, as in Autobahn 6.4.
    let text = ["κόσμε".as_bytes(), &[0xf4, 0x90]].concat();
    let mut frame = server_frame(true, Opcode::Text, &[&text[..], &[b'a'; 80]].concat());
    frame.truncate(6 + text.len());
    let good = frame.len() - 1;
    for cut in 6..good {
        let mut pool = AssemblyPool::new(4096);
        let mut decoder = Decoder::new(Role::Server);
        feed(&mut decoder, &frame[..cut], &LIMITS, &mut pool).unwrap();
        feed(&mut decoder, &frame[cut..good], &LIMITS, &mut pool).unwrap();
        let failed = feed(&mut decoder, &frame[good..], &LIMITS, &mut pool);
        assert_eq!(failed, Err(ProtocolError::InvalidUtf8), "cut at {cut}");
    }
}

#[test]
fn a_text_that_ends_within_a_character_is_refused() {
    let whole = server_frame(true, Opcode::Text, &"é".as_bytes()[..1]);
    assert_eq!(decode_pieces(Role::Server, &LIMITS, [&whole[..]]).error, Some(ProtocolError::InvalidUtf8));
    assert_eq!(decode_pieces(Role::Server, &LIMITS, whole.chunks(1)).error, Some(ProtocolError::InvalidUtf8));
    // Cut between fragments it is whole again.
    let fragments = [
        server_frame(false, Opcode::Text, &"é".as_bytes()[..1]),
        server_frame(true, Opcode::Continuation, &"é".as_bytes()[1..]),
    ]
    .concat();
    let outcome = decode_pieces(Role::Server, &LIMITS, [&fragments[..]]);
    assert_eq!(outcome.events, [Owned::Message(Opcode::Text, "é".as_bytes().to_vec())]);
}

#[test]
fn a_close_reason_is_cut_between_characters() {
    let (_, length) = encode::close_payload(proto::CloseCode::NORMAL, &"a".repeat(200));
    assert_eq!(length, 125);
    // 62 characters of two bytes are 124: one too many.
    let (payload, length) = encode::close_payload(proto::CloseCode::NORMAL, &"é".repeat(100));
    assert_eq!(length, 2 + 122);
    assert_eq!(std::str::from_utf8(&payload[2..length]), Ok("é".repeat(61).as_str()));
}
