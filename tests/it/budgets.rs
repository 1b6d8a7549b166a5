//! Budgets over the wire: exactly what they allow, whoever asks at once, and the same to the cent everywhere.

use std::time::Duration;

use futures_util::future::join_all;
use reputation_gateway::sandbox::{Fault, Kind};

use crate::harness::{NULL, STORED, UNCHECKED, World, unchecked};

const DOLLAR: &str = "[[budget]]\nname = \"dollar-day\"\nlimit = \"1.00\"\nwindow = \"day\"\ntime_zone = \"UTC\"\n";

fn posted(world: &World) -> i64 {
    let ledger = rusqlite::Connection::open(world.ledger()).expect("a ledger");
    let sum = "SELECT coalesce(sum(amount_micros), 0) FROM entry WHERE kind IN ('settled', 'assumed', 'corrected')";
    ledger.query_row(sum, (), |row| row.get(0)).expect("documented columns")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dollar_pays_for_ten_of_five_hundred_numbers_and_all_books_agree() {
    let world = World::with(DOLLAR, |_| {}).await;
    let numbers: Vec<_> = (0..500).map(unchecked).collect();
    let answers = join_all(numbers.iter().map(|number| world.fresh(number))).await;
    let count = |outcome| answers.iter().filter(|answer| answer.outcome() == outcome).count();
    assert_eq!((count((200, "billed")), count((402, "budget_exhausted"))), (10, 490));
    assert_eq!((world.charged().as_str(), posted(&world)), ("1.00", 1_000_000));
    assert_eq!(world.metric("reputation_gateway_spend_usd_total{caller=\"anonymous\"}").await, "1");
    assert_eq!(world.metric("reputation_gateway_budget_spent_usd{budget=\"dollar-day\"}").await, "1");
    assert_eq!(world.metric("reputation_gateway_budget_held_usd{budget=\"dollar-day\"}").await, "0");
    assert_eq!(world.metric("reputation_gateway_holds_open").await, "0");
    assert_eq!(world.metric("reputation_gateway_budget_decisions_total{budget=\"dollar-day\",decision=\"denied\"}").await, "490");
}

/// Each day has a dollar; each number may be checked anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_each_of_a_hundred_days_a_dollar_pays_for_ten_of_five_hundred_callers() {
    let world = World::with(DOLLAR, |_| {}).await;
    let numbers: Vec<_> = (0..500).map(unchecked).collect();
    for day in 1..=100 {
        let answers = join_all(numbers.iter().map(|number| world.fresh(number))).await;
        let count = |decision| answers.iter().filter(|answer| answer.header("x-gateway-decision") == decision).count();
        assert_eq!((count("billed"), count("budget_exhausted")), (10, 490), "day {day}");
        assert_eq!((world.charges().count, posted(&world)), (10 * day, 1_000_000 * i64::from(day)), "day {day}");
        assert_eq!(world.metric("reputation_gateway_holds_open").await, "0", "day {day}");
        world.turn(Duration::from_hours(24));
    }
}

#[tokio::test]
async fn a_dry_run_lets_everything_through_and_counts_what_it_would_refuse() {
    let trial = "[[budget]]\nname = \"trial\"\nlimit = \"0.10\"\nwindow = \"day\"\nenforce = false\n";
    let world = World::with(trial, |_| {}).await;
    for n in 0..3 {
        assert_eq!(world.fresh(&unchecked(n)).await.outcome(), (200, "billed"));
    }
    let decided = async |decision| {
        world.metric(&format!("reputation_gateway_budget_decisions_total{{budget=\"trial\",decision=\"{decision}\"}}")).await
    };
    assert_eq!((decided("allowed").await.as_str(), decided("denied").await.as_str()), ("1", "2"));
    assert_eq!(world.metric("reputation_gateway_budget_enforced{budget=\"trial\"}").await, "0");
    assert_eq!(world.metric("reputation_gateway_budget_spent_usd{budget=\"trial\"}").await, "0.3");
}

