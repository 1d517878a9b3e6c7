//! Deleting what nobody needs any more.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use hierophant_core::Timestamp;
use network_lib::{ArtifactId, ArtifactKind, RequestId};
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::{
    SqliteStore,
    rows::{self, Columns},
    writer::Written,
};
use crate::store::{REPLAY_GRACE, Retention, RetentionRules, SHORTEST_STAY, StorageError};

/// The condition of the index `requests_ended`, in the same words.
const HAS_ENDED: &str = "state NOT IN ('queued', 'leased', 'verifying')";

/// A deadline without end is negative in its column.
const IS_PAST_REPLAY: &str = "deadline BETWEEN 0 AND ?2";

/// Who needs an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// A request that is open, or everyone, since it is a registered program.
    Needed,
    /// Nobody, so far or any more.
    Unused,
    /// Nobody, and nobody ever will: a proof whose request is gone.
    Orphan,
    /// Only requests that ended, the last of them at this time. For a proof: the request that it fulfilled.
    OfEnded { since: Timestamp },
}

impl Need {
    /// Whether an artifact with this need may go at all.
    fn may_go(self, created_at: Timestamp, rules: &RetentionRules, now: Timestamp) -> bool {
        let stayed = |since, time: Duration| now.since(since) >= time.max(SHORTEST_STAY);
        match self {
            Self::Needed => false,
            Self::Unused => stayed(created_at, rules.unused_artifacts),
            Self::Orphan => stayed(created_at, SHORTEST_STAY),
            Self::OfEnded { since } => stayed(created_at, SHORTEST_STAY) && stayed(since, SHORTEST_STAY),
        }
    }
}

