//! Verification: every charge folded again in Rust, from the tables alone, and held against all that must be true of a ledger.
//!
//! A page of charges is read in one transaction with its entries and with what the views say of it, so it is at one with itself also
//! while the gateway writes. Charges made after the beginning are left out: what was spent and held then can only have become less.

use std::collections::HashMap;
use std::fmt;

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, named_params};
use serde::Serialize;

use super::super::End;
use super::tables;
use super::windows::Windows;
use super::{Books, BooksError, BooksFailure, PAGE};
use crate::policy::budget::{Budget, Charge};
use crate::policy::money::Usd;
use crate::policy::pricing::{Billable, NotBillable, Subject};
use crate::telnyx::{EnterpriseId, PhoneNumber};

/// Violations beyond these are counted and not listed.
const LISTED: usize = 1_000;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was looked at.
    pub summary: Summary,
    /// What is worth a look and may be right.
    pub notes: Vec<Note>,
    /// What must not be: the first thousand.
    pub violations: Vec<Violation>,
}

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Charges.
    pub charges: u64,
    /// Their entries.
    pub entries: u64,
    /// What the entries post.
    #[serde(rename = "posted_usd")]
    pub posted: Usd,
    /// What charges without an end hold.
    #[serde(rename = "held_usd")]
    pub held: Usd,
    /// Days whose charges, or some of them, were added up and removed.
    pub rolled_up_days: u64,
    /// How many charges those were.
    pub rolled_up_calls: i64,
    /// What those posted.
    #[serde(rename = "rolled_up_usd")]
    pub rolled_up: Usd,
    /// How many violations there are, those that are not listed included.
    pub violations: u64,
}

/// A window of a budget in which more was spent than the configuration allows now. The limit may have been lowered since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The budget's name.
    pub budget: String,
    /// The window's first instant.
    pub starts_at: Timestamp,
    /// The first instant after it.
    pub ends_at: Timestamp,
    /// What was posted in it.
    #[serde(rename = "posted_usd")]
    pub posted: Usd,
    /// What is held in it.
    #[serde(rename = "held_usd")]
    pub held: Usd,
    /// The limit of the configuration.
    #[serde(rename = "limit_usd")]
    pub limit: Usd,
    /// The most that overrides added to it at any moment of the window.
    #[serde(rename = "overrides_usd")]
    pub overrides: Usd,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { budget, starts_at, ends_at, posted, held, limit, overrides } = self;
        write!(f, "budget {budget:?}, {starts_at} to {ends_at}: {posted} posted and {held} held, of {limit} and {overrides} by overrides")
    }
}

/// Something that no gateway writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The charge, if it is about one.
    pub charge: Option<i64>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.charge.iter().try_for_each(|charge| write!(f, "charge {charge}: "))?;
        f.write_str(&self.what)
    }
}

impl Report {
    /// Whether nothing is wrong.
    pub const fn is_clean(&self) -> bool {
        self.summary.violations == 0
    }

    pub(super) fn violation(&mut self, charge: Option<i64>, what: impl Into<String>) {
        self.summary.violations += 1;
        if self.violations.len() < LISTED {
            self.violations.push(Violation { charge, what: what.into() });
        }
    }
}

impl Books {
    /// Checks everything that must be true of the ledger, and notes where `budgets` were overspent. `progress` is told how many charges
    /// of how many have been looked at.
    pub fn verify(&self, budgets: &[Budget], progress: impl FnMut(u64, u64)) -> Result<Report, BooksError> {
        let mut report = Report::default();
        match verify(&self.connection, budgets, &mut report, progress) {
            // What is wrong may be the very reason why the rest cannot be read.
            Err(error) if error.is_corrupt() || !report.is_clean() => report.violation(None, format!("the check broke off: {error}")),
            done => self.told(done)?,
        }
        Ok(report)
    }
}

fn verify(
    connection: &Connection,
    budgets: &[Budget],
    report: &mut Report,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), BooksFailure> {
    tables::file(connection, report)?;
    let newest: Option<i64> = connection.query_row("SELECT max(id) FROM charge", [], |row| row.get(0))?;
    let total: i64 = connection.query_row("SELECT count(*) FROM charge", [], |row| row.get(0))?;
    let overrides = tables::overrides(connection, report)?;
    tables::thresholds(connection, report)?;
    tables::kill_switch(connection, report)?;
    tables::rolled_up(connection, report)?;
    tables::reconciliations(connection, report)?;
    tables::ids(connection, newest, report)?;
    let mut windows = Windows::new(budgets);
    let mut next = Some(i64::MIN);
    while let Some(first) = next
        && let Some(page) = Page::read(connection, first, newest.unwrap_or(first))?
    {
        for charge in &page.charges {
            let entries = page.entries.get(&charge.id).map_or(&[][..], Vec::as_slice);
            let folded = charge.fold(entries, &mut |what| report.violation(Some(charge.id), what));
            page.compare_views(charge.id, &folded, report);
            report.summary.charges += 1;
            report.summary.entries += entries.len() as u64;
            report.summary.posted += folded.posted;
            report.summary.held += folded.held;
            if let Some((charge, held_at)) = folded.charge {
                windows.count(&charge, held_at, folded.posted, folded.held);
            }
        }
        if let Err(error) = &page.views {
            let (first, last) = (page.charges.first(), page.charges.last());
            let ids = first.zip(last).map_or((0, 0), |(first, last)| (first.id, last.id));
            report.violation(None, format!("the views cannot be read for charges {} to {}: {error}", ids.0, ids.1));
        }
        next = page.charges.last().and_then(|charge| charge.id.checked_add(1));
        progress(report.summary.charges, total.unsigned_abs());
    }
    report.notes = windows.notes(&overrides);
    Ok(())
}

