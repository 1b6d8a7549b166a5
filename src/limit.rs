//! Rate limits on billable calls, by governor. They bound how fast money may go; how much may go is for `spend` to say.

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
    global: Bucket,
    callers: HashMap<Arc<str>, Bucket>,
    clock: Clock,
}

impl Limits {
    /// One limit for all, and one for each caller that has a rate of its own.
    pub fn new(global: Rate, callers: impl IntoIterator<Item = (Arc<str>, Rate)>, clock: &Clock) -> Self {
        let callers = callers.into_iter().map(|(name, rate)| (name, clock.bucket(rate))).collect();
        Self { global: clock.bucket(global), callers, clock: clock.clone() }
    }

    /// Takes so many calls of `caller`'s, and as many of all.
    pub fn take(&self, caller: &str, calls: NonZeroU32) -> Result<(), Limited> {
        let take = |bucket: &Bucket, limiter| {
            let why = match bucket.check_n(calls) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(until)) => Shortage::Wait(until.wait_time_from(governor::clock::Clock::now(&self.clock))),
                Err(governor::InsufficientCapacity(most)) => Shortage::AtMost(most),
            };
            Err(Limited { limiter, why })
        };
        if let Some(own) = self.callers.get(caller) {
            take(own, Limiter::Caller)?;
        }
        take(&self.global, Limiter::Global)
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
