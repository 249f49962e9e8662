//! In the steady state no message costs an allocation: neither whole ones nor those that are cut, fragmented or interleaved
//! with control frames. And between messages a decoder holds no heap.
#![allow(clippy::unwrap_used, reason = "the helpers belong to the tests")]

mod common;

use allocation_counter::AllocationInfo;
use common::LIMITS;
use proto::{AssemblyPool, Decoder, Event, Opcode, Role, encode};

const KEY: [u8; 4] = [3, 1, 4, 1];

/// Decodes `stream` again and again in pieces of `piece_bytes`, and counts what the rounds after the first allocate.
fn count(stream: &[u8], piece_bytes: usize) -> AllocationInfo {
    let mut pool = AssemblyPool::new(1 << 20);
    let mut decoder = Decoder::new(Role::Server);
    let mut input = stream.to_vec();
    let mut round = || {
        input.copy_from_slice(stream);
        let mut events = 0;
        for piece in input.chunks_mut(piece_bytes) {
            let mut from = 0;
            loop {
                let decoded = decoder.decode(&mut piece[from..], &LIMITS, &mut pool).unwrap();
                from += decoded.consumed;
                match decoded.event {
                    Some(Event::Close(_)) => panic!("no close was sent"),
                    Some(_) => events += 1,
                    None => break,
                }
            }
        }
        events
    };
    let events = round();
    assert!(events > 0);
    let info = allocation_counter::measure(|| {
        for _ in 0..100 {
            assert_eq!(round(), events);
        }
    });
    assert!(decoder.is_between_messages());
    info
}

fn stream() -> Vec<u8> {
    let mut out = Vec::new();
    for length in [0, 1, 64, 125, 126, 512, 4096, 16_383] {
        encode::client_frame(&mut out, Opcode::Binary, &vec![7; length], KEY);
        encode::client_frame(&mut out, Opcode::Text, "é".repeat(length / 2).as_bytes(), KEY);
        encode::client_frame(&mut out, Opcode::Ping, b"ping", KEY);
        encode::frame(&mut out, false, Opcode::Text, b"one, ", Some(KEY));
        encode::client_frame(&mut out, Opcode::Pong, &[1; 125], KEY);
        encode::frame(&mut out, false, Opcode::Continuation, b"two, ", Some(KEY));
        encode::frame(&mut out, true, Opcode::Continuation, b"three", Some(KEY));
    }
    out
}

#[test]
fn the_counter_counts() {
    let info = allocation_counter::measure(|| drop(std::hint::black_box(vec![0_u8; 100])));
    assert_eq!(info.count_total, 1);
}

#[test]
fn no_message_costs_an_allocation_however_it_is_cut() {
    let stream = stream();
    for piece_bytes in [stream.len(), 4096, 2048, 1000, 137, 14, 3, 1] {
        let info = count(&stream, piece_bytes);
        assert_eq!(info.count_total, 0, "in pieces of {piece_bytes} bytes");
    }
}

#[test]
fn an_owned_payload_costs_allocations_of_its_own_only() {
    let mut stream = Vec::new();
    encode::client_frame(&mut stream, Opcode::Binary, &[7; 40_000], KEY);
    let info = count(&stream, 4096);
    // 100 messages; each grows from the first piece by doubling: 4,092 → 8,184 → 16,368 → 32,736 → 40,010.
    assert!((100..=600).contains(&info.count_total), "{}", info.count_total);
    assert_eq!(info.count_current, 0, "and nothing stays behind");
}

#[test]
fn between_messages_a_decoder_holds_no_heap() {
    let stream = stream();
    let mut pool = AssemblyPool::new(1 << 20);
    let mut decoder = Decoder::new(Role::Server);
    for byte in stream {
        decoder.decode(&mut [byte], &LIMITS, &mut pool).unwrap();
        // As every caller does: until there is no event.
        assert!(decoder.decode(&mut [], &LIMITS, &mut pool).unwrap().event.is_none());
        if decoder.is_between_messages() {
            let info =
                allocation_counter::measure(|| drop(std::mem::replace(&mut decoder, Decoder::new(Role::Server))));
            assert_eq!(info.count_current, 0, "dropping the decoder freed something");
        }
    }
}
