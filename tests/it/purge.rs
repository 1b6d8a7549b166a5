//! Operators purge copies, and see what is kept of a number.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use reputation_gateway::sandbox::{Fault, Kind};
use serde_json::{Value, json};

use crate::harness::process::{Process, said, text};
use crate::harness::{ABSENT, Answer, Ask, ENTERPRISE, NULL, STORED, UNCHECKED, World, unchecked};

const SECOND: Duration = Duration::from_secs(1);

async fn purge(world: &World, body: &Value) -> Answer {
    let ask = Ask::new(world.admin, "/admin/v1/purge").method(Method::POST).header("content-type", "application/json");
    ask.body(body.to_string()).send().await
}

/// How many copies a purge was about, and what it exposes; a second later, so that what comes is from after it.
async fn purged(world: &World, body: &Value) -> (u64, String) {
    let answer = purge(world, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    world.turn(SECOND);
    let data = &answer.json()["data"];
    (data["entries"].as_u64().expect("a count"), data["exposed_usd"].as_str().expect("dollars").to_owned())
}

async fn cached(world: &World, number: &str) -> Answer {
    world.ask(&format!("/reputation/numbers/{number}")).header("cache-control", "only-if-cached").send().await
}

async fn inspect(world: &World, number: &str) -> Answer {
    world.admin(&format!("/admin/v1/cache/{ENTERPRISE}/{number}")).await
}

#[tokio::test]
async fn a_soft_purge_has_the_next_read_look_for_nothing_and_leaves_a_stand_in() {
    let mut world = World::new().await;
    for number in [STORED, ABSENT] {
        world.read(number).await;
    }
    assert_eq!(purged(&world, &json!({ "enterprise": ENTERPRISE, "number": STORED })).await, (1, "0.00".to_owned()));
    assert_eq!(cached(&world, STORED).await.outcome(), (504, "not_in_cache"));
    assert_eq!(cached(&world, ABSENT).await.outcome(), (404, "not_found"), "another number's copy stays");
    assert_eq!(world.read(STORED).await.outcome(), (200, "revalidated"));
    assert_eq!(world.read(STORED).await.outcome(), (200, "hit"));
    purged(&world, &json!({ "all": true })).await;
    world.cut_upstream().await;
    assert_eq!(world.read(STORED).await.outcome(), (200, "stale"));
    assert_eq!(world.read(ABSENT).await.status, 502, "an absence does not stand in");
    assert_eq!(world.charged(), "0.00");
}

#[tokio::test]
async fn a_hard_purge_leaves_nothing_and_what_was_paid_for_is_not_paid_again() {
    let mut world = World::new().await;
    assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "first_touch"));
    assert_eq!(world.read(NULL).await.outcome(), (200, "first_touch"));
    assert_eq!(world.fresh(&unchecked(1)).await.outcome(), (200, "billed"));
    for (body, entries) in
        [(json!({ "all": true, "hard": true, "dry_run": true }), 3), (json!({ "enterprise": ENTERPRISE, "hard": true }), 3)]
    {
        assert_eq!(purged(&world, &body).await, (entries, "0.00".to_owned()), "all of it is remembered");
    }
    assert_eq!(world.metric("reputation_gateway_cache_entries").await, "0");
    assert_eq!(world.metric("reputation_gateway_cache_purged_total{mode=\"hard\"}").await, "3");
    assert_eq!(world.read(NULL).await.outcome(), (200, "null"));
    assert_eq!(world.fresh(&unchecked(1)).await.outcome(), (200, "cooldown"));
    assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "probe"));
    purged(&world, &json!({ "all": true, "hard": true })).await;
    world.cut_upstream().await;
    assert_eq!(world.read(UNCHECKED).await.status, 502, "nothing stands in");
    assert_eq!(world.charged(), "0.30");
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_tells_what_first_touches_may_cost() {
    let world = World::new().await;
    for number in [STORED, NULL] {
        world.read(number).await;
    }
    for hard in [false, true] {
        assert_eq!(purged(&world, &json!({ "all": true, "hard": hard, "dry_run": true })).await, (2, "0.00".to_owned()));
    }
    assert_eq!((cached(&world, STORED).await.outcome(), cached(&world, NULL).await.outcome()), ((200, "hit"), (200, "null")));
    assert_eq!(world.metric("reputation_gateway_cache_purged_total{mode=\"hard\"}").await, "0");
    // What was paid for the null is over by then.
    world.turn(7 * 3600 * SECOND);
    assert_eq!(purged(&world, &json!({ "all": true, "hard": true, "dry_run": true })).await, (2, "0.10".to_owned()));
    assert_eq!(purged(&world, &json!({ "all": true })).await, (2, "0.10".to_owned()));
    assert_eq!((world.read(STORED).await.outcome(), world.read(NULL).await.outcome()), ((200, "revalidated"), (200, "first_touch")));
    assert_eq!(world.charged(), "0.20", "the one before, and the one that was foretold");
}

