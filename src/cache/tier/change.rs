//! What makes copies untrue, told to all gateways: in the order in which it happened, and kept until it can be told.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::super::Scope;
use crate::shared::Entry;
use crate::telnyx::EnterpriseId;

/// Changes that wait; with one more they are one change of all copies: too much goes rather than too little.
const MOST: usize = 10_000;

/// What becomes of copies; of two the later word is the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ruling {
    /// They are outdated.
    Soft,
    /// They go.
    Hard,
}

/// Copies, and the lists they are on, are not true any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub scope: Scope,
    /// What becomes of them.
    pub ruling: Ruling,
}

impl Ruling {
    /// The word on the server.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

impl Change {
    /// Its scope's enterprise and number as they are written; empty, where it is of all.
    pub(super) fn written(&self) -> (String, String) {
        match self.scope {
            Scope::All => (String::new(), String::new()),
            Scope::Enterprise(enterprise) => (enterprise.to_string(), String::new()),
            Scope::Number(enterprise, number) => (enterprise.to_string(), number.to_string()),
        }
    }

    /// What an entry of the stream tells, if it is a change of somebody else's. One that cannot be read may be of anything.
    pub(super) fn told(entry: &Entry, own: &str) -> Option<Self> {
        if entry.field("k") == Some("begin") || entry.field("a") == Some(own) {
            return None;
        }
        Some(Self::read(entry).unwrap_or(Self { scope: Scope::All, ruling: Ruling::Soft }))
    }

    fn read(entry: &Entry) -> Option<Self> {
        let ruling = match entry.field("k")? {
            "soft" => Ruling::Soft,
            "hard" => Ruling::Hard,
            _ => return None,
        };
        let enterprise = |text: &str| text.parse::<EnterpriseId>().ok();
        let scope = match (entry.field("e")?, entry.field("n")?) {
            ("", "") => Scope::All,
            (of, "") => Scope::Enterprise(enterprise(of)?),
            (of, number) => Scope::Number(enterprise(of)?, number.parse().ok()?),
        };
        Some(Self { scope, ruling })
    }
}

/// Changes that are not on the server yet.
#[derive(Debug)]
pub(super) struct Untold {
    waiting: Mutex<VecDeque<(u64, Change)>>,
    /// How many came, and how many of them are on the server.
    pub(super) came: watch::Sender<u64>,
    pub(super) told: watch::Sender<u64>,
}

impl Untold {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), came: watch::Sender::new(0), told: watch::Sender::new(0) }
    }

    pub(super) fn add(&self, change: Change) {
        let mut waiting = self.waiting();
        let number = *self.came.borrow() + 1;
        if waiting.len() >= MOST {
            let ruling = waiting.iter().map(|(_, change)| change.ruling).fold(change.ruling, Ord::max);
            waiting.clear();
            waiting.push_back((number, Change { scope: Scope::All, ruling }));
        } else {
            waiting.push_back((number, change));
        }
        self.came.send_replace(number);
    }

    /// The next ones, and the number of the last of them.
    pub(super) fn next(&self, count: usize) -> Option<(u64, Vec<Change>)> {
        let waiting = self.waiting();
        let next: Vec<_> = waiting.iter().take(count).map(|(_, change)| *change).collect();
        let (last, _) = waiting.get(next.len().checked_sub(1)?)?;
        Some((*last, next))
    }

    /// All up to this number are on the server.
    pub(super) fn settle(&self, last: u64) {
        self.waiting().retain(|(number, _)| *number > last);
        self.told.send_replace(last);
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(u64, Change)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_wait_in_their_order_and_too_many_are_one_of_all_as_strict_as_the_strictest() {
        let untold = Untold::new();
        let enterprise: EnterpriseId = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
        let soft = Change { scope: Scope::Enterprise(enterprise), ruling: Ruling::Soft };
        let hard = Change { ruling: Ruling::Hard, ..soft };
        untold.add(hard);
        untold.add(soft);
        assert_eq!(untold.next(1), Some((1, vec![hard])));
        assert_eq!(untold.next(5), Some((2, vec![hard, soft])));
        untold.settle(1);
        assert_eq!(untold.next(5), Some((2, vec![soft])));
        untold.settle(2);
        assert_eq!(untold.next(5), None);
        untold.add(hard);
        (0..MOST).for_each(|_| untold.add(soft));
        let all = Change { scope: Scope::All, ruling: Ruling::Hard };
        assert_eq!(untold.next(5), Some((3 + MOST as u64, vec![all])));
    }
}
