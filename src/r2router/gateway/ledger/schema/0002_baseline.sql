-- What the same request was forecast to cost with the arm that it is compared with, and how good its answer would have been.

ALTER TABLE requests ADD COLUMN baseline TEXT;
ALTER TABLE requests ADD COLUMN baseline_cost BIGINT;
ALTER TABLE requests ADD COLUMN baseline_quality DOUBLE PRECISION;
