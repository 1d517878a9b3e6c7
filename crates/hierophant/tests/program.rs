//! The program as it is started: what it says when it cannot start.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs::{self, File},
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

/// Runs the program, which must end by itself.
fn run(directory: &Path, args: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hierophant"))
        .arg("--data-directory")
        .arg(directory)
        .args(args)
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr.clone()).unwrap();
    (output, words)
}

#[test]
fn a_port_that_is_taken_is_named_with_the_key_to_change() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port().to_string();
    let (output, words) = run(directory.path(), &["--grpc-port", &port, "--http-port", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains(&address) && words.contains("set grpc_port"), "{words}");
    let (_, words) = run(directory.path(), &["--grpc-port", "0", "--http-port", &port]);
    assert!(words.contains("set http_port"), "{words}");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named_with_the_key_to_change() {
    let (output, words) = run(Path::new("/proc/nope"), &["--grpc-port", "0", "--http-port", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains("/proc/nope") && words.contains("set data_directory"), "{words}");
}

#[test]
fn a_data_directory_in_use_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let lock = File::create(directory.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let (output, words) = run(directory.path(), &["--grpc-port", "0", "--http-port", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains("another hierophant uses the data directory"), "{words}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_bad_configuration_ends_with_its_own_code_before_anything_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bad.toml");
    fs::write(&file, "worker_token = 'short'\n[workers]\nsilence_limit = '1s'\n").unwrap();
    let data = directory.path().join("data");
    let (output, words) = run(&data, &["--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    assert!(words.contains("worker_token") && words.contains("workers.silence_limit"), "{words}");
    assert!(!data.exists());
}
