//! What was spent, added up for people: by the hour, by caller, by number.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use jiff::Timestamp;
use serde::Serialize;

use super::rows::Row;
use super::{Books, BooksError, Filter};
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;
use crate::telnyx::{EnterpriseId, PhoneNumber};

/// What was posted for charges from some moment on. Charges that posted nothing are in no sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spending {
    /// Each hour's operations, in the order of time.
    pub by_hour: Vec<Part<Hour>>,
    /// Who spent most, first.
    pub callers: Vec<Part<Caller>>,
    /// What most was spent for, first.
    pub numbers: Vec<Part<Subject>>,
    /// The last charges, whatever became of them, the newest first.
    pub latest: Vec<Row>,
}

/// What one part of it came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part<T> {
    /// Which one.
    #[serde(flatten)]
    pub of: T,
    /// How many charges.
    pub calls: u64,
    /// Dollars.
    #[serde(rename = "posted_usd")]
    pub posted: Usd,
}

/// An hour, UTC, and what was done in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Hour {
    /// Its first instant.
    pub starts_at: Timestamp,
    /// What was done.
    pub operation: Billable,
}

/// A caller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Caller {
    /// Its name.
    pub caller: String,
}

/// A number, or an enterprise as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Subject {
    /// Whose it is.
    pub enterprise: EnterpriseId,
    /// None: the enterprise as a whole.
    pub number: Option<PhoneNumber>,
}

impl Books {
    /// Adds up what was posted for charges that were held at or after `since`. Of callers, numbers and charges there are not more than `most`.
    /// Takes memory for each number that was paid for, and as long as reading these charges does.
    pub fn spending(&self, since: Timestamp, most: usize) -> Result<Spending, BooksError> {
        let (mut by_hour, mut callers, mut numbers) = (Sums::default(), Sums::default(), Sums::default());
        let mut latest = VecDeque::new();
        let filter = Filter { since: Some(since), ..Filter::default() };
        self.each(filter, |row| {
            if row.posted > Usd::ZERO {
                by_hour.add(Hour { starts_at: hour_of(row.held_at), operation: row.operation }, row.posted);
                callers.add(Caller { caller: row.caller.clone() }, row.posted);
                numbers.add(Subject { enterprise: row.enterprise, number: row.number }, row.posted);
            }
            latest.push_front(row);
            latest.truncate(most);
        })?;
        let mut by_hour = by_hour.parts();
        by_hour.sort_unstable_by(|one, other| one.of.cmp(&other.of));
        Ok(Spending { by_hour, callers: callers.largest(most), numbers: numbers.largest(most), latest: latest.into() })
    }
}

struct Sums<T>(HashMap<T, (u64, Usd)>);

impl<T> Default for Sums<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash + Ord> Sums<T> {
    fn add(&mut self, of: T, posted: Usd) {
        let (calls, sum) = self.0.entry(of).or_default();
        *calls += 1;
        *sum += posted;
    }

    fn parts(self) -> Vec<Part<T>> {
        self.0.into_iter().map(|(of, (calls, posted))| Part { of, calls, posted }).collect()
    }

    /// Those of the largest sums; of equal ones, in their own order.
    fn largest(self, most: usize) -> Vec<Part<T>> {
        let mut parts = self.parts();
        parts.sort_unstable_by(|one, other| other.posted.cmp(&one.posted).then_with(|| one.of.cmp(&other.of)));
        parts.truncate(most);
        parts
    }
}

fn hour_of(at: Timestamp) -> Timestamp {
    let second = at.as_second();
    Timestamp::from_second(second - second.rem_euclid(3_600)).unwrap_or(at)
}
