-- An operator raised a budget's limit for a while. Never changed.
CREATE TABLE budget_override (
    seq           INTEGER PRIMARY KEY,
    at_us         INTEGER NOT NULL,                                 -- microseconds since 1970, UTC, here and below
    budget        TEXT NOT NULL,                                    -- its name
    amount_micros INTEGER NOT NULL CHECK (amount_micros > 0),       -- added to the limit of each window until it expires
    expires_at_us INTEGER NOT NULL,
    reason        TEXT NOT NULL,
    author        TEXT NOT NULL
) STRICT;

CREATE INDEX budget_override_by_budget ON budget_override (budget, expires_at_us);

-- What was posted in a budget's window reached so many hundredths of its limit: once each. Never changed.
CREATE TABLE budget_threshold (
    budget          TEXT NOT NULL,
    window_start_us INTEGER NOT NULL,
    window_end_us   INTEGER NOT NULL,                               -- an edited window has thresholds of its own
    percent         INTEGER NOT NULL,
    at_us           INTEGER NOT NULL,
    spent_micros    INTEGER NOT NULL,
    limit_micros    INTEGER NOT NULL,                               -- with the overrides of that moment
    PRIMARY KEY (budget, window_start_us, window_end_us, percent)
) STRICT, WITHOUT ROWID;

-- An operator stopped all billable work, or allowed it again; the last one counts. Never changed.
CREATE TABLE kill_switch (
    seq    INTEGER PRIMARY KEY,
    at_us  INTEGER NOT NULL,
    is_on  INTEGER NOT NULL CHECK (is_on IN (0, 1)),
    reason TEXT NOT NULL,
    author TEXT NOT NULL
) STRICT;

-- Charges beyond the retention, added up and removed.
CREATE TABLE rolled_up (
    day           TEXT NOT NULL,                                    -- of the hold, UTC: 2026-03-24
    caller        TEXT NOT NULL,
    enterprise    TEXT NOT NULL,
    operation     TEXT NOT NULL,
    calls         INTEGER NOT NULL,
    posted_micros INTEGER NOT NULL,
    PRIMARY KEY (day, caller, enterprise, operation)
) STRICT, WITHOUT ROWID;

-- The ledger was compared with a bill. Never changed.
CREATE TABLE reconciliation (
    seq           INTEGER PRIMARY KEY,
    at_us         INTEGER NOT NULL,
    first_day     TEXT NOT NULL,                                    -- of the days that were compared, UTC
    last_day      TEXT NOT NULL,
    posted_micros INTEGER NOT NULL,                                 -- by this ledger
    billed_micros INTEGER NOT NULL,                                 -- by the bill
    drifts        INTEGER NOT NULL                                  -- days of a number on which the two differ
) STRICT;

-- For people. The state is the kind of the last entry, so that assumed means: still unknown.
DROP VIEW spend;
CREATE VIEW spend AS
SELECT balance.id,
       strftime('%Y-%m-%dT%H:%M:%fZ', held_at_us / 1e6, 'unixepoch') AS held_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', entry.at_us / 1e6, 'unixepoch') AS ended_at,
       coalesce(entry.kind, 'held') AS state,
       entry.why,
       request_id, caller, enterprise, number, operation, price_micros, posted_micros,
       printf('%d.%06d', price_micros / 1000000, price_micros % 1000000) AS price_usd,
       printf('%d.%06d', posted_micros / 1000000, posted_micros % 1000000) AS posted_usd
FROM balance LEFT JOIN entry ON entry.seq = (SELECT max(seq) FROM entry WHERE entry.charge = balance.id);

-- What was spent on each day, UTC, also on days whose charges were removed.
CREATE VIEW spend_by_day AS
SELECT day, caller, enterprise, operation, sum(calls) AS calls, sum(posted_micros) AS posted_micros,
       printf('%d.%06d', sum(posted_micros) / 1000000, sum(posted_micros) % 1000000) AS posted_usd
FROM (SELECT day, caller, enterprise, operation, calls, posted_micros FROM rolled_up
      UNION ALL
      SELECT date(held_at_us / 1000000, 'unixepoch'), caller, enterprise, operation, 1, posted_micros FROM balance)
GROUP BY day, caller, enterprise, operation;
