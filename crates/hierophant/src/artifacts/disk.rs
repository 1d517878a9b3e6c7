//! Artifacts in a local directory: `<directory>/<kind>/<id>`, uploads under way in `<directory>/incoming/`.
//!
//! A crash midway leaves at most a file in `incoming/`. The next start removes it, unless it is of an upload that can go
//! on (`partial`). Files are read and written off the runtime, [`CHUNK`] bytes at a time and one piece ahead, so that
//! network and disk work at once and an upload or a download never holds more than three pieces, whatever its size.

mod partial;

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    mem,
    ops::Range,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use network_lib::{ArtifactId, ArtifactKind, Digest, Hasher, crash_point};
use rustix::{
    fs::{CWD, RenameFlags},
    io::Errno,
};
use tokio::{
    runtime::Handle,
    task::{JoinHandle, spawn_blocking},
};

use self::partial::{Turn, Turns};
use super::{Announced, ArtifactError, ArtifactFiles, Chunks, Published, Reader, Stamp, Upload, durable};

/// How much is read or written at once: so much that handing it from thread to thread costs little beside copying it.
const CHUNK: usize = 512 * 1024;

/// A piece of an upload that is written as it came. Smaller ones are put together first.
const LARGE: usize = 64 * 1024;

/// What the names of damaged files end in that were set aside.
const ASIDE: &str = ".damaged";

/// Artifacts in a local directory.
#[derive(Debug, Clone)]
pub struct DiskArtifacts {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    directory: PathBuf,
    keep_free: u64,
    turns: Turns,
}

impl DiskArtifacts {
    /// The artifacts in `directory`, which is created if it is missing. Uploads that a crash left unfinished and that
    /// cannot go on are removed, so no other process may be using the directory.
    ///
    /// Whatever is not a proof is refused once it would leave less than `keep_free` bytes on the disk: work that was
    /// accepted can then still be delivered. Proofs are refused below a quarter of it: the database, which knows what was
    /// accepted, can then still be written. Both recover by themselves when there is room again. Reads and writes the disk: for start-up only.
    ///
    /// # Errors
    /// [`ArtifactError::Io`] when the directory cannot be made, read or written.
    pub fn open(directory: impl Into<PathBuf>, keep_free: u64) -> Result<Self, ArtifactError> {
        let root = Root { directory: directory.into(), keep_free, turns: Turns::default() };
        let incoming = root.incoming();
        for directory in ArtifactKind::ALL.map(|kind| root.kind(kind)).iter().chain([&incoming]) {
            durable::create_directory(directory).map_err(trouble("create", directory))?;
        }
        durable::sync_directory(&root.directory).map_err(trouble("sync", &root.directory))?;
        for entry in fs::read_dir(&incoming).map_err(trouble("list", &incoming))? {
            let entry = entry.map_err(trouble("list", &incoming))?;
            if entry.file_name().to_str().and_then(partial::id_of).is_some() {
                continue;
            }
            let path = entry.path();
            fs::remove_file(&path).map_err(trouble("remove", &path))?;
        }
        Ok(Self { root: Arc::new(root) })
    }
}

impl Root {
    fn incoming(&self) -> PathBuf {
        self.directory.join("incoming")
    }

    fn kind(&self, kind: ArtifactKind) -> PathBuf {
        self.directory.join(kind.name())
    }

    fn partial(&self, id: ArtifactId) -> PathBuf {
        self.incoming().join(partial::name(id))
    }

    /// An id has one spelling, of letters, digits, `_` and `-`: it cannot leave the directory.
    fn file(&self, id: ArtifactId) -> PathBuf {
        self.kind(id.kind()).join(id.to_string())
    }

    /// Where damaged bytes of this id are kept. No id has this spelling.
    fn aside(&self, id: ArtifactId) -> PathBuf {
        self.kind(id.kind()).join(format!("{id}{ASIDE}"))
    }

