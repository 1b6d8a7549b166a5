//! The ledger: what has been spent, what is held, and whether more may be.
//!
//! Money moves in two phases. Before a billable call leaves, [`Ledger::hold`] takes its full price out of every budget that applies, in
//! one atomic and durable step. When the call's outcome is known the [`Hold`] ends, once: *settled* (billed), *released* (not billed), or
//! *assumed* (unknown, posted in full). A hold whose owner vanishes is assumed; so is one that a dead process left open.
//!
//! The truth is an `SQLite` file of facts, described in `store.rs`; balances are folds of it. A budget is a view over the charges in
//! its scope and window, so editing, adding or renaming one loses nothing. One thread writes and decides
//! (`writer.rs`); what it decides with is in memory (`accounts.rs`). Everyone else sees the view it publishes after
//! each commit, or reads the file through a connection of their own.
//!
//! A ledger that cannot be written refuses every hold and goes on trying; nothing that is free depends on it. A disk that
//! hangs makes [`Ledger::hold`] wait: a caller who gives up leaves nothing held.
//!
//! Not here: prices and windows (`policy`), judging whether a call was billed, and metrics, which are told through [`Observe`].

mod accounts;
pub mod books;
mod facts;
mod hold;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::oneshot;

use self::accounts::{Account, Accounts, Verdict, verdict};
pub use self::facts::{
    BudgetStatus, End, Event, HoldId, HoldRefused, NotAnEnd, Observe, OpenError, OpenFailure, OpenHolds, Posted, Unavailable,
};
pub use self::hold::Hold;
use self::store::Place;
use self::writer::{Command, Request, Writer};
use crate::clock::Clock;
use crate::policy::budget::Budget;
pub use crate::policy::budget::Charge;

/// Open holds, waiting commands and their ends, all together. A hold reserves its end's place before it is taken.
const SEATS: usize = 4096;

/// `[ledger]`: where what was spent is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
pub struct Config {
    /// An `SQLite` file, made if it is not there; a second process on one file is refused. `:memory:` keeps nothing.
    pub path: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self { path: "ledger.sqlite".into() }
    }
}

/// A handle on the ledger; clones share it.
#[derive(Clone)]
pub struct Ledger {
    queue: mpsc::Sender<Command>,
    view: Arc<ArcSwap<View>>,
    /// Gone once the ledger is closed.
    reader: Arc<Mutex<Option<Connection>>>,
    /// The place in the queue that is kept for [`Ledger::close`].
    closing: Arc<Mutex<Option<OwnedPermit<Command>>>>,
    clock: Clock,
    place: Place,
}

/// What the writer last committed, for everyone to see.
struct View {
    accounts: Vec<Account>,
    open: usize,
    oldest: Option<Duration>,
}

impl View {
    fn of(accounts: &Accounts) -> Self {
        Self { accounts: accounts.all().to_vec(), open: accounts.open_count(), oldest: accounts.oldest() }
    }
}

impl Ledger {
    /// Opens or creates the file, assumes the holds that a former run left open, and starts the writer.
    pub fn open(config: &Config, budgets: Vec<Budget>, clock: Clock, observe: Observe) -> Result<Self, OpenError> {
        Self::start(&config.path, budgets, clock, observe).map_err(|why| OpenError { path: config.path.clone(), why })
    }

