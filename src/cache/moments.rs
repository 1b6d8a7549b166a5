//! When copies were purged or forgotten. They are not looked for: what a copy from before such a moment is worth is asked when it is read.
//!
//! A copy is from when its *fetch began*. So nobody has to be stopped: whatever a fetch under way keeps afterwards is from before.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use super::Key;
use crate::telnyx::{EnterpriseId, PhoneNumber};

/// Numbers, and enterprises, whose moments are kept apart. With one more, those of numbers are their enterprises', and those of
/// enterprises everybody's: too much goes rather than too little.
const MOST: usize = 10_000;

/// Which copies, whoever may read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One number's.
    Number(EnterpriseId, PhoneNumber),
    /// An enterprise's.
    Enterprise(EnterpriseId),
    /// All.
    All,
}

impl Scope {
    /// Whether a copy is one of them.
    pub fn includes(self, key: &Key) -> bool {
        match self {
            Self::Number(enterprise, number) => (key.enterprise, key.number) == (enterprise, number),
            Self::Enterprise(enterprise) => key.enterprise == enterprise,
            Self::All => true,
        }
    }
}

/// What a moment leaves of a copy from before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// All of it.
    Stands,
    /// It only stands in for what cannot be had, since this moment.
    Outdated(Duration),
    /// Nothing.
    Gone,
}

/// The moments (monotonic); clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Moments(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The latest of all, in nanoseconds: what is younger needs no closer look.
    latest: AtomicU64,
    moments: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_number: HashMap<(EnterpriseId, PhoneNumber), Marks>,
    by_enterprise: HashMap<EnterpriseId, Marks>,
    all: Marks,
}

/// The last moments of one scope.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    outdated: Option<Duration>,
    gone: Option<Duration>,
}

impl Marks {
    fn and(self, other: Self) -> Self {
        Self { outdated: self.outdated.max(other.outdated), gone: self.gone.max(other.gone) }
    }

    /// The fate of what is from `then`; what is from the very moment is from before it.
    fn fate(self, then: Duration) -> Fate {
        match self {
            Self { gone: Some(moment), .. } if then <= moment => Fate::Gone,
            Self { outdated: Some(moment), .. } if then <= moment => Fate::Outdated(moment),
            _ => Fate::Stands,
        }
    }
}

impl Moments {
    /// The scope's copies from up to `now` are outdated.
    pub(super) fn outdate(&self, scope: Scope, now: Duration) {
        self.mark(scope, Marks { outdated: Some(now), gone: None }, now);
    }

    /// The scope's copies from up to `now` are gone.
    pub(super) fn forget(&self, scope: Scope, now: Duration) {
        self.mark(scope, Marks { outdated: None, gone: Some(now) }, now);
    }

    fn mark(&self, scope: Scope, marks: Marks, now: Duration) {
        self.0.moments.write().unwrap_or_else(PoisonError::into_inner).mark(scope, marks);
        self.0.latest.fetch_max(nanos(now).max(1), Ordering::SeqCst);
    }

    /// What has become of the number's copy from `then`.
    pub(super) fn fate(&self, enterprise: EnterpriseId, number: PhoneNumber, then: Duration) -> Fate {
        self.fate_by(then, |table| table.of(enterprise).and(found(&table.by_number, &(enterprise, number))))
    }

    /// The same for what is of the enterprise as a whole, such as its lists.
    pub(super) fn fate_of_enterprise(&self, enterprise: EnterpriseId, then: Duration) -> Fate {
        self.fate_by(then, |table| table.of(enterprise))
    }

