//! What a shared ledger is made of.

use std::sync::Arc;
use std::time::Duration;

use super::super::disk::Place;
use super::super::stop::Stop;
use crate::clock::Clock;
use crate::policy::budget::Budget;
use crate::policy::pricing::PriceList;
use crate::shared::Redis;

/// What a shared ledger is made of.
pub(in crate::spend) struct Setup {
    pub(in crate::spend) redis: Redis,
    /// Where the copy of the log is.
    pub(in crate::spend) place: Place,
    pub(in crate::spend) budgets: Vec<Budget>,
    pub(in crate::spend) prices: PriceList,
    pub(in crate::spend) stop: Arc<Stop>,
    pub(in crate::spend) retention: Duration,
    /// How long calls are remembered: charges that ended before are of no interest any more at the start.
    pub(in crate::spend) memory: Duration,
    pub(in crate::spend) clock: Clock,
}
