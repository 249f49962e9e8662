//! The stamp in front of each payload, and the check of every byte behind it.
//!
//! 32 printable characters carry 192 bits, so that a stamped payload is valid in text messages too: run (24 bits),
//! publisher (24), sequence (32), intended time (48, ns since the run's epoch), lateness of the send (24, us), and a
//! check over all of them and the length (40). The rest of the payload is a piece of a pattern that the run's seed
//! makes, from a place that publisher and sequence choose, and is compared byte by byte.

use crate::rng::Rng;

/// Bytes of a stamp; the smallest payload.
pub(crate) const STAMP_BYTES: usize = 32;

/// Run and publisher ids stay below this.
pub(crate) const ID_LIMIT: u32 = 1 << 24;

const PATTERN_PLACES: usize = 256;
const LATENESS_US_MAX: u64 = (1 << 24) - 1;
const ZERO: u64 = u64::from_ne_bytes([b'0'; 8]);

/// What one message says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Below [`ID_LIMIT`].
    pub(crate) run: u32,
    /// Below [`ID_LIMIT`].
    pub(crate) publisher: u32,
    pub(crate) sequence: u32,
    /// When the schedule wanted it sent, in ns since the process's epoch; below 2^48 (78 hours).
    pub(crate) intended_ns: u64,
    /// How much later it was handed over, in us; the ceiling of 16.7 s stands for everything above.
    pub(crate) lateness_us: u64,
}

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Every byte is as it was sent.
    Intact(Stamp),
    /// The stamp is whole, the rest is not.
    DamagedBody(Stamp),
    /// Not a stamp, or a damaged one.
    Damaged,
    /// Whole, but of another run on the same topic.
    Foreign,
}

/// Makes and checks the payloads of one run.
#[derive(Debug)]
pub(crate) struct Stamper {
    run: u32,
    /// Printable bytes; longer by [`PATTERN_PLACES`] than the longest body.
    pattern: Vec<u8>,
}

impl Stamper {
    /// For payloads of up to `size_max` bytes.
    pub(crate) fn new(run: u32, seed: u64, size_max: usize) -> Self {
        let mut rng = Rng::new(seed, u64::from(run));
        let printable = |_| b'0' + (rng.next_u64() >> 58) as u8;
        Self { run: run & (ID_LIMIT - 1), pattern: (0..size_max + PATTERN_PLACES).map(printable).collect() }
    }

    /// Appends a payload of `size` bytes, at least [`STAMP_BYTES`], to `out`. The run is this stamper's.
    pub(crate) fn append(&self, out: &mut Vec<u8>, stamp: &Stamp, size: usize) {
        let lateness_us = stamp.lateness_us.min(LATENESS_US_MAX);
        let identity = u64::from(self.run) << 24 | u64::from(stamp.publisher);
        let check = check_bits(identity, stamp.sequence, stamp.intended_ns, lateness_us, size);
        out.extend_from_slice(&spread(identity));
        out.extend_from_slice(&spread(u64::from(stamp.sequence) << 16 | check >> 24));
        out.extend_from_slice(&spread(stamp.intended_ns));
        out.extend_from_slice(&spread(lateness_us << 24 | (check & 0xFF_FFFF)));
        out.extend_from_slice(self.body(stamp.publisher, stamp.sequence, size - STAMP_BYTES));
    }

    /// Checks a payload that arrived.
    #[inline]
    pub(crate) fn check(&self, payload: &[u8]) -> Check {
        let Some((words, body)) = payload.split_first_chunk::<STAMP_BYTES>() else { return Check::Damaged };
        let (words, _) = words.as_chunks::<8>();
        let [identity, sequence, intended_ns, lateness] =
            [gather(words[0]), gather(words[1]), gather(words[2]), gather(words[3])];
        if (identity.1 | sequence.1 | intended_ns.1 | lateness.1) != 0 {
            return Check::Damaged;
        }
        let check = (sequence.0 & 0xFFFF) << 24 | (lateness.0 & 0xFF_FFFF);
        let (sequence, lateness_us) = ((sequence.0 >> 16) as u32, lateness.0 >> 24);
        if check != check_bits(identity.0, sequence, intended_ns.0, lateness_us, payload.len()) {
            return Check::Damaged;
        }
        let (run, publisher) = ((identity.0 >> 24) as u32, identity.0 as u32 & (ID_LIMIT - 1));
        if run != self.run {
            return Check::Foreign;
        }
        let stamp = Stamp { run, publisher, sequence, intended_ns: intended_ns.0, lateness_us };
        let fits = body.len() + PATTERN_PLACES <= self.pattern.len();
        if fits && body == self.body(publisher, sequence, body.len()) {
            Check::Intact(stamp)
        } else {
            Check::DamagedBody(stamp)
        }
    }

