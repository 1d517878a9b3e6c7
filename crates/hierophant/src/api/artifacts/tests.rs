use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{future::join_all, stream};
use hierophant_core::{Moment, Now, Requester, Timestamp};
use network_lib::Digest;
use proptest::prelude::*;
use reqwest::Client;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower::ServiceExt as _;
use url::Url;

mod resuming;

use super::*;
use crate::{
    artifacts::{DiskArtifacts, contract::pattern},
    clock::Clock,
    store::StorageError,
};

/// The artifact routes on a real socket, over a real directory.
struct TestApp {
    base: Url,
    address: SocketAddr,
    api: ArtifactApi,
    capabilities: Capabilities,
    clock: Arc<StoppedClock>,
    rows: Arc<Rows>,
    directory: tempfile::TempDir,
    client: Client,
    lost: mpsc::Receiver<ArtifactId>,
}

struct StoppedClock(AtomicU64);

impl Clock for StoppedClock {
    fn now(&self) -> Now {
        let secs = self.0.load(Ordering::SeqCst);
        Now { moment: Moment::from_millis(secs * 1000), time: Timestamp::from_secs(secs) }
    }
}

/// Rows are written only while the gate is open.
struct Rows {
    recorded: Mutex<HashMap<ArtifactId, Artifact>>,
    is_down: AtomicBool,
    gate: Semaphore,
}

const GATE: u32 = 1000;

#[async_trait]
impl Artifacts for Rows {
    async fn record_artifact(&self, artifact: Artifact) -> Result<(), StorageError> {
        let _open = self.gate.acquire().await.unwrap();
        let mut rows = self.up()?.lock().unwrap();
        let digest = artifact.digest;
        let row = rows.entry(artifact.id).or_insert(artifact);
        if row.digest == digest { Ok(()) } else { Err(StorageError::Exists { what: row.id.to_string() }) }
    }

    async fn artifact(&self, id: ArtifactId) -> Result<Option<Artifact>, StorageError> {
        Ok(self.up()?.lock().unwrap().get(&id).cloned())
    }

    async fn forget_artifact(&self, id: ArtifactId) -> Result<(), StorageError> {
        self.up()?.lock().unwrap().remove(&id);
        Ok(())
    }
}

impl Rows {
    fn up(&self) -> Result<&Mutex<HashMap<ArtifactId, Artifact>>, StorageError> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(StorageError::Unavailable { problem: "secret detail".to_owned() });
        }
        Ok(&self.recorded)
    }
}

const NOW: u64 = 1_000_000;
const MIB: usize = 1 << 20;

async fn app() -> TestApp {
    app_with(ArtifactLimits { stdin: 8 << 20, ..ArtifactLimits::default() }, 0).await
}

async fn app_with(limits: ArtifactLimits, keep_free: u64) -> TestApp {
    let rows = Arc::new(Rows {
        recorded: Mutex::default(),
        is_down: AtomicBool::new(false),
        gate: Semaphore::new(GATE as usize),
    });
    app_on(tempfile::tempdir().unwrap(), rows, limits, keep_free).await
}

async fn app_on(directory: tempfile::TempDir, rows: Arc<Rows>, limits: ArtifactLimits, keep_free: u64) -> TestApp {
    let capabilities = Capabilities::new([3; 32]);
    let clock = Arc::new(StoppedClock(AtomicU64::new(NOW)));
    let (telling, lost) = mpsc::channel(10);
    let api = ArtifactApi::new(
        Arc::new(DiskArtifacts::open(directory.path(), keep_free).unwrap()),
        Arc::clone(&rows) as Arc<dyn Artifacts + Send + Sync>,
        capabilities.clone(),
        Arc::clone(&clock) as SharedClock,
        limits,
        TaskTracker::new(),
    )
    .telling(telling);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = axum::serve(listener, router(api.clone())).into_future();
    drop(api.tasks.spawn(serve)); // Ends with the test's runtime.
    let base = format!("http://{address}").parse().unwrap();
    TestApp { base, address, api, capabilities, clock, rows, directory, client: Client::new(), lost }
}

fn stdin(number: u8) -> ArtifactId {
    ArtifactId::new(ArtifactKind::Stdin, [number; 16])
}

fn proof(number: u8) -> ArtifactId {
    ArtifactId::new(ArtifactKind::Proof, [number; 16])
}

