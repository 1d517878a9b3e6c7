//! The schema's versions. A migration that was released is never edited; a change is a new one.

use rusqlite_migration::{M, Migrations};

/// What each migration says, oldest first.
pub(super) const SOURCES: [&str; 2] = [include_str!("migrations/1.sql"), include_str!("migrations/2.sql")];

const STEPS: &[M<'static>] = &[M::up(SOURCES[0]), M::up(SOURCES[1])];

/// Every migration, oldest first.
pub(super) const MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);

/// The schema version that this program writes.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "a handful of migrations")]
pub(super) const VERSION: i32 = STEPS.len() as i32;

/// `PRAGMA application_id` of our databases, set by the first migration: "HIER".
pub(super) const APPLICATION_ID: i32 = 0x4849_4552;
