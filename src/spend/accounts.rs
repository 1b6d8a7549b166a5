//! What every budget has left, now: the part of the ledger that decides, held in memory.
//!
//! An account is one budget in the one window that contains the moment. When the clock leaves that window, forwards or
//! backwards, [`Accounts::roll`] asks for the balance of the new one, which the store folds from the file. Nothing is
//! carried over and no old window is kept: the file remembers them all.
//!
//! Changes stand under [`Accounts::keep`] or [`Accounts::undo`], as the transaction that records them was committed or not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{BudgetStatus, End, HoldId, HoldRefused, Override};
use crate::policy::budget::{Budget, Charge, Interval};
use crate::policy::money::Usd;

/// The parts of a budget's limit, in percent, that are recorded when what is posted reaches them.
pub const THRESHOLDS: [u8; 4] = [50, 80, 95, 100];

/// What has been spent in one window of one budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Balance {
    /// Settled and assumed, with corrections.
    pub(super) posted: Usd,
    /// Held for calls that have not ended.
    pub(super) held: Usd,
}

/// What the file has for one window of one budget.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) balance: Balance,
    /// Those that may still be in force.
    pub(super) overrides: Vec<Override>,
    /// The highest threshold that was recorded; 0 for none.
    pub(super) threshold: u8,
}

/// One budget in one window.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) budget: Arc<Budget>,
    pub(super) window: Interval,
    pub(super) standing: Standing,
}

impl Account {
    /// The limit with all overrides that are in force.
    pub(super) fn limit(&self, now: Timestamp) -> Usd {
        self.budget.limit + self.overrides(now).map(|granted| granted.amount).sum()
    }

    /// The overrides in force.
    pub(super) fn overrides(&self, now: Timestamp) -> impl Iterator<Item = &Override> {
        self.standing.overrides.iter().filter(move |granted| now < granted.expires_at)
    }

    /// Whether the limit has room for `price` besides all that is posted and held.
    fn has_room(&self, price: Usd, now: Timestamp) -> bool {
        let Balance { posted, held } = self.standing.balance;
        posted + held + price <= self.limit(now)
    }

    /// The thresholds that what is posted has reached and that are not recorded yet.
    pub(super) fn thresholds_reached(&self, now: Timestamp) -> impl Iterator<Item = u8> + use<> {
        let (spent, limit) = (i128::from(self.standing.balance.posted.micros()), i128::from(self.limit(now).micros()));
        let recorded = self.standing.threshold;
        THRESHOLDS.into_iter().filter(move |percent| *percent > recorded && spent > 0 && spent * 100 >= limit * i128::from(*percent))
    }

    /// The same account; in a new window, if `now` lies in another one, with nothing spent.
    pub(super) fn in_window_at(self, now: Timestamp) -> Self {
        if self.window.contains(now) {
            return self;
        }
        let standing = Standing { overrides: self.standing.overrides, ..Standing::default() };
        Self { window: self.budget.window_at(now), standing, ..self }
    }

    pub(super) fn status(&self, now: Timestamp) -> BudgetStatus {
        BudgetStatus {
            name: self.budget.name.clone(),
            scope: self.budget.scope(),
            enforced: self.budget.enforce,
            limit: self.limit(now),
            raised: self.limit(now) - self.budget.limit,
            overrides: self.overrides(now).cloned().collect(),
            threshold: self.standing.threshold,
            spent: self.standing.balance.posted,
            held: self.standing.balance.held,
            starts_at: self.window.start,
            resets_at: self.window.end,
        }
    }
}

/// What the budgets say to charges that are made together.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    /// Every budget that applies, and whether it has room.
    asked: Vec<(&'a Account, bool)>,
    /// Whether no budget applies to one of the charges.
    is_unpaid: bool,
    now: Timestamp,
}

/// All budgets that apply have to agree; one that refuses is enough. A dry run always agrees.
pub(super) fn verdict<'a>(accounts: &'a [Account], charges: &[Charge], now: Timestamp) -> Verdict<'a> {
    let asked = accounts.iter().filter_map(|account| {
        let mut prices = charges.iter().filter(|charge| account.budget.applies_to(charge)).map(|charge| charge.price).peekable();
        prices.peek()?;
        Some((account, account.has_room(prices.sum(), now)))
    });
    let is_unpaid = charges.iter().any(|charge| !accounts.iter().any(|account| account.budget.applies_to(charge)));
    Verdict { asked: asked.collect(), is_unpaid, now }
}

impl<'a> Verdict<'a> {
    /// Why nothing may be held; none, if all of it may.
    pub(super) fn refusal(&self) -> Option<HoldRefused> {
        if self.is_unpaid {
            return Some(HoldRefused::NoBudget);
        }
        let refusing = self.asked.iter().find(|(account, has_room)| account.budget.enforce && !has_room);
        refusing.map(|(account, _)| HoldRefused::Exhausted(Box::new(account.status(self.now))))
    }

    /// Every budget that applies, and whether it has room.
    pub(super) fn asked(&self) -> impl Iterator<Item = (&'a Account, bool)> {
        self.asked.iter().copied()
    }

