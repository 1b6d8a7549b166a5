//! Which numbers' calls were paid for, or may have been: what keeps the gateway from paying twice when the answer itself is gone.

use std::time::Duration;

use foldhash::quality::RandomState;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;

use super::Key;
use crate::policy::claim::{HoldId, Known};

/// The last billable calls of one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// The last that was billed.
    pub paid: Option<Call>,
    /// The last whose outcome is unknown, if it is later.
    pub unknown: Option<Call>,
}

/// A billable call. A later one has a later hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its hold.
    pub hold: HoldId,
    /// When it was sent (monotonic); another gateway's: when it was held.
    pub sent: Duration,
    /// Whether it is of this run of this gateway.
    pub is_own: bool,
}

impl Call {
    /// The later one. Of one and the same, what was known first, which is exact where it is this gateway's own.
    fn later(kept: Option<Self>, told: Option<Self>) -> Option<Self> {
        match (kept, told) {
            (Some(kept), Some(told)) => Some(if told.hold > kept.hold { told } else { kept }),
            (kept, told) => kept.or(told),
        }
    }
}

impl Calls {
    /// A call that was billed.
    pub fn paid(call: Call) -> Self {
        Self { paid: Some(call), unknown: None }
    }

    /// A call of unknown outcome.
    pub fn unknown(call: Call) -> Self {
        Self { paid: None, unknown: Some(call) }
    }

    /// The same as a ledger is told it.
    pub fn known(&self) -> Known {
        Known { paid: self.paid.map(|call| call.hold), unknown: self.unknown.map(|call| call.hold) }
    }

    /// Whether this gateway made a call under this hold, as far as it remembers.
    pub fn are_own(&self, hold: HoldId) -> bool {
        [self.paid, self.unknown].into_iter().flatten().any(|call| call.hold == hold && call.is_own)
    }

    /// Both together. A call that was billed settles what was unknown before it, and that same call.
    fn and(self, told: Self) -> Self {
        let was_unknown = self.unknown.filter(|unknown| told.paid.is_some_and(|paid| paid.hold == unknown.hold));
        let paid = Call::later(self.paid, was_unknown.or(told.paid));
        let unknown = Call::later(self.unknown, told.unknown).filter(|unknown| paid.is_none_or(|paid| paid.hold < unknown.hold));
        Self { paid, unknown }
    }
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

    /// Learns of calls, in whatever order they are told.
    pub fn learn(&self, key: Key, told: Calls) {
        self.0.entry(key).and_upsert_with(|kept| kept.map(moka::Entry::into_value).unwrap_or_default().and(told));
    }

    /// The call under this hold was not billed. What was unknown before it still is.
    pub fn not_billed(&self, key: Key, hold: HoldId, unknown_before: Option<Call>) {
        self.0.entry(key).and_compute_with(|kept| match kept.map(moka::Entry::into_value) {
            Some(Calls { paid, unknown: Some(unknown) }) if unknown.hold == hold => {
                let calls = Calls { paid, unknown: unknown_before };
                if calls == Calls::default() { Op::Remove } else { Op::Put(calls) }
            }
            _ => Op::Nop,
        });
    }

    /// The call of unknown outcome under this hold turned out to have worked.
    pub fn recovered(&self, key: Key, hold: HoldId) {
        self.0.entry(key).and_compute_with(|kept| match kept.map(moka::Entry::into_value) {
            Some(calls @ Calls { unknown: Some(unknown), .. }) if unknown.hold == hold => Op::Put(calls.and(Calls::paid(unknown))),
            _ => Op::Nop,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::entitlement::Partition;

    fn call(hold: i64, second: u64) -> Call {
        Call { hold: HoldId(hold), sent: Duration::from_secs(second), is_own: false }
    }

    fn own(hold: i64, second: u64) -> Call {
        Call { is_own: true, ..call(hold, second) }
    }

    fn key() -> Key {
        let enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
        Key { partition: Partition::SHARED, enterprise, number: "+16035551234".parse().expect("E.164") }
    }

    fn after(told: &[Calls]) -> Calls {
        let calls = PaidCalls::new(10);
        for told in told {
            calls.learn(key(), *told);
        }
        calls.of(&key())
    }

    #[test]
    fn what_is_told_twice_or_late_changes_nothing() {
        let (first, unclear, newest) = (Calls::paid(call(1, 10)), Calls::unknown(call(2, 20)), Calls::paid(call(3, 30)));
        assert_eq!(after(&[first, unclear]), Calls { paid: Some(call(1, 10)), unknown: Some(call(2, 20)) });
        for order in [[first, unclear, newest], [newest, unclear, first], [unclear, newest, first], [newest, first, unclear]] {
            assert_eq!(after(&order), newest, "{order:?}");
        }
        assert_eq!(after(&[Calls::paid(own(1, 10)), Calls::paid(call(1, 11))]), Calls::paid(own(1, 10)), "its own time is exact");
    }

    #[test]
    fn a_call_of_unknown_outcome_that_was_billed_keeps_its_time() {
        let told = after(&[Calls::unknown(own(2, 20)), Calls::paid(call(2, 19))]);
        assert_eq!(told, Calls::paid(own(2, 20)));
        assert!(told.are_own(HoldId(2)) && !told.are_own(HoldId(1)));
        let calls = PaidCalls::new(10);
        calls.learn(key(), Calls::unknown(own(2, 20)));
        calls.recovered(key(), HoldId(1));
        assert_eq!(calls.of(&key()), Calls::unknown(own(2, 20)), "another call");
        calls.recovered(key(), HoldId(2));
        assert_eq!(calls.of(&key()), Calls::paid(own(2, 20)));
    }

    #[test]
    fn a_call_that_was_not_billed_leaves_what_was_known_before() {
        let calls = PaidCalls::new(10);
        calls.learn(key(), Calls::unknown(call(2, 20)));
        let before = calls.of(&key());
        calls.learn(key(), Calls::unknown(own(3, 30)));
        calls.not_billed(key(), HoldId(3), before.unknown);
        assert_eq!(calls.of(&key()), before);
        calls.not_billed(key(), HoldId(2), None);
        assert_eq!(calls.of(&key()), Calls::default());
    }
}
