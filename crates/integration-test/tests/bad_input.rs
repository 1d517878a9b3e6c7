//! Whatever a client sends, the real CPU prover tells whose fault it is and why, and serves the next request.
//!
//! Minutes and some 9 GB of memory: `cargo test --release --workspace --test bad_input -- --ignored`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{io::Read as _, path::Path, time::Duration};

use network_lib::{Digest, ProofMode};
use prost::Message as _;
use serde_json::Value;
use sp1_network_api::{
    artifact::ArtifactType,
    network::{FulfillmentStatus, RequestProofBody},
};
use sp1_sdk::{Elf, HashableKey as _, Prover as _, ProverClient, ProvingKey as _, SP1Stdin, SP1VerifyingKey};
use testbed::{
    client::{CIRCUIT_VERSION, Client, signed, status_request},
    clock,
    key::Key,
    network::built,
    program::{Program, until},
    server::Endpoints,
};

const KEY: &[u8] = include_bytes!("../../proving-sp1/tests/fixtures/fibonacci.vk");
const FIBONACCI: &[u8] = include_bytes!("../../../programs/fibonacci/elf/fibonacci");
const UNRULY: &[u8] = include_bytes!("../../../programs/unruly/elf/unruly");

/// How long anything may take, a real proof included.
const PATIENCE: Duration = Duration::from_mins(30);

/// A real coordinator, a real worker with its CPU prover, and a client that sends what it likes.
struct Scene {
    endpoints: Endpoints,
    key: Key,
    contemplant: Program,
    /// Programs are named by their keys, of which each case has one of its own.
    keys: usize,
    // Last, so that it outlives the programs.
    _hierophant: Program,
    _directory: tempfile::TempDir,
}

/// How a request ended: its state, and the cause that its requester reads.
struct Ended {
    state: String,
    cause: String,
}

impl Scene {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        // One failure is enough: there is one worker.
        std::fs::write(at("hierophant.toml"), "[retry]\nmax_failed_attempts = 1\n").unwrap();
        let data = at("data").display().to_string();
        let config = at("hierophant.toml").display().to_string();
        let arguments = ["--config", &config, "--data-directory", &data, "--grpc-port", "0", "--http-port", "0"];
        let mut hierophant = program("hierophant", &arguments, directory.path());
        hierophant.start(None).unwrap();
        let written = async || std::fs::read_to_string(at("data/endpoints.json")).ok();
        let text = until("the hierophant serves", PATIENCE, written).await.unwrap();
        let endpoints: Value = serde_json::from_str(&text).unwrap();
        let address = |name: &str| endpoints[name].as_str().unwrap().parse().unwrap();
        let endpoints = Endpoints { grpc: address("grpc"), http: address("http") };

