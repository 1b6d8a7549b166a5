//! The two tables of what a read does: values in, the next action out.
//!
//! The caller acts, adds to [`Facts`] what it learnt, and asks again; every action but an end adds a fact, so the
//! asking ends. Nothing here reads a clock, a cache or a ledger: all ages are arguments. The same function serves
//! requests, and anybody who wants to know what a request would do.
//!
//! Every free read is a look at the enterprise's *list*, never the number's own GET. That GET is free only while
//! data is stored for the number, and what was known of it may have changed since; the list never costs anything.

mod read;

use std::time::Duration;

use strum::IntoStaticStr;

use super::decision::{Decision, Reason};
use super::pricing::Billable;

pub use read::keeps_null;
use read::{only_cached, read, stands_in};

/// What the caller wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent wishes of one request, each with its own field on the wire")]
pub struct Want {
    /// `fresh=true`.
    pub fresh: bool,
    /// Whether this request may cost anything at all: HEAD and `no-cache` may not.
    pub may_bill: bool,
    /// `no-cache`: a free read, whatever is stored.
    pub no_cache: bool,
    /// `only-if-cached`: nothing goes upstream.
    pub only_if_cached: bool,
    /// `max-age`: nothing older; with `fresh`, data this young needs no new check.
    pub max_age: Option<Duration>,
    /// `min-fresh`: no copy that is stale sooner.
    pub min_fresh: Option<Duration>,
    /// `max-stale`: also a copy that has been stale for no longer.
    pub max_stale: Option<Duration>,
    /// `no-store`: what is read for nothing is not kept.
    pub no_store: bool,
    /// An error rather than a substitute.
    pub strict: bool,
    /// A client library sends this request again, since it has seen no good answer to it yet.
    pub retry: bool,
}

impl Want {
    /// Whether this request is after data that may have to be bought.
    pub fn buys_fresh(&self) -> bool {
        self.fresh && self.may_bill
    }

    /// How far back an attempt of the same intent may lie.
    pub(super) fn retries(&self) -> Duration {
        if self.retry { RETRIES } else { Duration::ZERO }
    }
}

/// What kind of answer a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// A record with data.
    Data,
    /// A record whose `reputation_data` is null.
    Null,
    /// There is no such number.
    Missing,
}

impl Kind {
    /// The word for operators.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A copy of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// What kind of answer.
    pub kind: Kind,
    /// Time since Telnyx gave it.
    pub age: Duration,
    /// How long it counts as fresh.
    pub lifetime: Duration,
    /// Time since Telnyx refreshed its data, if it says.
    pub data_age: Option<Duration>,
    /// Whether a call that brought no record may have renewed the data since: a look comes first, and the copy only stands in for it.
    pub outdated: bool,
}

/// What a free look at the list said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The number is there, with data this old.
    Data(Option<Duration>),
    /// The number is there, without data: its next GET is billed.
    Null,
    /// The enterprise has no such number.
    Missing,
    /// The answer does not tell: the filter was ignored, or the body is not a list.
    Inconclusive,
    /// Telnyx refuses: this credential may not see the number, or not any more.
    Refused,
    /// No answer.
    Failed,
}

/// All that a decision depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What the caller wants.
    pub want: Want,
    /// Whether the caller may ask for fresh data.
    pub may_fresh: bool,
    /// The copy at hand when the request came.
    pub copy: Option<Copy>,
    /// Time since a call for this number was billed.
    pub paid_ago: Option<Duration>,
    /// Time since a billable call for this number was sent whose outcome is still unknown.
    pub unknown_ago: Option<Duration>,
    /// How far back calls are remembered: one that was made before may be missing from the two fields above.
    pub memory: Duration,
    /// Whether a billable call for this number is under way.
    pub in_flight: bool,
    /// Time since a look for this number failed, if none has been answered since.
    pub look_failed_ago: Option<Duration>,
    /// What a free look said, once there was one.
    pub probe: Option<Probe>,
    /// What refused a purchase, once one was tried.
    pub refused: Option<Reason>,
}

/// What a refusal does when there is a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDenied {
    /// Serves the copy, and says what was refused.
    #[default]
    Cached,
    /// Answers with the error.
    Reject,
}

