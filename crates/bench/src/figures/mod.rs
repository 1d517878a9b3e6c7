//! The figures, one per file, and what they share.

mod assign;
mod bulk;
mod cancel;
mod complete;
mod fulfil;
mod gap;
mod heartbeat;
mod idle;
mod poll;
mod prover;
mod submit;
mod upload;

use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Command, Subcommand};
use sp1_network_api::artifact::ArtifactType;
use tokio::time::timeout;

use crate::{
    client::{Client, Wanted},
    key::Key,
    load::Bounds,
    report::{Figure, progress},
    server::{Bench, Server},
};

/// What no figure may exceed, but for that of real proofs.
const LONGEST: Duration = Duration::from_mins(10);

/// The figures.
#[derive(Debug, Subcommand)]
#[expect(clippy::doc_markdown, reason = "help texts, which show backticks as they are")]
pub(crate) enum Figures {
    /// RequestProof sent until an idle worker has the assignment.
    Assign(assign::Options),
    /// A worker says that it has a proof until the status says fulfilled.
    Fulfil(fulfil::Options),
    /// Requests completed by many workers at once, from RequestProof until the worker may delete its proof.
    Complete(complete::Options),
    /// RequestProof, durable and checked, from many clients at once.
    Submit(submit::Options),
    /// Status polls over many open requests.
    Poll(poll::Options),
    /// CreateArtifact, upload and RequestProof, from many clients at once.
    Upload(upload::Options),
    /// One very large artifact, up and down.
    Bulk(bulk::Options),
    /// What it costs when nothing happens, and how soon it serves.
    Idle(idle::Options),
    /// How long a prover idles between two proofs while requests wait.
    Gap(gap::Options),
    /// Whether a worker is heard of in time while its prover takes every processor.
    Heartbeat(heartbeat::Options),
    /// Our prover beside that of the published SDK: real proofs, half an hour and more on a processor.
    Prover(prover::Options),
    /// How soon a prover is free after a cancel, in each phase: real proofs, a quarter of an hour on a processor.
    Cancel(cancel::Options),
    /// All of them but those with real proofs, with their defaults.
    All,
}

impl Figures {
    /// The figures that are meant, one by one.
    pub(crate) fn into_each(self) -> Vec<Self> {
        match self {
            Self::All => vec![
                Self::Assign(defaults()),
                Self::Fulfil(defaults()),
                Self::Complete(defaults()),
                Self::Submit(defaults()),
                Self::Poll(defaults()),
                Self::Poll(defaults::<poll::Options>().with_new_connections()),
                Self::Upload(defaults()),
                Self::Bulk(defaults()),
                Self::Idle(defaults()),
                Self::Gap(defaults()),
                Self::Heartbeat(defaults()),
            ],
            one => vec![one],
        }
    }

    /// Measures one figure.
    pub(crate) async fn measure(&self, bench: &Bench) -> anyhow::Result<Figure> {
        let longest = if matches!(self, Self::Prover(_) | Self::Cancel(_)) { prover::LONGEST } else { LONGEST };
        let figure = async {
            match self {
                Self::Assign(options) => assign::measure(bench, options).await,
                Self::Fulfil(options) => fulfil::measure(bench, options).await,
                Self::Complete(options) => Box::pin(complete::measure(bench, options)).await,
                Self::Submit(options) => submit::measure(bench, options).await,
                Self::Poll(options) => poll::measure(bench, options).await,
                Self::Upload(options) => upload::measure(bench, options).await,
                Self::Bulk(options) => bulk::measure(bench, options).await,
                Self::Idle(options) => idle::measure(bench, options).await,
                Self::Gap(options) => gap::measure(bench, options).await,
                Self::Heartbeat(options) => heartbeat::measure(bench, options).await,
                Self::Prover(options) => prover::measure(bench, options).await,
                Self::Cancel(options) => cancel::measure(bench, options).await,
                Self::All => anyhow::bail!("all of them are not one"),
            }
        };
        progress(&format!("measuring {} …", self.name()));
        timeout(longest, figure).await.context("the figure took too long").flatten().context(self.name())
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Assign(_) => "assign",
            Self::Fulfil(_) => "fulfil",
            Self::Complete(_) => "complete",
            Self::Submit(_) => "submit",
            Self::Poll(_) => "poll",
            Self::Upload(_) => "upload",
            Self::Bulk(_) => "bulk",
            Self::Idle(_) => "idle",
            Self::Gap(_) => "gap",
            Self::Heartbeat(_) => "heartbeat",
            Self::Prover(_) => "prover",
            Self::Cancel(_) => "cancel",
            Self::All => "all",
        }
    }
}

/// What the command line gives when it says nothing.
fn defaults<A: Args>() -> A {
    let matches = A::augment_args(Command::new("defaults")).get_matches_from(["defaults"]);
    A::from_arg_matches(&matches).expect("every option has a default")
}

fn bounds(count: usize, seconds: u64) -> Bounds {
    Bounds { count, time: Duration::from_secs(seconds) }
}

/// A client, a program that it registered and an input that it uploaded.
async fn prepare(server: &Server) -> anyhow::Result<(Client, Wanted)> {
    let mut client = Client::connect(server.endpoints(), Key::random()).await?;
    let vk_hash = client.register_program().await.context("the program could not be registered")?;
    let stdin_uri = client.upload(ArtifactType::Stdin, &[0x5a; 100], 1).await?;
    Ok((client, Wanted { vk_hash, stdin_uri }))
}

/// So many more clients with the same key.
async fn more_clients(server: &Server, key: Key, count: usize) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(Client::connect(server.endpoints(), key).await?);
    }
    Ok(clients)
}

/// Sorts, and answers what is in the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
