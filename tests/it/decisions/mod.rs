//! Every past request is explained by its id: what was known, what was decided and by which rule, and why it was billed or not.

mod log;

use std::time::Duration;

use http::Method;
use reputation_gateway::auth::Permission;
use reputation_gateway::sandbox::{Fault, Kind};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{ABSENT, Answer, Ask, ENTERPRISE, NULL, STORED, UNCHECKED, World, unchecked};

const LARGE: &str = "[[budget]]\nname = \"all-month\"\nlimit = \"500.00\"\nwindow = \"month\"\n";

fn fresh(number: &str) -> String {
    format!("/v2/reputation/numbers/{number}?fresh=true")
}

fn plain(number: &str) -> String {
    format!("/v2/reputation/numbers/{number}")
}

impl World {
    async fn as_request(&self, id: &str, path: &str) -> Answer {
        self.ask(path).header("x-request-id", id).send().await
    }

    /// All that is told of the requests of this id.
    async fn told(&self, id: &str) -> Vec<Value> {
        let answer = self.admin(&format!("/admin/v1/explain?request_id={id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"].as_array().expect("a list").clone()
    }

    /// The same of the only one.
    async fn only(&self, id: &str) -> Value {
        let [told] = <[Value; 1]>::try_from(self.told(id).await).expect("one request of this id");
        told
    }

    /// A request's explanation, once its decision is as it should be.
    async fn explained(&self, id: &str, path: &str, decision: &str) -> Value {
        let answer = self.as_request(id, path).await;
        assert_eq!(answer.header("x-gateway-decision"), decision, "{id}: {answer:?}");
        let told = self.only(id).await;
        assert_eq!(
            (told["decision"].as_str(), told["status"].as_u64(), told["billed"].as_str(), told["cost_usd"].as_str()),
            (
                Some(decision),
                Some(answer.status.as_u16().into()),
                Some(answer.header("x-gateway-billed")),
                Some(answer.header("x-gateway-cost-usd"))
            ),
            "{told:#}"
        );
        told
    }

    async fn post(&self, id: &str, path: &str, body: &Value) -> Answer {
        let ask = self.ask(path).method(Method::POST).header("content-type", "application/json").header("x-request-id", id);
        ask.body(body.to_string()).send().await
    }

    async fn requests(&self, query: &str) -> Vec<String> {
        let answer = self.admin(&format!("/admin/v1/requests{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let listed = answer.json();
        let ids = listed["data"].as_array().expect("a list").iter().map(|told| told["request_id"].as_str().expect("an id").to_owned());
        ids.collect()
    }
}

fn names(told: &Value) -> Vec<&str> {
    told["steps"].as_array().expect("steps").iter().filter_map(|step| step["step"].as_str()).collect()
}

/// The last step of this name.
fn step<'v>(told: &'v Value, name: &str) -> &'v Value {
    let found = told["steps"].as_array().expect("steps").iter().rfind(|step| step["step"] == name);
    found.unwrap_or_else(|| panic!("no step {name}: {told:#}"))
}

/// What the last decision was, and from what is told of the copy.
fn last(told: &Value) -> (&str, &str) {
    let decided = step(told, "decided");
    (decided["action"].as_str().expect("an action"), decided["facts"]["copy"]["kind"].as_str().unwrap_or("none"))
}

#[tokio::test]
async fn a_first_read_that_was_billed_is_explained_from_its_facts_to_the_evidence() {
    let world = World::with(LARGE, |_| {}).await;
    let told = world.explained("first", &plain(NULL), "first_touch").await;
    let course = ["policy", "decided", "sent", "looked", "decided", "budgets", "held", "sent", "evidence", "ended"];
    assert_eq!(names(&told), course, "{told:#}");
    assert_eq!((&told["source"], &told["number"], &told["caller"]), (&"log".into(), &"+12*******99".into(), &"anonymous".into()));
    assert_eq!((&step(&told, "policy")["first_touch"], &step(&told, "looked")["shows"]), (&"bill".into(), &"null".into()));
    let decided = step(&told, "decided");
    assert_eq!((&decided["action"], &decided["operation"], &decided["price_usd"]), (&"buy".into(), &"first_touch".into(), &"0.10".into()));
    assert_eq!(
        (&decided["facts"]["look"], &decided["facts"]["copy"], &decided["facts"]["fresh"]),
        (&"null".into(), &Value::Null, &false.into())
    );
    let budget = &step(&told, "budgets")["budgets"][0];
    assert_eq!((&budget["name"], &budget["limit_usd"], &budget["has_room"]), (&"all-month".into(), &"500.00".into(), &true.into()));
    let hold = &step(&told, "held")["holds"][0]["hold"];
    let sent = step(&told, "sent");
    assert_eq!((&sent["method"], &sent["status"], &sent["free"]), (&"GET".into(), &200.into(), &false.into()));
    let ended = step(&told, "ended");
    assert_eq!((&ended["hold"], &ended["billing"], &ended["recorded"]), (hold, &"billed".into(), &true.into()));
    assert_eq!(
        (&told["charges"][0]["hold"], &told["charges"][0]["state"], &told["charges"][0]["posted_usd"]),
        (hold, &"settled".into(), &"0.10".into())
    );
    let why = told["why"].as_str().expect("a sentence");
    for part in [
        "a plain read, no copy: look, since",
        "a free look at +12*******99 showed null",
        "policy first_touch=bill",
        "budget all-month had room: 0.00 spent and 0.00 held of 500.00",
        "taken for first_touch, 0.10",
        "GET sent: 200 after 0 ms",
        "ended, billed: a first read found no data: first_touch, billed: yes, 0.10",
    ] {
        assert!(why.contains(part), "{part}: {why}");
    }
}

#[tokio::test]
async fn what_was_had_for_nothing_is_explained_by_the_copy_or_the_look() {
    let world = World::with(LARGE, |_| {}).await;
    let probe = world.explained("probe", &plain(STORED), "probe").await;
    assert_eq!((last(&probe), &step(&probe, "looked")["shows"], &probe["charges"]), (("serve", "none"), &"data".into(), &json!([])));
    let hit = world.explained("hit", &plain(STORED), "hit").await;
    assert_eq!((last(&hit), names(&hit)), (("serve", "data"), vec!["decided"]));
    assert_eq!((&hit["steps"][0]["facts"]["copy"]["age_s"], &hit["steps"][0]["rule"]), (&0.into(), &"the copy is fresh".into()));
    let conditional = world.ask(&plain(STORED)).header("x-request-id", "unchanged").header("if-none-match", "*").send().await;
    assert_eq!(conditional.outcome(), (304, "hit"));
    let unchanged = world.only("unchanged").await;
    assert_eq!((last(&unchanged), unchanged["status"].as_u64()), (("serve", "data"), Some(304)), "a hit that took the long way");
    let absent = world.explained("absent", &plain(ABSENT), "not_found").await;
    assert_eq!(step(&absent, "looked")["shows"], "missing");
    world.read(NULL).await;
    let null = world.explained("null", &plain(NULL), "null").await;
    assert_eq!((last(&null), null["steps"][1]["facts"]["paid_ago_s"].as_u64()), (("serve", "null"), Some(0)));
    world.turn(Duration::from_hours(2));
    let stale = world.explained("stale", &plain(STORED), "revalidated").await;
    assert_eq!((last(&stale), &step(&stale, "decided")["from"]), (("serve", "data"), &"look".into()));
    let list = world.explained("list", &format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers"), "passed").await;
    assert_eq!(names(&list), ["sent"]);
    let bad = world.explained("bad", "/v2/reputation/numbers/6035551234", "bad_request").await;
    assert_eq!((&step(&bad, "refused")["code"], &step(&bad, "refused")["status"]), (&"10016".into(), &400.into()));
    let passed = world.explained("passed", &format!("/v2/enterprises/{ENTERPRISE}/reputation"), "passed").await;
    assert_eq!((&step(&passed, "sent")["free"], names(&passed)), (&true.into(), vec!["sent"]));
}

#[tokio::test]
async fn a_plain_get_that_was_not_billed_shows_why_not() {
    let world = World::with(LARGE, |_| {}).await;
    world.fault(Fault::new(Kind::IgnoreFilter));
    let miss = world.explained("miss", &plain(STORED), "miss").await;
    assert_eq!(step(&miss, "looked")["shows"], "inconclusive");
    let ended = step(&miss, "ended");
    assert_eq!((&ended["billing"], &ended["why"]), (&"not_billed".into(), &"stored data was served".into()));
    let evidence = step(&miss, "evidence");
    assert!(evidence["last_refreshed_at"].as_str() < evidence["sent_at"].as_str() && evidence["sent_at"].is_string(), "{evidence}");
    assert!(miss["why"].as_str().is_some_and(|why| why.contains("which is older than the call, sent at 2026-03-24T1")), "{miss:#}");
    assert_eq!((&miss["charges"][0]["state"], &miss["charges"][0]["posted_usd"]), (&"released".into(), &"0.00".into()));
}

#[tokio::test]
async fn fresh_data_is_explained_where_it_was_bought_and_where_it_was_not() {
    let world = World::with(LARGE, |_| {}).await;
    let billed = world.explained("billed", &fresh(UNCHECKED), "billed").await;
    assert_eq!(
        (&step(&billed, "held")["operation"], &step(&billed, "ended")["why"]),
        (&"fresh".into(), &"a fresh check was answered".into())
    );
    let cooldown = world.explained("cooldown", &fresh(UNCHECKED), "cooldown").await;
    assert_eq!((last(&cooldown), &step(&cooldown, "decided")["facts"]["paid_ago_s"]), (("serve", "data"), &0.into()));
    world.fault(Fault::new(Kind::Status).status(422_u16.try_into().expect("a status")));
    let refused = world.explained("refused", &fresh(&unchecked(1)), "upstream_error").await;
    assert_eq!((&step(&refused, "sent")["status"], &step(&refused, "ended")["billing"]), (&422.into(), &"not_billed".into()));
    world.fault(Fault::new(Kind::Reset));
    let unknown = world.explained("unknown", &fresh(&unchecked(2)), "outcome_unknown").await;
    assert_eq!((&step(&unknown, "ended")["billing"], &unknown["charges"][0]["state"]), (&"unknown".into(), &"assumed".into()));
    let sent: Vec<_> = unknown["steps"].as_array().expect("steps").iter().filter(|step| step["step"] == "sent").collect();
    assert!(sent[0]["error"].as_str().is_some_and(|error| error.contains("ended before its answer was whole")), "{sent:?}");
    let barred = world.explained("barred", &fresh(&unchecked(2)), "outcome_unknown").await;
    assert_eq!((last(&barred).0, &barred["billed"], &barred["charges"]), ("refuse", &"no".into(), &json!([])));
    world.fault(Fault::new(Kind::ResetAfterBilling));
    let recovered = world.explained("recovered", &fresh(&unchecked(3)), "recovered").await;
    let found = step(&recovered, "found");
    assert_eq!((&found["hold"], &recovered["billed"]), (&recovered["charges"][0]["hold"], &"yes".into()));
    assert_eq!(recovered["charges"][0]["state"], "corrected", "what the ledger has now, and not what the hold's end was");
    assert_eq!(step(&recovered, "ended")["billing"], "unknown");
}

#[tokio::test]
async fn who_waited_for_anothers_purchase_is_told_whose() {
    let world = World::with(LARGE, |_| {}).await;
    world.fault(Fault::new(Kind::Latency).query_contains("fresh=true").delay(Duration::from_secs(1)));
    let (paid, free) = (fresh(UNCHECKED), plain(UNCHECKED));
    let (bought, joined) = tokio::join!(world.as_request("payer", &paid), async {
        world.reached(1).await;
        world.as_request("joiner", &free).await
    });
    assert_eq!((bought.outcome(), joined.outcome()), ((200, "billed"), (200, "collapsed")));
    let (payer, follower) = (world.only("payer").await, world.only("joiner").await);
    let step = step(&follower, "joined");
    assert_eq!((&step["request_id"], &step["billed"], &step["operation"]), (&"payer".into(), &"yes".into(), &"fresh".into()));
    assert_eq!((&step["hold"], &follower["charges"]), (&payer["charges"][0]["hold"], &json!([])));
}

#[tokio::test]
async fn a_refusal_of_money_is_explained_by_what_refused_it() {
    let tight = "[[budget]]\nname = \"tight\"\nlimit = \"0.10\"\nwindow = \"day\"\n";
    let world = World::with(tight, |config| config.fresh.rate = "2/min".parse().expect("a rate")).await;
    world.explained("all", &fresh(UNCHECKED), "billed").await;
    let budget = world.explained("budget", &fresh(&unchecked(1)), "budget_exhausted").await;
    let denied = step(&budget, "denied");
    assert_eq!(
        (&denied["budget"]["name"], &denied["budget"]["spent_usd"], &denied["budget"]["limit_usd"], &denied["budget"]["has_room"]),
        (&"tight".into(), &"0.10".into(), &"0.10".into(), &false.into())
    );
    assert_eq!((&step(&budget, "refused")["code"], &step(&budget, "refused")["status"]), (&"budget_exhausted".into(), &402.into()));
    world.turn(Duration::from_hours(24));
    world.explained("next", &fresh(&unchecked(2)), "billed").await;
    let switch = json!({ "on": true, "reason": "a drill" }).to_string();
    let stop = Ask::new(world.admin, "/admin/v1/kill-switch").method(Method::POST).header("content-type", "application/json").body(switch);
    assert_eq!(stop.send().await.status, 200);
    let stopped = world.explained("stopped", &fresh(&unchecked(3)), "kill_switch").await;
    assert_eq!((&step(&stopped, "denied")["decision"], names(&stopped).contains(&"held")), (&"kill_switch".into(), false));

    let quick = World::with(LARGE, |config| config.fresh.rate = "1/min".parse().expect("a rate")).await;
    quick.explained("taken", &fresh(UNCHECKED), "billed").await;
    let limited = quick.explained("limited", &fresh(&unchecked(1)), "rate_limited").await;
    let denied = step(&limited, "denied");
    assert_eq!((&denied["limiter"], &denied["wait_us"]), (&"global".into(), &60_000_000.into()));

    let barred = World::with(LARGE, |config| config.auth.allow.clear()).await;
    let refused = barred.explained("barred", &fresh(UNCHECKED), "not_permitted").await;
    assert_eq!((last(&refused).0, &step(&refused, "decided")["facts"]["may_fresh"]), ("refuse", &false.into()));
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_is_told_as_the_reason() {
    let mut world = World::with(LARGE, |_| {}).await;
    world.fresh(UNCHECKED).await;
    world.stop().await;
    let other = Connection::open(world.ledger()).expect("a ledger");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    world.restart().await;
    let refused = world.explained("locked", &fresh(&unchecked(1)), "ledger_unavailable").await;
    assert_eq!(step(&refused, "denied")["decision"], "ledger_unavailable");
}

#[tokio::test]
async fn each_number_of_a_refresh_is_explained() {
    let world = World::with(LARGE, |config| config.auth.allow.push(Permission::Refresh)).await;
    world.fresh(UNCHECKED).await;
    let path = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/refresh");
    let answer = world.post("refresh", &path, &json!({ "phone_numbers": [UNCHECKED, unchecked(1), unchecked(2)] })).await;
    assert_eq!(answer.outcome(), (200, "billed"));
    let told = world.only("refresh").await;
    let decided: Vec<_> = told["steps"].as_array().expect("steps").iter().filter(|step| step["step"] == "decided").collect();
    let actions: Vec<_> = decided.iter().map(|step| (step["number"].as_str(), step["action"].as_str())).collect();
    for expected in [("+12*******00", "done"), ("+12*******01", "buy"), ("+12*******02", "buy")] {
        assert!(actions.contains(&(Some(expected.0), Some(expected.1))), "{actions:?}");
    }
    let held = step(&told, "held");
    assert_eq!((held["holds"].as_array().map(Vec::len), &held["price_usd"], &told["cost_usd"]), (Some(2), &"0.10".into(), &"0.20".into()));
    assert_eq!(held["holds"][0]["number"], "+12*******01");
    let of = |name: &str| names(&told).iter().filter(|step| **step == name).count();
    assert_eq!((of("said"), of("ended"), told["charges"].as_array().map(Vec::len)), (2, 2, Some(2)));
}

#[tokio::test]
async fn monitoring_that_was_enabled_is_explained_by_the_look_and_its_price() {
    let month = "[[budget]]\nname = \"all-month\"\nlimit = \"350.00\"\nwindow = \"month\"\n";
    let world = World::with(month, |config| config.auth.allow.push(Permission::Enable)).await;
    let path = format!("/v2/enterprises/{ENTERPRISE}/reputation");
    let gone = Ask::new(world.upstream(), &path).method(Method::DELETE).key("other").send().await;
    assert_eq!(gone.status, 204);
    let answer = world.post("enable", &path, &json!({ "loa_document_id": "doc-1" })).await;
    assert_eq!(answer.outcome(), (201, "billed"), "{answer:?}");
    let told = world.only("enable").await;
    let settings = step(&told, "settings");
    assert_eq!((&settings["enabled"], &settings["action"]), (&false.into(), &"buy".into()));
    assert_eq!((&step(&told, "held")["price_usd"], &step(&told, "ended")["why"]), (&"100.00".into(), &"monitoring was enabled".into()));
    assert_eq!((&told["cost_usd"], &told["charges"][0]["number"]), (&"100.00".into(), &Value::Null));
}
