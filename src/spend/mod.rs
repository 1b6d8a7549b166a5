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
mod disk;
mod embedded;
mod facts;
mod heard;
mod hold;
mod keeper;
mod order;
mod retention;
mod shared;
mod stop;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::oneshot;

pub use self::accounts::THRESHOLDS;
use self::accounts::{Account, Accounts, verdict};
use self::disk::{Disk, Place};
use self::embedded::Embedded;
pub use self::facts::{
    BudgetStatus, End, Event, Finding, HoldId, HoldRefused, KillSwitch, NotAnEnd, NotHeld, Observe, OpenError, OpenFailure, OpenHolds,
    Override, OverrideRefused, Past, Posted, Told, Unavailable,
};
pub use self::heard::{Became, Heard};
pub use self::hold::Hold;
use self::keeper::Keeper;
pub use self::order::{Claim, Order, Taken};
use self::shared::{Setup, Shared};
use self::stop::Stop;
use self::writer::{Acknowledging, Command, Correction, Granting, Request, Switching, Writer};
use crate::clock::Clock;
use crate::policy::budget::Budget;
pub use crate::policy::budget::Charge;
use crate::policy::pricing::PriceList;
use crate::shared::Redis;
use crate::units::Span;

/// Open holds, waiting commands and their ends, all together. A hold reserves its end's place before it is taken.
const SEATS: usize = 4096;

/// `[ledger]`: where what was spent is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
#[schemars(inline)]
pub struct Config {
    /// An `SQLite` file, made if it is not there; a second process on one file is refused. `:memory:` keeps nothing.
    pub path: PathBuf,
    /// How long each charge is kept; then only the sum of its day is. At least 32d.
    pub retention: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self { path: "ledger.sqlite".into(), retention: Span(Duration::from_hours(400 * 24)) }
    }
}

/// A handle on the ledger; clones share it.
#[derive(Clone)]
pub struct Ledger {
    queue: mpsc::Sender<Command>,
    /// Budgets that the writer does not go by yet.
    ordered: Arc<ArcSwapOption<Budgets>>,
    view: Arc<ArcSwap<View>>,
    stop: Arc<Stop>,
    place: Place,
    /// The place in the queue that is kept for [`Ledger::close`].
    closing: Arc<Mutex<Option<OwnedPermit<Command>>>>,
    clock: Clock,
    /// For a ledger that others keep: how long a hold may take. Holds are refused at once while it is known to be away.
    answers_within: Option<Duration>,
}

/// What is held against, and how long calls have to be remembered.
#[derive(Clone, Debug)]
struct Budgets {
    budgets: Vec<Budget>,
    memory: Duration,
}

/// What the writer last committed, for everyone to see.
struct View {
    accounts: Vec<Account>,
    open: usize,
    oldest: Option<Duration>,
    available: bool,
    /// When others may take this gateway for dead and give up its holds (monotonic), unless something is heard of it before.
    lapses: Option<Duration>,
    /// For what the ledger is not to be relied on.
    warnings: Arc<Vec<String>>,
}

impl View {
    fn of(accounts: &Accounts, available: bool) -> Self {
        Self {
            accounts: accounts.all().to_vec(),
            open: accounts.open_count(),
            oldest: accounts.oldest(),
            available,
            lapses: None,
            warnings: Arc::default(),
        }
    }
}

impl Ledger {
    /// Opens or creates the file, assumes the holds that a former run left open, tells what was paid within `memory`, and
    /// starts the writer. A file that cannot be used now, and may be later, is an open ledger that refuses holds.
    pub fn open(config: &Config, budgets: Vec<Budget>, memory: Duration, clock: Clock, observe: Observe) -> Result<Self, OpenError> {
        Self::start(config, budgets, memory, clock, observe).map_err(|why| OpenError { path: config.path.clone(), why })
    }

    fn start(config: &Config, budgets: Vec<Budget>, memory: Duration, clock: Clock, observe: Observe) -> Result<Self, OpenFailure> {
        let place = Place::new(&config.path);
        let since = remembered_since(&clock, memory);
        let stop = Arc::<Stop>::default();
        let keeper = Embedded::new(Disk::new(place.clone()), budgets, Arc::clone(&stop), config.retention.0, since, clock.clone());
        Self::serve(keeper, place, stop, clock, observe, None)
    }

    /// The same for a ledger that gateways share: joins those that run already. They have to have the same prices, and the same budgets but for
    /// their limits. The file becomes this gateway's copy of the books.
    pub fn join(
        config: &Config,
        redis: Redis,
        (budgets, prices): (Vec<Budget>, PriceList),
        memory: Duration,
        clock: Clock,
        observe: Observe,
    ) -> Result<Self, OpenError> {
        let (place, stop, limit) = (Place::new(&config.path), Arc::<Stop>::default(), redis.config().timeout.0);
        let (retention, clock_of_keeper) = (config.retention.0, clock.clone());
        let setup =
            Setup { redis, place: place.clone(), budgets, prices, stop: Arc::clone(&stop), retention, memory, clock: clock_of_keeper };
        let served = Self::serve(Shared::new(setup), place, stop, clock, observe, Some(limit));
        served.map_err(|why| OpenError { path: config.path.clone(), why })
    }

