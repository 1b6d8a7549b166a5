//! Charges as rows for people and programs: which of them, in which order, page by page.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rusqlite::named_params;
use serde::{Serialize, Serializer};
use strum::{IntoStaticStr, VariantArray};

use super::super::store::{instant, optional, parsed};
use super::{Books, BooksError, BooksFailure, PAGE};
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;
use crate::telnyx::{EnterpriseId, PhoneNumber};

/// One query looks at no more charges than this, so that a filter that few of them pass keeps no read open for long.
const SPAN: i64 = 20_000;

/// The names of a row's values, in their order.
pub const COLUMNS: [&str; 12] =
    ["id", "held_at", "ended_at", "state", "why", "request_id", "caller", "enterprise", "number", "operation", "price_usd", "posted_usd"];

/// Where a charge stands: the kind of its last entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum State {
    /// Its call is under way.
    Held,
    /// Telnyx billed it.
    Settled,
    /// Telnyx did not bill it.
    Released,
    /// Nobody knows, so it counts as billed.
    Assumed,
    /// What it posts was changed after its end.
    Corrected,
}

/// A text that names no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a state: write held, settled, released, assumed or corrected")]
pub struct NotAState;

impl State {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = NotAState;

    fn from_str(text: &str) -> Result<Self, NotAState> {
        Self::VARIANTS.iter().copied().find(|state| state.as_str() == text).ok_or(NotAState)
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A text that names no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time: write it as 2026-11-01T08:30:00Z, or as 2026-11-01, which is 00:00 of that day in UTC")]
pub struct NotAMoment;

/// Reads a time in RFC 3339, or a date, which stands for its first instant in UTC.
pub fn moment(text: &str) -> Result<Timestamp, NotAMoment> {
    // A date's parser would pass over a time behind it.
    if text.len() == "2026-11-01".len() {
        let date: Date = text.parse().map_err(|_| NotAMoment)?;
        return date.to_zoned(TimeZone::UTC).map(|midnight| midnight.timestamp()).map_err(|_| NotAMoment);
    }
    text.parse().map_err(|_| NotAMoment)
}

/// Which charges: all that meet every condition that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Held at or after this.
    pub since: Option<Timestamp>,
    /// Held before this.
    pub until: Option<Timestamp>,
    /// Caused by this caller.
    pub caller: Option<String>,
    /// In this state.
    pub state: Option<State>,
    /// Caused by a request of this id, for which no index is kept: every charge is looked at.
    pub request_id: Option<String>,
}

impl Filter {
    /// The whole microseconds from which and before which it takes.
    fn micros(&self) -> (i64, i64) {
        (self.since.map_or(i64::MIN, whole_micros), self.until.map_or(i64::MAX, whole_micros))
    }
}

/// The first whole microsecond that is not before `at`: the ledger knows no finer ones.
fn whole_micros(at: Timestamp) -> i64 {
    let micros = (at.as_nanosecond() + 999).div_euclid(1_000);
    i64::try_from(micros).unwrap_or(i64::MAX)
}

/// A charge and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The charge's id: a later charge has a greater one.
    pub id: i64,
    /// When it was held.
    pub held_at: Timestamp,
    /// When its last entry was made.
    pub ended_at: Option<Timestamp>,
    /// Where it stands.
    pub state: State,
    /// The reason of its last entry.
    pub why: Option<String>,
    /// The request that caused it.
    pub request_id: String,
    /// Who asked.
    pub caller: String,
    /// For which enterprise.
    pub enterprise: EnterpriseId,
    /// The number; none, if it was for the enterprise as a whole.
    pub number: Option<PhoneNumber>,
    /// What was done.
    pub operation: Billable,
    /// What was held for it.
    #[serde(rename = "price_usd")]
    pub price: Usd,
    /// What it posts: the sum of its entries.
    #[serde(rename = "posted_usd")]
    pub posted: Usd,
}

impl Row {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            held_at: instant(row, 1)?,
            ended_at: row.get::<_, Option<i64>>(2)?.map(|_| instant(row, 2)).transpose()?,
            state: parsed(row, 3)?,
            why: row.get(4)?,
            request_id: row.get(5)?,
            caller: row.get(6)?,
            enterprise: parsed(row, 7)?,
            number: optional(row, 8)?,
            operation: parsed(row, 9)?,
            price: Usd::from_micros(row.get(10)?),
            posted: Usd::from_micros(row.get(11)?),
        })
    }
}

/// A way through the charges of a filter, from the oldest to the newest that was there when it began.
#[derive(Debug)]
pub(super) struct Walk {
    filter: Filter,
    /// The ids that are still to be looked at.
    left: Option<(i64, i64)>,
    /// The last id of the span that is being read.
    span: Option<i64>,
}

impl Walk {
    /// Begins behind the charge `after`, or with the first.
    pub(super) fn begin(books: &Books, filter: Filter, after: Option<i64>) -> Result<Self, BooksFailure> {
        let from = after.map_or(Some(i64::MIN), |after| after.checked_add(1));
        let left = books.ids(&filter)?.zip(from).map(|((first, last), from)| (first.max(from), last));
        Ok(Self { filter, left: left.filter(|(first, last)| first <= last), span: None })
    }

