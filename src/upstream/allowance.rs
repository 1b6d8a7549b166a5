//! What Telnyx still allows: its rate limit, learnt from its answers, for each account.
//!
//! Where an answer says that nothing remains, nothing more is sent until the limit's reset. A 429 that does not say when that is pauses
//! for a second, and twice as long each time it comes again. Other accounts, and so the callers of other keys, are not concerned.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};

use super::Credential;
use crate::clock::Clock;

const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// A reset may be this far away. The official Python SDK ignores longer waits, and the others sleep through them.
const LONGEST_RESET: Duration = Duration::from_mins(1);

/// A pause whose end Telnyx does not tell, at first and at most.
const FIRST_GUESS: Duration = Duration::from_secs(1);
const LONGEST_GUESS: Duration = Duration::from_secs(30);

/// Accounts whose pauses are remembered; the requests of others are not held back.
const MOST_ACCOUNTS: usize = 10_000;

/// What all accounts are allowed.
#[derive(Debug)]
pub(super) struct Allowance {
    /// By a digest of the account's key, which is different in each process.
    accounts: Mutex<HashMap<u64, Pause>>,
    digest: RandomState,
    clock: Clock,
}

/// An account without an entry was not paused lately.
#[derive(Clone, Copy, Debug)]
struct Pause {
    /// Monotonic.
    until: Duration,
    /// How long it was guessed to last.
    guess: Duration,
}

impl Allowance {
    pub(super) fn new(clock: &Clock) -> Self {
        Self { accounts: Mutex::default(), digest: RandomState::new(), clock: clock.clone() }
    }

    /// When an account's next request may be sent, if that is not now.
    pub(super) fn until(&self, credential: &Credential) -> Option<Duration> {
        let accounts = self.accounts();
        let until = accounts.get(&self.account(credential)).map(|pause| pause.until);
        until.filter(|until| *until > self.clock.elapsed())
    }

    /// How long the longest pause still lasts.
    pub(super) fn longest(&self) -> Duration {
        let until = self.accounts().values().map(|pause| pause.until).max().unwrap_or_default();
        until.saturating_sub(self.clock.elapsed())
    }

    /// Learns from an answer.
    pub(super) fn learn(&self, credential: &Credential, status: StatusCode, headers: &HeaderMap) {
        let now = self.clock.elapsed();
        let account = self.account(credential);
        let is_refused = status == StatusCode::TOO_MANY_REQUESTS;
        let is_over = is_refused || number(headers, &REMAINING) == Some(0);
        let told = if is_over { reset(headers).filter(|reset| !reset.is_zero()) } else { None };
        let mut accounts = self.accounts();
        let before = accounts.get(&account).copied().unwrap_or(Pause { until: now, guess: Duration::ZERO });
        let pause = match told {
            Some(reset) => Pause { until: before.until.max(now + reset), guess: Duration::ZERO },
            // Requests that were under way together are refused together: that is one refusal.
            None if is_refused && before.until > now => before,
            None if is_refused => {
                let guess = (before.guess * 2).clamp(FIRST_GUESS, LONGEST_GUESS);
                Pause { until: now + guess, guess }
            }
            None => Pause { guess: Duration::ZERO, ..before },
        };
        if pause.until <= now {
            accounts.remove(&account);
            return;
        }
        if accounts.len() >= MOST_ACCOUNTS && !accounts.contains_key(&account) {
            accounts.retain(|_, pause| pause.until > now);
        }
        if accounts.len() < MOST_ACCOUNTS || accounts.contains_key(&account) {
            accounts.insert(account, pause);
        }
    }

    fn account(&self, credential: &Credential) -> u64 {
        self.digest.hash_one(credential.value())
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<u64, Pause>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long until the limit's reset, as an answer tells, up to a minute.
pub fn reset(headers: &HeaderMap) -> Option<Duration> {
    number(headers, &RESET).map(|seconds| Duration::from_secs(seconds).min(LONGEST_RESET))
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn allowance() -> (Allowance, Clock) {
        let clock = Clock::manual("2026-03-24T12:00:00Z".parse().expect("a time"));
        (Allowance::new(&clock), clock)
    }

    fn key(key: &'static str) -> Credential {
        Credential::Forwarded(HeaderValue::from_static(key))
    }

    fn fields(remaining: &'static str, reset: &'static str) -> HeaderMap {
        let fields = [(REMAINING, remaining), (RESET, reset)];
        fields.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn an_account_with_nothing_left_waits_for_the_reset_and_no_other_does() {
        let (allowance, clock) = allowance();
        allowance.learn(&key("a"), StatusCode::OK, &fields("1", "7"));
        assert_eq!(allowance.until(&key("a")), None);
        allowance.learn(&key("a"), StatusCode::OK, &fields("0", "7"));
        assert_eq!(allowance.until(&key("a")), Some(clock.elapsed() + 7 * SECOND));
        assert_eq!((allowance.until(&key("b")), allowance.longest()), (None, 7 * SECOND));
        allowance.learn(&key("a"), StatusCode::OK, &fields("9", "7"));
        assert!(allowance.until(&key("a")).is_some(), "an answer from before does not end it");
        clock.advance(7 * SECOND);
        assert_eq!((allowance.until(&key("a")), allowance.longest()), (None, Duration::ZERO));
        allowance.learn(&key("a"), StatusCode::OK, &fields("0", "86400"));
        assert_eq!(allowance.longest(), 60 * SECOND);
    }

    #[test]
    fn a_refusal_that_does_not_say_when_pauses_ever_longer() {
        let (allowance, clock) = allowance();
        let limited = |headers: &HeaderMap| allowance.learn(&key("a"), StatusCode::TOO_MANY_REQUESTS, headers);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            limited(&HeaderMap::new());
            limited(&fields("x", "y"));
            assert_eq!(allowance.longest(), seconds * SECOND, "refused together is refused once");
            clock.advance(seconds * SECOND);
        }
        allowance.learn(&key("a"), StatusCode::OK, &HeaderMap::new());
        limited(&fields("0", "0"));
        assert_eq!(allowance.longest(), SECOND, "as at first");
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let (allowance, clock) = allowance();
        let learn = |n: usize| {
            let key = Credential::Own(HeaderValue::from_str(&n.to_string()).expect("digits"));
            allowance.learn(&key, StatusCode::OK, &fields("0", "5"));
        };
        (0..MOST_ACCOUNTS + 10).for_each(learn);
        assert_eq!(allowance.accounts().len(), MOST_ACCOUNTS);
        clock.advance(5 * SECOND);
        learn(MOST_ACCOUNTS);
        assert_eq!(allowance.accounts().len(), 1);
    }
}
