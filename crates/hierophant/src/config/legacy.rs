//! Keys of the first Hierophant that mean nothing any more: accepted, with a word on what replaced them.

use super::raw::Raw;

/// Names that the first Hierophant read from the environment, without a prefix.
pub(super) const BARE_ENVIRONMENT: [&str; 9] = [
    "this_hierophant_ip",
    "grpc_port",
    "http_port",
    "pub_key",
    "mock_mode",
    "artifact_store_directory",
    "max_stdin_artifacts_stored",
    "max_proof_artifacts_stored",
    "worker_response_timeout_secs",
];

/// One sentence for each key that is set and means nothing any more.
pub(super) fn warnings(raw: &Raw) -> Vec<String> {
    let registry = raw.worker_registry.clone().unwrap_or_default();
    let keys = [
        (raw.pub_key.is_some(), "pub_key", "signatures are always checked; use allowed_requesters to say who may ask"),
        (raw.worker_response_timeout_secs.is_some(), "worker_response_timeout_secs", "use workers.silence_limit"),
        (
            registry.max_worker_heartbeat_interval_secs.is_some(),
            "worker_registry.max_worker_heartbeat_interval_secs",
            "use workers.silence_limit",
        ),
        (
            registry.proof_timeout_mins.is_some(),
            "worker_registry.proof_timeout_mins",
            "the request's own deadline counts",
        ),
        (
            registry.worker_required_progress_interval_mins.is_some(),
            "worker_registry.worker_required_progress_interval_mins",
            "silence, not slowness, is what costs a worker its lease: workers.grace",
        ),
        (
            registry.worker_max_execution_report_mins.is_some(),
            "worker_registry.worker_max_execution_report_mins",
            "the request's own deadline counts",
        ),
    ];
    let set = keys.into_iter().filter(|(is_set, ..)| *is_set);
    set.map(|(_, key, instead)| format!("{key} has no meaning any more: {instead}")).collect()
}

/// A name of the worker's environment that begins like ours.
pub(super) const OF_THE_WORKER: [&str; 1] = ["ws_address"];
