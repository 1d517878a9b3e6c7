//! `sdk-prover`: the CPU prover of the published `sp1-sdk`, as it is, for `bench prover` to compare ours with.
//!
//! Built only with the feature `sdk`, since it compiles SP1's provers once more, which takes minutes. It says `ready` and,
//! after each proof, `proved` on a line of its own, and ends when its standard input does: until then its memory can be
//! looked at.

use std::io::{self, Read as _, Write as _};

use anyhow::Context as _;
use clap::Parser;
use network_lib::ProofMode;
use sp1_sdk::{Elf, ProveRequest as _, Prover as _, ProverClient, ProvingKey as _, SP1ProofMode, SP1Stdin};

const FIBONACCI: &[u8] = include_bytes!("../../../programs/fibonacci/elf/fibonacci");

/// Proves with the SDK's own prover. Not for people: `bench prover` starts it.
#[derive(Debug, Parser)]
struct Args {
    /// The form of the proofs.
    mode: ProofMode,
    /// How many, one after the other.
    proofs: usize,
    /// Which Fibonacci number.
    n: u32,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(prove(&Args::parse()))
}

async fn prove(args: &Args) -> anyhow::Result<()> {
    let mode = match args.mode {
        ProofMode::Core => SP1ProofMode::Core,
        ProofMode::Compressed => SP1ProofMode::Compressed,
        ProofMode::Plonk => SP1ProofMode::Plonk,
        ProofMode::Groth16 => SP1ProofMode::Groth16,
    };
    let prover = ProverClient::builder().cpu().build().await;
    say("ready")?;
    let key = prover.setup(Elf::Static(FIBONACCI)).await.context("the SDK could not set the program up")?;
    for _ in 0..args.proofs {
        say("begun")?;
        let mut stdin = SP1Stdin::new();
        stdin.write(&args.n);
        let proof = prover.prove(&key, stdin).mode(mode).await.context("the SDK could not prove")?;
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
