//! What a request would come to is told by the rules that requests go by, and nothing is done for it.

use serde_json::Value;

use crate::harness::process::{Process, said, text};
use crate::harness::{ABSENT, Answer, Ask, BUDGET, ENTERPRISE, NULL, STORED, UNCHECKED, World, callers, unchecked};

async fn ask(world: &World, path: &str, more: &[(&str, &str)]) -> Answer {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("path", path).extend_pairs(more);
    Ask::new(world.admin, &format!("/admin/v1/explain?{}", query.finish())).send().await
}

async fn explained(world: &World, path: &str, more: &[(&str, &str)]) -> Value {
    let answer = ask(world, path, more).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].clone()
}

fn number(number: &str) -> String {
    format!("/v2/reputation/numbers/{number}")
}

/// The end that is told: of what a look shows this, and of what would be bought for that, its word.
fn end(told: &Value, seen: &str) -> String {
    let mut node = &told["outcome"];
    loop {
        let then = &node["then"];
        node = match (&then[seen], &then["denied"]) {
            (Value::Null, Value::Null) => break,
            (Value::Null, denied) => denied,
            (found, _) => found,
        };
    }
    let word = if node["action"] == "buy" { &node["operation"] } else { &node["decision"] };
    word.as_str().unwrap_or_else(|| panic!("{node}")).to_owned()
}

#[tokio::test]
async fn what_is_told_is_what_happens_and_nothing_is_done_for_it() {
    let world = World::new().await;
    // What a look would show, and what the request is then answered with.
    for (path, seen, foretold, decision) in [
        (number(STORED), "data_old", "probe", "probe"),
        (number(STORED), "data_old", "hit", "hit"),
        (number(ABSENT), "missing", "not_found", "not_found"),
        (number(NULL), "null", "first_touch", "first_touch"),
        (number(NULL), "null", "null", "null"),
        (number(UNCHECKED) + "?fresh=true", "null", "fresh", "billed"),
        (number(UNCHECKED) + "?fresh=true", "data_new", "cooldown", "cooldown"),
    ] {
        let (sent, charged, requests) = (
            world.sent(),
            world.charged(),
            world.metric("reputation_gateway_request_duration_seconds_count{operation=\"retrieve\"}").await,
        );
        let told = explained(&world, &path, &[]).await;
        assert_eq!(end(&told, seen), foretold, "{told}");
        assert_eq!((world.sent(), world.charged()), (sent, charged), "{path}");
        assert_eq!(world.metric("reputation_gateway_request_duration_seconds_count{operation=\"retrieve\"}").await, requests);
        assert_eq!(world.ask(&path).send().await.header("x-gateway-decision"), decision, "{path}");
    }
    let told = explained(&world, &number(UNCHECKED), &[]).await;
    assert_eq!(
        (&told["operation"], &told["enterprise"], &told["number"]),
        (&"retrieve".into(), &ENTERPRISE.into(), &"+12*******00".into())
    );
    assert_eq!((&told["facts"]["copy"]["kind"], &told["facts"]["paid_ago_s"]), (&"data".into(), &0.into()));
}

#[tokio::test]
async fn a_purchase_is_told_with_its_price_and_what_each_budget_says() {
    let tight = "[[budget]]\nname = \"tight\"\nlimit = \"0.10\"\nwindow = \"day\"\n[[budget]]\nname = \"roomy\"\nlimit = \"9.00\"\nwindow = \"day\"\n";
    let world = World::with(tight, |_| {}).await;
    let path = number(UNCHECKED) + "?fresh=true";
    let told = explained(&world, &path, &[]).await;
    assert_eq!(
        (&told["outcome"]["action"], &told["outcome"]["price_usd"], &told["refusal"]),
        (&"buy".into(), &"0.10".into(), &Value::Null)
    );
    world.fresh(&unchecked(1)).await;
    let told = explained(&world, &path, &[]).await;
    let room: Vec<_> = told["budgets"].as_array().expect("budgets").iter().map(|budget| (&budget["name"], &budget["has_room"])).collect();
    assert_eq!(room, [(&"tight".into(), &false.into()), (&"roomy".into(), &true.into())]);
    assert_eq!((&told["budgets"][0]["spent_usd"], &told["budgets"][0]["held_usd"]), (&"0.10".into(), &"0.00".into()));
    let refused = world.ask(&path).send().await;
    assert_eq!((&told["refusal"]["status"], &told["refusal"]["code"]), (&refused.status.as_u16().into(), &refused.code().into()));
    assert_eq!(end(&told, ""), refused.header("x-gateway-decision"));
    assert_eq!(
        world.metric("reputation_gateway_budget_decisions_total{budget=\"tight\",decision=\"denied\"}").await,
        "1",
        "the request's own"
    );
}

