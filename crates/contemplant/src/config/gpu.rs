//! The GPUs of this worker.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use figment::value::Value;
use network_lib::Digest;
use serde::Deserialize;
use url::Url;

use super::{provers::MAX_PROVERS, raw::Reader};

/// How long a server may be silent at work, where nothing else is said.
const SILENCE_LIMIT: Duration = Duration::from_mins(15);

/// The GPUs of this worker, and the server that proves on each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuConfig {
    /// Which of them prove.
    pub devices: GpuDevices,
    /// The server; without it one of the right version is looked for.
    pub server: Option<PathBuf>,
    /// How long the server may be silent at work before it is taken for hung.
    pub silence_limit: Duration,
    /// Whether a second server stands by for each device.
    pub has_spare: bool,
    /// Permission to download the server if there is none.
    pub download: Option<GpuServerDownload>,
}

/// Which devices prove. A device is named by its number in the order of the PCI bus, as `nvidia-smi` counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuDevices {
    /// None.
    None,
    /// All that `nvidia-smi` lists when the worker starts.
    All,
    /// These, at least one, each once.
    Named(Vec<u32>),
}

/// Permission to download the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuServerDownload {
    /// From where; without it from SP1's own release.
    pub url: Option<Url>,
    /// SHA-256 of what is downloaded.
    pub sha256: Digest,
}

impl Default for GpuConfig {
    fn default() -> Self {
        Self { devices: GpuDevices::None, server: None, silence_limit: SILENCE_LIMIT, has_spare: false, download: None }
    }
}

/// The permission as it stands in a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDownload {
    url: Option<String>,
    sha256: String,
}

impl GpuConfig {
    /// Reads the keys that begin with `gpu_`.
    pub(super) fn read(reader: &mut Reader, has_built_in_prover: bool) -> Self {
        let devices = read_devices(reader);
        if devices != GpuDevices::None && !has_built_in_prover {
            reader.problem(
                "gpu_devices",
                "cannot be used, since this contemplant was built without the feature \"sp1\": build with the feature",
            );
        }
        let config = Self {
            server: reader.text("gpu_server").map(PathBuf::from),
            silence_limit: reader.duration("gpu_silence_limit").unwrap_or(SILENCE_LIMIT),
            has_spare: reader.flag("gpu_spare").unwrap_or(false),
            download: read_download(reader),
            devices,
        };
        if config.silence_limit.is_zero() {
            reader.problem("gpu_silence_limit", "a server needs some time for each line: write it like \"15m\"");
        }
        let is_idle = config.devices == GpuDevices::None;
        for key in ["gpu_server", "gpu_silence_limit", "gpu_spare", "gpu_server_download"] {
            if is_idle && reader.value(key).is_some() {
                reader.warning(format!("{key} has no effect without gpu_devices"));
            }
        }
        config
    }
}

fn read_devices(reader: &mut Reader) -> GpuDevices {
    let devices = match reader.value("gpu_devices") {
        None => return GpuDevices::None,
        Some(Value::String(_, text)) if text == "all" => return GpuDevices::All,
        // As a list stands in the environment: 0,1 or [0, 1].
        Some(Value::String(_, text)) => {
            let numbers = text.trim().trim_start_matches('[').trim_end_matches(']').split(',');
            numbers.map(|number| number.trim().parse().ok()).collect()
        }
        Some(Value::Array(_, values)) => values.iter().map(device).collect::<Option<Vec<u32>>>(),
        Some(value) => device(value).map(|device| vec![device]),
    };
    let problem = match &devices {
        None => "expected \"all\" or a list of device numbers like [0, 1], as nvidia-smi counts them".to_owned(),
        Some(devices) if devices.is_empty() => "expected a device: leave the key out for none".to_owned(),
        Some(devices) if devices.len() > MAX_PROVERS => {
            format!("a worker has at most {MAX_PROVERS} provers: run another worker")
        }
        Some(devices) if devices.iter().collect::<BTreeSet<_>>().len() < devices.len() => {
            "names a device twice: a device makes one proof at a time".to_owned()
        }
        Some(_) => return devices.map_or(GpuDevices::None, GpuDevices::Named),
    };
    reader.problem("gpu_devices", problem);
    GpuDevices::None
}

fn device(value: &Value) -> Option<u32> {
    value.to_u128().and_then(|number| u32::try_from(number).ok()).or_else(|| u32::try_from(value.to_i128()?).ok())
}

fn read_download(reader: &mut Reader) -> Option<GpuServerDownload> {
    let raw: RawDownload = match reader.value("gpu_server_download")?.deserialize() {
        Ok(raw) => raw,
        Err(error) => {
            let hint = "write it like { sha256 = \"…\" }, or with a url too";
            reader.problem("gpu_server_download", format!("{}: {hint}", error.kind));
            return None;
        }
    };
    let sha256 = raw.sha256.parse();
    if sha256.is_err() {
        let problem = "expected the SHA-256 of the file that you trust, as 64 hexadecimal digits";
        reader.problem("gpu_server_download.sha256", problem);
    }
    // A password would stand in logs and in the child's arguments.
    let is_good = |url: &Url| matches!(url.scheme(), "http" | "https") && url.password().is_none();
    let url = raw.url.map(|url| url.parse().ok().filter(is_good));
    if url == Some(None) {
        let problem = "expected an address that begins with https:// or http://, without a password";
        reader.problem("gpu_server_download.url", problem);
    }
    Some(GpuServerDownload { url: url.flatten(), sha256: sha256.ok()? })
}
