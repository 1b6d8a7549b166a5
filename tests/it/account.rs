//! What surrounds the numbers: settings, remediations, terms and enterprises. Free, asked of Telnyx each time, and kept nowhere.

use http::Method;
use reputation_gateway::auth::{CallerConfig, KeyDigest, Mode};
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{Fault, Kind};
use serde_json::{Value, json};

use crate::harness::{Answer, ENTERPRISE, World};

const OTHER: &str = "7b09cdc3-8948-47f0-aa62-74ac943d6c58";
const THIRD: &str = "8c09cdc3-8948-47f0-aa62-74ac943d6c58";

fn settings() -> String {
    format!("/v2/enterprises/{ENTERPRISE}/reputation")
}

/// Caller `one` may see the first enterprise and the third, caller `all` every one.
async fn keyed() -> World {
    World::of_account(&[ENTERPRISE, OTHER, THIRD], "", |config: &mut Config| {
        config.auth.mode = Mode::Keys;
        let only = [ENTERPRISE, THIRD].map(|id| id.parse().expect("a UUID")).to_vec();
        let one = CallerConfig { enterprises: Some(only), ..CallerConfig::new("one", KeyDigest::of(b"key-one")) };
        config.caller = vec![one, CallerConfig::new("all", KeyDigest::of(b"key-all"))];
    })
    .await
}

fn ids(answer: &Answer) -> Vec<String> {
    let items = answer.json()["data"].as_array().cloned().unwrap_or_else(|| panic!("no list: {answer:?}"));
    items.iter().map(|item| item["id"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn free_reads_pass_without_any_money_and_are_not_kept() {
    let world = World::with("", |_| {}).await;
    let paths = [
        (settings(), "enterprise_id"),
        (format!("{}/remediation", settings()), ""),
        ("/v2/terms_of_service/status?product_type=number_reputation".to_owned(), "has_agreed"),
        ("/v2/enterprises".to_owned(), ""),
        (format!("/v2/enterprises/{ENTERPRISE}"), "legal_name"),
    ];
    for (path, field) in &paths {
        for _ in 0..2 {
            let sent = world.sent();
            let answer = world.ask(path).send().await;
            assert_eq!((answer.outcome(), answer.header("x-gateway-billed")), ((200, "passed"), "no"), "{path}");
            assert_eq!(answer.header("cache-status"), "reputation-gateway; fwd=bypass; fwd-status=200; detail=passed");
            assert_eq!((world.sent() - sent, answer.header("content-type")), (1, "application/json"), "{path}");
            assert!(field.is_empty() || !answer.json()["data"][field].is_null(), "{path}: {answer:?}");
        }
    }
    let head = world.ask(&settings()).method(Method::HEAD).send().await;
    assert_eq!((head.outcome(), head.body.len()), ((200, "passed"), 0));
    let cached = world.ask(&settings()).header("cache-control", "only-if-cached").send().await;
    assert_eq!((cached.outcome(), world.charged().as_str()), ((504, "not_in_cache"), "0.00"));
}

#[tokio::test]
async fn a_remediation_is_read_by_its_id() {
    let world = World::new().await;
    let missing = world.ask(&format!("{}/remediation/7b09cdc3-8948-47f0-aa62-74ac943d6c58", settings())).send().await;
    assert_eq!((missing.outcome(), missing.code().as_str()), ((404, "upstream_error"), "10009"));
    let strange = world.ask(&format!("{}/remediation/a%20b", settings())).send().await;
    assert_eq!((strange.outcome(), strange.code().as_str(), world.sent()), ((400, "bad_request"), "10015", 1));
}

#[tokio::test]
async fn only_known_parameters_go_upstream_in_one_order() {
    let world = World::new().await;
    for (path, target) in [
        (format!("{}?fresh=true", settings()), settings()),
        (
            format!("{}/remediation?page[size]=999&filter[status]=a%26b&leak=1&filter[created_at][gte]=2026-01-01", settings()),
            format!(
                "{}/remediation?filter%5Bcreated_at%5D%5Bgte%5D=2026-01-01&filter%5Bstatus%5D=a%26b&page%5Bnumber%5D=1&page%5Bsize%5D=250",
                settings()
            ),
        ),
        (
            "/terms_of_service/status?x=1&product_type=number_reputation".into(),
            "/v2/terms_of_service/status?product_type=number_reputation".into(),
        ),
        (
            "/v2/enterprises?legal_name=a+b&page[number]=2".into(),
            "/v2/enterprises?legal_name=a+b&page%5Bnumber%5D=2&page%5Bsize%5D=10".into(),
        ),
    ] {
        assert_eq!(world.ask(&path).send().await.outcome(), (200, "passed"), "{path}");
        assert_eq!(world.sandbox.requests().last().map(|seen| seen.path_and_query.clone()), Some(target));
    }
    let sent = world.sent();
    for query in ["page[number]=0", "page[size]=x", "filter[status]=a&filter[status]=b"] {
        let refused = world.ask(&format!("{}/remediation?{query}", settings())).send().await;
        assert_eq!((refused.outcome(), world.sent()), ((400, "bad_request"), sent), "{query}");
    }
}

#[tokio::test]
async fn a_caller_sees_its_own_enterprises_alone() {
    let world = keyed().await;
    let list = |key: &'static str, query: &str| world.ask(&format!("/v2/enterprises{query}")).key(key).send();
    assert_eq!(ids(&list("key-all", "").await), [ENTERPRISE, OTHER, THIRD]);
    let own = list("key-one", "").await;
    assert_eq!((own.outcome(), ids(&own)), ((200, "passed"), vec![ENTERPRISE.to_owned(), THIRD.to_owned()]));
    assert_eq!(own.json()["meta"], json!({"page_number": 1, "page_size": 2, "total_pages": 1, "total_results": 2}));
    assert!(!own.text().contains(OTHER));
    let second = list("key-one", "?page[number]=2&page[size]=1").await;
    assert_eq!((ids(&second), &second.json()["meta"]["total_pages"]), (vec![THIRD.to_owned()], &json!(2)));
    assert!(ids(&list("key-one", "?page[number]=4294967295&page[size]=250").await).is_empty());
    let whole: Value = world.ask(&format!("/v2/enterprises/{THIRD}")).key("key-one").send().await.json();
    assert_eq!(own.json()["data"][1], whole["data"], "its bytes are Telnyx's");
    let sent = world.sent();
    for path in [
        format!("/v2/enterprises/{OTHER}"),
        format!("/v2/enterprises/{OTHER}/reputation"),
        format!("/v2/enterprises/{OTHER}/reputation/remediation"),
    ] {
        let refused = world.ask(&path).key("key-one").send().await;
        assert_eq!((refused.outcome(), refused.code().as_str()), ((403, "not_permitted"), "enterprise_not_permitted"), "{path}");
    }
    assert_eq!(world.sent(), sent);
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_not_passed() {
    let world = World::new().await;
    world.fault(Fault::new(Kind::Garbage));
    let invalid = world.ask(&settings()).send().await;
    assert_eq!((invalid.outcome(), invalid.code().as_str()), ((502, "upstream_error"), "upstream_invalid"));
    world.fault(Fault::new(Kind::Reset));
    assert_eq!(world.ask("/v2/enterprises").send().await.outcome(), (502, "upstream_error"));
    world.fault(Fault::new(Kind::RateLimited).reset_s(3));
    let limited = world.ask(&settings()).send().await;
    assert_eq!((limited.outcome(), limited.header("retry-after")), ((429, "upstream_error"), "3"));
}
