//! The ledger's file: plain `SQLite`, made to be queried by people.
//!
//! A row of `charge` is the fact that money was held for a call: when, for whom, for what, and how much. Rows of `entry` are
//! what became of it. Both are only ever added to. Instants are whole microseconds since 1970 in UTC, amounts whole
//! micro-dollars; the view `spend` shows both as text:
//!
//! ```sql
//! SELECT caller, sum(posted_micros) / 1e6 AS usd FROM spend GROUP BY caller;         -- spend by caller
//! SELECT number, sum(posted_micros) / 1e6 AS usd FROM spend GROUP BY number;         -- by number; null: for an enterprise
//! SELECT date(held_at) AS day, sum(posted_micros) / 1e6 AS usd FROM spend GROUP BY day;   -- by day, UTC
//! ```
//!
//! A charge without an end is an open hold. Its end is the one entry of kind `settled`, `released` or `assumed`; what it posts is
//! the sum of its entries' amounts, so that a later correction is one more entry.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, named_params, params};

use super::accounts::{Account, Balance, OpenHold, Standing};
use super::{End, HoldId, KillSwitch, OpenFailure, Override, Posted};
use crate::policy::budget::{Budget, Charge, Interval};
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;

/// Each brings the file from the version that is its index to the next.
pub(super) const MIGRATIONS: [&str; 3] = [include_str!("schema_1.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")];

/// Brings the file to the current version.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), OpenFailure> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = MIGRATIONS.len();
    let done = usize::try_from(found).ok().filter(|done| *done <= known).ok_or(OpenFailure::Version { found, known })?;
    if done == known {
        return Ok(());
    }
    // A table that others refer to can be made anew only without this, which cannot be changed within a transaction.
    connection.pragma_update(None, "foreign_keys", false)?;
    for (version, migration) in (1_i64..).zip(MIGRATIONS).skip(done) {
        let transaction = begin(connection)?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(())
}

/// Begins a transaction that may write; dropped before its commit it has done nothing.
pub(super) fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Writes, and changes nothing: shows whether the file can be written.
pub(super) fn touch(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX))
}

/// Copies the journal into the file, which then is the whole ledger.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Records that `charge` is held.
pub(super) fn insert_charge(connection: &Connection, charge: &Charge, now: Timestamp) -> rusqlite::Result<HoldId> {
    connection
        .prepare_cached(
            "INSERT INTO charge (held_at_us, request_id, caller, enterprise, number, operation, price_micros) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .insert(params![
            now.as_microsecond(),
            charge.request_id,
            &*charge.caller,
            charge.enterprise.to_string(),
            charge.number.map(|number| number.to_string()),
            charge.operation.as_str(),
            charge.price.micros(),
        ])
        .map(HoldId)
}

/// Records the end of a hold; tells whether it is new. A hold that has ended keeps its first end.
pub(super) fn insert_end(connection: &Connection, id: HoldId, end: End, amount: Usd, why: &str, now: Timestamp) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            // From the charge, so that the end of one that somebody removed by hand does not fail for ever.
            "INSERT INTO entry (charge, at_us, kind, amount_micros, why)
             SELECT id, :now, :kind, :amount, :why FROM charge WHERE id = :id
             ON CONFLICT DO NOTHING",
        )?
        .execute(named_params! {
            ":id": id.0,
            ":now": now.as_microsecond(),
            ":kind": end.as_str(),
            ":amount": amount.micros(),
            ":why": why,
        })
        .map(|rows| rows > 0)
}

/// What the file has for one budget in one window.
pub(super) fn standing(connection: &Connection, budget: &Budget, window: Interval, now: Timestamp) -> rusqlite::Result<Standing> {
    let balance = balance(connection, budget, window)?;
    Ok(Standing { balance, overrides: overrides(connection, budget, now)?, threshold: threshold(connection, budget, window)? })
}

