//! Clients: they upload, ask, ask again when no answer comes, poll, cancel, fetch, and note what they were told.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use hierophant::{
    artifacts::Capabilities,
    class::Class,
    service::Submission,
    store::{Artifact, Program},
};
use hierophant_core::{Request, RequestState, Requester, Variant};
use http::StatusCode;
use network_lib::{ArtifactId, ArtifactKind, Digest, ProofMode};
use proving::testing::{ScriptedProver, key_hashes};
use tokio::time::{sleep, timeout};
use url::Url;

use crate::{
    coordinator::Coordinator,
    event::{Event, OrderIndex},
    mix::Sabotage,
    worker::circuit,
    world::World,
};

/// The first byte of an input on which the program fails.
pub(crate) const GUEST_FAILS: u8 = 1;

const VERIFYING_KEY: &[u8] = b"the verifying key of a program";

/// Who asks. One signer is as good as many here.
const REQUESTER: Requester = Requester::new([7; 20]);

/// A client that hears nothing for so long asks again.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// What every program's public values have here.
pub(crate) fn public_values_hash() -> Digest {
    Digest::new(ScriptedProver::public_values_hash())
}

/// Registers the program that all requests are of: before anything can fail.
pub(crate) fn register_program(world: &World) {
    let program = ArtifactId::new(ArtifactKind::Program, [1; 16]);
    let bytes = bytes::Bytes::from_static(b"a program");
    let created_at = world.true_time();
    let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
    world.files().put(program, bytes);
    let mut facts = world.facts();
    let artifact = Artifact { id: program, owner: Some(REQUESTER), digest, size, created_at };
    facts.record_artifact(&artifact).expect("the store is empty");
    let vk_hash = Digest::new(key_hashes(VERIFYING_KEY).field);
    let verifying_key = VERIFYING_KEY.to_vec();
    facts.register_program(Program { vk_hash, verifying_key, program, owner: REQUESTER, created_at });
}

/// One logical request and whoever wants it.
pub(crate) struct Order {
    index: OrderIndex,
    world: World,
    coordinator: Coordinator,
    /// When it is asked for.
    begins: Duration,
    guest_fails: bool,
    mode: ProofMode,
    deadline: Duration,
    /// How long after the acknowledgement it is cancelled.
    cancelled_after: Option<Duration>,
    /// How patiently it is asked about.
    poll: Duration,
}

impl Order {
    pub(crate) fn new(index: OrderIndex, world: &World, coordinator: &Coordinator, until: Duration) -> Self {
        world.draw(|chance| {
            let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
            Self {
                index,
                world: world.clone(),
                coordinator: coordinator.clone(),
                begins: chance.millis(0, u64::try_from(until.as_millis()).unwrap_or(u64::MAX)),
                guest_fails: chance.percent(8),
                mode: chance.pick(&[ProofMode::Core, ProofMode::Core, ProofMode::Compressed, ProofMode::Groth16]),
                deadline: if chance.percent(12) {
                    chance.spread(Duration::from_secs(5), minutes(10))
                } else {
                    minutes(60 * 48)
                },
                cancelled_after: chance.percent(12).then(|| chance.spread(Duration::from_secs(1), minutes(5))),
                poll: chance.spread(Duration::from_secs(2), Duration::from_secs(30)),
            }
        })
    }

    /// Sees it through, to the proof or another end.
    pub(crate) async fn run(self) {
        sleep(self.begins).await;
        let stdin = self.upload().await;
        let deadline = self.world.true_time().plus(self.deadline);
        let submission = Submission {
            requester: REQUESTER,
            vk_hash: Digest::new(key_hashes(VERIFYING_KEY).field),
            circuit_version: circuit(),
            mode: self.mode,
            stdin,
            deadline,
            cycle_limit: u64::MAX,
            gas_limit: 0,
            public_values_hash: self.world.draw(|chance| chance.percent(50)).then(public_values_hash),
            is_stdin_private: false,
            variant: Variant::Base,
            strategy: 2,
            fingerprint: Digest::of(&self.index.to_be_bytes()),
        };
        let Some(request) = self.submit(&submission).await else { return };
        let ended = self.follow(request, &submission).await;
        let gives_up = self.world.draw(|chance| chance.percent(50));
        // What was given up by the network may be asked for once more.
        if matches!(ended.state, RequestState::Unfulfillable { .. })
            && !gives_up
            && let Some(request) = self.submit(&submission).await
        {
            self.follow(request, &submission).await;
        }
    }

