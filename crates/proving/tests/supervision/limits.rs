//! What ends an attempt from outside: cancels, and limits of time and memory.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use network_lib::FaultClass;
use proving::{ChildCommand, ProverReport, ProverSettings};
use tempfile::TempDir;

use crate::{
    Test,
    bench::{Bench, child, contents, id, is_gone, ready_line, settings, shell},
};

pub(crate) const TESTS: &[Test] = &tests![
    a_child_that_hears_no_cancel_is_ended_after_the_grace,
    a_prover_is_free_five_seconds_after_a_cancel_whatever_it_does_and_wherever_it_is,
    a_child_that_never_stops_talking_is_ended_after_the_grace,
    a_cancelled_child_leaves_no_shared_memory,
    an_attempt_that_takes_too_long_ends_and_names_the_limit,
    an_attempt_that_takes_too_much_memory_ends_and_names_the_limit,
    memory_of_the_whole_group_counts,
    a_polite_cancel_frees_the_child_without_a_restart,
    a_child_that_cannot_drop_its_work_ends_when_cancelled,
    a_child_that_ignores_a_cancel_is_killed_after_the_grace,
    a_spare_takes_over_at_once_and_has_a_successor,
    a_spare_that_still_starts_takes_the_place_of_one_that_ended,
    a_spare_that_does_not_come_up_is_tried_again_and_disturbs_nobody,
    stopping_ends_the_spare_too,
    nothing_is_reported_after_a_cancel,
    reports_that_nobody_reads_do_not_block_a_cancel,
];

async fn a_child_that_hears_no_cancel_is_ended_after_the_grace() {
    let settings = ProverSettings { cancel_grace: Duration::from_millis(50), ..settings() };
    let mut bench = Bench::ready(child("droppable"), settings).await;
    let own = bench.path("own");
    bench.prover.prove(bench.order(1, &format!("deaf\nmark {}\nhang", own.display()))).await.unwrap();
    let pid = contents(&own).await;
    bench.prover.cancel(id(1)).await.unwrap();
    is_gone(&pid).await;
    assert_eq!(bench.is_unavailable().await, "it did not stop when its attempt was cancelled");
    bench.is_ready().await;
    bench.proves(2).await;
    bench.end().await;
}

async fn a_prover_is_free_five_seconds_after_a_cancel_whatever_it_does_and_wherever_it_is() {
    let case = async |phase: &str, ill: &str| {
        // The settings are those that a worker uses.
        let bench = Bench::ready(child("droppable"), ProverSettings::default()).await;
        let mark = bench.path("mark");
        let script = format!("phase {phase}\nmark {}\n{ill}\nprogress 1 1\nhang", mark.display());
        bench.prover.prove(bench.order(1, &script)).await.unwrap();
        let pid = contents(&mark).await;
        let freed = tokio::time::timeout(Duration::from_secs(5), bench.prover.cancel(id(1))).await;
        freed.unwrap_or_else(|_| panic!("{ill} while {phase}")).unwrap();
        if ill != "hang" {
            is_gone(&pid).await;
        }
        bench.end().await;
    };
    tokio::join!(
        case("executing", "freeze"),
        case("executing", "deaf"),
        case("proving", "freeze"),
        case("proving", "spin"),
        case("proving", "hang"),
        case("finishing", "freeze"),
        case("finishing", "deaf"),
    );
    // One that never comes up has nothing in hand.
    let starting = Bench::start(shell("sleep 1000"), ProverSettings::default());
    starting.prover.cancel(id(1)).await.unwrap();
    starting.end().await;
}

