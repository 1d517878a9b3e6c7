//! Whoever rents the workers out, as operators of the first Hierophant know it: told of each eviction, so that a machine
//! that breaks everything is given back.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use network_lib::WorkerId;
use reqwest::{Client, Url, redirect::Policy};

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// How often a call that fails is repeated, first after a second, then after twice as long each.
const REPEATS: usize = 6;

/// Why the call did not come through.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0:?} is not an http address")]
    Address(String),
    #[error(transparent)]
    Http(#[from] reqwest::Error),
}

/// Calls `DELETE endpoint`, and again while that fails for a while. The address comes from the worker, so nothing of the
/// answer is used but its status, and no redirect is followed.
pub(super) async fn drop_worker(worker: WorkerId, endpoint: &str) {
    match call(endpoint).await {
        Ok(()) => tracing::info!(worker.id = %worker, "the magister was told of an eviction"),
        Err(error) => {
            tracing::error!(worker.id = %worker, error = &error as &dyn std::error::Error,
                "the magister could not be told of an eviction");
        }
    }
}

async fn call(endpoint: &str) -> Result<(), CallError> {
    let url = Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| CallError::Address(endpoint.to_owned()))?;
    let client = Client::builder().redirect(Policy::none()).timeout(CALL_LIMIT).build()?;
    let attempt = || async { client.delete(url.clone()).send().await?.error_for_status() };
    attempt.retry(ExponentialBuilder::default().with_jitter().with_max_times(REPEATS)).await?;
    Ok(())
}
