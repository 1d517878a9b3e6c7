//! What was acknowledged, kept apart from the programs, and what must therefore hold.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::{Context as _, bail, ensure};
use network_lib::{CircuitVersion, Digest, ProofMode};
use proving::mock;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use sp1_network_api::{artifact::ArtifactType, network::FulfillmentStatus};
use testbed::{
    client::{CIRCUIT_VERSION, Client, Place, Wanted, status_request},
    grpc::Frame,
    key::Key,
    network::Network,
    program::until,
    server::Endpoints,
};
use tokio::time::{sleep, timeout};

/// How long anything may take, faults included. An SDK goes on for 120 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long anything may take while one fault follows the other. A transfer gives a connection that went dead a minute,
/// and the next few may be dead too.
const LONG_PATIENCE: Duration = Duration::from_mins(10);

/// How long one call may take before it is made anew on a new connection.
const CALL: Duration = Duration::from_secs(5);

/// Between two calls, as when a coordinator is down.
const PAUSE: Duration = Duration::from_millis(25);

/// A client that calls again until it is answered, as SDKs do, and writes down what it was answered.
pub(crate) struct Ledger {
    endpoints: Endpoints,
    key: Key,
    client: Option<Client>,
    wanted: Option<Wanted>,
    entries: Vec<Entry>,
    patience: Duration,
}

/// A request whose id was answered.
struct Entry {
    frame: Frame,
    id: Vec<u8>,
    proof: Option<Digest>,
}

impl Ledger {
    /// An empty one, of a client of its own.
    pub(crate) fn new(network: &Network) -> Self {
        let endpoints = *network.endpoints();
        Self { endpoints, key: Key::random(), client: None, wanted: None, entries: Vec::new(), patience: PATIENCE }
    }

    /// The same, for times in which one fault follows the other.
    pub(crate) fn patient(self) -> Self {
        Self { patience: LONG_PATIENCE, ..self }
    }

    /// Looks for the coordinator where it is now.
    pub(crate) fn find(&mut self, network: &Network) {
        (self.endpoints, self.client) = (*network.endpoints(), None);
    }

    /// How many requests were accepted.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Makes a call until it succeeds.
    pub(crate) async fn call<T>(
        &mut self,
        what: &str,
        mut call: impl AsyncFnMut(&mut Client) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.poll(what, async |client: &mut Client| call(client).await.map(Some)).await
    }

    /// Asks until there is an answer; each failure begins a new connection.
    async fn poll<T>(
        &mut self,
        what: &str,
        mut ask: impl AsyncFnMut(&mut Client) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let mut last = None;
        let Self { endpoints, key, client, patience, .. } = self;
        let answered = until(what, *patience, async || {
            let attempt = async {
                if client.is_none() {
                    *client = Some(Client::connect(endpoints, *key).await?);
                }
                ask(client.as_mut().context("connected just now")?).await
            };
            match timeout(CALL, attempt).await {
                Ok(Ok(Some(answer))) => return Some(answer),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => (*client, last) = (None, Some(error)),
                Err(_) => *client = None,
            }
            sleep(PAUSE).await;
            None
        });
        match (answered.await, last) {
            (Err(late), Some(error)) => Err(error.context(late)),
            (answered, _) => answered,
        }
    }

    /// Uploads and registers a program and uploads an input: what every request of this ledger names.
    pub(crate) async fn prepare(&mut self) -> anyhow::Result<()> {
        let elf = [b"\x7fELF".as_slice(), &[0x5a; 4096]].concat();
        let encoded = [&(elf.len() as u64).to_le_bytes(), elf.as_slice()].concat();
        let program = self.upload(ArtifactType::Program, &encoded).await?;
        let vk = rand::random::<[u8; 32]>().repeat(8);
        let register = async |client: &mut Client| client.register(vk.clone(), program.clone()).await;
        let vk_hash = self.call("the program is registered", register).await?;
        // Several pieces on the way to the disk.
        let stdin_uri = self.upload(ArtifactType::Stdin, &vec![0x5a; 1_300_000]).await?;
        self.wanted = Some(Wanted { vk_hash, stdin_uri });
        Ok(())
    }

    /// Uploads an artifact; answers its URI.
    pub(crate) async fn upload(&mut self, kind: ArtifactType, bytes: &[u8]) -> anyhow::Result<String> {
        let place: Place =
            self.call("a place is given", async |client: &mut Client| client.create_artifact(kind).await).await?;
        self.call("an upload is taken", async |client: &mut Client| client.upload_to(&place, bytes).await).await?;
        Ok(place.uri)
    }

    /// Asks for a proof; answers its id, which is written down.
    pub(crate) async fn submit(&mut self) -> anyhow::Result<Vec<u8>> {
        self.submit_until(Duration::from_hours(1)).await
    }