/// A row of `charge` as it stands, whatever it holds.
struct RawCharge {
    id: i64,
    held_at_us: i64,
    request_id: String,
    caller: String,
    enterprise: String,
    /// None, where the column is null.
    number: Option<String>,
    operation: String,
    price: Usd,
}

/// A row of `entry` as it stands.
struct RawEntry {
    seq: i64,
    at_us: i64,
    kind: String,
    amount: Usd,
}

/// What the views say of a charge.
struct Viewed {
    posted: Usd,
    held: Option<Usd>,
    spend_posted: Usd,
    state: String,
}

/// What a charge counts for.
struct Folded {
    posted: Usd,
    held: Usd,
    state: String,
    /// The charge and its time, if all of it can be read.
    charge: Option<(Charge, Timestamp)>,
}

/// Charges with all that belongs to them, read in one transaction.
struct Page {
    charges: Vec<RawCharge>,
    entries: HashMap<i64, Vec<RawEntry>>,
    views: rusqlite::Result<HashMap<i64, Viewed>>,
}

/// A text, also where its bytes are none: what is wrong is to be told, not to stop the reading.
fn text(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Null => String::new(),
    })
}

impl Page {
    /// The charges from the id `first` on, up to `newest`; nothing if there are none.
    fn read(connection: &Connection, first: i64, newest: i64) -> Result<Option<Self>, BooksFailure> {
        let transaction = connection.unchecked_transaction()?;
        let charges: Vec<RawCharge> = transaction
            .prepare_cached(
                "SELECT id, held_at_us, request_id, caller, enterprise, number, operation, price_micros FROM charge
                 WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?",
            )?
            .query_map([first, newest, i64::try_from(PAGE).unwrap_or(i64::MAX)], |row| {
                let (id, held_at_us, price) = (row.get(0)?, row.get(1)?, Usd::from_micros(row.get(7)?));
                let (request_id, caller, enterprise) = (text(row, 2)?, text(row, 3)?, text(row, 4)?);
                let number = (row.get_ref(5)? != ValueRef::Null).then(|| text(row, 5)).transpose()?;
                Ok(RawCharge { id, held_at_us, request_id, caller, enterprise, number, operation: text(row, 6)?, price })
            })?
            .collect::<Result<_, _>>()?;
        let Some((first, last)) = charges.first().zip(charges.last()).map(|(first, last)| (first.id, last.id)) else { return Ok(None) };
        let mut entries: HashMap<i64, Vec<RawEntry>> = HashMap::new();
        let mut query = transaction.prepare_cached(
            "SELECT charge, seq, at_us, kind, amount_micros FROM entry WHERE charge >= ? AND charge <= ? ORDER BY charge, seq",
        )?;
        let mut rows = query.query([first, last])?;
        while let Some(row) = rows.next()? {
            let entry = RawEntry { seq: row.get(1)?, at_us: row.get(2)?, kind: text(row, 3)?, amount: Usd::from_micros(row.get(4)?) };
            entries.entry(row.get(0)?).or_default().push(entry);
        }
        let views = viewed(&transaction, first, last);
        Ok(Some(Self { charges, entries, views }))
    }

    fn compare_views(&self, id: i64, folded: &Folded, report: &mut Report) {
        let Ok(views) = &self.views else { return };
        let Some(viewed) = views.get(&id) else { return report.violation(Some(id), "it is not in the views `balance` and `spend`") };
        let mut differ = |view: &str, said: &dyn fmt::Display, is: &dyn fmt::Display| {
            report.violation(Some(id), format!("the view `{view}` says {said}, and its rows say {is}"));
        };
        if viewed.posted != folded.posted {
            differ("balance", &viewed.posted, &folded.posted);
        }
        if viewed.held.unwrap_or_default() != folded.held {
            differ("balance", &format_args!("{} held", viewed.held.unwrap_or_default()), &folded.held);
        }
        if viewed.spend_posted != folded.posted {
            differ("spend", &viewed.spend_posted, &folded.posted);
        }
        if viewed.state != folded.state {
            differ("spend", &viewed.state, &folded.state);
        }
    }
}

