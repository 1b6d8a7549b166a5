//! Reconciliation: what the ledger posted against what a bill says, by day and number; by operation where there is no number.
//!
//! A charge counts on the UTC day on which it was held, which is when the call was made, and a row of the bill on the day of its time. In
//! memory is one sum for each day of each number.
//!
//! A schedule is left out on both sides: the ledger counts the month that it may cost when it is set, and a bill has its runs, one by one.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use rusqlite::{OpenFlags, OptionalExtension, params};
use serde::Serialize;

use super::super::store::instant;
use super::bill::{self, About, BillError, Billed};
use super::rows::{Filter, State};
use super::{Books, BooksError, BooksFailure};
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;
use crate::telnyx::PhoneNumber;

/// How long to wait until the gateway's writer lets the record of a reconciliation in.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a bill and the ledger say of the same days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reconciliation {
    /// The first day that was compared, UTC.
    pub first_day: Date,
    /// The last one.
    pub last_day: Date,
    /// How many rows of the bill were within these days.
    pub billed_rows: u64,
    /// How many were outside, and not looked at.
    pub other_rows: u64,
    /// How many were of schedules, and left out.
    pub schedule_rows: u64,
    /// How many charges the ledger has of these days.
    pub charges: u64,
    /// How many others it has for schedules, which were left out.
    pub schedules: u64,
    /// How many of them are of calls under way, which post nothing yet.
    pub held: u64,
    /// What the ledger posted.
    #[serde(rename = "posted_usd")]
    pub posted: Usd,
    /// What the bill says.
    #[serde(rename = "billed_usd")]
    pub billed: Usd,
    /// Posted less billed: above nothing, the ledger counted what was not charged.
    #[serde(rename = "drift_usd")]
    pub drift: Usd,
    /// The days of numbers on which the two differ, largest first.
    pub drifts: Vec<Drift>,
}

/// One day of one number on which the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The day, UTC.
    pub day: Date,
    /// The number.
    pub number: Option<PhoneNumber>,
    /// What was done, where that is about no number.
    pub operation: Option<Billable>,
    /// What the ledger posted.
    #[serde(rename = "posted_usd")]
    pub posted: Usd,
    /// What the bill says.
    #[serde(rename = "billed_usd")]
    pub billed: Usd,
    /// Posted less billed.
    #[serde(rename = "drift_usd")]
    pub difference: Usd,
}

/// The newest recorded reconciliation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastReconciliation {
    /// When it was made.
    pub at: Timestamp,
    /// Posted less billed.
    pub drift: Usd,
    /// On how many days of numbers the two differ.
    pub drifts: u64,
}

