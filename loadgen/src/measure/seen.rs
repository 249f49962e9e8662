//! Payloads that have passed every check: a fan-out brings the same bytes to many subscribers, and bytes that equal
//! checked ones are as good as checked, at a fraction of the cost.

use super::stamp::{STAMP_BYTES, Stamp};

/// Longer payloads are checked each time: then the comparison is most of the work, here and there.
const KEPT_BYTES_MAX: usize = 512;

/// Few enough to stay in the cache while their messages go round.
const PLACES: usize = 256;

/// The newest payloads, each in the place that its stamp's first words give.
#[derive(Debug)]
pub(crate) struct Seen {
    kept: Box<[Kept]>,
    bytes: Box<[u8]>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    /// Bytes of the payload; 0: there is none.
    len: usize,
    stamp: Stamp,
}

impl Seen {
    pub(crate) fn new() -> Self {
        let stamp = Stamp { run: 0, publisher: 0, sequence: 0, intended_ns: 0, lateness_us: 0 };
        let kept = vec![Kept { len: 0, stamp }; PLACES].into();
        Self { kept, bytes: vec![0; PLACES * KEPT_BYTES_MAX].into() }
    }

    /// The stamp of a payload, if these very bytes have been checked.
    #[inline]
    pub(crate) fn find(&self, payload: &[u8]) -> Option<Stamp> {
        let place = place(payload)?;
        let kept = &self.kept[place];
        let start = place * KEPT_BYTES_MAX;
        (kept.len == payload.len() && self.bytes[start..start + kept.len] == *payload).then_some(kept.stamp)
    }

    /// Keeps a payload that has passed, instead of whatever had its place.
    pub(crate) fn keep(&mut self, payload: &[u8], stamp: Stamp) {
        if let Some(place) = place(payload) {
            self.kept[place] = Kept { len: payload.len(), stamp };
            self.bytes[place * KEPT_BYTES_MAX..][..payload.len()].copy_from_slice(payload);
        }
    }
}

/// By run, publisher, sequence and a part of the check; `None`: such a payload is not kept.
#[inline]
fn place(payload: &[u8]) -> Option<usize> {
    if payload.len() > KEPT_BYTES_MAX {
        return None;
    }
    let (words, _) = payload.get(..STAMP_BYTES)?.as_chunks::<8>();
    let [identity, sequence] = [words[0], words[1]].map(u64::from_le_bytes);
    let mixed = (identity.rotate_left(17) ^ sequence).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Some((mixed >> 56) as usize & (PLACES - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::stamp::{Check, Stamper};

    #[test]
    fn only_the_same_bytes_are_found_and_their_stamp_is_the_checks() {
        let stamper = Stamper::new(7, 1, 600);
        let mut seen = Seen::new();
        for sequence in 0..2000_u32 {
            let size = 32 + sequence as usize % 600;
            let stamp = Stamp { run: 7, publisher: sequence % 3, sequence, intended_ns: 1 << 40, lateness_us: 5 };
            let mut payload = Vec::new();
            stamper.append(&mut payload, &stamp, size);
            assert_eq!(seen.find(&payload), None);
            seen.keep(&payload, stamp);
            let Check::Intact(checked) = stamper.check(&payload) else { panic!("{sequence}") };
            assert_eq!(seen.find(&payload), (size <= KEPT_BYTES_MAX).then_some(checked));
            payload[sequence as usize % size] ^= 1;
            assert_eq!(seen.find(&payload), None);
            assert_eq!(seen.find(&payload[..size - 1]), None);
        }
        assert_eq!(seen.find(b"no stamp"), None);
    }
}
