//! What RFC 9111 says of a cache, section by section, as far as it concerns one that keeps to a lifetime of its own; and how long, and how
//! many, wait for one answer.

mod kept;
mod told;

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{Fault, Kind};

use crate::harness::{ABSENT, Answer, BUDGET, ENTERPRISE, NULL, STORED, UNCHECKED, World};

const MINUTE: Duration = Duration::from_mins(1);

/// A plain read with this `Cache-Control`.
async fn asking(world: &World, number: &str, directives: &str) -> Answer {
    world.ask(&format!("/reputation/numbers/{number}")).header("cache-control", directives).send().await
}

#[tokio::test]
async fn rfc_9111_5_2_1_a_client_bounds_age_and_freshness() {
    let world = World::new().await;
    world.read(STORED).await;
    world.turn(50 * MINUTE);
    for (directives, outcome) in [
        ("max-age=3000, only-if-cached", (200, "hit")),
        ("max-age=2999, only-if-cached", (504, "not_in_cache")),
        ("min-fresh=599, only-if-cached", (200, "hit")),
        ("min-fresh=600, only-if-cached", (504, "not_in_cache")),
        ("min-fresh=soon, only-if-cached", (504, "not_in_cache")),
    ] {
        assert_eq!(asking(&world, STORED, directives).await.outcome(), outcome, "{directives}");
    }
    assert_eq!(world.sent(), 1);
    assert_eq!(asking(&world, STORED, "min-fresh=600").await.outcome(), (200, "revalidated"));
    assert_eq!((world.sent(), world.charged().as_str()), (2, "0.00"));
}

#[tokio::test]
async fn rfc_9111_5_2_1_2_a_client_takes_what_is_stale_for_as_long_as_it_says() {
    let world = World::new().await;
    world.read(STORED).await;
    world.turn(90 * MINUTE);
    for (directives, outcome) in [
        ("max-stale=1801", (200, "stale")),
        ("max-stale", (200, "stale")),
        ("max-stale=1800, only-if-cached", (504, "not_in_cache")),
        ("max-stale, max-age=5399, only-if-cached", (504, "not_in_cache")),
    ] {
        assert_eq!(asking(&world, STORED, directives).await.outcome(), outcome, "{directives}");
    }
    assert_eq!(world.sent(), 1, "beyond stale-while-revalidate nothing is renewed for who is content");
    assert_eq!(asking(&world, STORED, "max-stale=1800").await.outcome(), (200, "revalidated"));
}

#[tokio::test]
async fn rfc_9111_5_2_1_1_who_bounds_the_age_is_not_served_what_is_stale_unless_it_says_so() {
    let world = World::new().await;
    world.read(STORED).await;
    world.turn(65 * MINUTE);
    assert_eq!(asking(&world, STORED, "only-if-cached").await.outcome(), (200, "stale"));
    assert_eq!(asking(&world, STORED, "max-age=7200, only-if-cached").await.outcome(), (504, "not_in_cache"));
    assert_eq!(asking(&world, STORED, "max-age=7200, max-stale=600, only-if-cached").await.outcome(), (200, "stale"));
    assert_eq!(asking(&world, STORED, "max-age=7200").await.outcome(), (200, "revalidated"));
}

