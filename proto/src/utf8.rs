//! UTF-8 (RFC 3629), whole and piecewise. The incremental validator fails at the first byte that cannot continue a valid
//! text, however the text is cut; whole slices and the inside of pieces go through SIMD.

/// Whether `bytes` are UTF-8.
#[inline]
#[must_use]
pub fn is_valid(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
}

/// Validates a text that arrives in pieces. Holds at most the middle of one character: four bytes of state, no buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validator {
    /// Continuation bytes that the current character still needs, 0–3.
    missing: u8,
    /// The range in which the next of them must lie; meaningless while `missing` is 0.
    next_min: u8,
    next_max: u8,
}

impl Default for Validator {
    fn default() -> Self {
        Self::new()
    }
}

impl Validator {
    /// At the beginning of a text.
    #[must_use]
    pub const fn new() -> Self {
        Self { missing: 0, next_min: 0x80, next_max: 0xbf }
    }

    /// Whether the text may end here, that is between two characters.
    #[inline]
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Takes the next piece of the text.
    ///
    /// # Errors
    /// The index in `piece` of the first byte that no valid text has there. The validator is then of no further use.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while self.missing > 0 && at < piece.len() {
            self.step(piece[at]).map_err(|()| at)?;
            at += 1;
        }
        // Between characters: SIMD up to the first character that is wrong or unfinished, then byte by byte.
        match simdutf8::compat::from_utf8(&piece[at..]) {
            Ok(_) => Ok(()),
            Err(error) => {
                at += error.valid_up_to();
                piece[at..].iter().enumerate().try_for_each(|(i, &byte)| self.step(byte).map_err(|()| at + i))
            }
        }
    }

    /// One byte, by the table of well-formed sequences (RFC 3629 section 4).
    fn step(&mut self, byte: u8) -> Result<(), ()> {
        if self.missing > 0 {
            if !(self.next_min..=self.next_max).contains(&byte) {
                return Err(());
            }
            *self = Self { missing: self.missing - 1, ..Self::new() };
            return Ok(());
        }
        let (missing, next_min, next_max) = match byte {
            0x00..=0x7f => (0, 0x80, 0xbf),
            0xc2..=0xdf => (1, 0x80, 0xbf),
            0xe0 => (2, 0xa0, 0xbf),
            0xed => (2, 0x80, 0x9f),
            0xe1..=0xef => (2, 0x80, 0xbf),
            0xf0 => (3, 0x90, 0xbf),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            0xf4 => (3, 0x80, 0x8f),
            _ => return Err(()),
        };
        *self = Self { missing, next_min, next_max };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The first byte that no continuation could make valid, by `std` alone: the shortest prefix that is neither valid
    /// nor merely unfinished.
    fn first_bad_byte(bytes: &[u8]) -> Option<usize> {
        let error = std::str::from_utf8(bytes).err()?;
        let from = error.valid_up_to();
        (from..bytes.len())
            .find(|&end| std::str::from_utf8(&bytes[from..=end]).is_err_and(|error| error.error_len().is_some()))
    }

    fn feed_in_pieces(bytes: &[u8], cuts: &[prop::sample::Index]) -> (Option<usize>, bool) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut validator = Validator::new();
        let mut from = 0;
        for cut in cuts {
            if let Err(index) = validator.feed(&bytes[from..cut]) {
                return (Some(from + index), false);
            }
            from = cut;
        }
        (None, validator.is_complete())
    }

    /// Bytes that are nearly UTF-8: text with a few bytes replaced.
    fn nearly_text() -> impl Strategy<Value = Vec<u8>> {
        (any::<String>(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)).prop_map(
            |(text, changes)| {
                let mut bytes = text.repeat(3).into_bytes();
                for (index, byte) in changes {
                    if !bytes.is_empty() {
                        let at = index.index(bytes.len());
                        bytes[at] = byte;
                    }
                }
                bytes
            },
        )
    }

    proptest! {
        #[test]
        fn any_cutting_agrees_with_std(
            bytes in prop_oneof![nearly_text(), any::<Vec<u8>>()],
            cuts: Vec<prop::sample::Index>,
        ) {
            let (bad, complete) = feed_in_pieces(&bytes, &cuts);
            prop_assert_eq!(bad, first_bad_byte(&bytes));
            prop_assert_eq!(bad.is_none() && complete, std::str::from_utf8(&bytes).is_ok());
            prop_assert_eq!(is_valid(&bytes), std::str::from_utf8(&bytes).is_ok());
        }
    }

    #[test]
    fn every_sequence_of_up_to_three_bytes_agrees_with_std() {
        let check = |bytes: &[u8]| {
            let mut validator = Validator::new();
            let bad = bytes.iter().position(|&byte| validator.feed(&[byte]).is_err());
            assert_eq!(bad, first_bad_byte(bytes), "{bytes:x?}");
            assert_eq!(bad.is_none() && validator.is_complete(), std::str::from_utf8(bytes).is_ok(), "{bytes:x?}");
        };
        for a in 0..=255 {
            check(&[a]);
            for b in 0..=255 {
                check(&[a, b]);
                // The third byte only ever meets the range 80..=bf: its edges suffice.
                for c in [0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0xa0, 0xbf, 0xc0, 0xf4, 0xff] {
                    check(&[a, b, c]);
                }
            }
        }
    }
}
