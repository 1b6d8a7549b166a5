//! What must be true of the file as a whole, and of the tables beside charges and entries.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use rusqlite::{Connection, Row};

use super::BooksFailure;
use super::verify::Report;
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;
use crate::telnyx::EnterpriseId;

/// The kind of an entry that is no end.
pub(super) const CORRECTED: &str = "corrected";

/// The hundredths of a limit that are recorded.
const PERCENTS: [i64; 4] = [50, 80, 95, 100];

/// A raise of a budget's limit.
pub(super) struct Override {
    pub(super) at_us: i64,
    pub(super) budget: String,
    pub(super) amount: Usd,
    pub(super) expires_at_us: i64,
}

/// Pages, indexes and constraints by `SQLite`'s own check, and entries whose charge is gone.
pub(super) fn file(connection: &Connection, report: &mut Report) -> Result<(), BooksFailure> {
    for problem in all(connection, "PRAGMA integrity_check", |row| row.get::<_, String>(0))? {
        if problem != "ok" {
            report.violation(None, format!("SQLite's integrity check: {problem}"));
        }
    }
    for (table, row) in all(connection, "PRAGMA foreign_key_check", |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))? {
        let charge = (table == "entry").then(|| connection.query_row("SELECT charge FROM entry WHERE seq = ?", [row], |row| row.get(0)));
        let charge = charge.transpose()?;
        report.violation(charge, format!("row {row} of `{table}` belongs to it, and it does not exist"));
    }
    Ok(())
}

/// A charge's id is never used again.
pub(super) fn ids(connection: &Connection, newest: Option<i64>, report: &mut Report) -> Result<(), BooksFailure> {
    let given = all(connection, "SELECT seq FROM sqlite_sequence WHERE name = 'charge'", |row| row.get::<_, i64>(0))?;
    match (newest, given.first()) {
        (Some(newest), given) if given.is_none_or(|given| *given < newest) => {
            report.violation(Some(newest), "`sqlite_sequence` does not know its id, which may be given out again");
        }
        _ => {}
    }
    Ok(())
}

pub(super) fn overrides(connection: &Connection, report: &mut Report) -> Result<Vec<Override>, BooksFailure> {
    let columns = "SELECT at_us, budget, amount_micros, expires_at_us, seq, reason, author FROM budget_override ORDER BY seq";
    let rows = all(connection, columns, |row| {
        let (at_us, budget, amount) = (row.get(0)?, row.get(1)?, Usd::from_micros(row.get(2)?));
        let said = (row.get::<_, i64>(4)?, row.get::<_, String>(5)?, row.get::<_, String>(6)?);
        Ok((Override { at_us, budget, amount, expires_at_us: row.get(3)? }, said))
    })?;
    let check = |(each, (seq, reason, author)): (Override, (i64, String, String))| {
        let mut wrong = |what: &str| report.violation(None, format!("override {seq} of budget {:?} {what}", each.budget));
        if each.amount <= Usd::ZERO {
            wrong("adds nothing");
        }
        if reason.trim().is_empty() {
            wrong("has no reason");
        }
        if author.trim().is_empty() {
            wrong("has no author");
        }
        if !is_instant(each.at_us) || !is_instant(each.expires_at_us) {
            wrong("has a time that is none");
        } else if each.expires_at_us <= each.at_us {
            wrong("expired before it began");
        }
        each
    };
    Ok(rows.into_iter().map(check).collect())
}

/// One that was reached, was reached after all that are below it.
pub(super) fn thresholds(connection: &Connection, report: &mut Report) -> Result<(), BooksFailure> {
    let columns = "SELECT budget, window_start_us, percent, at_us, spent_micros, limit_micros, window_end_us FROM budget_threshold";
    let rows = all(connection, columns, |row| {
        let amounts = (row.get::<_, i64>(4)?, row.get::<_, i64>(5)?);
        let window = (row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(6)?);
        Ok((window, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?, amounts))
    })?;
    let mut windows: BTreeMap<(String, i64, i64), Vec<i64>> = BTreeMap::new();
    for ((budget, start, end), percent, at_us, (spent, limit)) in rows {
        let mut wrong = |what: &str| report.violation(None, format!("threshold {percent} of budget {budget:?}, {}, {what}", shown(start)));
        if !PERCENTS.contains(&percent) {
            wrong("is none of 50, 80, 95, 100");
        }
        if !is_instant(start) || !is_instant(end) || start >= end || !is_instant(at_us) {
            wrong("has a time that is none");
        }
        if i128::from(spent) * 100 < i128::from(percent) * i128::from(limit) {
            wrong(&format!("was recorded at {} of {}", Usd::from_micros(spent), Usd::from_micros(limit)));
        }
        windows.entry((budget, start, end)).or_default().push(percent);
    }
    for ((budget, start, _), reached) in windows {
        let highest = reached.iter().max().copied().unwrap_or_default();
        for missing in PERCENTS.iter().filter(|percent| **percent < highest && !reached.contains(percent)) {
            report.violation(None, format!("threshold {missing} of budget {budget:?}, {}, is missing below {highest}", shown(start)));
        }
    }
    Ok(())
}

