//! What answers say of where they came from.

use reputation_gateway::sandbox::{Fault, Kind};

use super::{MINUTE, asking};
use crate::harness::{ABSENT, BUDGET, ENTERPRISE, STORED, UNCHECKED, World, unchecked};

#[tokio::test]
async fn rfc_9111_5_1_age_counts_from_telnyxs_answer_and_date_is_the_gateways() {
    // "The presence of an Age header field implies that the response was not generated or validated by the origin server for this request."
    let world = World::new().await;
    let inspected = format!("/admin/v1/cache/{ENTERPRISE}/{STORED}");
    for (decision, age, turned) in [("probe", "", 0), ("hit", "0", 0), ("hit", "60", 1), ("stale", "3660", 60), ("revalidated", "", 71)] {
        world.turn(turned * MINUTE);
        let answer = world.read(STORED).await;
        // Its renewal ends before the clock is turned again.
        while decision == "stale" && world.admin(&inspected).await.json()["data"]["copy"]["age_s"] != 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!((answer.outcome(), answer.header("age")), ((200, decision), age));
        assert!(httpdate::parse_http_date(answer.header("date")).is_ok() && answer.headers.get_all("date").iter().count() == 1);
    }
}

#[tokio::test]
async fn rfc_9111_4_1_lists_vary_with_the_encoding_and_records_with_nothing() {
    // "[...] the cache MUST NOT use that stored response without revalidation unless all the presented request header fields nominated by that Vary field value match [...]"
    let world = World::new().await;
    let list = |coding: &str| world.ask("/reputation/numbers?page[size]=250").header("accept-encoding", coding).send();
    let plain = list("identity").await;
    for (coding, sent) in [("br", "br"), ("gzip", "gzip"), ("identity", ""), ("br", "br")] {
        let page = list(coding).await;
        assert_eq!((page.outcome(), page.header("content-encoding"), page.header("vary")), ((200, "hit"), sent, "accept-encoding"));
        assert_eq!(page.body == plain.body, sent.is_empty(), "{coding}");
    }
    assert_eq!(world.sent(), 1, "one copy for all of them");
    for coding in ["br", "identity"] {
        let record = world.ask(&format!("/reputation/numbers/{STORED}")).header("accept-encoding", coding).send().await;
        assert_eq!((record.header("vary"), record.header("content-encoding")), ("", ""));
    }
}

#[tokio::test]
async fn rfc_9211_2_an_answer_says_how_it_came_about() {
    // 2: hit and fwd are exclusive.
    let world = World::with(BUDGET, |config| config.fresh.min_age = "0s".parse().expect("a time")).await;
    let mut told = Vec::new();
    for (number, directives) in [
        (STORED, "only-if-cached"),
        (STORED, "no-store"),
        (STORED, ""),
        (STORED, ""),
        (STORED, "no-cache"),
        (ABSENT, ""),
        (ABSENT, ""),
        (UNCHECKED, ""),
    ] {
        told.push(asking(&world, number, directives).await);
    }
    told.push(world.fresh(STORED).await);
    world.turn(61 * MINUTE);
    world.fault(Fault::new(Kind::Status).times(2));
    told.push(world.read(&unchecked(1)).await);
    told.push(asking(&world, STORED, "no-cache").await);
    told.push(asking(&world, STORED, "no-cache").await);
    let page = || world.ask("/reputation/numbers?page[size]=3").send();
    told.extend([page().await, page().await]);
    let told: Vec<&str> = told.iter().map(|answer| answer.header("cache-status")).collect();
    let name = "reputation-gateway; ";
    let told: Vec<&str> = told.into_iter().map(|told| told.strip_prefix(name).expect("whose it is")).collect();
    assert_eq!(
        told,
        [
            "detail=not_in_cache",
            "fwd=miss; fwd-status=200; detail=probe",
            "fwd=miss; fwd-status=200; stored; detail=probe",
            "hit; ttl=3600; detail=hit",
            "fwd=request; fwd-status=200; stored; detail=revalidated",
            "fwd=miss; fwd-status=404; stored; detail=not_found",
            "hit; ttl=300; detail=not_found",
            "fwd=miss; fwd-status=200; stored; detail=first_touch",
            "fwd=request; fwd-status=200; stored; detail=billed",
            "fwd=miss; fwd-status=500; detail=upstream_error",
            "hit; ttl=-60; detail=stale",
            "fwd=stale; fwd-status=200; stored; detail=revalidated",
            "fwd=miss; fwd-status=200; stored; detail=passed",
            "hit; detail=hit",
        ]
    );
    assert!(told.iter().all(|told| !(told.contains("hit;") && told.contains("fwd="))));
}

#[tokio::test]
async fn rfc_9211_2_7_who_shares_a_purchase_is_told_so() {
    // "[...] indicates whether this request was collapsed together with one or more other forward requests."
    let world = World::gated(BUDGET, |_| {}).await;
    world.gate.close();
    let fresh = || tokio::spawn(world.ask(&format!("/reputation/numbers/{STORED}?fresh=true")).send());
    let two = [fresh(), fresh()];
    while world.metric("reputation_gateway_requests_waiting").await != "1" {
        tokio::task::yield_now().await;
    }
    world.gate.open();
    let mut told = Vec::new();
    for answer in two {
        told.push(answer.await.expect("no panic").header("cache-status").to_owned());
    }
    told.sort();
    let shared = "reputation-gateway; fwd=request; fwd-status=200; collapsed; detail=collapsed";
    assert_eq!(told, [shared, "reputation-gateway; fwd=request; fwd-status=200; stored; detail=billed"]);
}