    /// What is counted: each budget that has no room, and, if all agreed, those that have.
    pub(super) fn counted(&self) -> impl Iterator<Item = (&'a Account, bool)> {
        let (is_unpaid, is_refused) = (self.is_unpaid, self.refusal().is_some());
        self.asked.iter().copied().filter(move |(_, has_room)| !(is_unpaid || is_refused && *has_room))
    }
}

/// A charge whose call has not ended.
#[derive(Clone, Debug)]
pub(super) struct OpenHold {
    pub(super) charge: Charge,
    /// When it was held: it counts in the windows that contain this instant.
    pub(super) held_at: Timestamp,
    /// When it was held by the monotonic clock, for its age.
    pub(super) since: Duration,
}

/// Every budget in its current window, and every open hold.
#[derive(Debug)]
pub(super) struct Accounts {
    current: Vec<Account>,
    open: BTreeMap<HoldId, OpenHold>,
    /// What to take back if the transaction fails.
    changes: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Held(HoldId),
    Ended(HoldId, OpenHold),
}

/// A window that contains nothing, not even its own start.
const NO_WINDOW: Interval = Interval { start: Timestamp::MIN, end: Timestamp::MIN };

impl Accounts {
    /// Accounts whose balances have yet to be loaded by [`Accounts::roll`].
    pub(super) fn new(budgets: Vec<Budget>) -> Self {
        let unloaded = |budget| Account { budget: Arc::new(budget), window: NO_WINDOW, standing: Standing::default() };
        Self { current: budgets.into_iter().map(unloaded).collect(), open: BTreeMap::new(), changes: Vec::new() }
    }

    /// Has these accounts instead. Open holds stay, and count in each whose balance is read again.
    pub(super) fn replace(&mut self, budgets: &[Budget]) {
        self.current = Self::new(budgets.to_vec()).current;
    }

    /// Moves every account into its window at `now`; `fold` tells what the ledger's file has for a window.
    pub(super) fn roll<E>(&mut self, now: Timestamp, mut fold: impl FnMut(&Budget, Interval) -> Result<Standing, E>) -> Result<(), E> {
        for account in self.current.iter_mut().filter(|account| !account.window.contains(now)) {
            let window = account.budget.window_at(now);
            account.standing = fold(&account.budget, window)?;
            account.window = window;
        }
        Ok(())
    }

    /// Every budget in its window, in the order of the configuration.
    pub(super) fn all(&self) -> &[Account] {
        &self.current
    }

    /// How many holds are open.
    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// When the oldest open hold was taken, by the monotonic clock.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.open.values().next().map(|hold| hold.since)
    }

    /// Holds a charge that every budget allowed.
    pub(super) fn hold(&mut self, id: HoldId, hold: OpenHold) {
        for account in covering(&mut self.current, &hold) {
            account.standing.balance.held += hold.charge.price;
        }
        self.open.insert(id, hold);
        self.changes.push(Change::Held(id));
    }

    /// Ends an open hold; tells what was held, or nothing if the hold is not open.
    pub(super) fn end(&mut self, id: HoldId, end: End) -> Option<OpenHold> {
        let hold = self.open.remove(&id)?;
        for account in covering(&mut self.current, &hold) {
            account.standing.balance.held -= hold.charge.price;
            account.standing.balance.posted += end.posts(hold.charge.price);
        }
        self.changes.push(Change::Ended(id, hold.clone()));
        Some(hold)
    }

    /// Takes back what an ended hold had posted.
    pub(super) fn take_back(&mut self, hold: &OpenHold) {
        for account in covering(&mut self.current, hold) {
            account.standing.balance.posted -= hold.charge.price;
        }
    }

    /// The account of the budget with this name.
    pub(super) fn named(&mut self, name: &str) -> Option<&mut Account> {
        self.current.iter_mut().find(|account| account.budget.name == name)
    }

    /// Every budget in its window, to be changed.
    pub(super) fn all_mut(&mut self) -> &mut [Account] {
        &mut self.current
    }

    /// The changes so far have been committed.
    pub(super) fn keep(&mut self) {
        self.changes.clear();
    }

    /// The changes since the last commit never happened. Balances are read again from the file, which alone knows.
    pub(super) fn undo(&mut self) {
        while let Some(change) = self.changes.pop() {
            match change {
                Change::Held(id) => drop(self.open.remove(&id)),
                Change::Ended(id, hold) => drop(self.open.insert(id, hold)),
            }
        }
        self.unload();
    }

    /// Has every balance read again from the file before the next decision.
    pub(super) fn unload(&mut self) {
        self.current.iter_mut().for_each(|account| account.window = NO_WINDOW);
    }
}

/// The accounts in which a hold counts: those that apply to it and are still in the window in which it was held.
fn covering<'a>(accounts: &'a mut [Account], hold: &OpenHold) -> impl Iterator<Item = &'a mut Account> {
    accounts.iter_mut().filter(|account| account.budget.applies_to(&hold.charge) && account.window.contains(hold.held_at))
}

#[cfg(test)]
mod tests;