#[tokio::test]
async fn rfc_9111_5_2_1_5_no_store_keeps_nothing_that_was_had_for_nothing() {
    let world = World::new().await;
    for number in [STORED, ABSENT] {
        asking(&world, number, "no-store").await;
        assert_eq!(asking(&world, number, "only-if-cached").await.outcome(), (504, "not_in_cache"), "{number}");
    }
    let page = || world.ask("/reputation/numbers?page[size]=3");
    let passing = page().header("cache-control", "no-store").send().await;
    assert_eq!(passing.header("cache-status"), "reputation-gateway; fwd=miss; fwd-status=200; detail=passed");
    assert_eq!(page().header("cache-control", "only-if-cached").send().await.outcome(), (504, "not_in_cache"));
    assert_eq!(world.charged(), "0.00");
    assert_eq!(asking(&world, UNCHECKED, "no-store").await.outcome(), (200, "first_touch"));
    assert_eq!(
        asking(&world, UNCHECKED, "no-store").await.outcome(),
        (200, "hit"),
        "what was paid for is kept, so as not to be paid for again"
    );
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test]
async fn rfc_9111_5_2_2_answers_say_how_long_the_callers_own_cache_may_keep_them() {
    let world = World::with(BUDGET, |config| config.fresh.min_age = "0s".parse().expect("a time")).await;
    for (path, status, control) in [
        (format!("/reputation/numbers/{STORED}"), 200, "private, max-age=3600"),
        (format!("/reputation/numbers/{ABSENT}"), 404, "private, max-age=300"),
        (format!("/reputation/numbers/{NULL}"), 200, "private, max-age=21600"),
        (format!("/reputation/numbers/{STORED}?fresh=true"), 200, "private, no-cache"),
        ("/reputation/numbers".to_owned(), 200, "private, no-cache"),
        (format!("/enterprises/{ENTERPRISE}"), 200, "no-store"),
        ("/reputation/numbers/1".to_owned(), 400, "no-store"),
    ] {
        for _ in 0..2 {
            let answer = world.ask(&path).send().await;
            assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (status, control), "{path}");
        }
    }
    world.turn(10 * MINUTE);
    let aged = world.read(STORED).await;
    assert_eq!((aged.header("age"), aged.header("cache-control")), ("600", "private, max-age=3600"), "4.2.3: the age counts from there");
}

#[tokio::test]
async fn rfc_9110_13_1_3_a_date_spares_the_body_unless_there_is_a_tag() {
    let world = World::new().await;
    let path = format!("/reputation/numbers/{STORED}");
    let whole = world.read(STORED).await;
    let refreshed = whole.header("last-modified").to_owned();
    let at = whole.json()["data"]["reputation_data"]["last_refreshed_at"]
        .as_str()
        .expect("a time")
        .parse::<jiff::Timestamp>()
        .expect("RFC 3339");
    assert_eq!(httpdate::parse_http_date(&refreshed).expect("a date"), std::time::SystemTime::from(at));
    let asking = |fields: &[(&str, &str)]| fields.iter().fold(world.ask(&path), |ask, (name, value)| ask.header(name, value)).send();
    let before = httpdate::fmt_http_date(std::time::SystemTime::from(at) - Duration::from_secs(1));
    for (fields, status) in [
        (vec![("if-modified-since", refreshed.as_str())], 304),
        (vec![("if-modified-since", before.as_str())], 200),
        (vec![("if-modified-since", "yesterday")], 200),
        (vec![("if-modified-since", refreshed.as_str()), ("if-none-match", "\"other\"")], 200),
        (vec![("if-modified-since", before.as_str()), ("if-none-match", whole.header("etag"))], 304),
    ] {
        let answer = asking(&fields).await;
        assert_eq!(answer.status, status, "{fields:?}");
        assert_eq!((answer.header("last-modified"), answer.header("etag")), (refreshed.as_str(), whole.header("etag")), "15.4.5");
        assert_eq!(answer.body.is_empty(), status == 304);
    }
    let head = world.ask(&path).method(Method::HEAD).header("if-modified-since", &refreshed).send().await;
    assert_eq!(head.status, 304);
}

