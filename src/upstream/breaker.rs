//! A circuit breaker: an upstream that fails again and again is left alone for a while.
//!
//! Closed, everything passes. After so many failures in a row it opens, and nothing passes until its pause is over. Then it is half
//! open: one free request at a time passes, to see. An answer closes it; a failure opens it for twice the time. What may cost money
//! passes only while it is closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;

use super::{Config, Lost, NotSent, Outcome};
use crate::clock::Clock;

/// A pause does not double beyond this.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Whether a request may be sent to see whether the upstream answers again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// A read that cannot cost anything: it may.
    Free,
    /// What may cost money or change something: it may not.
    Billable,
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything passes.
    Closed,
    /// Nothing passes for so long.
    Open(Duration),
    /// A free request may pass, to see.
    Due,
    /// One is under way.
    Tried,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Duration, pause: Duration },
    Tried { pause: Duration },
}

/// The breaker. Times are monotonic.
#[derive(Debug)]
pub(super) struct Breaker {
    /// Failures in a row that open it; 0: nothing does.
    failures: u32,
    /// How long it is open at first.
    pause: Duration,
    state: Mutex<State>,
    clock: Clock,
}

/// What a request shows of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It answers.
    Works,
    /// It cannot be reached, does not answer, or says that it is not there.
    Fails,
    /// Neither: a 500 may be about one number only.
    None,
}

impl Sign {
    pub(super) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Answered(answer) => Self::of_status(answer.status),
            Outcome::NotSent(NotSent::Unreachable) | Outcome::Unknown(Lost::Cut | Lost::TimedOut) => Self::Fails,
            Outcome::NotSent(_) => Self::None,
        }
    }

    /// What an answer's head shows.
    pub(super) fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            502..=504 => Self::Fails,
            500 => Self::None,
            _ => Self::Works,
        }
    }
}

impl Breaker {
    pub(super) fn new(config: &Config, clock: &Clock) -> Arc<Self> {
        let state = Mutex::new(State::Closed { failures: 0 });
        Arc::new(Self { failures: config.breaker_failures, pause: config.breaker_pause.0, state, clock: clock.clone() })
    }

    pub(super) fn standing(&self) -> Standing {
        match *self.state() {
            State::Closed { .. } => Standing::Closed,
            State::Open { until, .. } => match until.saturating_sub(self.clock.elapsed()) {
                Duration::ZERO => Standing::Due,
                wait => Standing::Open(wait),
            },
            State::Tried { .. } => Standing::Tried,
        }
    }

    /// Whether a request would pass now.
    pub(super) fn check(&self, errand: Errand) -> Result<(), NotSent> {
        match self.standing() {
            Standing::Closed => Ok(()),
            Standing::Due if errand == Errand::Free => Ok(()),
            Standing::Open(wait) => Err(NotSent::Suspended(wait)),
            Standing::Due | Standing::Tried => Err(NotSent::Suspended(Duration::ZERO)),
        }
    }

    /// Lets a request pass. One that passes a breaker that is not closed is its trial.
    pub(super) fn pass(self: &Arc<Self>, errand: Errand) -> Result<Pass, NotSent> {
        let mut state = self.state();
        let is_trial = match *state {
            State::Open { until, pause } if errand == Errand::Free && until <= self.clock.elapsed() => {
                *state = State::Tried { pause };
                true
            }
            _ => false,
        };
        drop(state);
        if !is_trial {
            self.check(Errand::Billable)?;
        }
        Ok(Pass { breaker: Arc::clone(self), is_trial })
    }