    /// What was set aside: where it lies, since when (its inode changed last then), and how many bytes it has.
    fn all_aside(&self) -> Result<Vec<(SystemTime, u64, PathBuf)>, ArtifactError> {
        let mut aside = Vec::new();
        for directory in ArtifactKind::ALL.map(|kind| self.kind(kind)) {
            for entry in fs::read_dir(&directory).map_err(trouble("list", &directory))? {
                let entry = entry.map_err(trouble("list", &directory))?;
                let name = entry.file_name();
                let is_aside = name.to_str().and_then(|name| name.strip_suffix(ASIDE)).map(str::parse::<ArtifactId>);
                if let Some(Ok(_)) = is_aside
                    && let Some(metadata) = found(entry.metadata()).map_err(trouble("look at", &entry.path()))?
                {
                    let part = |time: i64| u64::try_from(time).unwrap_or(0);
                    let since =
                        Duration::from_secs(part(metadata.ctime())) + Duration::from_nanos(part(metadata.ctime_nsec()));
                    aside.push((SystemTime::UNIX_EPOCH + since, metadata.len(), entry.path()));
                }
            }
        }
        Ok(aside)
    }

    /// Whether `more` bytes may be taken in.
    fn has_room(&self, kind: ArtifactKind, more: usize) -> Result<bool, ArtifactError> {
        let keep_free = match kind {
            ArtifactKind::Proof => self.keep_free / 4,
            ArtifactKind::Program | ArtifactKind::Stdin | ArtifactKind::PrivateStdin => self.keep_free,
        };
        if keep_free == 0 {
            return Ok(true);
        }
        let disk = rustix::fs::statvfs(&self.directory)
            .map_err(|error| trouble("ask for the free space of", &self.directory)(error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        Ok(free.saturating_sub(more as u64) >= keep_free)
    }
}

#[async_trait]
impl ArtifactFiles for DiskArtifacts {
    async fn begin(&self, id: ArtifactId, limit: u64) -> Result<Box<dyn Upload>, ArtifactError> {
        let root = Arc::clone(&self.root);
        let staged = off_the_runtime(move || Staged::create(root, id)).await?;
        Ok(Box::new(DiskUpload::of(staged, limit)))
    }

    async fn partial(&self, id: ArtifactId) -> Result<u64, ArtifactError> {
        let root = Arc::clone(&self.root);
        off_the_runtime(move || {
            let _turn = root.turns.take(id);
            let path = root.partial(id);
            let metadata = found(fs::metadata(&path)).map_err(trouble("look at", &path))?;
            Ok(metadata.map_or(0, |metadata| metadata.len()))
        })
        .await
    }

    async fn resume(
        &self,
        id: ArtifactId,
        offset: u64,
        announced: Announced,
    ) -> Result<Box<dyn Upload>, ArtifactError> {
        let root = Arc::clone(&self.root);
        let staged = off_the_runtime(move || Staged::resume(root, id, offset, announced)).await?;
        Ok(Box::new(DiskUpload::of(staged, announced.size)))
    }

    async fn discard(&self, id: ArtifactId) -> Result<(), ArtifactError> {
        let root = Arc::clone(&self.root);
        off_the_runtime(move || {
            let _turn = root.turns.take(id);
            let path = root.partial(id);
            found(fs::remove_file(&path)).map(drop).map_err(trouble("remove", &path))
        })
        .await
    }

    async fn partials(&self) -> Result<HashMap<ArtifactId, SystemTime>, ArtifactError> {
        let incoming = self.root.incoming();
        off_the_runtime(move || listed(&incoming, partial::id_of)).await
    }

    async fn open(&self, id: ArtifactId, range: Range<u64>) -> Result<Option<Reader>, ArtifactError> {
        let path = self.root.file(id);
        let opened = off_the_runtime(move || {
            let Some(mut file) = found(File::open(&path)).map_err(trouble("open", &path))? else { return Ok(None) };
            let size = file.metadata().map_err(trouble("read the size of", &path))?.len();
            file.seek(io::SeekFrom::Start(range.start)).map_err(trouble("seek in", &path))?;
            Ok(Some((file, size, range)))
        });
        Ok(opened.await?.map(|(file, size, range)| Reader {
            size,
            chunks: chunks(file, range.end.min(size).saturating_sub(range.start)),
        }))
    }

    async fn local_file(&self, id: ArtifactId) -> Result<Option<PathBuf>, ArtifactError> {
        let path = self.root.file(id);
        off_the_runtime(move || {
            let metadata = found(fs::metadata(&path)).map_err(trouble("look for", &path))?;
            Ok(metadata.map(|_| path))
        })
        .await
    }

    async fn remove(&self, id: ArtifactId) -> Result<(), ArtifactError> {
        let path = self.root.file(id);
        off_the_runtime(move || found(fs::remove_file(&path)).map(drop).map_err(trouble("remove", &path))).await
    }

    async fn has_room(&self, kind: ArtifactKind) -> Result<bool, ArtifactError> {
        let root = Arc::clone(&self.root);
        off_the_runtime(move || root.has_room(kind, 0)).await
    }

    async fn stamp(&self, id: ArtifactId) -> Result<Option<Stamp>, ArtifactError> {
        let path = self.root.file(id);
        off_the_runtime(move || {
            let metadata = found(fs::metadata(&path)).map_err(trouble("look at", &path))?;
            Ok(metadata.map(|metadata| stamp(&metadata)))
        })
        .await
    }

    async fn measure(&self, id: ArtifactId) -> Result<Option<(Published, Stamp)>, ArtifactError> {
        let path = self.root.file(id);
        off_the_runtime(move || {
            let Some(file) = found(File::open(&path)).map_err(trouble("open", &path))? else { return Ok(None) };
            let stamp = stamp(&file.metadata().map_err(trouble("look at", &path))?);
            Ok(Some((measure(file).map_err(trouble("read", &path))?, stamp)))
        })
        .await
    }

    async fn set_aside(&self, id: ArtifactId) -> Result<(), ArtifactError> {
        let (path, aside, directory) = (self.root.file(id), self.root.aside(id), self.root.kind(id.kind()));
        off_the_runtime(move || {
            found(fs::rename(&path, &aside)).map_err(trouble("move aside", &path))?;
            durable::sync_directory(&directory).map_err(trouble("sync", &directory))
        })
        .await
    }

    async fn was_set_aside(&self, id: ArtifactId) -> Result<bool, ArtifactError> {
        let path = self.root.aside(id);
        off_the_runtime(move || Ok(found(fs::metadata(&path)).map_err(trouble("look for", &path))?.is_some())).await
    }

    async fn clear_aside(&self, before: SystemTime, most: u64) -> Result<(u64, u64), ArtifactError> {
        let root = Arc::clone(&self.root);
        off_the_runtime(move || {
            let mut aside = root.all_aside()?;
            aside.sort_unstable();
            let mut left: u64 = aside.iter().map(|(_, size, _)| size).sum();
            let mut removed = (0, 0);
            for (since, size, path) in aside {
                if since >= before && left <= most {
                    break;
                }
                found(fs::remove_file(&path)).map_err(trouble("remove", &path))?;
                left -= size;
                removed = (removed.0 + 1, removed.1 + size);
            }
            Ok(removed)
        })
        .await
    }

    async fn list(&self) -> Result<HashMap<ArtifactId, SystemTime>, ArtifactError> {
        let root = Arc::clone(&self.root);
        off_the_runtime(move || {
            let mut all = HashMap::new();
            for directory in ArtifactKind::ALL.map(|kind| root.kind(kind)) {
                all.extend(listed(&directory, |name| name.parse().ok())?);
            }
            Ok(all)
        })
        .await
    }
}

/// An upload on its way to the disk.
struct DiskUpload {
    id: ArtifactId,
    limit: u64,
    received: u64,
    /// Small pieces that came and are not handed over yet.
    buffer: Vec<u8>,
    stage: Stage,
}

/// Where the staged file is.
enum Stage {
    /// Here.
    Ready(Box<Staged>),
    /// On a thread that writes to it.
    Writing(JoinHandle<Result<Box<Staged>, ArtifactError>>),
    /// Gone, after an error.
    Over,
}

impl DiskUpload {
    fn of(staged: Staged, limit: u64) -> Self {
        Self { id: staged.id, limit, received: staged.size, buffer: Vec::new(), stage: Stage::Ready(Box::new(staged)) }
    }

    /// The staged file, once the write under way is done.
    async fn ready(&mut self) -> Result<Box<Staged>, ArtifactError> {
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Ready(staged) => Ok(staged),
            Stage::Writing(writing) => writing.await.unwrap_or_else(|stopped| Err(interrupted(stopped))),
            Stage::Over => Err(interrupted("the upload failed before")),
        }
    }

    /// Hands a piece over; the disk takes it while the next one comes.
    async fn hand_over(&mut self, piece: Bytes) -> Result<(), ArtifactError> {
        let mut staged = self.ready().await?;
        self.stage = Stage::Writing(spawn_blocking(move || {
            staged.append(&piece)?;
            Ok(staged)
        }));
        Ok(())
    }

    /// Hands over what small pieces made up.
    async fn hand_over_buffer(&mut self) -> Result<(), ArtifactError> {
        let piece = mem::take(&mut self.buffer);
        if piece.is_empty() { Ok(()) } else { self.hand_over(piece.into()).await }
    }
}

#[async_trait]
impl Upload for DiskUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<(), ArtifactError> {
        self.received = self.received.saturating_add(chunk.len() as u64);
        if self.received > self.limit {
            self.stage = Stage::Over;
            return Err(ArtifactError::TooLarge { id: self.id, limit: self.limit });
        }
        if chunk.len() >= LARGE {
            self.hand_over_buffer().await?;
            return self.hand_over(chunk).await;
        }
        // Copied, not kept: a small piece of the network's large buffer would hold all of that buffer.
        self.buffer.extend_from_slice(&chunk);
        if self.buffer.len() >= CHUNK { self.hand_over_buffer().await } else { Ok(()) }
    }

