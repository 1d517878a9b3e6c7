//! Two programs on one data directory.

use std::fs;

use crate::hierophant::{Hierophant, command, proof};

#[tokio::test]
async fn a_program_whose_directory_was_taken_over_ends_in_words_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut former = Hierophant::start(directory.path());
    assert_eq!(former.upload(proof(1), b"proof".to_vec()).await.0, 200);
    let second = command(directory.path(), "").output().unwrap();
    assert!(!second.status.success(), "the lock holds");

    // Someone removes the lock that was in the way.
    fs::remove_file(directory.path().join("lock")).unwrap();
    let owner = Hierophant::start(directory.path());
    let (status, words) = former.upload(proof(2), b"proof".to_vec()).await;
    assert_eq!(status, 504, "{words}");
    former.line("takes no more writes");
    let (status, said) = former.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("another hierophant has taken the data directory over"), "{said}");

    assert_eq!(owner.download(proof(1)).await.unwrap(), b"proof");
    assert_eq!(owner.download(proof(2)).await, None);
    assert_eq!(owner.upload(proof(2), b"proof".to_vec()).await.0, 200);
    owner.stop();
}
