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

use super::{BudgetStatus, End, HoldId};
use crate::policy::budget::{Budget, Charge, Interval};
use crate::policy::money::Usd;

/// What has been spent in one window of one budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Balance {
    /// Settled and assumed, with corrections.
    pub(super) posted: Usd,
    /// Held for calls that have not ended.
    pub(super) held: Usd,
}

/// One budget in one window.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) budget: Arc<Budget>,
    pub(super) window: Interval,
    pub(super) balance: Balance,
}

impl Account {
    /// Whether the limit has room for `price` besides all that is posted and held.
    fn allows(&self, price: Usd) -> bool {
        self.balance.posted + self.balance.held + price <= self.budget.limit
    }

    /// The same account; in a new window, if `now` lies in another one, with nothing spent.
    pub(super) fn in_window_at(self, now: Timestamp) -> Self {
        if self.window.contains(now) {
            return self;
        }
        Self { window: self.budget.window_at(now), balance: Balance::default(), ..self }
    }

    pub(super) fn status(&self) -> BudgetStatus {
        BudgetStatus {
            name: self.budget.name.clone(),
            scope: self.budget.scope(),
            limit: self.budget.limit,
            spent: self.balance.posted,
            held: self.balance.held,
            starts_at: self.window.start,
            resets_at: self.window.end,
        }
    }
}

