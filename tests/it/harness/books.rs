//! The ledger's file, read as an operator would: beside the gateway, or after it has died.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// One charge, with what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Charge {
    /// Empty, where it is for the enterprise as a whole.
    pub(crate) number: String,
    /// How it ended; `held` if it has not.
    pub(crate) state: String,
    /// Micro-dollars.
    pub(crate) posted: i64,
}

/// All charges, oldest first. The file is only read: its journal stays for whoever opens it next.
pub(crate) fn charges(ledger: &Path) -> Vec<Charge> {
    let books = Connection::open_with_flags(ledger, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a ledger");
    let mut query = books.prepare("SELECT number, state, posted_micros FROM spend ORDER BY id").expect("the view is there");
    let charges = query.query_map((), |row| {
        Ok(Charge { number: row.get::<_, Option<String>>(0)?.unwrap_or_default(), state: row.get(1)?, posted: row.get(2)? })
    });
    charges.expect("a list").collect::<Result<_, _>>().expect("charges")
}

/// What all entries add up to, corrections included.
pub(crate) fn posted(charges: &[Charge]) -> i64 {
    charges.iter().map(|charge| charge.posted).sum()
}

/// The same number by number, in cents, those with nothing left out.
pub(crate) fn by_number(charges: &[Charge]) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for charge in charges {
        *sums.entry(charge.number.clone()).or_default() += charge.posted / 10_000;
    }
    sums.retain(|_, cents| *cents != 0);
    sums
}