        let socket = format!("ws://{}/ws", endpoints.http);
        let state = at("state").display().to_string();
        let arguments = ["--hierophant-ws-address", &socket, "--state-directory", &state];
        let mut contemplant = program("contemplant", &arguments, directory.path());
        contemplant.start(None).unwrap();
        Self { endpoints, key: Key::random(), contemplant, keys: 0, _hierophant: hierophant, _directory: directory }
    }

    /// A client of its own for whatever is asked next: one that was idle for long is not connected any more.
    async fn client(&self) -> Client {
        Client::connect(&self.endpoints, self.key).await.unwrap()
    }

    /// Registers `program`, the bytes of its artifact, under a key that is not its own.
    async fn program(&mut self, program: &[u8]) -> Digest {
        self.keys += 1;
        let mut key: SP1VerifyingKey = bincode::deserialize(KEY).unwrap();
        // A key of no program: what it is of is never looked at.
        key.vk.preprocessed_commit.rotate_left(self.keys);
        let hash = Digest::new(key.hash_bytes());
        self.register(hash, bincode::serialize(&key).unwrap(), program).await;
        hash
    }

    async fn register(&self, hash: Digest, key: Vec<u8>, program: &[u8]) {
        let mut client = self.client().await;
        let uri = client.upload(ArtifactType::Program, program, 1).await.unwrap();
        let registered = client.register_as(hash, key, uri).await;
        registered.unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Asks for a core proof, and answers the request's id.
    async fn submit(&self, vk_hash: Digest, stdin: &[u8], cycle_limit: u64) -> Vec<u8> {
        let mut client = self.client().await;
        let stdin_uri = client.upload(ArtifactType::Stdin, stdin, 1).await.unwrap();
        let body = RequestProofBody {
            vk_hash: vk_hash.as_bytes().to_vec(),
            version: CIRCUIT_VERSION.to_owned(),
            mode: ProofMode::Core.number(),
            strategy: 2,
            stdin_uri,
            deadline: clock::unix_seconds() + 2 * PATIENCE.as_secs(),
            cycle_limit,
            gas_limit: u64::MAX,
            ..RequestProofBody::default()
        };
        let request = signed(&self.key, body.encode_to_vec());
        client.request_proof(request).await.unwrap()
    }

    /// Asks for a core proof, and waits for how that ends.
    async fn ask(&self, vk_hash: Digest, stdin: &[u8], cycle_limit: u64) -> Ended {
        let id = self.submit(vk_hash, stdin, cycle_limit).await;
        let question = status_request(&id);
        let mut client = self.client().await;
        let ended = until("the request has ended", PATIENCE, async || {
            let status = client.status(question.clone()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            matches!(status, FulfillmentStatus::Fulfilled | FulfillmentStatus::Unfulfillable).then_some(())
        });
        ended.await.unwrap();
        let facts = self.client().await.facts(&format!("/requests/{}", hex::encode(&id))).await.unwrap();
        let text = |name: &str| facts[name].as_str().unwrap_or_default().to_owned();
        Ended { state: text("state"), cause: text("cause") }
    }

    /// Cancels a request while its program executes, and sees the prover go on: starting anew would take minutes.
    async fn cancel_executing(&mut self, vk_hash: Digest, stdin: &[u8]) {
        let starts = |scene: &Self| scene.contemplant.log().matches("A prover is ready").count();
        let id = self.submit(vk_hash, stdin, 0).await;
        self.until_worker("the program executes", |worker| {
            worker["current_proofs"][0]["progress"]["phase"] == "executing"
        })
        .await;
        self.client().await.cancel(&id).await.unwrap();
        self.until_worker("the prover is free", |worker| worker["current_proofs"].as_array().unwrap().is_empty()).await;
        let before = starts(self);
        self.expect("a panic after a cancel", vk_hash, &input(3), "unexecutable", "3 is no way to misbehave").await;
        assert_eq!(starts(self), before, "the prover was started anew");
    }

    async fn until_worker(&self, what: &str, is_it: impl Fn(&Value) -> bool + Send + Sync) {
        let mut client = self.client().await;
        let come = until(what, PATIENCE, async || {
            let workers = client.facts("/contemplants").await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            is_it(&workers[0]).then_some(())
        });
        come.await.unwrap();
    }

    /// Asks, and requires this end, with these words in its cause.
    async fn expect(&mut self, what: &str, vk_hash: Digest, stdin: &[u8], state: &str, words: &str) {
        let ended = self.ask(vk_hash, stdin, 1_000_000).await;
        assert_eq!(ended.state, state, "{what}: {}", ended.cause);
        assert!(ended.cause.contains(words), "{what}: {}", ended.cause);
        assert!(self.contemplant.ended().unwrap().is_none(), "{what}: the worker ended");
    }
}

fn program(name: &str, arguments: &[&str], directory: &Path) -> Program {
    let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    Program::new(name, built(name).unwrap(), arguments, directory)
}

/// Bincode of some bytes, as programs are uploaded.
fn packed(bytes: &[u8]) -> Vec<u8> {
    bincode::serialize(bytes).unwrap()
}

fn input(number: u32) -> Vec<u8> {
    let mut stdin = SP1Stdin::new();
    stdin.write(&number);
    bincode::serialize(&stdin).unwrap()
}

#[tokio::test]
#[ignore = "takes minutes: it has a real prover"]
async fn every_bad_input_has_its_cause_and_the_next_request_is_served() {
    let mut scene = Scene::start().await;
    let unruly = ProverClient::builder().light().build().await.setup(Elf::Static(UNRULY)).await.unwrap();
    let key: SP1VerifyingKey = bincode::deserialize(KEY).unwrap();
    let fibonacci = Digest::new(key.hash_bytes());
    scene.register(fibonacci, KEY.to_vec(), &packed(FIBONACCI)).await;

    let text = scene.program(&packed(b"#!/bin/sh\n".repeat(100).as_slice())).await;
    scene.expect("no ELF", text, &input(1), "unexecutable", "program is not an ELF for SP1").await;
    let unruly = unruly.verifying_key();
    let other = Digest::new(unruly.hash_bytes());
    scene.register(other, bincode::serialize(unruly).unwrap(), &packed(UNRULY)).await;
    scene.cancel_executing(other, &input(0)).await;
    scene.expect("a loop", other, &input(0), "unfulfillable", "the program was still running after 121 s").await;
    scene
        .expect("all memory", other, &input(1), "unfulfillable", "takes more memory than this worker has for it")
        .await;
    scene.expect("too many cycles", other, &input(2), "unexecutable", "exceeded its cycle limit of 1000000").await;

    scene.expect("no stdin", fibonacci, &[0xff; 64], "unexecutable", "stdin does not decode").await;
    let lie = (u64::MAX - 1).to_le_bytes();
    scene.expect("a length that lies", fibonacci, &lie, "unexecutable", "stdin does not decode").await;
    let bomb = zstd::encode_all(std::io::repeat(0).take((256 << 20) + 100), 1).unwrap();
    let bomb = scene.program(&bomb).await;
    scene.expect("a bomb", bomb, &input(1), "unexecutable", "program expands to more than").await;
    scene.expect("a panic", fibonacci, &input(10_000_001), "unexecutable", "n must be at most 10,000,000").await;
    let nothing = bincode::serialize(&SP1Stdin::new()).unwrap();
    scene.expect("no input", fibonacci, &nothing, "unexecutable", "").await;

    let key = scene.program(&packed(FIBONACCI)).await;
    scene.expect("another key", key, &input(20), "unexecutable", "the program's verifying key has the hash").await;

    let proved = scene.ask(fibonacci, &input(20), 1_000_000).await;
    assert_eq!(proved.state, "fulfilled", "{}", proved.cause);
}
