//! `GetProgram` and `CreateProgram`.

use prost::Message as _;
use sp1_network_api::{
    artifact::ArtifactType,
    network::{CreateProgramBody, GetProgramRequest, Program, SignedRequest},
};
use tonic::{Code, Status};

use crate::{
    client::{Client, VERIFYING_KEY, assert_refused, vk_hash},
    network::{Network, START},
};

async fn program(client: &mut Client, vk_hash: &[u8]) -> Result<Option<Program>, Status> {
    let request = GetProgramRequest { vk_hash: vk_hash.to_vec() };
    Ok(client.network.get_program(request).await?.into_inner().program)
}

async fn create(client: &mut Client, body: &CreateProgramBody) -> Result<(), Status> {
    let request = client.signed(body.encode_to_vec());
    client.network.create_program(request).await.map(|_| ())
}

fn body(program_uri: String) -> CreateProgramBody {
    CreateProgramBody { nonce: 0, vk_hash: vk_hash().to_vec(), vk: VERIFYING_KEY.to_vec(), program_uri }
}

#[tokio::test]
async fn a_program_is_not_found_until_it_is_registered() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let words = format!("program {} is not registered here yet", hex::encode(vk_hash()));
    assert_refused(program(&mut client, &vk_hash()).await, Code::NotFound, &words);

    let uri = client.upload(&network, ArtifactType::Program, 1000).await;
    create(&mut client, &body(uri.clone())).await.unwrap();
    let found = program(&mut client, &vk_hash()).await.unwrap().unwrap();
    assert_eq!((found.vk_hash, found.vk, found.program_uri), (vk_hash().to_vec(), VERIFYING_KEY.to_vec(), uri));
    assert_eq!((found.owner, found.created_at), (client.address().as_bytes().to_vec(), START.as_secs()));
}

#[tokio::test]
async fn a_program_is_registered_under_either_form_of_its_keys_hash() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let uri = client.upload(&network, ArtifactType::Program, 1000).await;
    let hashes = proving::testing::key_hashes(VERIFYING_KEY);
    for vk_hash in [hashes.field, hashes.bn254] {
        create(&mut client, &CreateProgramBody { vk_hash: vk_hash.to_vec(), ..body(uri.clone()) }).await.unwrap();
        assert!(program(&mut client, &vk_hash).await.is_ok());
    }
}

#[tokio::test]
async fn registering_again_succeeds_and_changes_nothing() {
    let network = Network::start().await;
    let (mut first, mut second) = (network.client(1).await, network.client(2).await);
    first.register(&network).await;
    let before = program(&mut first, &vk_hash()).await.unwrap();
    second.register(&network).await;
    let unusable = CreateProgramBody { vk: vec![], ..body("program_00000000000000000000000000000000".to_owned()) };
    create(&mut second, &unusable).await.unwrap();
    assert_eq!(program(&mut first, &vk_hash()).await.unwrap(), before);
}

#[tokio::test]
async fn a_program_whose_elf_was_lost_is_not_found_and_can_be_registered_anew() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    client.register(&network).await;
    let lost = program(&mut client, &vk_hash()).await.unwrap().unwrap().program_uri;
    network.store.forget_artifact(lost.parse().unwrap()).await.unwrap();
    assert_refused(program(&mut client, &vk_hash()).await, Code::NotFound, "not registered");
    client.register(&network).await;
    assert_ne!(program(&mut client, &vk_hash()).await.unwrap().unwrap().program_uri, lost);
}