    /// Uploads the input, however long that takes.
    async fn upload(&self) -> ArtifactId {
        let base: Url = "http://coordinator/".parse().expect("a URL");
        let mut input = self.index.to_be_bytes().to_vec();
        input.insert(0, if self.guest_fails { GUEST_FAILS } else { 0 });
        loop {
            if let Some((_, service)) = self.coordinator.service()
                && let Ok((id, url)) = service.create_artifact(ArtifactKind::Stdin, REQUESTER, &base).await
            {
                let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
                let body = Body::from(input.clone());
                let put = http::Request::put(path).body(body).expect("a path and a query");
                if let Some((StatusCode::OK, _)) = self.coordinator.fetch(put).await {
                    return id;
                }
            }
            self.world.pause(500, 5000).await;
        }
    }

    /// Asks until there is an answer.
    async fn submit(&self, submission: &Submission) -> Option<Arc<Request>> {
        loop {
            let (answer, is_lost) = match self.coordinator.service() {
                Some((dead, service)) => {
                    let mut submission = submission.clone();
                    if self.world.has(Sabotage::FreshFingerprints) {
                        submission.fingerprint = Digest::of(&self.world.elapsed().as_nanos().to_be_bytes());
                    }
                    let asking = timeout(ANSWER_LIMIT, service.submit(submission));
                    let answer = dead.run_until_cancelled(asking).await.and_then(Result::ok);
                    // The answer of one in ten is lost on its way.
                    (answer, self.world.draw(|chance| chance.percent(10)))
                }
                None => (None, false),
            };
            match answer {
                Some(Ok(request)) if !is_lost => {
                    self.world.tell(Event::Acknowledged { order: self.index, id: request.id });
                    return Some(request);
                }
                Some(Err(error)) if !matches!(error.class(), Class::Unavailable) => {
                    self.world.tell(Event::Refused { order: self.index, reason: error.to_string() });
                    return None;
                }
                _ => self.world.pause(200, 5000).await,
            }
        }
    }

    /// Asks what has become of a request until it has ended.
    async fn follow(&self, request: Arc<Request>, submission: &Submission) -> Arc<Request> {
        let id = request.id;
        let began = self.world.elapsed();
        let mut cancel_at = self.cancelled_after.map(|after| began + after);
        loop {
            self.world.pause(1, u64::try_from(self.poll.as_millis()).unwrap_or(1)).await;
            let Some((dead, service)) = self.coordinator.service() else { continue };
            if self.world.draw(|chance| chance.percent(3)) {
                // Asked for again, it is the same, unless it has failed: then this one goes on as another.
                if let Some(again) = self.submit(submission).await
                    && again.id != id
                {
                    return Box::pin(self.follow(again, submission)).await;
                }
                continue;
            }
            if cancel_at.is_some_and(|at| self.world.elapsed() >= at) {
                let cancelled = dead.run_until_cancelled(service.cancel(id, REQUESTER)).await;
                if matches!(cancelled, Some(Ok(()))) {
                    cancel_at = None;
                }
            }
            let Some(Ok(request)) = dead.run_until_cancelled(service.request(id)).await else { continue };
            self.world.tell(Event::Seen { id, request: request.clone() });
            match request {
                Some(request) if request.state.is_terminal() => {
                    if matches!(request.state, RequestState::Fulfilled { .. }) {
                        download(&self.world, &self.coordinator, &request).await;
                    }
                    return request;
                }
                Some(_) => {}
                None => return std::future::pending().await, // The promise is broken; the run ends.
            }
        }
    }
}

/// Fetches the proof of a fulfilled request, as its client does.
pub(crate) async fn download(world: &World, coordinator: &Coordinator, request: &Request) {
    let RequestState::Fulfilled { attempt, .. } = request.state else { return };
    let proof = ArtifactId::new(ArtifactKind::Proof, *attempt.as_bytes());
    let base: Url = "http://coordinator/".parse().expect("a URL");
    let url = Capabilities::proof_url(&base, proof);
    for _ in 0..100 {
        let get = http::Request::get(url.path()).body(Body::empty()).expect("a path");
        match coordinator.fetch(get).await {
            Some((StatusCode::OK, bytes)) => {
                return world.tell(Event::Downloaded { id: request.id, digest: Some(Digest::of(&bytes)) });
            }
            // Not known, or known and lost.
            Some((StatusCode::NOT_FOUND | StatusCode::INTERNAL_SERVER_ERROR, _)) => {
                return world.tell(Event::Downloaded { id: request.id, digest: None });
            }
            Some(_) | None => world.pause(500, 5000).await,
        }
    }
}
