//! What a refresh does about each of its numbers: values in, the next action out.
//!
//! A refresh of a number is a purchase like `fresh=true`, so it goes by the same facts and the same bars. It brings no record:
//! what was paid for needs no copy to be done with.

use std::time::Duration;

use super::decide::{Facts, Kind, Policy, Probe, barred, is_newer, unresolved, was_young, young};
use super::decision::{Decision, Reason};

/// What to do next about one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing has to be bought: a check would bring what is stored. Says why.
    Satisfied(Decision),
    /// Wait for the billable call under way, then ask again.
    Follow,
    /// Look at the list, then ask again.
    Look,
    /// It may not be bought now.
    Barred(Reason),
    /// Buy it.
    Buy,
}

impl Action {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Satisfied(_) => "done",
            Self::Follow => "join",
            Self::Look => "look",
            Self::Barred(_) => "refuse",
            Self::Buy => "buy",
        }
    }

    /// The rule behind it, in a sentence's part.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Satisfied(Decision::Recovered) => "the data is newer than a call of unknown outcome, which so was carried out",
            Self::Satisfied(Decision::Cooldown) => "what is stored is young enough, or was paid for within that time",
            Self::Satisfied(_) => "a check would bring what is stored",
            Self::Follow => "a billable call for the number is under way, and is waited for",
            Self::Look => "a call may have been paid for that is not remembered so: the free list is looked at",
            Self::Barred(Reason::OutcomeUnknown) => "a call of unknown outcome is younger than fresh.unknown_window",
            Self::Barred(_) => "the look that would tell what became of an earlier call failed",
            Self::Buy => "nothing that is known is young enough: a check is bought",
        }
    }
}

