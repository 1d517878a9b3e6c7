//! What may happen.

use std::{
    os::unix::{fs::PermissionsExt as _, net::UnixListener, process::CommandExt as _},
    process::Command,
    time::Duration,
};

use network_lib::{Backend, Digest, FaultClass};
use proving::{Phase, ProveOrder, ProverReport};
use sp1_cuda::client::socket_path;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    bench::{Bench, Setting, contents, is_gone, is_there},
    child, fake,
};

pub(crate) async fn a_proof_is_made_and_the_program_stays_set_up() {
    let setting = Setting::new(&[]);
    let device = setting.device;
    let mut bench = setting.start();
    let profile = bench.is_ready().await;
    assert_eq!(profile.backend, Backend::Gpu);
    assert!(profile.device.starts_with(&format!("gpu {device}")), "{}", profile.device);

    let (execution, is_counted) = bench.proves(1).await;
    assert_eq!(execution.public_values_hash, child::public_values_hash());
    assert!(is_counted, "the progress is read off the server's log");
    bench.proves(2).await;
    // The first is the trial.
    assert_eq!(bench.lines("requests"), ["set up", "set up", "prove", "prove"]);
    assert_eq!(bench.lines("starts").len(), 1);
    bench.end().await;
}

pub(crate) async fn the_oldest_program_is_forgotten_when_there_are_many() {
    let mut bench = Bench::ready(&[]).await;
    for attempt in 1..=33 {
        let order = bench.order(attempt);
        std::fs::write(&order.program, [attempt]).unwrap();
        bench.proves_order(ProveOrder { program_digest: Digest::of(&[attempt]), ..order }).await;
    }
    let count = |bench: &Bench, what: &str| bench.lines("requests").iter().filter(|line| *line == what).count();
    assert_eq!((count(&bench, "set up"), count(&bench, "destroy"), count(&bench, "prove")), (34, 1, 33));
    for (attempt, set_ups) in [(33, 34), (1, 35)] {
        let order = bench.order(attempt);
        std::fs::write(&order.program, [attempt]).unwrap();
        bench.proves_order(ProveOrder { program_digest: Digest::of(&[attempt]), ..order }).await;
        assert_eq!(count(&bench, "set up"), set_ups, "program {attempt}");
    }
    bench.end().await;
}

/// An order on a server with this fault fails so, and the next order is served.
async fn fault(fault: &str, class: FaultClass, parts: &[&str]) {
    let mut bench = Bench::ready(&[fault]).await;
    let order = bench.order(1);
    let (found, cause) = bench.fails(order).await;
    assert_eq!(found, class, "{cause}");
    for part in parts {
        assert!(cause.contains(part), "{part:?} is not in {cause:?}");
    }
    bench.recovers().await;
    bench.end().await;
}

pub(crate) async fn a_hung_server_fails_its_proof_and_is_replaced() {
    fault("hang", FaultClass::Worker, &["sp1-gpu-server hangs: it gave no sign of life for 3 s"]).await;
}

pub(crate) async fn a_slow_server_that_gives_signs_of_life_is_waited_for() {
    let mut bench = Bench::ready(&["slow"]).await;
    let begun = tokio::time::Instant::now();
    bench.proves(1).await;
    assert!(begun.elapsed() > child::SILENCE_LIMIT);
    assert_eq!(bench.lines("starts").len(), 1);
    bench.end().await;
}

pub(crate) async fn a_crashed_server_fails_its_proof_with_its_last_words() {
    let parts = ["sp1-gpu-server ended (exit status: 3)", "an illegal memory access was encountered"];
    fault("crash", FaultClass::Worker, &parts).await;
}

pub(crate) async fn a_killed_server_is_a_fault_of_resources() {
    fault("killed", FaultClass::Resources, &["killed by signal 9, most likely by the kernel for want of memory"]).await;
}

pub(crate) async fn a_server_that_sends_garbage_is_replaced() {
    fault("garbage", FaultClass::Worker, &["sp1-gpu-server sent 40 bytes that are no answer (ffffffff"]).await;
}

