//! What becomes of requests whose program or input is gone.

use hierophant_core::{Happening, RequestState};

use crate::{coordinator::Coordinator, worker::Worker};

#[tokio::test]
async fn a_request_whose_input_is_gone_ends_with_the_cause_and_the_worker_gets_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let bereft = coordinator.submit().await;
    let whole = coordinator.submit().await;
    let input = coordinator.request(bereft).await.spec.stdin;
    coordinator.store().forget_artifact(input).await.unwrap();

    let mut worker = Worker::join(&coordinator, 1).await;

    assert_eq!(worker.assigned().await.request, whole);
    let state = coordinator.wait_for(bereft, RequestState::is_terminal).await;
    let RequestState::Unfulfillable { cause, .. } = &state else { panic!("{state:?}") };
    assert!(cause.contains(&input.to_string()) && cause.contains("upload it again"), "{cause}");
    let last = coordinator.store().history(bereft).await.unwrap().pop().unwrap();
    assert_eq!(last.happening, Happening::GivenUp { cause: cause.clone() });
}

#[tokio::test]
async fn what_is_found_to_be_gone_ends_the_requests_that_wait_for_it_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let (bereft, whole) = (coordinator.submit().await, coordinator.submit().await);
    let input = coordinator.request(bereft).await.spec.stdin;
    coordinator.store().forget_artifact(input).await.unwrap();
    coordinator.service.artifact_gone(input).await;
    let state = &coordinator.request(bereft).await.state;
    assert!(matches!(state, RequestState::Unfulfillable { cause, .. } if cause.contains("was lost")), "{state:?}");
    assert_eq!(coordinator.request(whole).await.state, RequestState::Queued);
}

#[tokio::test]
async fn a_request_whose_program_is_gone_ends_with_the_cause() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let bereft = coordinator.submit().await;
    let program = coordinator.request(bereft).await.spec.program;
    coordinator.store().forget_artifact(program).await.unwrap();
    let _worker = Worker::join(&coordinator, 1).await;
    let state = coordinator.wait_for(bereft, RequestState::is_terminal).await;
    let RequestState::Unfulfillable { cause, .. } = &state else { panic!("{state:?}") };
    assert!(cause.contains(&program.to_string()), "{cause}");
}
