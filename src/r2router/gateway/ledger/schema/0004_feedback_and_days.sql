-- How good a client found an answer, and what holding US dollars per day needs to know.

ALTER TABLE requests ADD COLUMN score DOUBLE PRECISION;                         -- 0 to 1; NULL: nobody said
ALTER TABLE pacing ADD COLUMN begun DOUBLE PRECISION NOT NULL DEFAULT 0;        -- of the first request, seconds since 1970
ALTER TABLE pacing ADD COLUMN last DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE pacing ADD COLUMN recent DOUBLE PRECISION NOT NULL DEFAULT 0;       -- requests in about the last week
