//! Logs.

use tracing_subscriber::EnvFilter;

use super::raw::Reader;

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// What is logged, in the notation of `RUST_LOG`.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// The format's name in configuration files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl TelemetryConfig {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let filter = reader.parsed("log", |text| match EnvFilter::try_new(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(format!("{text:?} is not a log filter ({error}): write it like \"info\"")),
        });
        let format = reader.parsed("log_format", |text| {
            [LogFormat::Text, LogFormat::Json]
                .into_iter()
                .find(|format| format.name() == text)
                .ok_or_else(|| format!("{text:?} is not a log format: use text or json"))
        });
        Self { filter: filter.unwrap_or_else(|| "info".to_owned()), format: format.unwrap_or(LogFormat::Text) }
    }
}
