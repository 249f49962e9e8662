//! A topic's log: appending messages, with a reader that follows and lets segments be reused.

use std::sync::Arc;

use benches::{PAYLOAD_BYTES, binary};
use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use engine::relay::segment::{LogWriter, Segment};
use proto::{Opcode, encode};

/// Messages of one turn.
const MESSAGES: u32 = 16;
/// Turns of one sample: over all samples, many segments are filled.
const TURNS: u32 = 256;

fn main() {
    divan::main();
}

/// 16 messages appended, then looked at by a reader; an item is a message.
#[divan::bench(args = PAYLOAD_BYTES, sample_size = TURNS)]
fn append(bencher: Bencher<'_, '_>, payload_bytes: usize) {
    let payload = binary(payload_bytes);
    let (mut log, mut at) = LogWriter::new();
    let bytes = BytesCount::new(MESSAGES as usize * payload_bytes);
    bencher.counter(ItemsCount::new(MESSAGES)).counter(bytes).bench_local(|| {
        for origin in 0..MESSAGES {
            log.append(Opcode::Binary, black_box(&payload), origin, 0);
        }
        follow(&mut at);
    });
}

/// The same for messages that are framed already and become segments of their own.
#[divan::bench(args = [16 << 10, 1 << 20], sample_size = TURNS)]
fn append_whole_frame(bencher: Bencher<'_, '_>, payload_bytes: usize) {
    let mut frame = Vec::new();
    encode::server_frame(&mut frame, Opcode::Binary, &binary(payload_bytes));
    let frame = Bytes::from(frame);
    let (mut log, mut at) = LogWriter::new();
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
        for origin in 0..MESSAGES {
            log.append_frame(black_box(&frame).clone(), origin, 0);
        }
        follow(&mut at);
    });
}

/// Goes on to the last segment.
fn follow(at: &mut Arc<Segment>) {
    while let Some(next) = at.next() {
        *at = Arc::clone(next);
    }
    black_box(at.visible());
}
