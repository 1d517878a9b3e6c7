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
