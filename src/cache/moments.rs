//! When all copies of an enterprise were forgotten. They are not looked for: a copy from before that moment is just not there any more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::telnyx::EnterpriseId;

/// Enterprises whose moments are kept apart. With one more, all copies of all enterprises are forgotten: none may come back.
const MOST: usize = 10_000;

/// The moments (monotonic); clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Moments(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The latest of all, in nanoseconds: what is younger needs no closer look.
    latest: AtomicU64,
    moments: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_enterprise: HashMap<EnterpriseId, Duration>,
    /// Of all that are not in the map.
    others: Option<Duration>,
}

impl Moments {
    /// All that is known of an enterprise at `now` is forgotten.
    pub(super) fn set(&self, enterprise: EnterpriseId, now: Duration) {
        let mut table = self.table();
        if table.by_enterprise.len() >= MOST && !table.by_enterprise.contains_key(&enterprise) {
            table.by_enterprise.clear();
            table.others = Some(now);
        }
        table.by_enterprise.insert(enterprise, now);
        self.0.latest.fetch_max(nanos(now).max(1), Ordering::SeqCst);
    }

    /// Whether what is from `then` is from before the enterprise was forgotten, or from that very moment.
    pub(super) fn is_before(&self, enterprise: EnterpriseId, then: Duration) -> bool {
        if nanos(then) > self.0.latest.load(Ordering::SeqCst) {
            return false;
        }
        let table = self.table();
        table.by_enterprise.get(&enterprise).copied().or(table.others).is_some_and(|moment| then <= moment)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn enterprise(n: usize) -> EnterpriseId {
        format!("6a09cdc3-8948-47f0-aa62-{n:012x}").parse().expect("a UUID")
    }

    #[test]
    fn what_is_from_before_its_enterprises_moment_is_forgotten_and_nothing_else() {
        let moments = Moments::default();
        assert!(!moments.is_before(enterprise(1), Duration::ZERO), "nothing was forgotten");
        moments.set(enterprise(1), 2 * SECOND);
        assert!(moments.is_before(enterprise(1), SECOND) && moments.is_before(enterprise(1), 2 * SECOND));
        assert!(!moments.is_before(enterprise(1), 3 * SECOND) && !moments.is_before(enterprise(2), SECOND));
    }

    #[test]
    fn beyond_the_bound_too_much_is_forgotten_rather_than_too_little() {
        let moments = Moments::default();
        for n in 0..=MOST {
            moments.set(enterprise(n), SECOND * u32::try_from(n).expect("few"));
        }
        assert!(moments.table().by_enterprise.len() <= MOST);
        assert!((0..MOST).all(|n| moments.is_before(enterprise(n), SECOND * u32::try_from(n).expect("few"))));
    }
}
