//! What every [`ArtifactFiles`] must do.

use std::ops::Range;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all};
use network_lib::{ArtifactId, ArtifactKind, Digest};

use super::{Announced, ArtifactError, ArtifactFiles, Published};

/// Makes a test of every claim below. The block gives the files, and whatever must live as long as they do.
macro_rules! artifact_files_tests {
    ($setup:block) => {
        $crate::artifacts::contract::artifact_files_tests! { $setup:
            what_was_published_reads_back_whole_and_in_any_part
            nothing_is_seen_of_an_upload_before_it_is_published
            an_upload_that_is_given_up_leaves_nothing
            the_same_bytes_again_are_fine
            other_bytes_are_a_conflict_and_the_first_ones_stay
            bytes_that_were_not_expected_are_a_conflict_and_are_not_published
            an_artifact_may_have_as_many_bytes_as_its_limit_and_not_one_more
            ids_of_every_kind_are_apart
            a_removed_artifact_is_gone_and_can_be_removed_again
            an_artifact_that_is_removed_while_it_is_read_is_read_to_its_end
            of_many_uploads_at_once_one_wins_and_those_of_the_same_bytes_succeed
            missing_is_not_empty
            an_upload_that_broke_off_goes_on_where_it_was
            an_upload_goes_on_at_no_other_offset_than_the_true_one
            bytes_that_were_not_announced_are_thrown_away
            whoever_came_last_goes_on_with_an_upload
            an_upload_that_is_discarded_is_over_and_leaves_nothing
        }
    };
    ($setup:block: $($claim:ident)*) => {
        $(
            #[tokio::test]
            async fn $claim() {
                let (files, _kept) = $setup;
                $crate::artifacts::contract::$claim(&files).await;
            }
        )*
    };
}
pub(crate) use artifact_files_tests;

/// An id for tests.
pub(crate) fn artifact(number: u8) -> ArtifactId {
    ArtifactId::new(ArtifactKind::Stdin, [number; 16])
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| u8::try_from((place * 31 + place / 251) % 256).unwrap()).collect()
}

/// Uploads in uneven pieces.
pub(crate) async fn store(files: &dyn ArtifactFiles, id: ArtifactId, bytes: &[u8]) -> Result<Published, ArtifactError> {
    let mut upload = files.begin(id, u64::MAX).await?;
    for piece in bytes.chunks(70_001) {
        upload.write(Bytes::copy_from_slice(piece)).await?;
    }
    upload.publish(None).await
}

/// Reads a part; `None` when there is no such artifact.
pub(crate) async fn read(files: &dyn ArtifactFiles, id: ArtifactId, range: Range<u64>) -> Option<Vec<u8>> {
    let reader = files.open(id, range).await.unwrap()?;
    Some(reader.chunks.try_collect::<Vec<_>>().await.unwrap().concat())
}

pub(crate) async fn what_was_published_reads_back_whole_and_in_any_part(files: &dyn ArtifactFiles) {
    for (number, length) in [(1_u8, 0_usize), (2, 1), (3, 524_288), (4, 524_289), (5, 3_000_000)] {
        let bytes = pattern(length);
        let published = store(files, artifact(number), &bytes).await.unwrap();
        assert_eq!(published, Published { digest: Digest::of(&bytes), size: length as u64 });
        assert_eq!(files.open(artifact(number), 0..0).await.unwrap().unwrap().size, length as u64);
        let edges = [0, 1, 524_287, 524_288, 524_289, length.saturating_sub(1), length, length + 1];
        for start in edges {
            for end in edges {
                let range = start as u64..end as u64;
                let expected = bytes.get(start..end.min(length)).unwrap_or_default();
                assert!(read(files, artifact(number), range).await.unwrap() == expected, "{start}..{end} of {length}");
            }
        }
        let path = files.local_file(artifact(number)).await.unwrap().unwrap();
        assert!(std::fs::read(path).unwrap() == bytes);
    }
}

