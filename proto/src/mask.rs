//! Masking (RFC 6455 section 5.3): each byte is XORed with a byte of the key, by words.

/// XORs `bytes` with `key`, beginning with the key's byte `offset % 4`: `offset` is the position of `bytes[0]` in its
/// frame's payload. Applied twice it gives the bytes back.
#[inline]
pub fn apply(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    let key = rotated(key, offset);
    let word = u64::from(u32::from_ne_bytes(key));
    let word = word << 32 | word;
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= key;
    }
}

/// The key as it applies `offset` bytes further on.
#[inline]
pub(crate) const fn rotated(key: [u8; 4], offset: usize) -> [u8; 4] {
    [key[offset & 3], key[(offset + 1) & 3], key[(offset + 2) & 3], key[(offset + 3) & 3]]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_section_5_7_unmasks_to_hello() {
        let mut bytes = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply(&mut bytes, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&bytes, b"Hello");
    }

    proptest! {
        #[test]
        fn masking_is_byte_i_xor_key_i_mod_4(bytes: Vec<u8>, key: [u8; 4], offset in 0..usize::MAX / 2) {
            let expected: Vec<u8> =
                bytes.iter().enumerate().map(|(i, byte)| byte ^ key[(i + offset) % 4]).collect();
            let mut masked = bytes;
            apply(&mut masked, key, offset);
            prop_assert_eq!(masked, expected);
        }

        #[test]
        fn masking_twice_gives_the_bytes_back(bytes: Vec<u8>, key: [u8; 4], offset: u32) {
            let mut twice = bytes.clone();
            apply(&mut twice, key, offset as usize);
            apply(&mut twice, key, offset as usize);
            prop_assert_eq!(twice, bytes);
        }

        #[test]
        fn masking_in_two_parts_is_masking_at_once(bytes: Vec<u8>, key: [u8; 4], cut: prop::sample::Index) {
            let mut whole = bytes.clone();
            apply(&mut whole, key, 0);
            let mut parts = bytes;
            let cut = cut.index(parts.len() + 1);
            let (front, back) = parts.split_at_mut(cut);
            apply(front, key, 0);
            apply(back, key, cut);
            prop_assert_eq!(parts, whole);
        }
    }
}
