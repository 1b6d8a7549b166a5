//! This gateway's copy of the shared ledger's log: the same tables as a ledger of its own has, for whoever reads the books.
//!
//! It holds no money. It also remembers, over a restart too, which ledger it is of and how far it was read, which shows when the server has
//! forgotten something.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use rusqlite::{Connection, OptionalExtension, Transaction, named_params, params};

use super::super::disk::{Disk, Place};
use super::super::{End, HoldId, OpenFailure, Override, Posted, retention, store};
use super::wire::{hold_id, instant, usd};
use crate::policy::money::Usd;

/// Before the first entry.
pub(super) const BEGINNING: &str = "0-0";

/// Where an entry is in the log's order, by its id.
pub(super) fn position(id: &str) -> (u64, u64) {
    let (millis, nth) = id.split_once('-').unwrap_or((id, "0"));
    (millis.parse().unwrap_or(0), nth.parse().unwrap_or(0))
}

/// One entry of the log.
pub(super) type Entry = (String, HashMap<String, String>);

/// The copy.
pub(super) struct Copy {
    disk: Disk,
    place: Place,
    /// Which ledger it is of; empty, if of none yet.
    pub(super) generation: String,
    /// The last entry that it has.
    pub(super) seen: String,
    /// The last entry that an answer told of, which the copy may not have yet.
    pub(super) heard: String,
}

impl Copy {
    pub(super) fn new(place: Place) -> Self {
        Self { disk: Disk::copy(place.clone()), place, generation: String::new(), seen: BEGINNING.to_owned(), heard: BEGINNING.to_owned() }
    }

    /// Opens it, and reads how far it goes.
    pub(super) fn open(&mut self) -> Result<(), OpenFailure> {
        let connection = self.disk.connection()?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS position (id INTEGER PRIMARY KEY CHECK (id = 1), generation TEXT NOT NULL, seen TEXT NOT NULL) STRICT",
        )?;
        let position =
            connection.query_row("SELECT generation, seen FROM position", [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        if let Some((generation, seen)) = position {
            (self.generation, self.seen) = (generation, seen);
        }
        Ok(())
    }

    /// The last entry that is known to have been in the log.
    pub(super) fn known(&self) -> &str {
        if position(&self.heard) > position(&self.seen) { &self.heard } else { &self.seen }
    }

    /// Takes entries over, in their order.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), OpenFailure> {
        let Some((last, _)) = entries.last() else { return Ok(()) };
        let connection = self.disk.connection()?;
        let transaction = store::begin(connection)?;
        for (id, fields) in entries {
            if take(&transaction, fields)?.is_none() {
                tracing::warn!(entry = id, "the log of the shared ledger has an entry that cannot be read, and it is passed over");
            }
        }
        settle_position(&transaction, &self.generation, last)?;
        transaction.commit()?;
        self.seen.clone_from(last);
        Ok(())
    }

    /// Becomes the copy of a ledger. What it had of another is put aside in a file of its own, whose path is returned.
    pub(super) fn belong_to(&mut self, generation: &str) -> Result<Option<PathBuf>, OpenFailure> {
        if self.generation == generation {
            return Ok(None);
        }
        let aside = self.put_aside()?;
        let connection = self.disk.connection()?;
        let transaction = store::begin(connection)?;
        settle_position(&transaction, generation, BEGINNING)?;
        transaction.commit()?;
        (self.generation, self.seen, self.heard) = (generation.to_owned(), BEGINNING.to_owned(), BEGINNING.to_owned());
        Ok(aside)
    }

    fn put_aside(&mut self) -> Result<Option<PathBuf>, OpenFailure> {
        let mut aside = None;
        let connection = self.disk.connection()?;
        if let Place::File(path) = &self.place
            && store::newest(connection)?.is_some()
        {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{}", self.generation));
            connection.execute("VACUUM INTO ?", [PathBuf::from(&name).to_string_lossy()])?;
            aside = Some(name.into());
        }
        let transaction = store::begin(connection)?;
        transaction.execute_batch(
            "DELETE FROM entry; DELETE FROM charge; DELETE FROM budget_override; DELETE FROM budget_threshold; DELETE FROM kill_switch;
             DELETE FROM rolled_up; DELETE FROM reconciliation;",
        )?;
        transaction.commit()?;
        Ok(aside)
    }

    /// The charges that are recalled at a start, as a ledger in a file tells them.
    pub(super) fn recent(&mut self, since: Timestamp) -> Result<Vec<Posted>, OpenFailure> {
        Ok(store::recent(self.disk.connection()?, since)?)
    }

    /// When the newest charge was held.
    pub(super) fn newest(&mut self) -> Result<Option<Timestamp>, OpenFailure> {
        Ok(store::newest(self.disk.connection()?)?)
    }

    /// The greatest id of a hold.
    pub(super) fn newest_hold(&mut self) -> Result<i64, OpenFailure> {
        Ok(self.disk.connection()?.query_row("SELECT coalesce(max(id), 0) FROM charge", [], |row| row.get(0))?)
    }

