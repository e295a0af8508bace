-- Money that a gateway has set aside for a key before the requests that will use it come, so that they need not wait for the disk.
-- It counts as spent until it is used or given back; that of a process that is gone is charged.

CREATE TABLE advances (
    id TEXT PRIMARY KEY,                -- writer/scope
    writer TEXT NOT NULL,
    scope TEXT NOT NULL,
    day TEXT NOT NULL,
    month TEXT NOT NULL,
    nanos BIGINT NOT NULL
);
ALTER TABLE windows ADD COLUMN advanced BIGINT NOT NULL DEFAULT 0;      -- nano-dollars of all advances
