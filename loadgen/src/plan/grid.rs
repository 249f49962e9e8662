//! Which loads to measure so that every cost shows: each differs from the others in what there is much of.

use super::Shape;

/// Small messages: little to copy.
const SMALL_BYTES: usize = 64;

/// Messages at once, in the loads that share sends on purpose.
const BURST: u32 = 16;

/// A burst at the edge of the measured window must not matter.
const BURSTS_MIN: f64 = 8.0;

/// Loads up to `corner`, which is one of them, to be measured for so many seconds; the last has connections only.
pub(crate) fn grid(corner: &Shape, seconds: f64) -> Vec<Shape> {
    let small = SMALL_BYTES.min(corner.size);
    let of = |part: u32| (corner.subscribers / part).max(1);
    // (subscribers, rate and size of the corner divided by, at once, on all topics)
    let one = |subscribers: u32, rate_part: f64, size: usize, burst: u32| Shape {
        topics: 1,
        subscribers,
        publishers: (corner.publishers / corner.topics).max(1),
        rate: corner.rate / rate_part,
        burst: burst.min((corner.rate / rate_part * seconds / BURSTS_MIN) as u32).max(1),
        size,
        connects: 0.0,
    };
    let shapes = [
        one(of(1), 8.0, small, 1),
        one(of(1), 2.0, small, 1),
        one(of(1), 1.0, small, 1),
        one(of(4), 1.0, small, 1),
        one(of(4), 4.0, small, 1),
        one(of(16), 1.0, small, 1),
        one(of(4), 4.0, corner.size, 1),
        one(of(1), 4.0, corner.size, 1),
        one(of(2), 2.0, (corner.size / 4).max(small), 1),
        one(of(4), 1.0, small, BURST),
        one(of(1), 2.0, small, BURST),
        one(of(4), 2.0, corner.size, BURST),
        Shape { burst: 1, size: small, ..*corner },
        Shape { burst: 1, ..*corner },
        Shape { burst: 1, rate: 0.0, ..*corner },
    ];
    // A small corner makes some of them the same.
    let mut distinct: Vec<Shape> = Vec::new();
    for shape in shapes {
        if !distinct.contains(&shape) {
            distinct.push(shape);
        }
    }
    distinct
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_is_within_the_corner_and_differs_from_the_others() {
        let corner =
            Shape { topics: 20, subscribers: 1000, publishers: 40, rate: 500.0, burst: 1, size: 1024, connects: 0.0 };
        let shapes = grid(&corner, 2.0);
        assert_eq!((shapes.len(), shapes[13], shapes[14].rate), (15, corner, 0.0));
        for (at, shape) in shapes.iter().enumerate() {
            assert!(shape.subscribers <= 1000 && shape.rate <= 500.0 && (64..=1024).contains(&shape.size));
            assert!(!shapes[..at].contains(shape), "{shape:?} comes twice");
        }
        assert!(shapes.iter().any(|shape| shape.burst == 16));
        let tiny = grid(
            &Shape { topics: 1, subscribers: 1, publishers: 1, rate: 2.0, burst: 1, size: 32, connects: 0.0 },
            2.0,
        );
        assert!(tiny.iter().all(|shape| shape.subscribers == 1 && shape.size == 32 && shape.burst == 1));
    }
}