fn balance(connection: &Connection, budget: &Budget, window: Interval) -> rusqlite::Result<Balance> {
    connection
        .prepare_cached(
            "SELECT coalesce(sum(posted_micros), 0), coalesce(sum(held_micros), 0) FROM balance
             WHERE held_at_us >= :start AND held_at_us < :end
               AND (:caller IS NULL OR caller = :caller)
               AND (:enterprise IS NULL OR enterprise = :enterprise)
               AND (:operation IS NULL OR operation = :operation)",
        )?
        .query_row(
            named_params! {
                ":start": window.start.as_microsecond(),
                ":end": window.end.as_microsecond(),
                ":caller": budget.caller,
                ":enterprise": budget.enterprise.map(|enterprise| enterprise.to_string()),
                ":operation": budget.operation.map(Billable::as_str),
            },
            |row| Ok(Balance { posted: Usd::from_micros(row.get(0)?), held: Usd::from_micros(row.get(1)?) }),
        )
}

/// A clock may be set back, but not by more than this: what expired before is of no interest any more.
const SET_BACK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The overrides that are in force, or would be if the clock were set back.
fn overrides(connection: &Connection, budget: &Budget, now: Timestamp) -> rusqlite::Result<Vec<Override>> {
    let since = now.checked_sub(SET_BACK).unwrap_or(Timestamp::MIN);
    connection
        .prepare_cached(
            "SELECT budget, amount_micros, at_us, expires_at_us, reason, author FROM budget_override
             WHERE budget = ? AND expires_at_us > ? ORDER BY seq",
        )?
        .query_map(params![budget.name, since.as_microsecond()], |row| {
            Ok(Override {
                budget: row.get(0)?,
                amount: Usd::from_micros(row.get(1)?),
                granted_at: instant(row, 2)?,
                expires_at: instant(row, 3)?,
                reason: row.get(4)?,
                author: row.get(5)?,
            })
        })?
        .collect()
}

pub(super) fn insert_override(connection: &Connection, granted: &Override) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO budget_override (at_us, budget, amount_micros, expires_at_us, reason, author) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            granted.granted_at.as_microsecond(),
            granted.budget,
            granted.amount.micros(),
            granted.expires_at.as_microsecond(),
            granted.reason,
            granted.author,
        ])
        .map(drop)
}

/// The highest threshold that was recorded for a window.
fn threshold(connection: &Connection, budget: &Budget, window: Interval) -> rusqlite::Result<u8> {
    connection
        .prepare_cached(
            "SELECT coalesce(max(percent), 0) FROM budget_threshold WHERE budget = ? AND window_start_us = ? AND window_end_us = ?",
        )?
        .query_row(params![budget.name, window.start.as_microsecond(), window.end.as_microsecond()], |row| row.get(0))
}

/// Records that an account's window reached a threshold.
pub(super) fn insert_threshold(connection: &Connection, account: &Account, percent: u8, now: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO budget_threshold (budget, window_start_us, window_end_us, percent, at_us, spent_micros, limit_micros)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            account.budget.name,
            account.window.start.as_microsecond(),
            account.window.end.as_microsecond(),
            percent,
            now.as_microsecond(),
            account.standing.balance.posted.micros(),
            account.limit(now).micros(),
        ])
        .map(drop)
}

/// How the kill switch was set last.
pub(super) fn kill_switch(connection: &Connection) -> rusqlite::Result<KillSwitch> {
    let last = connection
        .query_row("SELECT is_on, at_us, reason, author FROM kill_switch ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok(KillSwitch { on: row.get(0)?, since: Some(instant(row, 1)?), reason: row.get(2)?, author: row.get(3)? })
        })
        .optional()?;
    Ok(last.unwrap_or_default())
}

/// Records how the kill switch was set.
pub(super) fn insert_kill_switch(connection: &Connection, set: &KillSwitch) -> rusqlite::Result<()> {
    let at = set.since.unwrap_or_default().as_microsecond();
    connection
        .execute("INSERT INTO kill_switch (at_us, is_on, reason, author) VALUES (?, ?, ?, ?)", params![at, set.on, set.reason, set.author])
        .map(drop)
}

