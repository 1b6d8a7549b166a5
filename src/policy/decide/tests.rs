//! The tables row by row, and what holds for every row.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

pub(in crate::policy) fn policy() -> Policy {
    Policy {
        min_age: HOUR,
        unknown_window: 2 * MINUTE,
        on_denied: OnDenied::Cached,
        first_touch: FirstTouch::Bill,
        stale_while_revalidate: 10 * MINUTE,
        stale_if_error: 24 * HOUR,
        error_ttl: 10 * SECOND,
        null_ttl: 6 * HOUR,
    }
}

fn plain() -> Facts {
    Facts { want: Want { may_bill: true, ..Want::default() }, may_fresh: true, memory: Duration::MAX, ..Facts::default() }
}

fn fresh() -> Facts {
    Facts { want: Want { fresh: true, ..plain().want }, ..plain() }
}

fn copy(kind: Kind, age: Duration) -> Option<Copy> {
    Some(Copy { kind, age, lifetime: HOUR, data_age: Some(age + 2 * HOUR), outdated: false })
}

fn decided(facts: Facts) -> Action {
    decide(&facts, &policy())
}

#[test]
fn a_plain_read_is_answered_from_what_is_at_hand_or_looks_at_the_list() {
    use Action::{Probe, Serve, ServeStale};
    for (at_hand, action) in [
        (copy(Kind::Data, MINUTE), Serve(Decision::Hit, Source::Copy)),
        (copy(Kind::Null, MINUTE), Serve(Decision::Null, Source::Copy)),
        (copy(Kind::Missing, MINUTE), Serve(Decision::NotFound, Source::Copy)),
        (copy(Kind::Data, HOUR + MINUTE), ServeStale),
        (copy(Kind::Null, HOUR + MINUTE), Probe),
        (copy(Kind::Missing, HOUR + MINUTE), Probe),
        (copy(Kind::Data, 2 * HOUR), Probe),
        (None, Probe),
    ] {
        assert_eq!(decided(Facts { copy: at_hand, ..plain() }), action, "{at_hand:?}");
    }
    assert_eq!(decided(Facts { in_flight: true, ..plain() }), Action::Join);
}

#[test]
fn a_client_says_how_fresh_a_copy_has_to_be_for_it() {
    use Action::{Probe, Serve, ServeStale};
    let (hit, stale) = (Serve(Decision::Hit, Source::Copy), Serve(Decision::Stale, Source::Copy));
    let (young, old, oldest) = (copy(Kind::Data, 50 * MINUTE), copy(Kind::Data, 65 * MINUTE), copy(Kind::Data, 90 * MINUTE));
    let none = Want::default();
    let max_age = |minutes| Want { max_age: Some(minutes * MINUTE), ..none };
    let min_fresh = |minutes| Want { min_fresh: Some(minutes * MINUTE), ..none };
    let max_stale = |minutes| Want { max_stale: Some(minutes * MINUTE), ..none };
    for (at_hand, want, action, cached_only) in [
        (young, max_age(50), hit, hit),
        (young, max_age(49), Probe, Action::Refuse(Reason::NotInCache)),
        (young, min_fresh(9), hit, hit),
        (young, min_fresh(10), Probe, Action::Refuse(Reason::NotInCache)),
        (young, Want { min_fresh: Some(Duration::MAX), ..none }, Probe, Action::Refuse(Reason::NotInCache)),
        (old, none, ServeStale, stale),
        (old, max_age(70), Probe, Action::Refuse(Reason::NotInCache)),
        (old, Want { max_stale: Some(6 * MINUTE), ..max_age(70) }, ServeStale, stale),
        (old, max_stale(5), Probe, Action::Refuse(Reason::NotInCache)),
        (oldest, none, Probe, Action::Refuse(Reason::NotInCache)),
        (oldest, max_stale(31), stale, stale),
        (oldest, max_stale(30), Probe, Action::Refuse(Reason::NotInCache)),
        (oldest, Want { max_stale: Some(Duration::MAX), ..none }, stale, stale),
        (oldest, Want { no_cache: true, ..max_stale(60) }, Probe, Action::Refuse(Reason::NotInCache)),
        (oldest.map(|copy| Copy { outdated: true, ..copy }), max_stale(60), Probe, Action::Refuse(Reason::NotInCache)),
    ] {
        let facts = Facts { copy: at_hand, want: Want { may_bill: true, ..want }, ..plain() };
        assert_eq!(decided(facts), action, "{facts:?}");
        let facts = Facts { want: Want { only_if_cached: true, ..facts.want }, ..facts };
        assert_eq!(decided(facts), cached_only, "{facts:?}");
    }
}