#[tokio::test]
async fn purged_lists_are_asked_for_anew() {
    let world = World::new().await;
    let list = || async { world.ask("/reputation/numbers?page[size]=3").send().await };
    for body in [json!({ "all": true }), json!({ "enterprise": ENTERPRISE }), json!({ "enterprise": ENTERPRISE, "number": STORED })] {
        list().await;
        assert_eq!(list().await.outcome(), (200, "hit"));
        purged(&world, &body).await;
        assert_eq!(list().await.outcome(), (200, "passed"), "{body}");
    }
}

#[tokio::test]
async fn a_purge_is_of_exactly_one_scope() {
    let world = World::new().await;
    world.read(STORED).await;
    for body in [
        json!({}),
        json!({ "hard": true }),
        json!({ "number": STORED }),
        json!({ "all": false }),
        json!({ "all": true, "enterprise": ENTERPRISE }),
        json!({ "all": true, "number": STORED }),
        json!({ "enterprise": "acme" }),
        json!({ "enterprise": ENTERPRISE, "number": "6035551234" }),
        json!({ "all": true, "soft": true }),
    ] {
        let answer = purge(&world, &body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "bad_request"), "{body}");
    }
    assert!(purge(&world, &json!({})).await.text().contains("exactly one of these"));
    let untyped = Ask::new(world.admin, "/admin/v1/purge").method(Method::POST).body("{\"all\":true}").send().await;
    assert_eq!(untyped.status, 415);
    assert_eq!(world.admin("/admin/v1/purge").await.status, 405);
    assert_eq!(cached(&world, STORED).await.outcome(), (200, "hit"));
}

#[tokio::test]
async fn who_purges_has_the_token() {
    let world = World::with(crate::harness::BUDGET, |config| {
        config.admin.token = Some(reputation_gateway::secret::Secret::Plain("T0KEN".to_owned()));
    })
    .await;
    assert_eq!(purge(&world, &json!({ "all": true })).await.status, 401);
    assert_eq!(inspect(&world, STORED).await.status, 401);
}

