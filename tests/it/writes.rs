//! Free writes: who may make them, what goes upstream, and what is forgotten because of them.

use std::time::Duration;

use http::Method;
use reputation_gateway::auth::Permission;
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{Fault, Kind};
use serde_json::{Value, json};

use crate::harness::{Answer, BUDGET, ENTERPRISE, STORED, UNCHECKED, World};

const SECOND: Duration = Duration::from_secs(1);
const OTHER: &str = "7b09cdc3-8948-47f0-aa62-74ac943d6c58";
const LIST: &str = "/v2/reputation/numbers?page[size]=250";

fn all(config: &mut Config) {
    config.auth.allow = vec![Permission::Fresh, Permission::Associate, Permission::Enable, Permission::Enterprises];
}

fn scoped(rest: &str) -> String {
    format!("/v2/enterprises/{ENTERPRISE}{rest}")
}

impl World {
    /// A write, with a body or without.
    async fn write(&self, method: Method, path: &str, body: &str) -> Answer {
        let ask = self.ask(path).method(method);
        if body.is_empty() { ask.send().await } else { ask.header("content-type", "application/json").body(body.to_owned()).send().await }
    }

    async fn remove(&self, number: &str) -> Answer {
        self.write(Method::DELETE, &scoped(&format!("/reputation/numbers/{number}")), "").await
    }
}