fn viewed(connection: &Connection, first: i64, last: i64) -> rusqlite::Result<HashMap<i64, Viewed>> {
    connection
        .prepare_cached(
            "SELECT balance.id, balance.posted_micros, balance.held_micros, spend.posted_micros, spend.state
             FROM balance JOIN spend ON spend.id = balance.id WHERE balance.id >= :first AND balance.id <= :last",
        )?
        .query_map(named_params! { ":first": first, ":last": last }, |row| {
            let (posted, spend_posted) = (Usd::from_micros(row.get(1)?), Usd::from_micros(row.get(3)?));
            let held = row.get::<_, Option<i64>>(2)?.map(Usd::from_micros);
            Ok((row.get(0)?, Viewed { posted, held, spend_posted, state: text(row, 4)? }))
        })?
        .collect()
}

impl RawCharge {
    /// What it counts for by its entries, which stand in the order in which they were made. Tells all that is wrong with it.
    fn fold(&self, entries: &[RawEntry], wrong: &mut impl FnMut(String)) -> Folded {
        let charge = self.read(wrong);
        let posted = entries.iter().map(|entry| entry.amount).sum();
        let mut ends = Vec::new();
        for entry in entries {
            entry.check(self.price, wrong);
            if entry.kind != tables::CORRECTED {
                ends.push(entry.seq.to_string());
            }
        }
        let kinds: Vec<_> = entries.iter().map(|entry| entry.kind.as_str()).collect();
        if kinds.contains(&tables::CORRECTED) && kinds != ["assumed", tables::CORRECTED] {
            wrong(format!("its entries are {}, and only one that was assumed is corrected, once", kinds.join(", ")));
        }
        if ends.len() > 1 {
            wrong(format!("it ended {} times, in entries {}", ends.len(), ends.join(", ")));
        }
        let held = if ends.is_empty() { self.price } else { Usd::ZERO };
        let state = entries.last().map_or_else(|| "held".to_owned(), |entry| entry.kind.clone());
        Folded { posted, held, state, charge }
    }

    /// The charge as the gateway reads it, if every value is one.
    fn read(&self, wrong: &mut impl FnMut(String)) -> Option<(Charge, Timestamp)> {
        let held_at = Timestamp::from_microsecond(self.held_at_us).map_err(|error| wrong(format!("its time is none: {error}")));
        let number = self.number.as_ref().map(|text| text.parse::<PhoneNumber>().map_err(|error| format!("its number {text:?}: {error}")));
        let number = number.transpose().map_err(&mut *wrong);
        let operation: Result<Billable, ()> =
            self.operation.parse().map_err(|error: NotBillable| wrong(format!("its operation {:?}: {error}", self.operation)));
        let enterprise: Result<EnterpriseId, ()> =
            self.enterprise.parse().map_err(|error| wrong(format!("its enterprise {:?}: {error}", self.enterprise)));
        if enterprise.is_ok_and(|enterprise| enterprise.to_string() != self.enterprise) {
            wrong(format!("its enterprise {:?} is not in lower case, so no budget of that enterprise counts it", self.enterprise));
        }
        match operation.map(Billable::subject) {
            Ok(Subject::Number) if self.number.is_none() => wrong("it has no number, and its operation is about one".to_owned()),
            Ok(Subject::Enterprise) if self.number.is_some() => {
                wrong("it has a number, and its operation is about an enterprise".to_owned());
            }
            _ => {}
        }
        if self.caller.is_empty() {
            wrong("its caller has no name".to_owned());
        }
        if self.price < Usd::ZERO {
            wrong(format!("its price is {}", self.price));
        }
        let (caller, request_id) = (self.caller.as_str().into(), self.request_id.clone());
        let (enterprise, number, operation) = (enterprise.ok()?, number.ok()?, operation.ok()?);
        Some((Charge { request_id, caller, enterprise, number, operation, price: self.price }, held_at.ok()?))
    }
}

impl RawEntry {
    fn check(&self, price: Usd, wrong: &mut impl FnMut(String)) {
        let Self { seq, at_us, kind, amount } = self;
        if let Err(error) = Timestamp::from_microsecond(*at_us) {
            wrong(format!("the time of entry {seq} is none: {error}"));
        }
        match kind.parse::<End>() {
            Ok(end) if end.posts(price) != *amount => {
                wrong(format!("entry {seq} is {kind} and posts {amount}, and should post {}", end.posts(price)));
            }
            Err(_) if kind != tables::CORRECTED => wrong(format!("entry {seq} is {kind:?}, which is no kind of entry")),
            Err(_) if *amount != Usd::ZERO && *amount != Usd::ZERO - price => {
                wrong(format!("entry {seq} corrects by {amount}, and should by nothing or by the whole price of {price}"));
            }
            Ok(_) | Err(_) => {}
        }
    }
}
