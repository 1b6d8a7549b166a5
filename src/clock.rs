//! The one place that reads the time.
//!
//! Everything that depends on time takes a [`Clock`] or a moment as a value, so that tests turn it by hand.
//! Wall time dates facts (ledger, windows, headers); monotonic time measures ages and is never set back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::units::Rate;

/// A rate limit that runs by a [`Clock`].
pub type Bucket = RateLimiter<NotKeyed, InMemoryState, Clock, NoOpMiddleware<Nanos>>;

const BEFORE_START: Duration = Duration::from_hours(365 * 24);

/// A source of wall time and of monotonic time; clones share it.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System(Instant),
    Manual(Arc<watch::Sender<Hands>>),
}

#[derive(Clone, Copy, Debug)]
struct Hands {
    wall: Timestamp,
    elapsed: Duration,
}

impl Clock {
    /// The machine's clock.
    #[allow(clippy::disallowed_methods)]
    pub fn system() -> Self {
        Self(Source::System(Instant::now()))
    }

    /// A clock that stands at `wall` until it is turned.
    pub fn manual(wall: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(watch::Sender::new(Hands { wall, elapsed: Duration::ZERO }))))
    }

    /// Wall time, now.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System(_) => Timestamp::now(),
            Source::Manual(hands) => hands.borrow().wall,
        }
    }

    /// Monotonic time since a year before this clock was made: a fact from before the start has its place on it too.
    pub fn elapsed(&self) -> Duration {
        BEFORE_START
            + match &self.0 {
                Source::System(origin) => origin.elapsed(),
                Source::Manual(hands) => hands.borrow().elapsed,
            }
    }

    /// Waits until monotonic time has come to `moment`.
    pub async fn reaches(&self, moment: Duration) {
        match &self.0 {
            Source::System(_) => tokio::time::sleep(moment.saturating_sub(self.elapsed())).await,
            Source::Manual(hands) => {
                let mut turned = hands.subscribe();
                // The sender is held by this very clock.
                let _reached = turned.wait_for(|hands| BEFORE_START + hands.elapsed >= moment).await;
            }
        }
    }

    /// A full rate limit that runs by this clock.
    pub fn bucket(&self, rate: Rate) -> Bucket {
        let pace = rate.per.length() / rate.count.get();
        let quota = Quota::with_period(pace).expect("the largest rate leaves a microsecond to each").allow_burst(rate.count);
        RateLimiter::direct_with_clock(quota, self.clone())
    }

    /// Turns a manual clock forward, wall and monotonic time alike. A system clock goes its own way.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(hands) = &self.0 {
            hands.send_modify(|hands| {
                hands.wall = hands.wall.saturating_add(by).unwrap_or(Timestamp::MAX);
                hands.elapsed += by;
            });
        }
    }

    /// Sets the wall time of a manual clock, as an administrator or NTP would, and leaves monotonic time alone.
    pub fn set_wall(&self, wall: Timestamp) {
        if let Source::Manual(hands) = &self.0 {
            hands.send_modify(|hands| hands.wall = wall);
        }
    }
}

impl governor::clock::Clock for Clock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.elapsed().into()
    }
}