/// The next action for one number.
pub fn decide(facts: &Facts, policy: &Policy) -> Action {
    let young = young(facts, policy);
    let is_young = |age: Option<Duration>| age.is_some_and(|age| age < young);
    let paid = is_young(facts.paid_ago);
    let unknown = unresolved(facts, policy).is_some();
    match (facts.probe, facts.copy) {
        (Some(Probe::Data(age)), _) if is_newer(age, facts, policy) => return Action::Satisfied(Decision::Recovered),
        (Some(Probe::Data(age)), _) if is_young(age) => return Action::Satisfied(Decision::Cooldown),
        (None, Some(copy)) if !unknown && copy.kind == Kind::Data && !copy.outdated && is_young(copy.data_age) => {
            return Action::Satisfied(Decision::Cooldown);
        }
        _ if paid && (facts.probe.is_some() || !unknown) => return Action::Satisfied(Decision::Cooldown),
        _ => {}
    }
    if facts.in_flight {
        return Action::Follow;
    }
    match facts.probe {
        // A call that may have been paid for, and is not remembered as such.
        None if unknown || facts.memory < young || was_young(facts, policy) => Action::Look,
        _ if barred(facts, policy) => Action::Barred(Reason::OutcomeUnknown),
        Some(Probe::Failed | Probe::Refused) => Action::Barred(Reason::Upstream),
        _ => Action::Buy,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::decide::{Copy, FirstTouch, OnDenied, Want};
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const HOUR: Duration = Duration::from_hours(1);

    fn policy() -> Policy {
        Policy {
            min_age: HOUR,
            unknown_window: 2 * MINUTE,
            on_denied: OnDenied::Cached,
            first_touch: FirstTouch::Bill,
            stale_while_revalidate: 10 * MINUTE,
            stale_if_error: 24 * HOUR,
            error_ttl: Duration::ZERO,
            null_ttl: 6 * HOUR,
        }
    }

    fn wanted() -> Facts {
        Facts { want: Want { fresh: true, may_bill: true, ..Want::default() }, memory: Duration::MAX, ..Facts::default() }
    }

    fn data(data_age: Duration) -> Option<Copy> {
        Some(Copy { kind: Kind::Data, age: MINUTE, lifetime: HOUR, data_age: Some(data_age), outdated: false })
    }

    fn decided(facts: Facts) -> Action {
        decide(&facts, &policy())
    }

    #[test]
    fn what_is_young_or_paid_for_is_not_bought() {
        const DONE: Action = Action::Satisfied(Decision::Cooldown);
        assert_eq!(decided(Facts { copy: data(MINUTE), ..wanted() }), DONE);
        assert_eq!(decided(Facts { paid_ago: Some(MINUTE), ..wanted() }), DONE, "the copy may be gone");
        assert_eq!(decided(Facts { paid_ago: Some(MINUTE), in_flight: true, ..wanted() }), DONE);
        assert_eq!(decided(Facts { copy: data(HOUR), paid_ago: Some(HOUR), ..wanted() }), Action::Buy);
        let outdated = data(MINUTE).map(|copy| Copy { outdated: true, ..copy });
        assert_eq!(decided(Facts { copy: outdated, ..wanted() }), Action::Look, "what is stored may be as young still");
        let looked = |age| Facts { copy: outdated, probe: Some(Probe::Data(Some(age))), ..wanted() };
        assert_eq!((decided(looked(MINUTE)), decided(looked(HOUR))), (DONE, Action::Buy));
        let patient = Want { max_age: Some(3 * HOUR), ..wanted().want };
        assert_eq!(decided(Facts { want: patient, copy: data(2 * HOUR), ..wanted() }), DONE);
    }

    #[test]
    fn a_call_under_way_is_waited_for() {
        assert_eq!(decided(Facts { in_flight: true, copy: data(2 * HOUR), ..wanted() }), Action::Follow);
        assert_eq!(decided(Facts { in_flight: true, unknown_ago: Some(MINUTE), ..wanted() }), Action::Follow);
    }

    #[test]
    fn an_unknown_outcome_is_looked_for_and_else_bars() {
        let unknown = Facts { unknown_ago: Some(MINUTE), ..wanted() };
        let found = |probe| decided(Facts { probe: Some(probe), ..unknown });
        assert_eq!(decided(unknown), Action::Look);
        assert_eq!(decided(Facts { copy: data(MINUTE), paid_ago: Some(MINUTE), ..unknown }), Action::Look);
        assert_eq!(found(Probe::Data(Some(MINUTE))), Action::Satisfied(Decision::Recovered));
        for probe in [Probe::Data(Some(2 * HOUR)), Probe::Data(None), Probe::Null, Probe::Missing, Probe::Inconclusive, Probe::Failed] {
            assert_eq!(found(probe), Action::Barred(Reason::OutcomeUnknown), "{probe:?}");
        }
        let later = Facts { unknown_ago: Some(3 * MINUTE), ..wanted() };
        assert_eq!(decided(later), Action::Look, "what may have been paid for is looked for before it is paid for");
        assert_eq!(decided(Facts { probe: Some(Probe::Null), ..later }), Action::Buy);
        assert_eq!(decided(Facts { probe: Some(Probe::Failed), ..later }), Action::Barred(Reason::Upstream));
        let again = Facts { want: Want { retry: true, ..later.want }, probe: Some(Probe::Null), ..later };
        assert_eq!(decided(again), Action::Barred(Reason::OutcomeUnknown), "a client library's retry is the same intent");
    }

    #[test]
    fn who_cannot_remember_looks_before_paying() {
        let new = Facts { memory: MINUTE, ..wanted() };
        assert_eq!(decided(new), Action::Look);
        assert_eq!(decided(Facts { probe: Some(Probe::Data(Some(MINUTE))), ..new }), Action::Satisfied(Decision::Cooldown));
        assert_eq!(decided(Facts { probe: Some(Probe::Null), ..new }), Action::Buy);
    }

    fn ages() -> impl Strategy<Value = Duration> {
        (0..30_u64 * 60).prop_map(Duration::from_mins)
    }

    fn any_probe() -> impl Strategy<Value = Probe> {
        let data = proptest::option::of(ages()).prop_map(Probe::Data);
        prop_oneof![data, Just(Probe::Null), Just(Probe::Missing), Just(Probe::Inconclusive), Just(Probe::Refused), Just(Probe::Failed)]
    }

    prop_compose! {
        fn any_facts()(
            copy in proptest::option::of((ages(), any::<bool>())),
            paid_ago in proptest::option::of(ages()),
            unknown_ago in proptest::option::of(ages()),
            memory in ages(),
            flags in any::<[bool; 2]>(),
        ) -> Facts {
            let [in_flight, retry] = flags;
            let copy = copy.and_then(|(age, outdated)| data(age).map(|copy| Copy { outdated, ..copy }));
            Facts { want: Want { retry, ..wanted().want }, copy, paid_ago, unknown_ago, memory, in_flight, ..wanted() }
        }
    }

    proptest! {
        #[test]
        fn a_number_is_bought_only_where_fresh_data_of_it_would_be(facts in any_facts(), probe in any_probe()) {
            use super::super::decide::{self as reads, Action as Read};
            use super::super::pricing::Billable;

            let policy = policy();
            let facts = match decide(&facts, &policy) {
                Action::Look => Facts { probe: Some(probe), ..facts },
                _ => facts,
            };
            let action = decide(&facts, &policy);
            prop_assert!(action != Action::Look, "looked for twice: {facts:?}");
            prop_assert!(action != Action::Follow || facts.in_flight);
            if action == Action::Buy {
                prop_assert!(!facts.in_flight);
                let read = reads::decide(&Facts { may_fresh: true, ..facts }, &policy);
                prop_assert_eq!(read, Read::Buy(Billable::Fresh), "{:?}", facts);
            }
        }
    }
}
