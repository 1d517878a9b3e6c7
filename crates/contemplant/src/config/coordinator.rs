//! Where the coordinator is, and how it knows this worker.

use std::path::Path;

use network_lib::protocol::WORKER_PATH;
use secrecy::SecretString;
use url::Url;

use super::raw::Reader;

/// Where the coordinator is, and how it knows this worker.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// The WebSocket address, with its path.
    pub ws_address: Url,
    /// The worker's name; drawn when missing.
    pub name: Option<String>,
    /// What opens the coordinator's door.
    pub token: Option<SecretString>,
    /// Called by the coordinator, with HTTP DELETE, when it evicts this worker.
    pub magister_drop_endpoint: Option<String>,
}

const DEFAULT_ADDRESS: &str = "127.0.0.1:9010";

impl CoordinatorConfig {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let address = reader.parsed("hierophant_ws_address", parse_address);
        Self {
            ws_address: address.unwrap_or_else(|| parse_address(DEFAULT_ADDRESS).expect("a constant that is tested")),
            name: reader.parsed("contemplant_name", parse_name),
            token: read_token(reader),
            magister_drop_endpoint: reader.parsed("magister_drop_endpoint", parse_endpoint),
        }
    }

    /// The address to which addresses of artifacts refer.
    ///
    /// # Panics
    /// Never: `ws` and `wss` may become `http` and `https`.
    pub fn http_address(&self) -> Url {
        let scheme = if self.ws_address.scheme() == "wss" { "https" } else { "http" };
        // `set_scheme` knows ws and http as exchangeable.
        let mut address = self.ws_address.clone();
        address.set_scheme(scheme).expect("both are special schemes");
        address
    }
}

fn parse_address(text: &str) -> Result<Url, String> {
    let text = text.trim();
    let whole = if text.contains("://") { text.to_owned() } else { format!("ws://{text}") };
    let example = format!("write it like \"ws://127.0.0.1:9010{WORKER_PATH}\"");
    let mut url = Url::parse(&whole).map_err(|error| format!("{text:?} is not an address ({error}): {example}"))?;
    match url.scheme() {
        "ws" | "wss" => {}
        "http" => url.set_scheme("ws").map_err(|()| example.clone())?,
        "https" => url.set_scheme("wss").map_err(|()| example.clone())?,
        other => return Err(format!("{other}:// is not of a WebSocket: {example}")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an address holds no user name or password: use worker_token".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("an address ends with its path: {example}"));
    }
    if matches!(url.path(), "" | "/") {
        url.set_path(WORKER_PATH);
    }
    Ok(url)
}

fn parse_name(text: &str) -> Result<String, String> {
    if text.chars().count() > 100 {
        return Err("a name has at most 100 characters".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("a name has no control characters".to_owned());
    }
    Ok(text.trim().to_owned())
}

fn parse_endpoint(text: &str) -> Result<String, String> {
    let is_http = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if is_http { Ok(text.to_owned()) } else { Err(format!("{text:?} is not an http:// or https:// address")) }
}

fn read_token(reader: &mut Reader) -> Option<SecretString> {
    let inline = reader.parsed("worker_token", parse_token);
    let of_file = reader.parsed("worker_token_file", |path| {
        let text = std::fs::read_to_string(Path::new(path)).map_err(|error| format!("cannot read {path}: {error}"))?;
        parse_token(text.trim())
    });
    if inline.is_some() && of_file.is_some() {
        reader.problem("worker_token_file", "worker_token is given as well: one of the two must go");
    }
    inline.or(of_file)
}

/// The text never goes into a message.
fn parse_token(text: &str) -> Result<SecretString, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a token is made of visible ASCII characters without blanks".to_owned());
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_short() {
        for (given, meant) in [
            (DEFAULT_ADDRESS, "ws://127.0.0.1:9010/ws"),
            ("localhost:9010", "ws://localhost:9010/ws"),
            ("hierophant", "ws://hierophant/ws"),
            ("[::1]:9010", "ws://[::1]:9010/ws"),
            ("ws://hierophant:9010", "ws://hierophant:9010/ws"),
            ("ws://hierophant:9010/", "ws://hierophant:9010/ws"),
            ("ws://hierophant:9010/ws", "ws://hierophant:9010/ws"),
            ("wss://hierophant/behind/proxy/ws", "wss://hierophant/behind/proxy/ws"),
            ("https://hierophant", "wss://hierophant/ws"),
            ("http://hierophant:9010", "ws://hierophant:9010/ws"),
        ] {
            assert_eq!(parse_address(given).map(|url| url.to_string()), Ok(meant.to_owned()), "{given}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_meant_is_refused_with_an_example() {
        for given in ["ftp://hierophant", "ws://", "a b", "ws://hierophant/ws?token=x", "hierophant:port"] {
            let problem = parse_address(given).expect_err(given);
            assert!(problem.contains("write it like \"ws://127.0.0.1:9010/ws\""), "{problem}");
        }
        assert!(parse_address("ws://me:secret@hierophant").expect_err("refused").contains("worker_token"));
    }
}
