//! Where the ledger is kept, and the right to write it: opened, lost, and opened again.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use super::OpenFailure;
use super::store;

/// How long to wait for an operator's own transaction on the file before billable work is refused.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// What `SQLite`'s `application_id` says of a file that is a copy of a shared ledger: it holds no money, and no gateway may spend by it.
const COPY: i32 = 0x5247_5743;

/// The journal is cut back to this after it was copied into the file.
const JOURNAL_SIZE: u32 = 16 << 20;

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
    fn writer(&self, may_create: bool) -> Result<Connection, OpenFailure> {
        let create = if may_create { OpenFlags::SQLITE_OPEN_CREATE } else { OpenFlags::empty() };
        let mut connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | create)?;
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        // A hold that was answered survives the loss of power, not only of the process.
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update_and_check(None, "journal_size_limit", JOURNAL_SIZE, |_| Ok(()))?;
        store::migrate(&mut connection)?;
        Ok(connection)
    }
}

/// A file's device and inode: what it is, whatever it is called.
type Identity = (u64, u64);

/// The connection that writes. Once it was open it means that one file and no other: the holds in memory are rows of it.
#[derive(Debug)]
pub(super) struct Disk {
    place: Place,
    is_copy: bool,
    connection: Option<Connection>,
    identity: Option<Identity>,
    /// The journal that the connection writes first.
    journal: Option<Identity>,
    /// Whether the file may be made: not if there was one, which whoever mends it may have put aside for a moment.
    may_create: bool,
    /// Last, so that it is let go after the connection.
    lock: Option<Lock>,
}

/// Keeps other processes out, as long as its file stays open. The kernel lets go when this process ends.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    identity: Option<Identity>,
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A child of this process that has yet to begin its own program has the file open too: closing it here alone would not let go.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the lock of the ledger's file is not let go of");
        }
    }
}

impl Disk {
    pub(super) fn new(place: Place) -> Self {
        let may_create = !matches!(&place, Place::File(path) if path.exists());
        Self { place, is_copy: false, connection: None, identity: None, journal: None, may_create, lock: None }
    }

    /// The place of a copy of a shared ledger.
    pub(super) fn copy(place: Place) -> Self {
        Self { is_copy: true, ..Self::new(place) }
    }

    /// The connection, opened if it is not.
    pub(super) fn connection(&mut self) -> Result<&mut Connection, OpenFailure> {
        if let Place::File(path) = &self.place {
            // A lock on a file that somebody removed keeps nobody out.
            if !self.lock.as_ref().is_some_and(Lock::holds) {
                self.lock = None;
                self.lock = Some(Lock::take(path)?);
            }
            if self.identity.is_some() && identity(path) != self.identity {
                return Err(OpenFailure::Replaced);
            }
            if self.connection.is_some() && self.journal.is_some() && identity(&beside(path, "-wal")) != self.journal {
                // What it holds is copied into the file when the connection closes.
                self.connection = None;
                return Err(OpenFailure::NoJournal);
            }
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open()?,
        };
        if let Place::File(path) = &self.place {
            self.identity = self.identity.or_else(|| identity(path));
            self.journal = identity(&beside(path, "-wal"));
            self.may_create = false;
        }
        Ok(self.connection.insert(connection))
    }

    fn open(&self) -> Result<Connection, OpenFailure> {
        let connection = self.place.writer(self.may_create)?;
        let found: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        match (self.is_copy, found == COPY) {
            (false, true) => Err(OpenFailure::Copy),
            (true, false) if store::newest(&connection)?.is_some() => Err(OpenFailure::NoCopy),
            (true, _) => {
                connection.pragma_update(None, "application_id", COPY)?;
                // What is lost of it comes again.
                connection.pragma_update(None, "synchronous", "normal")?;
                Ok(connection)
            }
            (false, false) => Ok(connection),
        }
    }

    /// Closes a connection that failed, so that the next use opens the file anew. One in memory is all there is.
    pub(super) fn reopen(&mut self) {
        if matches!(self.place, Place::File(_)) {
            self.connection = None;
        }
    }
}

/// A file that `SQLite`, or the gateway, keeps beside the ledger's.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn identity(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

impl Lock {
    /// The lock of the file itself, whatever links lead to it.
    fn take(ledger: &Path) -> Result<Self, OpenFailure> {
        let directory = ledger.parent().filter(|directory| !directory.as_os_str().is_empty());
        if directory.is_some_and(|directory| !directory.exists()) {
            return Err(OpenFailure::NoDirectory);
        }
        let path = beside(&ledger.canonicalize().unwrap_or_else(|_| ledger.to_owned()), ".lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(OpenFailure::Lock)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { identity: file.metadata().ok().map(|file| (file.dev(), file.ino())), path, file }),
            Err(TryLockError::WouldBlock) => Err(OpenFailure::InUse),
            Err(TryLockError::Error(error)) => Err(OpenFailure::Lock(error)),
        }
    }

    /// Whether the file that is locked is still the one that others would lock.
    fn holds(&self) -> bool {
        self.identity.is_some() && identity(&self.path) == self.identity
    }
}
