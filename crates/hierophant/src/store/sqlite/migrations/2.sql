-- What is held against a worker: JSON, a list of requests and whose fault it was.
ALTER TABLE workers ADD COLUMN standing TEXT NOT NULL DEFAULT '[]';

-- A request may be held by two attempts, so that several may be superseded.
UPDATE events
SET detail = json_set(
    detail,
    '$.superseded',
    CASE WHEN detail ->> '$.superseded' IS NULL THEN json('[]') ELSE json_array(detail ->> '$.superseded') END
)
WHERE kind IN ('fulfilled', 'expired', 'cancelled');

-- Who may write: each start on this file raises the epoch, and a program whose epoch is past writes nothing more.
CREATE TABLE owner (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL
) STRICT;

INSERT INTO owner (one, epoch) VALUES (1, 0);

-- What retention looks for, and what deleting a request would otherwise search whole tables for.
CREATE INDEX requests_ended ON requests (updated_at) WHERE state NOT IN ('queued', 'leased', 'verifying');
CREATE INDEX requests_by_stdin ON requests (stdin);
CREATE INDEX attempts_by_request ON attempts (request);
CREATE INDEX programs_by_artifact ON programs (program);