pub(crate) async fn nothing_is_seen_of_an_upload_before_it_is_published(files: &dyn ArtifactFiles) {
    let mut upload = files.begin(artifact(1), u64::MAX).await.unwrap();
    upload.write(pattern(2_000_000).into()).await.unwrap();
    assert!(files.open(artifact(1), 0..1).await.unwrap().is_none());
    assert!(files.local_file(artifact(1)).await.unwrap().is_none());
    upload.publish(None).await.unwrap();
    assert!(files.open(artifact(1), 0..1).await.unwrap().is_some());
}

pub(crate) async fn an_upload_that_is_given_up_leaves_nothing(files: &dyn ArtifactFiles) {
    let mut upload = files.begin(artifact(1), u64::MAX).await.unwrap();
    upload.write(pattern(2_000_000).into()).await.unwrap();
    drop(upload);
    assert!(files.open(artifact(1), 0..1).await.unwrap().is_none());
    store(files, artifact(1), b"other").await.unwrap();
    assert_eq!(read(files, artifact(1), 0..99).await.unwrap(), b"other");
}

pub(crate) async fn the_same_bytes_again_are_fine(files: &dyn ArtifactFiles) {
    let first = store(files, artifact(1), b"bytes").await.unwrap();
    assert_eq!(store(files, artifact(1), b"bytes").await.unwrap(), first);
    let mut expected = files.begin(artifact(1), u64::MAX).await.unwrap();
    expected.write(Bytes::from_static(b"bytes")).await.unwrap();
    assert_eq!(expected.publish(Some(first.digest)).await.unwrap(), first);
}

pub(crate) async fn other_bytes_are_a_conflict_and_the_first_ones_stay(files: &dyn ArtifactFiles) {
    store(files, artifact(1), b"first").await.unwrap();
    for other in [b"other".as_slice(), b"", b"first and more"] {
        let error = store(files, artifact(1), other).await.unwrap_err();
        assert!(matches!(error, ArtifactError::Conflict(id) if id == artifact(1)), "{error:?}");
    }
    assert_eq!(read(files, artifact(1), 0..99).await.unwrap(), b"first");
}

pub(crate) async fn bytes_that_were_not_expected_are_a_conflict_and_are_not_published(files: &dyn ArtifactFiles) {
    let mut upload = files.begin(artifact(1), u64::MAX).await.unwrap();
    upload.write(Bytes::from_static(b"other")).await.unwrap();
    let error = upload.publish(Some(Digest::of(b"expected"))).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Conflict(id) if id == artifact(1)), "{error:?}");
    assert!(files.open(artifact(1), 0..1).await.unwrap().is_none());
}

pub(crate) async fn an_artifact_may_have_as_many_bytes_as_its_limit_and_not_one_more(files: &dyn ArtifactFiles) {
    let mut upload = files.begin(artifact(1), 1_000_000).await.unwrap();
    upload.write(pattern(1_000_000).into()).await.unwrap();
    assert_eq!(upload.publish(None).await.unwrap().size, 1_000_000);

    let mut upload = files.begin(artifact(2), 1_000_000).await.unwrap();
    upload.write(pattern(999_999).into()).await.unwrap();
    let error = upload.write(Bytes::from_static(b"xy")).await.unwrap_err();
    assert!(matches!(error, ArtifactError::TooLarge { limit: 1_000_000, .. }), "{error:?}");
    assert!(upload.publish(None).await.is_err(), "an upload that failed is over");
    assert!(files.open(artifact(2), 0..1).await.unwrap().is_none());
}

pub(crate) async fn ids_of_every_kind_are_apart(files: &dyn ArtifactFiles) {
    for kind in ArtifactKind::ALL {
        store(files, ArtifactId::new(kind, [9; 16]), kind.name().as_bytes()).await.unwrap();
    }
    for kind in ArtifactKind::ALL {
        assert_eq!(read(files, ArtifactId::new(kind, [9; 16]), 0..99).await.unwrap(), kind.name().as_bytes());
    }
}

