//! One transaction: everything that waited, decided over and recorded together.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::Connection;

use super::super::accounts::{Account, Accounts, OpenHold, verdict};
use super::super::keeper::{Batch, Crossed, Ended, MOST_OVERRIDES, Written};
use super::super::stop::Stop;
use super::super::writer::{Correction, Ending, Granting, Request};
use super::super::{BudgetStatus, Finding, HoldId, HoldRefused, KillSwitch, OverrideRefused, store};
use crate::clock::Clock;
use crate::policy::money::Usd;

/// A transaction under way.
pub(super) struct Step<'a> {
    pub(super) connection: &'a Connection,
    pub(super) accounts: &'a mut Accounts,
    pub(super) stop: &'a Stop,
    /// A stop that is not recorded yet.
    pub(super) unrecorded: Option<&'a KillSwitch>,
    pub(super) clock: &'a Clock,
    pub(super) now: Timestamp,
    pub(super) written: Written,
}

impl Step<'_> {
    /// Ends go first, so that what they free can be held again at once; then what operators said, which new holds obey.
    pub(super) fn take(mut self, batch: &Batch) -> rusqlite::Result<Written> {
        let now = self.now;
        for ending in &batch.ends {
            self.end(ending)?;
        }
        for correction in &batch.corrections {
            self.correct(correction)?;
        }
        self.accounts.roll(now, |budget, window| store::standing(self.connection, budget, window, now))?;
        // Stops are recorded as they are found in force, also where there was no place in the queue to ask for it.
        let allowed = batch.switches.iter().filter(|switching| switching.allows(self.stop)).map(|switching| &switching.set);
        for set in self.unrecorded.into_iter().chain(allowed) {
            store::insert_kill_switch(self.connection, set)?;
            self.written.switched.push(set.clone());
        }
        for granting in &batch.grants {
            let granted = self.grant(granting)?;
            self.written.grants.push(granted);
        }
        self.cross_thresholds()?;
        for request in &batch.requests {
            let held = self.hold(request)?;
            self.written.holds.push(held.map_err(Into::into));
        }
        Ok(self.written)
    }

    fn end(&mut self, ending: &Ending) -> rusqlite::Result<()> {
        let Some(hold) = self.accounts.end(ending.id, ending.end) else { return Ok(()) };
        let amount = ending.end.posts(hold.charge.price);
        if store::insert_end(self.connection, ending.id, ending.end, amount, &ending.why, self.now)? {
            self.written.ends.push(Ended { id: ending.id, end: ending.end, hold });
        } else {
            // Someone else changed the file: what it says is what counts.
            self.accounts.unload();
        }
        Ok(())
    }

    fn correct(&mut self, correction: &Correction) -> rusqlite::Result<()> {
        let assumed = store::assumed(self.connection, correction.id)?;
        self.written.corrections.push(assumed.is_some());
        let Some(hold) = assumed else { return Ok(()) };
        let taken_back = match correction.finding {
            Finding::Billed => Usd::ZERO,
            Finding::NotBilled => hold.charge.price,
        };
        store::insert_correction(self.connection, correction.id, Usd::ZERO - taken_back, &correction.why, self.now)?;
        if correction.finding == Finding::NotBilled {
            self.accounts.take_back(&hold);
        }
        self.written.taken_back.push((taken_back, hold));
        Ok(())
    }

    fn grant(&mut self, granting: &Granting) -> rusqlite::Result<Result<BudgetStatus, OverrideRefused>> {
        let Some(account) = self.accounts.named(&granting.granted.budget) else { return Ok(Err(OverrideRefused::NoSuchBudget)) };
        if account.overrides(self.now).count() >= MOST_OVERRIDES {
            return Ok(Err(OverrideRefused::TooMany(MOST_OVERRIDES)));
        }
        store::insert_override(self.connection, &granting.granted)?;
        account.standing.overrides.push(granting.granted.clone());
        Ok(Ok(account.status(self.now)))
    }

    fn hold(&mut self, request: &Request) -> rusqlite::Result<Result<Vec<HoldId>, HoldRefused>> {
        if self.stop.is_on() {
            return Ok(Err(HoldRefused::Stopped));
        }
        let verdict = verdict(self.accounts.all(), &request.order.charges, self.now);
        self.written.decisions.extend(verdict.counted().map(|(account, has_room)| (Arc::clone(&account.budget), has_room)));
        if let Some(refused) = verdict.refusal() {
            return Ok(Err(refused));
        }
        let mut ids = Vec::with_capacity(request.order.charges.len());
        for charge in &request.order.charges {
            let id = store::insert_charge(self.connection, charge, self.now)?;
            self.accounts.hold(id, OpenHold { charge: charge.clone(), held_at: self.now, since: self.clock.elapsed() });
            ids.push(id);
        }
        Ok(Ok(ids))
    }

    /// Records the thresholds that what was posted has reached, also in windows that are over.
    fn cross_thresholds(&mut self) -> rusqlite::Result<()> {
        let Self { connection, accounts, now, written, .. } = self;
        if written.ends.is_empty() {
            return Ok(());
        }
        for account in accounts.all_mut() {
            let windows_over = written.ends.iter().map(|ended| &ended.hold);
            let windows_over =
                windows_over.filter(|hold| account.budget.applies_to(&hold.charge) && !account.window.contains(hold.held_at));
            for hold in windows_over {
                let window = account.budget.window_at(hold.held_at);
                let standing = store::standing(connection, &account.budget, window, *now)?;
                let mut past = Account { budget: Arc::clone(&account.budget), window, standing };
                cross(&mut past, connection, *now, &mut written.thresholds)?;
            }
            cross(account, connection, *now, &mut written.thresholds)?;
        }
        Ok(())
    }
}

fn cross(account: &mut Account, connection: &Connection, now: Timestamp, crossed: &mut Vec<Crossed>) -> rusqlite::Result<()> {
    for percent in account.thresholds_reached(now) {
        store::insert_threshold(connection, account, percent, now)?;
        account.standing.threshold = percent;
        let (budget, spent, limit) = (Arc::clone(&account.budget), account.standing.balance.posted, account.limit(now));
        crossed.push(Crossed { budget, percent, spent, limit, window: account.window, at: now });
    }
    Ok(())
}
