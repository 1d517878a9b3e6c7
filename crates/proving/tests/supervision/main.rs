//! Supervision of real child processes. This binary is also the child: run with `child NAME` it serves frames.

#![expect(clippy::unwrap_used, reason = "a test, though without the harness that clippy knows tests by")]

use std::{fmt::Write as _, future::Future, pin::Pin, process::ExitCode, time::Duration};

type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// No wait here may take longer; a test that does has hung.
const PATIENCE: Duration = Duration::from_mins(1);

macro_rules! tests {
    ($($name:ident,)*) => { [$((stringify!($name), || Box::pin($name()))),*] };
}

mod bench;
mod child;
mod limits;
mod provers;
mod verifiers;

/// All of them, in the order in which they run.
fn tests() -> impl Iterator<Item = &'static Test> {
    [provers::TESTS, limits::TESTS, verifiers::TESTS].into_iter().flatten()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, name] = args.as_slice()
        && mode == "child"
    {
        return child::serve(name);
    }
    if args.iter().any(|arg| arg == "--list") {
        let list = tests().fold(String::new(), |mut list, (name, _)| {
            writeln!(list, "{name}: test").expect("a string takes anything");
            list
        });
        print(&list);
        return ExitCode::SUCCESS;
    }
    let filter: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let chosen = tests().filter(|(name, _)| filter.is_empty() || filter.iter().any(|part| name.contains(*part)));
    for (name, test) in chosen {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, test()).await.unwrap_or_else(|_| panic!("{name} hangs"));
        });
        print(&format!("test {name} ... ok\n"));
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "the report of a test run")]
fn print(text: &str) {
    print!("{text}");
}
