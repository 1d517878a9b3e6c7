//! Reading a body's tags, on every body an SDK may write and on garbage.

use proptest::prelude::*;
use prost::Message;
use prost::encoding::{WireType, bool, bytes, uint64};
use sp1_network_api::network::RequestProofBody;
use sp1_network_api::variant::{Variant, VariantError, read_variant, without_nonce};

const BASE: Variant = Variant::Base { stdin_private: false };
const PRIVATE_BASE: Variant = Variant::Base { stdin_private: true };

fn flag(tag: u32, value: bool) -> Vec<u8> {
    let mut encoded = vec![];
    bool::encode(tag, &value, &mut encoded);
    encoded
}

fn blob(tag: u32, value: &[u8]) -> Vec<u8> {
    let mut encoded = vec![];
    bytes::encode(tag, &value.to_vec(), &mut encoded);
    encoded
}

fn nonce(value: u64) -> Vec<u8> {
    let mut encoded = vec![];
    uint64::encode(1, &value, &mut encoded);
    encoded
}

/// What all variants have in common, with no nonce.
fn common_body() -> impl Strategy<Value = RequestProofBody> {
    let blob = prop::collection::vec(any::<u8>(), 0..40);
    (blob.clone(), ".{0,12}", 0..6_i32, 0..5_i32, any::<[u64; 4]>(), prop::collection::vec(blob, 0..3)).prop_map(
        |(vk_hash, version, mode, strategy, numbers, whitelist)| RequestProofBody {
            vk_hash,
            version,
            mode,
            strategy,
            deadline: numbers[0],
            cycle_limit: numbers[1],
            gas_limit: numbers[2],
            min_auction_period: numbers[3],
            whitelist,
            ..RequestProofBody::default()
        },
    )
}

/// The encoding of a body of either variant, with no nonce, and its variant.
fn encoded_body() -> impl Strategy<Value = (Vec<u8>, Variant)> {
    (common_body(), any::<Option<bool>>(), any::<bool>()).prop_map(|(body, stdin_private, auction)| {
        let mut encoded = body.encode_to_vec();
        if auction {
            for tag in 12..=15 {
                encoded.extend(blob(tag, &[0x55; 20]));
            }
            return (encoded, Variant::Auction);
        }
        if let Some(stdin_private) = stdin_private {
            encoded.extend(flag(12, stdin_private));
        }
        let stdin_private = stdin_private.unwrap_or(false);
        (encoded, Variant::Base { stdin_private })
    })
}

#[test]
fn an_empty_body_is_base() {
    assert_eq!(read_variant(&[]), Ok(BASE));
}

#[test]
fn any_tag_of_the_auction_alone_makes_an_auction() {
    for tag in 12..=21 {
        assert_eq!(read_variant(&blob(tag, b"x")), Ok(Variant::Auction));
    }
    assert_eq!(read_variant(&flag(21, true)), Ok(Variant::Auction));
    assert_eq!(read_variant(&blob(12, b"")), Ok(Variant::Auction));
}

#[test]
fn tags_that_no_variant_has_say_nothing() {
    assert_eq!(read_variant(&blob(22, b"x")), Ok(BASE));
    assert_eq!(read_variant(&flag(536_870_911, true)), Ok(BASE));
}

#[test]
fn a_flag_at_tag_12_makes_a_base_body_whatever_else_is_there() {
    let body = [flag(12, true), blob(13, b"x"), flag(21, false)].concat();
    assert_eq!(read_variant(&body), Ok(PRIVATE_BASE));
}

#[test]
fn the_last_of_repeated_flags_counts() {
    let body = [flag(12, false), flag(12, true)].concat();
    assert_eq!(read_variant(&body), Ok(PRIVATE_BASE));
    let body = [flag(12, true), flag(12, false)].concat();
    assert_eq!(read_variant(&body), Ok(BASE));
}

