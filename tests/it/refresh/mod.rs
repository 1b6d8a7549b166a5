//! A refresh: many numbers by one call, each paid for once, all or none of them held.

mod others;

use std::time::Duration;

use http::Method;
use reputation_gateway::auth::Permission;
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{Fault, Kind, Operation};
use serde_json::json;

use crate::harness::{ABSENT, Answer, Ask, BUDGET, ENTERPRISE, NULL, STORED, UNCHECKED, World, books, unchecked};

const MINUTE: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_mins(2);

/// Where everybody may refresh, an hour after the start: what is stored from the start is not young any more.
async fn open(tables: &str, change: impl FnOnce(&mut Config)) -> World {
    let world = World::with(tables, |config| {
        config.auth.allow.push(Permission::Refresh);
        change(config);
    })
    .await;
    world.turn(61 * MINUTE);
    world
}

fn path() -> String {
    format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/refresh")
}

fn some(count: usize) -> Vec<String> {
    (0..count).map(unchecked).collect()
}

fn body(numbers: &[impl AsRef<str>]) -> String {
    json!({ "phone_numbers": numbers.iter().map(AsRef::as_ref).collect::<Vec<_>>() }).to_string()
}

impl World {
    fn refreshing(&self, body: impl Into<bytes::Bytes>) -> Ask {
        self.ask(&path()).method(Method::POST).header("content-type", "application/json").body(body)
    }

    /// Turns the kill switch on.
    async fn stop_spending(&self) {
        let switch = json!({ "on": true, "reason": "a drill", "author": "ops" }).to_string();
        let ask = Ask::new(self.admin, "/admin/v1/kill-switch").method(Method::POST).header("content-type", "application/json");
        assert_eq!(ask.body(switch).send().await.status, 200);
    }

    pub(crate) async fn refresh(&self, numbers: &[impl AsRef<str>]) -> Answer {
        self.refreshing(body(numbers)).send().await
    }
}

/// Each number with its success, in the answer's order.
fn results(answer: &Answer) -> Vec<(String, bool)> {
    let whole = answer.json();
    let results = whole["data"]["results"].as_array().unwrap_or_else(|| panic!("no results: {answer:?}")).clone();
    let successes = results.iter().filter(|result| result["success"] == true).count();
    let counts = ["total_requested", "total_successful", "total_failed"].map(|count| whole["data"][count].as_u64());
    assert_eq!(counts, [results.len(), successes, results.len() - successes].map(|count| Some(count as u64)), "{whole}");
    for result in &results {
        assert_eq!(result["error"].is_null(), result["success"] == true, "{result}");
    }
    results.iter().map(|result| (result["phone_number"].as_str().unwrap_or_default().to_owned(), result["success"] == true)).collect()
}

fn money(answer: &Answer) -> (&str, &str) {
    (answer.header("x-gateway-billed"), answer.header("x-gateway-cost-usd"))
}

async fn posted(world: &World) -> String {
    world.metric("reputation_gateway_budget_spent_usd{budget=\"all-day\"}").await
}

fn refreshes_sent(world: &World) -> usize {
    world.sandbox.requests().iter().filter(|seen| seen.path_and_query.ends_with("/refresh")).count()
}

#[tokio::test]
async fn a_refresh_is_billed_for_each_number_once_and_passes_telnyxs_bytes_on() {
    let world = open(BUDGET, |_| {}).await;
    let numbers = some(20);
    let bought = world.refresh(&numbers).await;
    assert_eq!((bought.outcome(), money(&bought)), ((200, "billed"), ("yes", "2.00")));
    assert_eq!(results(&bought), numbers.iter().map(|number| (number.clone(), true)).collect::<Vec<_>>());
    assert_eq!(bought.header("cache-status"), "reputation-gateway; fwd=method; fwd-status=200; detail=billed");
    assert_eq!((world.charged().as_str(), world.charges().operation(Operation::Refresh).count, world.sent()), ("2.00", 20, 1));
    assert_eq!(posted(&world).await, "2");
    let again = world.refresh(&numbers).await;
    assert_eq!((again.outcome(), money(&again), results(&again)), ((200, "cooldown"), ("no", "0.00"), results(&bought)));
    assert_eq!(again.header("cache-status"), "reputation-gateway; detail=cooldown");
    assert_eq!(world.metric("reputation_gateway_avoided_usd_total{cause=\"cooldown\"}").await, "2");
    assert_eq!(world.metric("reputation_gateway_upstream_requests_total{operation=\"refresh\",result=\"billed\"}").await, "1");
    assert_eq!((world.charged().as_str(), world.sent()), ("2.00", 1));
    world.turn(61 * MINUTE);
    assert_eq!(world.refresh(&numbers).await.outcome(), (200, "billed"));
    assert_eq!(world.charged(), "4.00");
}

