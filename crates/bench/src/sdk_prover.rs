//! `sdk-prover`: the provers of the published `sp1-sdk`, as they are, for `bench prover` to compare ours with.
//!
//! Built only with the feature `sdk`, since it compiles SP1's provers once more, which takes minutes. It says `ready` and,
//! after each proof, `proved` on a line of its own, and ends when its standard input does: until then its memory can be
//! looked at.

use std::io::{self, Read as _, Write as _};

use anyhow::{Context as _, anyhow, bail};
use clap::Parser;
use network_lib::{Backend, ProofMode};
use sp1_sdk::{Elf, ProveRequest as _, Prover, ProverClient, ProvingKey as _, SP1ProofMode, SP1Stdin};

const FIBONACCI: Elf = Elf::Static(include_bytes!("../../../programs/fibonacci/elf/fibonacci"));

/// Proves with the SDK's own prover. Not for people: `bench prover` starts it.
#[derive(Debug, Parser)]
struct Args {
    /// What makes them: cpu or gpu. The SDK runs the GPU server in ~/.sp1/bin.
    backend: Backend,
    /// The form of the proofs.
    mode: ProofMode,
    /// How many, one after the other.
    proofs: usize,
    /// Which Fibonacci number.
    n: u32,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&Args::parse()))
}

async fn run(args: &Args) -> anyhow::Result<()> {
    match args.backend {
        Backend::Cpu => {
            let prover = ProverClient::builder().cpu().build().await;
            say("ready")?;
            prove(prover, args).await
        }
        Backend::Gpu => {
            let prover = ProverClient::builder().cuda().build().await;
            // The server builds its prover for the first program that it sees.
            prover.setup(FIBONACCI).await.context("the SDK could not set the program up")?;
            say("ready")?;
            prove(prover, args).await
        }
        Backend::Mock => bail!("a mock prover is no measure"),
    }
}

async fn prove<P: Prover>(prover: P, args: &Args) -> anyhow::Result<()> {
    let mode = match args.mode {
        ProofMode::Core => SP1ProofMode::Core,
        ProofMode::Compressed => SP1ProofMode::Compressed,
        ProofMode::Plonk => SP1ProofMode::Plonk,
        ProofMode::Groth16 => SP1ProofMode::Groth16,
    };
    let key =
        prover.setup(FIBONACCI).await.map_err(|error| anyhow!("the SDK could not set the program up: {error}"))?;
    for _ in 0..args.proofs {
        say("begun")?;
        let mut stdin = SP1Stdin::new();
        stdin.write(&args.n);
        let proof = prover.prove(&key, stdin).mode(mode).await;
        let proof = proof.map_err(|error| anyhow!("the SDK could not prove: {error}"))?;
        say("proved")?;
        prover.verify(&proof, key.verifying_key(), None).context("the SDK's proof does not verify")?;
    }
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Says it at once, on a line of its own.
fn say(word: &str) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{word}")?;
    out.flush()
}