#[tokio::test]
async fn each_threshold_is_counted_once() {
    let world = World::with(DOLLAR, |_| {}).await;
    let crossed = async |percent| {
        world.metric(&format!("reputation_gateway_budget_thresholds_total{{budget=\"dollar-day\",percent=\"{percent}\"}}")).await
    };
    for (n, expected) in [(5, ["1", "0", "0", "0"]), (8, ["1", "1", "0", "0"]), (10, ["1", "1", "1", "1"]), (12, ["1", "1", "1", "1"])] {
        for number in (0..n).map(unchecked) {
            world.fresh(&number).await;
        }
        assert_eq!([crossed(50).await, crossed(80).await, crossed(95).await, crossed(100).await], expected, "{n} calls");
    }
}

#[tokio::test]
async fn a_refusal_names_the_budget_and_when_it_starts_anew() {
    let world = World::with("[[budget]]\nname = \"none\"\nlimit = \"0.00\"\nwindow = \"month\"\n", |_| {}).await;
    let refused = world.fresh(UNCHECKED).await;
    assert_eq!((refused.outcome(), refused.header("x-should-retry")), ((402, "budget_exhausted"), "false"));
    let mut gateway = refused.json()["gateway"].clone();
    assert_eq!(gateway["request_id"], refused.header("x-request-id"));
    gateway["request_id"] = "[id]".into();
    insta::assert_snapshot!(gateway.to_string(), @r#"{"budget":"none","decision":"budget_exhausted","held_usd":"0.00","limit_usd":"0.00","price_usd":"0.10","request_id":"[id]","resets_at":"2026-04-01T00:00:00Z","scope":"global","spent_usd":"0.00"}"#);
    assert_eq!(world.read(UNCHECKED).await.outcome(), (402, "budget_exhausted"), "a first touch costs as much");
    assert_eq!(world.charged(), "0.00");
}

#[tokio::test]
async fn with_no_money_at_all_everything_that_is_free_goes_on() {
    let world = World::with("", |_| {}).await;
    assert_eq!(world.read(STORED).await.outcome(), (200, "probe"));
    assert_eq!(world.read(STORED).await.outcome(), (200, "hit"));
    assert_eq!(world.fresh(STORED).await.outcome(), (200, "budget_exhausted"));
    assert_eq!(world.fresh(UNCHECKED).await.outcome(), (402, "budget_exhausted"));
    assert_eq!(world.read(NULL).await.outcome(), (402, "budget_exhausted"));
    assert_eq!(world.ask("/reputation/numbers").send().await.outcome(), (200, "passed"));
    assert_eq!(world.charged(), "0.00");
}

#[tokio::test]
async fn what_was_spent_stays_spent_over_a_restart() {
    let mut world = World::with("[[budget]]\nname = \"two\"\nlimit = \"0.20\"\nwindow = \"day\"\n", |_| {}).await;
    assert_eq!(world.fresh(&unchecked(1)).await.outcome(), (200, "billed"));
    world.stop().await;
    world.restart().await;
    assert_eq!(world.fresh(&unchecked(2)).await.outcome(), (200, "billed"));
    assert_eq!(world.fresh(&unchecked(3)).await.outcome(), (402, "budget_exhausted"));
    world.turn(Duration::from_hours(12));
    assert_eq!(world.fresh(&unchecked(3)).await.outcome(), (200, "billed"), "a new day");
    assert_eq!(world.charged(), "0.30");
}

#[tokio::test]
async fn an_unknown_outcome_is_held_against_the_budget_in_full() {
    let world = World::with(DOLLAR, |_| {}).await;
    world.fault(Fault::new(Kind::Reset));
    assert_eq!(world.fresh(UNCHECKED).await.outcome(), (504, "outcome_unknown"));
    assert_eq!(world.metric("reputation_gateway_budget_spent_usd{budget=\"dollar-day\"}").await, "0.1");
    assert_eq!(world.charged(), "0.00");
}
