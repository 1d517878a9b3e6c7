use std::os::unix::fs::PermissionsExt as _;

use network_lib::ArtifactKind;
use proptest::prelude::*;

use super::*;

fn capabilities() -> Capabilities {
    Capabilities::new([7; 32])
}

fn id(number: u8) -> ArtifactId {
    ArtifactId::new(ArtifactKind::Stdin, [number; 16])
}

fn owner(number: u8) -> Requester {
    Requester::new([number; 20])
}

fn owned(owner: Option<Requester>) -> Grant {
    Grant { owner, announced: None }
}

fn announced(number: u8, size: u64) -> Announced {
    Announced { digest: Digest::new([number; 32]), size }
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn base() -> Url {
    "http://hierophant.example:9010".parse().unwrap()
}

#[test]
fn a_capability_says_what_whom_and_until_when() {
    let url = capabilities().put_url(&base(), id(1), Some(owner(2)), at(100));
    assert_eq!(url.path(), format!("/artifacts/{}", id(1)));
    let query = url.query().unwrap();
    assert!(query.starts_with("expires=100&owner=0x0202020202020202020202020202020202020202&signature="), "{query}");
    assert_eq!(capabilities().check(Action::Put, id(1), url.query(), at(99)), Ok(owned(Some(owner(2)))));
}

#[test]
fn a_capability_of_a_worker_says_which_bytes_it_is_for() {
    let path = capabilities().put_path(id(1), Some(announced(2, 77)), at(100));
    let query = path.split_once('?').map(|(_, query)| query);
    assert!(
        query.unwrap().starts_with(&format!("expires=100&digest={}&size=77&signature=", "02".repeat(32))),
        "{path}"
    );
    let grant = Grant { owner: None, announced: Some(announced(2, 77)) };
    assert_eq!(capabilities().check(Action::Put, id(1), query, at(99)), Ok(grant));
}

#[test]
fn the_relative_form_is_the_absolute_one_without_its_base() {
    let capabilities = capabilities();
    let url = capabilities.get_url(&base(), id(1), at(100));
    assert_eq!(base().join(&capabilities.get_path(id(1), at(100))).unwrap(), url);
}

#[test]
fn a_base_with_a_path_of_its_own_keeps_it() {
    for base in ["https://example.org/prover", "https://example.org/prover/"] {
        let url = Capabilities::proof_url(&base.parse().unwrap(), id(1));
        assert_eq!(url.as_str(), format!("https://example.org/prover/artifacts/{}", id(1)));
    }
}

#[test]
fn a_capability_expires_with_its_second_and_says_how_long_ago() {
    let path = capabilities().get_path(id(1), at(100));
    let query = path.split_once('?').map(|(_, query)| query);
    assert_eq!(capabilities().check(Action::Get, id(1), query, at(99)), Ok(Grant::default()));
    let error = capabilities().check(Action::Get, id(1), query, at(190)).unwrap_err();
    assert_eq!(error.to_string(), "this URL expired 1m 30s ago: ask for a new one (CreateArtifact)");
    assert!(capabilities().check(Action::Get, id(1), query, at(100)).is_err());
}

#[test]
fn a_url_without_a_signature_is_told_so() {
    assert_eq!(capabilities().check(Action::Put, id(1), None, at(1)), Err(CapabilityError::Missing));
    assert_eq!(capabilities().check(Action::Put, id(1), Some(""), at(1)), Err(CapabilityError::Missing));
}

#[test]
fn the_key_is_not_shown() {
    assert_eq!(format!("{:?}", capabilities()), "Capabilities(key not shown)");
}

fn query(action: Action, grant: Grant, expires: u64) -> String {
    capabilities().query(action, id(1), grant, expires)
}

fn some_action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![Action::Put, Action::Get])
}

fn some_grant() -> impl Strategy<Value = Grant> {
    let owner = prop::option::of(any::<[u8; 20]>().prop_map(Requester::new));
    let announced = any::<([u8; 32], u64)>().prop_map(|(digest, size)| Announced { digest: Digest::new(digest), size });
    (owner, prop::option::of(announced)).prop_map(|(owner, announced)| Grant { owner, announced })
}

