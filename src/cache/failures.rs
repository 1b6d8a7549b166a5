//! For which numbers the last look failed: they are left alone for a while.

use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;

use super::Key;

/// Numbers of which it is remembered. One that is forgotten is looked at again, as if it had not failed.
const FAILED: u64 = 100_000;

/// When looks failed (monotonic). The least recently used leave first.
#[derive(Clone, Debug)]
pub struct FailedLooks(Moka<Key, Duration>);

impl Default for FailedLooks {
    fn default() -> Self {
        Self(Moka::builder().max_capacity(FAILED).eviction_policy(EvictionPolicy::lru()).build())
    }
}

impl FailedLooks {
    /// A look for the number failed at `now`.
    pub fn failed(&self, key: Key, now: Duration) {
        self.0.insert(key, now);
    }

    /// A look for the number was answered.
    pub fn answered(&self, key: &Key) {
        self.0.invalidate(key);
    }

    /// When the last look for the number failed, if none has been answered since.
    pub fn of(&self, key: &Key) -> Option<Duration> {
        self.0.get(key)
    }
}