    fn fate_by(&self, then: Duration, marks: impl FnOnce(&Table) -> Marks) -> Fate {
        if nanos(then) > self.0.latest.load(Ordering::SeqCst) { Fate::Stands } else { marks(&self.table()).fate(then) }
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.0.moments.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn of(&self, enterprise: EnterpriseId) -> Marks {
        self.all.and(found(&self.by_enterprise, &enterprise))
    }

    fn mark(&mut self, scope: Scope, marks: Marks) {
        match scope {
            Scope::Number(enterprise, number) => {
                for ((enterprise, _), marks) in put(&mut self.by_number, (enterprise, number), marks) {
                    self.mark(Scope::Enterprise(enterprise), marks);
                }
            }
            Scope::Enterprise(enterprise) => {
                for (_, marks) in put(&mut self.by_enterprise, enterprise, marks) {
                    self.mark(Scope::All, marks);
                }
            }
            Scope::All => self.all = self.all.and(marks),
        }
    }
}

fn found<K: Eq + Hash>(map: &HashMap<K, Marks>, key: &K) -> Marks {
    map.get(key).copied().unwrap_or_default()
}

/// Adds marks; gives back all that there were where there is no room for one more.
fn put<K: Eq + Hash>(map: &mut HashMap<K, Marks>, key: K, marks: Marks) -> HashMap<K, Marks> {
    let full = map.len() >= MOST && !map.contains_key(&key);
    let crowded = if full { std::mem::take(map) } else { HashMap::new() };
    let kept = map.entry(key).or_default();
    *kept = kept.and(marks);
    crowded
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn enterprise(n: usize) -> EnterpriseId {
        format!("6a09cdc3-8948-47f0-aa62-{n:012x}").parse().expect("a UUID")
    }

    fn number(n: usize) -> PhoneNumber {
        format!("+1202{n:07}").parse().expect("E.164")
    }

    fn seconds(n: usize) -> Duration {
        SECOND * u32::try_from(n).expect("few")
    }

    #[test]
    fn what_is_from_before_its_enterprises_moment_is_forgotten_and_nothing_else() {
        let moments = Moments::default();
        let fate = |n, then| moments.fate(enterprise(n), number(1), then);
        assert_eq!(fate(1, Duration::ZERO), Fate::Stands, "nothing was forgotten");
        moments.forget(Scope::Enterprise(enterprise(1)), 2 * SECOND);
        assert_eq!((fate(1, SECOND), fate(1, 2 * SECOND)), (Fate::Gone, Fate::Gone));
        assert_eq!((fate(1, 3 * SECOND), fate(2, SECOND)), (Fate::Stands, Fate::Stands));
    }

    #[test]
    fn the_strictest_moment_counts_and_a_later_one_of_the_same_scope_replaces_an_earlier() {
        let moments = Moments::default();
        let fate = |n, then| moments.fate(enterprise(1), number(n), then * SECOND);
        moments.outdate(Scope::All, 9 * SECOND);
        moments.forget(Scope::Number(enterprise(1), number(1)), 4 * SECOND);
        assert_eq!([fate(1, 4), fate(1, 5), fate(1, 10)], [Fate::Gone, Fate::Outdated(9 * SECOND), Fate::Stands]);
        assert_eq!([fate(2, 4), fate(2, 10)], [Fate::Outdated(9 * SECOND), Fate::Stands]);
        assert_eq!(moments.fate_of_enterprise(enterprise(1), SECOND), Fate::Outdated(9 * SECOND), "one number is not all of them");
        moments.outdate(Scope::All, 12 * SECOND);
        assert_eq!(fate(2, 10), Fate::Outdated(12 * SECOND));
    }

    #[test]
    fn beyond_the_bound_too_much_is_forgotten_rather_than_too_little() {
        let moments = Moments::default();
        for n in 0..=MOST {
            moments.forget(Scope::Enterprise(enterprise(n)), seconds(n));
            moments.outdate(Scope::Number(enterprise(n % 7), number(n)), seconds(n));
        }
        assert!(moments.table().by_enterprise.len() <= MOST && moments.table().by_number.len() <= MOST);
        assert!((0..MOST).all(|n| moments.fate(enterprise(n), number(0), seconds(n)) == Fate::Gone));
        let moments = Moments::default();
        for n in 0..=MOST {
            moments.outdate(Scope::Number(enterprise(7), number(n)), seconds(n));
        }
        assert!((0..=MOST).all(|n| matches!(moments.fate(enterprise(7), number(n), seconds(n)), Fate::Outdated(_))));
        assert_eq!(moments.fate(enterprise(8), number(1), SECOND), Fate::Stands, "another enterprise's");
    }
}