#[tokio::test]
async fn rfc_5861_4_while_the_upstream_errs_a_number_is_looked_for_once_in_a_while() {
    // "When an error is encountered, a cached stale response MAY be used to satisfy the request, regardless of other freshness information."
    let world = World::new().await;
    world.read(STORED).await;
    world.read(ABSENT).await;
    world.turn(120 * MINUTE);
    world.fault(Fault::new(Kind::Status).times(3));
    for _ in 0..5 {
        let stale = world.read(STORED).await;
        assert_eq!((stale.outcome(), stale.header("age")), ((200, "stale"), "7200"));
    }
    assert_eq!(world.sent(), 3, "one look, and none again");
    assert_eq!(asking(&world, STORED, "no-cache").await.outcome(), (200, "stale"));
    assert_eq!(asking(&world, STORED, "only-if-cached").await.outcome(), (504, "not_in_cache"));
    assert_eq!(world.read(ABSENT).await.status, 500, "an old 404 stands in for nothing");
    assert_eq!(world.sent(), 5);
    world.turn(Duration::from_secs(9));
    assert_eq!((world.read(STORED).await.outcome(), world.sent()), ((200, "stale"), 5));
    world.turn(Duration::from_secs(1));
    assert_eq!((world.read(STORED).await.outcome(), world.sent()), ((200, "revalidated"), 6));
}

#[tokio::test]
async fn rfc_5861_3_a_renewal_that_failed_is_not_tried_again_at_once() {
    // "[...] caches MAY serve the response [...] after it becomes stale, up to the indicated number of seconds."
    let world = World::new().await;
    world.read(STORED).await;
    world.turn(61 * MINUTE);
    world.fault(Fault::new(Kind::Status));
    assert_eq!(world.read(STORED).await.outcome(), (200, "stale"));
    while world.metric("reputation_gateway_upstream_requests_total{operation=\"list\",result=\"not_billed\"}").await == "1" {
        tokio::task::yield_now().await;
    }
    let explained = async || {
        let number = STORED.replace('+', "%252B");
        world.admin(&format!("/admin/v1/explain?path=/v2/reputation/numbers/{number}")).await.json()["data"].clone()
    };
    // The failure is noted before the look is over, but after it was counted.
    while explained().await["facts"]["look_failed_ago_s"].is_null() {
        tokio::task::yield_now().await;
    }
    assert_eq!(explained().await["outcome"]["action"], "serve", "without a renewal");
    assert_eq!((world.read(STORED).await.outcome(), world.sent()), ((200, "stale"), 2));
    world.turn(Duration::from_secs(10));
    assert_eq!(explained().await["outcome"]["action"], "serve_and_renew");
    assert_eq!(world.read(STORED).await.outcome(), (200, "stale"));
    world.reached(3).await;
}

#[tokio::test]
async fn a_failure_that_a_refusal_followed_lets_no_copy_stand_in() {
    let world = World::new().await;
    world.read(STORED).await;
    world.turn(120 * MINUTE);
    world.fault(Fault::new(Kind::Status));
    assert_eq!(world.read(STORED).await.outcome(), (200, "stale"));
    world.fault(Fault::new(Kind::Status).status(http::StatusCode::FORBIDDEN).times(2));
    assert_eq!(asking(&world, STORED, "no-cache").await.outcome(), (403, "upstream_error"));
    assert_eq!(world.read(STORED).await.outcome(), (403, "upstream_error"));
}

#[tokio::test]
async fn an_enterprise_may_have_lifetimes_of_its_own() {
    let other = "11111111-2222-4333-8444-555555555555";
    let own = format!(
        "{BUDGET}[[enterprise]]\nid = \"{other}\"\ncache = {{ ttl = \"5m\", negative_ttl = \"1m\", stale_while_revalidate = \"0s\" }}\n"
    );
    let world = World::of_account(&[ENTERPRISE, other], &own, |_| {}).await;
    let read = |enterprise: &str, number: &str| world.ask(&format!("/enterprises/{enterprise}/reputation/numbers/{number}")).send();
    for (enterprise, record, absence) in [(ENTERPRISE, "3600", "300"), (other, "300", "60")] {
        let found = read(enterprise, STORED).await;
        assert_eq!(found.header("cache-control"), format!("private, max-age={record}"), "{enterprise}: {found:?}");
        assert_eq!(read(enterprise, ABSENT).await.header("cache-control"), format!("private, max-age={absence}"), "{enterprise}");
    }
    world.turn(5 * MINUTE);
    assert_eq!(read(ENTERPRISE, STORED).await.outcome(), (200, "hit"));
    assert_eq!(read(other, STORED).await.outcome(), (200, "revalidated"));
}

