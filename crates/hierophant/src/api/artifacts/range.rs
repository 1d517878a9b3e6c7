//! Which part of an artifact a client asks for.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, header};

use super::refusal::Refusal;

/// The one range that the headers ask for, or `None` for all. A range of other bytes (`If-Range`) asks for all of these.
///
/// # Errors
/// [`Refusal::Range`] for whatever is not one range of bytes that are there.
pub(super) fn requested_range(
    headers: &HeaderMap,
    etag: &HeaderValue,
    size: u64,
) -> Result<Option<Range<u64>>, Refusal> {
    let Some(range) = headers.get(header::RANGE) else { return Ok(None) };
    if headers.get(header::IF_RANGE).is_some_and(|known| known != etag) {
        return Ok(None);
    }
    range.to_str().ok().and_then(|range| one_range(range, size)).map(Some).ok_or(Refusal::Range { size })
}

/// Reads `bytes=a-b`, `bytes=a-` and `bytes=-n`; what lies past the end is left out.
fn one_range(range: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first, last) {
        ("", last) => size.saturating_sub(number(last)?)..size,
        (first, "") => number(first)?..size,
        (first, last) => number(first)?..number(last)?.saturating_add(1).min(size),
    };
    (range.start < range.end).then_some(range)
}

fn number(digits: &str) -> Option<u64> {
    // `parse` alone would also read `+1`.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_forms_are_read_and_cut_at_the_end() {
        assert_eq!(one_range("bytes=0-0", 10), Some(0..1));
        assert_eq!(one_range("bytes=2-5", 10), Some(2..6));
        assert_eq!(one_range("bytes=2-99", 10), Some(2..10));
        assert_eq!(one_range(&format!("bytes=2-{}", u64::MAX), 10), Some(2..10));
        assert_eq!(one_range("bytes=9-", 10), Some(9..10));
        assert_eq!(one_range("bytes=-3", 10), Some(7..10));
        assert_eq!(one_range("bytes=-99", 10), Some(0..10));
    }

    #[test]
    fn whatever_else_is_no_range() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=10-",
            "bytes=10-11",
            "bytes=5-2",
            "bytes=-0",
            "bytes=0-1,3-4",
            "bytes=+1-2",
            "bytes=1-2 ",
            "bytes = 1-2",
            "items=0-1",
            "bytes=0-1-2",
            "bytes=a-b",
            "bytes=0-99999999999999999999",
        ] {
            assert_eq!(one_range(range, 10), None, "{range:?}");
        }
        assert_eq!(one_range("bytes=0-", 0), None);
    }

    proptest! {
        #[test]
        fn whatever_is_read_lies_inside_and_is_not_empty(range in "(bytes=)?[-+,0-9]{0,24}", size in 0_u64..50) {
            if let Some(range) = one_range(&range, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
