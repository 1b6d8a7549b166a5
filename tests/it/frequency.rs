//! The schedule of Telnyx's own checks: a month of it is held before it is set, and counted once.

use std::time::Duration;

use http::Method;
use reputation_gateway::auth::Permission;
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{Fault, Kind};
use serde_json::json;

use crate::harness::{Answer, ENTERPRISE, World, books};

const MINUTE: Duration = Duration::from_mins(1);
/// Numbers of the stand-in's enterprise.
const NUMBERS: i64 = 1_002;
/// A thousand numbers, each day.
const DAILY: i64 = NUMBERS * 30 * 100_000;
const MUCH: &str = "[[budget]]\nname = \"all-month\"\nlimit = \"10000.00\"\nwindow = \"month\"\n";

fn open(config: &mut Config) {
    config.auth.allow = vec![Permission::Frequency, Permission::Associate];
}

fn path() -> String {
    format!("/v2/enterprises/{ENTERPRISE}/reputation/frequency")
}

impl World {
    async fn scheduling(&self, body: &str) -> Answer {
        self.ask(&path()).method(Method::PATCH).header("content-type", "application/json").body(body.to_owned()).send().await
    }

    async fn schedule(&self, frequency: &str) -> Answer {
        self.scheduling(&json!({ "check_frequency": frequency }).to_string()).await
    }

    /// The state of each charge, and all that was posted.
    fn months(&self) -> (Vec<String>, i64) {
        let charges = books::charges(&self.ledger());
        assert!(charges.iter().all(|charge| charge.number.is_empty()), "{charges:?}");
        (charges.iter().map(|charge| charge.state.clone()).collect(), books::posted(&charges))
    }

    /// How many schedules reached the stand-in.
    fn set(&self) -> usize {
        self.sandbox.requests().iter().filter(|seen| seen.method == "PATCH").count()
    }
}

fn money(answer: &Answer) -> (&str, &str) {
    (answer.header("x-gateway-billed"), answer.header("x-gateway-cost-usd"))
}

#[tokio::test]
async fn a_schedule_is_counted_as_the_month_that_it_would_cost() {
    for (frequency, runs) in [("business_daily", 22), ("daily", 30), ("weekly", 5), ("biweekly", 3), ("monthly", 1)] {
        let world = World::with(MUCH, open).await;
        let answer = world.schedule(frequency).await;
        let cost = format!("{}.{}0", NUMBERS * runs / 10, NUMBERS * runs % 10);
        assert_eq!((answer.outcome(), money(&answer)), ((200, "billed"), ("yes", cost.as_str())), "{answer:?}");
        assert_eq!(answer.json()["data"]["check_frequency"], frequency, "Telnyx's own bytes");
        assert_eq!(world.months(), (vec!["settled".to_owned()], NUMBERS * runs * 100_000));
        let seen: Vec<_> = world.sandbox.requests().iter().map(|seen| (seen.method.clone(), seen.path_and_query.clone())).collect();
        let list = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers?page%5Bnumber%5D=1&page%5Bsize%5D=1");
        assert_eq!(seen, [("GET".to_owned(), list), ("PATCH".to_owned(), path())]);
        assert_eq!(world.charged(), "0.00", "Telnyx bills the runs themselves");
    }
}