    fn note(&self, sign: Sign, is_trial: bool) {
        let now = self.clock.elapsed();
        let mut state = self.state();
        match (*state, sign) {
            (State::Closed { .. }, Sign::Works) => *state = State::Closed { failures: 0 },
            (State::Closed { failures }, Sign::Fails) if self.failures > 0 => {
                let failures = failures.saturating_add(1);
                *state = State::Closed { failures };
                if failures >= self.failures {
                    *state = State::Open { until: now + self.pause, pause: self.pause };
                    tracing::warn!(
                        failures,
                        "the upstream fails again and again: nothing is sent there for a while, and nothing billable until it answers"
                    );
                }
            }
            (State::Open { .. } | State::Tried { .. }, Sign::Works) => {
                *state = State::Closed { failures: 0 };
                tracing::info!("the upstream answers again: everything is sent there as before");
            }
            (State::Tried { pause }, Sign::Fails) if is_trial => {
                let pause = (pause * 2).min(LONGEST_PAUSE.max(self.pause));
                *state = State::Open { until: now + pause, pause };
            }
            // The next one may try.
            (State::Tried { pause }, Sign::None) if is_trial => *state = State::Open { until: now, pause },
            _ => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to send one request. A trial that is dropped without a sign was none.
#[derive(Debug)]
pub(super) struct Pass {
    breaker: Arc<Breaker>,
    is_trial: bool,
}

impl Pass {
    /// Whether the request sees for all others whether the upstream answers again.
    pub(super) fn is_trial(&self) -> bool {
        self.is_trial
    }

    /// Tells what the request showed.
    pub(super) fn shows(mut self, sign: Sign) {
        self.breaker.note(sign, self.is_trial);
        self.is_trial = false;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.is_trial {
            self.breaker.note(Sign::None, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Span;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker(failures: u32) -> (Arc<Breaker>, Clock) {
        let clock = Clock::manual("2026-03-24T12:00:00Z".parse().expect("a time"));
        let config = Config { breaker_failures: failures, breaker_pause: Span(5 * SECOND), ..Config::default() };
        (Breaker::new(&config, &clock), clock)
    }

    fn fails(breaker: &Arc<Breaker>, times: u32) {
        for _ in 0..times {
            breaker.pass(Errand::Free).expect("it passes").shows(Sign::Fails);
        }
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_only_then() {
        let (breaker, _) = breaker(3);
        fails(&breaker, 2);
        breaker.pass(Errand::Billable).expect("it passes").shows(Sign::Works);
        fails(&breaker, 2);
        breaker.pass(Errand::Free).expect("it passes").shows(Sign::None);
        assert_eq!(breaker.standing(), Standing::Closed);
        fails(&breaker, 1);
        assert_eq!(breaker.standing(), Standing::Open(5 * SECOND));
        assert_eq!(breaker.check(Errand::Free), Err(NotSent::Suspended(5 * SECOND)));
    }

    #[test]
    fn half_open_one_free_request_tries_and_no_billable_one() {
        let (breaker, clock) = breaker(1);
        fails(&breaker, 1);
        clock.advance(5 * SECOND);
        assert_eq!(breaker.standing(), Standing::Due);
        assert!(breaker.pass(Errand::Billable).is_err());
        let trial = breaker.pass(Errand::Free).expect("the trial");
        assert_eq!(breaker.standing(), Standing::Tried);
        assert!(breaker.pass(Errand::Free).is_err(), "one at a time");
        drop(trial);
        assert_eq!(breaker.standing(), Standing::Due, "whoever tried has left");
        breaker.pass(Errand::Free).expect("the next trial").shows(Sign::Works);
        assert!(breaker.pass(Errand::Billable).is_ok());
    }

    #[test]
    fn while_trials_fail_the_pause_doubles_up_to_a_minute() {
        let (breaker, clock) = breaker(1);
        fails(&breaker, 1);
        for seconds in [5, 10, 20, 40, 60, 60] {
            assert_eq!(breaker.standing(), Standing::Open(seconds * SECOND));
            clock.advance(seconds * SECOND);
            fails(&breaker, 1);
        }
        clock.advance(60 * SECOND);
        breaker.pass(Errand::Free).expect("a trial").shows(Sign::Works);
        fails(&breaker, 1);
        assert_eq!(breaker.standing(), Standing::Open(5 * SECOND), "as at first");
    }

    #[test]
    fn requests_from_before_it_opened_close_it_and_do_not_renew_its_pause() {
        let (breaker, clock) = breaker(1);
        let before: Vec<_> = (0..3).map(|_| breaker.pass(Errand::Free).expect("it passes")).collect();
        let [first, second, third] = before.try_into().expect("three");
        first.shows(Sign::Fails);
        clock.advance(5 * SECOND);
        let trial = breaker.pass(Errand::Free).expect("the trial");
        second.shows(Sign::Fails);
        assert_eq!(breaker.standing(), Standing::Tried);
        third.shows(Sign::Works);
        assert_eq!(breaker.standing(), Standing::Closed);
        drop(trial);
        assert_eq!(breaker.standing(), Standing::Closed);
    }

    #[test]
    fn none_opens_it_where_it_is_off() {
        let (breaker, _) = breaker(0);
        fails(&breaker, 100);
        assert_eq!(breaker.standing(), Standing::Closed);
    }
}
