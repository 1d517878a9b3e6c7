//! Capabilities: the right to put or get one artifact until a time, signed into a URL.
//!
//! `/artifacts/{id}?expires=<unix seconds>&owner=<address>&digest=<hex>&size=<bytes>&signature=<hex>`, of which a client's
//! URLs have the owner and a worker's the digest and the size of what it announced. Whoever has the URL has the right, so
//! it is short-lived and never logged. Every capability has one spelling; a URL that was changed in any byte is refused.

use std::{
    fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use hierophant_core::{Requester, Timestamp};
use hmac::{Hmac, Mac as _};
use network_lib::{ArtifactId, Digest};
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

/// The bytes that a worker announced: an upload brings these and no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Their digest.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
}

/// What a capability grants beside the right itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grant {
    /// To whom the artifact will belong.
    pub owner: Option<Requester>,
    /// Which bytes may be uploaded; any if this is none.
    pub announced: Option<Announced>,
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
        let grant = Grant { owner, announced: None };
        absolute(base, id, Some(&self.query(Action::Put, id, grant, expires.as_secs())))
    }

    /// Where a worker can upload what it announced until `expires`, path and query only: it knows the address.
    pub fn put_path(&self, id: ArtifactId, announced: Option<Announced>, expires: Timestamp) -> String {
        let grant = Grant { owner: None, announced };
        format!("{}?{}", path(id), self.query(Action::Put, id, grant, expires.as_secs()))
    }

    /// Where `id` can be downloaded until `expires`.
    pub fn get_url(&self, base: &Url, id: ArtifactId, expires: Timestamp) -> Url {
        absolute(base, id, Some(&self.query(Action::Get, id, Grant::default(), expires.as_secs())))
    }

    /// As [`Self::get_url`], path and query only: for workers, who know the address.
    pub fn get_path(&self, id: ArtifactId, expires: Timestamp) -> String {
        format!("{}?{}", path(id), self.query(Action::Get, id, Grant::default(), expires.as_secs()))
    }

    /// Where a proof can be downloaded, for as long as it is kept: its id alone is the capability.
    pub fn proof_url(base: &Url, id: ArtifactId) -> Url {
        absolute(base, id, None)
    }

    /// What a capability grants, if its `query` allows this `action` on this artifact now.
    ///
    /// # Errors
    /// Says what is wrong with it; one that is not ours is [`CapabilityError::NotForThis`] whether it expired or not.
    pub fn check(
        &self,
        action: Action,
        id: ArtifactId,
        query: Option<&str>,
        now: Timestamp,
    ) -> Result<Grant, CapabilityError> {
        let query = query.filter(|query| !query.is_empty()).ok_or(CapabilityError::Missing)?;
        let claim = Claim::read(query).ok_or(CapabilityError::Changed)?;
        self.mac(action, id, claim.grant, claim.expires)
            .verify_slice(&claim.signature) // In constant time.
            .map_err(|_| CapabilityError::NotForThis)?;
        if now.as_secs() >= claim.expires {
            let ago = Duration::from_secs(now.as_secs() - claim.expires);
            return Err(CapabilityError::Expired { ago });
        }
        Ok(claim.grant)
    }

    fn query(&self, action: Action, id: ArtifactId, grant: Grant, expires: u64) -> String {
        let signature = self.mac(action, id, grant, expires).finalize().into_bytes().into();
        Claim { expires, grant, signature }.write()
    }

    /// Every field is of fixed length or ends in a byte that cannot be inside it, and those that may be missing differ in
    /// their lengths, so no two claims sign the same bytes.
    fn mac(&self, action: Action, id: ArtifactId, grant: Grant, expires: u64) -> Hmac<Sha256> {
        let mut mac = self.unsigned.clone();
        mac.update(b"hierophant artifact capability 1\0");
        mac.update(action.name().as_bytes());
        mac.update(b"\0");
        mac.update(id.to_string().as_bytes());
        mac.update(b"\0");
        mac.update(&expires.to_be_bytes());
        if let Some(owner) = grant.owner {
            mac.update(owner.as_bytes());
        }
        if let Some(Announced { digest, size }) = grant.announced {
            mac.update(digest.as_bytes());
            mac.update(&size.to_be_bytes());
        }
        mac
    }
}

/// What the query of a URL says.
struct Claim {
    expires: u64,
    grant: Grant,
    signature: [u8; 32],
}

impl Claim {
    fn write(&self) -> String {
        let Grant { owner, announced } = self.grant;
        let owner = owner.map(|owner| format!("&owner={owner}")).unwrap_or_default();
        let announced = announced.map(|Announced { digest, size }| format!("&digest={digest}&size={size}"));
        let announced = announced.unwrap_or_default();
        format!("expires={}{owner}{announced}&signature={}", self.expires, hex::encode(self.signature))
    }

    /// Reads exactly what [`Self::write`] writes: another spelling of the same claim is no claim.
    fn read(query: &str) -> Option<Self> {
        let mut fields = query.split('&').peekable();
        let mut field = |name: &str| fields.next_if(|field| field.starts_with(name)).map(|field| &field[name.len()..]);
        let expires = field("expires=")?.parse().ok()?;
        let owner = field("owner=").map(str::parse).transpose().ok()?;
        let announced = match field("digest=") {
            Some(digest) => Some(Announced { digest: digest.parse().ok()?, size: field("size=")?.parse().ok()? }),
            None => None,
        };
        let mut signature = [0; 32];
        hex::decode_to_slice(field("signature=")?, &mut signature).ok()?;
        let claim = Self { expires, grant: Grant { owner, announced }, signature };
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
