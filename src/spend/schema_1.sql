-- Money was held for one billable call to one number. Never changed.
CREATE TABLE charge (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,            -- never used again, also after old rows were removed
    held_at_us   INTEGER NOT NULL,                             -- microseconds since 1970, UTC; decides the windows it counts in
    request_id   TEXT NOT NULL,
    caller       TEXT NOT NULL,
    enterprise   TEXT NOT NULL,                                -- UUID, lower case
    number       TEXT NOT NULL CHECK (number LIKE '+%'),       -- E.164
    operation    TEXT NOT NULL,                                -- fresh, first_touch, refresh
    price_micros INTEGER NOT NULL CHECK (price_micros >= 0)    -- micro-dollars
) STRICT;

CREATE INDEX charge_by_time ON charge (held_at_us);

-- What became of a charge: its end, then corrections. Never changed.
CREATE TABLE entry (
    seq           INTEGER PRIMARY KEY,
    charge        INTEGER NOT NULL REFERENCES charge (id),
    at_us         INTEGER NOT NULL,                            -- microseconds since 1970, UTC
    kind          TEXT NOT NULL CHECK (kind IN ('settled', 'released', 'assumed', 'corrected')),
    amount_micros INTEGER NOT NULL,                            -- what it adds to the spend; a correction may take away
    why           TEXT NOT NULL,
    CHECK (amount_micros >= 0 OR kind = 'corrected'),
    CHECK (amount_micros = 0 OR kind <> 'released')
) STRICT;

CREATE INDEX entry_by_charge ON entry (charge, amount_micros);
CREATE INDEX entry_by_time ON entry (at_us);

-- A hold ends once.
CREATE UNIQUE INDEX entry_end ON entry (charge) WHERE kind <> 'corrected';

-- What each charge counts for: posted_micros, and held_micros while it has no end.
CREATE VIEW balance AS
SELECT charge.*,
       coalesce((SELECT sum(amount_micros) FROM entry WHERE entry.charge = charge.id), 0) AS posted_micros,
       CASE WHEN NOT EXISTS (SELECT 1 FROM entry WHERE entry.charge = charge.id AND kind <> 'corrected')
            THEN price_micros END AS held_micros
FROM charge;

-- For people.
CREATE VIEW spend AS
SELECT balance.id,
       strftime('%Y-%m-%dT%H:%M:%fZ', held_at_us / 1e6, 'unixepoch') AS held_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', entry.at_us / 1e6, 'unixepoch') AS ended_at,
       coalesce(entry.kind, 'held') AS state,
       entry.why,
       request_id, caller, enterprise, number, operation, price_micros, posted_micros,
       printf('%d.%06d', price_micros / 1000000, price_micros % 1000000) AS price_usd,
       printf('%d.%06d', posted_micros / 1000000, posted_micros % 1000000) AS posted_usd
FROM balance LEFT JOIN entry ON entry.charge = balance.id AND entry.kind <> 'corrected';
