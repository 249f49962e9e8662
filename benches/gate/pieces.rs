//! The pieces of the data path one by one, as the micro-benchmarks have them, for their instructions and allocations.

use std::hint::black_box;
use std::sync::Arc;

use benches::{ascii, binary, receive, text};
use engine::mesh::ring::{Popped, ring};
use engine::relay::segment::LogWriter;
use proto::{AssemblyPool, Decoder, Limits, Opcode, Role, encode, mask, utf8};

use crate::Gate;
use crate::meter::Meter;

const LIMITS: Limits = Limits { message_bytes_max: 16 << 20, frame_bytes_max: 16 << 20 };
/// Operations of a gate, where nothing else is said.
const TIMES: u64 = 1000;
/// Receives of 16 KiB that are decoded.
const RECEIVES: usize = 16;
const RING_BYTES: usize = 512 << 10;
/// Records that wait when they are popped.
const RECORDS: u64 = 50;

pub(crate) fn gates() -> Vec<Gate> {
    let piece = |name, operation, operations, run| Gate { name, operation, operations, run };
    vec![
        piece("decode-text-64", "message", 3744, |meter| decode(meter, Opcode::Text, &text(64))),
        piece("decode-binary-4096", "message", 48, |meter| decode(meter, Opcode::Binary, &binary(4096))),
        piece("unmask-64", "payload", TIMES, |meter| unmask(meter, 64)),
        piece("unmask-4096", "payload", TIMES, |meter| unmask(meter, 4096)),
        piece("utf8-ascii-4096", "payload", TIMES, |meter| validate(meter, &ascii(4096))),
        piece("utf8-mixed-4096", "payload", TIMES, |meter| validate(meter, &text(4096))),
        piece("encode-64", "frame", TIMES, |meter| frame(meter, 64)),
        piece("encode-4096", "frame", TIMES, |meter| frame(meter, 4096)),
        piece("log-append-64", "message", TIMES, |meter| append(meter, 64)),
        piece("ring-push-pop-64", "record", TIMES, |meter| push_and_pop(meter, 64)),
    ]
}

fn decode(meter: &mut Meter, opcode: Opcode, payload: &[u8]) -> u64 {
    let (input, _) = receive(opcode, payload);
    let (mut decoder, mut pool) = (Decoder::new(Role::Server), AssemblyPool::new(1 << 20));
    let mut receives = vec![input; RECEIVES];
    let mut messages = 0;
    meter.begin(None);
    for input in &mut receives {
        meter.measure(|| {
            let mut from = 0;
            while from < input.len() {
                let decoded = decoder.decode(&mut input[from..], &LIMITS, &mut pool).expect("the frames are valid");
                messages += u64::from(black_box(&decoded.event).is_some());
                from += decoded.consumed;
            }
        });
    }
    meter.end(None);
    messages
}

/// Measures `step` as often as a gate does, and returns how often it said that it had done its work.
fn repeat(meter: &mut Meter, mut step: impl FnMut() -> bool) -> u64 {
    assert!(step(), "the warm-up does its work");
    let mut done = 0;
    meter.begin(None);
    for _ in 0..TIMES {
        meter.measure(|| done += u64::from(step()));
    }
    meter.end(None);
    done
}

fn unmask(meter: &mut Meter, payload_bytes: usize) -> u64 {
    let mut payload = binary(payload_bytes);
    let mut expected = payload.clone();
    let done = repeat(meter, || {
        mask::apply(black_box(&mut payload), black_box([0x37, 0xFA, 0x21, 0x3D]), 0);
        true
    });
    // Once to warm up and an even number of times after that: as if once.
    mask::apply(&mut expected, [0x37, 0xFA, 0x21, 0x3D], 0);
    assert!(payload == expected, "what is masked twice is as before");
    done
}

fn validate(meter: &mut Meter, text: &[u8]) -> u64 {
    repeat(meter, || utf8::is_valid(black_box(text)))
}

fn frame(meter: &mut Meter, payload_bytes: usize) -> u64 {
    let payload = binary(payload_bytes);
    let mut out = Vec::new();
    repeat(meter, || {
        out.clear();
        encode::server_frame(&mut out, Opcode::Binary, black_box(&payload));
        black_box(&out).len() == encode::server_frame_bytes(payload_bytes)
    })
}

/// With a reader that follows, so that segments are used again.
fn append(meter: &mut Meter, payload_bytes: usize) -> u64 {
    let payload = binary(payload_bytes);
    let (mut log, mut at) = LogWriter::new();
    let mut follow = |log: &mut LogWriter| {
        log.append(Opcode::Binary, black_box(&payload), 1, 0);
        while let Some(next) = at.next() {
            at = Arc::clone(next);
        }
        at.visible().records > 0
    };
    // Until segments have their full size, and the first have served again.
    (0..3 * (256 << 10) / payload_bytes).for_each(|_| assert!(follow(&mut log)));
    let before = log.tail_seq();
    repeat(meter, || follow(&mut log));
    // One to warm up.
    log.tail_seq() - before - 1
}

fn push_and_pop(meter: &mut Meter, payload_bytes: usize) -> u64 {
    let payload = binary(payload_bytes);
    let (mut producer, mut consumer) = ring::<()>(RING_BYTES, 0);
    let mut popped = 0;
    meter.begin(None);
    for _ in 0..TIMES / RECORDS {
        meter.measure(|| {
            for number in 0..RECORDS as u32 {
                assert!(producer.push([number; 4], black_box(&payload)), "the ring has room for all");
            }
            while let Some(bytes) = consumer.pop(|record| match record {
                Popped::Inline { payload, .. } => black_box(payload).len(),
                Popped::Boxed(_) => 0,
            }) {
                popped += u64::from(bytes == payload_bytes);
            }
        });
    }
    meter.end(None);
    popped
}
