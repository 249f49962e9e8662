//! A message that tells whose it is, so that each byte of it can be checked wherever it arrives.

use super::support::Dice;

/// Bytes of a [`Stamp`] on the wire; shorter messages are empty.
pub(crate) const STAMP_BYTES: usize = 8;
pub(crate) const SIZE_MAX: usize = 1 << 20;
/// Publishers from this number on send no empty messages: who excludes its own could not tell whose they are.
pub(crate) const NEVER_EMPTY: u16 = 0x8000;

/// What a message says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    pub(crate) topic: u8,
    pub(crate) publisher: u16,
    pub(crate) seq: u32,
}

impl Stamp {
    /// The length that this message has.
    pub(crate) fn size(self) -> usize {
        let mut dice = Dice::new(u64::from(self.publisher) << 32 | u64::from(self.seq));
        match dice.below(100) {
            // A greeting tells who has come.
            0..8 if self.publisher < NEVER_EMPTY && self.seq > 0 => 0,
            0..8 => STAMP_BYTES,
            8..60 => STAMP_BYTES + dice.below(120) as usize,
            60..85 => STAMP_BYTES + dice.below(4000) as usize,
            85..97 => STAMP_BYTES + dice.below(65_000) as usize,
            97..99 => STAMP_BYTES + dice.below((SIZE_MAX - STAMP_BYTES) as u64) as usize,
            _ => SIZE_MAX,
        }
    }

    /// The bytes behind the stamp: a piece of the pattern that differs from message to message.
    pub(crate) fn filling(self, pattern: &[u8]) -> &[u8] {
        let from = (u32::from(self.publisher).wrapping_mul(911).wrapping_add(self.seq.wrapping_mul(61))) % 8192;
        &pattern[from as usize..][..self.size() - STAMP_BYTES]
    }

    pub(crate) fn payload(self, pattern: &[u8]) -> Vec<u8> {
        if self.size() == 0 {
            return Vec::new();
        }
        let mut payload = vec![self.topic, 0xA5];
        payload.extend(self.publisher.to_le_bytes());
        payload.extend(self.seq.to_le_bytes());
        payload.extend(self.filling(pattern));
        payload
    }

    /// Reads a message and checks each of its bytes; `None` for an empty one, which tells nothing.
    pub(crate) fn read(payload: &[u8], pattern: &[u8]) -> Option<Self> {
        let Some((head, filling)) = payload.split_first_chunk::<STAMP_BYTES>() else {
            assert!(payload.is_empty(), "nobody sent {payload:?}");
            return None;
        };
        let [topic, 0xA5, p0, p1, s0, s1, s2, s3] = *head else { panic!("nobody sent {head:?}…") };
        let stamp = Self { topic, publisher: u16::from_le_bytes([p0, p1]), seq: u32::from_le_bytes([s0, s1, s2, s3]) };
        assert!(filling == stamp.filling(pattern), "{stamp:?} arrived with other bytes or another length");
        Some(stamp)
    }
}