    async fn suspend(mut self: Box<Self>) -> Result<(), ArtifactError> {
        let mut staged = self.ready().await?;
        let rest = mem::take(&mut self.buffer);
        off_the_runtime(move || if staged.resumable.is_some() { staged.append(&rest) } else { Ok(()) }).await
    }

    async fn publish(mut self: Box<Self>, expected: Option<Digest>) -> Result<Published, ArtifactError> {
        let mut staged = self.ready().await?;
        let rest = mem::take(&mut self.buffer);
        off_the_runtime(move || {
            staged.append(&rest)?;
            staged.publish(expected)
        })
        .await
    }
}

/// A file in `incoming/`. Removed when dropped, unless the upload can go on.
struct Staged {
    root: Arc<Root>,
    id: ArtifactId,
    /// `None` once it is removed.
    file: Option<File>,
    path: PathBuf,
    /// `None` when some of the bytes came earlier: then the file is read before it is published.
    digest: Option<Hasher>,
    size: u64,
    /// Of an upload that can go on, as long as it can.
    resumable: Option<Resumable>,
}

#[derive(Clone)]
struct Resumable {
    announced: Announced,
    turn: Arc<Turn>,
}

impl Staged {
    fn create(root: Arc<Root>, id: ArtifactId) -> Result<Self, ArtifactError> {
        if !root.has_room(id.kind(), 0)? {
            return Err(ArtifactError::Full);
        }
        let incoming = root.incoming();
        let (file, path) =
            durable::create_unfinished(&incoming, &id.to_string()).map_err(trouble("create a file in", &incoming))?;
        Ok(Self { root, id, file: Some(file), path, digest: Some(Hasher::default()), size: 0, resumable: None })
    }