    /// The same, with a deadline so far ahead.
    pub(crate) async fn submit_until(&mut self, deadline: Duration) -> anyhow::Result<Vec<u8>> {
        let wanted = self.wanted.as_ref().context("nothing is prepared")?;
        let frame = wanted.request_until(&self.key, self.entries.len(), deadline);
        let id = self.send(&frame).await?;
        self.entries.push(Entry { frame, id: id.clone(), proof: None });
        Ok(id)
    }

    async fn send(&mut self, frame: &Frame) -> anyhow::Result<Vec<u8>> {
        let ask = async |client: &mut Client| client.request_proof(frame.clone()).await;
        self.call("a request is accepted", ask).await
    }

    /// Asks for everything again, with the same words: the answers must be the same ids.
    pub(crate) async fn submit_again(&mut self) -> anyhow::Result<()> {
        for number in 0..self.entries.len() {
            let (frame, id) = (self.entries[number].frame.clone(), self.entries[number].id.clone());
            ensure!(self.send(&frame).await? == id, "request {number} has two ids");
        }
        Ok(())
    }

    /// The id of a request, in the order of submission.
    pub(crate) fn id(&self, number: usize) -> Vec<u8> {
        self.entries[number].id.clone()
    }

    /// Gives a request up.
    pub(crate) async fn cancel(&mut self, id: &[u8]) -> anyhow::Result<()> {
        self.call("a request is cancelled", async |client: &mut Client| client.cancel(id).await).await
    }

    /// What is told of a request at `/requests/{id}`.
    pub(crate) async fn facts_of(&mut self, id: &[u8]) -> anyhow::Result<Value> {
        self.facts(&facts_path(id)).await
    }

    /// What is told at a path.
    pub(crate) async fn facts(&mut self, path: &str) -> anyhow::Result<Value> {
        self.call(path, async |client: &mut Client| client.facts(path).await).await
    }

    /// Waits until a request is in this state.
    pub(crate) async fn until_state(&mut self, id: &[u8], state: &str) -> anyhow::Result<()> {
        let path = facts_path(id);
        let ask = async |client: &mut Client| Ok((client.facts(&path).await?["state"] == state).then_some(()));
        self.poll(&format!("a request is {state}"), ask).await
    }

    /// Waits until every request of the ledger is fulfilled.
    pub(crate) async fn until_fulfilled(&mut self) -> anyhow::Result<()> {
        for number in 0..self.entries.len() {
            self.until_one_fulfilled(number).await?;
        }
        Ok(())
    }

    /// Waits until this request of the ledger is fulfilled.
    pub(crate) async fn until_one_fulfilled(&mut self, number: usize) -> anyhow::Result<()> {
        let question = status_request(&self.entries[number].id);
        let ask = async |client: &mut Client| match client.status(question.clone()).await? {
            FulfillmentStatus::Fulfilled => Ok(Some(Ok(()))),
            FulfillmentStatus::Unfulfillable => Ok(Some(Err(anyhow::anyhow!("request {number} was given up")))),
            _ => Ok(None),
        };
        self.poll("a request is fulfilled", ask).await?
    }

    /// Asks how far each request is: all must be known.
    pub(crate) async fn check_known(&mut self) -> anyhow::Result<()> {
        for number in 0..self.entries.len() {
            self.check_one_known(number).await?;
        }
        Ok(())
    }

    /// Asks how far this request is.
    pub(crate) async fn check_one_known(&mut self, number: usize) -> anyhow::Result<()> {
        let question = status_request(&self.entries[number].id);
        self.call("a request is known", async |client: &mut Client| client.status(question.clone()).await)
            .await
            .map(drop)
    }

    /// Downloads every proof and checks it: the seal, the program, and the same bytes as at any time before.
    pub(crate) async fn check_proofs(&mut self) -> anyhow::Result<()> {
        let vk_hash = *self.wanted.as_ref().context("nothing is prepared")?.vk_hash.as_bytes();
        for number in 0..self.entries.len() {
            let id = self.entries[number].id.clone();
            let proof = self.call("a proof is served", async |client: &mut Client| client.proof(&id).await).await?;
            let claim = mock::read_claim(&proof).with_context(|| format!("proof {number} has no seal"))?;
            ensure!(claim.vk_hash == vk_hash, "proof {number} is of another program");
            ensure!(claim.mode == ProofMode::Compressed, "proof {number} is of another mode");
            ensure!(claim.circuit_version == CircuitVersion::new(CIRCUIT_VERSION), "proof {number}: another circuit");
            let digest = Digest::of(&proof);
            let before = self.entries[number].proof.replace(digest);
            ensure!(before.is_none_or(|before| before == digest), "proof {number} has changed");
        }
        Ok(())
    }