fn alice() -> Requester {
    Requester::new([0xa1; 20])
}

type Reply = (u16, String);

impl TestApp {
    fn put_url(&self, id: ArtifactId) -> Url {
        self.capabilities.put_url(&self.base, id, Some(alice()), Timestamp::from_secs(NOW + 60))
    }

    fn get_url(&self, id: ArtifactId) -> Url {
        match id.kind() {
            ArtifactKind::Proof => Capabilities::proof_url(&self.base, id),
            _ => self.capabilities.get_url(&self.base, id, Timestamp::from_secs(NOW + 60)),
        }
    }

    async fn put(&self, id: ArtifactId, bytes: impl Into<reqwest::Body>) -> Reply {
        reply(self.client.put(self.put_url(id)).body(bytes).send().await.unwrap()).await
    }

    async fn put_to(&self, url: Url, bytes: impl Into<reqwest::Body>) -> Reply {
        reply(self.client.put(url).body(bytes).send().await.unwrap()).await
    }

    async fn get(&self, id: ArtifactId) -> reqwest::Response {
        self.client.get(self.get_url(id)).send().await.unwrap()
    }

    async fn get_range(&self, id: ArtifactId, range: &str) -> reqwest::Response {
        self.client.get(self.get_url(id)).header("range", range).send().await.unwrap()
    }

    async fn assert_absent(&self, id: ArtifactId) {
        assert_eq!(self.get(id).await.status(), 404);
    }

    /// A raw PUT with this `Content-Length`, of which only `body` is sent.
    async fn raw_put(&self, id: ArtifactId, length: usize, body: &[u8]) -> TcpStream {
        let url = self.put_url(id);
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "PUT {}?{} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n",
            url.path(),
            url.query().unwrap(),
            self.address
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(body).await.unwrap();
        socket
    }

    /// The same directory and rows, under a program that has seen none of it yet.
    async fn restarted(self) -> Self {
        let limits = (*self.api.limits).clone();
        app_on(self.directory, self.rows, limits, 0).await
    }