#[tokio::test]
async fn a_program_that_is_no_program_is_refused_and_the_message_says_why() {
    let network = Network::start().await;
    let (mut client, mut other) = (network.client(1).await, network.client(2).await);
    let uri = client.upload(&network, ArtifactType::Program, 1000).await;
    let missing = client.create_artifact(ArtifactType::Program).await;
    let empty = client.upload(&network, ArtifactType::Program, 8).await;
    let stdin = client.upload(&network, ArtifactType::Stdin, 1000).await;
    let others = other.upload(&network, ArtifactType::Program, 1000).await;
    let good = body(uri);
    let with_uri = |uri: &str| body(uri.to_owned());
    let hashes = proving::testing::key_hashes(b"another key");
    let named = hex::encode(vk_hash());
    let (field, bn254) = (hex::encode(hashes.field), hex::encode(hashes.bn254));
    let invalid = Code::InvalidArgument;
    for (body, code, words) in [
        (
            CreateProgramBody { vk: b"another key".to_vec(), ..good.clone() },
            invalid,
            format!("vk does not hash to vk_hash {named}, but to {field} (bytes32 form {bn254})"),
        ),
        (CreateProgramBody { vk: vec![], ..good.clone() }, invalid, "vk must be 1 to 1048576 bytes, not 0".into()),
        (
            CreateProgramBody { vk: vec![1; (1 << 20) + 1], ..good.clone() },
            invalid,
            "vk must be 1 to 1048576 bytes, not 1048577".into(),
        ),
        (
            CreateProgramBody { vk_hash: vec![1; 31], ..good.clone() },
            invalid,
            "vk_hash must be 32 bytes, not 31".into(),
        ),
        (CreateProgramBody { vk_hash: vec![], ..good }, invalid, "vk_hash must be 32 bytes, not 0".into()),
        (with_uri(&missing), invalid, format!("program_uri {missing} has not been uploaded: PUT the ELF to the URL")),
        (
            with_uri(&empty),
            invalid,
            format!("the program is empty: program_uri {empty} holds 8 bytes, which is no ELF"),
        ),
        (with_uri(&stdin), invalid, format!("program_uri {stdin} names a stdin, not a program")),
        (with_uri("s3://bucket/programs/x"), invalid, "program_uri is not an artifact of this network".into()),
        (with_uri(""), invalid, "program_uri is not an artifact of this network".into()),
        (
            with_uri(&others),
            Code::PermissionDenied,
            format!("program_uri {others} was not uploaded by {}, whose signature this is", client.address()),
        ),
    ] {
        assert_refused(create(&mut client, &body).await, code, &words);
    }
    assert_refused(program(&mut client, &vk_hash()).await, Code::NotFound, "not registered");
}

#[tokio::test]
async fn a_registration_is_not_taken_from_whoever_does_not_sign_it() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let uri = client.upload(&network, ArtifactType::Program, 1000).await;
    let encoded = body(uri).encode_to_vec();
    let good = client.signed(encoded.clone());
    let longer = [encoded.as_slice(), &[8, 1]].concat();
    for (request, code, words) in [
        (SignedRequest { signature: vec![], ..good.clone() }, Code::Unauthenticated, "signature is missing"),
        (SignedRequest { signature: vec![9; 65], ..good.clone() }, Code::Unauthenticated, "v = 9"),
        (SignedRequest { body: None, ..good.clone() }, Code::InvalidArgument, "body is missing"),
        (SignedRequest { format: 2, ..good.clone() }, Code::InvalidArgument, "format 2 is not served here"),
        (SignedRequest { body: Some(longer), ..good }, Code::PermissionDenied, "sign exactly the bytes of body"),
        (client.signed(b"garbage".to_vec()), Code::InvalidArgument, "body is not the encoding of a CreateProgram body"),
    ] {
        assert_refused(client.network.create_program(request).await, code, words);
    }
    assert_refused(program(&mut client, &vk_hash()).await, Code::NotFound, "not registered");
}

#[tokio::test]
async fn a_hash_of_another_length_is_refused_and_not_just_not_found() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    for (length, words) in [(0, "not 0"), (31, "vk_hash must be 32 bytes, not 31"), (33, "not 33")] {
        assert_refused(program(&mut client, &vec![1; length]).await, Code::InvalidArgument, words);
    }
}