    /// How many attempts all requests took together, and how many of those were lost.
    pub(crate) async fn attempts(&mut self) -> anyhow::Result<(u64, u64)> {
        let mut sums = (0, 0);
        for number in 0..self.entries.len() {
            let facts = self.facts_of(&self.id(number)).await?;
            sums.0 += facts["attempts"].as_u64().context("attempts")?;
            sums.1 += facts["lost_attempts"].as_u64().context("lost_attempts")?;
        }
        Ok(sums)
    }

    /// Waits until every worker is connected and idle.
    pub(crate) async fn until_idle(&mut self, workers: usize) -> anyhow::Result<()> {
        let ask = async |client: &mut Client| {
            let facts = client.facts("/contemplants").await?;
            let all = facts.as_array().context("a list")?;
            let busy = |worker: &&Value| {
                worker["connected"] != true || worker["current_proofs"].as_array().is_none_or(|now| !now.is_empty())
            };
            ensure!(all.len() == workers, "{} workers, not {workers}", all.len());
            match all.iter().find(busy) {
                Some(worker) => bail!("a worker is not idle: {worker}"),
                None => Ok(()),
            }
        };
        self.call("all workers are idle", ask).await
    }

    /// Waits until so many provers are ready for work.
    pub(crate) async fn until_ready(&mut self, provers: usize) -> anyhow::Result<()> {
        let ask = async |client: &mut Client| {
            let facts = client.facts("/contemplants").await?;
            let workers = facts.as_array().context("a list")?;
            let all = workers.iter().filter_map(|worker| worker["provers"].as_array()).flatten();
            let is_ready = |prover: &&Value| prover["modes"].as_array().is_some_and(|modes| !modes.is_empty());
            Ok((all.filter(is_ready).count() == provers).then_some(()))
        };
        self.poll(&format!("{provers} provers are ready"), ask).await
    }

    /// Waits until the worker of this name is connected, or is not.
    pub(crate) async fn until_connected(&mut self, name: &str, is_connected: bool) -> anyhow::Result<()> {
        let ask = async |client: &mut Client| {
            let facts = client.facts("/contemplants").await?;
            let all = facts.as_array().context("a list")?;
            Ok(all.iter().any(|worker| worker["name"] == name && worker["connected"] == is_connected).then_some(()))
        };
        self.poll(&format!("{name} is {}connected", if is_connected { "" } else { "not " }), ask).await
    }

    /// All that must hold when everything runs again and every request should have its proof.
    pub(crate) async fn check(&mut self, network: &Network) -> anyhow::Result<()> {
        self.until_fulfilled().await?;
        self.check_proofs().await?;
        self.check_proofs().await?;
        self.until_idle(network.contemplants.len()).await?;
        check_order(network, 1).await
    }
}

/// What must hold of the directories when nothing is under way, after so many crashes of the coordinator.
pub(crate) async fn check_order(network: &Network, crashes: usize) -> anyhow::Result<()> {
    let data = network.data();
    until("no upload is under way", PATIENCE, async || is_empty(&data.join("artifacts/incoming")).then_some(()))
        .await?;
    for number in 0..network.contemplants.len() {
        let journal = network.worker_state(number).join("attempts");
        until("a worker's journal is empty", PATIENCE, async || is_empty(&journal).then_some(())).await?;
    }
    // Young ones stay for an hour, since whoever brought them may bring them again. One crash leaves one at most.
    let mut unknown = 0;
    let tidy = until("there are no files without rows", PATIENCE, async || {
        let (rows, files) = (rows(&data).ok()?, files(&data.join("artifacts")).ok()?);
        unknown = files.difference(&rows).count();
        (unknown <= crashes).then(|| rows.difference(&files).cloned().collect::<Vec<_>>())
    });
    let lost = tidy.await;
    ensure!(
        lost.as_ref().is_ok_and(Vec::is_empty),
        "{unknown} files without rows; rows without files: {:?}",
        lost.ok()
    );
    network.require_no_panic()
}

fn facts_path(id: &[u8]) -> String {
    format!("/requests/{}", hex::encode(id))
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

/// A connection that only reads.
pub(crate) fn database(data: &Path) -> anyhow::Result<Connection> {
    Ok(Connection::open_with_flags(data.join("hierophant.sqlite"), OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

fn rows(data: &Path) -> anyhow::Result<BTreeSet<String>> {
    // A disk of one's own is seen through a link, which SQLite follows to where the disk is not: a copy tells as much.
    let copy = tempfile::tempdir()?;
    let is_elsewhere = data.starts_with("/proc");
    if is_elsewhere {
        for name in ["hierophant.sqlite", "hierophant.sqlite-wal"] {
            fs::copy(data.join(name), copy.path().join(name))?;
        }
    }
    let connection = database(if is_elsewhere { copy.path() } else { data })?;
    let mut statement = connection.prepare("SELECT id FROM artifacts")?;
    Ok(statement.query_map((), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

fn files(artifacts: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for kind in fs::read_dir(artifacts)? {
        for file in fs::read_dir(kind?.path())? {
            files.insert(file?.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(files)
}