#[test]
fn a_body_that_no_variant_can_decode_is_refused() {
    for body in [[flag(12, true), blob(12, b"x")], [blob(12, b"x"), flag(12, true)]] {
        let error = read_variant(&body.concat());
        assert_eq!(error, Err(VariantError::ContradictoryTag12));
    }

    // Tag 12 with four bytes.
    let body = [(12 << 3) | 5, 0, 0, 0, 0];
    let error = read_variant(&body);
    assert_eq!(error, Err(VariantError::UnknownTag12(WireType::ThirtyTwoBit)));
}

#[test]
fn what_is_inside_a_field_is_not_taken_for_a_tag() {
    let body = blob(6, &blob(12, &nonce(7)));
    assert_eq!(read_variant(&body), Ok(BASE));
    assert_eq!(without_nonce(&body), Ok(body));
}

#[test]
fn a_body_cut_short_is_malformed() {
    let body = blob(6, b"stdins/test");
    for length in 1..body.len() {
        let cut = &body[..length];
        assert!(matches!(read_variant(cut), Err(VariantError::Malformed(_))));
        assert!(matches!(without_nonce(cut), Err(VariantError::Malformed(_))));
    }
}

#[test]
fn groups_nested_without_end_are_malformed() {
    let body = vec![(6 << 3) | 3; 1 << 20];
    assert!(matches!(read_variant(&body), Err(VariantError::Malformed(_))));
    assert!(matches!(without_nonce(&body), Err(VariantError::Malformed(_))));
}

proptest! {
    #[test]
    fn the_variant_is_read_whatever_the_body_says((body, variant) in encoded_body(), number in any::<u64>()) {
        let body = [nonce(number), body].concat();
        prop_assert_eq!(read_variant(&body), Ok(variant));
    }

    #[test]
    fn without_its_nonce_a_body_does_not_depend_on_it((body, _) in encoded_body(), number in any::<u64>()) {
        let sent = [nonce(number), body.clone()].concat();
        prop_assert_eq!(without_nonce(&sent), Ok(body));
    }

    #[test]
    fn a_nonce_is_removed_wherever_and_however_often_it_stands(
        (front, _) in encoded_body(),
        (back, _) in encoded_body(),
        numbers in any::<[u64; 3]>(),
    ) {
        let [first, second, third] = numbers.map(nonce);
        let sent = [&*first, &*front, &*second, &*back, &*third].concat();
        prop_assert_eq!(without_nonce(&sent), Ok([front, back].concat()));
    }

    #[test]
    fn removing_the_nonce_twice_is_removing_it_once((body, _) in encoded_body(), number in any::<u64>()) {
        let once = without_nonce(&[nonce(number), body].concat())?;
        prop_assert_eq!(without_nonce(&once), Ok(once));
    }

    #[test]
    fn bodies_that_differ_in_more_than_the_nonce_stay_different(
        (one, _) in encoded_body(),
        (other, _) in encoded_body(),
        number in any::<u64>(),
    ) {
        let stripped = |body: &[u8]| without_nonce(&[&*nonce(number), body].concat());
        prop_assert_eq!(stripped(&one) == stripped(&other), one == other);
    }

    #[test]
    fn garbage_is_answered_alike_by_both(garbage in prop::collection::vec(any::<u8>(), 0..64)) {
        let stripped = without_nonce(&garbage);
        let variant = read_variant(&garbage);
        match &stripped {
            Ok(stripped) => {
                prop_assert_eq!(&without_nonce(stripped), &Ok(stripped.clone()));
                prop_assert_eq!(read_variant(stripped), variant);
            }
            Err(_) => prop_assert!(variant.is_err()),
        }
    }

    #[test]
    fn a_body_with_one_byte_changed_is_answered((body, _) in encoded_body(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = [nonce(9), body].concat();
        let at = at.index(body.len());
        body[at] = byte;
        if without_nonce(&body).is_err() {
            prop_assert!(read_variant(&body).is_err());
            prop_assert!(RequestProofBody::decode(&*body).is_err());
        }
    }
}
