//! What belongs together stays, what does not is mended.

use std::{fs, time::SystemTime};

use network_lib::{ArtifactId, ArtifactKind};

use super::*;
use crate::upkeep::consistency::{CompareError, Compared};

fn artifact(number: u32) -> ArtifactId {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&number.to_be_bytes());
    ArtifactId::new(ArtifactKind::ALL[number as usize % 4], key)
}

impl Place {
    fn path(&self, id: ArtifactId) -> std::path::PathBuf {
        self.directory.path().join("artifacts").join(id.kind().name()).join(id.to_string())
    }

    /// A file that nobody recorded, written this long ago.
    fn leave_behind(&self, id: ArtifactId, age: Duration) {
        let file = fs::File::create(self.path(id)).unwrap();
        #[expect(clippy::disallowed_methods, reason = "files have the system's time")]
        file.set_modified(SystemTime::now() - age).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_files_without_a_row_go_and_young_ones_and_foreign_ones_stay() {
    let place = Place::new(RetentionRules::default());
    for number in 0..8 {
        place.upload(artifact(number)).await;
        let old = Duration::from_hours(48);
        fs::File::open(place.path(artifact(number))).unwrap().set_modified(SystemTime::UNIX_EPOCH + old).unwrap();
        place.leave_behind(artifact(100 + number), Duration::from_mins(61));
        place.leave_behind(artifact(200 + number), Duration::from_mins(59));
    }
    let foreign = place.path(artifact(0)).with_file_name("notes of the operator");
    fs::write(&foreign, "please stay").unwrap();
    fs::File::open(&foreign).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();

    let compared = place.upkeep.compare().await.unwrap();

    assert_eq!((compared.unknown, compared.lost), (8, vec![]));
    for number in 0..8 {
        assert!(place.has_row(artifact(number)).await && place.has_file(artifact(number)).await);
        assert!(!place.has_file(artifact(100 + number)).await);
        assert!(place.has_file(artifact(200 + number)).await);
    }
    assert!(foreign.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_a_file_go_and_are_told() {
    let mut place = Place::new(RetentionRules::default());
    for number in 0..8 {
        place.upload(artifact(number)).await;
    }
    for number in [2, 5] {
        fs::remove_file(place.path(artifact(number))).unwrap();
    }
    place.upkeep.bring_together().await;
    let mut told = [place.told.try_recv().unwrap(), place.told.try_recv().unwrap()];
    told.sort();
    let mut expected = [artifact(2), artifact(5)];
    expected.sort();
    assert_eq!(told, expected);
    assert!(place.told.try_recv().is_err());
    for number in 0..8 {
        assert_eq!(place.has_row(artifact(number)).await, ![2, 5].contains(&number));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_uploaded_at_this_moment_is_left_alone() {
    let place = Place::new(RetentionRules::default());
    place.leave_behind(artifact(1), Duration::from_hours(2));
    place.upload(artifact(2)).await;
    place.upload(artifact(3)).await;
    fs::remove_file(place.path(artifact(2))).unwrap();
    let _uploads = [artifact(1), artifact(2)].map(|id| place.upkeep.claims.bring(id).unwrap());
    assert_eq!(place.upkeep.compare().await.unwrap(), Compared::default());
    assert!(place.has_file(artifact(1)).await && place.has_row(artifact(2)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_looks_like_another_one_is_left_alone() {
    let place = Place::new(RetentionRules::default());
    let elsewhere = tempfile::tempdir().unwrap();
    let unmounted =
        Upkeep { files: Arc::new(DiskArtifacts::open(elsewhere.path(), 0).unwrap()), ..place.upkeep.clone() };
    for number in 0..40 {
        place.upload(artifact(number)).await;
        let error = unmounted.compare().await.unwrap_err();
        let all = number as usize + 1;
        assert!(matches!(error, CompareError::WrongFiles { lost, rows } if [lost, rows] == [all; 2]), "{error}");
    }

    for number in 0..41 {
        place.leave_behind(artifact(1000 + number), Duration::from_hours(2));
    }
    let error = place.upkeep.compare().await.unwrap_err();
    assert!(matches!(error, CompareError::WrongRows { unknown: 41, files: 81 }), "{error}");
    for number in (0..40).chain(1000..1041) {
        assert!(place.has_file(artifact(number)).await);
        assert_eq!(place.has_row(artifact(number)).await, number < 1000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_artifacts_are_compared_in_seconds() {
    const MANY: u32 = 100_000;
    let place = Place::new(RetentionRules::default());
    let row = |number| Artifact {
        id: artifact(number),
        owner: None,
        digest: network_lib::Digest::of(b""),
        size: 0,
        created_at: place.now(),
    };
    // As many operations at once as one transaction of the writer takes.
    let numbers: Vec<_> = (0..MANY).collect();
    for batch in numbers.chunks(512) {
        futures_util::future::join_all(batch.iter().map(|number| place.upkeep.store.record_artifact(row(*number))))
            .await
            .into_iter()
            .for_each(Result::unwrap);
        for number in batch {
            fs::File::create(place.path(artifact(*number))).unwrap();
        }
    }
    place.leave_behind(artifact(MANY), Duration::from_hours(2));
    let began = tokio::time::Instant::now();
    let compared = place.upkeep.compare().await.unwrap();
    let took = began.elapsed();
    assert_eq!((compared.unknown, compared.lost.len()), (1, 0));
    println!("compared {MANY} rows and files in {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}
