//! Monitoring enabled: a hundred dollars under one hold, after a free look, never twice.

use std::time::Duration;

use http::Method;
use reputation_gateway::auth::Permission;
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{Fault, Kind, Operation};
use serde_json::json;

use crate::harness::{Answer, Ask, ENTERPRISE, STORED, World, books};

/// As long as a call of unknown outcome may still take effect.
const EFFECT: Duration = Duration::from_mins(2);
const BUDGET: &str = "[[budget]]\nname = \"all-month\"\nlimit = \"350.00\"\nwindow = \"month\"\n";
const LETTER: &str = r#"{"loa_document_id":"doc-1"}"#;

fn open(config: &mut Config) {
    config.auth.allow = vec![Permission::Fresh, Permission::Enable];
}

fn path() -> String {
    format!("/v2/enterprises/{ENTERPRISE}/reputation")
}

impl World {
    /// Before an enterprise whose monitoring is not enabled.
    async fn disabled(tables: &str) -> Self {
        let world = Self::with(tables, open).await;
        world.disable().await;
        world
    }

    /// Disables it at the stand-in, which the gateway does not see.
    async fn disable(&self) {
        let gone = Ask::new(self.upstream(), &path()).method(Method::DELETE).key("other").send().await;
        assert_eq!(gone.status, 204);
    }

    fn enabling(&self, body: &str) -> Ask {
        self.ask(&path()).method(Method::POST).header("content-type", "application/json").body(body.to_owned())
    }

    async fn enable(&self) -> Answer {
        self.enabling(LETTER).send().await
    }

    /// The same, as a client library sends it again.
    async fn enable_again(&self) -> Answer {
        self.enabling(LETTER).header("x-stainless-retry-count", "1").send().await
    }

    /// How often the stand-in was asked to enable, and how often it charged for it.
    fn bought(&self) -> (usize, u32) {
        let asked = self.sandbox.requests().iter().filter(|seen| seen.method == "POST").count();
        (asked, self.charges().operation(Operation::Monitoring).count)
    }

    fn ends(&self) -> (Vec<String>, i64) {
        let charges = books::charges(&self.ledger());
        assert!(charges.iter().all(|charge| charge.number.is_empty()), "{charges:?}");
        (charges.iter().map(|charge| charge.state.clone()).collect(), books::posted(&charges))
    }
}

fn money(answer: &Answer) -> (&str, &str) {
    (answer.header("x-gateway-billed"), answer.header("x-gateway-cost-usd"))
}

fn one(state: &str, posted: i64) -> (Vec<String>, i64) {
    (vec![state.to_owned()], posted * 1_000_000)
}

