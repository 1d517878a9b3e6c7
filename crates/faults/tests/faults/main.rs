//! Real programs that are ended, frozen and cut off, against a ledger of what was acknowledged.
//!
//! `cargo test -p faults` runs what takes seconds; `-- --include-ignored` runs everything. The programs must have been
//! built with the same profile. This binary is also the prover and the verifier child of the programs under test.

#![expect(clippy::print_stdout, reason = "figures and tables are what the long tests are run for")]
#![expect(clippy::future_not_send, reason = "each test has one thread, so that it costs the programs little")]

mod clocks;
mod disks;
mod ledger;
mod moves;
mod partitions;
mod points;
mod scenarios;
mod storm;

use std::{future::Future, process::ExitCode, time::Duration};

use clap::Parser;
use libtest_mimic::{Arguments, Completion, Trial};
use testbed::{needs::Need, prover, verifier};

/// How long something may take that takes a second or two.
const SOON: Duration = Duration::from_secs(20);

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
    let tests = [
        points::tests(),
        scenarios::tests(),
        partitions::tests(),
        moves::tests(),
        clocks::tests(),
        disks::tests(),
        storm::tests(),
    ];
    libtest_mimic::run(&arguments, tests.into_iter().flatten().collect()).exit_code()
}

/// A test that takes seconds.
fn short<F: Future<Output = anyhow::Result<()>>>(name: &str, test: impl FnOnce() -> F + Send + 'static) -> Trial {
    needing(&[], name, test)
}

/// A test that takes minutes: it runs when it is asked for.
fn long<F: Future<Output = anyhow::Result<()>>>(name: &str, test: impl FnOnce() -> F + Send + 'static) -> Trial {
    short(name, test).with_ignored_flag(true)
}

/// A test that takes seconds and needs something of the machine. Where that is missing it is skipped, which is said;
/// where `CI` is `true` it fails.
fn needing<F: Future<Output = anyhow::Result<()>>>(
    needs: &'static [Need],
    name: &str,
    test: impl FnOnce() -> F + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Some(missing) = needs.iter().find_map(|need| need.missing()) {
            return if std::env::var_os("CI").is_some_and(|value| value == "true") {
                Err(missing.into())
            } else {
                Ok(Completion::ignored_with(format!("SKIPPED, so this is NOT tested: {missing}")))
            };
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // The chain alone: a backtrace says nothing of the programs under test.
        runtime.block_on(test()).map_err(|error| format!("{error:#}"))?;
        Ok(Completion::Completed)
    })
}

/// A test that takes minutes and needs something of the machine.
fn long_needing<F: Future<Output = anyhow::Result<()>>>(
    needs: &'static [Need],
    name: &str,
    test: impl FnOnce() -> F + Send + 'static,
) -> Trial {
    needing(needs, name, test).with_ignored_flag(true)
}
