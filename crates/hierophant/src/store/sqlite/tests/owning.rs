//! Two programs on one database: the one that opened it last owns it.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_owner_writes_nothing_ever_again_and_says_why() {
    let place = Place::new();
    let former = place.open();
    let request = accept(&shared(&former), new_request(1)).await;
    let owner = place.open();

    let error = former.submit(new_request(2)).await.unwrap_err();
    assert!(matches!(&error, StorageError::Unavailable { problem } if problem.contains("taken")), "{error}");
    let said = former.stopped().await;
    assert!(said.contains("another hierophant has taken the data directory over"), "{said}");

    let leased = owner.write(request.lease(attempt(1), worker(1), at(2)).unwrap()).await.unwrap();
    former.write(request.cancel(at(3)).unwrap()).await.unwrap_err();
    drop(former);
    assert_eq!(owner.open_requests().await.unwrap(), [Arc::clone(&leased)]);
    drop(owner);
    assert_eq!(place.open().open_requests().await.unwrap(), [leased]);
}

#[test]
fn every_start_raises_the_epoch() {
    let place = Place::new();
    let epoch = || place.intruder().query_row("SELECT epoch FROM owner", (), |row| row.get::<_, i64>(0)).unwrap();
    for start in 1..5 {
        drop(place.open());
        assert_eq!(epoch(), start);
    }
}
