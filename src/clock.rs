//! The one place that reads the time.
//!
//! Everything that depends on time takes a [`Clock`] or a moment as a value, so that tests turn it by hand.
//! Wall time dates facts (ledger, windows, headers); monotonic time measures ages and is never set back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A source of wall time and of monotonic time; clones share it.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System(Instant),
    Manual(Arc<Mutex<Hands>>),
}

#[derive(Debug)]
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
        Self(Source::Manual(Arc::new(Mutex::new(Hands { wall, elapsed: Duration::ZERO }))))
    }

    /// Wall time, now.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System(_) => Timestamp::now(),
            Source::Manual(hands) => hands.lock().unwrap_or_else(PoisonError::into_inner).wall,
        }
    }

    /// Monotonic time since this clock was made.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::System(origin) => origin.elapsed(),
            Source::Manual(hands) => hands.lock().unwrap_or_else(PoisonError::into_inner).elapsed,
        }
    }

    /// Turns a manual clock forward, wall and monotonic time alike. A system clock goes its own way.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(hands) = &self.0 {
            let mut hands = hands.lock().unwrap_or_else(PoisonError::into_inner);
            hands.wall = hands.wall.saturating_add(by).unwrap_or(Timestamp::MAX);
            hands.elapsed += by;
        }
    }

    /// Sets the wall time of a manual clock, as an administrator or NTP would, and leaves monotonic time alone.
    pub fn set_wall(&self, wall: Timestamp) {
        if let Source::Manual(hands) = &self.0 {
            hands.lock().unwrap_or_else(PoisonError::into_inner).wall = wall;
        }
    }
}