/// What a plain read of a number without stored data does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirstTouch {
    /// Takes a hold and sends the GET, which Telnyx bills.
    #[default]
    Bill,
    /// Serves the null record from the free list.
    Free,
}

/// The operator's choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Data younger than this needs no new check.
    pub min_age: Duration,
    /// How long an unknown outcome bars another billable call.
    pub unknown_window: Duration,
    /// What a refusal does when there is a copy.
    pub on_denied: OnDenied,
    /// What a plain read of a number without data does.
    pub first_touch: FirstTouch,
    /// How long after its lifetime a copy is served while a free read renews it.
    pub stale_while_revalidate: Duration,
    /// How long after its lifetime a copy stands in for an answer that cannot be had.
    pub stale_if_error: Duration,
    /// How long after a look that failed such a copy is served without another.
    pub error_ttl: Duration,
    /// How long a paid null keeps the next first touch from being paid.
    pub null_ttl: Duration,
}

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The copy at hand.
    Copy,
    /// What the probe brought.
    Probe,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer with this.
    Serve(Decision, Source),
    /// Answer with the copy, and renew it by a free read afterwards.
    ServeStale,
    /// Look at the list, then ask again.
    Probe,
    /// Wait for the billable call under way and answer with its result.
    Join,
    /// Take a hold and send the number's GET; a refusal is a fact, then ask again.
    Buy(Billable),
    /// Answer with an error.
    Refuse(Reason),
}

/// A client library's retries of one request come within this time: the slowest waits ten minutes for an answer.
pub const RETRIES: Duration = Duration::from_mins(15);

impl Policy {
    /// How long calls that were paid for, or may have been, matter.
    pub fn memory(&self) -> Duration {
        self.min_age.max(self.unknown_window).max(self.null_ttl).max(RETRIES)
    }
}

/// Upstream's clock and ours may differ, and its times may be cut to whole seconds.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

impl Copy {
    /// Whether it counts as fresh, whatever a request wants.
    pub fn is_fresh(&self) -> bool {
        !self.outdated && self.age < self.lifetime
    }

    fn within(&self, grace: Duration) -> bool {
        self.age < self.lifetime.saturating_add(grace)
    }

    /// How it answers a plain read, if the request takes it (RFC 9111, 5.2.1): a client that bounds age or freshness wants nothing
    /// stale, unless it says so.
    fn answers(&self, want: &Want, policy: &Policy) -> Option<Action> {
        let young_enough = want.max_age.is_none_or(|limit| self.age <= limit);
        if want.no_cache || self.outdated || !young_enough {
            return None;
        }
        let margin = want.min_fresh.unwrap_or_default();
        if self.age.saturating_add(margin) < self.lifetime {
            return Some(Action::Serve(self.hit(), Source::Copy));
        }
        let bounded = want.max_age.is_some() || want.min_fresh.is_some();
        let renewed = self.kind == Kind::Data && self.within(policy.stale_while_revalidate);
        match want.max_stale {
            Some(limit) if !self.within(limit) => None,
            Some(_) if renewed => Some(Action::ServeStale),
            Some(_) => Some(Action::Serve(Decision::Stale, Source::Copy)),
            None => (renewed && !bounded).then_some(Action::ServeStale),
        }
    }

    fn hit(&self) -> Decision {
        match self.kind {
            Kind::Data => Decision::Hit,
            Kind::Null => Decision::Null,
            Kind::Missing => Decision::NotFound,
        }
    }
}

/// The next action for a read of one number.
pub fn decide(facts: &Facts, policy: &Policy) -> Action {
    if let Some(reason) = facts.refused {
        return refuse(reason, facts, policy);
    }
    if facts.want.only_if_cached {
        return only_cached(facts, policy);
    }
    if facts.want.buys_fresh() { fresh(facts, policy) } else { read(facts, policy) }
}

/// Whether a plain read is a hit, by its number's copy alone: whatever else is known of the number, [`decide`] says the same.
pub fn is_hit(copy: &Copy, policy: &Policy) -> bool {
    let plain = Want { may_bill: true, ..Want::default() };
    copy.answers(&plain, policy) == Some(Action::Serve(Decision::Hit, Source::Copy))
}