/// What the budgets say to a charge.
#[derive(Debug)]
pub(super) enum Verdict<'a> {
    /// Every budget that applies has room. Never empty.
    Allowed(Vec<&'a Account>),
    /// These budgets apply and have no room. Never empty.
    Exhausted(Vec<&'a Account>),
    /// No budget applies, so nothing may be spent.
    NoBudget,
}

/// All budgets that apply have to agree; one that refuses is enough.
pub(super) fn verdict<'a>(accounts: &'a [Account], charge: &Charge) -> Verdict<'a> {
    let applying = || accounts.iter().filter(|account| account.budget.applies_to(charge));
    let exhausted: Vec<_> = applying().filter(|account| !account.allows(charge.price)).collect();
    let all: Vec<_> = applying().collect();
    match (all.is_empty(), exhausted.is_empty()) {
        (true, _) => Verdict::NoBudget,
        (false, false) => Verdict::Exhausted(exhausted),
        (false, true) => Verdict::Allowed(all),
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
        let unloaded = |budget| Account { budget: Arc::new(budget), window: NO_WINDOW, balance: Balance::default() };
        Self { current: budgets.into_iter().map(unloaded).collect(), open: BTreeMap::new(), changes: Vec::new() }
    }

    /// Moves every account into its window at `now`; `fold` tells what the ledger's file has for a window.
    pub(super) fn roll<E>(&mut self, now: Timestamp, mut fold: impl FnMut(&Budget, Interval) -> Result<Balance, E>) -> Result<(), E> {
        for account in self.current.iter_mut().filter(|account| !account.window.contains(now)) {
            let window = account.budget.window_at(now);
            account.balance = fold(&account.budget, window)?;
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
            account.balance.held += hold.charge.price;
        }
        self.open.insert(id, hold);
        self.changes.push(Change::Held(id));
    }

    /// Ends an open hold; tells what that posts and for which caller, or nothing if the hold is not open.
    pub(super) fn end(&mut self, id: HoldId, end: End) -> Option<(Usd, Arc<str>)> {
        let hold = self.open.remove(&id)?;
        let posted = end.posts(hold.charge.price);
        for account in covering(&mut self.current, &hold) {
            account.balance.held -= hold.charge.price;
            account.balance.posted += posted;
        }
        let caller = Arc::clone(&hold.charge.caller);
        self.changes.push(Change::Ended(id, hold));
        Some((posted, caller))
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
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::pricing::Billable;

    /// The plainest ledger there is: a list of charges, each with its end.
    #[derive(Clone, Default)]
    struct Model(Vec<(Charge, Timestamp, Option<End>)>);

    impl Model {
        fn fold(&self, budget: &Budget, window: Interval) -> Balance {
            let counted = self.0.iter().filter(|(charge, at, _)| budget.applies_to(charge) && window.contains(*at));
            counted.fold(Balance::default(), |balance, (charge, _, end)| match end {
                None => Balance { held: balance.held + charge.price, ..balance },
                Some(end) => Balance { posted: balance.posted + end.posts(charge.price), ..balance },
            })
        }

        fn open(&self) -> Vec<usize> {
            (0..self.0.len()).filter(|index| self.0[*index].2.is_none()).collect()
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Hold { caller: bool, operation: bool, cents: i64 },
        End { nth: usize, end: usize },
        Turn { seconds: i64 },
        Commit,
        Fail,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (any::<bool>(), any::<bool>(), 0_i64..40).prop_map(|(caller, operation, cents)| Step::Hold { caller, operation, cents }),
            4 => (any::<usize>(), 0..3_usize).prop_map(|(nth, end)| Step::End { nth, end }),
            2 => (-7_500_i64..7_500).prop_map(|seconds| Step::Turn { seconds }),
            3 => Just(Step::Commit),
            1 => Just(Step::Fail),
        ]
    }

    fn budgets() -> Vec<Budget> {
        let text = r#"
            [[budget]]
            name = "all"
            limit = "2.00"
            window = "day"
            time_zone = "America/New_York"
            [[budget]]
            name = "hourly"
            limit = "1.00"
            window = "hour"
            [[budget]]
            name = "dialer, fresh"
            limit = "0.70"
            window = "hour"
            caller = "dialer"
            operation = "fresh"
        "#;
        let mut read: std::collections::HashMap<String, Vec<Budget>> = toml::from_str(text).expect("budgets");
        read.remove("budget").expect("budgets")
    }

    fn charge(caller: &str, operation: Billable, cents: i64) -> Charge {
        Charge {
            request_id: "r1".to_owned(),
            caller: caller.into(),
            enterprise: "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID"),
            number: "+12025550000".parse().expect("E.164"),
            operation,
            price: Usd::from_micros(cents * 10_000),
        }
    }

    proptest! {
        #[test]
        fn no_window_is_ever_overspent_and_no_hold_leaks(steps in proptest::collection::vec(step(), 1..120)) {
            let mut accounts = Accounts::new(budgets());
            let (mut file, mut model) = (Model::default(), Model::default());
            let mut now: Timestamp = "2026-11-01T04:30:00Z".parse().expect("an instant");
            let Ok(()) = accounts.roll(now, |_, _| Ok::<_, Infallible>(Balance::default()));
            for step in steps {
                match step {
                    Step::Turn { seconds } => now += jiff::SignedDuration::from_secs(seconds),
                    Step::Hold { caller, operation, cents } => {
                        let caller = if caller { "dialer" } else { "crm" };
                        let charge = charge(caller, if operation { Billable::Fresh } else { Billable::FirstTouch }, cents);
                        if let Verdict::Allowed(_) = verdict(accounts.all(), &charge) {
                            let id = HoldId(i64::try_from(model.0.len()).expect("few"));
                            accounts.hold(id, OpenHold { charge: charge.clone(), held_at: now, since: Duration::ZERO });
                            model.0.push((charge, now, None));
                        }
                    }
                    Step::End { nth, end } => {
                        let open = model.open();
                        if !open.is_empty() {
                            let (index, end) = (open[nth % open.len()], End::ALL[end]);
                            let posted = accounts.end(HoldId(i64::try_from(index).expect("few")), end).map(|(posted, _)| posted);
                            prop_assert_eq!(posted, Some(end.posts(model.0[index].0.price)));
                            model.0[index].2 = Some(end);
                            prop_assert_eq!(accounts.end(HoldId(i64::try_from(index).expect("few")), End::Settled), None, "a hold ends once");
                        }
                    }
                    Step::Commit => {
                        accounts.keep();
                        file = model.clone();
                    }
                    Step::Fail => {
                        accounts.undo();
                        model = file.clone();
                    }
                }
                let Ok(()) = accounts.roll(now, |budget, window| Ok::<_, Infallible>(model.fold(budget, window)));
                prop_assert_eq!(accounts.open_count(), model.open().len());
                for account in accounts.all() {
                    prop_assert_eq!(account.balance, model.fold(&account.budget, account.window));
                    for (_, at, _) in &model.0 {
                        let balance = model.fold(&account.budget, account.budget.window_at(*at));
                        prop_assert!(balance.posted + balance.held <= account.budget.limit);
                    }
                }
            }
        }
    }
}
