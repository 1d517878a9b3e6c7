//! Who may join, and what becomes of those who may not.

use std::{
    io,
    sync::{Arc, Mutex},
};

use hierophant_core::FleetSettings;
use network_lib::{
    ProofMode, WorkerProfile,
    protocol::{EvictionCode, Instruction, Report},
};
use tokio_tungstenite::tungstenite::{Message, http::StatusCode};

use crate::{
    coordinator::Coordinator,
    worker::{Worker, profile, refused},
};

#[tokio::test]
async fn a_worker_of_another_version_is_told_both_versions() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::dial(&coordinator, 1).await;
    worker.say(Report::Hello { version: "9.9.9".to_owned(), profile: profile(1), in_hand: Vec::new() }).await;
    let Instruction::Evicted { code, reason } = worker.hear().await else { panic!("it must be refused") };
    assert_eq!(code, Some(EvictionCode::Version));
    assert!(reason.contains("9.9.9") && reason.contains(env!("CARGO_PKG_VERSION")), "{reason}");
}

#[tokio::test]
async fn a_copy_of_a_worker_is_turned_away_with_the_remedy_until_the_other_has_left() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(directory.path()).await;
    let process = |number| WorkerProfile { instance: Some(number), ..profile(1) };
    let connected = async || coordinator.facts("/health").await["contemplants"].clone();
    let mut first = Worker::join_as(&coordinator, process(1), Vec::new()).await;
    while connected().await == 0 {}

    let mut copy = Worker::dial(&coordinator, 1).await;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    copy.say(Report::Hello { version, profile: process(2), in_hand: Vec::new() }).await;
    let reason = copy.hear_the_end().await;
    assert!(reason.ends_with("has this worker's id: in a copied state directory, delete worker.id"), "{reason}");

    // A process that comes back is no copy.
    let back = Worker::join_as(&coordinator, process(1), Vec::new()).await;
    assert_eq!(first.hear_the_end().await, "the worker opened a newer session");
    drop(back);
    while connected().await != 0 {}
    Worker::join_as(&coordinator, process(2), Vec::new()).await;
}

#[tokio::test]
async fn with_a_token_a_worker_must_present_it() {
    let directory = tempfile::tempdir().unwrap();
    let token = Some("correct horse battery");
    let coordinator = Coordinator::start_with(directory.path(), FleetSettings::default(), token).await;
    let (status, words) = refused(&coordinator, &[]).await.unwrap();
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(words.contains("set worker_token at the contemplant"), "{words}");
    let wrong = refused(&coordinator, &[("authorization", "Bearer wrong")]).await.unwrap();
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    assert_eq!(refused(&coordinator, &[("authorization", "Bearer correct horse battery")]).await, None);
}

#[tokio::test]
async fn a_page_in_a_browser_cannot_join() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(directory.path()).await;
    let (status, _) = refused(&coordinator, &[("origin", "http://evil.example")]).await.unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn garbage_ends_the_session_with_a_reason_and_disturbs_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut good = Worker::join(&coordinator, 1).await;
    let mut bad = Worker::join(&coordinator, 2).await;
    bad.say_raw(Message::binary(vec![0xff; 40])).await;
    let reason = bad.hear_the_end().await;
    assert!(reason.contains("not the protocol"), "{reason}");
    let mut chatty = Worker::join(&coordinator, 3).await;
    chatty.say_raw(Message::text("hello")).await;
    assert!(chatty.hear_the_end().await.contains("binary frames"));
    coordinator.submit().await;
    good.assigned().await;
}

#[tokio::test]
async fn a_mode_that_nobody_proves_is_said_in_the_log_and_on_the_requests_page() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::default();
    // For the whole process, since callsites are cached across threads: no other test here asks for plonk.
    tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).init();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let _worker = Worker::join(&coordinator, 1).await;
    while coordinator.facts("/health").await["contemplants"] == 0 {}
    let id = coordinator.submit_mode(ProofMode::Plonk).await;
    let page = coordinator.facts(&format!("/requests/{id}")).await;
    let reason = "no connected worker proves plonk for sp1 circuit sp1-v6.1.0";
    assert_eq!(page["waiting"], reason);
    let warnings: Vec<String> = log.lines().into_iter().filter(|line| line.contains(reason)).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("WARN") && warnings[0].contains("contemplant doctor"), "{warnings:?}");

    coordinator.submit_mode(ProofMode::Plonk).await;
    coordinator.facts("/health").await;
    assert_eq!(log.lines().iter().filter(|line| line.contains(reason)).count(), 1, "said once for a while");
}

/// What was logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn the_pages_of_facts_tell_who_is_here_and_who_left_and_why() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let id = coordinator.submit().await;
    let mut worker = Worker::join(&coordinator, 1).await;
    worker.assigned().await;

    let here = coordinator.facts("/contemplants").await;
    assert_eq!(here[0]["name"], "worker 1");
    assert_eq!(here[0]["ip"].as_str().unwrap().split(':').next(), Some("127.0.0.1"));
    assert_eq!(here[0]["current_proofs"][0]["request"], id.to_string());
    let health = coordinator.facts("/health").await;
    assert_eq!(health["contemplants"], 1);
    let count = |what| health["database"][what].as_u64().unwrap();
    assert!(1 <= count("commits") && count("commits") <= count("writes"), "{health}");
    assert_eq!(coordinator.facts("/dead-contemplants").await.as_array().unwrap().len(), 0);

    drop(worker);
    let gone = loop {
        let gone = coordinator.facts("/dead-contemplants").await;
        if !gone.as_array().unwrap().is_empty() {
            break gone;
        }
    };
    assert_eq!(gone[0]["name"], "worker 1");
    assert!(!gone[0]["reason"].as_str().unwrap().is_empty());
}