proptest! {
    #[test]
    fn what_was_signed_is_allowed_until_it_expires(
        action in some_action(), grant in some_grant(), expires in 1..u64::MAX / 1000, before in 1_u64..,
    ) {
        let now = at(expires.saturating_sub(before));
        let allowed = capabilities().check(action, id(1), Some(&query(action, grant, expires)), now);
        prop_assert_eq!(allowed, Ok(grant));
    }

    #[test]
    fn a_query_with_any_changed_byte_is_refused(
        action in some_action(), grant in some_grant(), expires in 1_u64.., place: prop::sample::Index, byte in 0x20_u8..0x7f,
    ) {
        let mut changed = query(action, grant, expires).into_bytes();
        let place = place.index(changed.len());
        prop_assume!(changed[place] != byte);
        changed[place] = byte;
        let changed = String::from_utf8(changed).unwrap();
        let refused = capabilities().check(action, id(1), Some(&changed), at(0)).unwrap_err();
        prop_assert!(matches!(refused, CapabilityError::Changed | CapabilityError::NotForThis), "{refused}");
    }

    #[test]
    fn a_query_that_is_cut_or_continued_is_refused(
        action in some_action(), grant in some_grant(), expires in 1_u64.., cut: prop::sample::Index, more in "[&=a-z0-9]{1,9}",
    ) {
        let whole = query(action, grant, expires);
        let cut = &whole[..cut.index(whole.len())];
        prop_assert!(capabilities().check(action, id(1), Some(cut), at(0)).is_err());
        let continued = format!("{whole}{more}");
        prop_assert!(capabilities().check(action, id(1), Some(&continued), at(0)).is_err());
    }

    #[test]
    fn a_signature_is_for_no_other_action_artifact_owner_bytes_time_or_key(
        grant in some_grant(), other_grant in some_grant(), expires in 1_u64.., other_expires in 1_u64..,
        other_id in any::<[u8; 16]>(), key in any::<[u8; 32]>(),
    ) {
        let signed = query(Action::Put, grant, expires);
        let check = |capabilities: &Capabilities, action, id, query: &str| {
            capabilities.check(action, id, Some(query), at(0))
        };
        let refused = Err(CapabilityError::NotForThis);
        prop_assert_eq!(check(&capabilities(), Action::Get, id(1), &signed), refused.clone());
        for kind in ArtifactKind::ALL.into_iter().filter(|kind| *kind != ArtifactKind::Stdin) {
            prop_assert_eq!(check(&capabilities(), Action::Put, ArtifactId::new(kind, [1; 16]), &signed), refused.clone());
        }
        if other_id != [1; 16] {
            let other = ArtifactId::new(ArtifactKind::Stdin, other_id);
            prop_assert_eq!(check(&capabilities(), Action::Put, other, &signed), refused.clone());
        }
        if key != [7; 32] {
            prop_assert_eq!(check(&Capabilities::new(key), Action::Put, id(1), &signed), refused.clone());
        }
        let mut claim = Claim::read(&signed).unwrap();
        (claim.grant, claim.expires) = (other_grant, other_expires);
        if (grant, expires) != (other_grant, other_expires) {
            prop_assert_eq!(check(&capabilities(), Action::Put, id(1), &claim.write()), refused);
        }
    }

    #[test]
    fn whatever_a_query_holds_it_is_only_refused(text in "\\PC{0,200}") {
        prop_assert!(capabilities().check(Action::Put, id(1), Some(&text), at(0)).is_err());
    }
}

#[test]
fn a_key_file_is_made_once_for_this_user_only_and_read_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state").join("capability.key");
    let made = Capabilities::load_or_create(&path).unwrap();
    let read = Capabilities::load_or_create(&path).unwrap();
    let url = made.put_url(&base(), id(1), None, at(100));
    assert_eq!(read.check(Action::Put, id(1), url.query(), at(1)), Ok(Grant::default()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read(&path).unwrap().len(), 32);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn two_key_files_hold_different_keys() {
    let directory = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| Capabilities::load_or_create(&directory.path().join(name)).unwrap());
    let url = one.put_url(&base(), id(1), None, at(100));
    assert_eq!(other.check(Action::Put, id(1), url.query(), at(1)), Err(CapabilityError::NotForThis));
}

#[test]
fn many_who_make_the_key_file_at_once_agree_on_one_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let urls: Vec<_> = std::thread::scope(|scope| {
        let make = || Capabilities::load_or_create(&path).unwrap().put_url(&base(), id(1), None, at(100));
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(urls.iter().all(|url| *url == urls[0]));
}

#[test]
fn a_key_file_of_another_length_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    fs::write(&path, [1; 31]).unwrap();
    let error = Capabilities::load_or_create(&path).unwrap_err().to_string();
    assert!(error.contains("has 31 bytes instead of 32: restore it, or remove it"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), [1; 31], "left as it was");
}
