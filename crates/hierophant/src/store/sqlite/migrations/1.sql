-- Times are milliseconds since the Unix epoch. A 64-bit unsigned number is kept as the signed number with the same bits.

PRAGMA application_id = 1212761426; -- "HIER"

CREATE TABLE requests (
    seq INTEGER PRIMARY KEY, -- order of acceptance
    id BLOB NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    requester BLOB NOT NULL,
    vm TEXT NOT NULL,
    vk_hash BLOB NOT NULL,
    program TEXT NOT NULL,
    stdin TEXT NOT NULL,
    mode TEXT NOT NULL,
    circuit_version TEXT NOT NULL,
    deadline INTEGER NOT NULL,
    cycle_limit INTEGER NOT NULL,
    gas_limit INTEGER NOT NULL,
    public_values_hash BLOB,
    priority INTEGER NOT NULL,
    variant TEXT NOT NULL,
    strategy INTEGER NOT NULL,
    state TEXT NOT NULL,
    state_detail TEXT NOT NULL, -- JSON, with everything that is true in this state
    attempt BLOB, -- the current or last attempt, and who makes or made it
    worker BLOB,
    tries TEXT NOT NULL, -- JSON
    executed_cycles INTEGER,
    executed_gas INTEGER,
    executed_public_values_hash BLOB,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    CHECK (executed_cycles IS NOT NULL OR executed_gas IS NULL),
    CHECK ((executed_cycles IS NULL) = (executed_public_values_hash IS NULL))
) STRICT;

CREATE INDEX requests_by_fingerprint ON requests (fingerprint);
CREATE INDEX requests_by_age ON requests (created_at);
CREATE INDEX requests_by_requester ON requests (requester, created_at);
CREATE INDEX requests_open ON requests (created_at) WHERE state IN ('queued', 'leased', 'verifying');
CREATE INDEX requests_fulfilled ON requests (updated_at) WHERE state = 'fulfilled';

-- What happened: one row per version of a request, so that the history is complete or visibly is not.
CREATE TABLE events (
    request INTEGER NOT NULL REFERENCES requests (seq),
    version INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL, -- JSON
    PRIMARY KEY (request, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    id BLOB PRIMARY KEY,
    request INTEGER NOT NULL REFERENCES requests (seq),
    worker BLOB NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    outcome TEXT, -- fulfilled, superseded, expired, cancelled, or whose fault it was
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX attempts_by_worker ON attempts (worker, outcome, started_at, ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE programs (
    vk_hash BLOB PRIMARY KEY,
    verifying_key BLOB NOT NULL,
    program TEXT NOT NULL,
    owner BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE artifacts (
    id TEXT PRIMARY KEY,
    owner BLOB, -- nobody's: a proof
    digest BLOB NOT NULL,
    size INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE workers (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    joined_at INTEGER NOT NULL,
    left_at INTEGER,
    left_reason TEXT,
    CHECK ((left_at IS NULL) = (left_reason IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX workers_departed ON workers (left_at) WHERE left_at IS NOT NULL;