    fn resume(root: Arc<Root>, id: ArtifactId, offset: u64, announced: Announced) -> Result<Self, ArtifactError> {
        if !root.has_room(id.kind(), 0)? {
            return Err(ArtifactError::Full);
        }
        let turn = Arc::new(root.turns.take(id));
        let _mine = turn.hold()?;
        let path = root.partial(id);
        let opened = File::options().append(true).create(offset == 0).mode(0o600).open(&path);
        let opened = found(opened).map_err(trouble("open", &path))?;
        let there = match &opened {
            Some(file) => file.metadata().map_err(trouble("read the size of", &path))?.len(),
            None => 0,
        };
        let Some(file) = opened.filter(|_| there == offset) else { return Err(ArtifactError::Offset { id, there }) };
        let digest = (offset == 0).then(Hasher::default);
        let resumable = Some(Resumable { announced, turn: Arc::clone(&turn) });
        Ok(Self { root, id, file: Some(file), path, digest, size: offset, resumable })
    }

    fn file(&mut self) -> &mut File {
        self.file.as_mut().expect("only `drop` and `publish`, which consume this, take the file")
    }

    /// What clients upload and what workers deliver have points of their own.
    fn crash_point(&self, artifact: &str, result: &str) {
        crash_point!(if self.id.kind() == ArtifactKind::Proof { result } else { artifact });
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), ArtifactError> {
        let resumable = self.resumable.clone();
        let _mine = resumable.as_ref().map(|resumable| resumable.turn.hold()).transpose()?;
        if !self.root.has_room(self.id.kind(), bytes.len())? {
            return Err(ArtifactError::Full);
        }
        self.file().write_all(bytes).map_err(|source| trouble("write to", &self.path)(source))?;
        self.crash_point("artifact.mid_stream", "result.mid_stream");
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Nothing is left of it in `incoming/` when this is done, unless the trouble is of a kind that passes.
    fn publish(mut self, expected: Option<Digest>) -> Result<Published, ArtifactError> {
        let resumable = self.resumable.clone();
        let _mine = resumable.as_ref().map(|resumable| resumable.turn.hold()).transpose()?;
        let outcome = self.move_to_its_id(expected);
        if resumable.is_some() && self.resumable.is_none() && self.file.take().is_some() {
            // While nobody can have begun anew under the same name.
            remove(&self.path);
        }
        outcome
    }

    /// Synced, then moved to its id unless that is taken, then the directory synced: in this order, a crash at any point
    /// shows either nothing or the whole file.
    fn move_to_its_id(&mut self, expected: Option<Digest>) -> Result<Published, ArtifactError> {
        let published = match &self.digest {
            Some(digest) => Published { digest: digest.digest(), size: self.size },
            None => File::open(&self.path).and_then(measure).map_err(trouble("read", &self.path))?,
        };
        let Published { digest, size } = published;
        if self.resumable.take_if(|resumable| resumable.announced != (Announced { digest, size })).is_some() {
            return Err(ArtifactError::NotAnnounced(self.id));
        }
        if expected.is_some_and(|expected| expected != digest) {
            self.resumable = None;
            return Err(ArtifactError::Conflict(self.id));
        }
        self.crash_point("artifact.after_stage_before_fsync", "result.after_stage_before_fsync");
        if let Err(source) = self.file().sync_all() {
            // A failed sync is the end of this file: the kernel may have dropped the pages and would call a second one fine.
            self.resumable = None;
            return Err(trouble("sync", &self.path)(source));
        }
        self.crash_point("artifact.after_fsync_before_rename", "result.after_fsync_before_rename");
        let target = self.root.file(self.id);
        let moved = match rustix::fs::renameat_with(CWD, &self.path, CWD, &target, RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.file = None;
                Ok(())
            }
            // Not every file system can (NFS cannot). What is staged goes when this is dropped.
            Err(Errno::INVAL) => rustix::fs::link(&self.path, &target),
            Err(error) => Err(error),
        };
        match moved {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = File::open(&target).and_then(measure).map_err(trouble("read", &target))?;
                if there != published {
                    if expected.is_none() {
                        self.resumable = None;
                        return Err(ArtifactError::Conflict(self.id));
                    }
                    // These bytes are the ones that were stored before; what lies there is damaged.
                    fs::rename(&self.path, &target).map_err(trouble("move a file to", &target))?;
                    self.file = None;
                }
            }
            Err(error) => return Err(trouble("move a file to", &target)(error.into())),
        }
        self.resumable = None;
        self.crash_point("artifact.after_rename_before_dirsync", "result.after_rename_before_dirsync");
        // Also when someone else moved it there: they may not have come to this yet.
        let directory = self.root.kind(self.id.kind());
        durable::sync_directory(&directory).map_err(trouble("sync", &directory))?;
        Ok(published)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let Some(file) = self.file.take().filter(|_| self.resumable.is_none()) else { return };
        let path = mem::take(&mut self.path);
        let remove = move || {
            remove(&path);
            drop(file); // Frees the blocks, which takes its time for a large file.
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(%error, path = %path.display(), "an unfinished upload could not be removed");
    }
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    Stamp { size: metadata.len(), written: metadata.modified().ok() }
}