pub(crate) async fn a_server_that_stops_in_the_middle_of_a_frame_is_replaced() {
    fault("lie", FaultClass::Worker, &["sp1-gpu-server closed its connection"]).await;
}

pub(crate) async fn a_server_that_closes_its_connection_is_replaced() {
    fault("close", FaultClass::Worker, &["sp1-gpu-server closed its connection"]).await;
}

pub(crate) async fn a_refusal_is_told_with_the_cause_that_only_the_log_knows() {
    let parts = ["sp1-gpu-server could not make the proof: artifact not found", "task failed: shard 3 is odd"];
    fault("refuse", FaultClass::Worker, &parts).await;
}

pub(crate) async fn a_device_out_of_memory_is_a_fault_of_resources() {
    fault("memory", FaultClass::Resources, &["artifact not found", "CUDA error: out of memory"]).await;
}

pub(crate) async fn a_panic_of_the_server_is_heard_though_it_never_answers() {
    let begun = tokio::time::Instant::now();
    fault("panic", FaultClass::Worker, &["sp1-gpu-server panicked", "src/shard.rs:5:6", "shard 3 is odd"]).await;
    assert!(begun.elapsed() < Duration::from_mins(1), "not by its silence");
}

pub(crate) async fn a_proof_that_does_not_verify_is_not_delivered() {
    fault("wrong-proof", FaultClass::Worker, &["sp1-gpu-server made a proof that is not good: "]).await;
}

pub(crate) async fn an_answer_to_something_else_is_no_proof() {
    fault("mute", FaultClass::Worker, &["sp1-gpu-server was asked to make a proof and answered: done"]).await;
}

pub(crate) async fn a_guests_fault_never_reaches_the_server() {
    let mut bench = Bench::ready(&[]).await;
    let order = order_for(&bench, 1, b"a bad program");
    assert_eq!(bench.fails(order).await, (FaultClass::Guest, "the program panicked".to_owned()));
    bench.proves(2).await;
    assert_eq!(bench.lines("requests"), ["set up", "set up", "prove"]);
    assert_eq!(bench.lines("starts").len(), 1);
    bench.end().await;
}

/// The order for another program.
fn order_for(bench: &Bench, attempt: u8, program: &[u8]) -> ProveOrder {
    let order = bench.order(attempt);
    std::fs::write(&order.program, program).unwrap();
    order
}

pub(crate) async fn a_program_that_takes_long_is_executed_beside_its_proof() {
    let setting = Setting::new(&[]);
    setting.write("beside", "");
    let mut bench = setting.start();
    bench.is_ready().await;
    let order = order_for(&bench, 1, b"a slow program");
    bench.proves_order(order).await;
    assert_eq!(bench.lines("starts").len(), 1);
    bench.end().await;
}

pub(crate) async fn a_guest_that_fails_late_is_at_fault_whatever_the_server_says() {
    for server in ["hang", "refuse", "crash"] {
        let setting = Setting::new(&[server]);
        setting.write("beside", "");
        let mut bench = setting.start();
        bench.is_ready().await;
        let order = order_for(&bench, 1, b"a slow bad program");
        assert_eq!(bench.fails(order).await, (FaultClass::Guest, "the program panicked late".to_owned()), "{server}");
        bench.recovers().await;
        bench.end().await;
    }
}

pub(crate) async fn a_program_under_another_key_is_the_guests_fault() {
    let mut bench = Bench::ready(&[]).await;
    let order = ProveOrder { vk_hash: [1; 32], ..bench.order(1) };
    let (class, cause) = bench.fails(order).await;
    assert_eq!(class, FaultClass::Guest);
    assert!(cause.starts_with("the program's verifying key has the hash "), "{cause}");
    bench.proves(2).await;
    assert_eq!(bench.lines("starts").len(), 1);
    bench.end().await;
}

pub(crate) async fn a_wrong_key_from_the_server_is_not_the_guests_fault() {
    fault("wrong-key", FaultClass::Worker, &["sp1-gpu-server derived a wrong verifying key"]).await;
    fault("wrong-id", FaultClass::Worker, &["sp1-gpu-server set up another program"]).await;
}