pub(crate) async fn a_removed_artifact_is_gone_and_can_be_removed_again(files: &dyn ArtifactFiles) {
    store(files, artifact(1), b"bytes").await.unwrap();
    store(files, artifact(2), b"others").await.unwrap();
    files.remove(artifact(1)).await.unwrap();
    files.remove(artifact(1)).await.unwrap();
    assert!(files.open(artifact(1), 0..1).await.unwrap().is_none());
    assert!(files.local_file(artifact(1)).await.unwrap().is_none());
    assert_eq!(read(files, artifact(2), 0..99).await.unwrap(), b"others");
}

pub(crate) async fn an_artifact_that_is_removed_while_it_is_read_is_read_to_its_end(files: &dyn ArtifactFiles) {
    let bytes = pattern(3_000_000);
    store(files, artifact(1), &bytes).await.unwrap();
    let mut reader = files.open(artifact(1), 0..u64::MAX).await.unwrap().unwrap();
    let first = reader.chunks.next().await.unwrap().unwrap();
    files.remove(artifact(1)).await.unwrap();
    let rest = reader.chunks.try_collect::<Vec<_>>().await.unwrap().concat();
    assert!([&first[..], &rest[..]].concat() == bytes);
}

pub(crate) async fn of_many_uploads_at_once_one_wins_and_those_of_the_same_bytes_succeed(files: &dyn ArtifactFiles) {
    let contents = [pattern(900_000), pattern(900_001)];
    let outcomes = join_all((0..20).map(|number| store(files, artifact(1), &contents[number % 2]))).await;
    let winner = read(files, artifact(1), 0..u64::MAX).await.unwrap();
    for (number, outcome) in outcomes.into_iter().enumerate() {
        if contents[number % 2] == winner {
            assert_eq!(outcome.unwrap().digest, Digest::of(&winner));
        } else {
            assert!(matches!(outcome, Err(ArtifactError::Conflict(_))));
        }
    }
}

pub(crate) async fn missing_is_not_empty(files: &dyn ArtifactFiles) {
    assert!(files.open(artifact(1), 0..0).await.unwrap().is_none());
    assert!(files.local_file(artifact(1)).await.unwrap().is_none());
    files.remove(artifact(1)).await.unwrap();
}

fn announced(bytes: &[u8]) -> Announced {
    Announced { digest: Digest::of(bytes), size: bytes.len() as u64 }
}

