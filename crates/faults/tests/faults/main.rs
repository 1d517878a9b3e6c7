//! Real programs that are ended, frozen and cut off, against a ledger of what was acknowledged.
//!
//! `cargo test -p faults` runs what takes seconds; `-- --include-ignored` runs everything. The programs must have been
//! built with the same profile. This binary is also the prover and the verifier child of the programs under test.

#![expect(clippy::print_stdout, reason = "figures and tables are what the long tests are run for")]
#![expect(clippy::future_not_send, reason = "each test has one thread, so that it costs the programs little")]

mod ledger;
mod points;
mod scenarios;
mod storm;

use std::{future::Future, process::ExitCode};

use clap::Parser;
use libtest_mimic::{Arguments, Trial};
use testbed::{prover, verifier};

/// What the programs under test start this binary with.
#[derive(Debug, Parser)]
enum Child {
    /// Serves verification.
    Verifier,
    /// Proves.
    Prover(prover::Options),
}

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|first| first == "prover" || first == "verifier") {
        return match Child::parse() {
            Child::Verifier => verifier::run(),
            Child::Prover(options) => prover::run(&options),
        };
    }
    let mut arguments = Arguments::from_args();
    // Each test has several programs; together they would measure each other.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let tests = [points::tests(), scenarios::tests(), storm::tests()].into_iter().flatten().collect();
    libtest_mimic::run(&arguments, tests).exit_code()
}

/// A test that takes seconds.
fn short<F: Future<Output = anyhow::Result<()>>>(name: &str, test: impl FnOnce() -> F + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // The chain alone: a backtrace says nothing of the programs under test.
        runtime.block_on(test()).map_err(|error| format!("{error:#}").into())
    })
}

/// A test that takes minutes: it runs when it is asked for.
fn long<F: Future<Output = anyhow::Result<()>>>(name: &str, test: impl FnOnce() -> F + Send + 'static) -> Trial {
    short(name, test).with_ignored_flag(true)
}
