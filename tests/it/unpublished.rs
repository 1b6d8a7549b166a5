//! Calls whose price Telnyx does not publish: refused, free, or held, as an operator says.

use http::Method;
use reputation_gateway::auth::Permission;
use reputation_gateway::config::Config;
use reputation_gateway::policy::money::Usd;
use reputation_gateway::sandbox::{Fault, Kind};

use crate::harness::{ABSENT, Answer, BUDGET, ENTERPRISE, STORED, UNCHECKED, World, books};

fn scoped(rest: &str) -> String {
    format!("/v2/enterprises/{ENTERPRISE}/reputation{rest}")
}

fn number(of: &str, rest: &str) -> String {
    scoped(&format!("/numbers/{of}{rest}"))
}

/// Every such call, and the status it is answered with, in an order in which each succeeds.
fn calls() -> Vec<(Method, String, &'static str, u16)> {
    vec![
        (Method::GET, number(STORED, "/ownership"), "", 200),
        (Method::POST, number(STORED, "/ownership_confirm"), r#"{"still_own":true}"#, 200),
        (Method::POST, scoped("/external_verification"), r#"{"document_ids":["doc-1"]}"#, 201),
        (Method::GET, scoped("/external_verification"), "", 200),
        (Method::PATCH, scoped("/webhook"), r#"{"webhook_url":"https://hooks.example.com/"}"#, 200),
    ]
}

fn priced(price: &str) -> impl FnOnce(&mut Config) {
    let price: Usd = price.parse().expect("an amount");
    move |config| {
        config.prices.unpublished = Some(price);
        config.auth.allow = vec![Permission::Fresh, Permission::Ownership, Permission::Enable];
    }
}

impl World {
    async fn call(&self, method: &Method, path: &str, body: &str) -> Answer {
        let ask = self.ask(path).method(method.clone());
        if body.is_empty() { ask.send().await } else { ask.header("content-type", "application/json").body(body.to_owned()).send().await }
    }

    fn unpublished(&self) -> (Vec<String>, i64) {
        let charges = books::charges(&self.ledger());
        (charges.iter().map(|charge| charge.state.clone()).collect(), books::posted(&charges))
    }
}

fn money(answer: &Answer) -> (&str, &str) {
    (answer.header("x-gateway-billed"), answer.header("x-gateway-cost-usd"))
}

#[tokio::test]
async fn without_a_price_the_answer_says_how_to_allow_it() {
    let world = World::with(BUDGET, |config| config.auth.allow = vec![Permission::Ownership, Permission::Enable]).await;
    for (method, path, body, _) in calls() {
        let refused = world.call(&method, &path, body).await;
        assert_eq!((refused.outcome(), refused.code().as_str()), ((403, "not_permitted"), "operation_not_permitted"), "{method} {path}");
        let permission = if path.ends_with("webhook") { "enable" } else { "ownership" };
        let says = refused.json()["errors"][0]["detail"].as_str().expect("a detail").to_owned();
        assert!(says.contains("prices.unpublished") && says.contains(&format!("allow = [\"{permission}\"]")), "{says}");
    }
    assert_eq!(world.sent(), 0);
}

#[tokio::test]
async fn for_nothing_they_pass_as_others_do() {
    let world = World::with("", priced("0")).await;
    for (method, path, body, status) in calls() {
        let answer = world.call(&method, &path, body).await;
        assert_eq!((answer.outcome(), money(&answer)), ((status, "passed"), ("no", "0.00")), "{method} {path}: {answer:?}");
    }
    let seen = world.sandbox.requests();
    assert_eq!(seen.len(), 5);
    assert_eq!(seen[0].path_and_query, number(STORED, "/ownership"));
    let leaky = format!("{}?leak=1", number("%252B16035551234", "/ownership"));
    assert_eq!(world.call(&Method::HEAD, &leaky, "").await.outcome(), (200, "passed"));
    assert_eq!(world.sandbox.requests()[5].path_and_query, number(STORED, "/ownership"), "rebuilt, without what it does not know");
    for (path, body, code) in [
        (number("16035551234", "/ownership_confirm"), "{}", "10016"),
        (number(STORED, "/ownership_confirm"), "[]", "10015"),
        (scoped("/external_verification"), r#"{"enterprise_id":"7b09cdc3-8948-47f0-aa62-74ac943d6c58"}"#, "10015"),
    ] {
        let refused = world.call(&Method::POST, &path, body).await;
        assert_eq!((refused.outcome(), refused.code().as_str()), ((400, "bad_request"), code), "{path} {body}");
    }
    assert_eq!((world.sent(), world.unpublished().0.len()), (6, 0));
}

#[tokio::test]
async fn who_has_no_permission_calls_nothing() {
    let world = World::with(BUDGET, |config| config.prices.unpublished = Some(Usd::ZERO)).await;
    for (method, path, body, _) in calls() {
        let refused = world.call(&method, &path, body).await;
        let code = if path.ends_with("webhook") { "enable_not_permitted" } else { "ownership_not_permitted" };
        assert_eq!((refused.outcome(), refused.code().as_str()), ((403, "not_permitted"), code), "{method} {path}");
    }
    assert_eq!(world.sent(), 0);
}

#[tokio::test]
async fn for_a_price_each_call_is_held_and_settled() {
    let world =
        World::with("[[budget]]\nname = \"some\"\nlimit = \"1.25\"\nwindow = \"day\"\noperation = \"unpublished\"\n", priced("0.25")).await;
    for (method, path, body, status) in calls() {
        let answer = world.call(&method, &path, body).await;
        assert_eq!((answer.outcome(), money(&answer)), ((status, "billed"), ("yes", "0.25")), "{method} {path}: {answer:?}");
    }
    assert_eq!(world.unpublished(), (vec!["settled".to_owned(); 5], 1_250_000));
    let with_number: Vec<_> = books::charges(&world.ledger()).into_iter().map(|charge| charge.number).collect();
    assert_eq!(with_number, [STORED, STORED, "", "", ""]);
    let sent = world.sent();
    assert_eq!(world.call(&Method::GET, &number(STORED, "/ownership"), "").await.outcome(), (402, "budget_exhausted"));
    assert_eq!((world.sent(), world.unpublished().1), (sent, 1_250_000));
}

#[tokio::test]
async fn what_says_that_it_costs_nothing_does_not_buy() {
    let world = World::with(BUDGET, priced("0.25")).await;
    let path = number(STORED, "/ownership");
    assert_eq!(world.call(&Method::HEAD, &path, "").await.outcome(), (403, "not_permitted"));
    assert_eq!(world.ask(&path).header("cache-control", "no-cache").send().await.code(), "operation_not_permitted");
    assert_eq!(world.ask(&path).header("cache-control", "only-if-cached").send().await.outcome(), (504, "not_in_cache"));
    assert_eq!((world.sent(), world.unpublished().0.len()), (0, 0));
}

#[tokio::test]
async fn what_telnyx_refuses_is_released_and_what_was_lost_counts() {
    let world = World::with(BUDGET, priced("0.25")).await;
    let refused = world.call(&Method::GET, &number(ABSENT, "/ownership"), "").await;
    assert_eq!((refused.outcome(), money(&refused)), ((404, "upstream_error"), ("no", "0.00")));
    for (kind, status) in [(Kind::Reset, 504), (Kind::StatusAfterBilling, 504), (Kind::Garbage, 502)] {
        world.fault(Fault::new(kind));
        let lost = world.call(&Method::GET, &number(STORED, "/ownership"), "").await;
        assert_eq!((lost.status.as_u16(), money(&lost)), (status, ("unknown", "0.25")), "{kind:?}: {lost:?}");
    }
    let states = ["released", "assumed", "assumed", "assumed"].map(str::to_owned).to_vec();
    assert_eq!(world.unpublished(), (states, 750_000));
}

#[tokio::test]
async fn a_number_that_is_not_owned_any_more_is_forgotten() {
    for (price, kind) in [("0", Kind::Latency), ("0.25", Kind::Latency), ("0", Kind::ResetAfterBilling), ("0.25", Kind::ResetAfterBilling)]
    {
        let world = World::with(BUDGET, priced(price)).await;
        assert_eq!(world.read(STORED).await.outcome(), (200, "probe"));
        assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "first_touch"));
        world.turn(std::time::Duration::from_secs(1));
        world.fault(Fault::new(kind).delay(std::time::Duration::ZERO).method(&Method::POST));
        world.call(&Method::POST, &number(STORED, "/ownership_confirm"), r#"{"still_own":false}"#).await;
        assert_eq!(world.read(STORED).await.outcome(), (404, "not_found"), "{price} {kind:?}");
        assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "hit"), "{price} {kind:?}: no other number's copy is gone");
    }
}
