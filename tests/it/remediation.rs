//! A remediation: a dollar for each number, held together, sent once; what was lost counts for good.

use http::Method;
use reputation_gateway::auth::Permission;
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{Fault, Kind, Operation};
use serde_json::{Value, json};

use crate::harness::{ABSENT, Answer, BUDGET, ENTERPRISE, STORED, UNCHECKED, World, books, unchecked};

/// A rate that lets one call through at a time: an order is one, however many numbers it has.
fn open(config: &mut Config) {
    config.auth.allow = vec![Permission::Fresh, Permission::Remediation];
    config.fresh.rate = "1/s".parse().expect("a rate");
}

fn order(numbers: &[impl AsRef<str>]) -> Value {
    let numbers: Vec<_> = numbers.iter().map(AsRef::as_ref).collect();
    json!({ "phone_numbers": numbers, "call_purpose": "appointments", "contact_email": "ops@example.com" })
}

fn path() -> String {
    format!("/v2/enterprises/{ENTERPRISE}/reputation/remediation")
}

impl World {
    async fn order(&self, body: &Value) -> Answer {
        self.ask(&path()).method(Method::POST).header("content-type", "application/json").body(body.to_string()).send().await
    }

    /// Each charge's state, and all that was posted.
    fn states(&self) -> (Vec<String>, i64) {
        let charges = books::charges(&self.ledger());
        (charges.iter().map(|charge| charge.state.clone()).collect(), books::posted(&charges))
    }
}

fn money(answer: &Answer) -> (&str, &str) {
    (answer.header("x-gateway-billed"), answer.header("x-gateway-cost-usd"))
}

#[tokio::test]
async fn each_number_is_a_dollar_and_the_order_goes_as_it_was_read() {
    let world = World::with(BUDGET, open).await;
    let body = order(&[STORED, UNCHECKED, &unchecked(1)]);
    let answer = world.order(&body).await;
    assert_eq!((answer.outcome(), money(&answer)), ((202, "billed"), ("yes", "3.00")), "{answer:?}");
    assert_eq!(
        (&answer.json()["data"]["call_purpose"], &answer.json()["data"]["phone_numbers_count"]),
        (&json!("appointments"), &json!(3))
    );
    assert_eq!((world.charged().as_str(), world.charges().operation(Operation::Remediation).count, world.sent()), ("3.00", 3, 1));
    assert_eq!(world.states(), (vec!["settled".to_owned(); 3], 3_000_000));
    let id = answer.json()["data"]["id"].as_str().expect("an id").to_owned();
    let read = world.ask(&format!("{}/{id}", path())).send().await;
    assert_eq!((read.outcome(), &read.json()["data"]), ((200, "passed"), &answer.json()["data"]));
}

#[tokio::test]
async fn an_order_is_no_check_of_its_numbers() {
    let mut world = World::with(BUDGET, open).await;
    world.order(&order(&[UNCHECKED])).await;
    world.stop().await;
    world.restart().await;
    assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "first_touch"), "nothing says that a check was paid for");
    assert_eq!((world.charged().as_str(), world.states().1), ("1.10", 1_100_000));
}

#[tokio::test]
async fn what_is_refused_costs_nothing() {
    let world = World::new().await;
    let refused = world.order(&order(&[STORED])).await;
    assert_eq!((refused.outcome(), refused.code().as_str(), world.sent()), ((403, "not_permitted"), "remediation_not_permitted", 0));
    let world = World::with("[[budget]]\nname = \"two\"\nlimit = \"2.00\"\nwindow = \"day\"\noperation = \"remediation\"\n", open).await;
    let dear = world.order(&order(&[STORED, UNCHECKED, &unchecked(1)])).await;
    assert_eq!((dear.outcome(), &dear.json()["gateway"]["price_usd"]), ((402, "budget_exhausted"), &json!("3.00")));
    let many: Vec<_> = (0..2_001).map(|n| format!("+1312555{n:04}")).collect();
    for body in [json!({}), json!({ "phone_numbers": STORED }), order(&[""; 0]), order(&many), order(&[STORED, STORED]), order(&["1"])] {
        assert_eq!(world.order(&body).await.outcome(), (400, "bad_request"));
    }
    assert_eq!((world.sent(), world.states()), (0, (Vec::new(), 0)));
    let absent = world.order(&order(&[STORED, ABSENT])).await;
    assert_eq!((absent.outcome(), money(&absent)), ((404, "upstream_error"), ("no", "0.00")));
    assert_eq!((world.charged().as_str(), world.states()), ("0.00", (vec!["released".to_owned(); 2], 0)));
}

#[tokio::test]
async fn an_order_of_2000_numbers_is_held_whole() {
    let world = World::with("[[budget]]\nname = \"much\"\nlimit = \"2000.00\"\nwindow = \"day\"\n", open).await;
    let many: Vec<_> = (0..2_000).map(|n| format!("+1312555{n:04}")).collect();
    let absent = world.order(&order(&many)).await;
    assert_eq!((absent.outcome(), world.states().0.len(), world.states().1), ((404, "upstream_error"), 2_000, 0));
}

#[tokio::test]
async fn a_lost_order_counts_for_good() {
    for kind in [Kind::ResetAfterBilling, Kind::Reset, Kind::Garbage] {
        let mut world = World::with(BUDGET, open).await;
        world.fault(Fault::new(kind));
        let lost = world.order(&order(&[STORED, UNCHECKED])).await;
        assert_eq!(money(&lost), ("unknown", "2.00"), "{kind:?}");
        assert!([502, 504].contains(&lost.status.as_u16()), "{lost:?}");
        assert_eq!(world.states(), (vec!["assumed".to_owned(); 2], 2_000_000));
        assert_eq!(world.metric("reputation_gateway_calls_unresolved").await, "0", "no look could tell");
        world.stop().await;
        world.restart().await;
        assert_eq!(world.metric("reputation_gateway_calls_unresolved").await, "0");
        assert_eq!((world.fresh(STORED).await.status.as_u16(), world.sent()), (200, 2));
    }
}
