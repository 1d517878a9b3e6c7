//! A whole worker against a coordinator over real sockets, with a prover child that does what its input says.
//!
//! This binary is also that child, which is why it has a `main` of its own.

#![expect(clippy::unwrap_used, reason = "a test, though without the harness that clippy knows tests by")]

use std::{fmt::Write as _, future::Future, pin::Pin, process::ExitCode, time::Duration};

use proving::{child, testing::ScriptedProver};

mod coordinator;
mod scenarios;

/// Far longer than any scenario takes.
const LIMIT: Duration = Duration::from_mins(1);

type Scenario = fn() -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! scenarios {
    ($($name:ident,)*) => { [$((stringify!($name), (|| Box::pin(scenarios::$name())) as Scenario)),*] };
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args == ["prover-child"] {
        return serve();
    }
    let scenarios = scenarios![
        a_proof_is_made_delivered_and_deleted_when_it_is_stored,
        a_proof_is_offered_again_when_the_session_broke_before_it_was_stored,
        a_restarted_worker_offers_its_proof_byte_for_byte,
        a_restarted_worker_proves_what_it_had_begun,
        a_proof_that_is_made_without_a_coordinator_is_delivered_later,
        a_download_goes_on_where_the_connection_was_cut,
        an_input_that_is_not_the_one_that_was_announced_ends_the_attempt,
        an_artifact_that_is_not_there_is_nobodys_fault_and_told_with_the_servers_words,
        a_fetch_outlasts_the_troubles_of_its_server,
        an_attempt_that_is_assigned_twice_is_proved_once,
        a_failed_attempt_is_told_with_its_fault_and_forgotten,
        a_cancelled_attempt_makes_room_for_the_next,
        a_frozen_prover_is_replaced_when_its_attempt_is_cancelled_and_the_session_goes_on,
        limits_of_a_prover_end_the_attempt_and_name_the_setting,
        what_a_hint_speaks_of_is_fetched_while_the_prover_works_and_not_again_when_it_is_assigned,
        an_input_that_no_hint_speaks_of_any_more_is_removed,
        a_hint_that_cannot_be_followed_leaves_nothing_and_harms_nothing,
        a_program_is_hashed_and_fetched_once,
        an_upload_is_tried_again_and_a_useless_address_replaced,
        an_upload_that_is_cut_again_and_again_sends_each_byte_once,
        an_upload_goes_on_after_the_worker_was_restarted,
        an_upload_begins_anew_once_when_what_was_there_is_damaged,
        a_proof_that_was_damaged_on_the_workers_disk_fails_its_attempt,
        a_prover_that_is_not_ready_is_listed_and_can_prove_nothing,
        the_token_goes_with_every_request_to_the_coordinator,
        a_silent_coordinator_is_left_and_dialled_again,
        an_oversized_frame_ends_the_session_and_not_the_worker,
        an_eviction_for_the_version_ends_the_worker_and_another_one_does_not,
        a_stopped_worker_says_so_and_keeps_what_it_has_in_hand,
        a_draining_worker_ends_when_its_proof_is_stored,
        a_dial_that_fails_says_why_and_what_to_do,
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
    for (name, scenario) in scenarios {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(*part)) {
            continue;
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(async {
            tokio::time::timeout(LIMIT, scenario()).await.unwrap_or_else(|_| panic!("{name} hangs"));
        });
        print(&format!("test {name} ... ok\n"));
    }
    ExitCode::SUCCESS
}

fn serve() -> ExitCode {
    let channel = child::Channel::take().expect("standard streams");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let served = runtime.block_on(child::serve_prover(channel, ScriptedProver::default()));
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "the report of a test run")]
fn print(text: &str) {
    print!("{text}");
}
