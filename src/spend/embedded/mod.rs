//! The ledger of one gateway: an `SQLite` file, decided over in memory.
//!
//! One transaction records a batch. When it fails, nothing of it has happened: the file is opened and the accounts are read anew.

mod step;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;

use self::step::Step;
use super::accounts::Accounts;
use super::disk::Disk;
use super::keeper::{Batch, Calendar, Ended, Keeper, Written};
use super::stop::Stop;
use super::writer::Switching;
use super::{Budgets, End, KillSwitch, OpenFailure, View, retention, store};
use crate::clock::Clock;
use crate::policy::budget::Budget;

/// How long a ledger with nothing to do waits until it looks whether there is something to roll up.
const IDLE: Duration = Duration::from_hours(1);

/// A ledger in a file.
pub(super) struct Embedded {
    disk: Disk,
    accounts: Accounts,
    stop: Arc<Stop>,
    /// How the kill switch is set in the file.
    recorded: KillSwitch,
    clock: Clock,
    retention: Duration,
    /// Charges that ended before are of no interest any more at the first opening.
    recall_since: Timestamp,
    /// Since the file has been open.
    calendar: Option<Calendar>,
    /// The day on which nothing was left to roll up.
    rolled_up: Option<Date>,
}

impl Embedded {
    pub(super) fn new(
        disk: Disk,
        budgets: Vec<Budget>,
        stop: Arc<Stop>,
        retention: Duration,
        recall_since: Timestamp,
        clock: Clock,
    ) -> Self {
        let (accounts, recorded) = (Accounts::new(budgets), KillSwitch::default());
        Self { disk, accounts, stop, recorded, clock, retention, recall_since, calendar: None, rolled_up: None }
    }

    /// One transaction; before the first, what a former run left.
    fn write(&mut self, batch: &Batch) -> Result<Written, OpenFailure> {
        let now = store::recorded(self.clock.now());
        let connection = self.disk.connection()?;
        let transaction = store::begin(connection)?;
        let mut written = Written::default();
        let opened = self.calendar.is_none().then(|| store::newest(&transaction)).transpose()?;
        if opened.is_some() {
            for (id, hold) in store::left_open(&transaction)? {
                store::insert_end(&transaction, id, End::Assumed, hold.charge.price, "open when the process ended", now)?;
                written.ends.push(Ended { id, end: End::Assumed, hold });
            }
            let asked = self.stop.asked();
            self.recorded = store::kill_switch(&transaction)?;
            if asked == 0 {
                self.stop.settle(&self.recorded, asked);
            }
        }
        let in_force = self.stop.state();
        let unrecorded = Some(&in_force).filter(|state| state.on && **state != self.recorded);
        if batch.is_empty() {
            store::touch(&transaction)?;
        }
        let (accounts, stop, clock) = (&mut self.accounts, &*self.stop, &self.clock);
        let mut written = Step { connection: &transaction, accounts, stop, unrecorded, clock, now, written }.take(batch)?;
        if opened.is_some() {
            written.recalled = store::recent(&transaction, self.recall_since)?;
        }
        let began = self.clock.elapsed();
        transaction.commit()?;
        written.took = self.clock.elapsed().saturating_sub(began);
        self.accounts.keep();
        if let Some(newest) = opened {
            self.calendar = Some(Calendar::new(newest, &self.clock));
        }
        self.recorded = in_force;
        for Switching { set, asked, .. } in batch.switches.iter().filter(|switching| switching.allows(&self.stop)) {
            self.recorded = set.clone();
            self.stop.settle(set, *asked);
        }
        Ok(written)
    }

    fn today(&self) -> Option<Date> {
        self.calendar.as_ref().map(|calendar| calendar.today(&self.clock))
    }
}

impl Keeper for Embedded {
    async fn commit(&mut self, batch: &Batch) -> Result<Written, OpenFailure> {
        self.write(batch).inspect_err(|_| {
            self.accounts.undo();
            self.disk.reopen();
        })
    }

    /// The file knows what was spent in whichever windows they have. What is remembered was read at the start.
    fn rebudget(&mut self, budgets: &Budgets) {
        self.accounts.replace(&budgets.budgets);
    }

    fn view(&self, available: bool) -> View {
        View::of(&self.accounts, available)
    }

    /// Adds up some of the charges that are older than the retention, in a transaction of their own.
    async fn upkeep(&mut self) {
        let Some(today) = self.today().filter(|today| self.rolled_up != Some(*today)) else { return };
        let rolled = self.disk.connection().and_then(|connection| Ok(retention::roll_up(connection, today, self.retention)?));
        match rolled {
            Ok(retention::Progress::MoreToDo) => {}
            Ok(retention::Progress::Done) => self.rolled_up = Some(today),
            Err(error) => {
                tracing::warn!(%error, "old charges were not rolled up; they will be tomorrow");
                self.rolled_up = Some(today);
            }
        }
    }

    fn patience(&self) -> Duration {
        if self.rolled_up.is_some() && self.rolled_up == self.today() { IDLE } else { Duration::ZERO }
    }

    /// A file that is lost is another file.
    async fn acknowledge(&mut self, _reason: &str, _author: &str) -> Result<bool, OpenFailure> {
        Ok(false)
    }

    async fn close(&mut self) {
        if let Err(error) = self.disk.connection().and_then(|connection| Ok(store::checkpoint(connection)?)) {
            // Its journal stays beside the file and is read at the next start.
            tracing::warn!(%error, "the ledger's journal was not copied into its file");
        }
    }
}
