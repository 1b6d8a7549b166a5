//! The ledger's file: plain `SQLite`, made to be queried by people.
//!
//! A row of `charge` is the fact that money was held for a call: when, for whom, for what, and how much. Rows of `entry` are
//! what became of it. Both are only ever added to. Instants are whole microseconds since 1970 in UTC, amounts whole
//! micro-dollars; the view `spend` shows both as text:
//!
//! ```sql
//! SELECT caller, sum(posted_micros) / 1e6 AS usd FROM spend GROUP BY caller;         -- spend by caller
//! SELECT number, sum(posted_micros) / 1e6 AS usd FROM spend GROUP BY number;         -- by number
//! SELECT date(held_at) AS day, sum(posted_micros) / 1e6 AS usd FROM spend GROUP BY day;   -- by day, UTC
//! ```
//!
//! A charge without an end is an open hold. Its end is the one entry of kind `settled`, `released` or `assumed`; what it posts is
//! the sum of its entries' amounts, so that a later correction is one more entry.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, Row, Transaction, TransactionBehavior, named_params, params};
use uuid::Uuid;

use super::accounts::Balance;
use super::{End, HoldId, OpenFailure, Posted};
use crate::policy::budget::{Budget, Charge, Interval};
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;

/// Each brings the file from the version that is its index to the next.
pub(super) const MIGRATIONS: [&str; 2] = [include_str!("schema_1.sql"), include_str!("schema_2.sql")];

/// How long to wait for an operator's own transaction on the file before billable work is refused.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the ledger is kept.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In a file.
    File(PathBuf),
    /// In memory, under a name that this process' connections share.
    Memory(String),
}

impl Place {
    pub(super) fn new(path: &Path) -> Self {
        if path == Path::new(":memory:") {
            Self::Memory(format!("file:/{}?vfs=memdb", Uuid::new_v4()))
        } else {
            Self::File(path.to_owned())
        }
    }

    /// A connection of any kind.
    pub(super) fn connect(&self, access: OpenFlags) -> rusqlite::Result<Connection> {
        let access = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match self {
            Self::File(path) => Connection::open_with_flags(path, access)?,
            Self::Memory(name) => Connection::open_with_flags(name, access | OpenFlags::SQLITE_OPEN_URI)?,
        };
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(connection)
    }

    /// A connection that reads beside the writer, which its reads do not stop.
    pub(super) fn reader(&self) -> rusqlite::Result<Connection> {
        self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// The connection that writes, with the file brought to the current version.
    pub(super) fn writer(&self) -> Result<Connection, OpenFailure> {
        let mut connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        // A hold that was answered survives the loss of power, not only of the process.
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
        migrate(&mut connection)?;
        Ok(connection)
    }
}

fn migrate(connection: &mut Connection) -> Result<(), OpenFailure> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = MIGRATIONS.len();
    let done = usize::try_from(found).ok().filter(|done| *done <= known).ok_or(OpenFailure::Version { found, known })?;
    for (version, migration) in (1_i64..).zip(MIGRATIONS).skip(done) {
        let transaction = begin(connection)?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Begins a transaction that may write; dropped before its commit it has done nothing.
pub(super) fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
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
            charge.number.to_string(),
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
pub(super) fn balance(connection: &Connection, budget: &Budget, window: Interval) -> rusqlite::Result<Balance> {
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

/// A hold that a former run left open.
pub(super) struct Left {
    pub(super) id: HoldId,
    pub(super) caller: String,
    pub(super) price: Usd,
}

/// The holds that have no end.
pub(super) fn left_open(connection: &Connection) -> rusqlite::Result<Vec<Left>> {
    connection
        .prepare("SELECT id, caller, price_micros FROM balance WHERE held_micros IS NOT NULL")?
        .query_map([], |row| Ok(Left { id: HoldId(row.get(0)?), caller: row.get(1)?, price: Usd::from_micros(row.get(2)?) }))?
        .collect()
}

/// The charges whose end posted money at or after `since`, oldest end first.
pub(super) fn recent(connection: &Connection, since: Timestamp) -> rusqlite::Result<Vec<Posted>> {
    connection
        .prepare_cached(
            "SELECT request_id, caller, enterprise, number, operation, amount_micros, held_at_us, at_us, kind
             FROM entry JOIN charge ON charge.id = entry.charge
             WHERE at_us >= ? AND kind IN ('settled', 'assumed') ORDER BY at_us, seq",
        )?
        .query_map([since.as_microsecond()], |row| {
            Ok(Posted {
                request_id: row.get(0)?,
                caller: row.get::<_, String>(1)?.into(),
                enterprise: parsed(row, 2)?,
                number: parsed(row, 3)?,
                operation: parsed(row, 4)?,
                amount: Usd::from_micros(row.get(5)?),
                held_at: instant(row, 6)?,
                ended_at: instant(row, 7)?,
                end: parsed(row, 8)?,
            })
        })?
        .collect()
}

pub(super) fn instant(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(row.get(column)?).map_err(|error| unreadable(column, Type::Integer, &error))
}

pub(super) fn parsed<T: FromStr<Err: Display>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    row.get::<_, String>(column)?.parse().map_err(|error| unreadable(column, Type::Text, &error))
}

fn unreadable(column: usize, found: Type, error: &impl Display) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, found, error.to_string().into())
}