#[async_trait]
impl Retention for SqliteStore {
    async fn prunable_requests(
        &self,
        rules: RetentionRules,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<RequestId>, StorageError> {
        self.readers.read(move |connection| prunable_requests(connection, &rules, now, limit)).await
    }

    async fn prune_requests(&self, ids: Vec<RequestId>, now: Timestamp) -> Result<usize, StorageError> {
        let prune = move |connection: &Connection| {
            let mut dropped = Vec::new();
            for id in ids {
                if prune_request(connection, id, now).map_err(|error| rows::failure(&error, "requests", id))? {
                    dropped.push(id);
                }
            }
            Ok(Written { answer: dropped.len(), request: None, dropped })
        };
        self.writer.perform(prune).await
    }

    async fn prunable_artifacts(&self, rules: RetentionRules, now: Timestamp) -> Result<Vec<ArtifactId>, StorageError> {
        self.readers.read(move |connection| prunable_artifacts(connection, &rules, now)).await
    }

    async fn prune_artifacts(
        &self,
        ids: Vec<ArtifactId>,
        rules: RetentionRules,
        now: Timestamp,
    ) -> Result<Vec<ArtifactId>, StorageError> {
        let prune = move |connection: &Connection| {
            let mut gone = Vec::new();
            for id in ids {
                if prune_artifact(connection, id, &rules, now)
                    .map_err(|error| rows::failure(&error, "artifacts", id))?
                {
                    gone.push(id);
                }
            }
            Ok(Written::plain(gone))
        };
        self.writer.perform(prune).await
    }

    async fn recorded_artifacts(&self, after: Option<ArtifactId>, limit: u32) -> Result<Vec<ArtifactId>, StorageError> {
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let query = move |connection: &Connection| {
            let read = || {
                connection
                    .prepare_cached("SELECT id FROM artifacts WHERE id > ?1 ORDER BY id LIMIT ?2")?
                    .query_map((&after, limit), |row| row.get::<_, String>(0))?
                    .collect::<Result<Vec<_>, _>>()
            };
            let ids = read().map_err(|error| rows::failure(&error, "artifacts", &after))?;
            ids.iter().map(|id| artifact_id(id)).collect()
        };
        self.readers.read(query).await
    }
}

fn artifact_id(id: &str) -> Result<ArtifactId, StorageError> {
    Columns::of("artifacts", id).get("id", id.parse())
}

/// The end of a time span of this length that ends now, as a column has it.
fn before(now: Timestamp, span: Duration) -> i64 {
    let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    // Nothing is as old as what lies before the epoch.
    now.as_millis().checked_sub(span).map_or(-1, |millis| i64::try_from(millis).unwrap_or(i64::MAX))
}

fn prunable_requests(
    connection: &Connection,
    rules: &RetentionRules,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<RequestId>, StorageError> {
    let sql = format!(
        "SELECT id FROM requests WHERE {HAS_ENDED} AND updated_at <= ?1 AND {IS_PAST_REPLAY} ORDER BY updated_at LIMIT ?3"
    );
    let find = |ended_before: i64, limit: u64| {
        connection
            .prepare_cached(&sql)?
            .query_map((ended_before, before(now, REPLAY_GRACE), limit.cast_signed()), |row| row.get::<_, Vec<u8>>(0))?
            .collect::<Result<Vec<_>, _>>()
    };
    let search = || {
        let ended: u64 = connection
            .prepare_cached(&format!("SELECT count(*) FROM requests WHERE {HAS_ENDED}"))?
            .query_row((), |row| row.get::<_, i64>(0))?
            .cast_unsigned();
        let limit = u64::from(limit);
        let aged = find(before(now, rules.age.max(SHORTEST_STAY)), limit)?;
        let excess = ended.saturating_sub(rules.requests).min(limit);
        // Both lists have the same order, so the longer one has all of the shorter one.
        if excess > aged.len() as u64 { find(before(now, SHORTEST_STAY), excess) } else { Ok(aged) }
    };
    let ids = search().map_err(|error| rows::failure(&error, "requests", "unknown"))?;
    ids.iter()
        .map(|id| Columns::of("requests", hex::encode(id)).get("id", RequestId::try_from(id.as_slice())))
        .collect()
}

/// Deletes a request if it may go; whether it did.
fn prune_request(connection: &Connection, id: RequestId, now: Timestamp) -> rusqlite::Result<bool> {
    let sql =
        format!("SELECT seq FROM requests WHERE id = ?3 AND {HAS_ENDED} AND updated_at <= ?1 AND {IS_PAST_REPLAY}");
    let seq: Option<i64> = connection
        .prepare_cached(&sql)?
        .query_row((before(now, SHORTEST_STAY), before(now, REPLAY_GRACE), id.as_bytes()), |row| row.get(0))
        .optional()?;
    let Some(seq) = seq else { return Ok(false) };
    for sql in [
        "DELETE FROM events WHERE request = ?1",
        "DELETE FROM attempts WHERE request = ?1",
        "DELETE FROM requests WHERE seq = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([seq])?;
    }
    Ok(true)
}

/// An artifact that might go.
struct Candidate {
    id: ArtifactId,
    created_at: Timestamp,
    size: u64,
    standing: Need,
}

fn prunable_artifacts(
    connection: &Connection,
    rules: &RetentionRules,
    now: Timestamp,
) -> Result<Vec<ArtifactId>, StorageError> {
    let mut candidates = Vec::new();
    let mut total = 0_u64;
    let mut survey = || -> rusqlite::Result<()> {
        let mut statement =
            connection.prepare_cached("SELECT id, created_at, size FROM artifacts ORDER BY created_at")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let (id, created_at, size) = read(row)?;
            total = total.saturating_add(size);
            // A name that does not read is a row that someone else wrote: it stays for them.
            let Ok(id) = artifact_id(&id) else { continue };
            let standing = standing(connection, id)?;
            if standing != Need::Needed {
                candidates.push(Candidate { id, created_at, size, standing });
            }
        }
        Ok(())
    };
    survey().map_err(|error| rows::failure(&error, "artifacts", "unknown"))?;
    Ok(choose(&candidates, total, rules, now))
}

fn read(row: &Row<'_>) -> rusqlite::Result<(String, Timestamp, u64)> {
    let created_at = Timestamp::from_millis(row.get::<_, i64>(1)?.cast_unsigned());
    Ok((row.get(0)?, created_at, row.get::<_, i64>(2)?.cast_unsigned()))
}

/// Which of the candidates, oldest first, should go when all artifacts have `total` bytes.
fn choose(candidates: &[Candidate], total: u64, rules: &RetentionRules, now: Timestamp) -> Vec<ArtifactId> {
    let may_go = |candidate: &&Candidate| candidate.standing.may_go(candidate.created_at, rules, now);
    let is_of_ended = |candidate: &&Candidate| matches!(candidate.standing, Need::OfEnded { .. });
    let mut choice = Choice { chosen: Vec::new(), is_chosen: HashSet::new(), left: total };
    for candidate in candidates.iter().filter(|candidate| !is_of_ended(candidate)).filter(may_go) {
        choice.take(candidate);
    }
    for (bound, are_proofs) in [(rules.inputs, false), (rules.proofs, true)] {
        let Some(bound) = bound else { continue };
        let is_such = |candidate: &&Candidate| (candidate.id.kind() == ArtifactKind::Proof) == are_proofs;
        let such: Vec<_> = candidates.iter().filter(is_of_ended).filter(is_such).collect();
        let excess = such.len().saturating_sub(usize::try_from(bound).unwrap_or(usize::MAX));
        for candidate in such.into_iter().take(excess).filter(may_go) {
            choice.take(candidate);
        }
    }
    if let Some(bound) = rules.bytes {
        for candidate in candidates.iter().filter(is_of_ended).filter(may_go) {
            if choice.left <= bound {
                break;
            }
            choice.take(candidate);
        }
    }
    choice.chosen
}

/// What was chosen to go so far.
struct Choice {
    chosen: Vec<ArtifactId>,
    is_chosen: HashSet<ArtifactId>,
    /// Bytes of all artifacts that were not chosen.
    left: u64,
}

impl Choice {
    fn take(&mut self, candidate: &Candidate) {
        if self.is_chosen.insert(candidate.id) {
            self.left = self.left.saturating_sub(candidate.size);
            self.chosen.push(candidate.id);
        }
    }
}

/// Deletes an artifact's row if it may go; whether it did.
fn prune_artifact(
    connection: &Connection,
    id: ArtifactId,
    rules: &RetentionRules,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let created_at: Option<i64> = connection
        .prepare_cached("SELECT created_at FROM artifacts WHERE id = ?1")?
        .query_row([id.to_string()], |row| row.get(0))
        .optional()?;
    let Some(created_at) = created_at.map(|millis| Timestamp::from_millis(millis.cast_unsigned())) else {
        return Ok(false);
    };
    if !standing(connection, id)?.may_go(created_at, rules, now) {
        return Ok(false);
    }
    delete_artifact(connection, id)?;
    Ok(true)
}

/// Deletes an artifact's row.
pub(super) fn delete_artifact(connection: &Connection, id: ArtifactId) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM artifacts WHERE id = ?1")?.execute([id.to_string()])?;
    Ok(())
}

