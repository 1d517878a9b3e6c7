use std::time::Duration;

use super::*;
use crate::{
    AttemptId, Backend, CircuitVersion, Digest, Fault, ProofMode, ProverProfile, RequestId, Vm, WorkerId, WorkerProfile,
};

const ATTEMPT: AttemptId = AttemptId::new([1; 16]);

fn prover() -> ProverProfile {
    ProverProfile {
        vm: Vm::Sp1,
        backend: Backend::Cpu,
        device: "cpu (2 cores)".to_owned(),
        circuit_version: CircuitVersion::new("sp1-v6.1.0"),
        modes: vec![ProofMode::Core, ProofMode::Compressed],
        memory_bytes: 24 << 30,
    }
}

fn in_hand(stage: Stage) -> InHand {
    InHand { attempt: ATTEMPT, request: RequestId::new([3; 32]), prover: 0, stage }
}

fn reports() -> Vec<Report> {
    vec![
        Report::Hello {
            version: "0.1.0".to_owned(),
            profile: WorkerProfile {
                id: WorkerId::new([2; 16]),
                name: "Habakkuk".to_owned(),
                provers: vec![prover()],
                magister_drop_endpoint: Some("http://magister/drop/1".to_owned()),
                instance: None,
            },
            in_hand: vec![in_hand(Stage::Proved)],
        },
        Report::Heartbeat,
        Report::Accepted(ATTEMPT),
        Report::Progress(ATTEMPT, Progress { phase: "proving".to_owned(), done: 1, total: 2, is_estimate: false }),
        Report::Executed(ATTEMPT, Execution { cycles: 10_050, gas: None, public_values_hash: Digest::new([4; 32]) }),
        Report::Proved { attempt: ATTEMPT, digest: Digest::new([5; 32]), size: 2_777_219 },
        Report::Delivered(ATTEMPT),
        Report::Failed(ATTEMPT, Fault::guest("panicked")),
        Report::Draining,
        Report::ProversChanged(vec![prover()]),
    ]
}

fn instructions() -> Vec<Instruction> {
    let source = Source { url: "/artifacts/x".to_owned(), digest: Digest::new([6; 32]), size: 7 };
    vec![
        Instruction::Welcome(Settings {
            version: "0.1.0".to_owned(),
            heartbeat_interval: Duration::from_secs(5),
            silence_limit: Duration::from_secs(30),
            mock_mode: true,
        }),
        Instruction::Heartbeat,
        Instruction::Assign(Box::new(Assignment {
            attempt: ATTEMPT,
            request: RequestId::new([3; 32]),
            prover: 1,
            mode: ProofMode::Groth16,
            circuit_version: CircuitVersion::new("sp1-v6.1.0"),
            vk_hash: Digest::new([8; 32]),
            program: source.clone(),
            stdin: source,
            cycle_limit: u64::MAX,
            gas_limit: 1_000_000_000,
        })),
        Instruction::Cancel { attempt: ATTEMPT, reason: "deadline".to_owned() },
        Instruction::Deliver { attempt: ATTEMPT, url: "/artifacts/y".to_owned() },
        Instruction::Stored(ATTEMPT),
        Instruction::Rejected { attempt: ATTEMPT, reason: "does not verify".to_owned() },
        Instruction::Evicted { code: None, reason: "revoked".to_owned() },
    ]
}

/// Messages that were added later, each kind with a snapshot of its own, so that none disturbs the others'.
fn endings() -> Vec<Report> {
    let profile = WorkerProfile {
        id: WorkerId::new([2; 16]),
        name: "Habakkuk".to_owned(),
        provers: Vec::new(),
        magister_drop_endpoint: None,
        instance: None,
    };
    let in_hand = vec![in_hand(Stage::Failed), in_hand(Stage::Working)];
    vec![
        Report::Hello { version: "0.1.0".to_owned(), profile, in_hand },
        Report::Declined(ATTEMPT, "the worker is stopping".to_owned()),
    ]
}

fn instances() -> Vec<Report> {
    let profile = WorkerProfile {
        id: WorkerId::new([2; 16]),
        name: "Habakkuk".to_owned(),
        provers: Vec::new(),
        magister_drop_endpoint: None,
        instance: Some(0x0102_0304_0506_0708),
    };
    vec![Report::Hello { version: "0.1.0".to_owned(), profile, in_hand: Vec::new() }]
}

