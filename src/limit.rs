//! Rate limits on billable calls. They bound how fast money may go; how much may go is for `spend` to say.
//!
//! A gateway on its own takes from its own buckets, by governor. Where several share a ledger they share the rates too, which the ledger takes
//! together with the hold: here stands only which those are.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use strum::{IntoStaticStr, VariantArray};

use crate::clock::{Bucket, Clock};
use crate::units::Rate;

/// Which limit refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Limiter {
    /// The caller's own.
    Caller,
    /// The one for all billable calls together.
    Global,
}

impl Limiter {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The word in metrics and errors.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A limit refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Which one.
    pub limiter: Limiter,
    /// Why.
    pub why: Shortage,
}

/// Why a limit refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// It is used up, and lets as many through after this time.
    Wait(Duration),
    /// It never lets more than this through at once.
    AtMost(u32),
}

/// The limits on billable calls.
#[derive(Debug)]
pub struct Limits {
    global: Limit,
    callers: HashMap<Arc<str>, Limit>,
    clock: Clock,
    /// Whether the ledger takes them.
    are_shared: bool,
}

#[derive(Debug)]
struct Limit {
    limiter: Limiter,
    /// Its name among all that are shared.
    name: String,
    rate: Rate,
    bucket: Arc<Bucket>,
}

/// A limit that the ledger takes from, with the hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedLimit<'a> {
    /// Which one refuses, if it does.
    pub limiter: Limiter,
    /// Its name among all that are shared.
    pub name: &'a str,
    /// What it lets through, and as much at once as in one period.
    pub rate: Rate,
}

impl Limits {
    /// One limit for all, and one for each caller that has a rate of its own.
    pub fn new(global: Rate, callers: impl IntoIterator<Item = (Arc<str>, Rate)>, clock: &Clock) -> Self {
        Self::of_rates(global, callers, clock, |_, _| None)
    }

    /// The same limits with other rates. One whose rate stays goes on where it stands.
    #[must_use]
    pub fn renewed(&self, global: Rate, callers: impl IntoIterator<Item = (Arc<str>, Rate)>) -> Self {
        let all = || self.callers.values().chain([&self.global]);
        let former = |name: &str, rate| all().find(|limit| limit.name == name && limit.rate == rate).map(|limit| Arc::clone(&limit.bucket));
        Self { are_shared: self.are_shared, ..Self::of_rates(global, callers, &self.clock, former) }
    }

    fn of_rates(
        global: Rate,
        callers: impl IntoIterator<Item = (Arc<str>, Rate)>,
        clock: &Clock,
        former: impl Fn(&str, Rate) -> Option<Arc<Bucket>>,
    ) -> Self {
        let bucket = |name: &str, rate| former(name, rate).unwrap_or_else(|| Arc::new(clock.bucket(rate)));
        let limit = |limiter, name: String, rate| Limit { limiter, bucket: bucket(&name, rate), name, rate };
        let of_caller = |(name, rate): (Arc<str>, Rate)| {
            let shared_name = format!("caller:{name}");
            (name, limit(Limiter::Caller, shared_name, rate))
        };
        let callers = callers.into_iter().map(of_caller).collect();
        Self { global: limit(Limiter::Global, "global".to_owned(), global), callers, clock: clock.clone(), are_shared: false }
    }

