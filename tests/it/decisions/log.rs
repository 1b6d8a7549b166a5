//! How long requests are remembered, which of one id, and what is told of those that are not any more.

use std::time::Duration;

use serde_json::{Value, json};

use super::{LARGE, fresh, names, plain, step};
use crate::harness::callers::{caller, keys};
use crate::harness::{ABSENT, BUDGET, STORED, UNCHECKED, World};

#[tokio::test]
async fn an_id_that_was_used_again_shows_all_its_requests_the_newest_first() {
    let world = World::with(LARGE, |_| {}).await;
    world.as_request("again", &plain(STORED)).await;
    world.turn(Duration::from_secs(1));
    world.as_request("again", &plain(STORED)).await;
    world.turn(Duration::from_secs(1));
    world.as_request("again", &fresh(UNCHECKED)).await;
    let told = world.told("again").await;
    let decisions: Vec<_> = told.iter().map(|told| told["decision"].as_str().expect("a decision")).collect();
    assert_eq!(decisions, ["billed", "hit", "probe"]);
    assert!(told.iter().all(|told| told["source"] == "log"));
    for _ in 0..100 {
        world.turn(Duration::from_secs(1));
        world.as_request("again", &plain(STORED)).await;
    }
    let told = world.told("again").await;
    assert!(told.len() == 100 && told.iter().all(|told| told["decision"] == "hit"), "only the last of them: {}", told.len());
}

#[tokio::test]
async fn what_left_the_log_is_told_from_the_ledger_or_not_at_all() {
    let mut world = World::with(LARGE, |config| config.telemetry.decisions = 2).await;
    world.as_request("paid", &fresh(UNCHECKED)).await;
    world.as_request("free", &plain(STORED)).await;
    assert_eq!(world.only("paid").await["source"], "log");
    for id in ["one", "two"] {
        world.as_request(id, &plain(ABSENT)).await;
    }
    let told = world.only("paid").await;
    assert_eq!(
        (&told["source"], &told["billed"], &told["cost_usd"], &told["number"]),
        (&"ledger".into(), &"yes".into(), &"0.10".into(), &"+12*******00".into())
    );
    assert_eq!((&told["charges"][0]["why"], &told["steps"]), (&"a fresh check was answered".into(), &json!([])));
    assert!(told["why"].as_str().is_some_and(|why| why.contains("left the log")), "{told:#}");
    let gone = world.admin("/admin/v1/explain?request_id=free").await;
    assert_eq!((gone.status.as_u16(), gone.code().as_str()), (404, "request_not_found"));
    assert!(gone.text().contains("the last 2 that were no hits") && gone.text().contains("telemetry.decisions"), "{}", gone.text());
    for hit in ["three", "four", "five"] {
        world.as_request(hit, &plain(STORED)).await;
    }
    assert_eq!(world.admin("/admin/v1/explain?request_id=three").await.status, 404, "hits are bounded too");
    assert_eq!(
        (world.only("five").await["decision"].as_str(), world.only("two").await["decision"].as_str()),
        (Some("hit"), Some("not_found"))
    );
    world.stop().await;
    world.restart().await;
    assert_eq!(world.only("paid").await["source"], "ledger", "a restart forgets the log and not the ledger");
}

#[tokio::test]
async fn none_is_remembered_where_none_is_wanted() {
    let world = World::with(LARGE, |config| config.telemetry.decisions = 0).await;
    for path in [plain(STORED), plain(STORED), fresh(UNCHECKED)] {
        assert_eq!(world.as_request("id", &path).await.status, 200);
    }
    assert_eq!(world.requests("").await, [""; 0]);
    assert_eq!(world.only("id").await["source"], "ledger");
    let unknown = world.admin("/admin/v1/explain?request_id=other").await;
    assert!(unknown.status == 404 && unknown.text().contains("telemetry.decisions is 0"), "{}", unknown.text());
}