/// So many reads of a number, all of which wait for one look.
async fn waiting(world: &World, number: &str, count: usize) -> impl Future<Output = Vec<Answer>> + use<> {
    let reads: Vec<_> = (0..count).map(|_| tokio::spawn(world.ask(&format!("/reputation/numbers/{number}")).send())).collect();
    while world.metric("reputation_gateway_requests_waiting").await != count.to_string() {
        tokio::task::yield_now().await;
    }
    async { join_all(reads).await.into_iter().map(|read| read.expect("no panic")).collect() }
}

/// A world whose upstream does not answer for now.
async fn gated(change: impl FnOnce(&mut Config)) -> World {
    let world = World::gated(BUDGET, change).await;
    world.gate.close();
    world
}

#[tokio::test]
async fn a_thousand_who_wait_for_one_number_are_served_by_one_look() {
    let world = gated(|_| {}).await;
    let answers = waiting(&world, STORED, 1_000).await;
    world.gate.open();
    let answers = answers.await;
    assert!(answers.iter().all(|answer| answer.outcome() == (200, "probe")));
    let shared =
        |answer: &&Answer| answer.header("cache-status") == "reputation-gateway; fwd=miss; fwd-status=200; collapsed; detail=probe";
    assert_eq!(answers.iter().filter(shared).count(), 999, "RFC 9211, 2.7");
    assert_eq!((world.sent(), world.charged().as_str()), (1, "0.00"));
    assert_eq!(world.metric("reputation_gateway_requests_waiting").await, "0");
}

#[tokio::test]
async fn nobody_waits_longer_than_is_configured_nor_looks_a_second_time() {
    let world = gated(|config| config.upstream.timeout = "1h".parse().expect("a time")).await;
    let answers = waiting(&world, STORED, 50).await;
    world.turn(Duration::from_secs(29));
    assert_eq!(world.metric("reputation_gateway_requests_waiting").await, "50");
    world.turn(Duration::from_secs(1));
    for answer in answers.await {
        assert_eq!((answer.outcome(), answer.code().as_str()), ((504, "upstream_error"), "upstream_timeout"));
    }
    let late = waiting(&world, STORED, 1).await;
    world.gate.open();
    assert_eq!(late.await[0].outcome(), (200, "probe"), "the look went on");
    assert_eq!((world.read(STORED).await.outcome(), world.sent()), ((200, "hit"), 1));
}

#[tokio::test]
async fn when_the_upstream_dies_all_who_wait_are_answered_and_the_number_can_be_asked_for_at_once() {
    let mut world = World::new().await;
    world.fault(Fault::new(Kind::Hang).delay(Duration::from_hours(1)));
    let answers = waiting(&world, STORED, 50).await;
    world.cut_upstream().await;
    let answers = answers.await;
    assert!(answers.iter().all(|answer| answer.outcome() == (502, "upstream_error")), "{answers:?}");
    world.mend_upstream().await;
    assert_eq!(world.read(STORED).await.outcome(), (200, "probe"));
}

#[tokio::test]
async fn beyond_the_most_that_wait_a_read_gets_what_is_stored_or_is_refused() {
    let world = gated(|config| config.cache.max_waiters = 3).await;
    let answers = waiting(&world, STORED, 3).await;
    let refused = world.read(UNCHECKED).await;
    assert_eq!((refused.outcome(), refused.code().as_str(), refused.header("retry-after")), ((503, "overloaded"), "overloaded", "1"));
    world.gate.open();
    answers.await;
    world.turn(120 * MINUTE);
    world.gate.close();
    let answers = waiting(&world, ABSENT, 3).await;
    assert_eq!(world.read(STORED).await.outcome(), (200, "stale"));
    world.gate.open();
    answers.await;
}