/// Why a bill was not compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The bill cannot be read.
    #[error("{0}")]
    Bill(#[from] BillError),
    /// The ledger cannot be read.
    #[error("{0}")]
    Books(#[from] BooksError),
    /// It has no row to take the days from.
    #[error("the bill has no rows; to compare days on which nothing was billed, name them with --since and --until")]
    NoDays,
    /// `since` is not before `until`.
    #[error("there is no time from {0} to {1}; --until is the first moment that is left out")]
    NoTime(Timestamp, Timestamp),
    /// The ledger has sums without numbers.
    #[error("charges of {0} were added up by caller and removed, so that their numbers are not known; compare from {1} on: --since {1}")]
    RolledUp(String, Date),
}

/// What each says of one day of one number.
#[derive(Clone, Copy, Default)]
struct Sums {
    posted: Usd,
    billed: Usd,
}

type Days = BTreeMap<(Date, About), Sums>;

/// What is not compared.
const SCHEDULE: About = About::Operation(Billable::Frequency);

impl Books {
    /// Compares a bill with what was posted for calls from `since` to before `until`; else from the first to the last day of the bill.
    pub fn reconcile(&self, bill: impl Read, since: Option<Timestamp>, until: Option<Timestamp>) -> Result<Reconciliation, ReconcileError> {
        let mut days = Days::new();
        let (mut billed_rows, mut other_rows, mut schedule_rows) = (0, 0, 0);
        bill::read(bill, |Billed { at, about, cost }| {
            if since.is_some_and(|since| at < since) || until.is_some_and(|until| at >= until) {
                other_rows += 1;
                return;
            }
            if about == SCHEDULE {
                schedule_rows += 1;
                return;
            }
            billed_rows += 1;
            days.entry((day(at), about)).or_default().billed += cost;
        })?;
        let (first, last) = (days.keys().next().map(|(day, _)| *day), days.keys().next_back().map(|(day, _)| *day));
        let since = since.or_else(|| first.and_then(midnight)).ok_or(ReconcileError::NoDays)?;
        let until = until.or_else(|| midnight(last?.checked_add(1.day()).ok()?)).ok_or(ReconcileError::NoDays)?;
        if since >= until {
            return Err(ReconcileError::NoTime(since, until));
        }
        let (first_day, last_day) = (day(since), day(until - SignedDuration::from_nanos(1)));
        if let Some(rolled_up) = self.rolled_up(first_day, last_day)? {
            let next = rolled_up.parse::<Date>().ok().and_then(|day| day.checked_add(1.day()).ok()).unwrap_or(Date::MAX);
            return Err(ReconcileError::RolledUp(rolled_up, next));
        }
        let (mut charges, mut schedules, mut held) = (0, 0, 0);
        let filter = Filter { since: Some(since), until: Some(until), ..Filter::default() };
        self.each(filter, |row| {
            let about = row.number.map_or(About::Operation(row.operation), About::Number);
            if about == SCHEDULE {
                schedules += 1;
                return;
            }
            charges += 1;
            held += u64::from(row.state == State::Held);
            days.entry((day(row.held_at), about)).or_default().posted += row.posted;
        })?;
        let (posted, billed) = (days.values().map(|sums| sums.posted).sum(), days.values().map(|sums| sums.billed).sum());
        let drift = posted - billed;
        let drifts = drifts(days);
        Ok(Reconciliation {
            first_day,
            last_day,
            billed_rows,
            other_rows,
            schedule_rows,
            charges,
            schedules,
            held,
            posted,
            billed,
            drift,
            drifts,
        })
    }

    /// Keeps the result in the ledger: one short write, beside a running gateway too.
    pub fn record(&self, found: &Reconciliation, now: Timestamp) -> Result<(), BooksError> {
        let write = || -> Result<(), BooksFailure> {
            let connection = self.place.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.execute(
                "INSERT INTO reconciliation (at_us, first_day, last_day, posted_micros, billed_micros, drifts) VALUES (?, ?, ?, ?, ?, ?)",
                params![
                    now.as_microsecond(),
                    found.first_day.to_string(),
                    found.last_day.to_string(),
                    found.posted.micros(),
                    found.billed.micros(),
                    i64::try_from(found.drifts.len()).unwrap_or(i64::MAX),
                ],
            )?;
            Ok(())
        };
        self.told(write())
    }

    /// The reconciliation that was recorded last, if there is one.
    pub fn last_reconciliation(&self) -> Result<Option<LastReconciliation>, BooksError> {
        let newest = || -> Result<_, BooksFailure> {
            let newest = "SELECT at_us, posted_micros, billed_micros, drifts FROM reconciliation ORDER BY seq DESC LIMIT 1";
            let mut query = self.connection.prepare_cached(newest)?;
            let found = query.query_row([], |row| {
                let drift = Usd::from_micros(row.get(1)?) - Usd::from_micros(row.get(2)?);
                Ok(LastReconciliation { at: instant(row, 0)?, drift, drifts: row.get::<_, i64>(3)?.unsigned_abs() })
            });
            Ok(found.optional()?)
        };
        self.told(newest())
    }

    /// The last of these days that has charges which were added up and removed.
    fn rolled_up(&self, first: Date, last: Date) -> Result<Option<String>, BooksError> {
        let newest = "SELECT max(day) FROM rolled_up WHERE day >= ? AND day <= ?";
        let found = self.connection.query_row(newest, [first.to_string(), last.to_string()], |row| row.get(0));
        self.told(found.map_err(BooksFailure::from))
    }
}

fn drifts(days: Days) -> Vec<Drift> {
    let differing = days.into_iter().filter(|(_, sums)| sums.posted != sums.billed);
    let mut drifts: Vec<_> = differing
        .map(|((day, about), Sums { posted, billed })| {
            let (number, operation) = match about {
                About::Number(number) => (Some(number), None),
                About::Operation(operation) => (None, Some(operation)),
            };
            Drift { day, number, operation, posted, billed, difference: posted - billed }
        })
        .collect();
    drifts.sort_by_key(|drift| std::cmp::Reverse(drift.difference.micros().unsigned_abs()));
    drifts
}

fn day(at: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(at).date()
}

fn midnight(day: Date) -> Option<Timestamp> {
    day.to_zoned(TimeZone::UTC).ok().map(|midnight| midnight.timestamp())
}
