//! An association: all numbers or none, each checked and paid for once, and their records kept.

use std::time::Duration;

use http::Method;
use reputation_gateway::auth::Permission;
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{Fault, Kind, Operation};
use serde_json::{Value, json};

use crate::harness::{Answer, BUDGET, ENTERPRISE, STORED, World, books};

const SECOND: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_mins(2);

fn open(config: &mut Config) {
    config.auth.allow = vec![Permission::Fresh, Permission::Associate];
}

fn path() -> String {
    format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers")
}

/// The `n`th number that nobody has associated.
fn stranger(n: usize) -> String {
    format!("+1312555{n:04}")
}

fn some(count: usize) -> Vec<String> {
    (0..count).map(stranger).collect()
}

impl World {
    async fn associating(&self, body: String) -> Answer {
        self.ask(&path()).method(Method::POST).header("content-type", "application/json").body(body).send().await
    }

    async fn associate(&self, numbers: &[impl AsRef<str>]) -> Answer {
        self.associating(json!({ "phone_numbers": numbers.iter().map(AsRef::as_ref).collect::<Vec<_>>() }).to_string()).await
    }

    /// How many associations reached the stand-in.
    fn associations(&self) -> usize {
        self.sandbox.requests().iter().filter(|seen| seen.method == "POST").count()
    }

    /// Micro-dollars that the ledger posted.
    fn posted_micros(&self) -> i64 {
        books::posted(&books::charges(&self.ledger()))
    }
}

fn numbers(answer: &Answer) -> Vec<String> {
    let items = answer.json()["data"].as_array().cloned().unwrap_or_else(|| panic!("no list: {answer:?}"));
    items.iter().map(|item| item["phone_number"].as_str().unwrap_or_default().to_owned()).collect()
}

fn money(answer: &Answer) -> (&str, &str) {
    (answer.header("x-gateway-billed"), answer.header("x-gateway-cost-usd"))
}

#[tokio::test]
async fn each_number_is_billed_once_and_its_record_is_kept() {
    let world = World::with(BUDGET, open).await;
    let wanted = some(5);
    assert_eq!(world.read(&wanted[0]).await.outcome(), (404, "not_found"));
    world.ask("/v2/reputation/numbers").send().await;
    world.turn(SECOND);
    let sent = world.sent();
    let answer = world.associate(&wanted).await;
    assert_eq!((answer.outcome(), money(&answer), numbers(&answer)), ((201, "billed"), ("yes", "0.50"), wanted.clone()));
    assert_eq!(answer.header("cache-status"), "reputation-gateway; fwd=method; fwd-status=201; detail=billed");
    assert_eq!((world.sent() - sent, world.charged().as_str(), world.posted_micros()), (1, "0.50", 500_000));
    assert_eq!(world.charges().operation(Operation::Associate).count, 5);
    let read = world.read(&wanted[0]).await;
    assert_eq!((read.outcome(), &read.json()["data"]), ((200, "hit"), &answer.json()["data"][0]), "the 404 is gone");
    assert_eq!(world.fresh(&wanted[1]).await.outcome(), (200, "cooldown"));
    assert_eq!(world.ask("/v2/reputation/numbers").send().await.outcome(), (200, "passed"), "the list is asked for anew");
    assert_eq!(world.charged(), "0.50");
    assert_eq!(world.metric("reputation_gateway_upstream_requests_total{operation=\"associate\",result=\"billed\"}").await, "1");
}

