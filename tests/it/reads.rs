//! Plain reads: copies, free looks, first touches, nulls, absences.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use reputation_gateway::policy::decide::FirstTouch;
use reputation_gateway::sandbox::{Fault, Kind};

use crate::harness::{ABSENT, BUDGET, ENTERPRISE, NULL, STORED, UNCHECKED, World};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn stored_data_is_never_paid_for_also_when_the_cache_is_cold() {
    let world = World::new().await;
    let cold = world.read(STORED).await;
    assert_eq!((cold.outcome(), cold.header("x-gateway-cost-usd")), ((200, "probe"), "0.00"));
    assert_eq!(cold.json()["data"]["phone_number"], STORED);
    world.turn(5 * MINUTE);
    let hit = world.read(STORED).await;
    assert_eq!((hit.outcome(), hit.header("age"), &hit.body), ((200, "hit"), "300", &cold.body));
    assert_eq!(hit.header("cache-status"), "reputation-gateway; hit; ttl=3300; detail=hit");
    assert_eq!((world.charged().as_str(), world.sent()), ("0.00", 1));
}

#[tokio::test]
async fn simplified_and_scoped_paths_in_every_spelling_share_one_copy_and_one_charge() {
    let world = World::new().await;
    let escaped = UNCHECKED.replace('+', "%2B");
    let twice = UNCHECKED.replace('+', "%252B");
    let upper = ENTERPRISE.to_uppercase();
    let paths = [
        format!("/v2/reputation/numbers/{UNCHECKED}"),
        format!("/reputation/numbers/{UNCHECKED}"),
        format!("/v2/reputation/numbers/{escaped}?fresh=false"),
        format!("/v2/reputation/numbers/{twice}?enterprise_id=leaked"),
        format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/{UNCHECKED}"),
        format!("/enterprises/{upper}/reputation/numbers/{escaped}"),
        format!("http://{}/v2/enterprises/{ENTERPRISE}/reputation/numbers/{twice}", world.gateway),
    ];
    let answers = join_all(paths.iter().map(|path| world.ask(path).send())).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body), "{answers:?}");
    assert_eq!((world.charged().as_str(), world.charges().count), ("0.10", 1));
}

#[tokio::test]
async fn a_first_touch_is_billed_once_and_then_a_hit() {
    let world = World::new().await;
    let first = world.read(UNCHECKED).await;
    assert_eq!(
        (first.outcome(), first.header("x-gateway-billed"), first.header("x-gateway-cost-usd")),
        ((200, "first_touch"), "yes", "0.10")
    );
    assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "hit"));
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test]
async fn a_first_touch_can_be_left_out_by_policy() {
    let world = World::with(BUDGET, |config| config.fresh.first_touch = FirstTouch::Free).await;
    let null = world.read(UNCHECKED).await;
    assert_eq!((null.outcome(), &null.json()["data"]["reputation_data"]), ((200, "null"), &serde_json::Value::Null));
    assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "null"));
    assert_eq!((world.charged().as_str(), world.sent()), ("0.00", 1));
}

#[tokio::test]
async fn a_number_without_data_read_a_hundred_times_is_paid_for_once() {
    let mut world = World::new().await;
    assert_eq!(world.read(NULL).await.outcome(), (200, "first_touch"));
    for _ in 0..98 {
        assert_eq!(world.read(NULL).await.outcome(), (200, "null"));
    }
    world.stop().await;
    world.restart().await;
    assert_eq!(world.read(NULL).await.outcome(), (200, "null"), "after a restart");
    assert_eq!((world.charged().as_str(), world.charges().count), ("0.10", 1));
    world.turn(6 * HOUR);
    assert_eq!(world.read(NULL).await.outcome(), (200, "first_touch"));
    assert_eq!(world.charged(), "0.20");
}

#[tokio::test]
async fn a_stale_copy_is_served_and_renewed_for_nothing() {
    let world = World::new().await;
    world.read(STORED).await;
    world.turn(HOUR + MINUTE);
    let stale = world.read(STORED).await;
    assert_eq!((stale.outcome(), stale.header("age")), ((200, "stale"), "3660"));
    while world.metric("reputation_gateway_upstream_requests_total{operation=\"list\",result=\"not_billed\"}").await == "1" {
        tokio::task::yield_now().await;
    }
    world.turn(HOUR + 11 * MINUTE);
    assert_eq!(world.read(STORED).await.outcome(), (200, "revalidated"));
    assert_eq!(world.charged(), "0.00");
}

#[tokio::test]
async fn a_missing_number_is_a_404_for_a_while_and_nothing_is_charged() {
    let world = World::new().await;
    let missing = world.read(ABSENT).await;
    assert_eq!((missing.outcome(), missing.code().as_str()), ((404, "not_found"), "10009"));
    assert_eq!(world.read(ABSENT).await.outcome(), (404, "not_found"));
    assert_eq!(world.sent(), 1);
    world.turn(5 * MINUTE);
    assert_eq!(world.read(ABSENT).await.outcome(), (404, "not_found"));
    assert_eq!((world.charged().as_str(), world.sent()), ("0.00", 2));
}