/// When the newest charge was held.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    connection.query_row("SELECT max(held_at_us) FROM charge", [], |row| row.get::<_, Option<i64>>(0)?.map(|_| instant(row, 0)).transpose())
}

/// The holds that have no end.
pub(super) fn left_open(connection: &Connection) -> rusqlite::Result<Vec<(HoldId, OpenHold)>> {
    connection.prepare(&format!("SELECT {HOLD} FROM balance WHERE held_micros IS NOT NULL"))?.query_map([], hold)?.collect()
}

/// A hold that was assumed and of which nothing more is known.
pub(super) fn assumed(connection: &Connection, id: HoldId) -> rusqlite::Result<Option<OpenHold>> {
    connection
        .prepare_cached(&format!(
            "SELECT {HOLD} FROM charge WHERE id = ?
               AND (SELECT group_concat(kind) FROM entry WHERE charge = charge.id) = 'assumed'"
        ))?
        .query_row([id.0], hold)
        .optional()
        .map(|found| found.map(|(_, hold)| hold))
}

/// Records what later evidence says of an assumed hold.
pub(super) fn insert_correction(connection: &Connection, id: HoldId, amount: Usd, why: &str, now: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO entry (charge, at_us, kind, amount_micros, why) VALUES (?, ?, 'corrected', ?, ?)")?
        .execute(params![id.0, now.as_microsecond(), amount.micros(), why])
        .map(drop)
}

/// The charges of which calls are recalled, whose end posted money at or after `since` and was not taken back, oldest end first.
pub(super) fn recent(connection: &Connection, since: Timestamp) -> rusqlite::Result<Vec<Posted>> {
    let recalled: Vec<_> = Billable::ALL.iter().filter(|operation| operation.is_recalled()).map(|operation| operation.as_str()).collect();
    connection
        .prepare(&format!(
            "SELECT charge.id, enterprise, number, operation, held_at_us,
                    kind = 'settled' OR EXISTS (SELECT 1 FROM entry AS other WHERE other.charge = charge.id AND other.kind = 'corrected')
             FROM entry JOIN charge ON charge.id = entry.charge
             WHERE at_us >= ? AND kind IN ('settled', 'assumed') AND operation IN ('{}')
               AND (SELECT sum(amount_micros) FROM entry AS other WHERE other.charge = charge.id) > 0
             ORDER BY at_us, seq",
            recalled.join("', '")
        ))?
        .query_map([since.as_microsecond()], |row| {
            Ok(Posted {
                id: HoldId(row.get(0)?),
                enterprise: parsed(row, 1)?,
                number: optional(row, 2)?,
                operation: parsed(row, 3)?,
                held_at: instant(row, 4)?,
                is_known: row.get(5)?,
            })
        })?
        .collect()
}

/// The columns that [`hold`] reads.
const HOLD: &str = "id, held_at_us, request_id, caller, enterprise, number, operation, price_micros";

fn hold(row: &Row<'_>) -> rusqlite::Result<(HoldId, OpenHold)> {
    let charge = Charge {
        request_id: row.get(2)?,
        caller: row.get::<_, String>(3)?.into(),
        enterprise: parsed(row, 4)?,
        number: optional(row, 5)?,
        operation: parsed(row, 6)?,
        price: Usd::from_micros(row.get(7)?),
    };
    Ok((HoldId(row.get(0)?), OpenHold { charge, held_at: instant(row, 1)?, since: Duration::ZERO }))
}

/// An instant as the file has it: what memory and file think of it must never differ.
pub(super) fn recorded(instant: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(instant.as_microsecond()).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn instant(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(row.get(column)?).map_err(|error| unreadable(column, Type::Integer, &error))
}

pub(super) fn parsed<T: FromStr<Err: Display>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    row.get::<_, String>(column)?.parse().map_err(|error| unreadable(column, Type::Text, &error))
}

/// The same where there may be nothing.
pub(super) fn optional<T: FromStr<Err: Display>>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    row.get::<_, Option<String>>(column)?.map(|_| parsed(row, column)).transpose()
}

fn unreadable(column: usize, found: Type, error: &impl Display) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, found, error.to_string().into())
}