async fn a_child_that_never_stops_talking_is_ended_after_the_grace() {
    let progress = r#"{"type":"progress","attempt":"01010101010101010101010101010101","progress":{"phase":"proving","done":1,"total":3}}"#;
    let script = format!("echo '{}'; read order; while true; do echo '{progress}'; done", ready_line());
    let settings = ProverSettings { cancel_grace: Duration::from_millis(50), ..settings() };
    let mut bench = Bench::ready(shell(&script), settings).await;
    bench.prover.prove(bench.order(1, "")).await.unwrap();
    bench.next().await;
    bench.prover.cancel(id(1)).await.unwrap();
    bench.end().await;
}

async fn a_cancelled_child_leaves_no_shared_memory() {
    for ill in ["spin", "freeze"] {
        let database = PathBuf::from(format!("/dev/shm/sp1_test_{}_{ill}", std::process::id()));
        let mapped = PathBuf::from(format!("{}-shm", database.display()));
        let env = vec![("MAPPED".into(), database.clone().into())];
        let settings = ProverSettings { cancel_grace: Duration::from_millis(50), ..settings() };
        let mut bench = Bench::ready(ChildCommand { env, ..child("mapping") }, settings).await;
        let mark = bench.path("mark");
        assert!(mapped.exists());
        bench.prover.prove(bench.order(1, &format!("mark {}\n{ill}", mark.display()))).await.unwrap();
        contents(&mark).await;
        bench.prover.cancel(id(1)).await.unwrap();
        bench.is_unavailable().await;
        let is_left = mapped.exists();
        bench.end().await;
        for path in [database.clone(), mapped, PathBuf::from(format!("{}-wal", database.display()))] {
            std::fs::remove_file(path).ok();
        }
        assert!(!is_left, "left behind by {ill}");
    }
}

async fn an_attempt_that_takes_too_long_ends_and_names_the_limit() {
    let settings = ProverSettings { time_limit: Some(Duration::from_millis(100)), ..settings() };
    let mut bench = Bench::ready(child("prover"), settings).await;
    for ill in ["spin", "freeze"] {
        let offspring = bench.path(ill);
        bench.prover.prove(bench.order(1, &format!("offspring {}\n{ill}", offspring.display()))).await.unwrap();
        let (class, cause) = bench.has_failed(1).await;
        assert_eq!((class, cause.as_str()), (FaultClass::Resources, "it was not done after 100ms, its time_limit"));
        is_gone(&contents(&offspring).await).await;
        bench.is_unavailable().await;
        bench.is_ready().await;
    }
    // The limit is on attempts: a prover may wait for one as long as it likes.
    tokio::time::sleep(Duration::from_millis(150)).await;
    bench.proves(2).await;
    bench.end().await;
}

async fn an_attempt_that_takes_too_much_memory_ends_and_names_the_limit() {
    let settings = ProverSettings { memory_limit: Some(256 << 20), ..settings() };
    let mut bench = Bench::ready(child("prover"), settings).await;
    bench.prover.prove(bench.order(1, "memory 400MiB\nspin")).await.unwrap();
    let (class, cause) = bench.has_failed(1).await;
    assert_eq!(class, FaultClass::Resources);
    assert!(cause.ends_with("more than its memory_limit of 256.0 MiB"), "{cause}");
    bench.is_unavailable().await;
    bench.is_ready().await;
    bench.prover.prove(bench.order(2, "memory 100MiB\nwork 600ms")).await.unwrap();
    while !matches!(bench.next().await, ProverReport::Proved { .. }) {}
    bench.end().await;
}

async fn memory_of_the_whole_group_counts() {
    // Each of these is within the limit on its own: `tail` holds on to its input until that ends.
    let holds = "(head -c 40000000 /dev/zero; sleep 1000) | tail -c 40000000 >/dev/null &";
    let script = format!("echo '{}'; read order; {holds} {holds} {holds} wait", ready_line());
    let settings = ProverSettings { memory_limit: Some(100_000_000), ..settings() };
    let mut bench = Bench::ready(shell(&script), settings).await;
    bench.prover.prove(bench.order(1, "")).await.unwrap();
    assert_eq!(bench.has_failed(1).await.0, FaultClass::Resources);
    bench.end().await;
}