#[tokio::test]
async fn who_has_no_permission_no_budget_or_a_bad_body_associates_nothing() {
    let world = World::new().await;
    let refused = world.associate(&some(1)).await;
    assert_eq!((refused.outcome(), refused.code().as_str()), ((403, "not_permitted"), "associate_not_permitted"));
    let world = World::with("[[budget]]\nname = \"few\"\nlimit = \"0.30\"\nwindow = \"day\"\noperation = \"associate\"\n", open).await;
    let refused = world.associate(&some(4)).await;
    assert_eq!((refused.outcome(), money(&refused)), ((402, "budget_exhausted"), ("no", "0.00")));
    assert_eq!(refused.json()["gateway"]["price_usd"], "0.40");
    for (body, code) in [
        (r#"{"phone_numbers":[]}"#.to_owned(), "10015"),
        (json!({ "phone_numbers": some(101) }).to_string(), "10015"),
        (json!({ "phone_numbers": [stranger(0), stranger(0)] }).to_string(), "10015"),
        (json!({ "phone_numbers": [stranger(0)], "enterprise_id": ENTERPRISE }).to_string(), "10015"),
        (json!({ "phone_numbers": ["3125550000"] }).to_string(), "10016"),
    ] {
        let refused = world.associating(body.clone()).await;
        assert_eq!((refused.outcome(), refused.code().as_str()), ((400, "bad_request"), code), "{body}");
    }
    assert_eq!((world.sent(), books::charges(&world.ledger()).len()), (0, 0));
    assert_eq!(world.associate(&some(3)).await.outcome(), (201, "billed"));
}

#[tokio::test]
async fn a_refusal_of_telnyxs_releases_every_hold() {
    let world = World::with(BUDGET, open).await;
    world.read(STORED).await;
    let refused = world.associate(&[stranger(0), STORED.to_owned()]).await;
    assert_eq!((refused.outcome(), money(&refused), refused.code().as_str()), ((400, "upstream_error"), ("no", "0.00"), "10015"));
    assert_eq!(world.metric("reputation_gateway_holds_total{end=\"released\"}").await, "2");
    assert_eq!((world.charged().as_str(), world.posted_micros()), ("0.00", 0));
    assert_eq!(world.read(STORED).await.outcome(), (200, "hit"), "nothing was forgotten");
}

#[tokio::test]
async fn a_lost_answer_is_counted_not_sent_again_and_found_by_a_look() {
    let world = World::with(BUDGET, open).await;
    assert_eq!(world.read(&stranger(1)).await.outcome(), (404, "not_found"));
    world.turn(SECOND);
    world.fault(Fault::new(Kind::ResetAfterBilling));
    let lost = world.associate(&some(3)).await;
    assert_eq!((lost.outcome(), money(&lost), lost.header("x-should-retry")), ((504, "outcome_unknown"), ("unknown", "0.30"), "false"));
    assert_eq!(world.posted_micros(), 300_000);
    assert_eq!(world.read(&stranger(1)).await.status, 200, "the 404 is gone, whatever became of it");
    let again = world.associate(&some(3)).await;
    assert_eq!((again.outcome(), money(&again), numbers(&again)), ((201, "cooldown"), ("no", "0.00"), some(3)));
    assert_eq!(again.json()["meta"]["total_results"], 3);
    world.resolved().await;
    assert_eq!((world.associations(), world.charged().as_str(), world.posted_micros()), (1, "0.30", 300_000));
}

#[tokio::test]
async fn what_may_still_be_carried_out_is_not_sent_again() {
    let world = World::with(BUDGET, open).await;
    world.fault(Fault::new(Kind::Reset));
    assert_eq!(world.associate(&some(2)).await.outcome(), (504, "outcome_unknown"));
    let again = world.associate(&some(2)).await;
    assert_eq!((again.outcome(), money(&again)), ((504, "outcome_unknown"), ("no", "0.00")));
    assert_eq!((world.associations(), world.charged().as_str()), (1, "0.00"));
    world.turn(WINDOW);
    assert_eq!(world.associate(&some(2)).await.outcome(), (201, "billed"));
    assert_eq!((world.charged().as_str(), world.associations()), ("0.20", 2));
}

#[tokio::test]
async fn an_answer_of_other_records_is_not_shown_and_leaves_all_unknown() {
    for kind in [Kind::Garbage, Kind::Cut] {
        let world = World::with(BUDGET, open).await;
        world.fault(Fault::new(kind));
        let unread = world.associate(&some(2)).await;
        assert_eq!((unread.header("x-gateway-billed"), unread.header("x-gateway-cost-usd")), ("unknown", "0.20"), "{kind:?}");
        assert!([502, 504].contains(&unread.status.as_u16()), "{unread:?}");
        assert_eq!(world.associate(&some(2)).await.outcome(), (201, "recovered"));
        assert_eq!((world.charged().as_str(), world.posted_micros()), ("0.20", 200_000));
    }
}

#[tokio::test]
async fn a_caller_who_leaves_neither_cancels_nor_repeats_it() {
    let world = World::gated(BUDGET, open).await;
    world.gate.close();
    let body = json!({ "phone_numbers": some(2) }).to_string();
    let leaving = tokio::spawn(world.ask(&path()).method(Method::POST).body(body).send());
    world.reached(1).await;
    leaving.abort();
    assert!(leaving.await.is_err_and(|left| left.is_cancelled()));
    let number = stranger(0);
    let (read, ()) = tokio::join!(world.fresh(&number), async { world.gate.open() });
    assert_eq!((read.status.as_u16(), money(&read)), (200, ("no", "0.00")));
    assert_eq!((world.charged().as_str(), world.posted_micros()), ("0.20", 200_000));
}

#[tokio::test]
async fn associations_of_the_same_numbers_at_once_are_charged_once() {
    let world = World::with(BUDGET, open).await;
    let (one, other) = (some(6), some(6).into_iter().rev().collect::<Vec<_>>());
    let (one, other) = tokio::join!(world.associate(&one), world.associate(&other));
    let mut outcomes = [one.outcome(), other.outcome()];
    outcomes.sort_unstable();
    assert_eq!(outcomes, [(201, "billed"), (201, "collapsed")]);
    assert_eq!(numbers(&other), some(6).into_iter().rev().collect::<Vec<_>>());
    assert_eq!((world.charged().as_str(), world.posted_micros()), ("0.60", 600_000));
}

#[tokio::test]
async fn what_was_removed_and_associated_again_is_checked_again() {
    let world = World::with(BUDGET, open).await;
    assert_eq!(world.associate(&some(1)).await.outcome(), (201, "billed"));
    world.turn(SECOND);
    let removed = world.ask(&format!("{}/{}", path(), stranger(0))).method(Method::DELETE).send().await;
    assert_eq!(removed.outcome(), (204, "passed"));
    assert_eq!(world.read(&stranger(0)).await.outcome(), (404, "not_found"));
    world.turn(SECOND);
    let again = world.associate(&some(1)).await;
    assert_eq!((again.outcome(), world.charged().as_str()), ((201, "billed"), "0.20"));
    let body: Value = world.read(&stranger(0)).await.json();
    assert_eq!(body["data"], again.json()["data"][0]);
}
