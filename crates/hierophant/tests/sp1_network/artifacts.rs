//! `CreateArtifact`.

use sp1_network_api::artifact::{ArtifactType, CreateArtifactRequest, CreateArtifactResponse};
use tonic::{Code, Status};

use crate::{
    client::{Client, assert_refused},
    network::{HTTP_PORT, Network},
};

async fn create(client: &mut Client, signature: Vec<u8>, artifact_type: i32) -> Result<CreateArtifactResponse, Status> {
    let request = CreateArtifactRequest { signature, artifact_type };
    Ok(client.artifacts.create_artifact(request).await?.into_inner())
}

#[tokio::test]
async fn each_kind_that_clients_upload_gets_an_unguessable_name_and_an_address_on_the_host_that_the_client_used() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    for (kind, name) in [
        (ArtifactType::Program, "program_"),
        (ArtifactType::Stdin, "stdin_"),
        (ArtifactType::PrivateStdin, "private-stdin_"),
    ] {
        let signature = client.sign_with(b"create_artifact", 27);
        let reply = create(&mut client, signature, kind.into()).await.unwrap();
        assert!(reply.artifact_uri.starts_with(name), "{}", reply.artifact_uri);
        let start = format!("http://127.0.0.1:{HTTP_PORT}/artifacts/{}?", reply.artifact_uri);
        assert!(reply.artifact_presigned_url.starts_with(&start), "{}", reply.artifact_presigned_url);
    }
}

#[tokio::test]
async fn the_owner_is_the_signer_with_every_v_that_an_sdk_writes() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    for offset in [0, 27, 54] {
        let signature = client.sign_with(b"create_artifact", offset);
        let reply = create(&mut client, signature, 2).await.unwrap();
        let owner = format!("owner={}", client.address());
        assert!(reply.artifact_presigned_url.contains(&owner), "{}", reply.artifact_presigned_url);
    }
}

#[tokio::test]
async fn while_the_disk_is_full_no_place_is_handed_out_and_the_client_is_to_come_again() {
    let network = Network::start_on_a_full_disk().await;
    let mut client = network.client(1).await;
    for kind in [ArtifactType::Program, ArtifactType::Stdin, ArtifactType::PrivateStdin] {
        let signature = client.sign_with(b"create_artifact", 27);
        assert_refused(create(&mut client, signature, kind.into()).await, Code::Unavailable, "disk is full");
    }
}

#[tokio::test]
async fn whoever_does_not_sign_gets_no_address_and_is_told_what_is_wrong() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let mut signature = client.sign_with(b"create_artifact", 27);
    signature[64] = 37;
    for (signature, words) in [
        (vec![], "signature is missing: sign the request"),
        (vec![1; 64], "signature must be 65 bytes (r, s and v), not 64"),
        (vec![0; 65], "signature is no ECDSA signature"),
        (signature, "signature ends with v = 37: it must be 0, 1, 27, 28, 54 or 55"),
    ] {
        let result = create(&mut client, signature, 2).await;
        assert_refused(result, Code::Unauthenticated, words);
    }
}

#[tokio::test]
async fn kinds_that_clients_do_not_upload_are_refused_by_number_and_name() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    for (kind, words) in [
        (0, "artifact_type 0 (unspecified) cannot be created here: use 1 (program), 2 (stdin) or 7 (private stdin)"),
        (3, "artifact_type 3 (proof; workers upload proofs) cannot be created here"),
        (4, "artifact_type 4 (of Succinct's public network) cannot"),
        (99, "artifact_type 99 cannot be created here"),
        (-1, "artifact_type -1 cannot be created here"),
    ] {
        let signature = client.sign_with(b"create_artifact", 54);
        let result = create(&mut client, signature, kind).await;
        assert_refused(result, Code::InvalidArgument, words);
    }
}

#[tokio::test]
async fn a_closed_network_lets_in_whom_it_lists_and_tells_others_who_can_change_that() {
    let stranger = Network::start().await.client(2).await;
    let member = Network::start().await.client(1).await.address();
    let network = Network::start_with(|settings| settings.allowed_requesters = vec![member]).await;
    for offset in [0, 27, 54] {
        let mut client = network.client(1).await;
        let signature = client.sign_with(b"create_artifact", offset);
        create(&mut client, signature, 2).await.unwrap();
    }
    let mut client = network.client(2).await;
    let signature = client.sign_with(b"create_artifact", 54);
    let result = create(&mut client, signature, 2).await;
    let words =
        format!("{} may not ask here: the operator has to add this address to allowed_requesters", stranger.address());
    assert_refused(result, Code::PermissionDenied, &words);
}
