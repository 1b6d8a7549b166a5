//! Whether monitoring is bought for an enterprise: values in, the next action out.
//!
//! It is bought only after a free look that did not find it enabled. What such a look cannot know is a call that was sent a moment ago
//! and takes effect later; so a call of the gateway's own bars another one until it can take effect no more.

use std::time::Duration;

use super::decide::RETRIES;

/// The gateway's last call for an enterprise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Time from when it was sent until the look began.
    pub age: Duration,
    /// What is known of it.
    pub fate: Fate,
}

/// What is known of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was billed.
    Paid,
    /// Nobody knows whether it was billed.
    Unknown,
    /// The same, and nothing is taken back of it: of a former run's its age is known by the wall clock only, and where monitoring may have
    /// been disabled since, a look does not tell.
    Counted,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Buy it. `take_back`: the last call was not carried out.
    Buy {
        /// Whether what the last call posted is taken back first.
        take_back: bool,
    },
    /// The last call, of unknown outcome, turned out to have worked: answer with the settings.
    Recovered,
    /// A client library sends what was done and paid for again: answer with the settings.
    Repeated,
    /// It is enabled, and nobody here has just done it.
    AlreadyEnabled,
    /// The last call may still take effect.
    Wait,
}

impl Fate {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Unknown => "unknown",
            Self::Counted => "counted",
        }
    }
}

impl Action {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buy { .. } => "buy",
            Self::Recovered | Self::Repeated => "serve",
            Self::AlreadyEnabled | Self::Wait => "refuse",
        }
    }

    /// The rule behind it, in a sentence's part.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Buy { take_back: true } => "the last call was not carried out, and is taken back: it is bought",
            Self::Buy { take_back: false } => "nobody has enabled it: it is bought",
            Self::Recovered => "the last call, of unknown outcome, turned out to have worked",
            Self::Repeated => "a client library sends again what was done and paid for",
            Self::AlreadyEnabled => "nothing has to be bought",
            Self::Wait => "the last call may still take effect",
        }
    }
}

/// The next action, after a look that found monitoring enabled or not. `effect`: for so long a call may take effect after it was sent.
pub fn decide(is_enabled: bool, last: Option<Last>, is_retry: bool, effect: Duration) -> Action {
    match (is_enabled, last) {
        (true, Some(Last { fate: Fate::Unknown | Fate::Counted, .. })) => Action::Recovered,
        (true, Some(Last { fate: Fate::Paid, age })) if is_retry && age < RETRIES => Action::Repeated,
        (true, _) => Action::AlreadyEnabled,
        // Also what was answered may be missing from a read right after it.
        (false, Some(Last { age, .. })) if age < effect => Action::Wait,
        (false, last) => Action::Buy { take_back: last.is_some_and(|last| last.fate == Fate::Unknown) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const EFFECT: Duration = Duration::from_mins(2);

    fn decided(is_enabled: bool, last: Option<(u32, Fate)>, is_retry: bool) -> Action {
        let last = last.map(|(minutes, fate)| Last { age: MINUTE * minutes, fate });
        decide(is_enabled, last, is_retry, EFFECT)
    }

    #[test]
    fn what_is_enabled_is_never_bought() {
        for is_retry in [false, true] {
            assert_eq!(decided(true, None, is_retry), Action::AlreadyEnabled);
            assert_eq!(decided(true, Some((0, Fate::Unknown)), is_retry), Action::Recovered);
            assert_eq!(decided(true, Some((90, Fate::Counted)), is_retry), Action::Recovered);
            assert_eq!(decided(true, Some((15, Fate::Paid)), is_retry), Action::AlreadyEnabled);
        }
        assert_eq!(decided(true, Some((14, Fate::Paid)), true), Action::Repeated);
        assert_eq!(decided(true, Some((14, Fate::Paid)), false), Action::AlreadyEnabled);
    }

    #[test]
    fn a_call_bars_another_one_until_it_can_take_effect_no_more() {
        assert_eq!(decided(false, None, false), Action::Buy { take_back: false });
        for (fate, take_back) in [(Fate::Paid, false), (Fate::Unknown, true), (Fate::Counted, false)] {
            assert_eq!(decided(false, Some((1, fate)), false), Action::Wait, "{fate:?}");
            assert_eq!(decided(false, Some((2, fate)), true), Action::Buy { take_back }, "{fate:?}");
        }
    }
}