pub(crate) async fn an_answer_that_nobody_asked_for_ends_the_server() {
    let mut bench = Bench::ready(&["twice"]).await;
    bench.proves(1).await;
    bench.recovers().await;
    bench.end().await;
}

pub(crate) async fn a_server_that_ends_at_rest_is_replaced() {
    let mut bench = Bench::ready(&["idle-exit"]).await;
    let cause = bench.is_unavailable().await;
    assert!(cause.contains("sp1-gpu-server ended (exit status: 7)"), "{cause}");
    assert!(cause.contains("the device fell off the bus"), "{cause}");
    bench.is_ready().await;
    bench.proves(1).await;
    bench.end().await;
}

pub(crate) async fn a_cancelled_proof_takes_the_server_along() {
    let mut bench = Bench::ready(&["hang"]).await;
    let order = bench.order(1);
    let attempt = order.attempt;
    bench.prover.prove(order).await.unwrap();
    // Not before the server has it.
    while bench.lines("requests").last().is_none_or(|last| last != "prove") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.prover.cancel(attempt).await.unwrap();
    is_gone(&bench.lines("starts")[0]).await;
    loop {
        match bench.reports.recv().await.unwrap() {
            ProverReport::Unavailable { .. } => break,
            ProverReport::Progress { .. } | ProverReport::Executed { .. } => {}
            other => panic!("expected Unavailable, got {other:?}"),
        }
    }
    bench.is_ready().await;
    bench.proves(2).await;
    bench.end().await;
}

pub(crate) async fn an_execution_that_is_cancelled_leaves_the_server_up() {
    let mut bench = Bench::ready(&[]).await;
    let order = order_for(&bench, 1, b"an endless program");
    let attempt = order.attempt;
    bench.prover.prove(order).await.unwrap();
    while !matches!(bench.reports.recv().await.unwrap(), ProverReport::Progress { progress, .. }
        if progress.phase == Phase::Executing)
    {}
    bench.prover.cancel(attempt).await.unwrap();
    bench.proves(2).await;
    assert_eq!(bench.lines("starts").len(), 1);
    bench.end().await;
}

pub(crate) async fn a_stopped_prover_takes_the_server_along() {
    let bench = Bench::ready(&[]).await;
    let pid = bench.lines("starts")[0].clone();
    assert!(is_there(&pid));
    bench.end().await; // waits for that
}

/// A server with this fault never gets as far as being ready, for a reason of which these are parts. The next one does.
async fn start_fails(setting: Setting, parts: &[&str]) {
    let mut bench = Setting { first_restart_delay: Duration::from_secs(1), ..setting }.start();
    let cause = bench.is_unavailable().await;
    let start = format!("the GPU prover of device {} cannot start: ", bench.device);
    assert!(cause.contains(&start), "{cause}");
    for part in parts {
        assert!(cause.contains(part), "{part:?} is not in {cause:?}");
    }
    let _ = std::fs::remove_file(bench.folder.path().join("version"));
    bench.is_ready().await;
    bench.proves(1).await;
    bench.end().await;
}

pub(crate) async fn a_server_of_another_version_is_refused_with_the_remedy() {
    let setting = Setting::new(&[]);
    setting.write("version", "6.4.0");
    let parts = ["named-server is of SP1 \"6.4.0\"", "this contemplant is of SP1 6.10.0", "name it by gpu_server"];
    start_fails(setting, &parts).await;
}

pub(crate) async fn a_server_that_does_not_say_its_version_is_refused_with_the_remedy() {
    let remedy = "install that of SP1 6.10.0, name it by gpu_server, or allow its download by gpu_server_download";
    for (answer, complaint) in [("sleep 1000", "does not end within 4 s"), ("yes", "says far more than a version")] {
        let setting = Setting::new(&[]);
        let asked = setting.path("asked");
        setting.write("named-server", &format!("#!/bin/sh\necho $$ >'{}'\nexec {answer}\n", asked.display()));
        let mut bench = Setting { first_restart_delay: Duration::from_mins(1), ..setting }.start();
        let cause = bench.is_unavailable().await;
        assert!(cause.contains(&format!("named-server --version {complaint}: {remedy}")), "{cause}");
        is_gone(&bench.lines("asked")[0]).await;
        bench.end().await;
    }
}