    /// Adds up some of what is older than the retention; tells whether there is more.
    pub(super) fn roll_up(&mut self, today: Date, keep: Duration) -> Result<bool, OpenFailure> {
        Ok(retention::roll_up(self.disk.connection()?, today, keep)? == retention::Progress::MoreToDo)
    }

    pub(super) fn close(&mut self) -> Result<(), OpenFailure> {
        Ok(store::checkpoint(self.disk.connection()?)?)
    }
}

fn settle_position(transaction: &Transaction<'_>, generation: &str, seen: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO position (id, generation, seen) VALUES (1, ?1, ?2)
             ON CONFLICT DO UPDATE SET generation = ?1, seen = ?2",
        )?
        .execute([generation, seen])
        .map(drop)
}

/// One entry; nothing, if it cannot be read. What is about a charge that was removed is passed over.
fn take(connection: &Connection, fields: &HashMap<String, String>) -> rusqlite::Result<Option<()>> {
    let kind = fields.get("k").map(String::as_str);
    match kind {
        Some("held") => held(connection, fields),
        Some("settled" | "released" | "assumed") => ended(connection, fields),
        Some("corrected") => corrected(connection, fields),
        Some("override") => {
            let granted = || {
                let text = |name: &str| fields.get(name).cloned();
                let (granted_at, expires_at) = (instant(fields.get("t")?)?, instant(fields.get("x")?)?);
                let (budget, amount, reason, author) = (text("b")?, usd(fields.get("a")?)?, text("w")?, text("u")?);
                Some(Override { budget, amount, granted_at, expires_at, reason, author })
            };
            granted().map(|granted| store::insert_override(connection, &granted)).transpose()
        }
        Some("threshold") => insert(
            connection,
            "INSERT INTO budget_threshold (budget, window_start_us, window_end_us, percent, at_us, spent_micros, limit_micros)
             VALUES (?, CAST(? AS INTEGER), CAST(? AS INTEGER), CAST(? AS INTEGER), CAST(? AS INTEGER), CAST(? AS INTEGER), CAST(? AS INTEGER))
             ON CONFLICT DO NOTHING",
            fields,
            ["b", "s", "e", "h", "t", "a", "l"],
        ),
        Some("switch") => insert(
            connection,
            "INSERT INTO kill_switch (at_us, is_on, reason, author) VALUES (CAST(? AS INTEGER), CAST(? AS INTEGER), ?, ?)",
            fields,
            ["t", "s", "w", "u"],
        ),
        Some("acknowledged") => Ok(Some(())),
        _ => Ok(None),
    }
}

/// Inserts a row of the fields with these names; nothing, if one is missing.
fn insert<const N: usize>(
    connection: &Connection,
    statement: &str,
    fields: &HashMap<String, String>,
    names: [&str; N],
) -> rusqlite::Result<Option<()>> {
    let values: Option<Vec<_>> = names.iter().map(|name| fields.get(*name)).collect();
    let Some(values) = values else { return Ok(None) };
    connection.prepare_cached(statement)?.execute(rusqlite::params_from_iter(values)).map(|_| Some(()))
}

fn held(connection: &Connection, fields: &HashMap<String, String>) -> rusqlite::Result<Option<()>> {
    let number = fields.get("n").filter(|number| !number.is_empty());
    let read = || Some((hold_id(fields.get("i")?)?, instant(fields.get("t")?)?, usd(fields.get("p")?)?));
    let Some((id, held_at, price)) = read() else { return Ok(None) };
    let [request_id, caller, enterprise, operation] = ["q", "c", "e", "o"].map(|name| fields.get(name));
    connection
        .prepare_cached(
            "INSERT INTO charge (id, held_at_us, request_id, caller, enterprise, number, operation, price_micros)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )?
        .execute(params![id.0, held_at.as_microsecond(), request_id, caller, enterprise, number, operation, price.micros()])
        .map(|_| Some(()))
}

fn ended(connection: &Connection, fields: &HashMap<String, String>) -> rusqlite::Result<Option<()>> {
    let kind = fields.get("k").and_then(|kind| kind.parse::<End>().ok());
    let read = || Some((kind?, what_became(fields)?));
    let Some((end, (id, at, amount, why))) = read() else { return Ok(None) };
    store::insert_end(connection, id, end, amount, why, at).map(|_| Some(()))
}

fn corrected(connection: &Connection, fields: &HashMap<String, String>) -> rusqlite::Result<Option<()>> {
    let Some((id, at, amount, why)) = what_became(fields) else { return Ok(None) };
    connection
        .prepare_cached(
            "INSERT INTO entry (charge, at_us, kind, amount_micros, why)
             SELECT id, :at, 'corrected', :amount, :why FROM charge WHERE id = :id",
        )?
        .execute(named_params! { ":id": id.0, ":at": at.as_microsecond(), ":amount": amount.micros(), ":why": why })
        .map(|_| Some(()))
}

fn what_became(fields: &HashMap<String, String>) -> Option<(HoldId, Timestamp, Usd, &str)> {
    Some((hold_id(fields.get("i")?)?, instant(fields.get("t")?)?, usd(fields.get("a")?)?, fields.get("w")?))
}
