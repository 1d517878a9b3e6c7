//! What is gone was allowed to go; what may not go is there.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use hierophant_core::{Request, RequestState, RetryPolicy};
use network_lib::{ArtifactId, ArtifactKind, AttemptId, Digest, Fault, RequestId};
use proptest::prelude::*;

use super::Place;
use crate::store::{
    NewRequest, Program, RequestFilter, RetentionRules, Submitted,
    contract::{attempt, new_request, requester, worker},
};

const HOUR: Duration = Duration::from_hours(1);

fn input(number: u8) -> ArtifactId {
    ArtifactId::new(ArtifactKind::Stdin, [number; 16])
}

fn program(number: u8) -> ArtifactId {
    ArtifactId::new(ArtifactKind::Program, [number; 16])
}

fn proof(attempt: AttemptId) -> ArtifactId {
    ArtifactId::new(ArtifactKind::Proof, *attempt.as_bytes())
}

impl Place {
    async fn submit(&self, number: u32, stdin: ArtifactId, deadline: Duration) -> Option<RequestId> {
        let mut new = new_request(number);
        new.spec.stdin = stdin;
        new.spec.program = program(u8::try_from(number % 3).unwrap());
        new.spec.deadline = self.now().plus(deadline);
        let new = NewRequest { created_at: self.now(), ..new };
        match self.upkeep.store.submit(new).await.unwrap() {
            Submitted::Accepted(request) => Some(request.id),
            _ => None,
        }
    }

    async fn request(&self, id: RequestId) -> Option<Arc<Request>> {
        self.upkeep.store.request(id).await.unwrap()
    }

    /// Changes a request if it can be changed so.
    async fn change<E>(
        &self,
        id: RequestId,
        decide: impl FnOnce(&Request) -> Result<hierophant_core::Change, E>,
    ) -> bool {
        let Some(request) = self.request(id).await else { return false };
        let Ok(change) = decide(&request) else { return false };
        self.upkeep.store.write(change).await.unwrap();
        true
    }

    /// A request with a proof, from upload to the end. Its attempt has the same number.
    async fn fulfilled(&self, number: u8) -> RequestId {
        self.upload(input(number)).await;
        let id = self.submit(number.into(), input(number), HOUR).await.unwrap();
        let now = self.now();
        assert!(self.change(id, |request| request.lease(attempt(number), worker(1), now)).await);
        self.upload(proof(attempt(number))).await;
        assert!(self.change(id, |request| request.fulfil(attempt(number), worker(1), false, now)).await);
        id
    }
}

