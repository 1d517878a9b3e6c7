use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use hierophant_core::{Moment, Now, QueuedRequest, RetryPolicy, Standing, Timestamp};
use network_lib::WorkerProfile;
use proving::testing::TestVerifier;
use tokio::time::{Instant, interval_at};
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    artifacts::{Capabilities, DiskArtifacts},
    clock::Clock,
    fleet::FleetHandle,
    ids::RandomIds,
    service::{Ports, ServiceSettings},
    store::{
        contract::{accept, at, new_request},
        memory::MemoryStore,
    },
};

/// Tells the time that the test set, in seconds.
#[derive(Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> Now {
        let secs = self.0.load(Ordering::SeqCst);
        Now { moment: Moment::from_millis(secs * 1000), time: Timestamp::from_secs(secs) }
    }
}

/// An actor that does what the test calls, and what it needs.
struct Place {
    actor: FleetActor,
    handle: FleetHandle,
    clock: Arc<TestClock>,
    _files: tempfile::TempDir,
}

fn place() -> Place {
    let files = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::default());
    let (handle, inbox) = FleetHandle::new();
    let ports = Ports {
        store: Arc::new(MemoryStore::default()),
        artifacts: Arc::new(DiskArtifacts::open(files.path().join("artifacts"), 0).unwrap()),
        capabilities: Capabilities::new([7; 32]),
        verifier: Arc::new(TestVerifier),
        fleet: handle.clone(),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        ids: Arc::new(RandomIds),
        tasks: TaskTracker::new(),
    };
    let settings = ServiceSettings {
        retry: RetryPolicy::default(),
        mock_mode: true,
        max_deadline: Duration::from_hours(24),
        max_queued_requests: 10,
        allowed_requesters: Vec::new(),
        circuit_versions: Vec::new(),
    };
    let actor = FleetActor::new(inbox, Service::new(ports, settings), FleetSettings::default());
    Place { actor, handle, clock, _files: files }
}

/// Messages that wait, and do not fill the inbox.
const WAITING: usize = 1000;

#[tokio::test]
async fn time_passes_however_much_waits_to_be_read_and_nobody_is_judged_before_it_is_read() {
    let Place { mut actor, handle, clock, _files } = place();
    let (worker, session) = (WorkerId::new([1; 16]), SessionId(1));
    let (name, provers) = ("Amos".to_owned(), Vec::new());
    let profile = WorkerProfile { id: worker, name, provers, magister_drop_endpoint: None, instance: None };
    actor.apply(Event::Joined { session, profile, leases: Vec::new(), standing: Standing::default() });
    // For longer than silence is borne, what it says waits.
    clock.0.store(31, Ordering::SeqCst);
    for _ in 0..WAITING {
        handle.send(Event::Heard { worker, session }).await;
    }
    let (mut tick, stop) = (interval_at(Instant::now() - TICK, TICK), CancellationToken::new());
    let mut passed_over = 0;
    while let Some(Next::Message(_)) = actor.next(&mut tick, &stop).await {
        passed_over += 1;
    }
    assert!(passed_over < WAITING, "the tick came last");
    actor.tick();
    assert_eq!(actor.fleet.worker(worker).and_then(|known| known.session), Some(session));
}

#[tokio::test]
async fn a_request_that_ended_unnoticed_leaves_the_queue_at_its_deadline() {
    let Place { mut actor, clock, _files, .. } = place();
    let store = actor.service.store();
    let request = accept(&store, new_request(1)).await;
    store.write(request.cancel(at(2)).unwrap()).await.unwrap();
    // Someone slower tells of it as it was.
    actor.apply(Event::Queued(QueuedRequest::from(&*request)));
    assert!(actor.fleet.is_waiting(request.id));
    clock.0.store(request.spec.deadline.as_secs(), Ordering::SeqCst);
    actor.tick();
    actor.service.tasks.close();
    actor.service.tasks.wait().await;
    actor.tick();
    assert!(!actor.fleet.is_waiting(request.id));
}