    /// Starts the writer on a thread of its own, and waits until it has opened the ledger.
    fn serve<K: Keeper + 'static>(
        keeper: K,
        place: Place,
        stop: Arc<Stop>,
        clock: Clock,
        observe: Observe,
        answers_within: Option<Duration>,
    ) -> Result<Self, OpenFailure> {
        let mut writer = Writer::new(keeper, observe);
        let (view, ordered) = (writer.view(), writer.ordered());
        let (queue, commands) = mpsc::channel(SEATS);
        let closing = Arc::new(Mutex::new(queue.clone().try_reserve_owned().ok()));
        let (opened, is_open) = std::sync::mpsc::sync_channel(1);
        let serve = async move |opened: std::sync::mpsc::SyncSender<_>| match writer.begin().await {
            Ok(()) => {
                let _ = opened.send(Ok(()));
                writer.run(commands).await;
            }
            Err(error) => {
                // Whoever is told may open it at once.
                drop(writer);
                let _ = opened.send(Err(error));
            }
        };
        let run = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(serve(opened)),
            Err(error) => drop(opened.send(Err(OpenFailure::Writer(error)))),
        };
        thread::Builder::new().name("ledger".to_owned()).spawn(run).map_err(OpenFailure::Writer)?;
        is_open.recv().unwrap_or_else(|_| Err(OpenFailure::Writer(io::ErrorKind::BrokenPipe.into())))?;
        Ok(Self { queue, ordered, view, stop, place, closing, clock, answers_within })
    }

    /// Holds a charge's price in every budget that applies, or in none. Returns when that is durable.
    pub async fn hold(&self, charge: Charge) -> Result<Hold, HoldRefused> {
        let mut holds = self.hold_all(vec![charge]).await?;
        holds.pop().ok_or(HoldRefused::Unavailable)
    }

    /// Holds the prices of charges that are made together, all or none of them. There is a hold for each, in their order. A shared ledger
    /// that does not answer in time refuses them.
    pub async fn hold_all(&self, charges: Vec<Charge>) -> Result<Vec<Hold>, HoldRefused> {
        match self.take(charges.into()).await {
            Ok(holds) => Ok(holds),
            Err(NotHeld::Refused(refused)) => Err(refused),
            Err(NotHeld::Busy(_) | NotHeld::Later(_) | NotHeld::Limited { .. }) => unreachable!("it claims nothing, and takes no rate"),
        }
    }

    /// The same on the conditions of an order. A ledger that is not shared has none.
    pub async fn take(&self, order: Order) -> Result<Vec<Hold>, NotHeld> {
        if self.answers_within.is_some() && !self.is_available() {
            return Err(Unavailable.into());
        }
        let limit = self.answers_within.map(|limit| shared::allowed(limit, order.charges.len()));
        let seats = order.charges.iter().map(|_| self.queue.clone().try_reserve_owned());
        let seats = seats.collect::<Result<_, _>>().map_err(|_| Unavailable)?;
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Command::Hold(Request { order, seats, answer })).map_err(|_| Unavailable)?;
        let answered = writer::answered(answered, &self.queue);
        let holds = match limit {
            None => answered.await,
            // A server that is slow: an answer that comes later releases what was held.
            Some(limit) => tokio::time::timeout(limit, answered).await.unwrap_or(Err(Unavailable)),
        };
        Ok(holds??.into_iter().map(Hold::claim).collect())
    }

    /// What [`Ledger::hold_all`] would say, from memory alone: a window that has just begun is taken for unspent. Waits for nothing,
    /// holds nothing, counts nothing.
    pub fn preview(&self, charges: &[Charge]) -> Result<(), HoldRefused> {
        let now = self.clock.now();
        if self.stop.is_on() {
            return Err(HoldRefused::Stopped);
        }
        let view = self.view.load();
        if !view.available {
            return Err(HoldRefused::Unavailable);
        }
        let current: Vec<_> = view.accounts.iter().map(|account| account.clone().in_window_at(now)).collect();
        verdict(&current, charges, now).refusal().map_or(Ok(()), Err)
    }

    /// Every budget that applies to these charges, and whether it has room for them all. From memory alone, as [`Ledger::preview`].
    pub fn consulted(&self, charges: &[Charge]) -> Vec<(BudgetStatus, bool)> {
        let now = self.clock.now();
        let current: Vec<_> = self.view.load().accounts.iter().map(|account| account.clone().in_window_at(now)).collect();
        verdict(&current, charges, now).asked().map(|(account, has_room)| (account.status(now), has_room)).collect()
    }

    /// Says what became of a call whose hold was assumed. Tells whether that is news: a hold is corrected once.
    pub async fn correct(&self, id: HoldId, finding: Finding, why: &str) -> Result<bool, Unavailable> {
        let why = why.to_owned();
        self.command(|answer| Command::Correct(Correction { id, finding, why, answer })).await?
    }

    /// Raises a budget's limit for a while. Returns when that is durable.
    pub async fn raise(&self, granted: Override) -> Result<BudgetStatus, OverrideRefused> {
        let granted =
            Override { granted_at: store::recorded(granted.granted_at), expires_at: store::recorded(granted.expires_at), ..granted };
        self.command(|answer| Command::Grant(Granting { granted, answer })).await?
    }

    /// Goes by these budgets, and remembers calls for as long, from the next decision on: a budget is a view over what was charged, so nothing that
    /// was spent is lost. Those of a shared ledger differ from the former ones in their limits alone. Waits until everyone sees them, which no
    /// decision waits for.
    pub async fn rebudget(&self, budgets: Vec<Budget>, memory: Duration) {
        self.ordered.store(Some(Arc::new(Budgets { budgets, memory })));
        // A queue without room is being served, and the writer looks for them each time.
        let _seen = self.command(Command::Rebudget).await;
    }

    /// Stops all billable work, or allows it again. A stop is in force at once, whatever becomes of its record, which the ledger
    /// makes as soon as it can; the answer waits for that. Work is allowed again when that is recorded.
    pub async fn switch(&self, on: bool, reason: String, author: String) -> Result<KillSwitch, Unavailable> {
        let set = KillSwitch { on, since: Some(store::recorded(self.clock.now())), reason: Some(reason), author: Some(author) };
        if on {
            self.stop.stop(set.clone());
        }
        let asked = self.stop.asked();
        self.command(|answer| Command::Switch(Switching { set: set.clone(), asked, answer })).await??;
        Ok(set)
    }

    /// Whether all billable work is stopped.
    pub fn kill_switch(&self) -> KillSwitch {
        self.stop.state()
    }

    /// Whether all billable work is stopped, at the least cost.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_on()
    }

    /// Whether the file could be written when it last was to be.
    pub fn is_available(&self) -> bool {
        self.view.load().available
    }

    /// Whether what this gateway holds is still its own for certain: whoever has not been heard of for so long that others may have given it up must
    /// not send any more.
    pub fn keeps_holds(&self) -> bool {
        self.view.load().lapses.is_none_or(|lapses| self.clock.elapsed() < lapses)
    }

    /// For what the ledger is not to be relied on, as those who run the gateway should know.
    pub fn warnings(&self) -> Arc<Vec<String>> {
        Arc::clone(&self.view.load().warnings)
    }

    /// Goes on with what there is after the server of a shared ledger lost some of it. Tells whether it had.
    pub async fn acknowledge_loss(&self, reason: String, author: String) -> Result<bool, Unavailable> {
        self.command(|answer| Command::Acknowledge(Acknowledging { reason, author, answer })).await?
    }

    /// Every budget in its window now, in the order of the configuration. One whose window cannot be read is shown as it was last.
    pub fn budgets(&self) -> Vec<BudgetStatus> {
        let now = self.clock.now();
        self.view.load().accounts.iter().map(|account| self.at(now, account).status(now)).collect()
    }

    /// The holds of calls under way.
    pub fn holds(&self) -> OpenHolds {
        let view = self.view.load();
        OpenHolds { count: view.open, oldest_age: view.oldest.map(|since| self.clock.elapsed().saturating_sub(since)) }
    }

    /// Writes what is queued, copies the journal into the file and closes it. Returns when another process may open it.
    /// Holds that are still open stay so in the file, and the next start assumes them.
    pub async fn close(&self) {
        let seat = self.closing.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(seat) = seat {
            seat.send(Command::Close);
        }
        self.queue.closed().await;
    }

    async fn command<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Unavailable> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(command(answer)).map_err(|_| Unavailable)?;
        writer::answered(answered, &self.queue).await
    }

    /// The account in its window at `now`: as it was published, or, if the clock has left that window since, from the file.
    fn at(&self, now: Timestamp, account: &Account) -> Account {
        if account.window.contains(now) {
            return account.clone();
        }
        let window = account.budget.window_at(now);
        match self.read(|connection| store::standing(connection, &account.budget, window, now)) {
            Ok(standing) => Account { budget: Arc::clone(&account.budget), window, standing },
            Err(Unavailable) => account.clone().in_window_at(now),
        }
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Unavailable> {
        self.place.reader().and_then(|connection| query(&connection)).map_err(|error| {
            tracing::warn!(%error, "the ledger cannot be read");
            Unavailable
        })
    }
}

fn remembered_since(clock: &Clock, memory: Duration) -> Timestamp {
    clock.now().checked_sub(SignedDuration::try_from(memory).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MIN)
}
