//! The coordinator, as seen from here: what it says of itself, and whether it lets this worker in.

use std::time::{Duration, SystemTime};

use reqwest::{Client, Response, header};
use serde::Deserialize;
use url::Url;

use super::facts::{CoordinatorFacts, Health};
use crate::{
    config::coordinator::CoordinatorConfig,
    failure::chain,
    session::{Endpoint, dial},
};

/// How long each answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// Asks. The coordinator's log has a line of a worker that left without a word.
pub(super) async fn look(config: &CoordinatorConfig) -> CoordinatorFacts {
    // Fails when a provider is chosen already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let endpoint = Endpoint { url: config.ws_address.clone(), token: config.token.clone() };
    let http_address = config.http_address();
    let (health, door) = tokio::join!(health(&http_address), Box::pin(dial(&endpoint, LIMIT)));
    CoordinatorFacts {
        address: config.ws_address.to_string(),
        has_token: config.token.is_some(),
        health,
        door: door.map(drop),
    }
}

/// What is said of its health beside the worker endpoint, or else at the root, where it is unless a proxy moves it.
async fn health(address: &Url) -> Result<Health, String> {
    let client = Client::builder().no_proxy().timeout(LIMIT).build().map_err(|error| chain(&error))?;
    let mut first = None;
    for path in ["health", "/health"] {
        let Ok(url) = address.join(path) else { continue };
        let response = client.get(url).send().await.map_err(|error| chain(&error.without_url()))?;
        let health = read(response).await;
        if health.version.is_some() {
            return Ok(health);
        }
        first.get_or_insert(health);
    }
    first.ok_or_else(|| "its address has no place for /health".to_owned())
}

#[derive(Debug, Default, Deserialize)]
struct Answer {
    version: Option<String>,
    #[serde(default)]
    mock_mode: bool,
}

async fn read(response: Response) -> Health {
    let status = response.status().as_u16();
    let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
    #[expect(clippy::disallowed_methods, reason = "the clock itself is what is looked at")]
    let here = SystemTime::now();
    let is_short = response.content_length().is_some_and(|length| length <= MAX_ANSWER);
    let text = if is_short { response.bytes().await.unwrap_or_default() } else { Vec::new().into() };
    let answer: Answer = serde_json::from_slice(&text).unwrap_or_default();
    Health { status, version: answer.version, mock_mode: answer.mock_mode, clock: date.map(|there| apart(there, here)) }
}

/// How far `there` is from `here`, and whether it is ahead. Dates of HTTP are cut to the second, so half of one is
/// added.
fn apart(there: SystemTime, here: SystemTime) -> (Duration, bool) {
    let there = there + Duration::from_millis(500);
    match there.duration_since(here) {
        Ok(ahead) => (ahead, true),
        Err(behind) => (behind.duration(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_ahead_or_behind() {
        let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        assert_eq!(apart(at(100), at(40)), (Duration::from_millis(60_500), true));
        assert_eq!(apart(at(40), at(100)), (Duration::from_millis(59_500), false));
    }
}