async fn a_polite_cancel_frees_the_child_without_a_restart() {
    let mut bench = Bench::ready(child("droppable"), settings()).await;
    let own = bench.path("own");
    bench.prover.prove(bench.order(1, &format!("mark {}\nhang", own.display()))).await.unwrap();
    let pid = contents(&own).await;
    bench.prover.cancel(id(1)).await.unwrap();
    let again = bench.path("again");
    bench.prover.prove(bench.order(2, &format!("mark {}\nprove 1", again.display()))).await.unwrap();
    assert!(matches!(bench.next().await, ProverReport::Proved { attempt, .. } if attempt == id(2)));
    assert_eq!(contents(&again).await, pid, "the same process");
    bench.end().await;
}

async fn a_child_that_cannot_drop_its_work_ends_when_cancelled() {
    let grace = Duration::from_hours(1); // it must not come to that
    let mut bench = Bench::ready(child("prover"), ProverSettings { cancel_grace: grace, ..settings() }).await;
    let (own, offspring) = (bench.path("own"), bench.path("offspring"));
    let script = format!("offspring {}\nmark {}\nspin", offspring.display(), own.display());
    bench.prover.prove(bench.order(1, &script)).await.unwrap();
    let pid = contents(&own).await;
    bench.prover.cancel(id(1)).await.unwrap();
    is_gone(&pid).await;
    is_gone(&contents(&offspring).await).await;
    assert_eq!(bench.is_unavailable().await, "it ended with its cancelled attempt");
    bench.is_ready().await;
    bench.proves(2).await;
    bench.end().await;
}

async fn a_child_that_ignores_a_cancel_is_killed_after_the_grace() {
    let grace = Duration::from_millis(50);
    let folder = TempDir::new().unwrap();
    let pid_file = folder.path().join("pid");
    let script = format!("echo $$ > {}; echo '{}'; while true; do sleep 1000; done", pid_file.display(), ready_line());
    let mut bench = Bench::ready(shell(&script), ProverSettings { cancel_grace: grace, ..settings() }).await;
    let pid = contents(&pid_file).await;
    bench.prover.prove(bench.order(1, "")).await.unwrap();
    let (first, second) = tokio::join!(bench.prover.cancel(id(1)), bench.prover.cancel(id(1)));
    first.unwrap();
    second.unwrap();
    is_gone(pid.trim()).await;
    assert_eq!(bench.is_unavailable().await, "it did not stop when its attempt was cancelled");
    bench.is_ready().await;
    bench.end().await;
}

/// A prover that writes its process id to a file in `folder` when it starts, and takes some `start` for that.
fn numbered(folder: &Path, start: &str) -> ChildCommand {
    let (folder, program) = (folder.display(), std::env::current_exe().unwrap().display().to_string());
    shell(&format!("n=$(ls {folder} | wc -l); echo $$ > {folder}/$n; {start}; exec {program} child prover"))
}

/// The process id of the prover that was started as the `number`th.
async fn started(folder: &TempDir, number: usize) -> String {
    contents(&folder.path().join(number.to_string())).await.trim().to_owned()
}

async fn a_spare_takes_over_at_once_and_has_a_successor() {
    let folder = TempDir::new().unwrap();
    // Far more than the patience of a test: whoever is ready again was not started again.
    let first_restart_delay = Duration::from_mins(10);
    let settings = ProverSettings { has_spare: true, first_restart_delay, ..ProverSettings::default() };
    let mut bench = Bench::ready(numbered(folder.path(), "true"), settings).await;
    for number in 0..3_u8 {
        let (current, spare) = (usize::from(number), usize::from(number) + 1);
        let mark = bench.path(&format!("{number}.mark"));
        bench.prover.prove(bench.order(number, &format!("mark {}\nspin", mark.display()))).await.unwrap();
        assert_eq!(contents(&mark).await, started(&folder, current).await);
        started(&folder, spare).await;
        bench.prover.cancel(id(number)).await.unwrap();
        is_gone(&started(&folder, current).await).await;
        bench.is_ready_again().await;
    }
    // A crash is no different.
    started(&folder, 4).await;
    bench.prover.prove(bench.order(7, "exit 3")).await.unwrap();
    bench.has_failed(7).await;
    bench.is_ready_again().await;
    bench.proves(8).await;
    bench.end().await;
}

