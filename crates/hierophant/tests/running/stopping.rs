//! The first signal drains within limits, the second one ends at once.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::hierophant::{Hierophant, proof};

/// As the service file has it, less what a busy machine may take.
const STATED_LIMIT: Duration = Duration::from_secs(20);

/// Begins an upload of ten bytes and sends half of them. Answers once they are being received.
async fn half_an_upload(hierophant: &Hierophant, number: u32) -> TcpStream {
    let url = hierophant.upload_url(proof(number));
    let mut socket = TcpStream::connect(hierophant.endpoints.http).await.unwrap();
    let head = format!(
        "PUT {}?{} HTTP/1.1\r\nHost: hierophant\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
        url.path(),
        url.query().unwrap()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 25];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"01234").await.unwrap();
    socket
}

#[expect(clippy::disallowed_methods, reason = "time is what is measured")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test]
async fn an_upload_that_was_begun_is_finished_before_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut hierophant = Hierophant::start(directory.path());
    let mut upload = half_an_upload(&hierophant, 1).await;
    hierophant.signal(Signal::TERM);
    hierophant.line("stopping; a second signal stops at once");
    upload.write_all(b"56789").await.unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let (status, said) = hierophant.end();
    assert!(status.success(), "{status}:\n{said}");
    let again = Hierophant::start(directory.path());
    assert_eq!(again.download(proof(1)).await.unwrap(), b"0123456789");
    again.stop();
}

#[tokio::test]
async fn clients_that_never_finish_do_not_keep_it_from_ending_within_the_stated_limit() {
    let directory = tempfile::tempdir().unwrap();
    let hierophant = Hierophant::start_with(directory.path(), "[limits]\nconnections = 2");
    let _uploads = (half_an_upload(&hierophant, 1).await, half_an_upload(&hierophant, 2).await);
    // All the connections that are allowed are taken, and one more waits.
    let _waiting = TcpStream::connect(hierophant.endpoints.http).await.unwrap();
    let began = now();
    hierophant.signal(Signal::TERM);
    let (status, said) = hierophant.end();
    assert!(status.success(), "{status}:\n{said}");
    assert!(began.elapsed() < STATED_LIMIT, "{:?}", began.elapsed());
    let again = Hierophant::start(directory.path());
    assert_eq!(again.download(proof(1)).await, None);
    again.stop();
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = tempfile::tempdir().unwrap();
        let mut hierophant = Hierophant::start(directory.path());
        assert_eq!(hierophant.upload(proof(2), b"proof".to_vec()).await.0, 200);
        let _upload = half_an_upload(&hierophant, 1).await;
        hierophant.signal(Signal::TERM);
        hierophant.line("stopping; a second signal stops at once");
        let began = now();
        hierophant.signal(signal);
        let (status, said) = hierophant.end();
        assert_eq!(status.code(), Some(130), "{said}");
        // The drain alone would take five seconds.
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        let again = Hierophant::start(directory.path());
        assert_eq!(again.download(proof(2)).await.unwrap(), b"proof");
        again.stop();
    }
}
