//! What a request went through, step by step: facts as values, put into words only when somebody asks.
//!
//! A trail goes with the task, as the request does: what happens on the way notes it there, and no function has to hand it on. A task that
//! works for a request takes the trail [`along`], and may add to it when the request has been answered, or its caller has left. Where there is
//! no trail nothing is noted: work that is nobody's request has none, and neither has any where none is wanted.

use std::borrow::Cow;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Method};

use super::charge::Denied;
use super::wait::Unmet;
use crate::policy::decide::{self, Copy, Facts, Policy, Probe};
use crate::policy::enable;
use crate::policy::evidence::{Answered, Billing};
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;
use crate::policy::refresh;
use crate::spend::{BudgetStatus, HoldId};
use crate::telnyx::{CheckFrequency, PhoneNumber};
use crate::upstream::{Lost, NotSent, Outcome};

/// Steps of one request; what comes after is only counted. A refresh of a hundred numbers may take more.
const MOST_STEPS: usize = 256;

/// One thing that happened.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// By which settings numbers are decided about.
    Policy(Box<Policy>),
    /// What was known of a number, and what that called for.
    Decided(Box<Decided>),
    /// A free look was waited for.
    Looked {
        number: PhoneNumber,
        saw: Probe,
        /// Whether another request had begun it.
        joined: bool,
    },
    /// Another request's purchase was waited for.
    Joined(Box<Joined>),
    /// A refresh or an association had the number's purchase under way, which brings no record.
    Followed(PhoneNumber),
    /// A purchase was waited for in vain.
    Unmet(Unmet),
    /// Other gateways have these holds open for the same.
    Elsewhere(Vec<HoldId>),
    /// The ledger knew of later calls than this gateway did: their holds.
    Learnt(Vec<HoldId>),
    /// Whether Telnyx has monitoring enabled, what is known of the last call for it, and what that called for.
    Enabling { is_enabled: bool, last: Option<enable::Last>, action: enable::Action },
    /// What a month of a schedule costs, and whether it was counted a moment ago.
    Schedule { frequency: CheckFrequency, numbers: u64, price: Usd, has_counted: bool },
    /// The budgets that apply to a purchase, and whether each had room for it.
    Asked(Box<Asked>),
    /// What refused a purchase.
    Denied(Box<Denied>),
    /// The holds that were taken, of this price each.
    Held { operation: Billable, price: Usd, holds: Vec<(HoldId, Option<PhoneNumber>)> },
    /// Something went upstream, or was to.
    Sent { method: Method, is_billable: bool, reply: Reply, took: Duration },
    /// What an answer to a number's own GET shows of whether it was billed.
    Evidence { number: PhoneNumber, answered: Answered },
    /// What an answer says of one number of many: whether it succeeded.
    Said { number: PhoneNumber, success: Option<bool> },
    /// How a hold ended, and why so.
    Ended {
        hold: HoldId,
        billing: Billing,
        why: &'static str,
        /// Whether the ledger has recorded it; it goes on trying otherwise.
        is_recorded: bool,
    },
    /// A look showed what became of a call of unknown outcome.
    Found { hold: HoldId, why: &'static str },
    /// What the caller was told.
    Refused { status: u16, code: Cow<'static, str>, detail: String },
}

/// A decision about one number.
#[derive(Clone, Debug)]
pub(super) struct Decided {
    pub(super) number: PhoneNumber,
    pub(super) facts: Facts,
    pub(super) next: Next,
}

/// What a decision called for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    /// For a read.
    Read(decide::Action),
    /// For one of the numbers that are bought together.
    Batch(refresh::Action),
}

/// A purchase that another request made.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    pub(super) request_id: HeaderValue,
    pub(super) caller: Arc<str>,
    pub(super) operation: Billable,
    pub(super) hold: Option<HoldId>,
    pub(super) billing: Billing,
}

/// A purchase as it was put to the budgets.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) operation: Billable,
    /// How many charges.
    pub(super) count: usize,
    /// Of one.
    pub(super) price: Usd,
    pub(super) budgets: Vec<(BudgetStatus, bool)>,
}

/// What came of sending something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Answered(u16),
    NotSent(NotSent),
    Lost(Lost),
}

impl From<&Outcome> for Reply {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Answered(answer) => Self::Answered(answer.status.as_u16()),
            Outcome::NotSent(why) => Self::NotSent(*why),
            Outcome::Unknown(why) => Self::Lost(*why),
        }
    }
}

/// The steps of one request; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail(Arc<Mutex<Steps>>);

/// What was noted.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps {
    pub(super) taken: Vec<Step>,
    /// How many more there were.
    pub(super) left_out: usize,
}

tokio::task_local! {
    static TRAIL: Trail;
}

impl Trail {
    pub(super) fn note(&self, step: impl FnOnce() -> Step) {
        let mut steps = self.lock();
        if steps.taken.len() < MOST_STEPS {
            steps.taken.push(step());
        } else {
            steps.left_out += 1;
        }
    }

    /// What has been noted until now.
    pub(super) fn steps(&self) -> Steps {
        self.lock().clone()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().taken.len()
    }

    /// The copy that was at hand when the request was last decided about.
    pub(super) fn copy(&self) -> Option<Copy> {
        let copy = |step: &Step| match step {
            Step::Decided(decided) => Some(decided.facts.copy),
            _ => None,
        };
        self.lock().taken.iter().rev().find_map(copy).flatten()
    }

    fn lock(&self) -> MutexGuard<'_, Steps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does `work` on this trail.
pub(super) async fn on<F: Future>(trail: Option<Trail>, work: F) -> F::Output {
    match trail {
        Some(trail) => TRAIL.scope(trail, work).await,
        None => work.await,
    }
}

/// The same on the trail of whoever calls this: for work that goes to a task of its own.
pub(super) fn along<F: Future>(work: F) -> impl Future<Output = F::Output> {
    on(TRAIL.try_with(Trail::clone).ok(), work)
}

/// Notes a step of the request that this task works for.
pub(super) fn note(step: impl FnOnce() -> Step) {
    // Work that is nobody's request leaves no trail.
    let _noted = TRAIL.try_with(|trail| trail.note(step));
}

/// Notes what was known of a number, and what that called for.
pub(super) fn decided(number: PhoneNumber, facts: &Facts, next: Next) {
    note(|| Step::Decided(Box::new(Decided { number, facts: *facts, next })));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmet() -> Step {
        Step::Unmet(Unmet::TooLong)
    }

    #[tokio::test]
    async fn what_is_noted_along_the_way_is_the_requests_own_and_bounded() {
        note(unmet);
        let (one, other) = (Trail::default(), Trail::default());
        on(Some(one.clone()), async {
            note(unmet);
            on(Some(other.clone()), async { note(unmet) }).await;
            tokio::spawn(along(async { note(unmet) })).await.expect("nothing panics");
        })
        .await;
        assert_eq!((one.len(), other.len()), (2, 1));
        (0..MOST_STEPS).for_each(|_| one.note(unmet));
        let steps = one.steps();
        assert_eq!((steps.taken.len(), steps.left_out), (MOST_STEPS, 2));
    }
}
