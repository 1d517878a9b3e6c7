//! A GPU prover under its real supervisor, with a server that speaks the real frames and fails as it is told.
//!
//! This binary is also the prover child, and that server.

#![expect(clippy::unwrap_used, reason = "a test, though without the harness that clippy knows tests by")]

use std::{
    fmt::Write as _,
    future::Future,
    path::Path,
    pin::Pin,
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

mod bench;
mod child;
mod fake;
mod scenarios;

/// A real core proof of fibonacci(20), and its verifying key.
const PROOF: &[u8] = include_bytes!("../../../tests/fixtures/fibonacci-20.core.proof");
const KEY: &[u8] = include_bytes!("../../../tests/fixtures/fibonacci.vk");

/// Scenarios that run at the same time.
const LANES: usize = 4;

/// Far longer than any scenario takes.
const LIMIT: Duration = Duration::from_mins(2);

type Scenario = fn() -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! scenarios {
    ($($name:ident,)*) => { [$((stringify!($name), (|| Box::pin(scenarios::$name())) as Scenario)),*] };
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [command, folder, rest @ ..] if command == fake::COMMAND => return fake::run(Path::new(folder), rest),
        [command, folder, device, limit, has_spare] if command == child::COMMAND => {
            let limit = Duration::from_millis(limit.parse().unwrap());
            return child::run(Path::new(folder), device.parse().unwrap(), limit, has_spare.parse().unwrap());
        }
        _ => {}
    }
    let scenarios = scenarios![
        a_proof_is_made_and_the_program_stays_set_up,
        the_oldest_program_is_forgotten_when_there_are_many,
        a_hung_server_fails_its_proof_and_is_replaced,
        a_slow_server_that_gives_signs_of_life_is_waited_for,
        a_crashed_server_fails_its_proof_with_its_last_words,
        a_killed_server_is_a_fault_of_resources,
        a_server_that_sends_garbage_is_replaced,
        a_server_that_stops_in_the_middle_of_a_frame_is_replaced,
        a_server_that_closes_its_connection_is_replaced,
        a_refusal_is_told_with_the_cause_that_only_the_log_knows,
        a_device_out_of_memory_is_a_fault_of_resources,
        a_panic_of_the_server_is_heard_though_it_never_answers,
        a_proof_that_does_not_verify_is_not_delivered,
        an_answer_to_something_else_is_no_proof,
        a_guests_fault_never_reaches_the_server,
        a_program_under_another_key_is_the_guests_fault,
        a_wrong_key_from_the_server_is_not_the_guests_fault,
        an_answer_that_nobody_asked_for_ends_the_server,
        a_server_that_ends_at_rest_is_replaced,
        a_cancelled_proof_takes_the_server_along,
        an_execution_that_is_cancelled_leaves_the_server_up,
        a_program_that_takes_long_is_executed_beside_its_proof,
        a_guest_that_fails_late_is_at_fault_whatever_the_server_says,
        a_server_that_says_nothing_while_it_builds_its_prover_is_waited_for,
        a_killed_server_that_takes_long_to_be_gone_is_one_that_was_killed,
        a_stopped_prover_takes_the_server_along,
        a_server_of_another_version_is_refused_with_the_remedy,
        a_server_that_does_not_say_its_version_is_refused_with_the_remedy,
        a_server_that_cannot_run_is_refused_with_its_words,
        a_device_that_is_not_good_enough_is_never_offered,
        a_server_that_derives_other_keys_is_refused,
        a_server_that_never_listens_is_given_up,
        a_socket_that_was_left_behind_is_removed,
        a_socket_that_outlives_its_server_is_removed,
        a_server_whose_prover_is_gone_is_ended,
        a_spare_takes_over_on_the_same_device,
        a_server_that_someone_else_runs_is_left_alone,
        a_server_of_the_right_version_is_found,
        without_a_server_the_remedies_are_named,
        a_server_is_downloaded_where_that_is_allowed,
        a_download_with_another_digest_is_thrown_away,
    ];
    if args.iter().any(|arg| arg == "--list") {
        let mut list = String::new();
        for (name, _) in &scenarios {
            writeln!(list, "{name}: test").expect("a string takes anything");
        }
        print(&list);
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted: Vec<_> = scenarios
        .into_iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| name.contains(*part)))
        .collect();
    let next = AtomicUsize::new(0);
    let lane = || {
        while let Some((name, scenario)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            run(name, *scenario);
        }
    };
    // They wait more than they work.
    std::thread::scope(|scope| (0..LANES).for_each(|_| drop(scope.spawn(lane))));
    ExitCode::SUCCESS
}

/// Runs a scenario on a thread that bears its name, so that a panic tells it.
fn run(name: &'static str, scenario: Scenario) {
    let body = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(LIMIT, scenario()).await.unwrap_or_else(|_| panic!("{name} hangs"));
        });
    };
    let outcome = std::thread::Builder::new().name(name.to_owned()).spawn(body).unwrap().join();
    outcome.unwrap_or_else(|_| panic!("{name} failed"));
    print(&format!("test {name} ... ok\n"));
}

#[expect(clippy::print_stdout, reason = "the report of a test run")]
fn print(text: &str) {
    print!("{text}");
}
