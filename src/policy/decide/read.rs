//! The table of plain reads, and of those that want nothing but a copy.

use super::{Action, Copy, Facts, FirstTouch, Kind, Policy, Probe, Source, barred, is_newer, refuse};
use crate::policy::decision::{Decision, Reason};
use crate::policy::pricing::Billable;

/// `only-if-cached`: a usable copy or nothing.
pub(super) fn only_cached(facts: &Facts, policy: &Policy) -> Action {
    match facts.copy.and_then(|copy| copy.answers(&facts.want, policy)) {
        Some(Action::ServeStale) => Action::Serve(Decision::Stale, Source::Copy),
        Some(answer) => answer,
        None => Action::Refuse(Reason::NotInCache),
    }
}

/// A plain read.
pub(super) fn read(facts: &Facts, policy: &Policy) -> Action {
    if let Some(probe) = facts.probe {
        return after_probe(probe, facts, policy);
    }
    match facts.copy.and_then(|copy| copy.answers(&facts.want, policy)) {
        Some(Action::ServeStale) if just_failed(facts, policy) => Action::Serve(Decision::Stale, Source::Copy),
        Some(answer) => answer,
        None if facts.in_flight => Action::Join,
        None if backs_off(facts, policy) => stale_or(Reason::Upstream, facts, policy),
        None => Action::Probe,
    }
}

/// Whether a look for the number failed a moment ago: the next one waits.
fn just_failed(facts: &Facts, policy: &Policy) -> bool {
    facts.look_failed_ago.is_some_and(|ago| ago < policy.error_ttl)
}

/// Whether a copy does in place of a look that would fail again: `no-cache` looks all the same.
fn backs_off(facts: &Facts, policy: &Policy) -> bool {
    just_failed(facts, policy) && !facts.want.no_cache && facts.copy.is_some_and(|copy| stands_in(&copy, policy))
}

fn after_probe(probe: Probe, facts: &Facts, policy: &Policy) -> Action {
    let paid_null = facts.copy.is_some_and(|copy| copy.kind == Kind::Null) && keeps_null(facts, policy);
    match probe {
        Probe::Data(age) if is_newer(age, facts, policy) => Action::Serve(Decision::Recovered, Source::Probe),
        Probe::Data(_) if facts.copy.is_some() => Action::Serve(Decision::Revalidated, Source::Probe),
        Probe::Data(_) => Action::Serve(Decision::Probe, Source::Probe),
        Probe::Missing => Action::Serve(Decision::NotFound, Source::Probe),
        Probe::Null if serves_null(facts, policy) => Action::Serve(Decision::Null, Source::Probe),
        Probe::Refused => Action::Refuse(Reason::Upstream),
        Probe::Failed => stale_or(Reason::Upstream, facts, policy),
        Probe::Inconclusive if paid_null => Action::Serve(Decision::Null, Source::Copy),
        Probe::Inconclusive if !facts.want.may_bill => stale_or(Reason::Upstream, facts, policy),
        Probe::Null | Probe::Inconclusive if facts.in_flight => Action::Join,
        Probe::Null | Probe::Inconclusive if barred(facts, policy) => refuse(Reason::OutcomeUnknown, facts, policy),
        Probe::Null | Probe::Inconclusive => Action::Buy(Billable::FirstTouch),
    }
}

/// Whether a null record is the answer: by policy, by the request's own wish, or because that null was paid for a short while ago.
fn serves_null(facts: &Facts, policy: &Policy) -> bool {
    keeps_null(facts, policy) || !facts.want.may_bill
}

/// Whether a null record from the free list may be kept as the number's answer.
pub fn keeps_null(facts: &Facts, policy: &Policy) -> bool {
    policy.first_touch == FirstTouch::Free || facts.paid_ago.is_some_and(|ago| ago < policy.null_ttl.max(facts.want.retries()))
}

/// A free read that failed is answered with the copy, whatever the policy for refusals.
fn stale_or(reason: Reason, facts: &Facts, policy: &Policy) -> Action {
    match facts.copy {
        Some(copy) if stands_in(&copy, policy) => Action::Serve(Decision::Stale, Source::Copy),
        _ => Action::Refuse(reason),
    }
}

pub(super) fn stands_in(copy: &Copy, policy: &Policy) -> bool {
    match copy.kind {
        Kind::Data | Kind::Null => copy.within(policy.stale_if_error),
        Kind::Missing => copy.is_fresh(),
    }
}
