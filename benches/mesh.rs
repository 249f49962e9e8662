//! Between shards, without the cost of crossing cores: what pushing, popping and announcing take by themselves.

use benches::{PAYLOAD_BYTES, binary};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use engine::mesh::bitmap::Bitmap;
use engine::mesh::ring::{Popped, ring};

/// As between two shards and the control thread.
const RING_BYTES: usize = 512 << 10;
/// Records that wait when they are popped.
const RECORDS: usize = 64;
/// Turns of one sample: over all samples, the ring's whole memory is passed many times.
const TURNS: u32 = 64;

fn main() {
    divan::main();
}

/// 64 records pushed, then popped; an item is a record.
mod ring_of {
    use super::*;

    #[divan::bench(args = PAYLOAD_BYTES, sample_size = TURNS)]
    fn inline_records(bencher: Bencher<'_, '_>, payload_bytes: usize) {
        let payload = binary(payload_bytes);
        let (mut producer, mut consumer) = ring::<()>(RING_BYTES, 0);
        let counters = (ItemsCount::new(RECORDS), BytesCount::new(RECORDS * payload_bytes));
        bencher.counter(counters.0).counter(counters.1).bench_local(|| {
            for number in 0..RECORDS as u32 {
                assert!(producer.push([number; 4], black_box(&payload)), "the ring has room for all");
            }
            while let Some(record) = consumer.pop(|record| match record {
                Popped::Inline { meta, payload } => (meta, black_box(payload).len()),
                Popped::Boxed(_) => unreachable!("none was pushed"),
            }) {
                black_box(record);
            }
        });
    }

    /// The boxes are made before: an allocation is not the ring's.
    #[divan::bench(sample_size = TURNS)]
    fn boxed_records(bencher: Bencher<'_, '_>) {
        let (mut producer, mut consumer) = ring::<[u8; 64]>(RING_BYTES, usize::MAX);
        let mut boxes: Vec<_> = (0..RECORDS).map(|_| Box::new([0; 64])).collect();
        bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
            for item in boxes.drain(..) {
                assert!(producer.push_boxed(item, 64).is_ok(), "the ring has room for all");
            }
            while let Some(item) = consumer.pop(|record| match record {
                Popped::Boxed(item) => item,
                Popped::Inline { .. } => unreachable!("none was pushed"),
            }) {
                boxes.push(item);
            }
        });
    }

    #[divan::bench]
    fn nothing(bencher: Bencher<'_, '_>) {
        let (_producer, mut consumer) = ring::<()>(RING_BYTES, 0);
        bencher.bench_local(|| black_box(&mut consumer).pop(|_| ()).is_none());
    }
}

/// As many topics announced, then drained, of all that a home may have; an item is a topic.
#[divan::bench(args = [0, 1, 64, 4096])]
fn bitmap_set_and_drain(bencher: Bencher<'_, '_>, topics: usize) {
    let bitmap = Bitmap::new(Bitmap::BITS_MAX);
    let apart = Bitmap::BITS_MAX / topics.max(1);
    bencher.counter(ItemsCount::new(topics)).bench_local(|| {
        for topic in 0..topics {
            black_box(&bitmap).set((topic * apart) as u32);
        }
        let mut drained = 0;
        bitmap.drain(|_| drained += 1);
        assert_eq!(drained, topics);
    });
}