/// Brings some of the `bytes` and breaks off.
pub(crate) async fn bring_part(files: &dyn ArtifactFiles, id: ArtifactId, bytes: &[u8], part: Range<usize>) {
    let mut upload = files.resume(id, part.start as u64, announced(bytes)).await.unwrap();
    for piece in bytes[part].chunks(70_001) {
        upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    upload.suspend().await.unwrap();
}

pub(crate) async fn an_upload_that_broke_off_goes_on_where_it_was(files: &dyn ArtifactFiles) {
    let bytes = pattern(3_000_000);
    assert_eq!(files.partial(artifact(1)).await.unwrap(), 0);
    let mut there = 0;
    for next in [0, 1, 524_288, 1_700_000, 1_700_000, 3_000_000] {
        bring_part(files, artifact(1), &bytes, there..next).await;
        there = next;
        assert_eq!(files.partial(artifact(1)).await.unwrap(), there as u64);
        assert!(files.open(artifact(1), 0..1).await.unwrap().is_none(), "nothing is seen of it");
        assert_eq!(files.partials().await.unwrap().into_keys().collect::<Vec<_>>(), [artifact(1)]);
    }
    let upload = files.resume(artifact(1), 3_000_000, announced(&bytes)).await.unwrap();
    let published = upload.publish(None).await.unwrap();
    assert_eq!(published, Published { digest: Digest::of(&bytes), size: 3_000_000 });
    assert!(read(files, artifact(1), 0..u64::MAX).await.unwrap() == bytes);
    assert_eq!(files.partial(artifact(1)).await.unwrap(), 0);
    assert!(files.partials().await.unwrap().is_empty());
}

pub(crate) async fn an_upload_goes_on_at_no_other_offset_than_the_true_one(files: &dyn ArtifactFiles) {
    let bytes = pattern(1000);
    let error = files.resume(artifact(1), 1, announced(&bytes)).await.err().unwrap();
    assert!(matches!(error, ArtifactError::Offset { there: 0, .. }), "{error:?}");
    assert!(files.partials().await.unwrap().is_empty());
    bring_part(files, artifact(1), &bytes, 0..600).await;
    for offset in [0, 599, 601, 1000] {
        let error = files.resume(artifact(1), offset, announced(&bytes)).await.err().unwrap();
        assert!(matches!(error, ArtifactError::Offset { there: 600, .. }), "{error:?}");
    }
    bring_part(files, artifact(1), &bytes, 600..1000).await;
}

pub(crate) async fn bytes_that_were_not_announced_are_thrown_away(files: &dyn ArtifactFiles) {
    let bytes = pattern(1000);
    let mut other = bytes.clone();
    other[3] ^= 1;
    for (wrong, broke) in [(other.as_slice(), 500), (&other, 1000), (&bytes[..999], 500)] {
        // Announced is something else than what comes.
        let mut upload = files.resume(artifact(1), 0, announced(&bytes)).await.unwrap();
        upload.write(Bytes::copy_from_slice(&wrong[..broke.min(wrong.len())])).await.unwrap();
        upload.suspend().await.unwrap();
        let there = files.partial(artifact(1)).await.unwrap();
        let mut upload = files.resume(artifact(1), there, announced(&bytes)).await.unwrap();
        let rest = Bytes::copy_from_slice(&wrong[usize::try_from(there).unwrap()..]);
        upload.write(rest).await.unwrap();
        let error = upload.publish(None).await.unwrap_err();
        assert!(matches!(error, ArtifactError::NotAnnounced(id) if id == artifact(1)), "{error:?}");
        assert!(files.open(artifact(1), 0..1).await.unwrap().is_none());
        assert_eq!(files.partial(artifact(1)).await.unwrap(), 0, "it begins anew");
    }
    let mut upload = files.resume(artifact(1), 0, announced(&bytes)).await.unwrap();
    upload.write(bytes.clone().into()).await.unwrap();
    let error = upload.write(Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(error, ArtifactError::TooLarge { limit: 1000, .. }), "{error:?}");
}

pub(crate) async fn whoever_came_last_goes_on_with_an_upload(files: &dyn ArtifactFiles) {
    let bytes = pattern(2_000_000);
    let mut first = files.resume(artifact(1), 0, announced(&bytes)).await.unwrap();
    first.write(Bytes::copy_from_slice(&bytes[..1_000_000])).await.unwrap();
    // The first one waits on a connection that is dead.
    let there = files.partial(artifact(1)).await.unwrap();
    assert!(there <= 1_000_000);
    let part = usize::try_from(there).unwrap();
    let mut second = files.resume(artifact(1), there, announced(&bytes)).await.unwrap();
    second.write(Bytes::copy_from_slice(&bytes[part..])).await.unwrap();
    // What comes there after all harms nobody.
    drop(first.write(Bytes::from(vec![0; 1_000_000])).await);
    let error = first.suspend().await.unwrap_err();
    assert!(matches!(error, ArtifactError::TakenOver(id) if id == artifact(1)), "{error:?}");
    assert_eq!(second.publish(None).await.unwrap().digest, Digest::of(&bytes));
    assert!(read(files, artifact(1), 0..u64::MAX).await.unwrap() == bytes);
}

pub(crate) async fn an_upload_that_is_discarded_is_over_and_leaves_nothing(files: &dyn ArtifactFiles) {
    let bytes = pattern(1000);
    bring_part(files, artifact(1), &bytes, 0..400).await;
    let mut upload = files.resume(artifact(1), 400, announced(&bytes)).await.unwrap();
    files.discard(artifact(1)).await.unwrap();
    files.discard(artifact(1)).await.unwrap();
    upload.write(Bytes::copy_from_slice(&bytes[400..])).await.unwrap();
    let error = upload.publish(None).await.unwrap_err();
    assert!(matches!(error, ArtifactError::TakenOver(_)), "{error:?}");
    assert_eq!(files.partial(artifact(1)).await.unwrap(), 0);
    assert!(files.partials().await.unwrap().is_empty());
}
