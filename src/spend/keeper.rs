//! What keeps the ledger: where facts are recorded and holds decided. There are two: a file of one gateway's own, and a Redis that several share.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::{SignedDuration, tz::TimeZone};

use super::accounts::OpenHold;
use super::writer::{Correction, Ending, Granting, Request, Switching};
use super::{BudgetStatus, Budgets, End, HoldId, KillSwitch, NotHeld, OpenFailure, OverrideRefused, Posted, View};
use crate::clock::Clock;
use crate::policy::budget::{Budget, Interval};
use crate::policy::money::Usd;

/// A budget's overrides in force at once.
pub(super) const MOST_OVERRIDES: usize = 100;

/// How long a ledger that cannot be written waits until it tries again by itself.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// Decides and records, one batch after another, on the ledger's own thread.
pub(super) trait Keeper: Send {
    /// Decides and records all of a batch. An empty one shows whether the ledger can be written; the first also does what a start has to.
    /// After an error none of its holds may be used; its ends come again with the next batch, and are recorded once.
    async fn commit(&mut self, batch: &Batch) -> Result<Written, OpenFailure>;

    /// Goes by other budgets from the next commit on.
    fn rebudget(&mut self, budgets: &Budgets);

    /// What everyone may see now.
    fn view(&self, available: bool) -> View;

    /// What is done between batches, when time allows.
    async fn upkeep(&mut self);

    /// How long it can be left alone.
    fn patience(&self) -> Duration;

    /// How long it is left alone after a failure.
    fn pause(&self) -> Duration {
        RETRY
    }

    /// Whether it has to commit now, also where nobody wants anything.
    fn is_due(&self) -> bool {
        false
    }

    /// Goes on with what there is after some of the ledger was lost. Tells whether some was.
    async fn acknowledge(&mut self, reason: &str, author: &str) -> Result<bool, OpenFailure>;

    /// Nothing is recorded after this.
    async fn close(&mut self);
}

/// What is recorded together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) ends: Vec<Ending>,
    pub(super) corrections: Vec<Correction>,
    pub(super) switches: Vec<Switching>,
    pub(super) grants: Vec<Granting>,
    pub(super) requests: Vec<Request>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
            && self.corrections.is_empty()
            && self.switches.is_empty()
            && self.grants.is_empty()
            && self.requests.is_empty()
    }

    /// How many charges it is about.
    pub(super) fn charges(&self) -> usize {
        self.ends.len() + self.corrections.len() + self.requests.iter().map(|request| request.order.charges.len()).sum::<usize>()
    }
}

/// What was done; answers stand in the order of their commands.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Whether each correction was news: its hold was assumed, and not corrected before.
    pub(super) corrections: Vec<bool>,
    pub(super) grants: Vec<Result<BudgetStatus, OverrideRefused>>,
    pub(super) holds: Vec<Result<Vec<HoldId>, NotHeld>>,
    pub(super) ends: Vec<Ended>,
    /// What corrections took back.
    pub(super) taken_back: Vec<(Usd, OpenHold)>,
    /// What budgets said of holds: whether they had room.
    pub(super) decisions: Vec<(Arc<Budget>, bool)>,
    pub(super) thresholds: Vec<Crossed>,
    /// How the kill switch was set, in this order.
    pub(super) switched: Vec<KillSwitch>,
    /// Charges that somebody has to remember, or to look after.
    pub(super) recalled: Vec<Posted>,
    /// How long it took to make it durable.
    pub(super) took: Duration,
}

impl Written {
    /// Adds what a later batch came to; its answers are for who asked last.
    pub(super) fn absorb(&mut self, later: Self) {
        self.ends.extend(later.ends);
        self.taken_back.extend(later.taken_back);
        self.decisions.extend(later.decisions);
        self.thresholds.extend(later.thresholds);
        self.switched.extend(later.switched);
        self.recalled.extend(later.recalled);
        (self.corrections, self.grants, self.holds) = (later.corrections, later.grants, later.holds);
    }
}

/// A hold that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) id: HoldId,
    pub(super) end: End,
    pub(super) hold: OpenHold,
}

/// A threshold that was reached.
#[derive(Debug)]
pub(super) struct Crossed {
    pub(super) budget: Arc<Budget>,
    pub(super) percent: u8,
    pub(super) spent: Usd,
    pub(super) limit: Usd,
    pub(super) window: Interval,
    pub(super) at: Timestamp,
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The day, for what is thrown away: by the clock, but no later than a day after what is known to have passed, since the clock may be wrong.
#[derive(Debug)]
pub(super) struct Calendar {
    /// The newest charge when the ledger was opened, and when that was (monotonic): time cannot have gone further since.
    newest: (Timestamp, Duration),
}

impl Calendar {
    pub(super) fn new(newest: Option<Timestamp>, clock: &Clock) -> Self {
        Self { newest: (newest.unwrap_or_else(|| clock.now()), clock.elapsed()) }
    }

    pub(super) fn today(&self, clock: &Clock) -> Date {
        let (newest, since) = self.newest;
        let passed = SignedDuration::try_from(clock.elapsed().saturating_sub(since)).unwrap_or(SignedDuration::MAX);
        let latest = newest.checked_add(passed).and_then(|latest| latest.checked_add(DAY)).unwrap_or(Timestamp::MAX);
        clock.now().min(latest).to_zoned(TimeZone::UTC).date()
    }
}