#[tokio::test]
async fn enabling_is_a_hundred_dollars_once() {
    let world = World::disabled(BUDGET).await;
    let answer = world.enabling(r#"{"loa_document_id":"doc-1","check_frequency":"weekly"}"#).send().await;
    assert_eq!((answer.outcome(), money(&answer)), ((201, "billed"), ("yes", "100.00")), "{answer:?}");
    assert_eq!((&answer.json()["data"]["loa_document_id"], &answer.json()["data"]["check_frequency"]), (&json!("doc-1"), &json!("weekly")));
    assert_eq!(answer.header("cache-status"), "reputation-gateway; fwd=method; fwd-status=201; detail=billed");
    assert_eq!((world.bought(), world.ends(), world.charged().as_str()), ((1, 1), one("settled", 100), "100.00"));
    let again = world.enable().await;
    assert_eq!((again.outcome(), again.code().as_str(), money(&again)), ((409, "bad_request"), "already_enabled", ("no", "0.00")));
    assert_eq!(again.header("x-should-retry"), "false");
    assert!(again.text().contains("PATCH …/reputation/loa") && again.text().contains("PATCH …/reputation/frequency"));
    assert_eq!((world.bought(), world.ends()), ((1, 1), one("settled", 100)));
}

#[tokio::test]
async fn what_is_enabled_already_is_not_bought() {
    let world = World::with(BUDGET, open).await;
    assert_eq!((world.enable().await.outcome(), world.bought(), world.ends().1), ((409, "bad_request"), (0, 0), 0));
    assert_eq!(world.enable_again().await.outcome(), (409, "bad_request"));
    let penniless = World::with("", open).await;
    assert_eq!(penniless.enable().await.outcome(), (409, "bad_request"), "to look is free");
}

#[tokio::test]
async fn who_has_no_permission_no_budget_or_a_bad_body_enables_nothing() {
    let world = World::new().await;
    let refused = world.enable().await;
    assert_eq!((refused.outcome(), refused.code().as_str(), world.sent()), ((403, "not_permitted"), "enable_not_permitted", 0));
    let world = World::disabled("[[budget]]\nname = \"few\"\nlimit = \"99.99\"\nwindow = \"month\"\noperation = \"enable\"\n").await;
    let dear = world.enable().await;
    assert_eq!(
        (dear.outcome(), &dear.json()["gateway"]["price_usd"], world.bought()),
        ((402, "budget_exhausted"), &json!("100.00"), (0, 0))
    );
    let sent = world.sent();
    for body in [
        "",
        "{}",
        r#"{"loa_document_id":""}"#,
        r#"{"loa_document_id":7}"#,
        r#"{"loa_document_id":"a","check_frequency":"hourly"}"#,
        r#"{"loa_document_id":"a","loa_document_id":"b"}"#,
        r#"{"loa_document_id":"a","enterprise_id":"7b09cdc3-8948-47f0-aa62-74ac943d6c58"}"#,
    ] {
        assert_eq!(world.enabling(body).send().await.outcome(), (400, "bad_request"), "{body}");
    }
    assert_eq!((world.sent(), world.ends().0.len()), (sent, 0));
}

#[tokio::test]
async fn what_telnyx_refuses_is_released() {
    let world = World::disabled(BUDGET).await;
    world.fault(Fault::new(Kind::Status).status(http::StatusCode::FORBIDDEN).method(&Method::POST));
    let refused = world.enable().await;
    assert_eq!((refused.outcome(), money(&refused), world.ends()), ((403, "upstream_error"), ("no", "0.00"), one("released", 0)));
    assert_eq!(world.enable().await.outcome(), (201, "billed"), "a refusal bars nothing");
}

#[tokio::test]
async fn a_look_that_fails_buys_nothing() {
    for kind in [Kind::Status, Kind::Garbage, Kind::Reset] {
        let world = World::disabled(BUDGET).await;
        world.fault(Fault::new(kind).method(&Method::GET).times(9));
        let refused = world.enable().await;
        assert!(refused.status.is_server_error(), "{refused:?}");
        assert_eq!((money(&refused), world.bought(), world.ends().0.len()), (("no", "0.00"), (0, 0), 0), "{kind:?}");
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_is_found_by_the_look_after_it() {
    for kind in [Kind::ResetAfterBilling, Kind::StatusAfterBilling, Kind::Cut, Kind::Garbage] {
        let world = World::disabled(BUDGET).await;
        world.fault(Fault::new(kind).method(&Method::POST));
        let answer = world.enable().await;
        assert_eq!((answer.outcome(), money(&answer)), ((201, "recovered"), ("yes", "100.00")), "{kind:?}: {answer:?}");
        assert_eq!(answer.json()["data"]["loa_document_id"], "doc-1");
        assert_eq!((world.bought(), world.ends()), ((1, 1), one("corrected", 100)));
        let again = world.enable_again().await;
        assert_eq!((again.outcome(), money(&again)), ((201, "cooldown"), ("no", "0.00")), "the same intent is done");
        assert_eq!((world.enable().await.outcome(), world.bought()), ((409, "bad_request"), (1, 1)));
    }
}

#[tokio::test]
async fn a_lost_answer_that_no_look_finds_at_once_bars_another_call_until_one_does() {
    let world = World::disabled(BUDGET).await;
    world.fault(Fault::new(Kind::ResetAfterBilling).method(&Method::POST));
    // The first look is the one before the call.
    world.fault(Fault::new(Kind::Latency).delay(Duration::ZERO).method(&Method::GET));
    world.fault(Fault::new(Kind::Status).method(&Method::GET));
    let lost = world.enable().await;
    assert_eq!((lost.outcome(), money(&lost), lost.header("x-should-retry")), ((504, "outcome_unknown"), ("unknown", "100.00"), "false"));
    assert_eq!(world.ends(), one("assumed", 100));
    let found = world.enable().await;
    assert_eq!((found.outcome(), money(&found)), ((201, "recovered"), ("no", "0.00")));
    assert_eq!((world.bought(), world.ends()), ((1, 1), one("corrected", 100)));
}

#[tokio::test]
async fn settings_that_anybody_reads_show_that_a_lost_call_has_worked() {
    let world = World::disabled(BUDGET).await;
    world.fault(Fault::new(Kind::ResetAfterBilling).method(&Method::POST));
    world.fault(Fault::new(Kind::Latency).delay(Duration::ZERO).method(&Method::GET));
    world.fault(Fault::new(Kind::Status).method(&Method::GET));
    assert_eq!(world.enable().await.outcome(), (504, "outcome_unknown"));
    assert_eq!(world.ends(), one("assumed", 100));
    assert_eq!(world.ask(&path()).send().await.outcome(), (200, "passed"));
    assert_eq!(world.ends(), one("corrected", 100));
    assert_eq!(world.enable().await.outcome(), (409, "bad_request"), "it is known by now");
    assert_eq!(world.enable_again().await.outcome(), (201, "cooldown"), "and whose it is");
}

#[tokio::test]
async fn a_call_that_was_not_carried_out_is_taken_back_once_it_cannot_be_any_more() {
    let world = World::disabled(BUDGET).await;
    world.fault(Fault::new(Kind::Reset).method(&Method::POST));
    assert_eq!(world.enable().await.outcome(), (504, "outcome_unknown"));
    for _ in 0..3 {
        let barred = world.enable_again().await;
        assert_eq!((barred.outcome(), money(&barred)), ((504, "outcome_unknown"), ("no", "0.00")));
    }
    assert_eq!((world.bought(), world.ends()), ((1, 0), one("assumed", 100)));
    world.turn(EFFECT);
    assert_eq!(world.enable().await.outcome(), (201, "billed"));
    assert_eq!((world.bought(), world.ends()), ((2, 1), (vec!["corrected".to_owned(), "settled".to_owned()], 100_000_000)));
    assert_eq!(world.metric("reputation_gateway_taken_back_usd_total{caller=\"anonymous\"}").await, "100");
}

#[tokio::test]
async fn a_later_run_knows_of_the_call_and_takes_nothing_back() {
    let mut world = World::disabled(BUDGET).await;
    world.fault(Fault::new(Kind::Reset).method(&Method::POST));
    assert_eq!(world.enable().await.outcome(), (504, "outcome_unknown"));
    world.stop().await;
    world.restart().await;
    assert_eq!((world.enable().await.outcome(), world.bought()), ((504, "outcome_unknown"), (1, 0)));
    world.turn(EFFECT);
    assert_eq!(world.enable().await.outcome(), (201, "billed"));
    assert_eq!(world.ends(), (vec!["assumed".to_owned(), "settled".to_owned()], 200_000_000), "its age is known by the wall clock only");
    world.stop().await;
    world.restart().await;
    assert_eq!(world.enable_again().await.outcome(), (201, "cooldown"));

    let mut world = World::disabled(BUDGET).await;
    world.fault(Fault::new(Kind::ResetAfterBilling).method(&Method::POST));
    world.fault(Fault::new(Kind::Latency).delay(Duration::ZERO).method(&Method::GET));
    world.fault(Fault::new(Kind::Status).method(&Method::GET));
    assert_eq!(world.enable().await.outcome(), (504, "outcome_unknown"));
    world.stop().await;
    world.restart().await;
    assert_eq!(world.enable().await.outcome(), (201, "recovered"));
    assert_eq!((world.bought(), world.ends()), ((1, 1), one("corrected", 100)));
}

#[tokio::test]
async fn what_was_bought_may_be_missing_from_a_read_right_after_it_and_is_not_bought_again() {
    let world = World::disabled(BUDGET).await;
    assert_eq!(world.enable().await.outcome(), (201, "billed"));
    world.disable().await;
    assert_eq!((world.enable_again().await.outcome(), world.bought()), ((504, "outcome_unknown"), (1, 1)));
    world.turn(EFFECT);
    assert_eq!((world.enable().await.outcome(), world.bought()), ((201, "billed"), (2, 2)));
    // What the gateway itself disabled is gone.
    assert_eq!(world.ask(&path()).method(Method::DELETE).send().await.status, 204);
    assert_eq!((world.enable().await.outcome(), world.bought(), world.ends().1), ((201, "billed"), (3, 3), 300_000_000));
}

/// A call that was carried out and whose answer was lost, as was the look after it.
async fn lose(world: &World, key: &str) {
    world.fault(Fault::new(Kind::ResetAfterBilling).method(&Method::POST));
    world.fault(Fault::new(Kind::Latency).delay(Duration::ZERO).method(&Method::GET));
    world.fault(Fault::new(Kind::Status).method(&Method::GET));
    assert_eq!(world.enabling(LETTER).key(key).send().await.outcome(), (504, "outcome_unknown"));
    assert_eq!(world.bought(), (1, 1));
}

#[tokio::test]
async fn nothing_is_taken_back_of_what_may_have_been_disabled_meanwhile() {
    // By another key of the account, whose part of the memory is another.
    let forwarded = |config: &mut Config| {
        open(config);
        config.auth.mode = reputation_gateway::auth::Mode::Forward;
    };
    let world = World::with(BUDGET, forwarded).await;
    world.disable().await;
    lose(&world, "KEY-A").await;
    assert_eq!(world.ask(&path()).method(Method::DELETE).key("KEY-B").send().await.status, 204);
    world.turn(EFFECT);
    assert_eq!(world.enabling(LETTER).key("KEY-A").send().await.outcome(), (201, "billed"));
    assert_eq!((world.charged().as_str(), world.ends().1), ("200.00", 200_000_000));

    // By a call that is not answered yet.
    let world = World::disabled(BUDGET).await;
    lose(&world, "mine").await;
    world.fault(Fault::new(Kind::Latency).delay(Duration::from_secs(3)).method(&Method::DELETE));
    let seen = world.sent();
    let disabling = tokio::spawn(world.ask(&path()).method(Method::DELETE).send());
    world.reached(seen + 1).await;
    world.turn(EFFECT);
    assert_eq!(world.enable().await.outcome(), (201, "billed"));
    assert_eq!((world.charged().as_str(), world.ends().1), ("200.00", 200_000_000));
    disabling.abort();
}

#[tokio::test]
async fn a_lost_call_bars_another_one_also_after_monitoring_was_disabled() {
    let world = World::disabled(BUDGET).await;
    world.fault(Fault::new(Kind::Reset).method(&Method::POST));
    assert_eq!(world.enable().await.outcome(), (504, "outcome_unknown"));
    assert_eq!(world.ask(&path()).method(Method::DELETE).send().await.status, 404, "not enabled, or not yet");
    assert_eq!((world.enable().await.outcome(), world.bought()), ((504, "outcome_unknown"), (1, 0)), "it may still take effect");
    world.turn(EFFECT);
    assert_eq!(world.enable().await.outcome(), (201, "billed"));
    assert_eq!((world.bought(), world.ends().1), ((2, 1), 200_000_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_callers_enable_it_once() {
    for kind in [Kind::Latency, Kind::ResetAfterBilling] {
        let world = World::disabled(BUDGET).await;
        world.fault(Fault::new(kind).delay(Duration::from_millis(20)).method(&Method::POST));
        let answers = futures_util::future::join_all((0..50).map(|_| world.enable())).await;
        let of = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
        assert_eq!((of(201), of(409), world.bought()), (1, 49, (1, 1)), "{kind:?}");
        assert_eq!(world.ends().1, 100_000_000);
    }
}

#[tokio::test]
async fn the_hold_stands_before_the_call_leaves_and_who_leaves_does_not_cancel_it() {
    let world = World::gated(BUDGET, open).await;
    world.disable().await;
    world.fault(Fault::new(Kind::Latency).delay(Duration::from_millis(200)).method(&Method::POST));
    let leaving = tokio::spawn(world.enabling(LETTER).try_send());
    while world.bought().0 == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.ends(), one("held", 0));
    leaving.abort();
    while world.ends() != one("settled", 100) {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.enable().await.outcome(), (409, "bad_request"));
}

#[tokio::test]
async fn who_waits_for_others_calls_does_not_wait_for_ever() {
    let world = World::gated(BUDGET, open).await;
    world.gate.close();
    let first = tokio::spawn(world.enabling(LETTER).send());
    world.reached(1).await;
    let second = tokio::spawn(world.enabling(LETTER).send());
    let waiting = async { while world.metric("reputation_gateway_requests_waiting").await != "1" {} };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("soon");
    world.turn(Duration::from_mins(10));
    let late = tokio::time::timeout(Duration::from_secs(10), second).await.expect("soon").expect("nothing panics");
    assert_eq!((late.outcome(), late.code().as_str()), ((504, "upstream_error"), "upstream_timeout"));
    world.gate.open();
    assert_eq!(first.await.expect("nothing panics").outcome(), (409, "bad_request"));
    assert_eq!(world.sent(), 1, "who gave up sent nothing");
}

#[tokio::test]
async fn the_kill_switch_stops_it_and_what_was_kept_of_the_enterprise_is_forgotten_by_it() {
    let world = World::with(BUDGET, open).await;
    assert_eq!(world.read(STORED).await.outcome(), (200, "probe"));
    world.disable().await;
    assert_eq!(world.read(STORED).await.outcome(), (200, "hit"), "nobody told the gateway");
    let switch = |on: bool| {
        let body = json!({ "on": on, "reason": "a test" }).to_string();
        Ask::new(world.admin, "/admin/v1/kill-switch").method(Method::POST).header("content-type", "application/json").body(body).send()
    };
    switch(true).await;
    assert_eq!((world.enable().await.outcome(), world.bought()), ((503, "kill_switch"), (0, 0)));
    switch(false).await;
    world.turn(Duration::from_secs(1));
    assert_eq!(world.enable().await.outcome(), (201, "billed"));
    assert_eq!(world.read(STORED).await.outcome(), (404, "not_found"), "a new enterprise has no numbers");
}
