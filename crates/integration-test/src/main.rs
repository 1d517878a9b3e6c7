//! The main promise end to end: a real coordinator, a real worker, and a client that is nothing but `sp1-sdk`.
//!
//! Starts both programs in a temporary directory, asks for proofs of `programs/fibonacci`, verifies them with the SDK,
//! prints where the time went, and leaves nothing running.

mod aggregate;
mod client;
mod config;
mod network;
mod progress;
mod timeline;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    client::{Client, Seen},
    config::{Args, Config},
    network::Network,
};

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("warn").init();
    let outcome = Args::parse().load().and_then(|config| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(run(config))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("integration-test failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    if let Some(rpc_url) = &config.rpc_url {
        for seen in interruptible(prove(&config, rpc_url)).await? {
            say(&seen.report());
        }
        return Ok(());
    }
    let mut network = interruptible(Network::start(&config)).await?;
    let outcome = interruptible(prove_and_tell(&config, &mut network)).await;
    if let Err(error) = &outcome {
        say(&format!("{error:#}\n{}", network.last_words()));
    } else if config.keep {
        say(&network.invitation(&config));
        tokio::signal::ctrl_c().await?;
    }
    network.stop().await?;
    outcome
}

/// The outcome of `work`, unless the person at the terminal interrupts it.
async fn interruptible<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
    }
}

/// Asks for all proofs at once, and waits for each.
async fn prove(config: &Config, rpc_url: &str) -> anyhow::Result<Vec<Seen>> {
    let client = Client::new(config, rpc_url).await?;
    let mut requests = Vec::new();
    for _ in 0..config.requests {
        requests.push(client.request().await?);
    }
    let mut seen = Vec::new();
    for request in requests {
        seen.push(client.wait(request).await?);
    }
    if config.aggregate {
        seen.push(client.aggregate(&seen).await?);
    }
    Ok(seen)
}

async fn prove_and_tell(config: &Config, network: &mut Network) -> anyhow::Result<()> {
    let rpc_url = network.rpc_url();
    let seen = tokio::select! {
        seen = prove(config, &rpc_url) => seen?,
        failed = network.accompany(config.kill) => return failed,
    };
    for seen in seen {
        let timeline = network.timeline(&seen.request_id).await?;
        say(&timeline.report(&seen));
        if config.kill.is_some() {
            timeline.require_one_attempt()?;
        }
    }
    Ok(())
}

/// Tells the person at the terminal.
#[expect(clippy::print_stdout, reason = "this program's output is for people")]
fn say(text: &str) {
    println!("{text}");
}