fn hints() -> Vec<Instruction> {
    let source = |url: &str| Source { url: url.to_owned(), digest: Digest::new([6; 32]), size: 7 };
    let (program, stdin) = (source("/artifacts/x"), source("/artifacts/y"));
    vec![
        Instruction::Prefetch { prover: 1, next: Some(Next { program: program.clone(), stdin: Some(stdin) }) },
        Instruction::Prefetch { prover: 1, next: Some(Next { program, stdin: None }) },
        Instruction::Prefetch { prover: 2, next: None },
    ]
}

fn evictions() -> Vec<Instruction> {
    let evicted = |code| Instruction::Evicted { code: Some(code), reason: "revoked".to_owned() };
    [EvictionCode::Version, EvictionCode::Protocol, EvictionCode::Faults].map(evicted).into()
}

#[test]
fn every_message_reads_back_as_it_was_written() {
    for report in reports().into_iter().chain(endings()).chain(instances()) {
        assert_eq!(Report::decode(&report.clone().encode()), Ok(report));
    }
    for instruction in instructions().into_iter().chain(hints()).chain(evictions()) {
        assert_eq!(Instruction::decode(&instruction.clone().encode()), Ok(instruction));
    }
}

/// The bytes of version 1. A change here breaks workers in the field: add fields, never renumber.
#[test]
fn the_bytes_of_version_1_stay_as_they_are() {
    let golden = |bytes: Vec<Vec<u8>>| bytes.into_iter().map(hex::encode).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!("reports", golden(reports().into_iter().map(Report::encode).collect()));
    insta::assert_snapshot!("instructions", golden(instructions().into_iter().map(Instruction::encode).collect()));
    insta::assert_snapshot!("endings", golden(endings().into_iter().map(Report::encode).collect()));
    insta::assert_snapshot!("instances", golden(instances().into_iter().map(Report::encode).collect()));
    insta::assert_snapshot!("hints", golden(hints().into_iter().map(Instruction::encode).collect()));
    insta::assert_snapshot!("evictions", golden(evictions().into_iter().map(Instruction::encode).collect()));
}

#[test]
fn an_eviction_for_a_reason_that_a_later_version_knows_is_one_without_a_code() {
    let kind = wire::instruction::Kind::Evicted(wire::Evicted { reason: "revoked".to_owned(), code: 99 });
    let evicted = Instruction::Evicted { code: None, reason: "revoked".to_owned() };
    assert_eq!(Instruction::try_from(kind), Ok(evicted));
}

#[test]
fn a_bad_field_is_named() {
    let short = wire::Report { kind: Some(wire::report::Kind::Accepted(wire::Accepted { attempt: vec![0; 15] })) };
    let error = Report::try_from(short.kind.expect("just set")).expect_err("15 bytes are not an id");
    assert_eq!(error.to_string(), "field attempt: attempt_id must be 16 bytes, not 15");
}

#[test]
fn text_without_end_is_refused_in_every_field_that_is_kept() {
    let long = |most: usize| "x".repeat(most + 1);
    let said = || wire::Prover { vm: "sp1".to_owned(), backend: "cpu".to_owned(), ..wire::Prover::default() };
    let hello = || wire::Hello { worker_id: vec![2; 16], ..wire::Hello::default() };
    let with = |prover| wire::Hello { provers: vec![prover], ..hello() };
    let table = [
        ("version", wire::Hello { version: long(100), ..hello() }),
        ("name", wire::Hello { name: long(100), ..hello() }),
        ("magister_drop_endpoint", wire::Hello { magister_drop_endpoint: long(2000), ..hello() }),
        ("vm", with(wire::Prover { vm: long(100), ..said() })),
        ("backend", with(wire::Prover { backend: long(100), ..said() })),
        ("device", with(wire::Prover { device: long(200), ..said() })),
        ("circuit_version", with(wire::Prover { circuit_version: long(100), ..said() })),
    ];
    assert!(Report::try_from(with(said())).is_ok());
    for (field, hello) in table {
        let error = Report::try_from(hello).expect_err("too long").to_string();
        assert!(error.starts_with(&format!("field {field}: longer than ")) && error.len() < 100, "{error}");
    }
    // What a prover calls its device keeps no worker away.
    let device = |device: &str| wire::Prover::from(ProverProfile { device: device.to_owned(), ..prover() }).device;
    assert_eq!((device(&long(200)).len(), device("gpu 0")), (200, "gpu 0".to_owned()));
}

#[test]
fn a_message_of_a_later_version_is_an_error_and_not_a_panic() {
    assert_eq!(Report::decode(&[0xfa, 0x01, 0x00]), Err(ProtocolError::UnknownKind));
    assert!(matches!(Report::decode(&[0xff; 40]), Err(ProtocolError::Encoding(_))));
}