pub(super) fn kill_switch(connection: &Connection, report: &mut Report) -> Result<(), BooksFailure> {
    let columns = "SELECT seq, at_us, is_on, reason, author FROM kill_switch ORDER BY seq";
    let rows = all(connection, columns, |row| {
        let said = (row.get::<_, String>(3)?, row.get::<_, String>(4)?);
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, said))
    })?;
    for (seq, at_us, is_on, (reason, author)) in rows {
        let faults = [
            (!is_instant(at_us), "has a time that is none"),
            (![0, 1].contains(&is_on), "is neither on nor off"),
            (reason.trim().is_empty(), "has no reason"),
            (author.trim().is_empty(), "has no author"),
        ];
        for (_, what) in faults.iter().filter(|(is_wrong, _)| *is_wrong) {
            report.violation(None, format!("row {seq} of `kill_switch` {what}"));
        }
    }
    Ok(())
}

pub(super) fn rolled_up(connection: &Connection, report: &mut Report) -> Result<(), BooksFailure> {
    let mut query = connection.prepare("SELECT day, caller, enterprise, operation, calls, posted_micros FROM rolled_up ORDER BY day")?;
    let mut rows = query.query([])?;
    let mut before = None;
    while let Some(row) = rows.next()? {
        let (day, caller, enterprise): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (operation, calls, posted): (String, i64, i64) = (row.get(3)?, row.get(4)?, row.get(5)?);
        let faults = [
            (!is_day(&day), "has a day that is no date"),
            (caller.is_empty(), "has a caller without a name"),
            (
                enterprise.parse::<EnterpriseId>().map_or(true, |id| id.to_string() != enterprise),
                "has an enterprise that is no UUID in lower case",
            ),
            (operation.parse::<Billable>().is_err(), "has an operation that is not billable"),
            (calls < 1, "has no calls"),
            (posted < 0, "posts less than nothing"),
        ];
        for (_, what) in faults.iter().filter(|(is_wrong, _)| *is_wrong) {
            report.violation(None, format!("what was rolled up of {day}, {caller:?}, {operation}, {what}"));
        }
        report.summary.rolled_up_calls = report.summary.rolled_up_calls.saturating_add(calls);
        report.summary.rolled_up += Usd::from_micros(posted);
        if before.as_ref() != Some(&day) {
            report.summary.rolled_up_days += 1;
            before = Some(day);
        }
    }
    Ok(())
}

pub(super) fn reconciliations(connection: &Connection, report: &mut Report) -> Result<(), BooksFailure> {
    let columns = "SELECT seq, at_us, first_day, last_day, posted_micros, billed_micros, drifts FROM reconciliation ORDER BY seq";
    let rows = all(connection, columns, |row| {
        let days = (row.get::<_, String>(2)?, row.get::<_, String>(3)?);
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, days, [row.get::<_, i64>(4)?, row.get(5)?, row.get(6)?]))
    })?;
    for (seq, at_us, (first, last), counts) in rows {
        let faults = [
            (!is_instant(at_us), "has a time that is none"),
            (!is_day(&first) || !is_day(&last), "has a day that is no date"),
            (first > last, "ends before it begins"),
            (counts.iter().any(|count| *count < 0), "has an amount below nothing"),
            (counts[2] == 0 && counts[0] != counts[1], "has no drift and two different sums"),
        ];
        for (_, what) in faults.iter().filter(|(is_wrong, _)| *is_wrong) {
            report.violation(None, format!("row {seq} of `reconciliation` {what}"));
        }
    }
    Ok(())
}

fn is_instant(micros: i64) -> bool {
    Timestamp::from_microsecond(micros).is_ok()
}

/// Whether it is a date as `SQLite` writes one, so that days compare as texts.
fn is_day(text: &str) -> bool {
    text.parse::<Date>().is_ok_and(|date| date.to_string() == text)
}

fn shown(micros: i64) -> String {
    Timestamp::from_microsecond(micros).map_or_else(|_| micros.to_string(), |at| at.to_string())
}

/// All rows of a small table.
fn all<T>(connection: &Connection, sql: &str, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>, BooksFailure> {
    Ok(connection.prepare(sql)?.query_map([], read)?.collect::<Result<_, _>>()?)
}