/// `fresh=true`, in the order in which money is kept: permission, age, a call under way, an unknown outcome, and only then the purchase.
fn fresh(facts: &Facts, policy: &Policy) -> Action {
    if !facts.may_fresh {
        return refuse(Reason::NotPermitted, facts, policy);
    }
    let young = young(facts, policy);
    let is_young = |age: Option<Duration>| age.is_some_and(|age| age < young);
    let paid = is_young(facts.paid_ago);
    match (facts.probe, facts.copy) {
        (Some(Probe::Data(age)), _) if is_newer(age, facts, policy) => return Action::Serve(Decision::Recovered, Source::Probe),
        (Some(Probe::Data(age)), _) if paid || is_young(age) => return Action::Serve(Decision::Cooldown, Source::Probe),
        (Some(Probe::Null), _) if paid => return Action::Serve(Decision::Cooldown, Source::Probe),
        (None, Some(copy)) if copy.kind != Kind::Missing && !copy.outdated && (paid || is_young(copy.data_age)) => {
            return Action::Serve(Decision::Cooldown, Source::Copy);
        }
        _ => {}
    }
    if facts.in_flight {
        return Action::Join;
    }
    // A call that may have been paid for and is not remembered as such: what it brought is stored at Telnyx, where it can be read for nothing.
    let doubtful = paid || unresolved(facts, policy).is_some() || facts.memory < young || was_young(facts, policy);
    match facts.probe {
        None if doubtful => Action::Probe,
        _ if barred(facts, policy) => refuse(Reason::OutcomeUnknown, facts, policy),
        Some(Probe::Missing) if paid => Action::Serve(Decision::NotFound, Source::Probe),
        Some(Probe::Inconclusive) if paid => Action::Buy(Billable::FirstTouch),
        Some(Probe::Failed | Probe::Refused) => refuse(Reason::Upstream, facts, policy),
        _ => Action::Buy(Billable::Fresh),
    }
}

/// Whether a call of unknown outcome is too recent for another one.
pub(super) fn barred(facts: &Facts, policy: &Policy) -> bool {
    facts.unknown_ago.is_some_and(|ago| ago < policy.unknown_window.max(facts.want.retries()))
}

/// Younger data needs no new check.
pub(super) fn young(facts: &Facts, policy: &Policy) -> Duration {
    policy.min_age.max(facts.want.max_age.unwrap_or_default()).max(facts.want.retries())
}

/// Whether the copy says that what is stored is young, although it is outdated: a look shows whether it still is.
pub(super) fn was_young(facts: &Facts, policy: &Policy) -> bool {
    let data_age = facts.copy.filter(|copy| copy.outdated).and_then(|copy| copy.data_age);
    data_age.is_some_and(|age| age < young(facts, policy))
}

/// Time since a call whose outcome still matters: what an older one brought would be bought anew had it been known to work.
pub(super) fn unresolved(facts: &Facts, policy: &Policy) -> Option<Duration> {
    facts.unknown_ago.filter(|ago| *ago < young(facts, policy).max(policy.unknown_window))
}

/// Data newer than an unknown call was sent shows that the call worked.
pub(super) fn is_newer(data_age: Option<Duration>, facts: &Facts, policy: &Policy) -> bool {
    data_age.zip(unresolved(facts, policy)).is_some_and(|(age, sent)| age <= sent + CLOCK_TOLERANCE)
}

/// A refusal of billable work is answered with what there is, unless the caller or the operator wants the error.
fn refuse(reason: Reason, facts: &Facts, policy: &Policy) -> Action {
    let substitute = !facts.want.strict && policy.on_denied == OnDenied::Cached;
    match (facts.probe, facts.copy) {
        (Some(Probe::Refused), _) => Action::Refuse(Reason::Upstream),
        (Some(Probe::Data(_)), _) if substitute => Action::Serve(reason.decision(), Source::Probe),
        (_, Some(copy)) if substitute && stands_in(&copy, policy) => Action::Serve(reason.decision(), Source::Copy),
        _ => Action::Refuse(reason),
    }
}

#[cfg(test)]
pub(super) mod tests;