#[test]
fn a_look_at_the_list_ends_a_plain_read_or_leads_to_its_first_touch() {
    let old = copy(Kind::Data, 2 * HOUR);
    for (probe, at_hand, action) in [
        (Probe::Data(None), None, Action::Serve(Decision::Probe, Source::Probe)),
        (Probe::Data(None), old, Action::Serve(Decision::Revalidated, Source::Probe)),
        (Probe::Missing, None, Action::Serve(Decision::NotFound, Source::Probe)),
        (Probe::Null, None, Action::Buy(Billable::FirstTouch)),
        (Probe::Inconclusive, None, Action::Buy(Billable::FirstTouch)),
        (Probe::Failed, None, Action::Refuse(Reason::Upstream)),
        (Probe::Failed, old, Action::Serve(Decision::Stale, Source::Copy)),
        (Probe::Failed, copy(Kind::Data, 26 * HOUR), Action::Refuse(Reason::Upstream)),
    ] {
        assert_eq!(decided(Facts { probe: Some(probe), copy: at_hand, ..plain() }), action, "{probe:?} {at_hand:?}");
    }
}

#[test]
fn a_null_that_was_paid_for_is_not_paid_for_again() {
    let null = Facts { probe: Some(Probe::Null), ..plain() };
    assert_eq!(decided(Facts { paid_ago: Some(5 * HOUR), ..null }), Action::Serve(Decision::Null, Source::Probe));
    assert_eq!(decided(Facts { paid_ago: Some(7 * HOUR), ..null }), Action::Buy(Billable::FirstTouch));
    assert_eq!(decided(Facts { unknown_ago: Some(MINUTE), ..null }), Action::Refuse(Reason::OutcomeUnknown));
    let free = Policy { first_touch: FirstTouch::Free, ..policy() };
    assert_eq!(decide(&null, &free), Action::Serve(Decision::Null, Source::Probe));
}

#[test]
fn fresh_keeps_money_in_the_order_of_the_table() {
    let old = copy(Kind::Data, MINUTE);
    let young = Some(Copy { data_age: Some(MINUTE), ..old.expect("a copy") });
    let everything = Facts { may_fresh: false, copy: young, in_flight: true, unknown_ago: Some(MINUTE), ..fresh() };
    assert_eq!(decided(everything), Action::Serve(Decision::NotPermitted, Source::Copy));
    assert_eq!(decided(Facts { may_fresh: true, ..everything }), Action::Serve(Decision::Cooldown, Source::Copy));
    assert_eq!(decided(Facts { may_fresh: true, copy: old, ..everything }), Action::Join);
    assert_eq!(decided(Facts { may_fresh: true, copy: old, in_flight: false, ..everything }), Action::Probe);
    assert_eq!(decided(Facts { copy: old, ..fresh() }), Action::Buy(Billable::Fresh));
    assert_eq!(decided(Facts { copy: copy(Kind::Missing, MINUTE), ..fresh() }), Action::Buy(Billable::Fresh));
}

