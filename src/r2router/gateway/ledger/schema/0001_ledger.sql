-- One row per request, keys with their limits, and what each window has counted. Money is whole nano-dollars (1e-9 US dollars),
-- times are microseconds since 1970 in UTC; day, month and minute are in the ledger's own time zone (settings.zone).
-- Plain SQL that SQLite and PostgreSQL both read.

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    made BIGINT NOT NULL,
    ended BIGINT,
    shadow BIGINT NOT NULL DEFAULT 0,   -- 1: counts, and refuses nothing
    day_nanos BIGINT,
    month_nanos BIGINT,
    total_nanos BIGINT,
    minute_requests BIGINT,
    minute_tokens BIGINT,
    concurrent BIGINT,
    presets TEXT,                       -- a JSON list of globs; NULL: all
    models TEXT
);

CREATE TABLE key_secrets (
    hash TEXT PRIMARY KEY,              -- SHA-256 of the secret, which is 256 random bits
    key_id TEXT NOT NULL REFERENCES keys (id),
    shown TEXT NOT NULL,                -- the last four characters, to tell secrets apart
    made BIGINT NOT NULL,
    expires BIGINT                      -- after a rotation
);
CREATE INDEX key_secrets_key ON key_secrets (key_id);

-- Processes that write to this ledger. A row open in one whose lease has passed is charged at its reservation.
CREATE TABLE writers (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    pid BIGINT NOT NULL,
    leased_until BIGINT NOT NULL
);

CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    time BIGINT NOT NULL,
    day TEXT NOT NULL,
    month TEXT NOT NULL,
    minute TEXT NOT NULL,
    writer TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'done', 'cut', 'cancelled', 'failed', 'unknown')),
    key_id TEXT,
    session TEXT,
    preset TEXT,
    asked TEXT NOT NULL,
    arm TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    reserved BIGINT NOT NULL,           -- nano-dollars; 0 where the price is not known (then priced is 0)
    reserved_tokens BIGINT NOT NULL,
    priced BIGINT NOT NULL,
    price_version TEXT NOT NULL,
    forecast_quality DOUBLE PRECISION,
    forecast BIGINT,
    settled BIGINT,                     -- when
    served TEXT,                        -- the arm that answered, where another did
    input_tokens BIGINT,
    cached_tokens BIGINT,
    cache_write_tokens BIGINT,          -- all of them; those kept for an hour are also in cache_write_1h_tokens
    cache_write_1h_tokens BIGINT,
    output_tokens BIGINT,
    reasoning_tokens BIGINT,
    cost BIGINT,                        -- NULL while open, and where the price is not known
    estimated BIGINT NOT NULL DEFAULT 0,
    latency_us BIGINT,
    ttft_us BIGINT,
    attempts BIGINT,
    note TEXT
);
CREATE INDEX requests_open ON requests (writer) WHERE state = 'open';
CREATE INDEX requests_day ON requests (day);
CREATE INDEX requests_key ON requests (key_id, day);
CREATE INDEX requests_session ON requests (session) WHERE session IS NOT NULL;

CREATE TABLE windows (
    id TEXT PRIMARY KEY,                -- scope/period, as in k_1f2e/2026-11-28
    scope TEXT NOT NULL,                -- a key's id, or * for all requests
    period TEXT NOT NULL,               -- a day, a month, a minute, or total
    spent BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    open BIGINT NOT NULL,
    tokens BIGINT NOT NULL,
    reserved_tokens BIGINT NOT NULL
);
