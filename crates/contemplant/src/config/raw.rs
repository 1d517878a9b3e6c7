//! From files, environment and flags to values by key, with all the problems on the way.

use std::{collections::BTreeMap, path::Path, time::Duration};

use bytesize::ByteSize;
use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format as _, Toml},
    value::{Dict, Map, Value},
};

use super::{Overrides, Problem, legacy};

/// Every key of the top level that has a meaning.
pub(super) const KEYS: [&str; 22] = [
    "hierophant_ws_address",
    "contemplant_name",
    "worker_token",
    "worker_token_file",
    "magister_drop_endpoint",
    "state_directory",
    "max_program_cache_bytes",
    "max_input_cache_bytes",
    "min_free_disk_bytes",
    "min_groth16_memory_bytes",
    "min_plonk_memory_bytes",
    "allow_gnark_image_pull",
    "drain_timeout",
    "log",
    "log_format",
    "mock",
    "provers",
    "gpu_devices",
    "gpu_server",
    "gpu_silence_limit",
    "gpu_spare",
    "gpu_server_download",
];

/// Keys whose upper-case names were environment variables of the first contemplant, without a prefix.
const BARE: [&str; 3] = ["hierophant_ws_address", "contemplant_name", "magister_drop_endpoint"];

/// Where a configuration file is looked for when none is named.
const DEFAULT_FILE: &str = "contemplant.toml";

/// Takes values out of the sources by key, and collects what is wrong with them.
pub(super) struct Reader {
    figment: Figment,
    values: Dict,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Reader {
    pub(super) fn new(overrides: &Overrides, environment: &BTreeMap<String, String>) -> Result<Self, Vec<Problem>> {
        let mut figment = Figment::new();
        match &overrides.file {
            Some(file) if !file.is_file() => {
                let text = "there is no such file: --config names one that exists".to_owned();
                return Err(vec![Problem { key: String::new(), origin: file.display().to_string(), text }]);
            }
            Some(file) => figment = figment.merge(Toml::file_exact(file)),
            None if Path::new(DEFAULT_FILE).is_file() => figment = figment.merge(Toml::file_exact(DEFAULT_FILE)),
            None => {}
        }
        let mut warnings = Vec::new();
        let from_environment = of_environment(environment, &mut warnings);
        for (name, key, value) in from_environment {
            figment = figment.merge(Single { origin: format!("environment variable {name}"), key, value });
        }
        for (key, value) in &overrides.values {
            let origin = "the command line".to_owned();
            figment = figment.merge(Single { origin, key, value: Value::from(value.clone()) });
        }
        let values = figment.extract::<Dict>().map_err(|error| {
            let problem = |error: figment::Error| Problem {
                key: error.path.join("."),
                origin: origin(error.metadata.as_ref()),
                text: error.kind.to_string(),
            };
            error.into_iter().map(problem).collect::<Vec<_>>()
        })?;
        let mut reader = Self { figment, values, problems: Vec::new(), warnings };
        let unknown: Vec<String> = reader.values.keys().filter(|key| !is_known(key)).cloned().collect();
        for key in unknown {
            let text = match closest(&key) {
                Some(known) => format!("there is no such key; {known} is meant?"),
                None => format!("there is no such key; there are {}", KEYS.join(", ")),
            };
            reader.problem(&key, text);
        }
        Ok(reader)
    }

    /// Notes what is wrong with `key`, which may lead into it: `provers[0].vm`.
    pub(super) fn problem(&mut self, key: &str, text: impl Into<String>) {
        let top = key.split(['.', '[']).next().unwrap_or(key);
        let origin =
            if self.values.contains_key(top) { origin(self.figment.find_metadata(top)) } else { String::new() };
        self.problems.push(Problem { key: key.to_owned(), origin, text: text.into() });
    }

    pub(super) fn warning(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// The text under `key`. Empty text is no text, as the first contemplant had it.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.values.get(key)? {
            Value::String(_, text) if text.is_empty() => None,
            Value::String(_, text) => Some(text.clone()),
            other => {
                let text = format!("expected text in quotes, not {}", other.to_actual());
                self.problem(key, text);
                None
            }
        }
    }

