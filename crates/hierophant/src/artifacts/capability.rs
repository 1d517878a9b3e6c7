//! Capabilities: the right to put or get one artifact until a time, signed into a URL.
//!
//! `/artifacts/{id}?expires=<unix seconds>&owner=<address>&signature=<hex>`. Whoever has the URL has the right, so it is
//! short-lived and never logged. Every capability has one spelling; a URL that was changed in any byte is refused.

use std::{
    fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use hierophant_core::{Requester, Timestamp};
use hmac::{Hmac, Mac as _};
use network_lib::ArtifactId;
use sha2::Sha256;
use url::Url;

use super::durable;

/// What a capability allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Upload the artifact.
    Put,
    /// Download the artifact.
    Get,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
        }
    }
}

/// Why a capability was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// The URL has none.
    #[error("this URL carries no signature: use the whole URL as it was given out, with everything after the `?`")]
    Missing,
    /// The URL does not have the form in which it was given out.
    #[error("this URL was changed on its way: use it exactly as it was given out, with everything after the `?`")]
    Changed,
    /// It was signed for another artifact, method, owner or time, or by another coordinator.
    #[error("the signature in this URL is not for this artifact and method: ask for a new URL (CreateArtifact)")]
    NotForThis,
    /// Its time is over.
    #[error("this URL expired {} ago: ask for a new one (CreateArtifact)", humantime::format_duration(*.ago))]
    Expired {
        /// How long ago, by the coordinator's clock.
        ago: Duration,
    },
}

/// Makes and checks capabilities. Everyone with the same key understands the same ones.
#[derive(Clone)]
pub struct Capabilities {
    /// Holds the key.
    unsigned: Hmac<Sha256>,
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Capabilities(key not shown)")
    }
}

impl Capabilities {
    /// Capabilities under this key.
    ///
    /// # Panics
    /// Never: HMAC takes keys of any length.
    pub fn new(key: [u8; 32]) -> Self {
        Self { unsigned: Hmac::new_from_slice(&key).expect("HMAC takes keys of any length") }
    }

    /// Capabilities under the key in this file, which is made (random, readable by this user only) if it is missing.
    ///
    /// A crash midway leaves no file or a whole one. Reads and writes the disk: for start-up only.
    ///
    /// # Errors
    /// [`KeyFileError::Length`] when the file holds something else, [`KeyFileError::Io`] when it cannot be read or made.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        let trouble = |doing| move |source| KeyFileError::Io { doing, path: path.to_owned(), source };
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_key_file(path).map_err(trouble("create"))?;
                fs::read(path).map_err(trouble("read"))?
            }
            read => read.map_err(trouble("read"))?,
        };
        let key = bytes
            .try_into()
            .map_err(|bytes: Vec<u8>| KeyFileError::Length { path: path.to_owned(), length: bytes.len() })?;
        Ok(Self::new(key))
    }

    /// Where `id` can be uploaded until `expires`. It will belong to `owner`.
    pub fn put_url(&self, base: &Url, id: ArtifactId, owner: Option<Requester>, expires: Timestamp) -> Url {
        absolute(base, id, Some(&self.query(Action::Put, id, owner, expires.as_secs())))
    }

    /// As [`Self::put_url`], path and query only: for workers, who know the address.
    pub fn put_path(&self, id: ArtifactId, owner: Option<Requester>, expires: Timestamp) -> String {
        format!("{}?{}", path(id), self.query(Action::Put, id, owner, expires.as_secs()))
    }

    /// Where `id` can be downloaded until `expires`.
    pub fn get_url(&self, base: &Url, id: ArtifactId, expires: Timestamp) -> Url {
        absolute(base, id, Some(&self.query(Action::Get, id, None, expires.as_secs())))
    }

    /// As [`Self::get_url`], path and query only: for workers, who know the address.
    pub fn get_path(&self, id: ArtifactId, expires: Timestamp) -> String {
        format!("{}?{}", path(id), self.query(Action::Get, id, None, expires.as_secs()))
    }

    /// Where a proof can be downloaded, for as long as it is kept: its id alone is the capability.
    pub fn proof_url(base: &Url, id: ArtifactId) -> Url {
        absolute(base, id, None)
    }

    /// The owner whom a capability names, if its `query` allows this `action` on this artifact now.
    ///
    /// # Errors
    /// Says what is wrong with it; one that is not ours is [`CapabilityError::NotForThis`] whether it expired or not.
    pub fn check(
        &self,
        action: Action,
        id: ArtifactId,
        query: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<Requester>, CapabilityError> {
        let query = query.filter(|query| !query.is_empty()).ok_or(CapabilityError::Missing)?;
        let claim = Claim::read(query).ok_or(CapabilityError::Changed)?;
        self.mac(action, id, claim.owner, claim.expires)
            .verify_slice(&claim.signature) // In constant time.
            .map_err(|_| CapabilityError::NotForThis)?;
        if now.as_secs() >= claim.expires {
            let ago = Duration::from_secs(now.as_secs() - claim.expires);
            return Err(CapabilityError::Expired { ago });
        }
        Ok(claim.owner)
    }

    fn query(&self, action: Action, id: ArtifactId, owner: Option<Requester>, expires: u64) -> String {
        let signature = self.mac(action, id, owner, expires).finalize().into_bytes().into();
        Claim { expires, owner, signature }.write()
    }

    /// Every field is of fixed length or ends in a byte that cannot be inside it, so no two claims sign the same bytes.
    fn mac(&self, action: Action, id: ArtifactId, owner: Option<Requester>, expires: u64) -> Hmac<Sha256> {
        let mut mac = self.unsigned.clone();
        mac.update(b"hierophant artifact capability 1\0");
        mac.update(action.name().as_bytes());
        mac.update(b"\0");
        mac.update(id.to_string().as_bytes());
        mac.update(b"\0");
        mac.update(&expires.to_be_bytes());
        if let Some(owner) = owner {
            mac.update(owner.as_bytes());
        }
        mac
    }
}

