//! The laws of the decoder: decode ∘ encode = id, and decode(any cutting) = decode(whole), for correct streams, for
//! broken ones, and for noise.

mod common;

use common::{LIMITS, Outcome, correct_stream, cut, decode_pieces, mutated_stream, role};
use proptest::prelude::*;
use proptest::sample::Index;

fn cuts() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn decoding_gives_back_what_was_encoded(
        (role, (stream, events)) in role().prop_flat_map(|role| (Just(role), correct_stream(role))),
        cuts in cuts(),
    ) {
        let expected = Outcome { events, error: None };
        prop_assert_eq!(&decode_pieces(role, &LIMITS, [&stream[..]]), &expected);
        prop_assert_eq!(&decode_pieces(role, &LIMITS, cut(&stream, &cuts)), &expected);
    }

    #[test]
    fn byte_by_byte_is_the_same_as_whole(
        (role, (stream, events)) in role().prop_flat_map(|role| (Just(role), correct_stream(role))),
    ) {
        prop_assert_eq!(decode_pieces(role, &LIMITS, stream.chunks(1)), Outcome { events, error: None });
    }

    #[test]
    fn a_broken_stream_breaks_alike_however_it_is_cut(
        (role, stream) in role().prop_flat_map(|role| (Just(role), mutated_stream(role))),
        cuts in cuts(),
    ) {
        let whole = decode_pieces(role, &LIMITS, [&stream[..]]);
        prop_assert_eq!(&decode_pieces(role, &LIMITS, cut(&stream, &cuts)), &whole);
        prop_assert_eq!(&decode_pieces(role, &LIMITS, stream.chunks(1)), &whole);
    }

    #[test]
    fn noise_is_the_same_noise_however_it_is_cut(role in role(), stream: Vec<u8>, cuts in cuts()) {
        let whole = decode_pieces(role, &LIMITS, [&stream[..]]);
        prop_assert_eq!(&decode_pieces(role, &LIMITS, cut(&stream, &cuts)), &whole);
    }
}