    /// The next rows: as many as `limit`, and fewer only at the end.
    pub(super) fn step(&mut self, books: &Books, limit: usize) -> Result<Vec<Row>, BooksFailure> {
        let mut rows = Vec::new();
        while let Some((from, last)) = self.left
            && rows.len() < limit
        {
            let to = match self.span {
                Some(to) if to >= from => to,
                _ => books.span(from, last)?,
            };
            self.span = Some(to);
            let full = books.span_rows(&self.filter, (from, to), limit - rows.len(), &mut rows)?;
            // A page that is full may have ended within the span.
            let seen = if full { rows.last().map_or(to, |row| row.id) } else { to };
            self.left = seen.checked_add(1).map(|next| (next, last)).filter(|(next, last)| next <= last);
        }
        Ok(rows)
    }
}

impl Books {
    /// The rows of `filter` behind the charge `after`, by id, and not more than `limit`.
    pub fn page(&self, filter: &Filter, after: Option<i64>, limit: usize) -> Result<Vec<Row>, BooksError> {
        self.told(Walk::begin(self, filter.clone(), after).and_then(|mut walk| walk.step(self, limit)))
    }

    /// Gives every row of `filter`, by id, page by page: no read is open meanwhile.
    pub(super) fn each(&self, filter: Filter, mut row: impl FnMut(Row)) -> Result<(), BooksError> {
        let mut walk = self.told(Walk::begin(self, filter, None))?;
        loop {
            let rows = self.told(walk.step(self, PAGE))?;
            if rows.is_empty() {
                return Ok(());
            }
            rows.into_iter().for_each(&mut row);
        }
    }

    /// How many rows `filter` takes.
    pub fn count(&self, filter: &Filter) -> Result<u64, BooksError> {
        let (since, until) = filter.micros();
        let count = || -> Result<u64, BooksFailure> {
            // A kind is looked up only where a state is asked for.
            let mut query = self.connection.prepare_cached(
                "SELECT count(*) FROM charge
                 WHERE held_at_us >= :since AND held_at_us < :until
                   AND (:caller IS NULL OR caller = :caller)
                   AND (:request_id IS NULL OR request_id = :request_id)
                   AND (:state IS NULL OR :state = coalesce(
                        (SELECT kind FROM entry WHERE entry.charge = charge.id ORDER BY seq DESC LIMIT 1), 'held'))",
            )?;
            let state = filter.state.map(State::as_str);
            let parameters = named_params! { ":since": since, ":until": until, ":caller": filter.caller, ":request_id": filter.request_id, ":state": state };
            let found: i64 = query.query_row(parameters, |row| row.get(0))?;
            Ok(found.unsigned_abs())
        };
        self.told(count())
    }

    /// The first and the last id of the time that `filter` takes, by the index of times.
    fn ids(&self, filter: &Filter) -> Result<Option<(i64, i64)>, BooksFailure> {
        let (since, until) = filter.micros();
        let bounds = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?));
        let (first, last) = if filter.since.is_none() && filter.until.is_none() {
            let ends = "SELECT (SELECT min(id) FROM charge), (SELECT max(id) FROM charge)";
            self.connection.prepare_cached(ends)?.query_row([], bounds)?
        } else {
            let ends = "SELECT min(id), max(id) FROM charge WHERE held_at_us >= ? AND held_at_us < ?";
            self.connection.prepare_cached(ends)?.query_row([since, until], bounds)?
        };
        Ok(first.zip(last))
    }

    /// The id up to which one query looks. Ids may have gaps of any size.
    fn span(&self, from: i64, last: i64) -> Result<i64, BooksFailure> {
        let end = "SELECT max(id) FROM (SELECT id FROM charge WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?)";
        let found: Option<i64> = self.connection.prepare_cached(end)?.query_row([from, last, SPAN], |row| row.get(0))?;
        Ok(found.unwrap_or(last))
    }

    /// Adds the rows of a span of ids, and tells whether the limit was met.
    fn span_rows(&self, filter: &Filter, ids: (i64, i64), limit: usize, found: &mut Vec<Row>) -> Result<bool, BooksFailure> {
        let (since, until) = filter.micros();
        // The plus keeps the index of times out of it: the ids are narrower.
        let mut query = self.connection.prepare_cached(
            "SELECT charge.id, held_at_us, entry.at_us, coalesce(kind, 'held'), why, request_id, caller, enterprise, number, operation,
                    price_micros, coalesce((SELECT sum(amount_micros) FROM entry AS each WHERE each.charge = charge.id), 0)
             FROM charge LEFT JOIN entry ON entry.seq = (SELECT max(seq) FROM entry AS each WHERE each.charge = charge.id)
             WHERE charge.id >= :from AND charge.id <= :to
               AND +held_at_us >= :since AND +held_at_us < :until
               AND (:caller IS NULL OR caller = :caller)
               AND (:state IS NULL OR coalesce(kind, 'held') = :state)
               AND (:request_id IS NULL OR request_id = :request_id)
             ORDER BY charge.id LIMIT :limit",
        )?;
        let mut rows = query.query(named_params! {
            ":from": ids.0,
            ":to": ids.1,
            ":since": since,
            ":until": until,
            ":caller": filter.caller,
            ":state": filter.state.map(State::as_str),
            ":request_id": filter.request_id,
            ":limit": i64::try_from(limit).unwrap_or(i64::MAX),
        })?;
        let before = found.len();
        while let Some(row) = rows.next()? {
            let charge = row.get(0)?;
            found.push(Row::read(row).map_err(|error| BooksFailure::Row { charge, error })?);
        }
        Ok(found.len() - before == limit)
    }
}