/// What the query of a URL says.
struct Claim {
    expires: u64,
    owner: Option<Requester>,
    signature: [u8; 32],
}

impl Claim {
    fn write(&self) -> String {
        let owner = self.owner.map(|owner| format!("&owner={owner}")).unwrap_or_default();
        format!("expires={}{owner}&signature={}", self.expires, hex::encode(self.signature))
    }

    /// Reads exactly what [`Self::write`] writes: another spelling of the same claim is no claim.
    fn read(query: &str) -> Option<Self> {
        let mut fields = query.split('&');
        let expires = fields.next()?.strip_prefix("expires=")?.parse().ok()?;
        let mut field = fields.next()?;
        let owner = match field.strip_prefix("owner=") {
            Some(owner) => {
                field = fields.next()?;
                Some(owner.parse().ok()?)
            }
            None => None,
        };
        let mut signature = [0; 32];
        hex::decode_to_slice(field.strip_prefix("signature=")?, &mut signature).ok()?;
        let claim = Self { expires, owner, signature };
        (claim.write() == query).then_some(claim)
    }
}

fn path(id: ArtifactId) -> String {
    format!("/artifacts/{id}")
}

/// Below `base`, which may have a path of its own (behind a proxy that adds one).
fn absolute(base: &Url, id: ArtifactId, query: Option<&str>) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), path(id)));
    url.set_query(query);
    url
}

/// Why the key file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file holds something else.
    #[error(
        "the key file {} has {length} bytes instead of 32: restore it, or remove it to have a new key made (upload URLs \
         that are in clients' hands then stop working)",
        .path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// How many bytes it has.
        length: usize,
    },
    /// The file cannot be read or made.
    #[error("could not {doing} the key file {}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Written aside, synced, linked. If someone else is quicker, theirs stays.
fn create_key_file(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    durable::create_directory(directory)?;
    let (mut file, unfinished) = durable::create_unfinished(directory, ".key")?;
    let made = file.write_all(&durable::random::<32>()?).and_then(|()| file.sync_all()).and_then(|()| {
        match fs::hard_link(&unfinished, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    fs::remove_file(&unfinished)?;
    made?;
    durable::sync_directory(directory)
}

#[cfg(test)]
mod tests;