/// The artifacts whose names in `directory` are read by `id_of`, and when each was last written to.
fn listed(
    directory: &Path,
    id_of: impl Fn(&str) -> Option<ArtifactId>,
) -> Result<HashMap<ArtifactId, SystemTime>, ArtifactError> {
    let mut listed = HashMap::new();
    for entry in fs::read_dir(directory).map_err(trouble("list", directory))? {
        let entry = entry.map_err(trouble("list", directory))?;
        // Whatever else lies there is someone else's.
        let Some(id) = entry.file_name().to_str().and_then(&id_of) else { continue };
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        if let Some(written) = found(written).map_err(trouble("look at", &entry.path()))? {
            listed.insert(id, written);
        }
    }
    Ok(listed)
}

/// Digest and size of a file.
fn measure(mut file: File) -> io::Result<Published> {
    let mut digest = Hasher::default();
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Published { digest: digest.digest(), size }),
            read => {
                digest.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}

/// The next `remaining` bytes of `file`, read one piece ahead of the consumer.
fn chunks(file: File, remaining: u64) -> Chunks {
    Box::pin(stream::unfold(read_ahead(file, remaining), |reading| async {
        match reading?.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped))) {
            Ok((chunk, file, remaining)) => Some((Ok(chunk), read_ahead(file, remaining))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

/// Begins to read the next piece; `None` when nothing remains.
fn read_ahead(file: File, remaining: u64) -> Option<JoinHandle<io::Result<(Bytes, File, u64)>>> {
    if remaining == 0 {
        return None;
    }
    let length = usize::try_from(remaining).unwrap_or(CHUNK).min(CHUNK);
    Some(spawn_blocking(move || {
        let mut chunk = Vec::with_capacity(length);
        (&file).take(length as u64).read_to_end(&mut chunk)?;
        if chunk.len() < length {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        Ok((Bytes::from(chunk), file, remaining - length as u64))
    }))
}

/// Runs file operations on a thread that may block. They are finished even when nobody waits for them any more.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, ArtifactError> {
    spawn_blocking(work).await.unwrap_or_else(|stopped| Err(interrupted(stopped)))
}

/// What a failed operation on `path` means.
fn trouble(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArtifactError {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ArtifactError::Full,
        _ => ArtifactError::Io { doing, path: path.to_owned(), source },
    }
}

fn interrupted(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ArtifactError {
    ArtifactError::Io { doing: "finish writing", path: PathBuf::new(), source: io::Error::other(why) }
}

/// Absence as an answer.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests;
