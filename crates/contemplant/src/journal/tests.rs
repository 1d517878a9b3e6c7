use std::collections::BTreeMap;

use network_lib::{CircuitVersion, ProofMode, RequestId, protocol::Source};
use proptest::prelude::*;

use super::*;

fn record(attempt: u8, stage: Stage) -> Record {
    let source = Source { url: "/artifacts/x".to_owned(), digest: Digest::new([6; 32]), size: 7 };
    Record {
        assignment: Assignment {
            attempt: AttemptId::new([attempt; 16]),
            request: RequestId::new([3; 32]),
            prover: 0,
            mode: ProofMode::Core,
            circuit_version: CircuitVersion::new("sp1-v6.1.0"),
            vk_hash: Digest::new([8; 32]),
            program: source.clone(),
            stdin: source,
            cycle_limit: u64::MAX,
            gas_limit: 1,
        },
        stage,
        execution: None,
    }
}

const PROOF: &[u8] = b"a proof";

fn proved() -> Stage {
    Stage::Proved { digest: Digest::of(PROOF), size: PROOF.len() as u64 }
}

#[derive(Debug, Clone)]
enum Step {
    Write(u8, Stage),
    Forget(u8),
    /// A crash after the directory of an attempt was made, before its record was.
    EmptyDirectory(u8),
    /// A crash while a record was being written.
    Unfinished(u8, Vec<u8>),
    /// A crash after an attempt was renamed away, before its files were removed.
    HalfForgotten(u8),
    Reopen,
}

fn stages() -> impl Strategy<Value = Stage> {
    prop_oneof![
        Just(Stage::Received),
        Just(Stage::Proving),
        Just(proved()),
        Just(Stage::Failed(Fault::guest("panicked"))),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let attempt = 0_u8..4;
    prop_oneof![
        4 => (attempt.clone(), stages()).prop_map(|(attempt, stage)| Step::Write(attempt, stage)),
        2 => attempt.clone().prop_map(Step::Forget),
        1 => attempt.clone().prop_map(Step::EmptyDirectory),
        1 => (attempt.clone(), any::<Vec<u8>>()).prop_map(|(attempt, bytes)| Step::Unfinished(attempt, bytes)),
        1 => attempt.prop_map(Step::HalfForgotten),
        2 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_written_and_not_forgotten_is_there_after_any_crash(steps in prop::collection::vec(steps(), 0..24)) {
        let root = tempfile::tempdir().expect("a directory");
        let (mut journal, _) = Journal::open(root.path()).expect("opens");
        let mut expected: BTreeMap<AttemptId, Record> = BTreeMap::new();
        for step in steps.into_iter().chain([Step::Reopen]) {
            match step {
                Step::Write(attempt, stage) => {
                    let record = record(attempt, stage);
                    let files = journal.files(record.attempt());
                    fs::create_dir_all(&files.directory).expect("created");
                    fs::write(&files.proof, PROOF).expect("written");
                    journal.write(&record).expect("written");
                    expected.insert(record.attempt(), record);
                }
                Step::Forget(attempt) => {
                    journal.forget(AttemptId::new([attempt; 16])).expect("forgotten");
                    expected.remove(&AttemptId::new([attempt; 16]));
                }
                Step::EmptyDirectory(attempt) => {
                    fs::create_dir_all(journal.files(AttemptId::new([attempt; 16])).directory).expect("created");
                }
                Step::Unfinished(attempt, bytes) => {
                    let directory = journal.files(AttemptId::new([attempt; 16])).directory;
                    fs::create_dir_all(&directory).expect("created");
                    fs::write(directory.join(format!("{}abc", durable::TEMPORARY_PREFIX)), bytes).expect("written");
                }
                Step::HalfForgotten(attempt) => {
                    let directory = journal.files(AttemptId::new([attempt; 16])).directory;
                    if directory.exists() && !directory.with_extension(GONE).exists() {
                        fs::rename(&directory, directory.with_extension(GONE)).expect("renamed");
                        expected.remove(&AttemptId::new([attempt; 16]));
                    }
                }
                Step::Reopen => {
                    let (reopened, records) = Journal::open(root.path()).expect("opens");
                    journal = reopened;
                    prop_assert_eq!(records, expected.values().cloned().collect::<Vec<_>>());
                }
            }
        }
    }
}

#[test]
fn a_damaged_proof_is_made_again() {
    let root = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open(root.path()).expect("opens");
    let record = record(1, proved());
    let files = journal.files(record.attempt());
    fs::create_dir_all(&files.directory).expect("created");
    fs::write(&files.proof, PROOF).expect("written");
    journal.write(&record).expect("written");
    fs::write(&files.proof, b"b proof").expect("damaged");
    let (_, records) = Journal::open(root.path()).expect("opens");
    assert_eq!(records.iter().map(|record| &record.stage).collect::<Vec<_>>(), [&Stage::Received]);
}

#[test]
fn a_record_never_speaks_of_a_proof_that_is_not_there() {
    let root = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open(root.path()).expect("opens");
    journal.write(&record(1, Stage::Proving)).expect("written");
    journal.write(&record(1, proved())).expect_err("no proof");
    let (_, records) = Journal::open(root.path()).expect("opens");
    assert_eq!(records, [record(1, Stage::Proving)]);
}

#[test]
fn an_unreadable_record_is_put_aside_and_kept() {
    let root = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open(root.path()).expect("opens");
    journal.write(&record(1, Stage::Received)).expect("written");
    let directory = journal.files(AttemptId::new([1; 16])).directory;
    fs::write(directory.join(RECORD), b"{").expect("damaged");
    let (_, records) = Journal::open(root.path()).expect("opens");
    assert_eq!(records, []);
    assert!(directory.with_extension(UNREADABLE).join(RECORD).exists());
}

#[test]
fn a_record_of_this_version_stays_readable() {
    let text = include_str!("attempt-v1.json");
    let mut expected = record(1, Stage::Failed(Fault::guest("panicked")));
    expected.execution = Some(Execution { cycles: 10_050, gas: Some(7), public_values_hash: Digest::new([4; 32]) });
    assert_eq!(serde_json::from_str::<Record>(text).expect("readable"), expected);
}