    /// The text under `key`, read by `parse`.
    pub(super) fn parsed<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(key)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problem(key, problem);
                None
            }
        }
    }

    /// A size: `"2GiB"`, or a number of bytes.
    pub(super) fn bytes(&mut self, key: &str) -> Option<ByteSize> {
        if let Some(value @ Value::Num(..)) = self.values.get(key) {
            let unsigned = value.to_u128().and_then(|bytes| u64::try_from(bytes).ok());
            let bytes = unsigned.or_else(|| u64::try_from(value.to_i128()?).ok());
            if bytes.is_none() {
                self.problem(key, "expected a size like \"2GiB\"");
            }
            return bytes.map(ByteSize::b);
        }
        self.parsed(key, |text| text.parse().map_err(|_| format!("{text:?} is not a size: write it like \"2GiB\"")))
    }

    /// True or false, in quotes too: the environment has nothing but text.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        match self.values.get(key)? {
            Value::Bool(_, flag) => Some(*flag),
            Value::String(_, text) if text == "true" => Some(true),
            Value::String(_, text) if text == "false" => Some(false),
            _ => {
                self.problem(key, "expected true or false");
                None
            }
        }
    }

    /// A time: `"30s"`.
    pub(super) fn duration(&mut self, key: &str) -> Option<Duration> {
        if let Some(Value::Num(..)) = self.values.get(key) {
            self.problem(key, "expected a time with its unit, like \"30s\"");
            return None;
        }
        self.parsed(key, |text| {
            humantime::parse_duration(text).map_err(|_| format!("{text:?} is not a time: write it like \"30s\""))
        })
    }

    /// The warnings, unless there are problems.
    pub(super) fn finish(mut self) -> Result<Vec<String>, Vec<Problem>> {
        self.problems.sort_by(|a, b| a.key.cmp(&b.key));
        if self.problems.is_empty() { Ok(self.warnings) } else { Err(self.problems) }
    }
}

fn is_known(key: &str) -> bool {
    KEYS.contains(&key) || legacy::KEYS.contains(&key)
}

/// The known key that `key` is most likely a slip for.
fn closest(key: &str) -> Option<&'static str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let wanted = plain(key);
    KEYS.into_iter().find(|known| {
        let known = plain(known);
        known == wanted || known.trim_end_matches('s') == wanted.trim_end_matches('s') || known.ends_with(&wanted)
    })
}

fn origin(metadata: Option<&Metadata>) -> String {
    metadata.map_or_else(String::new, |metadata| match metadata.source.as_ref().and_then(figment::Source::file_path) {
        Some(path) => path.display().to_string(),
        None => metadata.name.to_string(),
    })
}

/// What the environment says: variable, key, value. Prefixed names come last, since they override the bare ones.
fn of_environment(
    environment: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Vec<(String, &'static str, Value)> {
    let mut found = Vec::new();
    let mut take = |name: String, key: &'static str| {
        if let Some(value) = environment.get(&name) {
            let value = match key {
                // A list of tables, in the notation of figment: [{vm="sp1",backend="cpu"}]; and a table.
                "provers" | "gpu_server_download" => value.parse().unwrap_or_else(|never| match never {}),
                _ => Value::from(value.clone()),
            };
            found.push((name, key, value));
        }
    };
    for key in BARE.into_iter().chain(legacy::BARE) {
        take(key.to_uppercase(), key);
    }
    take("RUST_LOG".to_owned(), "log");
    for key in KEYS.into_iter().chain(legacy::KEYS) {
        take(format!("CONTEMPLANT_{}", key.to_uppercase()), key);
    }
    let provers = legacy::provers_of_environment(environment);
    let known: Vec<&String> = found.iter().map(|(name, ..)| name).collect();
    let unknown: Vec<&str> = environment
        .keys()
        .filter(|name| {
            name.starts_with("CONTEMPLANT_")
                && !known.contains(name)
                && !legacy::PROVER_VARIABLES.contains(&name.as_str())
        })
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        warnings.push(format!("these environment variables name no key and are not read: {}", unknown.join(", ")));
    }
    found.extend(provers.map(|value| ("CONTEMPLANT_VMS".to_owned(), "provers", value)));
    found
}

/// One key from one place.
struct Single<'a> {
    origin: String,
    key: &'a str,
    value: Value,
}

impl Provider for Single<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, Dict::from([(self.key.to_owned(), self.value.clone())]))]))
    }
}