#[tokio::test]
async fn damaged_files_go_as_long_after_they_were_moved_aside_as_requests_after_they_ended() {
    let place = Place::new(RetentionRules::default());
    place.upload(input(1)).await;
    let files = &place.upkeep.files;
    files.set_aside(input(1)).await.unwrap();
    place.upkeep.retain().await;
    assert!(files.was_set_aside(input(1)).await.unwrap());
    // The file system has a clock of its own, far ahead of the one that the test sets.
    place.wait(Duration::from_secs(1 << 33));
    place.upkeep.retain().await;
    assert!(!files.was_set_aside(input(1)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_request_goes_with_its_history_its_input_and_its_proof() {
    let place = Place::new(RetentionRules::default());
    let old = place.fulfilled(1).await;
    place.wait(15 * 24 * HOUR);
    let young = place.fulfilled(2).await;
    place.wait(15 * 24 * HOUR);
    assert!(place.request(old).await.is_some(), "it is in memory");
    place.upkeep.retain().await;

    assert!(place.request(old).await.is_none());
    assert_eq!(place.upkeep.store.history(old).await.unwrap(), []);
    assert_eq!(place.upkeep.store.attempt(attempt(1)).await.unwrap(), None);
    for id in [input(1), proof(attempt(1))] {
        assert!(!place.has_row(id).await && !place.has_file(id).await, "{id}");
    }
    assert!(place.request(young).await.is_some());
    for id in [input(2), proof(attempt(2))] {
        assert!(place.has_row(id).await && place.has_file(id).await, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_proofs_and_inputs_over_the_count_go_but_none_within_the_hour() {
    let rules = RetentionRules { proofs: Some(2), inputs: Some(1), ..RetentionRules::default() };
    let place = Place::new(rules);
    for number in 1..=4 {
        place.fulfilled(number).await;
        place.wait(Duration::from_mins(1));
    }
    place.upkeep.retain().await;
    for number in 1..=4 {
        assert!(place.has_row(proof(attempt(number))).await && place.has_row(input(number)).await);
    }
    place.wait(HOUR);
    place.upkeep.retain().await;
    let mut kept = (Vec::new(), Vec::new());
    for number in 1..=4 {
        kept.0.extend(place.has_file(proof(attempt(number))).await.then_some(number));
        kept.1.extend(place.has_file(input(number)).await.then_some(number));
    }
    assert_eq!(kept, (vec![3, 4], vec![4]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_bytes_the_oldest_go_until_the_rest_fits() {
    let rules = RetentionRules { bytes: Some(300), ..RetentionRules::default() };
    let place = Place::new(rules);
    let id = place.fulfilled(1).await;
    for number in 2..=6 {
        place.fulfilled(number).await;
        place.wait(Duration::from_mins(1));
    }
    place.upload(program(9)).await;
    place.wait(2 * HOUR);
    place.upkeep.retain().await;
    let mut total = 0;
    for artifact in place.upkeep.store.recorded_artifacts(None, 100).await.unwrap() {
        total += place.upkeep.store.artifact(artifact).await.unwrap().unwrap().size;
    }
    assert!((200..=300).contains(&total), "{total} bytes");
    assert!(!place.has_file(proof(attempt(1))).await && place.has_file(proof(attempt(6))).await);
    assert!(place.has_file(program(9)).await, "it may still be registered");
    assert!(place.request(id).await.is_some(), "that it was fulfilled is still told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_over_the_count_go_but_none_before_its_deadline_has_long_passed() {
    let place = Place::new(RetentionRules { requests: 1, ..RetentionRules::default() });
    let first = place.fulfilled(1).await;
    place.upload(input(2)).await;
    let patient = place.submit(2, input(2), 24 * HOUR).await.unwrap();
    let now = place.now();
    assert!(place.change(patient, |request| request.cancel(now)).await);
    let last = place.fulfilled(3).await;
    place.wait(Duration::from_mins(119));
    place.upkeep.retain().await;
    assert!(place.request(first).await.is_some(), "its signed message could still be sent again");
    place.wait(Duration::from_mins(1));
    place.upkeep.retain().await;
    assert!(place.request(first).await.is_none());
    assert!(place.request(patient).await.is_some());
    assert!(place.request(last).await.is_none());
    place.wait(23 * HOUR);
    let newest = place.fulfilled(4).await;
    place.wait(2 * HOUR);
    place.upkeep.retain().await;
    assert!(place.request(patient).await.is_none());
    assert!(place.request(newest).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_comes_long_before_its_request_is_waited_for_and_then_not_found() {
    let place = Place::new(RetentionRules::default());
    place.upload(input(1)).await;
    place.wait(23 * HOUR);
    place.upkeep.retain().await;
    assert!(place.submit(1, input(1), HOUR).await.is_some());
    place.wait(20 * 24 * HOUR);
    place.upkeep.retain().await;
    assert!(place.has_file(input(1)).await, "an open request needs it");

    place.upload(input(2)).await;
    place.wait(24 * HOUR);
    place.upkeep.retain().await;
    assert!(!place.has_file(input(2)).await);
    let mut late = new_request(2);
    late.spec.stdin = input(2);
    assert_eq!(place.upkeep.store.submit(late).await.unwrap(), Submitted::StdinMissing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_uploaded_at_this_moment_stays() {
    let place = Place::new(RetentionRules::default());
    place.upload(input(1)).await;
    place.wait(48 * HOUR);
    let upload = place.upkeep.claims.bring(input(1)).unwrap();
    place.upkeep.retain().await;
    assert!(place.has_row(input(1)).await && place.has_file(input(1)).await);
    drop(upload);
    place.upkeep.retain().await;
    assert!(!place.has_row(input(1)).await && !place.has_file(input(1)).await);
}

/// Something that happens to one of a few requests, artifacts, or to time.
#[derive(Debug, Clone)]
enum Step {
    Upload(u8),
    UploadProgram(u8),
    Register(u8),
    Submit { number: u8, input: u8, hours: u8 },
    Lease(u8),
    UploadProof(u8),
    Deliver(u8),
    Fulfil(u8),
    GiveUp(u8),
    Expire(u8),
    Cancel(u8),
    Wait { minutes: u16 },
    Retain(RetentionRules),
}

fn step() -> impl Strategy<Value = Step> {
    let rules = (
        0..4_u64,
        1..40_u64,
        1..40_u64,
        prop::option::of(0..600_u64),
        prop::option::of(0..3_u64),
        prop::option::of(0..3_u64),
    );
    let rules = rules.prop_map(|(requests, age, unused, bytes, inputs, proofs)| RetentionRules {
        age: Duration::from_hours(age),
        requests,
        bytes,
        unused_artifacts: Duration::from_hours(unused),
        inputs,
        proofs,
    });
    let request = 0..6_u8;
    prop_oneof![
        3 => (0..4_u8).prop_map(Step::Upload),
        1 => (0..3_u8).prop_map(Step::UploadProgram),
        1 => (0..3_u8).prop_map(Step::Register),
        4 => (request.clone(), 0..4_u8, 1..30_u8).prop_map(|(number, input, hours)| Step::Submit { number, input, hours }),
        3 => request.clone().prop_map(Step::Lease),
        3 => request.clone().prop_map(Step::UploadProof),
        1 => request.clone().prop_map(Step::Deliver),
        3 => request.clone().prop_map(Step::Fulfil),
        1 => request.clone().prop_map(Step::GiveUp),
        1 => request.clone().prop_map(Step::Expire),
        1 => request.prop_map(Step::Cancel),
        3 => prop_oneof![1..90_u16, 600..2400_u16].prop_map(|minutes| Step::Wait { minutes }),
        3 => rules.prop_map(Step::Retain),
    ]
}

/// What should be there, by the words of the promise and not by the store's queries.
#[derive(Default)]
struct Model {
    /// When each came.
    artifacts: BTreeMap<ArtifactId, hierophant_core::Timestamp>,
    registered: Vec<ArtifactId>,
    /// By the number that the steps use; the newest of that number.
    requests: BTreeMap<u8, RequestId>,
    /// Whose attempts they are.
    attempts: BTreeMap<ArtifactId, RequestId>,
}

impl Model {
    async fn take(&mut self, place: &Place, step: &Step, round: u32) {
        let now = place.now();
        let of = |number: &u8| self.requests.get(number).copied();
        match step {
            Step::Upload(number) => self.upload(place, input(*number)).await,
            Step::UploadProgram(number) => self.upload(place, program(*number)).await,
            Step::Register(number) => {
                if self.artifacts.contains_key(&program(*number)) {
                    let vk_hash = Digest::new([*number; 32]);
                    let (program, owner) = (program(*number), requester(7));
                    let record = Program { vk_hash, verifying_key: vec![1], program, owner, created_at: now };
                    place.upkeep.store.register_program(record).await.unwrap();
                    self.registered.push(program);
                }
            }
            Step::Submit { number, input: stdin, hours } => {
                let hours = Duration::from_hours((*hours).into());
                if let Some(id) = place.submit(round, input(*stdin), hours).await {
                    self.requests.insert(*number, id);
                }
            }
            Step::Lease(number) => {
                let Some(id) = of(number) else { return };
                let attempt = AttemptId::new(*Digest::of(&round.to_be_bytes()).as_bytes().first_chunk().unwrap());
                if place.change(id, |request| request.lease(attempt, worker(1), now)).await {
                    self.attempts.insert(proof(attempt), id);
                }
            }
            Step::UploadProof(number) => {
                let of_request = self.attempts.iter().filter(|(_, request)| Some(**request) == of(number));
                if let Some(id) = of_request.map(|(proof, _)| *proof).next_back() {
                    self.upload(place, id).await;
                }
            }
            Step::Deliver(number) => {
                let Some(id) = of(number) else { return };
                let deliver = |request: &Request| request.deliver(current(request), now);
                place.change(id, deliver).await;
            }
            Step::Fulfil(number) => {
                let Some(id) = of(number) else { return };
                let artifacts = &self.artifacts;
                let made =
                    self.attempts.iter().find(|(proof, request)| **request == id && artifacts.contains_key(proof));
                let Some((made, _)) = made else { return };
                let attempt = AttemptId::new(*made.key());
                place.change(id, |request| request.fulfil(attempt, worker(1), false, now)).await;
            }
            Step::GiveUp(number) => {
                let Some(id) = of(number) else { return };
                let policy = RetryPolicy { max_failed_attempts: 1, max_lost_attempts: 1, guest_reports_needed: 1 };
                let fail = |request: &Request| request.fail(current(request), Fault::worker("broken"), &policy, now);
                place.change(id, fail).await;
            }
            Step::Expire(number) => {
                let Some(id) = of(number) else { return };
                place.change(id, |request| request.expire(now)).await;
            }
            Step::Cancel(number) => {
                let Some(id) = of(number) else { return };
                place.change(id, |request| request.cancel(now)).await;
            }
            Step::Wait { minutes } => place.wait(Duration::from_mins((*minutes).into())),
            Step::Retain(rules) => self.retain(place, *rules).await,
        }
    }

    async fn upload(&mut self, place: &Place, id: ArtifactId) {
        if let Entry::Vacant(free) = self.artifacts.entry(id) {
            place.upload(id).await;
            free.insert(place.now());
        }
    }

    async fn retain(&mut self, place: &Place, rules: RetentionRules) {
        let before = all(place).await;
        let upkeep = crate::upkeep::Upkeep { rules, ..place.upkeep.clone() };
        upkeep.retain().await;
        let now = place.now();
        let after = all(place).await;
        let is_over_count = before.iter().filter(|request| request.state.is_terminal()).count() as u64 > rules.requests;
        for request in &before {
            let is_there = after.contains(request);
            let ended = request.state.ended_at();
            let may_go = ended.is_some_and(|at| now.since(at) >= HOUR) && now.since(request.spec.deadline) >= HOUR;
            let is_old = ended.is_some_and(|at| now.since(at) >= rules.age);
            assert!(is_there || may_go && (is_old || is_over_count), "{request:?} went");
            assert!(!(is_there && may_go && is_old), "{request:?} stayed");
            assert_eq!(place.request(request.id).await.is_some(), is_there);
        }
        for (id, created_at) in std::mem::take(&mut self.artifacts) {
            let is_there = place.has_row(id).await;
            assert_eq!(place.has_file(id).await, is_there, "{id}: row and file");
            let stayed = now.since(created_at);
            let is_open = |request: &&Arc<Request>| !request.state.is_terminal();
            let is_unused = match id.kind() {
                ArtifactKind::Program => {
                    let needs = |request: &Arc<Request>| request.spec.program == id;
                    let is_needed = after.iter().filter(is_open).any(needs) || self.registered.contains(&id);
                    assert!(is_there || !is_needed, "{id} went");
                    !is_needed
                }
                ArtifactKind::Proof => {
                    let of = after.iter().find(|request| Some(&request.id) == self.attempts.get(&id));
                    let is_needed = of.is_some_and(|request| match &request.state {
                        RequestState::Fulfilled { attempt, at, .. } => proof(*attempt) == id && now.since(*at) < HOUR,
                        state => !state.is_terminal(),
                    });
                    assert!(is_there || !is_needed, "{id} went");
                    of.is_none()
                }
                ArtifactKind::Stdin | ArtifactKind::PrivateStdin => {
                    let needs = |request: &Arc<Request>| request.spec.stdin == id;
                    assert!(is_there || !after.iter().filter(is_open).any(needs), "{id} went");
                    !after.iter().any(needs)
                }
            };
            assert!(is_there || stayed >= HOUR, "{id} went after {stayed:?}");
            let should_go = is_unused && stayed >= rules.unused_artifacts;
            assert!(!(is_there && should_go), "{id} stayed");
            if id.kind() != ArtifactKind::Proof && is_unused && !is_there {
                assert!(should_go, "{id} went after {stayed:?}");
            }
            if is_there {
                self.artifacts.insert(id, created_at);
            }
        }
    }
}

/// The attempt that holds the request, or one that does not.
fn current(request: &Request) -> AttemptId {
    request.state.holders().next().map_or(attempt(99), |holder| holder.attempt)
}

async fn all(place: &Place) -> Vec<Arc<Request>> {
    place.upkeep.store.requests(&RequestFilter { limit: 1000, ..RequestFilter::default() }).await.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_only_what_may_go_is_deleted(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = Place::new(RetentionRules::default());
            let mut model = Model::default();
            for (round, step) in (0..).zip(&steps) {
                model.take(&place, step, round).await;
            }
            model.retain(&place, RetentionRules { requests: 1, ..RetentionRules::default() }).await;
        });
    }
}
