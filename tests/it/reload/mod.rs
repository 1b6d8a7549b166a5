//! A configuration follows another while the gateway serves: no request is dropped, no usage is lost, and what cannot follow is told.

mod again;
mod process;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use reputation_gateway::policy::money::Usd;
use reputation_gateway::secret::Secret;
use tokio::task::JoinSet;

use crate::harness::callers::{caller, keys, sha256};
use crate::harness::{BUDGET, ENTERPRISE, PATIENCE, STORED, Wire, World, books, settings, unchecked};

const SECOND: Duration = Duration::from_secs(1);

/// The config's callers, each with a key of its own.
fn callers(names: &[&str]) -> String {
    names.iter().map(|name| caller(name, r#"allow = ["fresh"]"#)).collect()
}

fn parsed<T: serde::de::DeserializeOwned>(table: &str, name: &str) -> T {
    let mut tables: toml::Table = table.parse().expect("TOML");
    tables.remove(name).expect("there").try_into().expect("settings")
}

fn get(target: &str, key: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n\r\n")
}

fn number(number: &str) -> String {
    format!("/v2/reputation/numbers/{number}")
}

#[tokio::test]
async fn a_revoked_key_is_refused_from_the_next_request_on_its_connection_and_a_new_one_is_taken() {
    let mut world = World::with(&format!("{BUDGET}{}", callers(&["old"])), keys).await;
    let (mut old, mut new) = (Wire::to(world.gateway).await, Wire::to(world.gateway).await);
    let (by_old, by_new) = (get(&number(STORED), "key-of-old"), get(&number(STORED), "key-of-new"));
    // The second of each is answered before the parser.
    for (asked, status, decision) in [(1, 200, "probe"), (2, 200, "hit"), (3, 200, "hit")] {
        old.send(&by_old).await;
        let answer = old.answer().await;
        assert_eq!((answer.status, answer.field("x-gateway-decision")), (status, decision), "{asked}");
    }
    for _ in 0..2 {
        new.send(&by_new).await;
        assert_eq!(new.answer().await.status, 401);
    }
    world.apply(|config| config.caller = parsed(&callers(&["new"]), "caller")).await.expect("applied");
    for _ in 0..2 {
        old.send(&by_old).await;
        assert_eq!(old.answer().await.status, 401);
        new.send(&by_new).await;
        let answer = new.answer().await;
        assert_eq!((answer.status, answer.field("x-gateway-decision")), (200, "hit"));
    }
    assert_eq!(world.metric(r#"reputation_gateway_requests_total{caller="new",decision="hit",operation="retrieve"}"#).await, "2");
    assert_eq!(
        world.metric(r#"reputation_gateway_requests_total{caller="old",decision="hit",operation="retrieve"}"#).await,
        "2",
        "a counter stays"
    );
}

#[tokio::test]
async fn a_lowered_limit_refuses_at_once_and_a_raised_one_allows_and_no_usage_is_lost() {
    let mut world = World::new().await;
    for n in 0..3 {
        assert_eq!(world.fresh(&unchecked(n)).await.outcome(), (200, "billed"));
    }
    let limited = |limit: &str| parsed::<Vec<_>>(&BUDGET.replace("10.00", limit), "budget");
    world.apply(|config| config.budget = limited("0.30")).await.expect("applied");
    assert_eq!(world.fresh(&unchecked(3)).await.outcome(), (402, "budget_exhausted"));
    world.apply(|config| config.budget = limited("0.40")).await.expect("applied");
    assert_eq!(world.fresh(&unchecked(3)).await.outcome(), (200, "billed"));
    let more = "[[budget]]\nname = \"renamed\"\nlimit = \"0.50\"\nwindow = \"day\"\n[[budget]]\nname = \"month\"\nlimit = \"9.00\"\nwindow = \"month\"\n";
    world.apply(|config| config.budget = parsed(more, "budget")).await.expect("applied");
    let budgets = world.admin("/admin/v1/budgets").await.json();
    for budget in budgets["data"].as_array().expect("a list") {
        assert_eq!(budget["spent_usd"], "0.40", "{budget}");
    }
    assert_eq!(world.metric(r#"reputation_gateway_budget_spent_usd{budget="month"}"#).await, "0.4");
    let scrape = world.admin("/metrics").await.text();
    assert!(!scrape.contains(r#"reputation_gateway_budget_spent_usd{budget="all-day"}"#), "a gauge of what is not there any more");
    assert!(scrape.contains(r#"reputation_gateway_budget_decisions_total{budget="all-day",decision="allowed"} 4"#), "a counter stays");
    assert_eq!(world.fresh(&unchecked(4)).await.outcome(), (200, "billed"));
    assert_eq!(world.fresh(&unchecked(5)).await.outcome(), (402, "budget_exhausted"));
    world.apply(|config| config.budget.clear()).await.expect("applied");
    assert_eq!(world.fresh(&unchecked(5)).await.outcome(), (402, "budget_exhausted"), "no budget applies");
    assert_eq!(world.charged(), "0.50");
}

#[tokio::test]
async fn a_call_under_way_ends_in_the_budgets_that_follow_and_at_the_price_that_it_began_with() {
    let mut world = World::gated(BUDGET, |_| {}).await;
    let path = format!("{}?fresh=true", number(&unchecked(0)));
    world.gate.close();
    let under_way = tokio::spawn(world.ask(&path).send());
    world.reached(1).await;
    let budget = "[[budget]]\nname = \"other\"\nlimit = \"0.35\"\nwindow = \"month\"\n";
    world
        .apply(|config| {
            config.budget = parsed(budget, "budget");
            config.prices.check = "0.20".parse().expect("dollars");
        })
        .await
        .expect("applied");
    let status = |budgets: serde_json::Value| {
        let budget = &budgets["data"][0];
        [&budget["name"], &budget["held_usd"], &budget["spent_usd"]].map(|value| value.as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(status(world.admin("/admin/v1/budgets").await.json()), ["other", "0.10", "0.00"]);
    world.gate.open();
    let answer = under_way.await.expect("an answer");
    assert_eq!((answer.outcome(), answer.header("x-gateway-cost-usd")), ((200, "billed"), "0.10"));
    assert_eq!(status(world.admin("/admin/v1/budgets").await.json()), ["other", "0.00", "0.10"]);
    let answer = world.fresh(&unchecked(1)).await;
    assert_eq!((answer.outcome(), answer.header("x-gateway-cost-usd")), ((200, "billed"), "0.20"));
    assert_eq!(world.fresh(&unchecked(2)).await.outcome(), (402, "budget_exhausted"));
}

#[tokio::test]
async fn lifetimes_are_those_of_the_configuration_under_which_a_copy_is_made() {
    let mut world = World::new().await;
    assert_eq!(world.read(STORED).await.header("cache-control"), "private, max-age=3600");
    world.fresh(&unchecked(0)).await;
    assert_eq!(world.read(&unchecked(0)).await.header("cache-control"), "private, max-age=3600");
    let own = format!("[[enterprise]]\nid = \"{ENTERPRISE}\"\ncache = {{ stale_if_error = \"8d\" }}\n");
    world
        .apply(|config| {
            config.cache.ttl = "10m".parse().expect("a time");
            config.enterprise = parsed(&own, "enterprise");
        })
        .await
        .expect("applied");
    world.fresh(&unchecked(1)).await;
    assert_eq!(world.read(&unchecked(1)).await.header("cache-control"), "private, max-age=600");
    world.turn(11 * 60 * SECOND);
    assert_eq!(world.read(&unchecked(1)).await.outcome(), (200, "stale"));
    assert_eq!(world.read(&unchecked(0)).await.outcome(), (200, "hit"), "as long as it was to be fresh");
    assert_eq!(world.charged(), "0.20");
}

#[tokio::test]
async fn a_rate_follows_and_one_that_does_not_change_stands_where_it_stood() {
    let mut world = World::with(&format!("{BUDGET}{}", caller("crm", "allow = [\"fresh\"]\nfresh_rate = \"2/h\"")), keys).await;
    let path = |n| format!("{}?fresh=true", number(&unchecked(n)));
    let (one, other) = (path(0), path(1));
    let strict = |path: &str| world.ask(path).key("key-of-crm").header("prefer", "handling=strict");
    assert_eq!(strict(&one).send().await.outcome(), (200, "billed"));
    assert_eq!(strict(&other).send().await.outcome(), (200, "billed"));
    assert_eq!(strict(&path(2)).send().await.outcome(), (429, "rate_limited"));
    world.apply(|config| config.cache.ttl = "2h".parse().expect("a time")).await.expect("applied");
    let strict = |path: &str| world.ask(path).key("key-of-crm").header("prefer", "handling=strict");
    assert_eq!(strict(&path(2)).send().await.outcome(), (429, "rate_limited"), "it is not filled anew");
    world.apply(|config| config.caller[0].fresh_rate = Some("3/h".parse().expect("a rate"))).await.expect("applied");
    assert_eq!(world.ask(&path(2)).key("key-of-crm").send().await.outcome(), (200, "billed"));
    world.apply(|config| config.caller[0].allow.clear()).await.expect("applied");
    let answer = world.ask(&path(3)).key("key-of-crm").header("prefer", "handling=strict").send().await;
    assert_eq!(answer.outcome(), (403, "not_permitted"));
}

#[tokio::test]
async fn what_needs_a_restart_stays_and_is_named_and_no_secret_is_shown() {
    let mut world =
        World::with(&format!("{BUDGET}{}", caller("crm", "")), |config| config.admin.token = Some(Secret::Plain("old-token".into()))).await;
    let asked = |token: &str| crate::harness::Ask::new(world.admin, "/admin/v1/config").key(token);
    assert_eq!(asked("old-token").send().await.json()["data"]["restart_needed"], serde_json::json!([]));
    world
        .apply(|config| {
            config.server.max_connections = 7;
            config.cache.max_size = "1MiB".parse().expect("a size");
            config.telemetry.log_full_numbers = true;
            config.cache.negative_ttl = "1m".parse().expect("a time");
            config.upstream.api_key = Secret::Plain("new-upstream-key".into());
            config.admin.token = Some(Secret::Plain("new-token".into()));
        })
        .await
        .expect("applied");
    let asked = |token: &str| crate::harness::Ask::new(world.admin, "/admin/v1/config").key(token);
    let shown = asked("old-token").send().await;
    assert_eq!(shown.status, 200, "the token is for whoever reads the file to follow");
    let (text, data) = (shown.text(), shown.json()["data"].take());
    assert_eq!(data["restart_needed"], serde_json::json!(["server.max_connections", "cache.max_size", "telemetry.log_full_numbers"]));
    assert_eq!(data["config"]["server"]["max_connections"], 10_000);
    assert_eq!(data["config"]["cache"]["max_size"], "256MiB");
    assert_eq!(data["config"]["cache"]["negative_ttl"], "1m");
    assert_eq!(data["last_error"], serde_json::Value::Null);
    for secret in ["upstream-key", "old-token", "new-token"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    assert_eq!(world.metric("reputation_gateway_config_restart_needed").await, "3");
}

#[tokio::test]
async fn a_configuration_that_is_unsafe_or_would_be_without_a_restart_changes_nothing() {
    let mut world = World::with(&format!("{BUDGET}{}", caller("crm", "")), keys).await;
    let error = world.apply(|config| config.prices.check = Usd::ZERO).await.expect_err("unsafe");
    assert!(error.to_string().starts_with("prices.check: "), "{error}");
    let error = world
        .apply(|config| {
            config.auth.mode = reputation_gateway::auth::Mode::Open;
            config.caller.clear();
        })
        .await
        .expect_err("nobody would be let in");
    assert!(error.to_string().starts_with("with what stays as it is until a restart (auth.mode): caller: "), "{error}");
    assert_eq!(world.ask(&number(STORED)).key("key-of-crm").send().await.status, 200);
    assert_eq!(world.in_force().await["restart_needed"], serde_json::json!([]));
}

#[tokio::test]
async fn reloads_under_load_drop_no_request_and_lose_no_usage() {
    const CLIENTS: usize = 6;
    const RELOADS: usize = 150;
    let world = World::with(&format!("{}{}", BUDGET.replace("10.00", "1000.00"), callers(&["a", "b"])), keys).await;
    let (live, base) = world.live();
    let (stop, answered, billed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (address, stop, answered, billed) = (world.gateway, Arc::clone(&stop), Arc::clone(&answered), Arc::clone(&billed));
        clients.spawn(async move {
            let (mut wire, key) = (Wire::to(address).await, ["key-of-a", "key-of-b"][client % 2]);
            for round in 0.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                // Hits before the parser, billed calls, lists: all on one connection.
                let target = match round % 4 {
                    0 => format!("{}?fresh=true", number(&unchecked((client + CLIENTS * (round / 4)) % 900))),
                    1 => format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers"),
                    _ => number(STORED),
                };
                wire.send(get(&target, key)).await;
                let answer = wire.answer().await;
                assert_eq!(answer.status, 200, "{target}: {} {}", answer.head, answer.body);
                answered.fetch_add(1, Ordering::SeqCst);
                billed.fetch_add(usize::from(answer.field("x-gateway-decision") == "billed"), Ordering::SeqCst);
            }
        });
    }
    for reload in 0..RELOADS {
        let before = answered.load(Ordering::SeqCst);
        let mut wanted = base.clone();
        wanted.caller.truncate(2);
        wanted.caller.extend(parsed::<Vec<_>>(&callers(&[&format!("c{}", reload % 5)]), "caller"));
        wanted.budget[0].name = format!("budget-{}", reload % 3);
        wanted.budget[0].limit = format!("{}.00", 1_000 + reload).parse().expect("dollars");
        wanted.cache.ttl = format!("{}m", 60 + reload % 7).parse().expect("a time");
        wanted.fresh.rate = format!("{}/s", 900_000 + reload).parse().expect("a rate");
        live.apply(wanted).await.expect("applied");
        let served = async {
            while answered.load(Ordering::SeqCst) < before + CLIENTS {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, served).await.expect("requests are answered between reloads");
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = clients.join_next().await {
        ended.expect("every request was answered with 200");
    }
    let (charged, billed) = (world.charges().total, billed.load(Ordering::SeqCst));
    assert!(billed > RELOADS / 2, "{billed} billed calls among {} requests", answered.load(Ordering::SeqCst));
    assert_eq!(books::posted(&books::charges(&world.ledger())), charged.micros());
    let budgets = world.admin("/admin/v1/budgets").await.json();
    assert_eq!(budgets["data"][0]["spent_usd"], charged.to_string());
    assert_eq!(charged.micros(), i64::try_from(billed).expect("few") * 100_000);
    assert_eq!(world.metric("reputation_gateway_config_reload_success").await, "1");
}

/// Turns the clock a second at a time, which has the files looked at, until what operators see is so.
async fn until(world: &World, is_so: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let waiting = async {
        loop {
            let seen = world.in_force().await;
            if is_so(&seen) {
                return seen;
            }
            world.turn(SECOND);
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it comes to be so")
}

fn has_ttl(ttl: &'static str) -> impl Fn(&serde_json::Value) -> bool {
    move |seen| seen["config"]["cache"]["ttl"] == ttl
}

fn write(path: &Path, ttl: &str) {
    std::fs::write(path, settings(&format!("ttl = \"{ttl}\"\n{BUDGET}"))).expect("writable");
}

#[tokio::test]
async fn a_file_is_read_again_when_it_is_written_renamed_over_or_its_link_is_turned() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let mut world = World::new().await;
    // As Kubernetes mounts it: the file is a link into a folder that a link names, which is turned.
    for (name, ttl) in [("first", "1h"), ("second", "2h")] {
        std::fs::create_dir(path(name)).expect("a folder");
        write(&path(name).join("gateway.toml"), ttl);
    }
    std::os::unix::fs::symlink("first", path("..data")).expect("a link");
    std::os::unix::fs::symlink("..data/gateway.toml", path("gateway.toml")).expect("a link");
    world.reading(&path("gateway.toml")).await;
    assert_eq!(world.in_force().await["source"], path("gateway.toml").display().to_string());
    std::os::unix::fs::symlink("second", path("..data_tmp")).expect("a link");
    std::fs::rename(path("..data_tmp"), path("..data")).expect("turned");
    until(&world, has_ttl("2h")).await;
    write(&path("new"), "3h");
    std::fs::rename(path("new"), path("gateway.toml")).expect("renamed");
    until(&world, has_ttl("3h")).await;
    write(&path("gateway.toml"), "4h");
    until(&world, has_ttl("4h")).await;
}

#[tokio::test]
async fn a_bad_file_keeps_the_old_configuration_and_says_file_line_and_key_until_it_is_mended() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gateway.toml");
    let mut world = World::new().await;
    write(&path, "2h");
    world.reading(&path).await;
    let is_refused = |seen: &serde_json::Value| !seen["last_error"].is_null();
    assert_eq!(world.admin("/readyz").await.text(), "ready\n");
    write(&path, "soon");
    let line = settings("").lines().count() + 1;
    let seen = until(&world, is_refused).await;
    let error = seen["last_error"]["error"].as_str().expect("text");
    assert!(error.starts_with(&format!("{}:{line}: cache.ttl: \"soon\" is not a length of time", path.display())), "{error}");
    assert_eq!(seen["config"]["cache"]["ttl"], "2h");
    assert_eq!(world.metric("reputation_gateway_config_reload_success").await, "0");
    let ready = world.admin("/readyz").await;
    assert!(ready.status == 200 && ready.text().starts_with("ready\nwarning: the configuration that was read last"), "{}", ready.text());
    assert_eq!(world.read(STORED).await.header("cache-control"), "private, max-age=7200");
    std::fs::remove_file(&path).expect("removed");
    until(&world, |seen| seen["last_error"]["error"].as_str().is_some_and(|why| why.contains("No such file"))).await;
    write(&path, "3h");
    until(&world, |seen| has_ttl("3h")(seen) && seen["last_error"].is_null()).await;
    assert_eq!(world.metric("reputation_gateway_config_reload_success").await, "1");
    assert_eq!(world.admin("/readyz").await.text(), "ready\n");
}

#[tokio::test]
async fn a_secret_that_changes_in_its_file_goes_upstream_from_then_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, secret) = (folder.path().join("gateway.toml"), folder.path().join("key"));
    let mut world = World::new().await;
    std::fs::write(&secret, "first-key\n").expect("writable");
    let text = settings(BUDGET).replace("\"upstream-key\"", &format!("{{ file = \"{}\" }}", secret.display()));
    std::fs::write(&path, text).expect("writable");
    world.reading(&path).await;
    let sent = |world: &World| world.sandbox.requests().last().and_then(|seen| seen.bearer_sha256.clone());
    world.fresh(&unchecked(0)).await;
    assert_eq!(sent(&world), sha256("first-key"));
    let before = world.in_force().await["loaded_at"].take();
    std::fs::write(&secret, "second-key\n").expect("writable");
    until(&world, |seen| seen["loaded_at"] != before).await;
    world.fresh(&unchecked(1)).await;
    assert_eq!(sent(&world), sha256("second-key"));
}
