//! The client: nothing here but the published `sp1-sdk`, used as its documentation says.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sp1_sdk::{
    Elf, NetworkProver, ProveRequest as _, Prover as _, ProverClient, ProvingKey as _, SP1ProofMode,
    SP1ProofWithPublicValues, SP1ProvingKey, SP1Stdin,
    network::{B256, NetworkMode},
};

use crate::{
    aggregate,
    config::{Config, Mode, SdkMode},
    say,
    timeline::millis,
};

/// The guest's ELF, as it stands in the repository.
const FIBONACCI: &[u8] = include_bytes!("../../../programs/fibonacci/elf/fibonacci");

/// A key of nobody, for signing requests on loopback.
const PRIVATE_KEY: &str = "0x4646464646464646464646464646464646464646464646464646464646464646";

/// How long one proof may take: a compressed one takes minutes on two cores.
const TIMEOUT: Duration = Duration::from_hours(2);

/// What the mock prover plays where a program is to be ended while it is at work.
const SLOW_MOCK: &[u8] = b"#!hierophant-mock\nwork 20s 10";

/// A client of the network.
pub(crate) struct Client {
    prover: NetworkProver,
    key: SP1ProvingKey,
    config: Config,
}

/// A request that was accepted.
pub(crate) struct Requested {
    id: B256,
    since: Instant,
    accepted_after: Duration,
}

/// What the client saw of a request.
pub(crate) struct Seen {
    /// In hexadecimal, without prefix.
    pub(crate) request_id: String,
    /// From the call to the SDK until the id came back, uploads included.
    accepted_after: Duration,
    /// From the call to the SDK until the proof was in hand, its polls every two seconds included.
    proof_after: Duration,
    /// The SDK's own verification; `None` for a mock proof, which has nothing to verify.
    verified_in: Option<Duration>,
    /// What the program said, for people.
    result: String,
    /// The proof.
    proof: SP1ProofWithPublicValues,
}

impl Seen {
    /// A few lines for people.
    pub(crate) fn report(&self) -> String {
        let verified = self.verified_in.map_or("not verified: a mock proof proves nothing".to_owned(), |time| {
            format!("verified by the SDK in {} ms", time.as_millis())
        });
        format!(
            "request        {}\nresult         {}; {verified}\n\
             client         accepted after {}, proof in hand after {} (the SDK polls every 2 s)",
            self.request_id,
            self.result,
            millis(Some(self.accepted_after)),
            millis(Some(self.proof_after)),
        )
    }
}

impl Client {
    /// A client of the network at `rpc_url`. Derives the program's keys, which takes a while.
    pub(crate) async fn new(config: &Config, rpc_url: &str) -> anyhow::Result<Self> {
        let mode = match config.network_mode {
            SdkMode::Reserved => NetworkMode::Reserved,
            SdkMode::Mainnet => NetworkMode::Mainnet,
        };
        let prover = ProverClient::builder().network_for(mode).rpc_url(rpc_url).private_key(PRIVATE_KEY).build().await;
        say("the client derives the program's keys");
        let key = set_up(&prover, FIBONACCI).await?;
        Ok(Self { prover, key, config: config.clone() })
    }

    /// Asks for a proof of Fibonacci numbers.
    pub(crate) async fn request(&self) -> anyhow::Result<Requested> {
        let mut stdin = SP1Stdin::new();
        stdin.write(&self.config.n);
        if self.config.mock && self.config.kill.is_some() {
            stdin.write_slice(SLOW_MOCK);
        }
        let mode = if self.config.aggregate { Mode::Compressed } else { self.config.mode };
        self.ask(&self.key, stdin, mode).await
    }

    /// Waits for the proof of Fibonacci numbers, and verifies it.
    pub(crate) async fn wait(&self, request: Requested) -> anyhow::Result<Seen> {
        self.receive(request, &self.key, |proof| {
            let mut values = proof.public_values.clone();
            let [n, a, b]: [u32; 3] = [values.read(), values.read(), values.read()];
            let expected = expected(self.config.n);
            ensure!([n, a, b] == expected, "the program said {:?}, not {expected:?}", [n, a, b]);
            Ok(format!("fibonacci {n}: {a}, then {b}"))
        })
        .await
    }

    /// Asks for a proof that the proofs `seen` verify, waits for it, and verifies it.
    pub(crate) async fn aggregate(&self, seen: &[Seen]) -> anyhow::Result<Seen> {
        let proofs: Vec<_> = seen.iter().map(|seen| seen.proof.clone()).collect();
        let stdin = aggregate::input(&proofs, &self.key)?;
        let key = set_up(&self.prover, aggregate::AGGREGATE).await?;
        let request = self.ask(&key, stdin, self.config.mode).await?;
        self.receive(request, &key, |proof| aggregate::check(proof.public_values.as_slice(), &proofs)).await
    }

    #[expect(clippy::disallowed_methods, reason = "a stopwatch")]
    async fn ask(&self, key: &SP1ProvingKey, stdin: SP1Stdin, mode: Mode) -> anyhow::Result<Requested> {
        let since = Instant::now();
        let request = self.prover.prove(key, stdin).mode(proof_mode(mode)).skip_simulation(true);
        let id = request.request().await.context("the request was not accepted")?;
        say(&format!("requested {id}"));
        Ok(Requested { id, since, accepted_after: since.elapsed() })
    }

    #[expect(clippy::disallowed_methods, reason = "a stopwatch")]
    async fn receive(
        &self,
        request: Requested,
        key: &SP1ProvingKey,
        check: impl FnOnce(&SP1ProofWithPublicValues) -> anyhow::Result<String>,
    ) -> anyhow::Result<Seen> {
        let Requested { id, since, accepted_after } = request;
        let proof = self.prover.wait_proof(id, Some(TIMEOUT), None).await.context("the proof did not come")?;
        let proof_after = since.elapsed();
        let verified_in = if self.config.mock {
            None
        } else {
            let start = Instant::now();
            self.prover.verify(&proof, key.verifying_key(), None).context("the proof does not verify")?;
            Some(start.elapsed())
        };
        let result = check(&proof)?;
        Ok(Seen { request_id: hex::encode(id), accepted_after, proof_after, verified_in, result, proof })
    }
}

async fn set_up(prover: &NetworkProver, elf: &'static [u8]) -> anyhow::Result<SP1ProvingKey> {
    prover.setup(Elf::Static(elf)).await.context("the SDK could not set the program up")
}

fn proof_mode(mode: Mode) -> SP1ProofMode {
    match mode {
        Mode::Core => SP1ProofMode::Core,
        Mode::Compressed => SP1ProofMode::Compressed,
        Mode::Plonk => SP1ProofMode::Plonk,
        Mode::Groth16 => SP1ProofMode::Groth16,
    }
}

/// What the program must say: the guest's own rule, worked out here.
fn expected(n: u32) -> [u32; 3] {
    let (a, b) = (0..n).fold((0, 1), |(a, b), _| (b, (a + b) % 7919));
    [n, a, b]
}