#[tokio::test]
async fn the_request_upstream_is_built_from_the_numbers_alone() {
    let world = open(BUDGET, |_| {}).await;
    let spaced = format!("{{ \"phone_numbers\" : [ \"{STORED}\" ] }}");
    let path = format!("/enterprises/{}/reputation/numbers/refresh?fresh=true&force=1", ENTERPRISE.to_uppercase());
    let ask = world.ask(&path).method(Method::POST).header("content-type", "Application/JSON; charset=utf-8");
    let answer = ask.header("idempotency-key", "1").header("cookie", "a=b").body(spaced).send().await;
    assert_eq!(answer.outcome(), (200, "billed"), "{answer:?}");
    let seen = &world.sandbox.requests()[0];
    assert_eq!(seen.path_and_query, self::path());
    assert_eq!(seen.headers["content-type"], "application/json");
    for name in ["idempotency-key", "cookie"] {
        assert!(!seen.headers.contains_key(name), "{name} went upstream");
    }
}

#[tokio::test]
async fn who_has_no_permission_refreshes_nothing() {
    let world = World::new().await;
    let refused = world.refresh(&[STORED]).await;
    assert_eq!((refused.outcome(), refused.code().as_str()), ((403, "not_permitted"), "refresh_not_permitted"));
    assert_eq!(refused.header("x-should-retry"), "false");
    assert_eq!((world.sent(), world.charged().as_str()), (0, "0.00"));
    assert!(books::charges(&world.ledger()).is_empty());
}

#[tokio::test]
async fn a_body_that_is_not_understood_is_refused_with_nothing_held_and_nothing_sent() {
    let world = open(BUDGET, |_| {}).await;
    let twice = body(&[STORED, UNCHECKED, STORED]);
    for (sent, code, fault) in [
        ("", "10015", "JSON object"),
        ("{\"phone_numbers\":[]}", "10015", "1 to 100"),
        (&body(&some(101)), "10015", "1 to 100"),
        ("{\"phone_numbers\":[\"+16035551234\"],\"force\":true}", "10015", "force"),
        ("{\"phone_numbers\":[\"+16035551234\",7]}", "10015", "phone_numbers[1]"),
        (&twice, "10015", "phone_numbers[2]"),
        ("{\"phone_numbers\":[\"+16035551234\",\"16035551234\"]}", "10016", "phone_numbers[1]"),
    ] {
        let refused = world.refreshing(sent.to_owned()).send().await;
        assert_eq!((refused.outcome(), refused.code().as_str()), ((400, "bad_request"), code), "{sent}");
        let detail = refused.json()["errors"][0]["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains(fault), "{sent}: {detail}");
    }
    let form = world.ask(&path()).method(Method::POST).header("content-type", "text/plain").body(body(&[STORED])).send().await;
    assert_eq!((form.outcome(), form.code().as_str()), ((400, "bad_request"), "10015"));
    let untyped = world.ask(&path()).method(Method::POST).body(body(&[STORED])).send().await;
    assert_eq!(untyped.outcome(), (200, "billed"), "a client may leave the type out");
    assert_eq!((world.sent(), books::charges(&world.ledger()).len()), (1, 1));
}

#[tokio::test]
async fn a_body_is_bounded() {
    let world = open(BUDGET, |config| config.server.max_body_size = "64".parse().expect("a size")).await;
    let refused = world.refresh(&some(10)).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str(), world.sent()), (413, "body_too_large", 0));
}