    fn path(&self, id: ArtifactId) -> PathBuf {
        self.directory.path().join(id.kind().name()).join(id.to_string())
    }

    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory.path().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Waits until no upload is under way.
    async fn settled(&self) {
        until(|| self.files("incoming").is_empty()).await;
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("waited in vain");
}

async fn reply(response: reqwest::Response) -> Reply {
    (response.status().as_u16(), response.text().await.unwrap())
}

fn assert_says((status, text): &Reply, expected: u16, words: &str) {
    assert_eq!(*status, expected, "{text}");
    assert!(text.contains(words), "{text:?} does not say {words:?}");
}

/// A body of unknown length.
fn chunked(bytes: &[u8]) -> reqwest::Body {
    let pieces: Vec<_> = bytes.chunks(65_536).map(Bytes::copy_from_slice).map(Ok::<_, io::Error>).collect();
    reqwest::Body::wrap_stream(stream::iter(pieces))
}

#[tokio::test]
async fn what_was_put_is_got_byte_for_byte_with_its_length_and_digest() {
    let app = app().await;
    let bytes = pattern(3 * MIB + 17);
    for id in [stdin(1), proof(1), ArtifactId::new(ArtifactKind::Program, [1; 16])] {
        assert_eq!(app.put(id, bytes.clone()).await, (200, "stored\n".to_owned()));
        let response = app.get(id).await;
        assert_eq!(response.status(), 200);
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header("content-length").unwrap(), bytes.len().to_string());
        assert_eq!(header("content-type").unwrap(), "application/octet-stream");
        assert_eq!(header("etag").unwrap(), format!("\"{}\"", Digest::of(&bytes)));
        assert_eq!(header("accept-ranges").unwrap(), "bytes");
        assert_eq!(header("cache-control").unwrap(), "private, no-transform");
        assert_eq!(header("content-encoding"), None);
        assert!(response.bytes().await.unwrap() == bytes);
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_taken_too() {
    let app = app().await;
    let bytes = pattern(2 * MIB + 1);
    assert_says(&app.put(stdin(1), chunked(&bytes)).await, 200, "stored");
    assert!(app.get(stdin(1)).await.bytes().await.unwrap() == bytes);
}

#[tokio::test]
async fn compressed_bytes_are_kept_as_they_came() {
    let app = app().await;
    let compressed = zstd::encode_all(pattern(MIB).as_slice(), 3).unwrap();
    assert_says(&app.put(stdin(1), compressed.clone()).await, 200, "stored");
    assert!(app.get(stdin(1)).await.bytes().await.unwrap() == compressed);
}

#[tokio::test]
async fn the_row_names_the_owner_of_the_capability_the_digest_and_the_time() {
    let app = app().await;
    app.put(stdin(1), "input").await;
    let owned = app.rows.artifact(stdin(1)).await.unwrap().unwrap();
    let created_at = Timestamp::from_secs(NOW);
    let expected = Artifact { id: stdin(1), owner: Some(alice()), digest: Digest::of(b"input"), size: 5, created_at };
    assert_eq!(owned, expected);
    let of_a_worker = app.capabilities.put_path(proof(1), None, Timestamp::from_secs(NOW + 60));
    assert_says(&app.put_to(app.base.join(&of_a_worker).unwrap(), "proof").await, 200, "stored");
    assert_eq!(app.rows.artifact(proof(1)).await.unwrap().unwrap().owner, None);
}

#[tokio::test]
async fn head_gives_the_headers_alone() {
    let app = app().await;
    app.put(proof(1), pattern(MIB)).await;
    let response = app.client.head(app.get_url(proof(1))).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-length"], MIB.to_string());
    assert_eq!(response.headers()["etag"], format!("\"{}\"", Digest::of(&pattern(MIB))));
    assert!(response.bytes().await.unwrap().is_empty());
    assert_eq!(app.client.head(app.get_url(proof(2))).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_proof_needs_no_capability_and_inputs_and_programs_do() {
    let app = app().await;
    for kind in ArtifactKind::ALL {
        let id = ArtifactId::new(kind, [1; 16]);
        app.put(id, "bytes").await;
        let bare = Capabilities::proof_url(&app.base, id);
        let answer = reply(app.client.get(bare).send().await.unwrap()).await;
        if kind == ArtifactKind::Proof {
            assert_eq!(answer, (200, "bytes".to_owned()));
        } else {
            assert_says(&answer, 403, "carries no signature: use the whole URL");
        }
    }
}

#[tokio::test]
async fn a_capability_for_one_thing_is_refused_for_another_with_the_reason() {
    let app = app().await;
    app.put(stdin(1), "input").await;
    let until = Timestamp::from_secs(NOW + 60);
    let with_path_of = |url: Url, id: ArtifactId| {
        let mut url = url;
        url.set_path(&format!("/artifacts/{id}"));
        url
    };
    let words = "not for this artifact and method";
    // An upload URL for a download, a download URL for an upload, and one artifact's for another's.
    let as_get = reply(app.client.get(app.put_url(stdin(1))).send().await.unwrap()).await;
    assert_says(&as_get, 403, words);
    assert_says(&app.put_to(app.get_url(stdin(2)), "x").await, 403, words);
    assert_says(&app.put_to(with_path_of(app.put_url(stdin(1)), stdin(2)), "x").await, 403, words);
    let other_key = Capabilities::new([4; 32]).put_url(&app.base, stdin(2), None, until);
    assert_says(&app.put_to(other_key, "x").await, 403, words);
    assert_says(&app.put_to(Capabilities::proof_url(&app.base, stdin(2)), "x").await, 403, "carries no signature");
    let mut longer = app.put_url(stdin(2));
    longer.set_query(Some(&format!("{}&x=1", longer.query().unwrap())));
    assert_says(&app.put_to(longer, "x").await, 403, "was changed on its way");
    app.assert_absent(stdin(2)).await;
}

#[tokio::test]
async fn an_expired_capability_is_refused_before_the_body_is_read_and_says_since_when() {
    let app = app().await;
    let url = app.put_url(stdin(1));
    app.clock.0.store(NOW + 60 + 90, Ordering::SeqCst);
    // The body never comes: only who does not wait for it can answer.
    let never = reqwest::Body::wrap_stream(stream::pending::<io::Result<Bytes>>());
    let response = app.client.put(url).body(never).send().await.unwrap();
    assert_says(&reply(response).await, 403, "this URL expired 1m 30s ago: ask for a new one");
    assert!(app.files("incoming").is_empty());
}

#[tokio::test]
async fn a_client_that_is_refused_under_a_large_upload_reads_why() {
    let app = app().await;
    for _ in 0..3 {
        let url = Capabilities::proof_url(&app.base, stdin(1));
        assert_says(&app.put_to(url, vec![0; 16 * MIB]).await, 403, "carries no signature");
        assert_says(&app.put(stdin(1), vec![0; 16 * MIB]).await, 413, "at most 8.0 MiB");
        assert_says(&app.put(stdin(1), chunked(&vec![0; 16 * MIB])).await, 413, "at most 8.0 MiB");
    }
    app.settled().await;
}

#[tokio::test]
async fn a_body_over_the_bound_is_cut_there_and_leaves_nothing() {
    let app = app().await;
    let words = "a stdin may have at most 8.0 MiB here: make it smaller, or ask the operator";
    assert_says(&app.put(stdin(1), vec![1; 8 * MIB + 1]).await, 413, words);
    assert_says(&app.put(stdin(1), chunked(&vec![1; 8 * MIB + 1])).await, 413, words);
    app.settled().await;
    app.assert_absent(stdin(1)).await;
    assert_says(&app.put(stdin(1), vec![1; 8 * MIB]).await, 200, "stored");
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut_at_the_bound() {
    let app = app().await;
    let endless = stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from(vec![7; 65_536])));
    let response =
        app.client.put(app.put_url(stdin(1))).body(reqwest::Body::wrap_stream(endless)).send().await.unwrap();
    assert_eq!(response.status(), 413);
    drop(response);
    app.settled().await;
    app.assert_absent(stdin(1)).await;
}

#[tokio::test]
async fn a_length_over_the_bound_is_refused_without_waiting_for_the_body() {
    let app = app().await;
    let mut socket = app.raw_put(stdin(1), 1 << 40, b"").await;
    let mut head = [0; 12];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");
}

#[tokio::test]
async fn an_empty_upload_is_refused() {
    let app = app().await;
    assert_says(&app.put(stdin(1), "").await, 400, "the upload has no bytes");
    app.assert_absent(stdin(1)).await;
}

#[tokio::test]
async fn an_upload_that_is_torn_anywhere_leaves_nothing_and_can_be_repeated() {
    let app = app().await;
    let bytes = pattern(2 * MIB);
    for tenth in 0..10_u8 {
        let id = stdin(tenth);
        let mut socket = app.raw_put(id, bytes.len(), &bytes[..bytes.len() * usize::from(tenth) / 10]).await;
        until(|| !app.files("incoming").is_empty()).await;
        if tenth % 2 == 0 {
            socket.shutdown().await.unwrap(); // The client is done, or so it says.
        }
        drop(socket); // The client is gone.
        app.settled().await;
        app.assert_absent(id).await;
        assert_eq!(app.rows.artifact(id).await.unwrap(), None);
        assert_says(&app.put(id, bytes.clone()).await, 200, "stored");
        assert!(app.get(id).await.bytes().await.unwrap() == bytes);
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_told_how_much_came_of_how_much() {
    let app = app().await;
    // A client that still reads, as seen behind a proxy that ends the body for it.
    let torn = stream::iter([Ok(Bytes::from_static(b"some")), Err(io::Error::other("gone"))]);
    let url = app.put_url(stdin(1));
    let request = Request::put(format!("{}?{}", url.path(), url.query().unwrap()))
        .header("content-length", 10)
        .body(Body::from_stream(torn))
        .unwrap();
    let response = router(app.api.clone()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 400);
    let text = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
    assert_eq!(text, "the upload was cut off: 4 of 10 bytes came; send it again from the start\n");
    app.settled().await;

    let short = Request::put(format!("{}?{}", url.path(), url.query().unwrap())).header("content-length", 10);
    let response = router(app.api.clone()).oneshot(short.body(Body::from("some")).unwrap()).await.unwrap();
    assert_eq!(response.status(), 400);
    app.settled().await;
    app.assert_absent(stdin(1)).await;
}

/// Puts a body that is made of `pieces` and then never ends.
async fn put_and_stall(app: &TestApp, pieces: Vec<Bytes>) -> Reply {
    let pieces = stream::iter(pieces.into_iter().map(Ok::<_, io::Error>));
    let url = app.put_url(stdin(1));
    let request = Request::put(format!("{}?{}", url.path(), url.query().unwrap()))
        .body(Body::from_stream(pieces.chain(stream::pending())))
        .unwrap();
    let response = router(app.api.clone()).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let text = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
    (status, String::from_utf8(text.to_vec()).unwrap())
}

#[tokio::test]
async fn a_body_that_brings_nothing_any_more_is_dropped() {
    let limits = ArtifactLimits { pace_time: Duration::from_millis(20), ..ArtifactLimits::default() };
    let app = app_with(limits, 0).await;
    let stalled = put_and_stall(&app, vec![Bytes::from_static(b"some")]).await;
    assert_says(&stalled, 408, "too slowly: 4 bytes in all, and next to none in the last 20ms; send it again");
    let stalled = put_and_stall(&app, vec![Bytes::from(vec![0; 3 * MIB])]).await;
    assert_says(&stalled, 408, "3145728 bytes in all");
    app.settled().await;
    app.assert_absent(stdin(1)).await;
}

#[tokio::test]
async fn a_body_that_trickles_is_dropped_although_it_never_stops() {
    let limits = ArtifactLimits { pace_time: Duration::from_millis(50), ..ArtifactLimits::default() };
    let app = app_with(limits, 0).await;
    let trickle = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(5)).await; // The client's slowness; nothing waits for its end.
        Some((Ok::<_, io::Error>(Bytes::from_static(b"x")), ()))
    });
    let url = app.put_url(stdin(1));
    let request = Request::put(format!("{}?{}", url.path(), url.query().unwrap())).body(Body::from_stream(trickle));
    let response = router(app.api.clone()).oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 408);
}

#[tokio::test]
async fn the_same_bytes_again_are_fine_and_others_are_a_conflict() {
    let app = app().await;
    assert_says(&app.put(stdin(1), "first").await, 200, "stored");
    assert_says(&app.put(stdin(1), "first").await, 200, "stored");
    let conflict = app.put(stdin(1), "other").await;
    assert_says(&conflict, 409, "other bytes were uploaded to this URL before, and they stay: ask for a new URL");
    assert_eq!(app.get(stdin(1)).await.text().await.unwrap(), "first");
}

#[tokio::test]
async fn bytes_that_have_a_row_are_not_replaced_when_their_file_was_lost_but_can_be_brought_again() {
    let app = app().await;
    app.put(proof(1), "first").await;
    std::fs::remove_file(&app.files("proof")[0]).unwrap();
    assert_says(&reply(app.get(proof(1)).await).await, 500, "its file is gone");
    assert_says(&app.put(proof(1), "other").await, 409, "they stay");
    assert_says(&app.put(proof(1), "first").await, 200, "stored");
    assert_eq!(app.get(proof(1)).await.text().await.unwrap(), "first");
}

#[tokio::test]
async fn twenty_uploads_of_the_same_bytes_at_once_all_succeed() {
    let app = app().await;
    let bytes = pattern(MIB + 1);
    for answer in join_all((0..20).map(|_| app.put(stdin(1), bytes.clone()))).await {
        assert_says(&answer, 200, "stored");
    }
    assert_eq!(app.files("stdin").len(), 1);
    assert!(app.get(stdin(1)).await.bytes().await.unwrap() == bytes);
    app.settled().await;
}

#[tokio::test]
async fn of_twenty_different_uploads_at_once_one_stays_and_only_it_is_told_so() {
    let app = app().await;
    let contents: Vec<_> = (0..20_usize).map(|number| pattern(MIB + number)).collect();
    let answers = join_all(contents.iter().map(|bytes| app.put(stdin(1), bytes.clone()))).await;
    let kept = app.get(stdin(1)).await.bytes().await.unwrap();
    for ((status, text), bytes) in answers.into_iter().zip(contents) {
        assert_eq!(status, if kept == bytes { 200 } else { 409 }, "{text}");
    }
}

#[tokio::test]
async fn a_file_without_a_row_is_not_served_until_its_upload_is_repeated() {
    let app = app().await;
    // As after a crash between the two.
    crate::artifacts::contract::store(app.api.files.as_ref(), proof(1), b"proof").await.unwrap();
    app.assert_absent(proof(1)).await;
    assert_says(&app.put(proof(1), "other").await, 409, "they stay");
    assert_says(&app.put(proof(1), "proof").await, 200, "stored");
    assert_eq!(app.get(proof(1)).await.text().await.unwrap(), "proof");
}

/// Changes a file as a failing disk would: without a word to the file system.
fn damage(path: &std::path::Path, change: impl FnOnce(&mut Vec<u8>)) {
    let written = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_found_and_nothing_of_the_file_is_ever_served() {
    let bytes = pattern(3 * MIB + 17);
    let mut app = app().await;
    for (number, place) in (1..).zip([0, 1, MIB, 3 * MIB + 16]) {
        let id = proof(number);
        app.put(id, bytes.clone()).await;
        app = app.restarted().await;
        damage(&app.path(id), |bytes| bytes[place] ^= 0x10);
        // Also a part in which nothing is wrong.
        assert_says(
            &reply(app.get_range(id, "bytes=100-199").await).await,
            410,
            "was damaged on the hierophant's disk",
        );
        assert_says(&reply(app.get(id).await).await, 410, "was damaged");
        assert_eq!(app.client.head(app.get_url(id)).send().await.unwrap().status(), 410);
        assert_eq!(app.rows.artifact(id).await.unwrap(), None);
        assert_eq!(app.lost.try_recv(), Ok(id));
        let aside = app.path(id).with_extension("damaged");
        assert_eq!(std::fs::metadata(aside).unwrap().len(), bytes.len() as u64);
    }
}

#[tokio::test]
async fn a_file_that_was_cut_or_grew_or_was_written_to_is_not_served_even_if_it_was_before() {
    type Change = fn(&mut Vec<u8>);
    let changes: [Change; 3] = [|bytes| bytes.truncate(MIB - 1), |bytes| bytes.push(0), |bytes| bytes[7] ^= 1];
    let app = app().await;
    for (number, change) in (1..).zip(changes) {
        let id = proof(number);
        app.put(id, pattern(MIB)).await;
        assert_eq!(app.get(id).await.bytes().await.unwrap(), pattern(MIB));
        let mut bytes = std::fs::read(app.path(id)).unwrap();
        change(&mut bytes);
        std::fs::write(app.path(id), bytes).unwrap();
        assert_says(&reply(app.get(id).await).await, 410, "was damaged");
    }
}

#[tokio::test]
async fn what_is_damaged_can_be_brought_again() {
    let app = app().await;
    let bytes = pattern(MIB);
    app.put(proof(1), bytes.clone()).await;
    let app = app.restarted().await;
    damage(&app.path(proof(1)), |bytes| bytes[5] ^= 1);
    // Before anyone has noticed, and after.
    assert_says(&app.put(proof(1), bytes.clone()).await, 200, "stored");
    assert!(app.get(proof(1)).await.bytes().await.unwrap() == bytes);
    let app = app.restarted().await;
    damage(&app.path(proof(1)), |bytes| bytes[5] ^= 1);
    assert_eq!(app.get(proof(1)).await.status(), 410);
    assert_says(&app.put(proof(1), bytes.clone()).await, 200, "stored");
    assert!(app.get(proof(1)).await.bytes().await.unwrap() == bytes);
}

#[tokio::test]
async fn a_file_is_read_whole_once_for_all_its_ranges_and_not_at_all_when_it_was_just_stored() {
    let app = app().await;
    app.put(proof(1), pattern(MIB)).await;
    assert_eq!(app.get(proof(1)).await.status(), 200);
    assert_eq!(app.api.intact.read(), 0);
    let app = app.restarted().await;
    let parts = (0..20).map(|part| app.get_range(proof(1), if part % 2 == 0 { "bytes=0-99" } else { "bytes=500-" }));
    assert!(join_all(parts).await.iter().all(|response| response.status() == 206));
    assert_eq!(app.get(proof(1)).await.status(), 200);
    assert_eq!(app.api.intact.read(), 1);
}

#[tokio::test]
async fn what_was_stored_is_served_after_a_restart() {
    let app = app().await;
    let bytes = pattern(MIB);
    app.put(proof(1), bytes.clone()).await;
    let files = DiskArtifacts::open(app.directory.path(), 0).unwrap();
    let restarted = ArtifactApi { files: Arc::new(files), ..app.api.clone() };
    let request = Request::get(format!("/artifacts/{}", proof(1))).body(Body::empty()).unwrap();
    let response = router(restarted).oneshot(request).await.unwrap();
    assert!(axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap() == bytes);
}

#[tokio::test]
async fn passing_trouble_is_504_which_the_sdk_repeats_and_tells_clients_no_internals() {
    let app = app().await;
    app.put(proof(1), "proof").await;
    app.rows.is_down.store(true, Ordering::SeqCst);
    for answer in [app.put(stdin(1), "input").await, reply(app.get(proof(1)).await).await] {
        assert_says(&answer, 504, "database did not answer: try again later");
        assert!(!answer.1.contains("secret detail"));
    }
    app.rows.is_down.store(false, Ordering::SeqCst);
    assert_says(&app.put(stdin(1), "input").await, 200, "stored");
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_takes_proofs_only() {
    let disk = rustix::fs::statvfs(std::env::temp_dir()).unwrap();
    // More than there is, and a quarter of it less.
    let app = app_with(ArtifactLimits::default(), 2 * disk.f_bavail * disk.f_frsize).await;
    let words = "disk is full: try again later; its operator must make room";
    assert_says(&app.put(stdin(1), "input").await, 504, words);
    assert_says(&app.put(proof(1), "proof").await, 200, "stored");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_passing_trouble_without_its_path() {
    let app = app().await;
    std::fs::remove_dir(app.directory.path().join("incoming")).unwrap();
    let answer = app.put(stdin(1), "input").await;
    assert_says(&answer, 504, "could not read or write its artifacts: try again later");
    assert!(!answer.1.contains("incoming"));
    std::fs::create_dir(app.directory.path().join("incoming")).unwrap();
    assert_says(&app.put(stdin(1), "input").await, 200, "stored");
}

#[tokio::test]
async fn more_transfers_than_allowed_at_once_are_told_to_come_again() {
    let app = app_with(ArtifactLimits { transfers: 1, ..ArtifactLimits::default() }, 0).await;
    let mut first = app.raw_put(stdin(1), 10, b"half ").await;
    until(|| !app.files("incoming").is_empty()).await;
    assert_says(&app.put(stdin(2), "input").await, 504, "too many transfers are under way: try again");
    first.write_all(b"whole").await.unwrap();
    let mut head = [0; 12];
    first.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    assert_says(&app.put(stdin(2), "input").await, 200, "stored");
    for _ in 0..3 {
        assert_eq!(app.get(stdin(1)).await.text().await.unwrap(), "half whole", "each download gives its place back");
        until(|| app.api.downloads.available_permits() == 1).await;
    }
}

#[tokio::test]
async fn an_upload_whose_client_leaves_while_it_is_recorded_is_finished() {
    let app = app().await;
    let closed = app.rows.gate.acquire_many(GATE).await.unwrap();
    let url = app.put_url(proof(1));
    let request = Request::put(format!("{}?{}", url.path(), url.query().unwrap())).body(Body::from("proof")).unwrap();
    let mut waiting = router(app.api.clone()).oneshot(request);
    tokio::select! {
        _ = &mut waiting => panic!("answered before the row was written"),
        () = until(|| !app.files("proof").is_empty()) => {}
    }
    drop(waiting); // As the server does when the connection is gone.
    app.assert_absent(proof(1)).await;
    drop(closed);
    until(|| app.rows.recorded.lock().unwrap().contains_key(&proof(1))).await;
    assert_eq!(app.get(proof(1)).await.text().await.unwrap(), "proof");
}

#[tokio::test]
async fn unknown_and_malformed_ids_are_refused_in_the_same_words() {
    let app = app().await;
    let (status, expected) = reply(app.get(proof(1)).await).await;
    assert_eq!(status, 404);
    assert!(expected.contains("the URL is wrong, or the upload was never completed, or it is no longer kept"));
    let upper = proof(0xab).to_string().to_uppercase();
    let id = proof(1).to_string();
    for bad in [
        "x",
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "%ff%fe",
        "proof_",
        "proof_xyz",
        &upper,
        &format!("{id}0"),
        &format!("%20{id}"),
        &format!("{id}%2f"),
    ] {
        // By hand: a client library would resolve the dots.
        for method in ["GET", "PUT"] {
            let mut socket = TcpStream::connect(app.address).await.unwrap();
            let request = format!(
                "{method} /artifacts/{bad} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            );
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 404"), "{method} {bad}: {answer}");
            assert!(answer.contains(expected.trim_end()), "{method} {bad}: {answer}");
        }
    }
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let app = app().await;
    for method in ["DELETE", "POST", "PATCH"] {
        let method = method.parse().unwrap();
        let response = app.client.request(method, app.put_url(stdin(1))).body("x").send().await.unwrap();
        assert_eq!(response.status(), 405);
    }
}

#[tokio::test]
async fn a_download_resumes_where_it_broke_off() {
    let app = app().await;
    let bytes = pattern(3 * MIB);
    app.put(stdin(1), bytes.clone()).await;
    let response = app.get_range(stdin(1), "bytes=1000000-").await;
    assert_eq!(response.status(), 206);
    assert_eq!(response.headers()["content-range"], "bytes 1000000-3145727/3145728");
    assert_eq!(response.headers()["content-length"], "2145728");
    assert_eq!(response.headers()["etag"], format!("\"{}\"", Digest::of(&bytes)));
    assert!(response.bytes().await.unwrap() == bytes[1_000_000..]);
}

#[tokio::test]
async fn a_range_that_is_none_is_refused_with_the_size() {
    let app = app().await;
    app.put(proof(1), pattern(100)).await;
    for range in ["bytes=100-", "bytes=5-4", "bytes=-0", "bytes=0-1,5-6", "lines=1-2", "bytes=x-"] {
        let response = app.get_range(proof(1), range).await;
        assert_eq!(response.headers()["content-range"], "bytes */100");
        assert_says(&reply(response).await, 416, "ask for one range inside its 100 bytes");
    }
}

#[tokio::test]
async fn a_range_of_other_bytes_gives_the_whole() {
    let app = app().await;
    app.put(proof(1), "0123456789").await;
    let ranged = |etag: String| {
        let request = app.client.get(app.get_url(proof(1))).header("range", "bytes=2-3").header("if-range", etag);
        async { reply(request.send().await.unwrap()).await }
    };
    assert_eq!(ranged(format!("\"{}\"", Digest::of(b"0123456789"))).await, (206, "23".to_owned()));
    assert_eq!(ranged("\"other\"".to_owned()).await, (200, "0123456789".to_owned()));
}

#[test]
fn every_range_is_the_slice_of_the_whole() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let length = 2 * MIB as u64 + 5;
    let bytes = pattern(2 * MIB + 5);
    let app = runtime.block_on(app());
    runtime.block_on(app.put(stdin(1), bytes.clone()));
    let edge = prop_oneof![0..length, Just(0), Just(length - 1), Just(512 * 1024), Just(512 * 1024 - 1)];
    let range = (edge.clone(), edge, 1..length + 10, 0..3_u8);
    proptest!(ProptestConfig::with_cases(200), |((a, b, n, form) in range)| {
        let (first, last) = (a.min(b), a.max(b));
        let (range, start, end) = match form {
            0 => (format!("bytes={first}-{last}"), first, last + 1),
            1 => (format!("bytes={first}-"), first, length),
            _ => (format!("bytes=-{n}"), length.saturating_sub(n), length),
        };
        let (status, part) = runtime.block_on(async {
            let response = app.get_range(stdin(1), &range).await;
            (response.status(), response.bytes().await.unwrap())
        });
        prop_assert_eq!(status, 206);
        prop_assert!(part == bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()], "{}", range);
    });
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_answered_before_it_sends() {
    let app = app().await;
    let ask = |url: Url| {
        let address = app.address;
        async move {
            let mut socket = TcpStream::connect(address).await.unwrap();
            let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
            let head = format!("PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
            socket.write_all(head.as_bytes()).await.unwrap();
            let mut status = [0; 12];
            socket.read_exact(&mut status).await.unwrap();
            String::from_utf8(status.to_vec()).unwrap()
        }
    };
    assert_eq!(ask(app.put_url(stdin(1))).await, "HTTP/1.1 100");
    assert_eq!(ask(Capabilities::proof_url(&app.base, stdin(1))).await, "HTTP/1.1 403");
}
