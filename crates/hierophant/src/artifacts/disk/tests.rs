use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use super::*;
use crate::artifacts::contract::{self, artifact, read, store};

struct Disk {
    files: DiskArtifacts,
    directory: tempfile::TempDir,
}

fn disk() -> Disk {
    let directory = tempfile::tempdir().unwrap();
    Disk { files: DiskArtifacts::open(directory.path(), 0).unwrap(), directory }
}

impl Disk {
    fn incoming(&self) -> usize {
        fs::read_dir(self.directory.path().join("incoming")).unwrap().count()
    }

    /// Waits until no upload is under way: unfinished ones are removed on a thread of their own.
    async fn settled(&self) {
        let wait = async {
            while self.incoming() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("unfinished uploads stayed");
    }

    /// A staged file whose bytes go to `device` instead.
    fn staged_on(&self, device: &str, id: ArtifactId) -> Staged {
        let mut staged = Staged::create(Arc::clone(&self.files.root), id).unwrap();
        staged.file = Some(File::options().write(true).open(device).unwrap());
        staged
    }
}

contract::artifact_files_tests!({
    let Disk { files, directory } = disk();
    (files, directory)
});

#[tokio::test]
async fn nothing_is_left_in_incoming_whether_an_upload_succeeds_fails_or_is_given_up() {
    let disk = disk();
    store(&disk.files, artifact(1), b"proof").await.unwrap();
    assert_eq!(disk.incoming(), 0);
    store(&disk.files, artifact(1), b"other").await.unwrap_err();
    let mut given_up = disk.files.begin(artifact(2), u64::MAX).await.unwrap();
    given_up.write(vec![7; 3 * CHUNK].into()).await.unwrap();
    assert!(disk.incoming() > 0);
    drop(given_up);
    disk.settled().await;
}

#[tokio::test]
async fn what_a_crash_left_unfinished_is_removed_at_the_next_start_and_nothing_else() {
    let disk = disk();
    store(&disk.files, artifact(1), b"whole").await.unwrap();
    let mut torn = disk.files.begin(artifact(2), u64::MAX).await.unwrap();
    torn.write(vec![7; 2 * CHUNK].into()).await.unwrap();
    // As after a crash: nobody cleans up.
    mem::forget(torn);
    assert_eq!(disk.incoming(), 1);

    let restarted = DiskArtifacts::open(disk.directory.path(), 0).unwrap();

    assert_eq!(disk.incoming(), 0);
    assert_eq!(read(&restarted, artifact(1), 0..99).await.unwrap(), b"whole");
    assert!(read(&restarted, artifact(2), 0..99).await.is_none());
}

#[tokio::test]
async fn an_upload_that_can_go_on_is_kept_over_a_crash_as_far_as_it_was_written() {
    let disk = disk();
    let bytes = contract::pattern(4 * CHUNK);
    let announced = Announced { digest: Digest::of(&bytes), size: bytes.len() as u64 };
    // Not through `Upload`, whose writes go on in the background: a crash ends them.
    let mut torn = Staged::resume(Arc::clone(&disk.files.root), artifact(1), 0, announced).unwrap();
    torn.append(&bytes[..CHUNK]).unwrap();
    torn.append(&bytes[CHUNK..CHUNK + 7]).unwrap();
    mem::forget(torn);

    let restarted = DiskArtifacts::open(disk.directory.path(), 0).unwrap();

    let there = usize::try_from(restarted.partial(artifact(1)).await.unwrap()).unwrap();
    assert_eq!(there, CHUNK + 7);
    let mut upload = restarted.resume(artifact(1), there as u64, announced).await.unwrap();
    upload.write(Bytes::copy_from_slice(&bytes[there..])).await.unwrap();
    assert_eq!(upload.publish(None).await.unwrap().digest, announced.digest);
    assert_eq!(disk.incoming(), 0);
}

#[tokio::test]
async fn after_a_failed_sync_an_upload_begins_anew() {
    let disk = disk();
    contract::bring_part(&disk.files, artifact(1), b"bytes", 0..5).await;
    let announced = Announced { digest: Digest::of(b"bytes"), size: 5 };
    let mut staged = Staged::resume(Arc::clone(&disk.files.root), artifact(1), 5, announced).unwrap();
    staged.file = Some(File::options().write(true).open("/dev/null").unwrap()); // Cannot be synced.
    let error = staged.publish(None).unwrap_err();
    assert!(matches!(error, ArtifactError::Io { doing: "sync", .. }), "{error:?}");
    assert_eq!(disk.incoming(), 0);
}

#[tokio::test]
async fn an_upload_that_finds_its_bytes_stored_already_leaves_nothing() {
    let disk = disk();
    store(&disk.files, artifact(1), b"bytes").await.unwrap();
    contract::bring_part(&disk.files, artifact(1), b"bytes", 0..5).await;
    let announced = Announced { digest: Digest::of(b"bytes"), size: 5 };
    disk.files.resume(artifact(1), 5, announced).await.unwrap().publish(None).await.unwrap();
    assert_eq!(disk.incoming(), 0);
    assert_eq!(read(&disk.files, artifact(1), 0..99).await.unwrap(), b"bytes");
}

#[tokio::test]
async fn a_full_disk_is_said_to_be_full_and_keeps_nothing() {
    let disk = disk();
    let mut staged = disk.staged_on("/dev/full", artifact(1));
    let error = staged.append(b"bytes").unwrap_err();
    assert!(matches!(error, ArtifactError::Full), "{error:?}");
    assert!(error.to_string().starts_with("the disk is full"));
    drop(staged);
    disk.settled().await;
    assert!(read(&disk.files, artifact(1), 0..99).await.is_none());
}

#[tokio::test]
async fn a_failed_sync_publishes_nothing_and_a_second_upload_starts_over() {
    let disk = disk();
    let mut staged = disk.staged_on("/dev/null", artifact(1)); // Takes bytes, cannot be synced.
    staged.append(b"bytes").unwrap();
    let error = staged.publish(None).unwrap_err();
    assert!(matches!(error, ArtifactError::Io { doing: "sync", .. }), "{error:?}");
    disk.settled().await;
    assert!(read(&disk.files, artifact(1), 0..99).await.is_none());
    store(&disk.files, artifact(1), b"bytes").await.unwrap();
    assert_eq!(read(&disk.files, artifact(1), 0..99).await.unwrap(), b"bytes");
}

#[tokio::test]
async fn the_last_of_the_disk_is_kept_for_proofs() {
    let directory = tempfile::tempdir().unwrap();
    let disk = rustix::fs::statvfs(directory.path()).unwrap();
    let free = disk.f_bavail * disk.f_frsize;
    let files = DiskArtifacts::open(directory.path(), free.saturating_mul(2)).unwrap();
    let input = ArtifactId::new(ArtifactKind::Stdin, [1; 16]);
    assert!(matches!(store(&files, input, b"input").await, Err(ArtifactError::Full)));
    let proof = ArtifactId::new(ArtifactKind::Proof, [1; 16]);
    store(&files, proof, b"proof").await.unwrap();
    assert!(!files.has_room(ArtifactKind::Stdin).await.unwrap() && files.has_room(ArtifactKind::Proof).await.unwrap());
}

#[tokio::test]
async fn the_very_last_of_the_disk_is_kept_for_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let files = DiskArtifacts::open(directory.path(), u64::MAX).unwrap();
    for kind in ArtifactKind::ALL {
        let error = store(&files, ArtifactId::new(kind, [1; 16]), b"bytes").await.unwrap_err();
        assert!(matches!(error, ArtifactError::Full), "{kind}: {error:?}");
    }
}

