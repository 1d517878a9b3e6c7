//! Uploads of proofs that break off and go on.

use super::*;
use crate::artifacts::Announced;

/// What a worker is answered when it asks how much is here: the status, the offset, and whether that is all.
type There = (u16, Option<u64>, Option<String>);

fn part(there: usize) -> There {
    (204, Some(there as u64), Some("?0".to_owned()))
}

fn all(size: usize) -> There {
    (204, Some(size as u64), Some("?1".to_owned()))
}

fn header_of(response: &reqwest::Response, name: &str) -> Option<String> {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}

fn offset_of(response: &reqwest::Response) -> Option<u64> {
    header_of(response, "upload-offset").map(|offset| offset.parse().unwrap())
}

impl TestApp {
    /// The address at which a worker delivers these bytes.
    fn deliver_url(&self, id: ArtifactId, bytes: &[u8]) -> Url {
        let announced = Announced { digest: Digest::of(bytes), size: bytes.len() as u64 };
        let path = self.capabilities.put_path(id, Some(announced), Timestamp::from_secs(NOW + 60));
        self.base.join(&path).unwrap()
    }

    async fn there(&self, url: &Url) -> There {
        let response = self.client.head(url.clone()).send().await.unwrap();
        (response.status().as_u16(), offset_of(&response), header_of(&response, "upload-complete"))
    }

    /// Asks until what is being stored is stored.
    async fn settled_there(&self, url: &Url) -> There {
        loop {
            let there = self.there(url).await;
            if there.0 != 504 {
                return there;
            }
        }
    }

    async fn send_part(&self, url: &Url, offset: usize, bytes: impl Into<reqwest::Body>) -> reqwest::Response {
        let request = self.client.patch(url.clone()).header("content-type", "application/partial-upload");
        request.header("upload-offset", offset).header("upload-complete", "?1").body(bytes).send().await.unwrap()
    }

