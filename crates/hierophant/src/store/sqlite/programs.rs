//! The tables of programs and of artifacts.

use std::sync::Arc;

use async_trait::async_trait;
use hierophant_core::{Requester, Timestamp};
use network_lib::{ArtifactId, Digest};
use quick_cache::{Weighter, sync::Cache};
use rusqlite::{Connection, Row, params};

use super::{
    SqliteStore, retention,
    rows::{self, Columns, TableRow},
    writer::Written,
};
use crate::store::{Artifact, Artifacts, Program, Programs, StorageError};

/// Programs in memory, up to a number of bytes. All that may change of one is which upload of its ELF is used, and only
/// after that upload was lost; so there is nothing to keep in order.
pub(super) type ProgramCache = Cache<Digest, Arc<Program>, ProgramWeight>;

/// A cache that takes about `bytes` of memory when it is full.
pub(super) fn cache(bytes: u64) -> ProgramCache {
    Cache::with_weighter(1024, bytes, ProgramWeight)
}

/// Weighs a program by its verifying key, the only part that may be of any size.
#[derive(Debug, Clone)]
pub(super) struct ProgramWeight;

impl Weighter<Digest, Arc<Program>> for ProgramWeight {
    fn weight(&self, _: &Digest, program: &Arc<Program>) -> u64 {
        300 + program.verifying_key.len() as u64
    }
}

struct ProgramRow {
    vk_hash: Vec<u8>,
    verifying_key: Vec<u8>,
    program: String,
    owner: Vec<u8>,
    created_at: i64,
}

impl TableRow for ProgramRow {
    const TABLE: &'static str = "programs";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            vk_hash: row.get("vk_hash")?,
            verifying_key: row.get("verifying_key")?,
            program: row.get("program")?,
            owner: row.get("owner")?,
            created_at: row.get("created_at")?,
        })
    }
}

impl TryFrom<ProgramRow> for Program {
    type Error = StorageError;

    fn try_from(row: ProgramRow) -> Result<Self, StorageError> {
        let columns = Columns::of(ProgramRow::TABLE, hex::encode(&row.vk_hash));
        Ok(Self {
            vk_hash: columns.get("vk_hash", Digest::try_from(row.vk_hash.as_slice()))?,
            verifying_key: row.verifying_key,
            program: columns.get("program", row.program.parse())?,
            owner: requester(&columns, "owner", &row.owner)?,
            created_at: Timestamp::from_millis(row.created_at.cast_unsigned()),
        })
    }
}

struct ArtifactRow {
    id: String,
    owner: Option<Vec<u8>>,
    digest: Vec<u8>,
    size: i64,
    created_at: i64,
}

impl TableRow for ArtifactRow {
    const TABLE: &'static str = "artifacts";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            owner: row.get("owner")?,
            digest: row.get("digest")?,
            size: row.get("size")?,
            created_at: row.get("created_at")?,
        })
    }
}

impl TryFrom<ArtifactRow> for Artifact {
    type Error = StorageError;

    fn try_from(row: ArtifactRow) -> Result<Self, StorageError> {
        let columns = Columns::of(ArtifactRow::TABLE, &row.id);
        Ok(Self {
            id: columns.get("id", row.id.parse())?,
            owner: row.owner.map(|owner| requester(&columns, "owner", &owner)).transpose()?,
            digest: columns.get("digest", Digest::try_from(row.digest.as_slice()))?,
            size: row.size.cast_unsigned(),
            created_at: Timestamp::from_millis(row.created_at.cast_unsigned()),
        })
    }
}

/// The address in a column.
pub(super) fn requester(columns: &Columns, column: &str, bytes: &[u8]) -> Result<Requester, StorageError> {
    let address = bytes.try_into().map_err(|_| format!("an address is 20 bytes, not {}", bytes.len()));
    columns.get(column, address.map(Requester::new))
}