pub(crate) async fn a_server_that_cannot_run_is_refused_with_its_words() {
    let parts = ["sp1-gpu-server ended (exit status: 101)", "CUDA_ERROR_NO_DEVICE"];
    start_fails(Setting::new(&["exit-at-start"]), &parts).await;
}

pub(crate) async fn a_device_that_is_not_good_enough_is_never_offered() {
    let parts = ["sp1-gpu-server panicked", "Unsupported GPU memory: 12, must be at least 24GB"];
    start_fails(Setting::new(&["unfit"]), &parts).await;
}

pub(crate) async fn a_server_that_derives_other_keys_is_refused() {
    start_fails(Setting::new(&["other-key"]), &["derives other verifying keys than SP1 6.10.0"]).await;
}

pub(crate) async fn a_server_that_says_nothing_while_it_builds_its_prover_is_waited_for() {
    let bench = Bench::ready(&["slow-start"]).await;
    assert_eq!(bench.lines("starts").len(), 1);
    bench.end().await;
}

pub(crate) async fn a_killed_server_that_takes_long_to_be_gone_is_one_that_was_killed() {
    fault("killed-slowly", FaultClass::Resources, &["killed by signal 9"]).await;
}

pub(crate) async fn a_server_that_never_listens_is_given_up() {
    let setting = Setting { start_limit: Duration::from_secs(4), ..Setting::new(&["never-listens"]) };
    start_fails(setting, &["sp1-gpu-server was not ready after 4 s"]).await;
}

pub(crate) async fn a_socket_that_was_left_behind_is_removed() {
    let setting = Setting::new(&[]);
    drop(UnixListener::bind(socket_path(setting.device)).unwrap());
    assert!(socket_path(setting.device).exists());
    let mut bench = setting.start();
    bench.is_ready().await;
    bench.proves(1).await;
    bench.end().await;
}

pub(crate) async fn a_socket_that_outlives_its_server_is_removed() {
    let mut bench = Bench::ready(&["heir"]).await;
    let heir = bench.lines("heirs")[0].clone();
    let order = bench.order(1);
    bench.fails(order).await;
    bench.recovers().await;
    assert!(is_there(&heir), "it has held the socket all the time");
    assert!(Command::new("kill").arg(&heir).status().unwrap().success());
    bench.end().await;
}

pub(crate) async fn a_server_whose_prover_is_gone_is_ended() {
    let setting = Setting::new(&[]);
    // A shell that leads a group, starts a server in it, and goes.
    let server = format!("'{}' & exit", setting.path("named-server").display());
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &server])
        .env("HIEROPHANT_GPU_SERVER", setting.device.to_string())
        .env("CUDA_VISIBLE_DEVICES", setting.device.to_string());
    assert!(shell.process_group(0).status().unwrap().success());
    let orphan = contents(&setting.path("starts")).await.trim().to_owned();
    while !socket_path(setting.device).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // As one whose place a spare could have taken.
    std::fs::remove_file(socket_path(setting.device)).unwrap();
    let mut bench = setting.start();
    bench.is_ready().await;
    assert!(!is_there(&orphan));
    bench.proves(1).await;
    bench.end().await;
}

pub(crate) async fn a_spare_takes_over_on_the_same_device() {
    // Whoever is ready again was not started again: that would have to wait.
    let setting = Setting { has_spare: true, first_restart_delay: Duration::from_mins(10), ..Setting::new(&[]) };
    let mut bench = setting.start();
    bench.is_ready().await;
    while bench.lines("requests").len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let [server, spare] = bench.lines("starts").try_into().unwrap();
    assert!(is_there(&server) && is_there(&spare));
    Command::new("kill").args(["-9", &server]).status().unwrap();
    is_gone(&server).await;
    while !matches!(bench.reports.recv().await.unwrap(), ProverReport::Ready(_)) {}
    bench.proves(1).await;
    assert_eq!(bench.lines("starts").len(), 2);
    bench.end().await;
}