#[test]
fn an_unknown_outcome_is_recovered_by_newer_data_and_else_bars_another_call() {
    let unknown = Facts { unknown_ago: Some(MINUTE), copy: None, ..fresh() };
    let probed = |probe| Facts { probe: Some(probe), ..unknown };
    assert_eq!(decided(probed(Probe::Data(Some(MINUTE)))), Action::Serve(Decision::Recovered, Source::Probe));
    assert_eq!(decided(probed(Probe::Data(Some(3 * HOUR)))), Action::Serve(Decision::OutcomeUnknown, Source::Probe));
    assert_eq!(decided(probed(Probe::Failed)), Action::Refuse(Reason::OutcomeUnknown));
    let later = Facts { unknown_ago: Some(3 * MINUTE), ..unknown };
    assert_eq!(decided(later), Action::Probe, "what may have been paid for is looked for before it is paid for");
    assert_eq!(decided(Facts { probe: Some(Probe::Data(Some(3 * HOUR))), ..later }), Action::Buy(Billable::Fresh));
    assert_eq!(decided(Facts { probe: Some(Probe::Failed), ..later }), Action::Refuse(Reason::Upstream));
    let impatient = Policy { min_age: Duration::ZERO, ..policy() };
    assert_eq!(decide(&probed(Probe::Data(Some(MINUTE))), &impatient), Action::Serve(Decision::Recovered, Source::Probe));
}

#[test]
fn what_was_paid_for_and_lost_is_read_for_nothing() {
    let paid = Facts { paid_ago: Some(MINUTE), ..fresh() };
    assert_eq!(decided(paid), Action::Probe);
    assert_eq!(decided(Facts { probe: Some(Probe::Data(None)), ..paid }), Action::Serve(Decision::Cooldown, Source::Probe));
    assert_eq!(decided(Facts { probe: Some(Probe::Null), ..paid }), Action::Serve(Decision::Cooldown, Source::Probe));
    assert_eq!(decided(Facts { probe: Some(Probe::Failed), ..paid }), Action::Refuse(Reason::Upstream));
    assert_eq!(decided(Facts { paid_ago: Some(2 * HOUR), ..paid }), Action::Buy(Billable::Fresh));
}

#[test]
fn who_cannot_remember_looks_before_paying() {
    let young = Facts { memory: MINUTE, ..fresh() };
    assert_eq!(decided(young), Action::Probe);
    assert_eq!(decided(Facts { probe: Some(Probe::Data(Some(MINUTE))), ..young }), Action::Serve(Decision::Cooldown, Source::Probe));
    assert_eq!(decided(Facts { probe: Some(Probe::Data(Some(2 * HOUR))), ..young }), Action::Buy(Billable::Fresh));
}

#[test]
fn an_inconclusive_look_opens_no_way_round_the_bars() {
    let paid_and_unknown = Facts { paid_ago: Some(30 * MINUTE), unknown_ago: Some(MINUTE), probe: Some(Probe::Inconclusive), ..fresh() };
    assert_eq!(decided(paid_and_unknown), Action::Refuse(Reason::OutcomeUnknown));
    let paid_null = Facts { paid_ago: Some(HOUR), copy: copy(Kind::Null, MINUTE), probe: Some(Probe::Inconclusive), ..plain() };
    assert_eq!(decided(paid_null), Action::Serve(Decision::Null, Source::Copy));
}

#[test]
fn after_a_look_that_failed_a_copy_that_stands_in_is_served_without_another_for_a_while() {
    use Action::{Probe, Serve, ServeStale};
    let (stale, failed) = (Serve(Decision::Stale, Source::Copy), |seconds| Some(seconds * SECOND));
    let (old, swr, want) = (copy(Kind::Data, 2 * HOUR), copy(Kind::Data, HOUR + MINUTE), plain().want);
    let outdated = old.map(|copy| Copy { outdated: true, ..copy });
    for (at_hand, want, look_failed_ago, action) in [
        (old, want, None, Probe),
        (old, want, failed(9), stale),
        (old, want, failed(10), Probe),
        (copy(Kind::Null, 2 * HOUR), want, failed(9), stale),
        (outdated, want, failed(9), stale),
        (old, Want { max_age: Some(MINUTE), ..want }, failed(9), stale),
        (old, Want { no_cache: true, ..want }, failed(9), Probe),
        (swr, want, failed(10), ServeStale),
        (swr, want, failed(9), stale),
        (copy(Kind::Data, MINUTE), want, failed(9), Serve(Decision::Hit, Source::Copy)),
        (copy(Kind::Data, 26 * HOUR), want, failed(9), Probe),
        (copy(Kind::Missing, 2 * HOUR), want, failed(9), Probe),
        (None, want, failed(9), Probe),
        (old, Want { only_if_cached: true, ..want }, failed(9), Action::Refuse(Reason::NotInCache)),
        (old, fresh().want, failed(9), Action::Buy(Billable::Fresh)),
    ] {
        let facts = Facts { copy: at_hand, want, look_failed_ago, ..plain() };
        assert_eq!(decided(facts), action, "{facts:?}");
    }
    let joins = Facts { copy: old, in_flight: true, look_failed_ago: failed(9), ..plain() };
    assert_eq!(decided(joins), Action::Join, "a purchase under way may bring better");
    let never = Policy { error_ttl: Duration::ZERO, ..policy() };
    assert_eq!(decide(&Facts { in_flight: false, look_failed_ago: failed(0), ..joins }, &never), Probe);
}