async fn a_spare_that_still_starts_takes_the_place_of_one_that_ended() {
    let folder = TempDir::new().unwrap();
    // The second one starts when it is told to.
    let go = folder.path().join("9");
    let start = format!("if [ $n = 1 ]; then until [ -e {} ]; do sleep 0.01; done; fi", go.display());
    let settings = ProverSettings { has_spare: true, ..settings() };
    let mut bench = Bench::ready(numbered(folder.path(), &start), settings).await;
    let spare = started(&folder, 1).await;
    bench.prover.prove(bench.order(1, "exit 3")).await.unwrap();
    bench.has_failed(1).await;
    bench.is_unavailable().await;
    std::fs::write(&go, "").unwrap();
    bench.is_ready().await;
    let mark = bench.path("mark");
    bench.prover.prove(bench.order(2, &format!("mark {}\nprove 1", mark.display()))).await.unwrap();
    assert_eq!(contents(&mark).await, spare);
    bench.end().await;
}

async fn a_spare_that_does_not_come_up_is_tried_again_and_disturbs_nobody() {
    let folder = TempDir::new().unwrap();
    let start = "case $n in 1) exit 7;; 2) echo garbage;; esac";
    let settings = ProverSettings { has_spare: true, ..settings() };
    let mut bench = Bench::ready(numbered(folder.path(), start), settings).await;
    bench.proves(1).await;
    started(&folder, 3).await;
    bench.prover.prove(bench.order(2, "exit 3")).await.unwrap();
    bench.has_failed(2).await;
    bench.is_ready_again().await;
    bench.proves(3).await;
    bench.end().await;
}

async fn stopping_ends_the_spare_too() {
    let folder = TempDir::new().unwrap();
    let settings = ProverSettings { has_spare: true, ..settings() };
    let bench = Bench::ready(numbered(folder.path(), "true"), settings).await;
    let spare = started(&folder, 1).await;
    bench.end().await;
    is_gone(&spare).await;
}

async fn nothing_is_reported_after_a_cancel() {
    // It answers a cancel with a proof: both crossed on the way.
    let proved = r#"{"type":"proved","attempt":"01010101010101010101010101010101","digest":"0505050505050505050505050505050505050505050505050505050505050505","size":10}"#;
    let script = format!("echo '{}'; read order; read cancel; echo '{proved}'; read order; sleep 1000", ready_line());
    let mut bench = Bench::ready(shell(&script), settings()).await;
    bench.prover.prove(bench.order(1, "")).await.unwrap();
    bench.prover.cancel(id(1)).await.unwrap();
    bench.prover.cancel(id(1)).await.unwrap();
    bench.prover.cancel(id(99)).await.unwrap();
    assert!(bench.reports.try_recv().is_err());
    bench.prover.prove(bench.order(2, "")).await.unwrap();
    bench.end().await;
}

async fn reports_that_nobody_reads_do_not_block_a_cancel() {
    let mut bench = Bench::ready(child("droppable"), settings()).await;
    let mark = bench.path("mark");
    let flood = "progress 1 2\n".repeat(5000);
    bench.prover.prove(bench.order(1, &format!("{flood}mark {}\nhang", mark.display()))).await.unwrap();
    contents(&mark).await;
    bench.prover.cancel(id(1)).await.unwrap();
    while bench.reports.try_recv().is_ok() {} // those that lay in the channel already
    bench.proves(2).await;
    bench.end().await;
}
