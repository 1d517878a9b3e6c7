//! Keys of the first contemplant that have no meaning any more: accepted, with a word on what replaced them.

use std::collections::BTreeMap;

use figment::value::Value;

use super::raw::Reader;

/// These keys.
pub(super) const KEYS: [&str; 5] =
    ["http_port", "heartbeat_interval_seconds", "max_proofs_stored", "moongate_endpoint", "assessor"];

/// Those that were also environment variables, by their upper-case names.
pub(super) const BARE: [&str; 4] =
    ["http_port", "heartbeat_interval_seconds", "max_proofs_stored", "moongate_endpoint"];

/// Variables by which the first contemplant chose its provers.
pub(super) const PROVER_VARIABLES: [&str; 2] = ["CONTEMPLANT_VMS", "CONTEMPLANT_SP1_BACKEND"];

/// What became of the Moongate server.
pub(super) const MOONGATE: &str = "the Moongate server belongs to SP1 4 and 5 and is not used any more: \
    to prove on GPUs write gpu_devices = \"all\", or a list like [0, 1], at the top of the file";

/// One warning for each such key that is set.
pub(super) fn warn(reader: &mut Reader) {
    for key in KEYS {
        let what = match key {
            _ if reader.value(key).is_none() => continue,
            "http_port" => "a contemplant opens no port any more: ask its Hierophant at /contemplants",
            "heartbeat_interval_seconds" => "the Hierophant says how often it wants heartbeats",
            "max_proofs_stored" => "every proof stays on disk until the Hierophant has stored it",
            "moongate_endpoint" => MOONGATE,
            _ => "the progress of a proof comes from the prover itself, not from a log file",
        };
        reader.warning(format!("{key} has no meaning any more: {what}"));
    }
}

/// The provers that `CONTEMPLANT_VMS` and `CONTEMPLANT_SP1_BACKEND` ask for.
pub(super) fn provers_of_environment(environment: &BTreeMap<String, String>) -> Option<Value> {
    let vms = environment.get("CONTEMPLANT_VMS")?;
    let backend = environment.get("CONTEMPLANT_SP1_BACKEND").map_or("cpu", String::as_str);
    let vms = vms.split(',').map(str::trim).filter(|vm| !vm.is_empty());
    let provers = vms.map(|vm| {
        let vm = vm.to_lowercase();
        let table = [("vm".to_owned(), Value::from(vm)), ("backend".to_owned(), Value::from(backend.to_lowercase()))];
        Value::from(table.into_iter().collect::<figment::value::Dict>())
    });
    Some(Value::from(provers.collect::<Vec<Value>>()))
}
