//! A bill as a CSV file: what was charged, when, and for which number or operation. Every error says where it is and how to mend it.

use std::io::Read;

use csv::{ErrorKind, ReaderBuilder, StringRecord, Trim};
use jiff::Timestamp;

use crate::policy::money::Usd;
use crate::policy::pricing::{Billable, Subject};
use crate::telnyx::PhoneNumber;

/// The columns that are read, in any order; others are passed over.
const COLUMNS: [&str; 4] = ["time", "number", "operation", "cost"];

/// A bill that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct BillError {
    /// The line of the file, from 1.
    pub line: u64,
    /// What is wrong there.
    pub fault: BillFault,
}

/// What is wrong with a bill.
#[derive(Debug, thiserror::Error)]
pub enum BillFault {
    /// The first line does not name a column.
    #[error("no column is named `{0}`; the first line has to name the columns time, number, operation and cost, in any order")]
    NoColumn(&'static str),
    /// The first line names a column twice.
    #[error("two columns are named `{0}`; rename the one that is not meant")]
    TwoColumns(&'static str),
    /// A row has more or fewer fields than the first line.
    #[error("{found} fields, and the first line has {named}; put fields with a comma in double quotes")]
    Fields {
        /// How many it has.
        found: u64,
        /// How many the first line has.
        named: u64,
    },
    /// A field is not what its column holds.
    #[error("column `{column}`: {found:?} is {wanted}")]
    Field {
        /// The column.
        column: &'static str,
        /// What stands there.
        found: String,
        /// What should, and how to write it.
        wanted: String,
    },
    /// It is no text.
    #[error("not UTF-8; save the file as UTF-8")]
    NotText,
    /// The file cannot be read on.
    #[error("{0}")]
    Io(std::io::Error),
}

/// One charge of a bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Billed {
    pub(super) at: Timestamp,
    pub(super) about: About,
    pub(super) cost: Usd,
}

/// What a charge is compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// Its number.
    Number(PhoneNumber),
    /// Its operation, where it is about no number.
    Operation(Billable),
}

/// Gives each charge of a bill to `take`, row by row.
pub(super) fn read(bill: impl Read, mut take: impl FnMut(Billed)) -> Result<(), BillError> {
    let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(bill);
    let header = reader.headers().map_err(unread)?;
    let columns = Columns::of(header).map_err(|fault| BillError { line: 1, fault })?;
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(unread)? {
        let line = record.position().map_or(0, csv::Position::line);
        take(columns.billed(&record).map_err(|fault| BillError { line, fault })?);
    }
    Ok(())
}

/// Where each column stands.
struct Columns([usize; 4]);

impl Columns {
    fn of(header: &StringRecord) -> Result<Self, BillFault> {
        let mut places = [0; 4];
        for (place, column) in places.iter_mut().zip(COLUMNS) {
            let mut found = header.iter().enumerate().filter(|(_, name)| name.eq_ignore_ascii_case(column)).map(|(at, _)| at);
            *place = found.next().ok_or(BillFault::NoColumn(column))?;
            if found.next().is_some() {
                return Err(BillFault::TwoColumns(column));
            }
        }
        Ok(Self(places))
    }

    fn billed(&self, record: &StringRecord) -> Result<Billed, BillFault> {
        let [time, number, operation, cost] = self.0.map(|at| record.get(at).unwrap_or_default());
        let fault = |column, found: &str, wanted: String| BillFault::Field { column, found: found.to_owned(), wanted };
        let no_time = "not a time: write it in RFC 3339, as 2026-11-01T08:30:00Z or 2026-11-01T09:30:00+01:00";
        let at = time.parse().map_err(|_| fault("time", time, no_time.to_owned()))?;
        let no_number = "not a phone number: write it in E.164, as +16035551234";
        // A bill that does not tell them apart leaves it empty.
        let billable: Option<Billable> = if operation.is_empty() {
            None
        } else {
            let wanted = "not an operation of this ledger: write fresh or first_touch, or nothing; leave out rows of other products";
            Some(operation.parse().map_err(|_| fault("operation", operation, wanted.to_owned()))?)
        };
        let about = match billable {
            Some(Billable::Frequency) => About::Operation(Billable::Frequency),
            Some(billable) if number.is_empty() && billable.subject() != Subject::Number => About::Operation(billable),
            _ => About::Number(number.parse().map_err(|_| fault("number", number, no_number.to_owned()))?),
        };
        let cost = cost.parse().map_err(|error: crate::policy::money::NotUsd| fault("cost", cost, error.to_string()))?;
        Ok(Billed { at, about, cost })
    }
}

fn unread(error: csv::Error) -> BillError {
    let line = error.position().map_or(1, csv::Position::line);
    let fault = match error.into_kind() {
        ErrorKind::Io(error) => BillFault::Io(error),
        ErrorKind::Utf8 { .. } => BillFault::NotText,
        ErrorKind::UnequalLengths { expected_len, len, .. } => BillFault::Fields { found: len, named: expected_len },
        other => BillFault::Io(std::io::Error::other(format!("{other:?}"))),
    };
    BillError { line, fault }
}
