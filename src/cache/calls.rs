//! Which numbers' calls were paid for, or may have been: what keeps the gateway from paying twice when the answer itself is gone.

use std::time::Duration;

use foldhash::quality::RandomState;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;

use super::Key;

/// The last billable calls of one number, by when they were sent (monotonic).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// The last that was billed.
    pub paid: Option<Duration>,
    /// The last whose outcome is unknown.
    pub unknown: Option<Duration>,
}

/// The numbers that were paid for lately. The least recently used leave first.
#[derive(Clone, Debug)]
pub struct PaidCalls(Moka<Key, Calls, RandomState>);

impl PaidCalls {
    /// Remembers at most `capacity` numbers.
    pub fn new(capacity: u64) -> Self {
        Self(Moka::builder().max_capacity(capacity).eviction_policy(EvictionPolicy::lru()).build_with_hasher(RandomState::default()))
    }

    /// What is known of a number.
    pub fn of(&self, key: &Key) -> Calls {
        self.0.get(key).unwrap_or_default()
    }

    /// A call sent at `sent` was billed, which also settles what was unknown before.
    pub fn paid(&self, key: Key, sent: Duration) {
        self.0
            .entry(key)
            .and_upsert_with(|kept| Calls { paid: kept.and_then(|kept| kept.into_value().paid).max(Some(sent)), unknown: None });
    }

    /// A call sent at `sent` has an unknown outcome.
    pub fn unknown(&self, key: Key, sent: Duration) {
        self.0.entry(key).and_upsert_with(|kept| Calls { unknown: Some(sent), ..kept.map(moka::Entry::into_value).unwrap_or_default() });
    }

    /// The call sent at `sent` was not billed. What was unknown before it still is.
    pub fn not_billed(&self, key: Key, sent: Duration, unknown_before: Option<Duration>) {
        self.0.entry(key).and_compute_with(|kept| match kept.map(moka::Entry::into_value) {
            Some(Calls { paid: None, unknown }) if unknown == Some(sent) && unknown_before.is_none() => Op::Remove,
            Some(Calls { paid, unknown }) if unknown == Some(sent) => Op::Put(Calls { paid, unknown: unknown_before }),
            _ => Op::Nop,
        });
    }

    /// The call of unknown outcome that was sent at `sent` turned out to have worked.
    pub fn recovered(&self, key: Key, sent: Duration) {
        self.0.entry(key).and_compute_with(|kept| match kept.map(moka::Entry::into_value) {
            Some(Calls { paid, unknown }) if unknown == Some(sent) => Op::Put(Calls { paid: paid.max(unknown), unknown: None }),
            _ => Op::Nop,
        });
    }
}