#[tokio::test]
async fn with_the_upstream_gone_stale_answers_go_on_and_a_cold_read_is_a_502() {
    let mut world = World::new().await;
    world.read(STORED).await;
    world.cut_upstream().await;
    world.turn(48 * HOUR);
    let stale = world.read(STORED).await;
    assert_eq!((stale.outcome(), stale.header("age")), ((200, "stale"), "172800"));
    let cold = world.read(UNCHECKED).await;
    assert_eq!((cold.outcome(), cold.code().as_str()), ((502, "upstream_error"), "upstream_unreachable"));
    assert_eq!(world.fresh(STORED).await.outcome(), (200, "upstream_error"));
    assert_eq!(world.metric("reputation_gateway_budget_spent_usd{budget=\"all-day\"}").await, "0", "what was not sent is not held against");
    world.turn(7 * 24 * HOUR);
    assert_eq!(world.read(STORED).await.outcome(), (502, "upstream_error"), "a week old is too old");
    world.mend_upstream().await;
    assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "first_touch"));
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test]
async fn what_telnyx_refuses_is_not_answered_from_a_copy() {
    let world = World::new().await;
    world.read(STORED).await;
    world.turn(2 * HOUR);
    for status in [403_u16, 404] {
        world.fault(Fault::new(Kind::Status).status(status.try_into().expect("a status")));
        assert_eq!(world.read(STORED).await.outcome(), (status, "upstream_error"));
    }
    world.fault(Fault::new(Kind::Status));
    assert_eq!(world.read(STORED).await.outcome(), (200, "stale"), "a failure is no refusal");
}

#[tokio::test]
async fn when_the_list_does_not_tell_the_get_is_held_for_and_released_if_it_was_free() {
    let world = World::new().await;
    world.fault(Fault::new(Kind::IgnoreFilter));
    let miss = world.read(STORED).await;
    assert_eq!((miss.outcome(), miss.header("x-gateway-cost-usd")), ((200, "miss"), "0.00"));
    assert_eq!(world.metric("reputation_gateway_holds_total{end=\"released\"}").await, "1");
    assert_eq!(world.charged(), "0.00");
}

#[tokio::test]
async fn a_request_steers_with_cache_control() {
    let world = World::new().await;
    let path = format!("/reputation/numbers/{STORED}");
    let with = |directive| world.ask(&path).header("cache-control", directive).send();
    assert_eq!(with("only-if-cached").await.outcome(), (504, "not_in_cache"));
    assert_eq!(with("max-age=60").await.outcome(), (200, "probe"));
    world.turn(2 * MINUTE);
    assert_eq!(with("max-age=60").await.outcome(), (200, "revalidated"));
    assert_eq!(with("no-cache").await.outcome(), (200, "revalidated"));
    assert_eq!(with("only-if-cached").await.outcome(), (200, "hit"));
    assert_eq!(world.charged(), "0.00");
}

#[tokio::test]
async fn a_validator_spares_the_body_and_head_has_none() {
    let world = World::new().await;
    let whole = world.read(STORED).await;
    let path = format!("/reputation/numbers/{STORED}");
    let same = world.ask(&path).header("if-none-match", &format!("\"other\", W/{}", whole.header("etag"))).send().await;
    assert_eq!((same.outcome(), same.body.len(), same.header("etag")), ((304, "hit"), 0, whole.header("etag")));
    assert_eq!(world.ask(&path).header("if-none-match", "\"other\"").send().await.outcome(), (200, "hit"));
    let head = world.ask(&path).method(Method::HEAD).send().await;
    assert_eq!((head.outcome(), head.body.len(), head.header("content-length")), ((200, "hit"), 0, whole.body.len().to_string().as_str()));
    assert_eq!(world.ask(&path).header("range", "bytes=0-9").send().await.body, whole.body);
}

#[tokio::test]
async fn a_list_is_free_is_kept_for_a_while_and_feeds_the_numbers_on_it() {
    let world = World::new().await;
    let path = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers?filter%5Bphone_number%5D%5Beq%5D=%2B16035551234");
    let page = world.ask(&path).send().await;
    assert_eq!((page.outcome(), page.json()["meta"]["total_results"].as_u64()), ((200, "passed"), Some(1)));
    assert_eq!(world.ask(&path).send().await.outcome(), (200, "hit"));
    assert_eq!(world.read(STORED).await.outcome(), (200, "hit"), "the number was on the list");
    world.turn(MINUTE);
    assert_eq!(world.ask(&path).send().await.outcome(), (200, "passed"));
    let simplified = world.ask("/reputation/numbers?page[size]=3").send().await;
    assert_eq!(simplified.json()["data"].as_array().map(Vec::len), Some(3));
    assert_eq!(world.charged(), "0.00");
}