#[tokio::test]
async fn a_purge_of_a_number_concerns_every_credentials_copy() {
    let world = World::with(crate::harness::BUDGET, crate::harness::callers::forward).await;
    let read = |key: &str, field: &str| world.ask(&format!("/reputation/numbers/{STORED}")).key(key).header("cache-control", field).send();
    for key in ["one", "two"] {
        read(key, "").await;
    }
    assert_eq!(purged(&world, &json!({ "enterprise": ENTERPRISE, "number": STORED, "hard": true })).await, (2, "0.00".to_owned()));
    for key in ["one", "two"] {
        assert_eq!(read(key, "only-if-cached").await.outcome(), (504, "not_in_cache"));
    }
    let answer = inspect(&world, STORED).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (409, "partitioned"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_races_a_thousand_fetches_and_none_of_them_keeps_anything_fresh() {
    // In four rounds: a process has only so many sockets.
    const FETCHES: usize = 250;
    for hard in [false, true, false, true] {
        let world = World::gated(crate::harness::BUDGET, |config| config.upstream.max_in_flight = FETCHES).await;
        let numbers: Vec<_> = (0..FETCHES).map(|n| format!("+1999555{n:04}")).collect();
        world.gate.close();
        let reads = join_all(numbers.iter().map(|number| world.read(number)));
        let meanwhile = async {
            world.reached(FETCHES).await;
            let answer = purge(&world, &json!({ "enterprise": ENTERPRISE, "hard": hard })).await;
            world.turn(SECOND);
            world.gate.open();
            answer
        };
        let (answers, answer) = tokio::join!(reads, meanwhile);
        assert_eq!(answer.status, 200);
        assert!(answers.iter().all(|answer| answer.outcome() == (404, "not_found")));
        let kept = join_all(numbers.iter().map(|number| cached(&world, number))).await;
        assert!(kept.iter().all(|answer| answer.outcome() == (504, "not_in_cache")), "hard: {hard}");
        assert_eq!(world.sent(), FETCHES);
        join_all(numbers.iter().map(|number| world.read(number))).await;
        assert_eq!(world.sent(), 2 * FETCHES, "each is looked for anew");
        let kept = join_all(numbers.iter().map(|number| cached(&world, number))).await;
        assert!(kept.iter().all(|answer| answer.outcome() == (404, "not_found")), "and kept from then on");
    }
}

#[tokio::test]
async fn what_is_kept_of_a_number_is_shown() {
    let world = World::gated(crate::harness::BUDGET, |_| {}).await;
    let nothing = inspect(&world, STORED).await;
    assert_eq!((nothing.status.as_u16(), nothing.code().as_str()), (404, "not_in_cache"));
    world.gate.close();
    let (_, ()) = tokio::join!(world.fresh(UNCHECKED), async {
        world.reached(1).await;
        let known = inspect(&world, UNCHECKED).await.json();
        assert_eq!(known["data"]["copy"], Value::Null);
        assert_eq!((&known["data"]["purchase_under_way"], &known["data"]["unknown_ago_s"]), (&true.into(), &0.into()));
        world.gate.open();
    });
    world.turn(70 * 60 * SECOND);
    let digits = &UNCHECKED[1..];
    for number in [UNCHECKED.to_owned(), format!("%2B{digits}"), format!("%252b{digits}")] {
        let known = &inspect(&world, &number).await.json()["data"];
        let copy = &known["copy"];
        assert_eq!((&known["number"], &known["paid_ago_s"], &known["unknown_ago_s"]), (&UNCHECKED.into(), &4200.into(), &Value::Null));
        assert_eq!(
            (&copy["kind"], &copy["age_s"], &copy["ttl_s"], &copy["lifetime_s"]),
            (&"data".into(), &4200.into(), &(-600).into(), &3600.into())
        );
        assert_eq!((&copy["outdated"], &copy["last_refreshed_at"]), (&false.into(), &"2026-03-24T12:00:00Z".into()));
        assert!(copy["size_bytes"].as_u64() > copy["body_bytes"].as_u64() && copy["etag"].as_str().expect("a tag").len() == 34);
        assert_eq!(known["look_under_way"], false);
    }
    purged(&world, &json!({ "all": true })).await;
    assert_eq!(inspect(&world, UNCHECKED).await.json()["data"]["copy"]["outdated"], true);
    purged(&world, &json!({ "all": true, "hard": true })).await;
    let known = &inspect(&world, UNCHECKED).await.json()["data"];
    assert_eq!((&known["copy"], &known["paid_ago_s"]), (&Value::Null, &4202.into()), "what was paid for is remembered");
    for path in ["6a09/+16035551234", "6a09cdc3-8948-47f0-aa62-74ac943d6c58/16035551234", "6a09cdc3-8948-47f0-aa62-74ac943d6c58/%zz"] {
        assert_eq!(world.admin(&format!("/admin/v1/cache/{path}")).await.status, 400, "{path}");
    }
    assert_eq!(world.admin("/admin/v1/cache").await.status, 404);
    assert_eq!(world.sent(), 1, "nothing is asked upstream for it");
}

#[tokio::test]
async fn it_is_shown_what_a_copy_was_made_of_and_last_served_with() {
    let world = World::with(crate::harness::BUDGET, |_| {}).await;
    let shown = async |number: &str| {
        let copy = inspect(&world, number).await.json()["data"]["copy"].clone();
        (copy["evidence"].clone(), copy["last_decision"].clone())
    };
    let stored = STORED.replace('+', "%2B");
    let list = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers?filter%5Bphone_number%5D%5Beq%5D={stored}");
    world.ask(&list).send().await;
    assert_eq!(shown(STORED).await, ("page".into(), Value::Null));
    world.read(STORED).await;
    assert_eq!(shown(STORED).await, ("page".into(), "hit".into()));
    world.turn(7200 * SECOND);
    world.read(STORED).await;
    assert_eq!(shown(STORED).await, ("look".into(), "revalidated".into()));
    world.read(UNCHECKED).await;
    assert_eq!(shown(UNCHECKED).await, ("first_touch".into(), "first_touch".into()));
    world.fresh(&unchecked(1)).await;
    assert_eq!(shown(&unchecked(1)).await, ("check".into(), "billed".into()));
    world.fresh(&unchecked(1)).await;
    assert_eq!(shown(&unchecked(1)).await, ("check".into(), "cooldown".into()));
    purged(&world, &json!({ "all": true, "hard": true })).await;
    world.fault(Fault::new(Kind::IgnoreFilter));
    assert_eq!(world.read(STORED).await.outcome(), (200, "miss"));
    assert_eq!(shown(STORED).await, ("get".into(), "miss".into()));
}

#[tokio::test]
async fn the_command_purges_a_running_gateway() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = directory.path().join("gateway.toml");
    let settings = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"open\"\n[ledger]\npath = \"{}\"\n",
        text(&directory.path().join("ledger.sqlite"))
    );
    std::fs::write(&config, settings).expect("writable");
    let process = Process::start(&["serve", "--sandbox=127.0.0.1:0", "--config", text(&config)]);
    let read = || Ask::new(process.address("listen"), &format!("/v2/reputation/numbers/{STORED}")).send();
    assert_eq!(read().await.outcome(), (200, "probe"));
    let admin = process.address("admin").to_string();
    let tell = |words: &[&str]| said(&[&["purge"], words, &["--config", text(&config), "--admin-listen", &admin]].concat());
    let (code, told) = tell(&["--all", "--dry-run"]);
    assert_eq!((code, told.as_str()), (Some(0), "1 copy would be outdated; reading them again costs nothing\n"));
    assert_eq!(read().await.outcome(), (200, "hit"));
    let (code, told) = tell(&["--enterprise", ENTERPRISE, "--number", STORED]);
    assert_eq!((code, told.as_str()), (Some(0), "1 copy outdated; reading them again costs nothing\n"));
    assert_eq!(read().await.outcome(), (200, "revalidated"));
    let (code, told) = tell(&["--enterprise", ENTERPRISE, "--hard", "--json"]);
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_str::<Value>(&told).expect("JSON")["data"]["entries"], 1);
    assert_eq!(read().await.outcome(), (200, "probe"));
    assert_eq!(tell(&["--number", STORED]).0, Some(2), "a number alone is none of anybody's");
    process.terminate();
    let log = process.ended().await.stderr;
    assert!(log.contains("an operator purged copies") && !log.contains(STORED), "{log}");
}