    /// The same limits, for all gateways that share the ledger together.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { are_shared: true, ..self }
    }

    /// Takes so many calls of `caller`'s, and as many of all. Of shared limits nothing: what they never let through is refused here.
    pub fn take(&self, caller: &str, calls: NonZeroU32) -> Result<(), Limited> {
        self.of(caller).try_for_each(|limit| {
            if self.are_shared && calls <= limit.rate.count {
                return Ok(());
            }
            let why = match limit.bucket.check_n(calls) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(until)) => Shortage::Wait(until.wait_time_from(governor::clock::Clock::now(&self.clock))),
                Err(governor::InsufficientCapacity(most)) => Shortage::AtMost(most),
            };
            Err(Limited { limiter: limit.limiter, why })
        })
    }

    /// What the ledger is to take as many calls of, in the order in which it is asked.
    pub fn for_ledger(&self, caller: &str) -> impl Iterator<Item = SharedLimit<'_>> {
        let shared = self.of(caller).filter(|_| self.are_shared);
        shared.map(|Limit { limiter, name, rate, .. }| SharedLimit { limiter: *limiter, name, rate: *rate })
    }

    fn of(&self, caller: &str) -> impl Iterator<Item = &Limit> {
        self.callers.get(caller).into_iter().chain([&self.global])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    fn take(limits: &Limits, caller: &str, calls: u32) -> Result<(), Limited> {
        limits.take(caller, NonZeroU32::new(calls).expect("some"))
    }

    #[test]
    fn a_caller_is_held_to_its_own_rate_and_all_to_the_common_one() {
        let clock = Clock::manual("2026-03-24T12:00:00Z".parse().expect("a time"));
        let limits = Limits::new(rate("3/s"), [("dialer".into(), rate("2/min"))], &clock);
        assert_eq!((take(&limits, "dialer", 1), take(&limits, "dialer", 1)), (Ok(()), Ok(())));
        let half_a_minute = Duration::from_secs(30);
        assert_eq!(take(&limits, "dialer", 1), Err(Limited { limiter: Limiter::Caller, why: Shortage::Wait(half_a_minute) }));
        assert_eq!(take(&limits, "reports", 1), Ok(()));
        assert_eq!(take(&limits, "reports", 1).map_err(|limited| limited.limiter), Err(Limiter::Global));
        clock.advance(half_a_minute);
        assert_eq!(take(&limits, "dialer", 1), Ok(()));
    }

    #[test]
    fn a_limit_goes_on_where_it_stands_unless_its_rate_changes() {
        let clock = Clock::manual("2026-03-24T12:00:00Z".parse().expect("a time"));
        let callers = [("dialer".into(), rate("2/min")), ("crm".into(), rate("1/min"))];
        let limits = Limits::new(rate("9/s"), callers, &clock);
        assert_eq!((take(&limits, "dialer", 2), take(&limits, "crm", 1)), (Ok(()), Ok(())));
        let renewed = limits.renewed(rate("9/s"), [("dialer".into(), rate("2/min")), ("crm".into(), rate("3/min"))]);
        assert_eq!(take(&renewed, "dialer", 1).map_err(|limited| limited.limiter), Err(Limiter::Caller), "it was used up");
        assert_eq!(take(&renewed, "crm", 3), Ok(()), "three a minute from now on");
        assert_eq!(take(&renewed, "reports", 4).map_err(|limited| limited.limiter), Err(Limiter::Global), "six of nine are taken");
        assert_eq!(take(&renewed.renewed(rate("4/s"), []), "dialer", 4), Ok(()), "a caller without a rate of its own");
    }

    #[test]
    fn shared_limits_are_named_and_not_taken_here() {
        let clock = Clock::manual("2026-03-24T12:00:00Z".parse().expect("a time"));
        let limits = Limits::new(rate("3/s"), [("dialer".into(), rate("2/min"))], &clock).shared();
        for _ in 0..10 {
            assert_eq!(take(&limits, "dialer", 2), Ok(()));
        }
        assert_eq!(take(&limits, "dialer", 3), Err(Limited { limiter: Limiter::Caller, why: Shortage::AtMost(2) }));
        let named = |caller| limits.for_ledger(caller).map(|limit| format!("{} {}", limit.name, limit.rate)).collect::<Vec<_>>();
        assert_eq!(
            (named("dialer"), named("reports")),
            (vec!["caller:dialer 2/min".into(), "global 3/s".into()], vec!["global 3/s".into()])
        );
        let own = Limits::new(rate("3/s"), [], &clock);
        assert_eq!(own.for_ledger("dialer").count(), 0);
    }

    #[test]
    fn several_calls_are_taken_together_or_not_at_all() {
        let clock = Clock::manual("2026-03-24T12:00:00Z".parse().expect("a time"));
        let limits = Limits::new(rate("4/s"), [], &clock);
        assert_eq!(take(&limits, "dialer", 3), Ok(()));
        let quarter = Shortage::Wait(Duration::from_millis(250));
        assert_eq!(take(&limits, "dialer", 2).map_err(|limited| limited.why), Err(quarter));
        assert_eq!(take(&limits, "dialer", 1), Ok(()));
        assert_eq!(take(&limits, "dialer", 5).map_err(|limited| limited.why), Err(Shortage::AtMost(4)), "however long it waits");
    }
}
