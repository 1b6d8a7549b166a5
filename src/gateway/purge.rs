//! Purging copies, as an operator wants it. Neither the ledger nor the memory of what was paid for is touched, so nothing is paid for again
//! that is remembered.

use serde::Serialize;

use super::Gateway;
use crate::cache::{Entry, Key, Ruling, Scope};
use crate::policy::decide::{FirstTouch, Kind};
use crate::policy::entitlement::Partition;
use crate::policy::money::Usd;

/// What a purge does with copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// They are outdated: the next read looks at the free list, and they stand in only where that fails.
    Soft,
    /// They go.
    Hard,
}

impl Purge {
    /// Both.
    pub const ALL: &[Self] = &[Self::Soft, Self::Hard];

    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

/// Copies that a purge is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Purged {
    /// How many there are.
    pub entries: u64,
    /// What the next plain reads of their numbers may cost: a first touch for each that has no data and whose payment is not remembered.
    #[serde(rename = "exposed_usd")]
    pub exposed: Usd,
}

impl Gateway {
    /// What a purge of this scope is about, now. Walks over all copies, unless it is about one number.
    pub fn concerned(&self, scope: Scope) -> Purged {
        match scope {
            // Every number has one copy, which is found without a walk.
            Scope::Number(enterprise, number) if !self.0.auth.is_partitioned() => {
                let key = Key { partition: Partition::SHARED, enterprise, number };
                self.add_up(self.0.cache.get(&key).into_iter())
            }
            _ => self.add_up(self.0.cache.copies().filter(|copy| scope.includes(copy.key()))),
        }
    }

    /// Purges the scope's copies and lists, whoever may read them, and tells which those were. A fetch that began before keeps nothing fresh.
    pub fn purge(&self, scope: Scope, how: Purge) -> Purged {
        let purged = self.concerned(scope);
        let now = self.tell_others(scope, if how == Purge::Soft { Ruling::Soft } else { Ruling::Hard });
        self.0.lists.purge(scope, now);
        match how {
            Purge::Soft => self.0.cache.purge_softly(scope, now),
            Purge::Hard => self.0.cache.purge_hard(scope, now),
        }
        self.outdate_snapshot();
        self.0.metrics.cache_purged.with_label_values(&[how.as_str()]).inc_by(purged.entries);
        purged
    }

    fn add_up(&self, copies: impl Iterator<Item = Entry>) -> Purged {
        let (mut entries, mut exposed) = (0, 0);
        for copy in copies {
            entries += 1;
            exposed += u64::from(self.is_exposed(&copy));
        }
        Purged { entries, exposed: self.0.rules.prices.check.times(exposed) }
    }

    /// Whether a look that finds what the copy says would be followed by a purchase. Data and absence are read for nothing.
    fn is_exposed(&self, copy: &Entry) -> bool {
        let policy = self.0.rules.policy(copy.key().enterprise);
        let now = self.0.clock.elapsed();
        let is_remembered = || self.0.calls.of(copy.key()).paid.is_some_and(|paid| now.saturating_sub(paid.sent) < policy.null_ttl);
        copy.kind() == Kind::Null && policy.first_touch == FirstTouch::Bill && !is_remembered()
    }
}