#[test]
fn a_copy_does_not_stand_in_for_what_telnyx_refuses() {
    let old = Facts { copy: copy(Kind::Data, 2 * HOUR), probe: Some(Probe::Refused), ..plain() };
    assert_eq!(decided(old), Action::Refuse(Reason::Upstream));
}

#[test]
fn what_may_have_been_renewed_is_looked_for_and_its_copy_only_stands_in() {
    let outdated = |age| copy(Kind::Data, age).map(|copy| Copy { lifetime: MINUTE, outdated: true, ..copy });
    assert_eq!(decided(Facts { copy: outdated(2 * MINUTE), ..plain() }), Action::Probe, "not stale while a read renews it");
    let failed = Facts { copy: outdated(2 * MINUTE), probe: Some(Probe::Failed), ..plain() };
    assert_eq!(decided(failed), Action::Serve(Decision::Stale, Source::Copy));
    let young = outdated(MINUTE).map(|copy| Copy { data_age: Some(MINUTE), ..copy });
    let paid = Facts { copy: young, paid_ago: Some(MINUTE), ..fresh() };
    assert_eq!(decided(paid), Action::Probe, "what was paid for is newer than the copy");
    let unpaid = Facts { copy: young, ..fresh() };
    assert_eq!(decided(unpaid), Action::Probe, "what is stored may be as young still");
    let still = |age| decided(Facts { probe: Some(Probe::Data(Some(age))), ..unpaid });
    assert_eq!(still(MINUTE), Action::Serve(Decision::Cooldown, Source::Probe));
    assert_eq!(still(HOUR), Action::Buy(Billable::Fresh));
    let only_cached = Facts { want: Want { only_if_cached: true, ..plain().want }, copy: young, ..plain() };
    assert_eq!(decided(only_cached), Action::Refuse(Reason::NotInCache));
}

#[test]
fn the_callers_own_age_makes_a_longer_cooldown_and_never_a_shorter_one() {
    let old = copy(Kind::Data, MINUTE);
    let aged = |hours: u64| Facts { want: Want { max_age: Some(Duration::from_hours(hours)), ..fresh().want }, copy: old, ..fresh() };
    assert_eq!(decided(aged(3)), Action::Serve(Decision::Cooldown, Source::Copy));
    assert_eq!(decided(aged(0)), Action::Buy(Billable::Fresh));
}

#[test]
fn a_refusal_is_answered_from_the_copy_unless_somebody_wants_the_error() {
    let refused = Facts { refused: Some(Reason::BudgetExhausted), copy: copy(Kind::Data, MINUTE), ..fresh() };
    assert_eq!(decided(refused), Action::Serve(Decision::BudgetExhausted, Source::Copy));
    assert_eq!(decided(Facts { copy: None, ..refused }), Action::Refuse(Reason::BudgetExhausted));
    let strict = Facts { want: Want { strict: true, ..refused.want }, ..refused };
    assert_eq!(decided(strict), Action::Refuse(Reason::BudgetExhausted));
    let reject = Policy { on_denied: OnDenied::Reject, ..policy() };
    assert_eq!(decide(&refused, &reject), Action::Refuse(Reason::BudgetExhausted));
    let unseen = Facts { probe: Some(Probe::Null), copy: None, want: plain().want, ..refused };
    assert_eq!(decided(unseen), Action::Refuse(Reason::BudgetExhausted), "a number that was never checked is no answer to a read");
}