#[tokio::test]
async fn free_writes_pass_with_their_permission_and_cost_nothing() {
    let world = World::with("", all).await;
    let loa = scoped("/reputation/loa");
    let own = format!("/v2/reputation/numbers/{UNCHECKED}");
    for (method, path, body, status) in [
        (Method::POST, "/v2/terms_of_service/number_reputation/agree", "", 201),
        (Method::PATCH, &loa, r#"{"loa_document_id":"doc-1"}"#, 200),
        (Method::POST, &loa, r#"{"signature":{"image_base64":"aGVsbG8=","signer_name":"A"}}"#, 200),
        (Method::POST, "/v2/enterprises", r#"{"legal_name":"Acme"}"#, 201),
        (Method::PUT, &scoped(""), r#"{"legal_name":"Other","enterprise_id":"6A09CDC3-8948-47F0-AA62-74AC943D6C58"}"#, 200),
        (Method::DELETE, &own, "", 204),
        (Method::DELETE, &scoped(&format!("/reputation/numbers/{STORED}")), "", 204),
        (Method::DELETE, &scoped("/reputation"), "", 204),
        (Method::DELETE, &scoped(""), "", 204),
    ] {
        let sent = world.sent();
        let answer = world.write(method.clone(), path, body).await;
        assert_eq!((answer.outcome(), answer.header("x-gateway-billed")), ((status, "passed"), "no"), "{method} {path}: {answer:?}");
        assert_eq!(answer.header("cache-status"), format!("reputation-gateway; fwd=method; fwd-status={status}; detail=passed"));
        assert_eq!(world.sent() - sent, 1, "{method} {path}");
    }
    assert_eq!(world.charged(), "0.00");
}

#[tokio::test]
async fn a_letter_of_authorisation_comes_as_its_bytes() {
    let world = World::with("", all).await;
    let pdf = world.write(Method::POST, &scoped("/reputation/loa"), "{}").await;
    assert_eq!((pdf.outcome(), pdf.header("content-type")), ((200, "passed"), "application/pdf"));
    assert!(pdf.body.starts_with(b"%PDF-"));
    assert!(world.sandbox.requests()[0].headers["accept"].starts_with("application/pdf"));
    world.fault(Fault::new(Kind::Garbage));
    let page = world.write(Method::POST, &scoped("/reputation/loa"), "{}").await;
    assert_eq!((page.outcome(), page.code().as_str()), ((502, "upstream_error"), "upstream_invalid"));
}

#[tokio::test]
async fn who_has_no_permission_changes_nothing() {
    let world = World::new().await;
    for (method, path, code) in [
        (Method::DELETE, scoped(&format!("/reputation/numbers/{STORED}")), "associate_not_permitted"),
        (Method::DELETE, format!("/v2/reputation/numbers/{STORED}"), "associate_not_permitted"),
        (Method::DELETE, scoped("/reputation"), "enable_not_permitted"),
        (Method::PATCH, scoped("/reputation/loa"), "enable_not_permitted"),
        (Method::POST, scoped("/reputation/loa"), "enable_not_permitted"),
        (Method::POST, "/v2/terms_of_service/number_reputation/agree".to_owned(), "enable_not_permitted"),
        (Method::POST, "/v2/enterprises".to_owned(), "enterprises_not_permitted"),
        (Method::PUT, scoped(""), "enterprises_not_permitted"),
        (Method::DELETE, scoped(""), "enterprises_not_permitted"),
    ] {
        let refused = world.write(method.clone(), &path, "").await;
        assert_eq!((refused.outcome(), refused.code().as_str()), ((403, "not_permitted"), code), "{method} {path}");
        assert_eq!(refused.header("x-should-retry"), "false");
    }
    assert_eq!(world.sent(), 0);
}

#[tokio::test]
async fn what_was_checked_of_a_body_is_what_is_sent_and_nothing_else_is() {
    let world = World::with("", all).await;
    let put = |body: String| world.ask(&scoped("")).method(Method::PUT).header("content-type", "application/json").body(body).send();
    for (body, fault) in [
        (r#"{"legal_name":"A","legal_name":"B"}"#.to_owned(), "stands twice"),
        (r#"{"contact":{"a":1,"\u0061":2}}"#.to_owned(), "stands twice"),
        ("[]".to_owned(), "JSON object"),
        ("legal_name=A".to_owned(), "JSON object"),
        ("{} {}".to_owned(), "JSON object"),
        (json!({ "enterprise_id": OTHER }).to_string(), "another enterprise"),
        (json!({ "enterprise_id": [ENTERPRISE] }).to_string(), "another enterprise"),
    ] {
        let refused = put(body.clone()).await;
        assert_eq!((refused.outcome(), refused.code().as_str()), ((400, "bad_request"), "10015"), "{body}");
        assert!(refused.text().contains(fault), "{body}: {}", refused.text());
    }
    let form = world.ask(&scoped("")).method(Method::PUT).header("content-type", "text/plain").body("{}").send().await;
    assert_eq!(form.outcome(), (400, "bad_request"));
    let deleting = world.write(Method::DELETE, &scoped(""), "{}").await;
    assert_eq!((deleting.outcome(), world.sent()), ((400, "bad_request"), 0));
    let spaced = r#" { "legal_name" : "\u0041b" , "n" : [ 1 , 2.50, null ] } "#;
    let changed = put(spaced.to_owned()).await;
    assert_eq!((changed.outcome(), &changed.json()["data"]["legal_name"]), ((200, "passed"), &json!("Ab")));
    let seen = &world.sandbox.requests()[0];
    assert_eq!(seen.headers["content-length"], r#"{"legal_name":"Ab","n":[1,2.5,null]}"#.len().to_string());
}

#[tokio::test]
async fn a_number_that_was_removed_is_gone_at_once() {
    let world = World::with(BUDGET, all).await;
    for (method, path) in [
        (Method::DELETE, format!("/v2/reputation/numbers/{UNCHECKED}")),
        (Method::DELETE, scoped(&format!("/reputation/numbers/{STORED}"))),
    ] {
        let number = path.rsplit('/').next().expect("a number").to_owned();
        world.read(&number).await;
        assert_eq!(world.read(&number).await.outcome(), (200, "hit"));
        world.ask(LIST).send().await;
        world.turn(SECOND);
        assert_eq!(world.write(method, &path, "").await.outcome(), (204, "passed"));
        assert_eq!(world.read(&number).await.outcome(), (404, "not_found"));
        assert!(!world.ask(LIST).send().await.text().contains(&number));
    }
    let again = world.remove(STORED).await;
    assert_eq!((again.outcome(), again.code().as_str()), ((404, "upstream_error"), "10009"));
}

#[tokio::test]
async fn what_was_removed_is_gone_also_if_the_answer_was_lost() {
    let world = World::with(BUDGET, all).await;
    world.read(STORED).await;
    world.turn(SECOND);
    world.fault(Fault::new(Kind::ResetAfterBilling));
    let lost = world.remove(STORED).await;
    assert_eq!((lost.outcome(), lost.header("x-should-retry")), ((502, "upstream_error"), "false"));
    assert_eq!(world.read(STORED).await.outcome(), (404, "not_found"));
    let deletes = world.sandbox.requests().iter().filter(|seen| seen.method == "DELETE").count();
    assert_eq!(deletes, 1, "sent once");
}

#[tokio::test]
async fn a_write_that_was_refused_or_not_sent_forgets_nothing() {
    let mut world = World::with(BUDGET, all).await;
    world.read(STORED).await;
    world.turn(SECOND);
    for status in [400_u16, 403, 429] {
        world.fault(Fault::new(Kind::Status).status(status.try_into().expect("a status")));
        assert_eq!(world.remove(STORED).await.outcome(), (status, "upstream_error"));
        assert_eq!(world.read(STORED).await.outcome(), (200, "hit"));
    }
    // What the 429 told the gateway to wait for is over.
    world.turn(60 * SECOND);
    world.cut_upstream().await;
    let unsent = world.write(Method::DELETE, &scoped("/reputation"), "").await;
    assert_eq!((unsent.outcome(), unsent.code().as_str()), ((502, "upstream_error"), "upstream_unreachable"));
    assert_eq!(world.read(STORED).await.outcome(), (200, "hit"));
}

#[tokio::test]
async fn a_fetch_begun_before_a_removal_stores_nothing_after_it() {
    for (path, body) in [(scoped(&format!("/reputation/numbers/{STORED}")), ""), (scoped("/reputation"), "")] {
        let world = World::with(BUDGET, all).await;
        world.fault(Fault::new(Kind::Latency).method(&Method::GET).delay(SECOND));
        let (early, removed) = tokio::join!(world.read(STORED), async {
            world.reached(1).await;
            world.turn(SECOND);
            world.write(Method::DELETE, &path, body).await
        });
        assert_eq!((early.outcome(), removed.outcome()), ((200, "probe"), (204, "passed")), "{path}");
        assert_eq!(world.read(STORED).await.status, 404, "{path}: the early answer was not kept");
    }
}

#[tokio::test]
async fn disabling_and_deleting_forget_all_of_the_enterprise_and_nothing_of_others() {
    for path in [scoped("/reputation"), scoped("")] {
        let world = World::of_account(&[ENTERPRISE, OTHER], BUDGET, all).await;
        let read = |enterprise: &str, number: &str| world.ask(&format!("/v2/enterprises/{enterprise}/reputation/numbers/{number}")).send();
        for _ in 0..2 {
            read(ENTERPRISE, STORED).await;
            read(ENTERPRISE, UNCHECKED).await;
            read(OTHER, STORED).await;
        }
        world.turn(SECOND);
        assert_eq!(world.write(Method::DELETE, &path, "").await.outcome(), (204, "passed"));
        let charged = world.charged();
        for number in [STORED, UNCHECKED] {
            assert_eq!(read(ENTERPRISE, number).await.status, 404, "{path} {number}");
        }
        assert_eq!(read(OTHER, STORED).await.outcome(), (200, "hit"));
        assert_eq!(world.charged(), charged);
    }
}

#[tokio::test]
async fn the_only_enterprise_is_asked_for_anew_after_it_was_deleted() {
    let world = World::of_account(&[ENTERPRISE], BUDGET, all).await;
    assert_eq!(world.read(STORED).await.outcome(), (200, "probe"));
    assert_eq!(world.write(Method::DELETE, &scoped(""), "").await.outcome(), (204, "passed"));
    let none = world.read(STORED).await;
    assert_eq!(none.outcome(), (400, "bad_request"));
    let made: Value = world.write(Method::POST, "/v2/enterprises", "{}").await.json();
    assert!(made["data"]["id"].is_string());
    assert_eq!(world.read(STORED).await.status, 404);
}

#[tokio::test]
async fn who_leaves_does_not_keep_what_it_removed_in_memory() {
    let world = World::gated(BUDGET, all).await;
    world.read(STORED).await;
    let sent = world.sent();
    world.turn(SECOND);
    world.gate.close();
    let leaving = tokio::spawn(world.ask(&scoped(&format!("/reputation/numbers/{STORED}"))).method(Method::DELETE).send());
    world.reached(sent + 1).await;
    leaving.abort();
    assert!(leaving.await.is_err_and(|left| left.is_cancelled()));
    world.gate.open();
    while world.read(STORED).await.status == 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.read(STORED).await.outcome(), (404, "not_found"));
}