    /// A raw PATCH of which only `body` is sent.
    async fn raw_patch(&self, url: &Url, offset: usize, length: usize, body: &[u8]) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "PATCH {}?{} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/partial-upload\r\nUpload-Offset: {offset}\r\n\
             Content-Length: {length}\r\n\r\n",
            url.path(),
            url.query().unwrap(),
            self.address
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(body).await.unwrap();
        socket
    }

    fn partial(&self, id: ArtifactId) -> PathBuf {
        self.directory.path().join(format!("incoming/{id}.partial"))
    }

    fn partial_size(&self, id: ArtifactId) -> u64 {
        std::fs::metadata(self.partial(id)).map_or(0, |metadata| metadata.len())
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_again_and_again_goes_on_where_it_was_and_is_whole_in_the_end() {
    let app = app().await;
    let bytes = pattern(3 * MIB + 17);
    let url = app.deliver_url(proof(1), &bytes);
    assert_eq!(app.there(&url).await, part(0));
    let mut there = 0;
    for sent in [MIB, 100, 0, MIB + 5] {
        let socket = app.raw_patch(&url, there, bytes.len() - there, &bytes[there..there + sent]).await;
        let expected = there + sent;
        // All of it is taken from the socket before the end of the connection is seen.
        drop(socket);
        until(|| app.partial_size(proof(1)) == expected as u64).await;
        there = expected;
        assert_eq!(app.there(&url).await, part(there));
        app.assert_absent(proof(1)).await;
    }
    let response = app.send_part(&url, there, bytes[there..].to_vec()).await;
    assert_eq!(header_of(&response, "etag").unwrap(), format!("\"{}\"", Digest::of(&bytes)));
    assert_eq!(reply(response).await, (200, "stored\n".to_owned()));
    assert!(app.get(proof(1)).await.bytes().await.unwrap() == bytes);
    assert_eq!(app.there(&url).await, all(bytes.len()));
    assert!(app.files("incoming").is_empty());
}

#[tokio::test]
async fn an_upload_goes_on_after_a_restart() {
    let app = app().await;
    let bytes = pattern(2 * MIB);
    let url = app.deliver_url(proof(1), &bytes);
    drop(app.raw_patch(&url, 0, bytes.len(), &bytes[..MIB]).await);
    until(|| app.partial_size(proof(1)) == MIB as u64).await;
    let app = app.restarted().await;
    let url = app.deliver_url(proof(1), &bytes);
    assert_eq!(app.there(&url).await, part(MIB));
    assert_says(&reply(app.send_part(&url, MIB, bytes[MIB..].to_vec()).await).await, 200, "stored");
    assert!(app.get(proof(1)).await.bytes().await.unwrap() == bytes);
}

#[tokio::test]
async fn an_upload_that_was_whole_before_a_crash_is_stored_without_a_further_byte() {
    let app = app().await;
    let bytes = pattern(MIB);
    let url = app.deliver_url(proof(1), &bytes);
    std::fs::write(app.partial(proof(1)), &bytes).unwrap();
    assert_eq!(app.there(&url).await, part(MIB));
    assert_says(&reply(app.send_part(&url, MIB, "").await).await, 200, "stored");
    assert!(app.get(proof(1)).await.bytes().await.unwrap() == bytes);
}

#[tokio::test]
async fn another_offset_than_the_true_one_is_refused_with_that_one_and_changes_nothing() {
    let app = app().await;
    let bytes = pattern(MIB);
    let url = app.deliver_url(proof(1), &bytes);
    std::fs::write(app.partial(proof(1)), &bytes[..1000]).unwrap();
    for offset in [0, 999, 1001, MIB] {
        let response = app.send_part(&url, offset, bytes[offset..].to_vec()).await;
        assert_eq!(offset_of(&response), Some(1000));
        assert_says(&reply(response).await, 409, "1000 bytes are here; go on from there");
    }
    assert_eq!(app.there(&url).await, part(1000));
}

#[tokio::test]
async fn bytes_that_are_not_those_that_were_announced_are_thrown_away_and_the_upload_begins_anew() {
    let app = app().await;
    let bytes = pattern(MIB);
    let url = app.deliver_url(proof(1), &bytes);
    // As a power cut leaves it: long enough, and not all of it is what was written.
    let mut torn = bytes[..MIB / 2].to_vec();
    torn[MIB / 2 - 100..].fill(0);
    std::fs::write(app.partial(proof(1)), torn).unwrap();
    let words = "are not those that its worker announced";
    let refused = reply(app.send_part(&url, MIB / 2, bytes[MIB / 2..].to_vec()).await).await;
    assert_says(&refused, 422, words);
    assert_eq!(app.there(&url).await, part(0));
    // Too many are found before they have all come, or when they were here already.
    assert_says(&reply(app.send_part(&url, 0, [bytes.clone(), vec![1]].concat()).await).await, 422, words);
    assert_eq!(app.there(&url).await, part(0));
    std::fs::write(app.partial(proof(1)), vec![0; MIB + 1]).unwrap();
    assert_eq!(app.there(&url).await, part(0));
    app.assert_absent(proof(1)).await;
    assert_says(&reply(app.send_part(&url, 0, bytes.clone()).await).await, 200, "stored");
    assert!(app.get(proof(1)).await.bytes().await.unwrap() == bytes);
}

#[tokio::test]
async fn a_put_at_an_address_for_announced_bytes_brings_these_and_no_others() {
    let app = app().await;
    let bytes = pattern(MIB);
    let url = app.deliver_url(proof(1), &bytes);
    std::fs::write(app.partial(proof(1)), b"from before").unwrap();
    assert_says(&app.put_to(url.clone(), "other").await, 422, "not those that its worker announced");
    assert_says(&app.put_to(url.clone(), bytes.clone()).await, 200, "stored");
    assert!(app.get(proof(1)).await.bytes().await.unwrap() == bytes);
    assert!(app.files("incoming").is_empty());
    let other = app.deliver_url(proof(1), b"other");
    assert_says(&app.put_to(other.clone(), "other").await, 409, "they stay");
    assert_says(&reply(app.send_part(&other, 0, "other").await).await, 409, "they stay");
    assert_eq!(app.there(&other).await.0, 409);
    assert!(app.get(proof(1)).await.bytes().await.unwrap() == bytes);
}

#[tokio::test]
async fn an_upload_on_a_dead_connection_holds_up_nobody_and_changes_nothing_any_more() {
    let app = app().await;
    let bytes = pattern(2 * MIB);
    let url = app.deliver_url(proof(1), &bytes);
    let mut dead = app.raw_patch(&url, 0, bytes.len(), &bytes[..MIB]).await;
    until(|| app.partial_size(proof(1)) > 0).await;
    let (_, there, _) = app.there(&url).await;
    let there = usize::try_from(there.unwrap()).unwrap();
    assert!(there > 0);
    let mut second = app.raw_patch(&url, there, bytes.len() - there, &bytes[there..MIB + 1000]).await;
    // It comes back to life.
    dead.write_all(&vec![0xff; MIB]).await.unwrap();
    let mut answer = [0; 12];
    dead.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 409");
    second.write_all(&bytes[MIB + 1000..]).await.unwrap();
    second.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert!(app.get(proof(1)).await.bytes().await.unwrap() == bytes);
}

#[tokio::test]
async fn of_many_who_bring_the_same_proof_at_once_one_succeeds_and_the_rest_harm_nothing() {
    let app = app().await;
    let bytes = pattern(MIB + 1);
    let url = app.deliver_url(proof(1), &bytes);
    let statuses = join_all((0..20).map(|_| async { app.send_part(&url, 0, bytes.clone()).await.status().as_u16() }));
    for status in statuses.await {
        assert!([200, 409, 504].contains(&status), "{status}");
    }
    if app.settled_there(&url).await != all(bytes.len()) {
        let (_, there, _) = app.there(&url).await;
        let there = usize::try_from(there.unwrap()).unwrap();
        assert_says(&reply(app.send_part(&url, there, bytes[there..].to_vec()).await).await, 200, "stored");
    }
    assert!(app.get(proof(1)).await.bytes().await.unwrap() == bytes);
    assert_eq!(app.there(&url).await, all(bytes.len()));
}

#[tokio::test]
async fn who_asks_while_the_proof_is_being_stored_is_told_to_ask_again_and_not_to_begin_anew() {
    let app = app().await;
    let closed = app.rows.gate.acquire_many(GATE).await.unwrap();
    let bytes = pattern(MIB);
    let url = app.deliver_url(proof(1), &bytes);
    let asked = async {
        until(|| !app.files("proof").is_empty()).await;
        let answer = (app.there(&url).await, reply(app.send_part(&url, 0, bytes.clone()).await).await);
        drop(closed);
        answer
    };
    let (stored, (there, sent)) = tokio::join!(app.send_part(&url, 0, bytes.clone()), asked);
    assert_eq!(stored.status(), 200);
    assert_eq!(there, (504, None, None));
    assert_says(&sent, 504, "is being stored: ask again");
    assert_eq!(app.settled_there(&url).await, all(MIB));
}

#[tokio::test]
async fn a_proof_whose_file_was_lost_is_brought_again() {
    let app = app().await;
    let bytes = pattern(MIB);
    let url = app.deliver_url(proof(1), &bytes);
    assert_eq!(app.send_part(&url, 0, bytes.clone()).await.status(), 200);
    std::fs::remove_file(app.path(proof(1))).unwrap();
    assert_eq!(app.there(&url).await, part(0));
    assert_eq!(app.send_part(&url, 0, bytes.clone()).await.status(), 200);
    assert!(app.get(proof(1)).await.bytes().await.unwrap() == bytes);
}

#[tokio::test]
async fn expired_changed_and_unsigned_addresses_are_refused_for_every_method() {
    let app = app().await;
    let bytes = b"proof".as_slice();
    let url = app.deliver_url(proof(1), bytes);
    let of_other_bytes = {
        let query = url.query().unwrap().replace(&Digest::of(bytes).to_string(), &Digest::of(b"other").to_string());
        let mut url = url.clone();
        url.set_query(Some(&query));
        url
    };
    let of_another = {
        let mut url = url.clone();
        url.set_path(&format!("/artifacts/{}", proof(2)));
        url
    };
    for wrong in [of_other_bytes, of_another] {
        assert_eq!(app.there(&wrong).await, (403, None, None));
        assert_says(&reply(app.send_part(&wrong, 0, bytes).await).await, 403, "not for this artifact and method");
    }
    let bare = Capabilities::proof_url(&app.base, proof(1));
    assert_says(&reply(app.send_part(&bare, 0, bytes).await).await, 403, "carries no signature");
    app.clock.0.store(NOW + 61, Ordering::SeqCst);
    assert_eq!(app.there(&url).await, (403, None, None));
    assert_says(&reply(app.send_part(&url, 0, bytes).await).await, 403, "expired 1s ago");
    assert!(app.files("incoming").is_empty());
}

#[tokio::test]
async fn a_part_that_does_not_say_where_it_belongs_is_refused() {
    let app = app().await;
    let url = app.deliver_url(proof(1), b"proof");
    let send = |headers: &[(&'static str, &'static str)]| {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        app.client.patch(url.clone()).headers(headers).body("proof").send()
    };
    let (kind, offset) = (("content-type", "application/partial-upload"), ("upload-offset", "0"));
    for headers in [vec![], vec![kind], vec![offset], vec![kind, ("upload-offset", "-1")]] {
        assert_says(&reply(send(&headers).await.unwrap()).await, 400, "needs the headers");
    }
    assert_says(&reply(send(&[kind, offset]).await.unwrap()).await, 200, "stored");
}

#[tokio::test]
async fn what_clients_upload_cannot_be_gone_on_with_and_leaves_nothing() {
    let app = app().await;
    for id in [stdin(1), ArtifactId::new(ArtifactKind::Program, [1; 16]), proof(9)] {
        let response = app.send_part(&app.put_url(id), 0, "bytes").await;
        assert_eq!(header_of(&response, "allow").unwrap(), "GET,HEAD,PUT");
        assert_says(&reply(response).await, 405, "send the whole artifact by PUT");
        drop(app.raw_put(id, 1000, b"some").await);
        app.settled().await;
    }
    // A worker of this version finds out before it sends.
    assert_eq!(app.there(&app.put_url(proof(9))).await.0, 405);
}

#[tokio::test]
async fn an_upload_that_brings_nothing_any_more_is_dropped_and_goes_on_later() {
    let limits = ArtifactLimits { pace_time: Duration::from_millis(20), ..ArtifactLimits::default() };
    let app = app_with(limits, 0).await;
    let bytes = pattern(1000);
    let url = app.deliver_url(proof(1), &bytes);
    let mut stalled = app.raw_patch(&url, 0, 1000, &bytes[..600]).await;
    let mut answer = String::new();
    stalled.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("upload-offset: 600"), "{answer}");
    assert_eq!(app.there(&url).await, part(600));
    assert_eq!(app.send_part(&url, 600, bytes[600..].to_vec()).await.status(), 200);
}

#[tokio::test]
async fn a_proof_that_is_larger_than_the_bound_is_refused_before_a_byte_of_it() {
    let app = app_with(ArtifactLimits { proof: 1000, ..ArtifactLimits::default() }, 0).await;
    let url = app.deliver_url(proof(1), &pattern(1001));
    assert_says(&reply(app.send_part(&url, 0, pattern(1001)).await).await, 413, "a proof may have at most");
    assert!(app.files("incoming").is_empty());
}

#[tokio::test]
async fn a_full_disk_keeps_what_came_and_takes_no_more() {
    let app = app().await;
    let bytes = pattern(1000);
    let url = app.deliver_url(proof(1), &bytes);
    std::fs::write(app.partial(proof(1)), &bytes[..600]).unwrap();
    let full = app_on(app.directory, app.rows, ArtifactLimits::default(), u64::MAX).await;
    let url = full.base.join(&format!("{}?{}", url.path(), url.query().unwrap())).unwrap();
    assert_says(&reply(full.send_part(&url, 600, bytes[600..].to_vec()).await).await, 504, "disk is full");
    assert_eq!(full.there(&url).await, part(600));
}
