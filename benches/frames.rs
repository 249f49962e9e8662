//! Bytes to messages and back: decoding as the server does it, its two passes over a payload alone, and encoding.

use benches::{PAYLOAD_BYTES, ascii, binary, receive, text};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use proto::{AssemblyPool, Decoder, Limits, Opcode, Role, encode, mask, utf8};

const LIMITS: Limits = Limits { message_bytes_max: 16 << 20, frame_bytes_max: 16 << 20 };

fn main() {
    divan::main();
}

/// A receive of 16 KiB full of messages; an item is a message.
mod decode {
    use super::*;

    #[divan::bench(args = PAYLOAD_BYTES)]
    fn of_text(bencher: Bencher<'_, '_>, payload_bytes: usize) {
        decode(bencher, Opcode::Text, &text(payload_bytes));
    }

    #[divan::bench(args = PAYLOAD_BYTES)]
    fn of_binary(bencher: Bencher<'_, '_>, payload_bytes: usize) {
        decode(bencher, Opcode::Binary, &binary(payload_bytes));
    }

    fn decode(bencher: Bencher<'_, '_>, opcode: Opcode, payload: &[u8]) {
        let (mut input, messages) = receive(opcode, payload);
        let (mut decoder, mut pool) = (Decoder::new(Role::Server), AssemblyPool::new(1 << 20));
        bencher.counter(ItemsCount::new(messages)).counter(BytesCount::new(input.len())).bench_local(|| {
            let mut from = 0;
            while from < input.len() {
                let decoded = decoder.decode(&mut input[from..], &LIMITS, &mut pool).expect("the frames are valid");
                assert!(black_box(&decoded.event).is_some(), "the frames are whole");
                from += decoded.consumed;
            }
        });
    }
}

#[divan::bench(args = PAYLOAD_BYTES)]
fn unmask(bencher: Bencher<'_, '_>, payload_bytes: usize) {
    let mut payload = binary(payload_bytes);
    bencher.counter(BytesCount::new(payload_bytes)).bench_local(|| {
        mask::apply(black_box(&mut payload), black_box([0x37, 0xFA, 0x21, 0x3D]), 0);
    });
}

/// Whole texts, and one that comes in pieces.
mod validate {
    use super::*;

    #[divan::bench(args = PAYLOAD_BYTES)]
    fn ascii_text(bencher: Bencher<'_, '_>, payload_bytes: usize) {
        whole(bencher, &ascii(payload_bytes));
    }

    #[divan::bench(args = PAYLOAD_BYTES)]
    fn mixed_text(bencher: Bencher<'_, '_>, payload_bytes: usize) {
        whole(bencher, &text(payload_bytes));
    }

    fn whole(bencher: Bencher<'_, '_>, text: &[u8]) {
        bencher.counter(BytesCount::new(text.len())).bench_local(|| utf8::is_valid(black_box(text)));
    }

    #[divan::bench(args = [7, 100, 1448])]
    fn text_in_pieces_of(bencher: Bencher<'_, '_>, piece_bytes: usize) {
        let text = text(4096);
        bencher.counter(BytesCount::new(text.len())).bench_local(|| {
            let mut validator = utf8::Validator::new();
            for piece in black_box(&text).chunks(piece_bytes) {
                validator.feed(piece).expect("the text is UTF-8");
            }
            validator.is_complete()
        });
    }
}

mod encode_as_server {
    use super::*;

    #[divan::bench(args = [64, 512, 65_536])]
    fn header(payload_bytes: usize) -> ([u8; 10], usize) {
        encode::server_header(black_box(Opcode::Text), black_box(payload_bytes))
    }

    /// Into a buffer that has the room already.
    #[divan::bench(args = PAYLOAD_BYTES)]
    fn frame(bencher: Bencher<'_, '_>, payload_bytes: usize) {
        let payload = binary(payload_bytes);
        let mut out = Vec::new();
        bencher.counter(BytesCount::new(payload_bytes)).bench_local(|| {
            out.clear();
            encode::server_frame(&mut out, Opcode::Binary, black_box(&payload));
            black_box(&out);
        });
    }
}
