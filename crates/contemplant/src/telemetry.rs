//! Logs, to standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, util::TryInitError};

use crate::config::telemetry::{LogFormat, TelemetryConfig};

/// Starts logging.
///
/// # Errors
/// When something in this process logs already.
pub fn init(config: &TelemetryConfig) -> Result<(), TryInitError> {
    use tracing_subscriber::util::SubscriberInitExt as _;
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(EnvFilter::new(&config.filter));
    match config.format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().finish().try_init(),
    }
}
