//! Under which address clients reach the artifacts.

use std::net::Ipv6Addr;

use url::{Host, Url};

/// Under which address clients reach the artifacts: as configured, or else as the client itself found this machine.
///
/// Taken from the client, the address works unconfigured on a laptop, in a container and on a LAN. It goes back to that
/// client only.
#[derive(Debug, Clone, Default)]
pub struct PublicUrl {
    configured: Option<Url>,
}

/// Why a URL cannot be the public one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{url} cannot be the public URL: it must be http:// or https:// with a host, perhaps a port and a path, and no more"
)]
pub struct PublicUrlError {
    url: Url,
}

impl PublicUrl {
    /// The public URL as the operator gave it, or none.
    ///
    /// # Errors
    /// When the URL has a part that it must not have, or another scheme.
    pub fn new(configured: Option<Url>) -> Result<Self, PublicUrlError> {
        if let Some(url) = &configured {
            let is_plain = matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none();
            if !is_plain {
                let mut url = url.clone();
                let _ = url.set_password(None); // Not to be shown.
                return Err(PublicUrlError { url });
            }
        }
        Ok(Self { configured })
    }

    /// The base of the URLs that one client is given.
    ///
    /// `authority` is the one of the client's gRPC call: its host, whatever its port, with our own `http_port` is where
    /// the client finds the artifacts. An authority that is none gives 127.0.0.1.
    ///
    /// # Panics
    /// Never: a checked host and a port make a URL.
    pub fn base_for(&self, authority: Option<&str>, is_tls: bool, http_port: u16) -> Url {
        if let Some(url) = &self.configured {
            return url.clone();
        }
        let host = authority.and_then(host_of).unwrap_or_else(|| Host::parse("127.0.0.1").expect("it is an address"));
        let scheme = if is_tls { "https" } else { "http" };
        format!("{scheme}://{host}:{http_port}/").parse().expect("a checked host and a port make a URL")
    }
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`; nothing else has one.
fn host_of(authority: &str) -> Option<Host> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        is_port_or_empty(port).then_some(())?;
        return address.parse::<Ipv6Addr>().ok().map(Host::Ipv6);
    }
    let (name, port) = match authority.find(':') {
        Some(colon) => authority.split_at(colon),
        None => (authority, ""),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if name.is_empty() || name.len() > 253 || !name.bytes().all(is_name) || !is_port_or_empty(port) {
        return None;
    }
    Host::parse(name).ok()
}

fn is_port_or_empty(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base(authority: &str) -> String {
        PublicUrl::default().base_for(Some(authority), false, 9010).to_string()
    }

    #[test]
    fn the_host_that_the_client_used_is_kept_and_its_port_is_not() {
        assert_eq!(base("prover.lan:9000"), "http://prover.lan:9010/");
        assert_eq!(base("prover_1"), "http://prover_1:9010/");
        assert_eq!(base("192.168.1.7:443"), "http://192.168.1.7:9010/");
        assert_eq!(base("[::1]:9000"), "http://[::1]:9010/");
        assert_eq!(base("[fd00::7]"), "http://[fd00::7]:9010/");
        assert_eq!(base("LOCALHOST:9000"), "http://localhost:9010/");
    }

    #[test]
    fn with_tls_the_scheme_is_https() {
        let url = PublicUrl::default().base_for(Some("prover.example:9000"), true, 9010);
        assert_eq!(url.as_str(), "https://prover.example:9010/");
    }

    #[test]
    fn what_is_not_a_host_becomes_this_machine() {
        for authority in [
            "",
            ":",
            ":9000",
            "user@host:9000",
            "user:password@host",
            "host/path",
            "host:9000/path",
            "host:port",
            "host:99999",
            "host:+1",
            "host:1:2",
            "::1",
            "[::1",
            "::1]",
            "[::1]x",
            "[host]:1",
            "[fe80::1%eth0]:1",
            "a b",
            "host?x",
            "host#x",
            "host\\x",
            "h%6fst",
            "höst",
            "1.2.3.4.5",
            "999.1.1.1",
            "host\r\nx",
        ] {
            assert_eq!(base(authority), "http://127.0.0.1:9010/", "for {authority:?}");
        }
        assert_eq!(PublicUrl::default().base_for(None, false, 9010).as_str(), "http://127.0.0.1:9010/");
    }

    #[test]
    fn the_configured_url_wins() {
        let url = PublicUrl::new(Some("https://prover.example/hierophant".parse().unwrap())).unwrap();
        assert_eq!(url.base_for(Some("other:1"), false, 9010).as_str(), "https://prover.example/hierophant");
    }

    #[test]
    fn a_public_url_with_more_than_host_port_and_path_is_refused_without_its_password() {
        for url in ["ftp://host/", "unix:/x", "https://user@host/", "https://host/?q", "https://host/#f"] {
            assert!(PublicUrl::new(Some(url.parse().unwrap())).is_err(), "{url}");
        }
        let error = PublicUrl::new(Some("https://user:secret@host/".parse().unwrap())).unwrap_err().to_string();
        assert!(!error.contains("secret") && error.contains("cannot be the public URL"), "{error}");
    }

    proptest! {
        #[test]
        fn no_authority_changes_more_than_the_host(authority in "[\\PC\\r\\n]{0,40}") {
            let url = PublicUrl::default().base_for(Some(&authority), false, 9010);
            prop_assert_eq!(url.scheme(), "http");
            prop_assert_eq!(url.port(), Some(9010));
            prop_assert_eq!(url.path(), "/");
            prop_assert!(url.username().is_empty() && url.password().is_none());
            prop_assert!(url.query().is_none() && url.fragment().is_none());
        }
    }
}