/// Who needs the artifact.
fn standing(connection: &Connection, id: ArtifactId) -> rusqlite::Result<Need> {
    match id.kind() {
        ArtifactKind::Program => standing_of_program(connection, id),
        ArtifactKind::Stdin | ArtifactKind::PrivateStdin => standing_of_input(connection, id),
        ArtifactKind::Proof => standing_of_proof(connection, id),
    }
}

fn standing_of_program(connection: &Connection, id: ArtifactId) -> rusqlite::Result<Need> {
    let name = id.to_string();
    let is_registered = connection.prepare_cached("SELECT 1 FROM programs WHERE program = ?1")?.exists([&name])?;
    let sql = "SELECT 1 FROM requests WHERE program = ?1 AND state IN ('queued', 'leased', 'verifying')";
    let is_needed = is_registered || connection.prepare_cached(sql)?.exists([&name])?;
    Ok(if is_needed { Need::Needed } else { Need::Unused })
}

fn standing_of_input(connection: &Connection, id: ArtifactId) -> rusqlite::Result<Need> {
    let sql = format!("SELECT max(NOT ({HAS_ENDED})), max(updated_at) FROM requests WHERE stdin = ?1");
    let (is_open, since): (Option<bool>, Option<i64>) =
        connection.prepare_cached(&sql)?.query_row([id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(match (is_open, since) {
        (Some(false), Some(since)) => Need::OfEnded { since: Timestamp::from_millis(since.cast_unsigned()) },
        (None, _) => Need::Unused,
        _ => Need::Needed,
    })
}

fn standing_of_proof(connection: &Connection, id: ArtifactId) -> rusqlite::Result<Need> {
    let sql = format!(
        "SELECT {HAS_ENDED}, requests.state = 'fulfilled' AND requests.attempt = attempts.id, requests.updated_at \
         FROM attempts JOIN requests ON requests.seq = attempts.request WHERE attempts.id = ?1"
    );
    let found: Option<(bool, bool, i64)> = connection
        .prepare_cached(&sql)?
        .query_row([id.key()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    Ok(match found {
        None => Need::Orphan,
        Some((false, ..)) => Need::Needed,
        Some((true, true, since)) => Need::OfEnded { since: Timestamp::from_millis(since.cast_unsigned()) },
        Some((true, false, _)) => Need::Unused,
    })
}