    #[inline]
    fn body(&self, publisher: u32, sequence: u32, len: usize) -> &[u8] {
        let place = (sequence ^ publisher.rotate_left(16)).wrapping_mul(0x9E37_79B1) >> 24;
        &self.pattern[place as usize..place as usize + len]
    }
}

/// 40 bits over everything that a stamp says and the length of its payload.
#[inline]
fn check_bits(identity: u64, sequence: u32, intended_ns: u64, lateness_us: u64, size: usize) -> u64 {
    let a = (identity ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let b = (intended_ns ^ (size as u64) << 40).wrapping_mul(0x94D0_49BB_1331_11EB);
    let c = (u64::from(sequence) << 24 | lateness_us).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let mixed = (a ^ b.rotate_left(21) ^ c.rotate_left(43)).wrapping_mul(0xA076_1D64_78BD_642F);
    (mixed ^ mixed >> 32) >> 24
}

/// 48 bits as eight printable characters of six bits each, '0' to 'o'.
#[inline]
fn spread(bits: u64) -> [u8; 8] {
    let x = (bits & 0xFF_FFFF) | (bits & 0xFFFF_FF00_0000) << 8;
    let x = (x & 0x0000_0FFF_0000_0FFF) | (x & 0x00FF_F000_00FF_F000) << 4;
    let x = (x & 0x003F_003F_003F_003F) | (x & 0x0FC0_0FC0_0FC0_0FC0) << 2;
    (x + ZERO).to_le_bytes()
}

/// The reverse of [`spread`]; the second value is not zero where a byte is none that `spread` makes.
#[inline]
fn gather(bytes: [u8; 8]) -> (u64, u64) {
    let word = u64::from_le_bytes(bytes);
    let x = word.wrapping_sub(ZERO);
    let wrong = x & 0xC0C0_C0C0_C0C0_C0C0;
    let x = (x & 0x003F_003F_003F_003F) | (x & 0x3F00_3F00_3F00_3F00) >> 2;
    let x = (x & 0x0000_0FFF_0000_0FFF) | (x & 0x0FFF_0000_0FFF_0000) >> 4;
    ((x & 0xFF_FFFF) | (x & 0x00FF_FFFF_0000_0000) >> 8, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        run: 0xABCDEF,
        publisher: 77_777,
        sequence: u32::MAX - 5,
        intended_ns: (1 << 48) - 1,
        lateness_us: 4711,
    };

    fn payload(size: usize) -> (Stamper, Vec<u8>) {
        let stamper = Stamper::new(STAMP.run, 1, 5000);
        let mut out = Vec::new();
        stamper.append(&mut out, &STAMP, size);
        assert_eq!(out.len(), size);
        (stamper, out)
    }

    #[test]
    fn what_is_stamped_is_read_back_and_is_printable_text() {
        for size in [32, 33, 64, 4096, 5000] {
            let (stamper, payload) = payload(size);
            assert_eq!(stamper.check(&payload), Check::Intact(STAMP));
            assert!(payload.iter().all(|b| (b'0'..=b'o').contains(b)));
        }
    }

    #[test]
    fn spread_and_gather_are_inverse() {
        let mut rng = Rng::new(5, 0);
        for bits in (0..10_000).map(|_| rng.next_u64() >> 16).chain([0, (1 << 48) - 1]) {
            assert_eq!(gather(spread(bits)), (bits, 0));
        }
    }

    #[test]
    fn every_single_bit_that_flips_is_found() {
        let (stamper, mut payload) = payload(100);
        for bit in 0..payload.len() * 8 {
            payload[bit / 8] ^= 1 << (bit % 8);
            let check = stamper.check(&payload);
            let expected = if bit / 8 < STAMP_BYTES { Check::Damaged } else { Check::DamagedBody(STAMP) };
            assert_eq!(check, expected, "bit {bit}");
            payload[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_payload_cut_short_or_made_longer_is_found() {
        let (stamper, mut payload) = payload(64);
        for len in 0..64 {
            assert_eq!(stamper.check(&payload[..len]), Check::Damaged);
        }
        payload.push(b'0');
        assert_eq!(stamper.check(&payload), Check::Damaged);
    }

    #[test]
    fn a_body_of_another_message_and_a_message_of_another_run_are_found() {
        let (stamper, first) = payload(400);
        let mut second = Vec::new();
        stamper.append(&mut second, &Stamp { sequence: 9, ..STAMP }, 400);
        second[STAMP_BYTES..].copy_from_slice(&first[STAMP_BYTES..]);
        assert!(matches!(stamper.check(&second), Check::DamagedBody(_)));
        assert_eq!(Stamper::new(1, 1, 5000).check(&first), Check::Foreign);
    }
}
