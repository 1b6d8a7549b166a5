//! What a read would come to, without doing any of it: the same steps as a request takes, along every way that a look upstream could open.

use std::time::Duration;

use super::decide::{Action, Facts, Policy, Probe, decide};
use super::decision::{Decision, Reason};
use super::pricing::Billable;

/// The next action of a request. `due`: the upstream has to show by a free look that it answers again, before anything is bought there.
pub fn step(facts: &Facts, policy: &Policy, due: impl FnOnce() -> bool) -> Action {
    match decide(facts, policy) {
        Action::Buy(_) if facts.probe.is_none() && due() => Action::Probe,
        action => action,
    }
}

/// What may come of an action that is no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The free list was looked at.
    Looked(Probe),
    /// The purchase would be refused as things stand.
    Denied(Reason),
}

/// An action, and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// What would be done.
    pub action: Action,
    /// What would be done then; nothing after an end, after a wait, and after a purchase that nothing stands against.
    pub then: Vec<(Event, Outlook)>,
}

/// What a look may show. Only whether data is young matters, so there are two ages of it.
pub const PROBES: [Probe; 7] = [
    Probe::Data(Some(Duration::ZERO)),
    Probe::Data(Some(Duration::MAX)),
    Probe::Null,
    Probe::Missing,
    Probe::Inconclusive,
    Probe::Refused,
    Probe::Failed,
];

/// The whole tree. `denial` tells what would refuse a purchase now.
pub fn outlook(facts: &Facts, policy: &Policy, due: bool, denial: &impl Fn(Billable) -> Option<Reason>) -> Outlook {
    let action = step(facts, policy, || due);
    let after = |event: Event| (event, outlook(&after(facts, event), policy, due, denial));
    let then = match action {
        Action::Probe => PROBES.into_iter().map(|probe| after(Event::Looked(probe))).collect(),
        Action::Buy(operation) => denial(operation).map(|reason| after(Event::Denied(reason))).into_iter().collect(),
        Action::Serve(..) | Action::ServeStale | Action::Join | Action::Refuse(_) => Vec::new(),
    };
    Outlook { action, then }
}

/// What is known after an event.
fn after(facts: &Facts, event: Event) -> Facts {
    match event {
        Event::Looked(probe) => Facts { probe: Some(probe), ..*facts },
        Event::Denied(reason) => Facts { refused: Some(reason), ..*facts },
    }
}

impl Event {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Looked(Probe::Data(Some(Duration::ZERO))) => "data_new",
            Self::Looked(Probe::Data(_)) => "data_old",
            Self::Looked(Probe::Null) => "null",
            Self::Looked(Probe::Missing) => "missing",
            Self::Looked(Probe::Inconclusive) => "inconclusive",
            Self::Looked(Probe::Refused) => "refused",
            Self::Looked(Probe::Failed) => "failed",
            Self::Denied(_) => "denied",
        }
    }

    /// What a look did show: of what one may show, the data's ages are only examples.
    pub fn shows(self) -> &'static str {
        match self {
            Self::Looked(Probe::Data(_)) => "data",
            event => event.as_str(),
        }
    }
}

/// The rule behind an action, in a sentence's part.
pub fn rule(action: Action) -> &'static str {
    match action {
        Action::ServeStale => {
            "the copy is stale within stale_while_revalidate, or the request takes it so: served, and renewed by a free look"
        }
        Action::Probe => "no copy does for this request, or money could be spent needlessly: the free list is looked at",
        Action::Join => "a billable call for the number is under way: its answer is waited for",
        Action::Buy(Billable::FirstTouch) => "Telnyx has no data for the number, or does not tell: its plain GET is bought",
        Action::Buy(_) => "nothing that is known is young enough: a check is bought",
        Action::Refuse(reason) => refusal(reason),
        Action::Serve(decision, _) => served(decision),
    }
}

fn refusal(reason: Reason) -> &'static str {
    match reason {
        Reason::NotPermitted => "the caller may not ask for fresh data",
        Reason::RateLimited => "a rate limit has nothing left",
        Reason::BudgetExhausted => "a budget has no room, or none applies",
        Reason::Stopped => "all billable work is stopped",
        Reason::LedgerUnavailable => "the ledger cannot be written",
        Reason::OutcomeUnknown => "a call of unknown outcome is younger than fresh.unknown_window",
        Reason::NotInCache => "only a copy was wanted, and none does",
        Reason::Upstream => "Telnyx, or the way there, fails or refuses",
    }
}

fn served(decision: Decision) -> &'static str {
    match decision {
        Decision::Hit => "the copy is fresh",
        Decision::Stale => "the copy stands in: the request takes it so, or a look fails, or one failed within cache.error_ttl",
        Decision::Null => "there is no data, and asking again may not cost anything or was paid for",
        Decision::NotFound => "there is no such number",
        Decision::Cooldown => "what is stored is young enough, or was paid for within that time",
        Decision::Recovered => "the data is newer than a call of unknown outcome, which so was carried out",
        Decision::Revalidated | Decision::Probe => "the look found data",
        _ => "what there is stands in for what is refused",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::decide::tests::{any_facts, policy};
    use super::super::decide::{FirstTouch, OnDenied};
    use super::*;

    /// A request's own way, as the pipeline goes it.
    fn request(mut facts: Facts, policy: &Policy, due: bool, probe: Probe, denial: Option<Reason>) -> Vec<Action> {
        let mut taken = Vec::new();
        loop {
            taken.push(step(&facts, policy, || due));
            match (taken.last(), denial) {
                (Some(Action::Probe), _) => facts.probe = Some(probe),
                (Some(Action::Buy(_)), Some(reason)) => facts.refused = Some(reason),
                _ => return taken,
            }
            assert!(taken.len() < 8, "{taken:?}");
        }
    }

    /// The same way through the tree.
    fn foretold(mut outlook: &Outlook, probe: Probe) -> Vec<Action> {
        let mut told = vec![outlook.action];
        while let Some((_, next)) =
            outlook.then.iter().find(|(event, _)| *event == Event::Looked(probe) || matches!(event, Event::Denied(_)))
        {
            told.push(next.action);
            outlook = next;
        }
        told
    }

    proptest! {
        #[test]
        fn what_is_foretold_for_a_look_is_what_a_request_does(
            facts in any_facts(), due: bool, free: bool, rejects: bool, probe in prop::sample::select(PROBES.to_vec()),
            denial in prop::option::of(prop::sample::select(vec![Reason::BudgetExhausted, Reason::Stopped, Reason::Upstream])),
        ) {
            let first_touch = if free { FirstTouch::Free } else { FirstTouch::Bill };
            let on_denied = if rejects { OnDenied::Reject } else { OnDenied::Cached };
            let policy = Policy { on_denied, first_touch, ..policy() };
            let tree = outlook(&facts, &policy, due, &|_| denial);
            prop_assert_eq!(foretold(&tree, probe), request(facts, &policy, due, probe, denial));
        }
    }
}
