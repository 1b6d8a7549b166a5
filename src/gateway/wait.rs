//! Waiting for work that is shared: a bound on how long, and on how many wait at once.
//!
//! Who gives up changes nothing of the work, and sends nothing of its own: it answers with what is stored, or with an error.

use super::Gateway;
use super::failure::Failure;
use crate::flight::{Crashed, Follow};
use crate::upstream::{Lost, NotSent};

/// Why a wait brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unmet {
    /// The work ended without a result.
    Crashed,
    /// It took longer than anybody waits.
    TooLong,
    /// So many wait already that this request does not.
    Crowded,
}

impl From<Crashed> for Unmet {
    fn from(Crashed: Crashed) -> Self {
        Self::Crashed
    }
}

impl From<Unmet> for Failure {
    fn from(why: Unmet) -> Self {
        match why {
            Unmet::Crashed => Self::Lost(Lost::Cut),
            Unmet::TooLong => Self::Lost(Lost::TimedOut),
            Unmet::Crowded => Self::NotSent(NotSent::Crowded),
        }
    }
}

impl Gateway {
    /// Waits for a flight's result, within the bounds.
    pub(super) async fn wait<T: Clone>(&self, flight: Follow<T>) -> Result<T, Unmet> {
        let Ok(_place) = self.0.waiters.try_acquire() else { return Err(Unmet::Crowded) };
        let until = self.0.clock.elapsed().saturating_add(self.0.rules.wait_timeout);
        tokio::select! {
            landed = flight.landed() => Ok(landed?),
            () = self.0.clock.reaches(until) => Err(Unmet::TooLong),
        }
    }
}