    fn start(path: &Path, budgets: Vec<Budget>, clock: Clock, observe: Observe) -> Result<Self, OpenFailure> {
        let place = Place::new(path);
        let lock = match &place {
            Place::File(path) => Some(lock(path)?),
            Place::Memory(_) => None,
        };
        let mut connection = place.writer()?;
        let now = clock.now();
        assume_left_open(&mut connection, now, &observe)?;
        let mut accounts = Accounts::new(budgets);
        accounts.roll(now, |budget, window| store::balance(&connection, budget, window))?;

        let view = Arc::new(ArcSwap::from_pointee(View::of(&accounts)));
        let reader = Arc::new(Mutex::new(Some(place.reader()?)));
        let (queue, commands) = mpsc::channel(SEATS);
        let closing = Arc::new(Mutex::new(queue.clone().try_reserve_owned().ok()));
        let writer = Writer::new(connection, lock, accounts, Arc::clone(&view), clock.clone(), observe);
        thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run(commands)).map_err(OpenFailure::Writer)?;
        Ok(Self { queue, view, reader, closing, clock, place })
    }

    /// Holds a charge's price in every budget that applies, or in none. Returns when that is durable.
    pub async fn hold(&self, charge: Charge) -> Result<Hold, HoldRefused> {
        let seat = self.queue.clone().try_reserve_owned().map_err(|_| Unavailable)?;
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Command::Hold(Request { charge, seat, answer })).map_err(|_| Unavailable)?;
        writer::answered(answered, &self.queue).await?.map(Hold::claim)
    }

    /// What [`Ledger::hold`] would say, from memory alone: a window that has just begun is taken for unspent. Waits for nothing, holds
    /// nothing, counts nothing.
    pub fn preview(&self, charge: &Charge) -> Result<(), HoldRefused> {
        let now = self.clock.now();
        let current: Vec<_> = self.view.load().accounts.iter().map(|account| account.clone().in_window_at(now)).collect();
        match verdict(&current, charge) {
            Verdict::Allowed(_) => Ok(()),
            Verdict::Exhausted(budgets) => Err(HoldRefused::Exhausted(Box::new(budgets[0].status()))),
            Verdict::NoBudget => Err(HoldRefused::NoBudget),
        }
    }

    /// Every budget in its window now, in the order of the configuration. One whose window has just begun and cannot be read
    /// is shown in its last window.
    pub fn budgets(&self) -> Vec<BudgetStatus> {
        let now = self.clock.now();
        self.view.load().accounts.iter().map(|account| self.at(now, account).unwrap_or_else(|_| account.clone()).status()).collect()
    }

    /// The holds of calls under way.
    pub fn holds(&self) -> OpenHolds {
        let view = self.view.load();
        OpenHolds { count: view.open, oldest_age: view.oldest.map(|since| self.clock.elapsed().saturating_sub(since)) }
    }

    /// The charges that ended as settled or assumed at or after `since`, oldest first. Reads the file: for start-up.
    pub fn recent(&self, since: Timestamp) -> Result<Vec<Posted>, Unavailable> {
        self.read(|connection| store::recent(connection, since))
    }

    /// Writes what is queued, copies the journal into the file and closes it. Returns when another process may open it.
    /// Holds that are still open stay so in the file, and the next start assumes them.
    pub async fn close(&self) {
        let seat = self.closing.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Before the writer's: the connection that closes last removes the journal.
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(seat) = seat {
            seat.send(Command::Close);
        }
        self.queue.closed().await;
    }

    /// The account in its window at `now`: as it was published, or, if the clock has left that window since, from the file.
    fn at(&self, now: Timestamp, account: &Account) -> Result<Account, Unavailable> {
        if account.window.contains(now) {
            return Ok(account.clone());
        }
        let window = account.budget.window_at(now);
        let balance = self.read(|connection| store::balance(connection, &account.budget, window))?;
        Ok(Account { budget: Arc::clone(&account.budget), window, balance })
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Unavailable> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        query(reader.as_ref().ok_or(Unavailable)?).map_err(|error| {
            tracing::warn!(%error, "the ledger cannot be read");
            Unavailable
        })
    }
}

/// Keeps other processes out, as long as the file that is returned stays open. The kernel lets go when this process ends.
fn lock(path: &Path) -> Result<File, OpenFailure> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(name).map_err(OpenFailure::Lock)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenFailure::InUse),
        Err(TryLockError::Error(error)) => Err(OpenFailure::Lock(error)),
    }
}

/// A process that died cannot tell what became of its calls, so all of them count.
fn assume_left_open(connection: &mut Connection, now: Timestamp, observe: &Observe) -> Result<(), OpenFailure> {
    let transaction = store::begin(connection)?;
    let left = store::left_open(&transaction)?;
    for hold in &left {
        store::insert_end(&transaction, hold.id, End::Assumed, hold.price, "open when the process ended", now)?;
    }
    transaction.commit()?;
    for hold in &left {
        observe(Event::Ended { end: End::Assumed, amount: hold.price, caller: &hold.caller });
    }
    Ok(())
}