#[tokio::test]
async fn numbers_are_whole_only_where_the_log_has_them_so() {
    for (full, shown) in [(false, "+12*******00"), (true, UNCHECKED)] {
        let world = World::with(LARGE, |config| config.telemetry.log_full_numbers = full).await;
        let told = world.explained("id", &fresh(UNCHECKED), "billed").await;
        assert_eq!(told["number"], shown);
        assert_eq!(told.to_string().contains(UNCHECKED), full, "{told:#}");
        assert_eq!(world.admin("/admin/v1/requests").await.text().contains(UNCHECKED), full);
    }
}

#[tokio::test]
async fn the_last_requests_are_listed_the_newest_first_and_filtered() {
    let world = World::with(&format!("{LARGE}{}{}", caller("dialer", "allow = [\"fresh\"]"), caller("reports", "")), keys).await;
    let steps = [
        ("a", "dialer", plain(STORED)),
        ("b", "reports", plain(STORED)),
        ("c", "dialer", fresh(UNCHECKED)),
        ("d", "reports", fresh(UNCHECKED)),
    ];
    for (id, name, path) in &steps {
        world.ask(path).key(&format!("key-of-{name}")).header("x-request-id", id).send().await;
        world.turn(Duration::from_secs(1));
    }
    world.ask(&plain(STORED)).header("x-request-id", "e").send().await;
    for (query, ids) in [
        ("", &["e", "d", "c", "b", "a"][..]),
        ("?limit=2", &["e", "d"]),
        ("?caller=dialer", &["c", "a"]),
        ("?decision=hit", &["b"]),
        ("?billed=yes", &["c"]),
        ("?billed=no&caller=reports&limit=1", &["d"]),
        ("?decision=unauthenticated", &["e"]),
        ("?caller=nobody", &[]),
    ] {
        assert_eq!(world.requests(query).await, ids, "{query}");
    }
    for query in ["?limit=0", "?limit=1001", "?limit=x", "?decision=bought", "?billed=maybe", "?billed=yes&billed=no"] {
        assert_eq!(world.admin(&format!("/admin/v1/requests{query}")).await.status, 400, "{query}");
    }
    let both = world.admin("/admin/v1/explain?request_id=a&path=/v2/x").await;
    assert_eq!(both.status, 400);
    let first = &world.admin("/admin/v1/requests?limit=1&caller=dialer").await.json();
    assert_eq!(
        (&first["data"][0]["billed"], &first["data"][0]["cost_usd"], &first["meta"]["remembered"]),
        (&"yes".into(), &"0.10".into(), &10_000.into())
    );
    assert_eq!(first["data"][0]["steps"], Value::Null, "the list is short");
}

#[tokio::test]
async fn a_purchase_goes_on_being_noted_when_its_caller_has_left() {
    let world = World::gated(BUDGET, |_| {}).await;
    world.gate.close();
    let leaving = tokio::spawn(world.ask(&fresh(UNCHECKED)).header("x-request-id", "left").send());
    world.reached(1).await;
    leaving.abort();
    assert!(leaving.await.is_err_and(|left| left.is_cancelled()), "answered before the upstream was");
    while world.admin("/admin/v1/explain?request_id=left").await.json()["data"][0]["decision"] != "abandoned" {
        tokio::task::yield_now().await;
    }
    world.gate.open();
    while !names(&world.only("left").await).contains(&"ended") {
        tokio::task::yield_now().await;
    }
    let told = world.only("left").await;
    assert_eq!(
        (&told["billed"], &step(&told, "ended")["billing"], &told["charges"][0]["state"]),
        (&"unknown".into(), &"billed".into(), &"settled".into())
    );
}

#[tokio::test]
async fn a_request_that_is_under_way_is_not_said_to_have_left_the_log() {
    let world = World::gated(BUDGET, |_| {}).await;
    world.gate.close();
    let waiting = tokio::spawn(world.ask(&format!("/v2/reputation/numbers/{STORED}?fresh=true")).header("x-request-id", "now").send());
    world.reached(1).await;
    let told = world.admin("/admin/v1/explain?request_id=now").await.json()["data"][0].clone();
    assert!(told["why"].as_str().is_some_and(|why| why.contains("is under way") && !why.contains("left the log")), "{told:#}");
    assert_eq!((&told["billed"], &told["charges"][0]["state"]), (&"unknown".into(), &"held".into()), "{told:#}");
    world.gate.open();
    waiting.await.expect("nothing panics");
}