#[test]
fn a_request_that_may_not_bill_gets_what_is_free() {
    let free = Facts { want: Want { fresh: true, may_bill: false, no_cache: true, ..Want::default() }, ..plain() };
    assert_eq!(decided(Facts { copy: copy(Kind::Data, MINUTE), ..free }), Action::Probe);
    assert_eq!(decided(Facts { probe: Some(Probe::Null), ..free }), Action::Serve(Decision::Null, Source::Probe));
    assert_eq!(decided(Facts { probe: Some(Probe::Inconclusive), ..free }), Action::Refuse(Reason::Upstream));
}

#[test]
fn a_client_librarys_retry_never_pays_again_for_the_same_intent() {
    let forgetful = Policy { min_age: Duration::ZERO, unknown_window: Duration::ZERO, null_ttl: Duration::ZERO, ..policy() };
    let again = |facts: Facts| Facts { want: Want { retry: true, ..facts.want }, ..facts };
    let paid = Facts { paid_ago: Some(MINUTE), copy: copy(Kind::Data, MINUTE), ..fresh() };
    assert_eq!(decide(&paid, &forgetful), Action::Buy(Billable::Fresh), "a new intent");
    assert_eq!(decide(&again(paid), &forgetful), Action::Serve(Decision::Cooldown, Source::Copy));
    let unknown = Facts { unknown_ago: Some(10 * MINUTE), probe: Some(Probe::Null), ..fresh() };
    assert_eq!(decide(&unknown, &forgetful), Action::Buy(Billable::Fresh), "a new intent");
    assert_eq!(decide(&again(unknown), &forgetful), Action::Refuse(Reason::OutcomeUnknown));
    assert_eq!(decide(&again(Facts { probe: None, ..unknown }), &forgetful), Action::Probe);
    let null = Facts { paid_ago: Some(MINUTE), probe: Some(Probe::Null), ..plain() };
    assert_eq!(decide(&null, &forgetful), Action::Buy(Billable::FirstTouch), "a new intent");
    assert_eq!(decide(&again(null), &forgetful), Action::Serve(Decision::Null, Source::Probe));
    assert_eq!(decide(&again(fresh()), &forgetful), Action::Buy(Billable::Fresh), "the first attempt was never sent");
}

fn ages() -> impl Strategy<Value = Duration> {
    (0..30_u64 * 60).prop_map(Duration::from_mins)
}

fn any_copy() -> impl Strategy<Value = Copy> {
    let kinds = prop_oneof![Just(Kind::Data), Just(Kind::Null), Just(Kind::Missing)];
    let facts = (kinds, ages(), ages(), proptest::option::of(ages()), any::<bool>());
    facts.prop_map(|(kind, age, lifetime, data_age, outdated)| Copy { kind, age, lifetime, data_age, outdated })
}

fn any_probe() -> impl Strategy<Value = Probe> {
    let data = proptest::option::of(ages()).prop_map(Probe::Data);
    prop_oneof![data, Just(Probe::Null), Just(Probe::Missing), Just(Probe::Inconclusive), Just(Probe::Refused), Just(Probe::Failed)]
}

fn any_bounds() -> impl Strategy<Value = [Option<Duration>; 3]> {
    let bound = || proptest::option::of(prop_oneof![4 => ages(), 1 => Just(Duration::MAX)]);
    [bound(), bound(), bound()]
}

prop_compose! {
    fn any_want()(flags in any::<[bool; 7]>(), bounds in any_bounds()) -> Want {
        let [fresh, may_bill, no_cache, no_store, only_if_cached, strict, retry] = flags;
        let [max_age, min_fresh, max_stale] = bounds;
        Want { fresh, may_bill, no_cache, only_if_cached, max_age, min_fresh, max_stale, no_store, strict, retry }
    }
}