#[async_trait]
impl Programs for SqliteStore {
    async fn register_program(&self, program: Program) -> Result<(), StorageError> {
        let vk_hash = program.vk_hash;
        self.writer.perform(move |connection| register(connection, &program).map(Written::plain)).await?;
        // What is in memory may name an ELF that was gone.
        self.programs.remove(&vk_hash);
        Ok(())
    }

    async fn program(&self, vk_hash: Digest) -> Result<Option<Arc<Program>>, StorageError> {
        let placeholder = match self.programs.get_value_or_guard_async(&vk_hash).await {
            Ok(program) => return Ok(Some(program)),
            Err(placeholder) => placeholder,
        };
        let found = self.readers.read(move |connection| find_program(connection, vk_hash)).await?.map(Arc::new);
        if let Some(program) = &found {
            // Whatever else is there by now is the same program.
            let _ = placeholder.insert(Arc::clone(program));
        }
        Ok(found)
    }
}

#[async_trait]
impl Artifacts for SqliteStore {
    async fn record_artifact(&self, artifact: Artifact) -> Result<(), StorageError> {
        self.writer.perform(move |connection| record(connection, &artifact).map(Written::plain)).await
    }

    async fn artifact(&self, id: ArtifactId) -> Result<Option<Artifact>, StorageError> {
        self.readers.read(move |connection| find_artifact(connection, id)).await
    }

    async fn forget_artifact(&self, id: ArtifactId) -> Result<(), StorageError> {
        let forget = move |connection: &Connection| {
            retention::delete_artifact(connection, id)
                .map_err(|error| rows::failure(&error, ArtifactRow::TABLE, id))?;
            Ok(Written::plain(()))
        };
        self.writer.perform(forget).await
    }
}

fn register(connection: &Connection, program: &Program) -> Result<(), StorageError> {
    let insert = || {
        connection
            .prepare_cached(
                "INSERT INTO programs (vk_hash, verifying_key, program, owner, created_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (vk_hash) DO UPDATE SET program = excluded.program \
                 WHERE NOT EXISTS (SELECT 1 FROM artifacts WHERE artifacts.id = programs.program)",
            )?
            .execute(params![
                program.vk_hash.as_bytes(),
                program.verifying_key,
                program.program.to_string(),
                program.owner.as_bytes(),
                program.created_at.as_millis().cast_signed(),
            ])
    };
    insert().map_err(|error| rows::failure(&error, ProgramRow::TABLE, program.vk_hash))?;
    Ok(())
}

fn find_program(connection: &Connection, vk_hash: Digest) -> Result<Option<Program>, StorageError> {
    let statement = connection.prepare_cached("SELECT * FROM programs WHERE vk_hash = ?1");
    rows::first::<ProgramRow, _>(statement, [vk_hash.as_bytes()], vk_hash)
}

fn record(connection: &Connection, artifact: &Artifact) -> Result<(), StorageError> {
    let insert = || {
        connection
            .prepare_cached(
                "INSERT INTO artifacts (id, owner, digest, size, created_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                artifact.id.to_string(),
                artifact.owner.as_ref().map(Requester::as_bytes),
                artifact.digest.as_bytes(),
                artifact.size.cast_signed(),
                artifact.created_at.as_millis().cast_signed(),
            ])
    };
    let inserted = insert().map_err(|error| rows::failure(&error, ArtifactRow::TABLE, artifact.id))?;
    if inserted == 0 {
        let is_same = find_artifact(connection, artifact.id)?.is_some_and(|there| there.digest == artifact.digest);
        if !is_same {
            return Err(StorageError::Exists { what: format!("artifact {}", artifact.id) });
        }
    }
    Ok(())
}

/// An artifact by its id.
pub(super) fn find_artifact(connection: &Connection, id: ArtifactId) -> Result<Option<Artifact>, StorageError> {
    let statement = connection.prepare_cached("SELECT * FROM artifacts WHERE id = ?1");
    rows::first::<ArtifactRow, _>(statement, [id.to_string()], id)
}
