-- What a preset holds: a mean cost or a mean quality. One row per preset, shared by all gateways on this ledger.

CREATE TABLE pacing (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL,                 -- cost (US dollars per request) or quality (0 to 1)
    target DOUBLE PRECISION NOT NULL,
    start DOUBLE PRECISION NOT NULL,    -- the calibrated value of a correct answer, in US dollars
    log_value DOUBLE PRECISION NOT NULL,
    pending DOUBLE PRECISION NOT NULL,
    n BIGINT NOT NULL,
    total DOUBLE PRECISION NOT NULL
);
