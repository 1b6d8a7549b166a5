//! `fresh=true`: permission, age, calls under way, unknown outcomes, limits, budgets, and only then a purchase.

use std::time::Duration;

use futures_util::future::join_all;
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{Fault, Kind, Operation};

use crate::harness::{Ask, BUDGET, ENTERPRISE, NULL, STORED, UNCHECKED, World, unchecked};

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_fresh_answer_is_billed_once_and_then_young_enough() {
    let world = World::new().await;
    let bought = world.fresh(STORED).await;
    assert_eq!(
        (bought.outcome(), bought.header("x-gateway-billed"), bought.header("x-gateway-cost-usd")),
        ((200, "billed"), "yes", "0.10")
    );
    let again = world.fresh(STORED).await;
    assert_eq!((again.outcome(), again.header("x-gateway-billed"), again.header("x-gateway-cost-usd")), ((200, "cooldown"), "no", "0.00"));
    assert_eq!(again.body, bought.body);
    assert_eq!(world.read(STORED).await.outcome(), (200, "hit"));
    world.turn(61 * MINUTE);
    assert_eq!(world.fresh(STORED).await.outcome(), (200, "billed"));
    assert_eq!(world.charged(), "0.20");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_callers_of_one_number_half_of_whom_leave_pay_once() {
    let world = World::gated(BUDGET, |_| {}).await;
    world.gate.close();
    let path = format!("/v2/reputation/numbers/{STORED}?fresh=true");
    let mut callers: Vec<_> = (0..200).map(|_| tokio::spawn(world.ask(&path).send())).collect();
    world.reached(1).await;
    for leaving in callers.drain(..100) {
        leaving.abort();
        assert!(leaving.await.is_err_and(|left| left.is_cancelled()), "answered before the upstream was");
    }
    world.gate.open();
    for answer in join_all(callers).await {
        let answer = answer.expect("nothing panics");
        assert_eq!(answer.status, 200);
        assert!(["billed", "collapsed", "cooldown"].contains(&answer.header("x-gateway-decision")), "{answer:?}");
    }
    assert_eq!((world.charged().as_str(), world.charges().count), ("0.10", 1));
}

#[tokio::test]
async fn a_caller_who_leaves_neither_cancels_nor_repeats_the_call() {
    let world = World::gated(BUDGET, |_| {}).await;
    world.gate.close();
    let leaving = tokio::spawn(world.ask(&format!("/v2/reputation/numbers/{UNCHECKED}?fresh=true")).send());
    world.reached(1).await;
    leaving.abort();
    assert!(leaving.await.is_err_and(|left| left.is_cancelled()), "answered before the upstream was");
    let (later, ()) = tokio::join!(world.fresh(UNCHECKED), async { world.gate.open() });
    assert!(["collapsed", "cooldown"].contains(&later.header("x-gateway-decision")), "{later:?}");
    assert_eq!(world.charged(), "0.10");
    let abandoned = "reputation_gateway_requests_total{caller=\"anonymous\",decision=\"abandoned\",operation=\"retrieve\"}";
    while world.metric(abandoned).await == "0" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_plain_read_joins_a_call_under_way() {
    let world = World::new().await;
    world.fault(Fault::new(Kind::Latency).query_contains("fresh=true").delay(Duration::from_secs(1)));
    let (bought, joined) = tokio::join!(world.fresh(UNCHECKED), async {
        world.reached(1).await;
        world.read(UNCHECKED).await
    });
    assert_eq!((bought.outcome(), joined.outcome()), ((200, "billed"), (200, "collapsed")));
    assert_eq!(joined.header("x-gateway-cost-usd"), "0.00");
    assert_eq!((world.charged().as_str(), world.sent()), ("0.10", 1));
}

#[tokio::test]
async fn what_was_paid_for_before_a_restart_is_read_for_nothing() {
    let mut world = World::new().await;
    let bought = world.fresh(UNCHECKED).await;
    world.stop().await;
    world.restart().await;
    let again = world.fresh(UNCHECKED).await;
    assert_eq!((again.outcome(), &again.json()["data"]), ((200, "cooldown"), &bought.json()["data"]));
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_recovered_by_a_free_look() {
    for kind in [Kind::ResetAfterBilling, Kind::Cut, Kind::StatusAfterBilling] {
        let world = World::new().await;
        world.fault(Fault::new(kind));
        let answer = world.fresh(UNCHECKED).await;
        assert_eq!((answer.outcome(), answer.header("x-gateway-billed")), ((200, "recovered"), "yes"), "{kind:?}");
        assert_eq!(world.fresh(UNCHECKED).await.outcome(), (200, "cooldown"), "{kind:?}");
        assert_eq!((world.charged().as_str(), world.charges().operation(Operation::Fresh).count), ("0.10", 1), "{kind:?}");
        assert_eq!(world.metric("reputation_gateway_holds_total{end=\"assumed\"}").await, "1", "{kind:?}");
    }
}

#[tokio::test]
async fn a_call_of_unknown_outcome_is_not_sent_again() {
    for kind in [Kind::Reset, Kind::Status] {
        let world = World::new().await;
        world.fault(Fault::new(kind));
        for (billed, cost) in [("unknown", "0.10"), ("no", "0.00"), ("no", "0.00")] {
            let answer = world.fresh(UNCHECKED).await;
            assert_eq!(answer.outcome(), (504, "outcome_unknown"), "{kind:?}");
            assert_eq!((answer.header("x-gateway-billed"), answer.header("x-gateway-cost-usd")), (billed, cost), "{kind:?}");
            assert_eq!((answer.code().as_str(), answer.header("x-should-retry")), ("outcome_unknown", "false"));
        }
        assert_eq!(world.charged(), "0.00", "{kind:?}");
        world.turn(2 * MINUTE);
        assert_eq!(world.fresh(UNCHECKED).await.outcome(), (200, "billed"), "{kind:?}");
        assert_eq!(world.charged(), "0.10", "{kind:?}");
    }
}

#[tokio::test]
async fn what_may_have_been_paid_for_is_looked_for_before_it_is_paid_again() {
    for restarted in [false, true] {
        let mut world = World::new().await;
        world.fault(Fault::new(Kind::StatusAfterBilling).query_contains("fresh=true"));
        world.fault(Fault::new(Kind::Status).query_contains("filter"));
        assert_eq!(world.fresh(UNCHECKED).await.outcome(), (504, "outcome_unknown"));
        world.turn(3 * MINUTE);
        if restarted {
            world.stop().await;
            world.restart().await;
        }
        world.resolved().await;
        assert_eq!(world.fresh(UNCHECKED).await.outcome(), (200, "cooldown"), "restarted: {restarted}");
        assert_eq!((world.charged().as_str(), world.charges().count), ("0.10", 1), "restarted: {restarted}");
    }
}

#[tokio::test]
async fn a_call_that_left_older_data_in_place_is_taken_back_without_anyone_asking() {
    let world = World::new().await;
    assert_eq!(world.fresh(UNCHECKED).await.outcome(), (200, "billed"));
    world.turn(Duration::from_hours(2));
    world.fault(Fault::new(Kind::Reset).path_contains("/numbers/"));
    assert_eq!(world.fresh(UNCHECKED).await.header("x-gateway-billed"), "unknown");
    assert_eq!(world.metric("reputation_gateway_budget_spent_usd{budget=\"all-day\"}").await, "0.2");
    world.turn(2 * MINUTE);
    world.resolved().await;
    assert_eq!(world.metric("reputation_gateway_budget_spent_usd{budget=\"all-day\"}").await, "0.1");
    assert_eq!(world.metric("reputation_gateway_taken_back_usd_total{caller=\"anonymous\"}").await, "0.1");
    assert_eq!(world.charged(), "0.10");
    assert_eq!(world.fresh(UNCHECKED).await.outcome(), (200, "billed"), "nothing bars it any more");
}

/// Asks until the metric has this value.
async fn until(world: &World, series: &str, value: &str) {
    while world.metric(series).await != value {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_look_that_began_while_the_call_could_take_effect_takes_nothing_back() {
    let world = World::gated(BUDGET, |_| {}).await;
    world.fault(Fault::new(Kind::Reset).query_contains("fresh"));
    assert_eq!(world.fresh(STORED).await.header("x-gateway-billed"), "unknown");
    world.turn(Duration::from_secs(119));
    world.gate.close();
    let sent = world.sent();
    let path = format!("/v2/reputation/numbers/{STORED}");
    let looking = tokio::spawn(world.ask(&path).header("cache-control", "no-cache").send());
    world.reached(sent + 1).await;
    // The stand-in has answered, and now the call takes effect after all.
    let late = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/{STORED}?fresh=true");
    assert_eq!(Ask::new(world.upstream(), &late).key("upstream-key").send().await.status, 200);
    world.turn(Duration::from_secs(2));
    world.gate.open();
    looking.await.expect("nothing panics");
    assert_eq!(world.metric("reputation_gateway_calls_unresolved").await, "1");
    world.turn(MINUTE);
    world.resolved().await;
    assert_eq!(world.metric("reputation_gateway_taken_back_usd_total{caller=\"anonymous\"}").await, "0");
    assert_eq!(world.metric("reputation_gateway_budget_spent_usd{budget=\"all-day\"}").await, "0.1");
}

#[tokio::test]
async fn whatever_unknown_window_is_a_call_has_time_to_take_effect() {
    let hasty = |config: &mut Config| config.fresh.unknown_window = "0s".parse().expect("a time");
    let world = World::with(BUDGET, hasty).await;
    world.fault(Fault::new(Kind::Reset).query_contains("fresh"));
    assert_eq!(world.fresh(STORED).await.header("x-gateway-billed"), "unknown");
    assert_eq!(world.metric("reputation_gateway_budget_spent_usd{budget=\"all-day\"}").await, "0.1");
    world.turn(2 * MINUTE);
    world.resolved().await;
    assert_eq!(world.metric("reputation_gateway_budget_spent_usd{budget=\"all-day\"}").await, "0");
}

#[tokio::test]
async fn a_stop_reaches_a_call_that_waits_for_its_turn_although_the_ledger_is_locked() {
    let world = World::gated(BUDGET, |config| config.upstream.max_in_flight = 1).await;
    world.gate.close();
    let path = format!("/v2/reputation/numbers/{STORED}");
    let first = tokio::spawn(world.ask(&path).send());
    world.reached(1).await;
    let path = format!("/v2/reputation/numbers/{UNCHECKED}?fresh=true");
    let second = tokio::spawn(world.ask(&path).send());
    until(&world, "reputation_gateway_holds_open", "1").await;
    let other = rusqlite::Connection::open(world.ledger()).expect("a ledger");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let stop = Ask::new(world.admin, "/admin/v1/kill-switch").method(http::Method::POST).header("content-type", "application/json");
    let stop = tokio::spawn(stop.body("{\"on\": true, \"reason\": \"an incident\"}").send());
    until(&world, "reputation_gateway_kill_switch", "1").await;
    world.gate.open();
    first.await.expect("nothing panics");
    assert_eq!(second.await.expect("nothing panics").header("x-gateway-decision"), "kill_switch");
    other.execute_batch("ROLLBACK").expect("unlocked");
    stop.await.expect("nothing panics");
    assert_eq!(world.charged(), "0.00");
}

#[tokio::test]
async fn a_call_that_may_have_found_nothing_counts_and_is_looked_after_for_a_bounded_time() {
    let world = World::new().await;
    world.fault(Fault::new(Kind::ResetAfterBilling).path_contains("/numbers/"));
    assert_eq!(world.fresh(NULL).await.outcome(), (504, "outcome_unknown"));
    let before = world.sent();
    // The longest that a former call matters: a null is remembered for six hours.
    for _ in 0..7 * 60 {
        world.turn(MINUTE);
        tokio::task::yield_now().await;
    }
    world.resolved().await;
    let looks = world.sent() - before;
    assert!((1..=16).contains(&looks), "{looks} looks in seven hours");
    assert_eq!(world.metric("reputation_gateway_budget_spent_usd{budget=\"all-day\"}").await, "0.1", "it counts for good");
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test]
async fn an_sdks_retry_is_the_same_intent_whatever_is_configured() {
    let forgetful = |config: &mut Config| {
        config.fresh.min_age = "0s".parse().expect("a time");
        config.fresh.unknown_window = "0s".parse().expect("a time");
    };
    let world = World::with(BUDGET, forgetful).await;
    let path = format!("/v2/reputation/numbers/{UNCHECKED}?fresh=true");
    let retry = async |count: &str| world.ask(&path).header("x-stainless-retry-count", count).send().await;
    assert_eq!(retry("0").await.outcome(), (200, "billed"));
    assert_eq!(retry("1").await.outcome(), (200, "cooldown"));
    world.turn(MINUTE);
    assert_eq!(retry("0").await.outcome(), (200, "billed"), "a new intent");
    world.turn(MINUTE);
    world.fault(Fault::new(Kind::Reset).path_contains("/numbers/"));
    assert_eq!(retry("0").await.header("x-gateway-decision"), "outcome_unknown");
    assert_eq!(retry("1").await.header("x-gateway-billed"), "no");
    assert_eq!(retry("2").await.header("x-gateway-billed"), "no");
    assert_eq!(world.charged(), "0.20");
}

#[tokio::test]
async fn who_paid_is_told_so_also_when_the_copy_stands_in() {
    let world = World::new().await;
    world.read(STORED).await;
    world.fault(Fault::new(Kind::Reset));
    let answer = world.fresh(STORED).await;
    assert_eq!(answer.outcome(), (200, "outcome_unknown"));
    assert_eq!((answer.header("x-gateway-billed"), answer.header("x-gateway-cost-usd")), ("unknown", "0.10"));
    assert_eq!(world.metric("reputation_gateway_budget_spent_usd{budget=\"all-day\"}").await, "0.1");
    assert_eq!(world.metric("reputation_gateway_avoided_usd_total{cause=\"recovered\"}").await, "0");
}

#[tokio::test]
async fn who_asks_for_fresh_data_does_not_take_what_a_plain_read_found_stored() {
    let world = World::new().await;
    world.fault(Fault::new(Kind::IgnoreFilter));
    world.fault(Fault::new(Kind::Latency).path_contains("/numbers/").delay(Duration::from_secs(1)));
    let (plain, fresh) = tokio::join!(world.read(STORED), async {
        world.reached(2).await;
        world.fresh(STORED).await
    });
    assert_eq!((plain.outcome(), fresh.outcome()), ((200, "miss"), (200, "billed")));
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test]
async fn an_answer_that_is_not_this_numbers_record_is_neither_shown_nor_stored() {
    for kind in [Kind::Garbage, Kind::WrongNumber] {
        let world = World::new().await;
        world.fault(Fault::new(kind));
        let answer = world.fresh(UNCHECKED).await;
        assert_eq!((answer.outcome(), answer.code().as_str()), ((502, "upstream_error"), "upstream_invalid"), "{kind:?}");
        assert_eq!(answer.header("x-gateway-billed"), "unknown", "{kind:?}");
        let again = world.fresh(UNCHECKED).await;
        assert_eq!(again.outcome(), (200, "recovered"), "{kind:?}");
        assert_eq!(world.charged(), "0.10", "{kind:?}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_upstream_releases_the_hold_and_is_passed_on() {
    let world = World::new().await;
    for (status, code) in [(402_u16, 402), (403, 403), (422, 422), (401, 502)] {
        world.fault(Fault::new(Kind::Status).status(status.try_into().expect("a status")));
        assert_eq!(world.fresh(UNCHECKED).await.outcome(), (code, "upstream_error"), "{status}");
    }
    world.fault(Fault::new(Kind::RateLimited).reset_s(7));
    let limited = world.fresh(UNCHECKED).await;
    assert_eq!((limited.outcome(), limited.header("retry-after")), ((429, "upstream_error"), "7"));
    world.turn(Duration::from_secs(7));
    assert_eq!(world.fresh(crate::harness::ABSENT).await.outcome(), (404, "not_found"));
    assert_eq!(world.metric("reputation_gateway_holds_total{end=\"released\"}").await, "6");
    assert_eq!(world.metric("reputation_gateway_budget_spent_usd{budget=\"all-day\"}").await, "0");
    assert_eq!(world.charged(), "0.00");
}

#[tokio::test]
async fn a_rate_limit_answers_from_the_cache_or_says_how_long_to_wait() {
    let world = World::with(BUDGET, |config| config.fresh.rate = "1/min".parse().expect("a rate")).await;
    world.read(STORED).await;
    assert_eq!(world.fresh(UNCHECKED).await.outcome(), (200, "billed"));
    assert_eq!(world.fresh(STORED).await.outcome(), (200, "rate_limited"));
    let refused = world.fresh(&unchecked(1)).await;
    assert_eq!((refused.outcome(), refused.code().as_str()), ((429, "rate_limited"), "fresh_rate_limited"));
    assert_eq!((refused.header("x-should-retry"), refused.header("retry-after")), ("false", ""), "a minute is too long to sleep");
    world.turn(Duration::from_secs(52));
    let soon = world.fresh(&unchecked(1)).await;
    assert_eq!((soon.outcome(), soon.header("retry-after"), soon.header("x-should-retry")), ((429, "rate_limited"), "8", ""));
    assert_eq!(world.metric("reputation_gateway_rate_limit_denied_total{limiter=\"global\"}").await, "3");
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test]
async fn who_may_not_ask_for_fresh_data_gets_the_copy_or_a_403() {
    let world = World::with(BUDGET, |config| config.auth.allow.clear()).await;
    let refused = world.fresh(STORED).await;
    assert_eq!((refused.outcome(), refused.code().as_str()), ((403, "not_permitted"), "fresh_not_permitted"));
    world.read(STORED).await;
    assert_eq!(world.fresh(STORED).await.outcome(), (200, "not_permitted"));
    let strict = world.ask(&format!("/reputation/numbers/{STORED}?fresh=1")).header("prefer", "handling=strict").send().await;
    assert_eq!(strict.outcome(), (403, "not_permitted"));
    assert_eq!(world.charged(), "0.00");
}

#[tokio::test]
async fn head_and_no_cache_never_bill_even_with_fresh() {
    let world = World::new().await;
    let path = format!("/reputation/numbers/{UNCHECKED}?fresh=true");
    let head = world.ask(&path).method(http::Method::HEAD).send().await;
    assert_eq!((head.outcome(), head.body.len()), ((200, "null"), 0));
    assert_eq!(world.ask(&path).header("cache-control", "no-cache").send().await.outcome(), (200, "null"));
    assert_eq!(world.ask(&path).header("cache-control", "only-if-cached").send().await.outcome(), (504, "not_in_cache"));
    assert_eq!(world.charged(), "0.00");
}