pub(crate) async fn a_server_that_someone_else_runs_is_left_alone() {
    let setting = Setting { start_limit: Duration::from_secs(4), ..Setting::new(&[]) };
    let listener = UnixListener::bind(socket_path(setting.device)).unwrap();
    let path = socket_path(setting.device);
    // It accepts nobody, and one more has room in the line.
    while tokio::net::UnixStream::connect(&path).await.is_ok() {}
    drop(listener.accept().unwrap());
    let mut bench = Setting { first_restart_delay: Duration::from_secs(1), ..setting }.start();
    let cause = bench.is_unavailable().await;
    let who = format!("process {} already answers at {}", std::process::id(), path.display());
    assert!(cause.contains(&who), "{cause}");
    assert!(cause.contains("take the device out of gpu_devices"), "{cause}");
    drop(listener);
    bench.is_ready().await;
    bench.end().await;
}

pub(crate) async fn a_server_of_the_right_version_is_found() {
    let setting = Setting::without_server();
    let (old, new) = (setting.path("bin/sp1-gpu-server"), setting.path("home/.sp1/bin/sp1-gpu-server"));
    fake::install(&old, setting.folder.path());
    std::fs::write(&old, "#!/bin/sh\necho 6.4.0\n").unwrap();
    fake::install(&new, setting.folder.path());
    let mut bench = setting.start();
    bench.is_ready().await;
    bench.proves(1).await;
    bench.end().await;
}

pub(crate) async fn without_a_server_the_remedies_are_named() {
    let mut bench = Setting::without_server().start();
    let cause = bench.is_unavailable().await;
    let remedy = "there is no sp1-gpu-server in the PATH or in ~/.sp1/bin: install that of SP1 6.10.0, name it by \
                  gpu_server, or allow its download by gpu_server_download";
    assert!(cause.contains(remedy), "{cause}");
    bench.end().await;
}

/// Serves `body` at an address, for ever.
async fn serve(body: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/server", listener.local_addr().unwrap());
    let serve = async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
        }
    };
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(serve);
    address
}

/// An archive that holds the fake.
fn archive(setting: &Setting) -> Vec<u8> {
    let folder = setting.path("packing");
    fake::install(&folder.join("sp1-gpu-server"), setting.folder.path());
    let archive = setting.path("server.tar.gz");
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(&archive).arg("-C").arg(&folder).arg("sp1-gpu-server");
    assert!(tar.status().unwrap().success());
    std::fs::read(archive).unwrap()
}

pub(crate) async fn a_server_is_downloaded_where_that_is_allowed() {
    for is_packed in [true, false] {
        let setting = Setting::without_server();
        let body = if is_packed { archive(&setting) } else { fake::script(setting.folder.path()).into_bytes() };
        let digest = Digest::sha256(&body);
        let address = serve(body).await;
        setting.write("download", &format!("{address} {digest}"));
        let installed = setting.path(&format!("downloads/{digest}/sp1-gpu-server"));
        let mut bench = setting.start();
        bench.is_ready().await;
        bench.proves(1).await;
        assert_eq!(std::fs::metadata(installed).unwrap().permissions().mode() & 0o777, 0o755);
        bench.end().await;
    }
}

pub(crate) async fn a_download_with_another_digest_is_thrown_away() {
    let setting = Setting::without_server();
    let body = archive(&setting);
    let (actual, expected) = (Digest::sha256(&body), Digest::sha256(b"something else"));
    setting.write("download", &format!("{} {expected}", serve(body).await));
    let mut bench = Setting { first_restart_delay: Duration::from_mins(1), ..setting }.start();
    let cause = bench.is_unavailable().await;
    let reason = format!("has the SHA-256 {actual}, not {expected}, and was thrown away");
    assert!(cause.contains(&reason), "{cause}");
    assert!(bench.lines("starts").is_empty(), "it was never run");
    let kept: Vec<_> = std::fs::read_dir(bench.folder.path().join("downloads")).unwrap().collect();
    assert_eq!(kept.len(), 1, "the lock and nothing else: {kept:?}");
    bench.end().await;
}
