//! What is kept and remembered of one number, for an operator to see.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::Gateway;
use crate::cache::{Call, Entry, Key};
use crate::policy::decision::Decision;
use crate::policy::entitlement::Partition;
use crate::telnyx::{EnterpriseId, PhoneNumber};

/// All that there is of a number. Ages and spans are whole seconds.
#[derive(Debug, Serialize)]
pub struct Known {
    enterprise: EnterpriseId,
    number: PhoneNumber,
    /// None, if no copy is kept.
    copy: Option<Copy>,
    /// Since a call for it was sent that was billed; as long as it is remembered.
    paid_ago_s: Option<u64>,
    /// Since a billable call for it was sent whose outcome is unknown.
    unknown_ago_s: Option<u64>,
    purchase_under_way: bool,
    look_under_way: bool,
}

#[derive(Debug, Serialize)]
struct Copy {
    /// `data`, `null` or `missing`.
    kind: &'static str,
    age_s: u64,
    /// How long it stays fresh; negative: stale for so long.
    ttl_s: i64,
    lifetime_s: u64,
    outdated: bool,
    /// What it was made of.
    evidence: &'static str,
    /// None, if it was not served yet.
    last_decision: Option<&'static str>,
    etag: String,
    last_refreshed_at: Option<Timestamp>,
    /// What it counts for in `cache.max_size`.
    size_bytes: u32,
    body_bytes: usize,
}

impl Gateway {
    /// Whether each credential has copies of its own.
    pub fn is_partitioned(&self) -> bool {
        self.0.auth.is_partitioned()
    }

    /// What is kept and remembered of a number in the part of the cache that all callers share; none if that is nothing.
    pub fn inspect(&self, enterprise: EnterpriseId, number: PhoneNumber) -> Option<Known> {
        let key = Key { partition: Partition::SHARED, enterprise, number };
        let (calls, copy, now) = (self.0.calls.of(&key), self.0.cache.get(&key), self.0.clock.elapsed());
        let ago = |call: Option<Call>| call.map(|call| now.saturating_sub(call.sent).as_secs());
        let known = Known {
            enterprise,
            number,
            copy: copy.map(|copy| shown(&copy, now)),
            paid_ago_s: ago(calls.paid),
            unknown_ago_s: ago(calls.unknown),
            purchase_under_way: self.0.purchases.follow(&key).is_some(),
            look_under_way: self.0.looks.follow(&key).is_some(),
        };
        known.is_anything().then_some(known)
    }
}

impl Known {
    fn is_anything(&self) -> bool {
        let remembered = self.paid_ago_s.is_some() || self.unknown_ago_s.is_some();
        self.copy.is_some() || remembered || self.purchase_under_way || self.look_under_way
    }
}

fn shown(copy: &Entry, now: Duration) -> Copy {
    Copy {
        kind: copy.kind().as_str(),
        age_s: copy.age(now).as_secs(),
        ttl_s: copy.ttl_seconds(now),
        lifetime_s: copy.lifetime().as_secs(),
        outdated: copy.is_outdated(),
        evidence: copy.evidence().as_str(),
        last_decision: copy.last_decision().map(Decision::as_str),
        etag: copy.etag().to_str().unwrap_or_default().to_owned(),
        last_refreshed_at: copy.refreshed_at(),
        size_bytes: copy.weight(),
        body_bytes: copy.body().len(),
    }
}
