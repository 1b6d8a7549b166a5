-- A charge may be for a whole enterprise, and then has no number. SQLite takes NOT NULL from no column, so the table is made anew, as its
-- documentation says: beside the old one, with foreign keys off. Ids stay what they were, and so does the last one that was given out.
DROP VIEW spend_by_day;
DROP VIEW spend;
DROP VIEW balance;

CREATE TABLE charge_3 (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,            -- never used again, also after old rows were removed
    held_at_us   INTEGER NOT NULL,                             -- microseconds since 1970, UTC; decides the windows it counts in
    request_id   TEXT NOT NULL,
    caller       TEXT NOT NULL,
    enterprise   TEXT NOT NULL,                                -- UUID, lower case
    number       TEXT CHECK (number LIKE '+%'),                -- E.164; null where it is for the enterprise as a whole
    operation    TEXT NOT NULL,                                -- fresh, first_touch, refresh, associate, remediation, enable, …
    price_micros INTEGER NOT NULL CHECK (price_micros >= 0)    -- micro-dollars
) STRICT;

INSERT INTO charge_3 (id, held_at_us, request_id, caller, enterprise, number, operation, price_micros)
SELECT id, held_at_us, request_id, caller, enterprise, number, operation, price_micros FROM charge ORDER BY id;

DELETE FROM sqlite_sequence WHERE name = 'charge_3';
INSERT INTO sqlite_sequence (name, seq) SELECT 'charge_3', seq FROM sqlite_sequence WHERE name = 'charge';

DROP TABLE charge;
ALTER TABLE charge_3 RENAME TO charge;
CREATE INDEX charge_by_time ON charge (held_at_us);

-- What each charge counts for: posted_micros, and held_micros while it has no end.
CREATE VIEW balance AS
SELECT charge.*,
       coalesce((SELECT sum(amount_micros) FROM entry WHERE entry.charge = charge.id), 0) AS posted_micros,
       CASE WHEN NOT EXISTS (SELECT 1 FROM entry WHERE entry.charge = charge.id AND kind <> 'corrected')
            THEN price_micros END AS held_micros
FROM charge;

-- For people. The state is the kind of the last entry, so that assumed means: still unknown.
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
