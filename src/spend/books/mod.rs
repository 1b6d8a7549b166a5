//! The books: the ledger's file, read by a connection of its own, beside a running gateway or after one.
//!
//! [`Books`] only reads, and in short steps: no read lasts longer than a page, so the writer's journal can be copied into the file
//! meanwhile. [`Books::record`] alone writes, one row.

mod bill;
mod export;
mod reconcile;
mod rows;
mod spending;
mod tables;
mod verify;
mod windows;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

pub use self::bill::{BillError, BillFault};
pub use self::export::{Export, Format, NotAFormat};
pub use self::reconcile::{Drift, LastReconciliation, ReconcileError, Reconciliation};
pub use self::rows::{COLUMNS, Filter, NotAMoment, NotAState, Row, State, moment};
pub use self::spending::Spending;
pub use self::verify::{Note, Report, Summary, Violation};
use super::Ledger;
use super::disk::Place;
use super::store::MIGRATIONS;

/// Rows of a page where nobody asks for another size.
const PAGE: usize = 1_000;

/// A reader of a ledger's file.
#[derive(Debug)]
pub struct Books {
    connection: Connection,
    place: Place,
}

/// The books cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("ledger {}: {why}", path.display())]
pub struct BooksError {
    /// The ledger's file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: BooksFailure,
}

/// What keeps books from being read.
#[derive(Debug, thiserror::Error)]
pub enum BooksFailure {
    /// There is no such file.
    #[error("there is no such file; name the one that ledger.path of the gateway's configuration names")]
    Missing,
    /// It is in the memory of a process.
    #[error("it is kept in the memory of a running gateway; ask its admin listener: GET /admin/v1/ledger")]
    InMemory,
    /// The gateway that has it open is closing it.
    #[error("the gateway is closing it")]
    Closed,
    /// It was never a ledger, or no gateway has opened it yet.
    #[error("it is no ledger")]
    NotALedger,
    /// It was written by a later version.
    #[error("its version is {found}, and this command knows versions up to {known}; use the one that came with the gateway that wrote it")]
    Later {
        /// The file's version.
        found: i64,
        /// The last version that is known.
        known: i64,
    },
    /// It was written by an earlier version.
    #[error("its version is {found}, and this command reads version {known}; start the gateway once, which brings it up to date")]
    Earlier {
        /// The file's version.
        found: i64,
        /// The version that is read.
        known: i64,
    },
    /// `SQLite` cannot make what it needs beside the file.
    #[error("{0}; a reader makes -wal and -shm beside it: where you may not write, copy it, with its -wal, to a folder where you may")]
    Beside(rusqlite::Error),
    /// `SQLite` cannot use it.
    #[error("{0}")]
    Database(rusqlite::Error),
    /// A row has a value that no gateway writes.
    #[error("charge {charge}: {error}; `reputation-gateway ledger verify` lists all that is wrong")]
    Row {
        /// The charge's id.
        charge: i64,
        /// What cannot be read.
        error: rusqlite::Error,
    },
}

impl From<rusqlite::Error> for BooksFailure {
    fn from(error: rusqlite::Error) -> Self {
        if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) { Self::Beside(error) } else { Self::Database(error) }
    }
}

impl BooksFailure {
    /// Whether `SQLite` found the file's pages broken.
    fn is_corrupt(&self) -> bool {
        matches!(self, Self::Database(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt))
    }
}

impl Books {
    /// Opens a ledger's file to read it. Makes none.
    pub fn open(path: &Path) -> Result<Self, BooksError> {
        let place = Place::new(path);
        let found = match &place {
            Place::Memory(_) => Err(BooksFailure::InMemory),
            Place::File(path) if !path.exists() => Err(BooksFailure::Missing),
            Place::File(_) => Ok(()),
        };
        match found {
            Ok(()) => Self::at(place),
            Err(why) => Err(BooksError { path: path.to_owned(), why }),
        }
    }

    /// The same for any place, a running ledger's memory included.
    fn at(place: Place) -> Result<Self, BooksError> {
        let connected = || {
            let connection = place.reader()?;
            is_current(&connection).map(|()| connection)
        };
        match connected() {
            Ok(connection) => Ok(Self { connection, place }),
            Err(why) => Err(BooksError { path: path_of(&place), why }),
        }
    }

    /// Names the file in whatever went wrong.
    fn told<T>(&self, done: Result<T, BooksFailure>) -> Result<T, BooksError> {
        done.map_err(|why| BooksError { path: path_of(&self.place), why })
    }
}

impl Ledger {
    /// The books of this ledger.
    pub fn books(&self) -> Result<Books, BooksError> {
        // Later a connection would leave a journal beside a file that was closed in order.
        if self.queue.is_closed() {
            return Err(BooksError { path: path_of(&self.place), why: BooksFailure::Closed });
        }
        Books::at(self.place.clone())
    }
}

fn path_of(place: &Place) -> PathBuf {
    match place {
        Place::File(path) => path.clone(),
        Place::Memory(_) => ":memory:".into(),
    }
}

fn is_current(connection: &Connection) -> Result<(), BooksFailure> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    match found {
        _ if found == known => Ok(()),
        _ if found > known => Err(BooksFailure::Later { found, known }),
        1.. => Err(BooksFailure::Earlier { found, known }),
        _ => Err(BooksFailure::NotALedger),
    }
}