#[tokio::test]
async fn wishes_and_methods_are_taken_into_account() {
    let world = World::new().await;
    let cached = [("header", "Cache-Control: only-if-cached")];
    let told = explained(&world, &number(STORED), &cached).await;
    assert_eq!((&told["outcome"]["decision"], &told["refusal"]["status"]), (&"not_in_cache".into(), &504.into()));
    let free = explained(&world, &(number(NULL) + "?fresh=true"), &[("method", "HEAD")]).await;
    assert_eq!((end(&free, "null").as_str(), &free["facts"]["may_bill"], &free["budgets"]), ("null", &false.into(), &Value::Null));
    let numbers = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers");
    for (method, path, operation, price) in [
        ("POST", format!("{numbers}/refresh"), "refresh", "0.10"),
        ("POST", numbers.clone(), "associate", "0.10"),
        ("POST", format!("/v2/enterprises/{ENTERPRISE}/reputation"), "enable", "100.00"),
    ] {
        let told = explained(&world, &path, &[("method", method)]).await;
        assert_eq!((&told["operation"], &told["permission"]["granted"]), (&operation.into(), &false.into()), "{told}");
        assert_eq!(told["refusal"]["status"], 403, "{told} {price}");
    }
    let told = explained(&world, "/v2/messages", &[("method", "POST")]).await;
    assert_eq!(told["refusal"]["status"], 403);
    let told = explained(&world, "/v2/reputation/numbers/6035551234", &[]).await;
    assert_eq!((&told["refusal"]["status"], &told["refusal"]["code"]), (&400.into(), &"10016".into()));
    assert_eq!((world.sent(), world.charged().as_str()), (0, "0.00"));
}

#[tokio::test]
async fn a_request_is_somebodys() {
    let world = World::with(&format!("{BUDGET}{}", callers::caller("dialer", callers::ALL)), callers::keys).await;
    for (caller, status) in [("nobody", 404), ("anonymous", 404), ("dialer", 200)] {
        assert_eq!(ask(&world, &number(STORED), &[("caller", caller)]).await.status, status, "{caller}");
    }
    for more in [&[("path", "/again")][..], &[("method", "G E T")], &[("header", "none")]] {
        assert_eq!(ask(&world, &number(STORED), &[&[("caller", "dialer")], more].concat()).await.status, 400, "{more:?}");
    }
    assert_eq!(world.admin("/admin/v1/explain").await.status, 400);
    let forward = World::with(BUDGET, callers::forward).await;
    assert_eq!(ask(&forward, &number(STORED), &[]).await.code(), "partitioned");
}

#[tokio::test]
async fn an_enterprise_that_only_the_account_knows_is_not_asked_for() {
    let world = World::of_account(&[ENTERPRISE], BUDGET, |_| {}).await;
    let told = explained(&world, &number(STORED), &[]).await;
    assert_eq!((&told["outcome"]["action"], world.sent()), (&"ask".into(), 0));
    world.read(STORED).await;
    assert_eq!(explained(&world, &number(STORED), &[]).await["outcome"]["decision"], "hit");
}

#[tokio::test]
async fn the_command_tells_it_in_lines() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = directory.path().join("gateway.toml");
    let settings = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"open\"\n[ledger]\npath = \"{}\"\n",
        text(&directory.path().join("ledger.sqlite"))
    );
    std::fs::write(&config, settings).expect("writable");
    let process = Process::start(&["serve", "--sandbox=127.0.0.1:0", "--config", text(&config)]);
    let admin = process.address("admin").to_string();
    let (code, told) = said(&[
        "explain",
        &format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/{STORED}"),
        "--config",
        text(&config),
        "--admin-listen",
        &admin,
    ]);
    assert!(code == Some(0) && told.contains("operation    retrieve\n") && told.contains("outcome      look: "), "{code:?} {told}");
    assert!(told.contains("\n  data_old     serve probe: the look found data\n"), "{told}");
    let path = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/{STORED}");
    let read = Ask::new(process.address("listen"), &path).header("x-request-id", "of-the-past").send().await;
    assert_eq!(read.outcome(), (200, "probe"));
    let tell = |command: &[&str]| said(&[command, &["--config", text(&config), "--admin-listen", &admin][..]].concat());
    let (code, told) = tell(&["explain", "--request-id", "of-the-past"]);
    assert!(code == Some(0) && told.contains("decision     probe\n") && told.contains("\nlooked       a free look at "), "{code:?} {told}");
    let (code, told) = tell(&["requests", "--decision", "probe"]);
    assert!(code == Some(0) && told.lines().count() == 2 && told.contains("  of-the-past  "), "{code:?} {told}");
    let (code, told) = tell(&["explain", "--request-id", "of-nobody"]);
    assert!(code == Some(1) && told.contains("no request of this id"), "{code:?} {told}");
    process.terminate();
    process.ended().await;
}