#[tokio::test]
async fn of_a_mixed_batch_only_what_has_to_be_bought_is() {
    let world = open(BUDGET, |_| {}).await;
    world.fresh(UNCHECKED).await;
    world.fault(Fault::new(Kind::Reset).query_contains("fresh=true"));
    let unclear = unchecked(1);
    assert_eq!(world.fresh(&unclear).await.outcome(), (504, "outcome_unknown"));
    let sent = world.sent();
    let numbers = [STORED, &unclear, UNCHECKED, NULL];
    let mixed = world.refresh(&numbers).await;
    assert_eq!((mixed.outcome(), money(&mixed)), ((200, "billed"), ("yes", "0.20")));
    let expected = [(STORED, true), (&unclear, false), (UNCHECKED, true), (NULL, true)];
    assert_eq!(results(&mixed), expected.map(|(number, success)| (number.to_owned(), success)));
    assert_eq!(world.sent(), sent + 2, "a look at the number of unknown outcome, and one refresh");
    assert_eq!(world.charges().operation(Operation::Refresh).count, 2);
    assert_eq!((world.charged().as_str(), posted(&world).await.as_str()), ("0.30", "0.4"));
    world.turn(WINDOW);
    let bought = world.refresh(&[&unclear]).await;
    assert_eq!((bought.outcome(), world.charged().as_str()), ((200, "billed"), "0.40"));
    world.resolved().await;
    assert_eq!(posted(&world).await, "0.4");
}

#[tokio::test]
async fn all_numbers_barred_is_an_unknown_outcome() {
    let world = open(BUDGET, |_| {}).await;
    world.fault(Fault::new(Kind::Reset));
    let lost = world.refresh(&[UNCHECKED, STORED]).await;
    assert_eq!((lost.outcome(), money(&lost), lost.code().as_str()), ((504, "outcome_unknown"), ("unknown", "0.20"), "outcome_unknown"));
    assert_eq!(lost.header("x-should-retry"), "false");
    let again = world.refresh(&[UNCHECKED, STORED]).await;
    assert_eq!((again.outcome(), money(&again)), ((504, "outcome_unknown"), ("no", "0.00")));
    assert_eq!((refreshes_sent(&world), world.charged().as_str()), (1, "0.00"));
    // An SDK's retry of the same intent is not sent again either, however long it waits.
    world.turn(10 * MINUTE);
    let retried = world.refreshing(body(&[UNCHECKED])).header("x-stainless-retry-count", "1").send().await;
    assert_eq!(retried.outcome(), (504, "outcome_unknown"));
    assert_eq!(world.refresh(&[UNCHECKED]).await.outcome(), (200, "billed"), "a new intent");
    assert_eq!(refreshes_sent(&world), 2);
}

#[tokio::test]
async fn a_lost_answer_is_found_by_a_look_and_not_paid_again() {
    let world = open(BUDGET, |_| {}).await;
    world.fault(Fault::new(Kind::ResetAfterBilling));
    let numbers = some(3);
    assert_eq!(world.refresh(&numbers).await.outcome(), (504, "outcome_unknown"));
    let again = world.refresh(&numbers).await;
    assert_eq!((again.outcome(), money(&again)), ((200, "recovered"), ("no", "0.00")));
    assert!(results(&again).iter().all(|(_, success)| *success));
    world.resolved().await;
    assert_eq!((world.charged().as_str(), posted(&world).await.as_str(), refreshes_sent(&world)), ("0.30", "0.3", 1));
    assert_eq!(world.metric("reputation_gateway_avoided_usd_total{cause=\"recovered\"}").await, "0.3");
}

#[tokio::test]
async fn what_failed_for_one_number_is_counted_until_a_look_shows_that_it_was_not_billed() {
    let world = open(BUDGET, |_| {}).await;
    let part = world.refresh(&[STORED, ABSENT]).await;
    assert_eq!((part.outcome(), money(&part)), ((200, "billed"), ("unknown", "0.20")));
    assert_eq!(results(&part), [(STORED.to_owned(), true), (ABSENT.to_owned(), false)]);
    assert_eq!((world.charged().as_str(), posted(&world).await.as_str()), ("0.10", "0.2"));
    world.turn(WINDOW);
    world.resolved().await;
    assert_eq!(posted(&world).await, "0.1");
    let none = world.refresh(&[ABSENT]).await;
    assert_eq!((none.outcome(), money(&none)), ((200, "outcome_unknown"), ("unknown", "0.10")));
    assert_eq!(results(&none), [(ABSENT.to_owned(), false)]);
    world.turn(WINDOW);
    world.resolved().await;
    assert_eq!((world.charged().as_str(), posted(&world).await.as_str()), ("0.10", "0.1"));
}