#[tokio::test]
async fn a_schedule_is_set_nowhere_but_where_it_is_counted() {
    let everything = |config: &mut Config| {
        config.auth.allow = vec![Permission::Enable, Permission::Enterprises, Permission::Ownership, Permission::Remediation];
        config.prices.unpublished = Some(reputation_gateway::policy::money::Usd::ZERO);
    };
    let world = World::with(MUCH, everything).await;
    let of = |rest: &str| format!("/v2/enterprises/{ENTERPRISE}{rest}");
    for (method, path, member) in [
        (Method::PATCH, of("/reputation/loa"), r#""loa_document_id":"doc-1""#),
        (Method::POST, of("/reputation/loa"), r#""a":1"#),
        (Method::PATCH, of("/reputation/webhook"), r#""webhook_url":"https://hooks.example.com/""#),
        (Method::POST, of("/reputation/external_verification"), r#""document_ids":["doc-1"]"#),
        (Method::POST, of("/reputation/remediation"), r#""phone_numbers":["+12025550000"],"call_purpose":"a""#),
        (Method::PUT, of(""), r#""legal_name":"a""#),
        (Method::POST, "/v2/enterprises".to_owned(), r#""legal_name":"a""#),
    ] {
        for schedule in [r#""check_frequency":"daily""#, r#""Check_Frequency":"daily""#, r#""x":[{"check_frequency":"daily"}]"#] {
            let ask = world.ask(&path).method(method.clone()).header("content-type", "application/json");
            let refused = ask.body(format!("{{{member},{schedule}}}")).send().await;
            assert_eq!((refused.outcome(), refused.code().as_str()), ((400, "bad_request"), "10015"), "{method} {path} {schedule}");
            assert!(refused.text().contains("PATCH …/reputation/frequency"), "{}", refused.text());
        }
    }
    assert_eq!(world.sent(), 0);
}

#[tokio::test]
async fn a_schedule_that_costs_nothing_needs_no_budget() {
    let world = World::with("", open).await;
    let never = world.schedule("never").await;
    assert_eq!((never.outcome(), money(&never), world.sent()), ((200, "passed"), ("no", "0.00"), 1));
    assert_eq!(never.json()["data"]["check_frequency"], "never");
    let other = "7b09cdc3-8948-47f0-aa62-74ac943d6c58";
    let world = World::of_account(&[other], "", open).await;
    world.fault(Fault::new(Kind::Status).status(http::StatusCode::OK).method(&Method::GET));
    let path = format!("/v2/enterprises/{other}/reputation/frequency");
    let unclear = world.ask(&path).method(Method::PATCH).body(r#"{"check_frequency":"daily"}"#).send().await;
    assert_eq!((unclear.outcome(), unclear.code().as_str(), world.set()), ((502, "upstream_error"), "upstream_invalid", 0));
}

#[tokio::test]
async fn who_may_not_or_asks_wrongly_sets_nothing() {
    let world = World::new().await;
    let refused = world.schedule("daily").await;
    assert_eq!((refused.outcome(), refused.code().as_str()), ((403, "not_permitted"), "frequency_not_permitted"));
    let denied = world.sent();
    let world = World::with(MUCH, open).await;
    for body in [
        "",
        "[]",
        "{}",
        r#"{"check_frequency":"hourly"}"#,
        r#"{"check_frequency":7}"#,
        r#"{"check_frequency":"daily","enterprise_id":"6a09cdc3-8948-47f0-aa62-74ac943d6c58"}"#,
        r#"{"check_frequency":"never","check_frequency":"daily"}"#,
        r#"{"check_frequency":"never"} {}"#,
    ] {
        let refused = world.scheduling(body).await;
        assert_eq!((refused.outcome(), refused.code().as_str()), ((400, "bad_request"), "10015"), "{body}");
        assert!(refused.text().contains("business_daily, daily, weekly, biweekly, monthly or never"), "{}", refused.text());
    }
    assert_eq!((denied, world.sent(), world.months().1), (0, 0, 0));
}

#[tokio::test]
async fn what_is_too_dear_is_not_sent_and_the_answer_says_what_it_would_cost() {
    let budget = "[[budget]]\nname = \"schedules\"\nlimit = \"3005.99\"\nwindow = \"month\"\noperation = \"frequency\"\n";
    let world = World::with(budget, open).await;
    let refused = world.schedule("daily").await;
    assert_eq!((refused.outcome(), money(&refused)), ((402, "budget_exhausted"), ("no", "0.00")));
    assert_eq!((&refused.json()["gateway"]["price_usd"], refused.header("x-should-retry")), (&json!("3006.00"), "false"));
    let detail = refused.json()["errors"][0]["detail"].as_str().expect("a detail").to_owned();
    assert!(detail.ends_with("a month of this schedule is 1002 numbers x 30 runs x 0.10 dollars = 3006.00"), "{detail}");
    assert_eq!((world.set(), world.months().0.len()), (0, 0));
    assert_eq!(world.schedule("business_daily").await.outcome(), (200, "billed"));
    let none = World::with("", open).await;
    assert_eq!((none.schedule("monthly").await.outcome(), none.set()), ((402, "budget_exhausted"), 0));
}

#[tokio::test]
async fn numbers_that_cannot_be_counted_set_nothing() {
    for kind in [Kind::Status, Kind::Reset, Kind::Garbage] {
        let world = World::with(MUCH, open).await;
        world.fault(Fault::new(kind).times(9).method(&Method::GET));
        let refused = world.schedule("daily").await;
        assert_eq!((money(&refused), world.set(), world.months().0.len()), (("no", "0.00"), 0, 0), "{kind:?}: {refused:?}");
        assert!(refused.status.is_server_error());
    }
}

#[tokio::test]
async fn what_telnyx_refuses_is_released_and_what_was_lost_counts_for_good() {
    let patch = |kind| Fault::new(kind).method(&Method::PATCH);
    let world = World::with(MUCH, open).await;
    world.fault(patch(Kind::Status).status(http::StatusCode::BAD_REQUEST));
    let refused = world.schedule("daily").await;
    assert_eq!((refused.outcome(), money(&refused)), ((400, "upstream_error"), ("no", "0.00")));
    assert_eq!(world.months(), (vec!["released".to_owned()], 0));
    assert_eq!(world.schedule("daily").await.outcome(), (200, "billed"), "what was refused was not counted");
    for kind in [Kind::Reset, Kind::ResetAfterBilling, Kind::StatusAfterBilling, Kind::Garbage] {
        let world = World::with(MUCH, open).await;
        world.fault(patch(kind));
        let lost = world.schedule("daily").await;
        assert_eq!((money(&lost), lost.status.is_server_error()), (("unknown", "3006.00"), true), "{kind:?}: {lost:?}");
        assert_eq!(world.months(), (vec!["assumed".to_owned()], DAILY));
        // A client library's retry, or a person's: the same intent, and the month is counted already.
        let again = world.schedule("daily").await;
        assert_eq!((again.outcome(), money(&again)), ((200, "cooldown"), ("no", "0.00")), "{kind:?}");
        assert_eq!((world.months(), world.set()), ((vec!["assumed".to_owned()], DAILY), 2));
    }
}

#[tokio::test]
async fn the_same_schedule_is_counted_anew_when_it_is_another_intent_or_dearer() {
    let world = World::with("[[budget]]\nname = \"all\"\nlimit = \"100000.00\"\nwindow = \"month\"\n", open).await;
    assert_eq!(world.schedule("daily").await.outcome(), (200, "billed"));
    world.turn(14 * MINUTE);
    assert_eq!(world.schedule("daily").await.outcome(), (200, "cooldown"));
    assert_eq!(world.schedule("never").await.outcome(), (200, "passed"));
    assert_eq!(world.schedule("daily").await.outcome(), (200, "cooldown"), "it was counted fourteen minutes ago");
    let numbers = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers");
    let more = json!({ "phone_numbers": ["+13125550000"] }).to_string();
    let added = world.ask(&numbers).method(Method::POST).header("content-type", "application/json").body(more).send().await;
    assert_eq!(added.outcome(), (201, "billed"));
    let dearer = world.schedule("daily").await;
    assert_eq!((dearer.outcome(), money(&dearer)), ((200, "billed"), ("yes", "3009.00")));
    assert_eq!(world.schedule("weekly").await.outcome(), (200, "billed"));
    world.turn(15 * MINUTE);
    assert_eq!(world.schedule("weekly").await.outcome(), (200, "billed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_callers_of_one_schedule_have_it_counted_once() {
    let world = World::with(MUCH, open).await;
    let answers = futures_util::future::join_all((0..50).map(|_| world.schedule("daily"))).await;
    let billed = answers.iter().filter(|answer| answer.outcome() == (200, "billed")).count();
    let repeated = answers.iter().filter(|answer| answer.outcome() == (200, "cooldown")).count();
    assert_eq!((billed, repeated, world.months()), (1, 49, (vec!["settled".to_owned()], DAILY)));
}

#[tokio::test]
async fn the_kill_switch_stops_schedules_but_the_one_that_ends_them() {
    let world = World::with(MUCH, open).await;
    assert_eq!(world.schedule("daily").await.outcome(), (200, "billed"));
    let switch = json!({ "on": true, "reason": "a test" }).to_string();
    let path = "/admin/v1/kill-switch";
    let set = crate::harness::Ask::new(world.admin, path).method(Method::POST).header("content-type", "application/json").body(switch);
    assert_eq!(set.send().await.status, 200);
    for frequency in ["daily", "weekly"] {
        assert_eq!(world.schedule(frequency).await.outcome(), (503, "kill_switch"), "{frequency}");
    }
    assert_eq!((world.schedule("never").await.outcome(), world.set()), ((200, "passed"), 2));
}