prop_compose! {
    pub(in crate::policy) fn any_facts()(
        want in any_want(),
        flags in any::<[bool; 2]>(),
        copy in proptest::option::of(any_copy()),
        paid_ago in proptest::option::of(ages()),
        unknown_ago in proptest::option::of(ages()),
        memory in ages(),
        look_failed_ago in proptest::option::of((0..20_u64).prop_map(Duration::from_secs)),
    ) -> Facts {
        let [may_fresh, in_flight] = flags;
        Facts { want, may_fresh, copy, paid_ago, unknown_ago, memory, in_flight, look_failed_ago, probe: None, refused: None }
    }
}

proptest! {
    #[test]
    fn nothing_but_the_copy_makes_a_plain_read_a_hit(known in any_facts()) {
        let facts = Facts { want: plain().want, probe: None, refused: None, ..known };
        let by_copy = facts.copy.is_some_and(|copy| is_hit(&copy, &policy()));
        prop_assert_eq!(by_copy, decided(facts) == Action::Serve(Decision::Hit, Source::Copy));
    }

    #[test]
    fn asking_again_ends_and_money_moves_only_where_it_may(start in any_facts(), probe in any_probe()) {
        let policy = policy();
        let mut facts = start;
        for step in 0.. {
            prop_assert!(step < 4, "still undecided: {facts:?}");
            match decide(&facts, &policy) {
                Action::Probe => {
                    prop_assert!(facts.probe.is_none() && !facts.want.only_if_cached);
                    let just_failed = facts.look_failed_ago.is_some_and(|ago| ago < policy.error_ttl);
                    let spared = just_failed && !facts.want.no_cache && !facts.want.buys_fresh();
                    prop_assert!(!spared || facts.copy.is_none_or(|copy| !stands_in(&copy, &policy)), "looked again: {facts:?}");
                    facts.probe = Some(probe);
                }
                Action::Buy(operation) => {
                    prop_assert!(facts.want.may_bill && !facts.want.only_if_cached && facts.refused.is_none());
                    prop_assert!(operation == Billable::FirstTouch || facts.want.fresh && facts.may_fresh);
                    if operation == Billable::Fresh {
                        prop_assert!(facts.paid_ago.is_none_or(|ago| ago >= policy.min_age.max(facts.want.retries())));
                    }
                    prop_assert!(facts.unknown_ago.is_none_or(|ago| ago >= policy.unknown_window.max(facts.want.retries())));
                    let young = policy.min_age.max(facts.want.max_age.unwrap_or_default()).max(facts.want.retries());
                    let resolved = facts.unknown_ago.is_none_or(|ago| ago >= young.max(policy.unknown_window));
                    prop_assert!(facts.probe.is_some() || resolved, "paid again without a look");
                    facts.refused = Some(Reason::BudgetExhausted);
                }
                Action::Serve(decision, Source::Copy) => {
                    prop_assert!(facts.copy.is_some(), "no copy to serve: {facts:?}");
                    let outdated = facts.copy.is_some_and(|copy| copy.outdated);
                    prop_assert!(!outdated || !matches!(decision, Decision::Hit | Decision::Cooldown), "served as fresh: {facts:?}");
                    break;
                }
                Action::Serve(_, Source::Probe) => {
                    prop_assert!(matches!(facts.probe, Some(Probe::Data(_) | Probe::Null | Probe::Missing)), "no look to serve: {facts:?}");
                    break;
                }
                Action::ServeStale => {
                    prop_assert!(facts.copy.is_some());
                    let just_failed = facts.look_failed_ago.is_some_and(|ago| ago < policy.error_ttl);
                    prop_assert!(!just_failed, "renewed: {facts:?}");
                    break;
                }
                Action::Join => {
                    prop_assert!(facts.in_flight && !facts.want.only_if_cached);
                    break;
                }
                Action::Refuse(_) => break,
            }
        }
    }
}