#[tokio::test]
async fn a_budget_that_does_not_bear_the_whole_batch_bears_none_of_it() {
    let world = open("[[budget]]\nname = \"all-day\"\nlimit = \"0.30\"\nwindow = \"day\"\noperation = \"refresh\"\n", |_| {}).await;
    let refused = world.refresh(&some(4)).await;
    assert_eq!(
        (refused.outcome(), refused.code().as_str(), money(&refused)),
        ((402, "budget_exhausted"), "budget_exhausted", ("no", "0.00"))
    );
    let facts = &refused.json()["gateway"];
    assert_eq!((&facts["price_usd"], &facts["held_usd"], &facts["scope"]), (&json!("0.40"), &json!("0.00"), &json!("operation=refresh")));
    assert_eq!((world.sent(), books::charges(&world.ledger()).len()), (0, 0));
    assert_eq!(world.refresh(&some(3)).await.outcome(), (200, "billed"));
    assert_eq!(world.refresh(&some(4)).await.outcome(), (402, "budget_exhausted"), "three of them are paid for, and there is nothing left");
    assert_eq!(world.charged(), "0.30");
}

#[tokio::test]
async fn a_batch_takes_from_the_rates_what_it_has_numbers() {
    let world = open(BUDGET, |config| config.fresh.rate = "4/min".parse().expect("a rate")).await;
    let refused = world.refresh(&some(5)).await;
    assert_eq!((refused.outcome(), refused.code().as_str()), ((429, "rate_limited"), "fresh_rate_limited"));
    assert!(refused.text().contains("never lets more than 4"), "{}", refused.text());
    assert_eq!((refused.header("x-should-retry"), refused.header("retry-after")), ("false", ""));
    assert_eq!(world.refresh(&some(3)).await.outcome(), (200, "billed"));
    let soon = world.refresh(&[unchecked(3), unchecked(4)]).await;
    assert_eq!((soon.outcome(), soon.header("x-should-retry")), ((429, "rate_limited"), "false"), "15 s");
    world.turn(10 * SECOND);
    let soon = world.refresh(&[unchecked(3), unchecked(4)]).await;
    assert_eq!((soon.outcome(), soon.header("retry-after")), ((429, "rate_limited"), "5"));
    assert_eq!((world.charged().as_str(), world.sent()), ("0.30", 1));
}

#[tokio::test]
async fn a_stop_of_all_billable_work_stops_refreshes() {
    let world = open(BUDGET, |_| {}).await;
    world.fresh(UNCHECKED).await;
    world.stop_spending().await;
    let refused = world.refresh(&[STORED]).await;
    assert_eq!((refused.outcome(), refused.code().as_str()), ((503, "kill_switch"), "kill_switch"));
    assert_eq!(world.refresh(&[UNCHECKED]).await.outcome(), (200, "cooldown"), "what is paid for costs nothing");
    assert_eq!((refreshes_sent(&world), world.charged().as_str()), (0, "0.10"));
}

#[tokio::test]
async fn a_refusal_of_the_upstream_releases_all_holds_and_is_passed_on() {
    let world = open(BUDGET, |_| {}).await;
    for (status, told) in [(402_u16, 402), (403, 403), (422, 422), (401, 502)] {
        world.fault(Fault::new(Kind::Status).status(status.try_into().expect("a status")));
        let refused = world.refresh(&some(2)).await;
        assert_eq!((refused.outcome(), money(&refused)), ((told, "upstream_error"), ("no", "0.00")), "{status}");
    }
    world.fault(Fault::new(Kind::RateLimited).reset_s(7));
    let limited = world.refresh(&some(2)).await;
    assert_eq!((limited.outcome(), limited.header("retry-after")), ((429, "upstream_error"), "7"));
    assert_eq!(world.metric("reputation_gateway_holds_total{end=\"released\"}").await, "10");
    assert_eq!((world.charged().as_str(), posted(&world).await.as_str()), ("0.00", "0"));
    world.turn(Duration::from_secs(7));
    assert_eq!(world.refresh(&some(2)).await.outcome(), (200, "billed"));
}

#[tokio::test]
async fn an_answer_that_tells_of_no_number_is_not_shown_and_leaves_all_unknown() {
    let world = open(BUDGET, |_| {}).await;
    world.fault(Fault::new(Kind::Garbage));
    let unread = world.refresh(&[STORED, UNCHECKED]).await;
    assert_eq!((unread.outcome(), unread.code().as_str()), ((502, "upstream_error"), "upstream_invalid"));
    assert_eq!(money(&unread), ("unknown", "0.20"));
    let again = world.refresh(&[STORED, UNCHECKED]).await;
    assert_eq!((again.outcome(), money(&again)), ((200, "recovered"), ("no", "0.00")));
    assert!(results(&again).iter().all(|(_, success)| *success));
    assert_eq!(world.charged(), "0.20");
}
