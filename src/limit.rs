//! Rate limits on billable calls, by governor. They bound how fast money may go; how much may go is for `spend` to say.

use std::collections::HashMap;
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

/// A limit is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Which one.
    pub limiter: Limiter,
    /// How long until it lets one more through.
    pub wait: Duration,
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

    /// Takes one call of `caller`'s, and one of all.
    pub fn take(&self, caller: &str) -> Result<(), Limited> {
        let take = |bucket: &Bucket, limiter| {
            bucket.check().map_err(|until| Limited { limiter, wait: until.wait_time_from(governor::clock::Clock::now(&self.clock)) })
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

    #[test]
    fn a_caller_is_held_to_its_own_rate_and_all_to_the_common_one() {
        let clock = Clock::manual("2026-03-24T12:00:00Z".parse().expect("a time"));
        let rate = |text: &str| text.parse::<Rate>().expect("a rate");
        let limits = Limits::new(rate("3/s"), [("dialer".into(), rate("2/min"))], &clock);
        assert_eq!((limits.take("dialer"), limits.take("dialer")), (Ok(()), Ok(())));
        let half_a_minute = Duration::from_secs(30);
        assert_eq!(limits.take("dialer"), Err(Limited { limiter: Limiter::Caller, wait: half_a_minute }));
        assert_eq!(limits.take("reports"), Ok(()));
        assert_eq!(limits.take("reports").map_err(|limited| limited.limiter), Err(Limiter::Global));
        clock.advance(half_a_minute);
        assert_eq!(limits.take("dialer"), Ok(()));
    }
}