#[tokio::test]
async fn a_file_that_became_shorter_ends_in_an_error() {
    let disk = disk();
    store(&disk.files, artifact(1), &vec![1; 3 * CHUNK]).await.unwrap();
    let reader = disk.files.open(artifact(1), 0..u64::MAX).await.unwrap().unwrap();
    let path = disk.files.local_file(artifact(1)).await.unwrap().unwrap();
    File::options().write(true).open(path).unwrap().set_len(CHUNK as u64 + 1).unwrap();
    let chunks: Vec<_> = futures_util::StreamExt::collect(reader.chunks).await;
    assert_eq!(chunks.last().unwrap().as_ref().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn files_and_directories_are_for_this_user_only() {
    let disk = disk();
    store(&disk.files, artifact(1), b"private").await.unwrap();
    let path = disk.files.local_file(artifact(1)).await.unwrap().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&disk.directory.path().join("incoming")), 0o700);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let error = DiskArtifacts::open("/proc/artifacts", 0).unwrap_err();
    assert_eq!(error.to_string(), "could not create /proc/artifacts/program");
}

#[tokio::test]
async fn what_was_set_aside_goes_after_its_time_or_when_there_is_too_much_of_it() {
    let Disk { files, directory: _directory } = disk();
    for n in 1..=3 {
        store(&files, artifact(n), &[n; 100]).await.unwrap();
        files.set_aside(artifact(n)).await.unwrap();
    }
    store(&files, artifact(4), b"whole").await.unwrap();
    let (past, future) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33));
    assert_eq!(files.clear_aside(past, 300).await.unwrap(), (0, 0));
    assert_eq!(files.clear_aside(past, 250).await.unwrap(), (1, 100));
    assert_eq!(files.clear_aside(future, u64::MAX).await.unwrap(), (2, 200));
    for n in 1..=3 {
        assert!(!files.was_set_aside(artifact(n)).await.unwrap());
    }
    assert_eq!(read(&files, artifact(4), 0..9).await.unwrap(), b"whole");
}
