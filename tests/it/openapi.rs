//! The admin listener answers as its `OpenAPI` document says: every path, method and status of it, and none beside it.

use std::collections::BTreeSet;

use http::Method;
use reputation_gateway::cache::Evidence;
use reputation_gateway::config::Config;
use reputation_gateway::policy::decision::Decision;
use reputation_gateway::policy::pricing::Billable;
use reputation_gateway::secret::Secret;
use reputation_gateway::spend::books::State;
use serde_json::{Value, json};
use strum::VariantArray;

use crate::harness::contract::{CONTRACT, Contract, Seen, TEXT, operations, resolved};
use crate::harness::redis::RedisServer;
use crate::harness::{Answer, Ask, BUDGET, ENTERPRISE, NULL, PATIENCE, STORED, UNCHECKED, World, callers};

const OVERRIDES: &str = "/admin/v1/budgets/all-day/overrides";

/// What is asked of a gateway, and which answers of the document were seen.
#[derive(Default)]
struct Exercise(BTreeSet<Seen>);

fn document() -> Value {
    serde_json::from_str(TEXT).expect("JSON")
}

fn post(world: &World, path: &str, body: &Value) -> Ask {
    Ask::new(world.admin, path).method(Method::POST).header("content-type", "application/json").body(body.to_string())
}

fn raise(expires_at: &str) -> Value {
    json!({ "amount_usd": "0.01", "expires_at": expires_at, "reason": "campaign" })
}

/// A path of the document with its examples in the place of parameters.
fn concrete(path: &str) -> String {
    path.replace("{name}", "all-day").replace("{enterprise}", ENTERPRISE).replace("{number}", STORED)
}

impl Exercise {
    /// Sends a request, whose answer has to be this status, and one of the document's.
    async fn take(&mut self, method: &Method, target: &str, ask: Ask, status: u16) -> Answer {
        let answer = ask.method(method.clone()).send().await;
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
        let seen = CONTRACT.check(method, target, &answer).unwrap_or_else(|why| panic!("{method} {target}: {why}"));
        self.0.extend(seen);
        answer
    }

    async fn get(&mut self, world: &World, target: &str, status: u16) -> Answer {
        self.take(&Method::GET, target, Ask::new(world.admin, target), status).await
    }

    async fn post(&mut self, world: &World, target: &str, body: &Value, status: u16) -> Answer {
        self.take(&Method::POST, target, post(world, target, body), status).await
    }

    /// All that is looked at, of a gateway that has something to show.
    async fn look(&mut self) {
        let world = World::new().await;
        for number in [STORED, NULL, UNCHECKED] {
            self.get(&world, &format!("/admin/v1/cache/{ENTERPRISE}/{number}"), 404).await;
            for query in ["", "?fresh=true", ""] {
                world.ask(&format!("/v2/reputation/numbers/{number}{query}")).send().await;
            }
            self.get(&world, &format!("/admin/v1/cache/{ENTERPRISE}/{}", number.replace('+', "%2B")), 200).await;
        }
        for path in CONTRACT.paths().into_keys().filter(|path| !path.contains('{') && !path.ends_with("/explain")) {
            if CONTRACT.paths()[path].contains("get") {
                self.get(&world, path, 200).await;
                self.take(&Method::HEAD, path, Ask::new(world.admin, path), 200).await;
            }
        }
        for query in ["limit=1", "limit=1&cursor=1", "state=settled&caller=anonymous&since=2026-03-24&until=2026-03-25T00:00:00Z"] {
            self.get(&world, &format!("/admin/v1/ledger?{query}"), 200).await;
        }
        for (method, path) in [
            ("GET", "/v2/reputation/numbers/%2B12025550000%3Ffresh%3Dtrue".to_owned()),
            ("GET", "/v2/reputation/numbers/%2B12025550009".to_owned()),
            ("GET", format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers")),
            ("POST", format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/refresh")),
            ("DELETE", "/v2/nowhere".to_owned()),
            ("GET", "/v2/reputation/numbers/none".to_owned()),
        ] {
            self.get(&world, &format!("/admin/v1/explain?method={method}&path={path}"), 200).await;
        }
        for read in self.get(&world, "/admin/v1/requests?limit=9", 200).await.json()["data"].as_array().expect("a list") {
            let target = format!("/admin/v1/explain?request_id={}", read["request_id"].as_str().expect("text"));
            self.get(&world, &target, 200).await;
        }
        for missing in ["path=/v2/x&caller=nobody", "request_id=none"] {
            self.get(&world, &format!("/admin/v1/explain?{missing}"), 404).await;
        }
        for target in [
            "explain",
            "explain?path=/v2/x&request_id=1",
            "requests?billed=maybe",
            "ledger?limit=0",
            "ledger.csv?limit=1",
            "spending?since=never",
            &format!("cache/{ENTERPRISE}/1"),
        ] {
            self.get(&world, &format!("/admin/v1/{target}"), 400).await;
        }
        let forwarding = World::with(BUDGET, callers::forward).await;
        self.get(&forwarding, "/admin/v1/explain?path=/v2/x", 409).await;
        self.get(&forwarding, &format!("/admin/v1/cache/{ENTERPRISE}/{STORED}"), 409).await;
    }

    /// All that is done, while it works.
    async fn act(&mut self) {
        let world = World::new().await;
        for on in [true, false] {
            self.post(&world, "/admin/v1/kill-switch", &json!({ "on": on, "reason": "a test" }), 200).await;
        }
        world.read(STORED).await;
        for purge in [json!({ "all": true, "dry_run": true }), json!({ "enterprise": ENTERPRISE, "number": STORED, "hard": true })] {
            self.post(&world, "/admin/v1/purge", &purge, 200).await;
        }
        self.post(&world, "/admin/v1/budgets/none/overrides", &raise("2026-04-01T00:00:00Z"), 404).await;
        for _ in 0..100 {
            self.post(&world, OVERRIDES, &raise("2026-04-01T00:00:00Z"), 201).await;
        }
        self.post(&world, OVERRIDES, &raise("2026-04-01T00:00:00Z"), 409).await;
        self.post(&world, OVERRIDES, &raise("2026-03-01T00:00:00Z"), 400).await;
        self.post(&world, "/admin/v1/acknowledge-loss", &json!({ "reason": "none" }), 409).await;
    }

    /// What every path refuses in the same way.
    async fn refuse(&mut self) {
        let open = World::new().await;
        let guarded = World::with(BUDGET, |config: &mut Config| config.admin.token = Some(Secret::Plain("T0KEN".to_owned()))).await;
        for (path, method, operation) in operations(&document()) {
            let (target, method) = (concrete(&path), Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method"));
            let twice = Ask::new(open.admin, &target).header("host", "another.example");
            self.take(&method, &target, twice, 400).await;
            if path.starts_with("/admin/") {
                self.take(&method, &target, Ask::new(guarded.admin, &target), 401).await;
                self.take(&method, &target, Ask::new(open.admin, &target).host("gateway.example"), 421).await;
            }
            if !operation["requestBody"].is_null() {
                self.take(&method, &target, Ask::new(open.admin, &target).body("{}"), 415).await;
            }
        }
        let with_token = Ask::new(guarded.admin, "/admin/v1/budgets").key("T0KEN");
        self.take(&Method::GET, "/admin/v1/budgets", with_token, 200).await;
    }

    /// What is answered when the ledger fails, and at the end.
    async fn fail(&mut self) {
        let mut world = World::gated(BUDGET, |_| {}).await;
        let ledger = world.ledger();
        let away = ledger.with_extension("away");
        std::fs::rename(&ledger, &away).expect("it is there");
        for target in ["ledger", "ledger.csv", "spending", "explain?request_id=none"] {
            self.get(&world, &format!("/admin/v1/{target}"), 503).await;
        }
        self.post(&world, OVERRIDES, &raise("2026-04-01T00:00:00Z"), 503).await;
        self.post(&world, "/admin/v1/kill-switch", &json!({ "on": true, "reason": "a test" }), 503).await;
        assert!(self.get(&world, "/readyz", 200).await.text().starts_with("ready, degraded: the ledger cannot be written"));
        std::fs::rename(&away, &ledger).expect("it was moved");
        world.gate.close();
        let waiting = tokio::spawn(world.ask(&format!("/v2/reputation/numbers/{STORED}")).send());
        world.reached(1).await;
        world.begin_stop();
        while Ask::new(world.admin, "/readyz").send().await.status == 200 {}
        self.get(&world, "/readyz", 503).await;
        world.gate.open();
        waiting.await.expect("nothing panics");
        world.stop().await;
    }

    /// What only gateways that share a ledger answer.
    async fn lose(&mut self) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut redis = RedisServer::start(folder.path(), &["--appendonly", "yes", "--maxmemory-policy", "noeviction"]);
        let shared = format!("{BUDGET}[shared]\nredis_url = \"{}\"\ntimeout = \"5s\"\n", redis.url());
        let world = World::with(&shared, |_| {}).await;
        let reason = json!({ "reason": "a new machine" });
        self.get(&world, "/admin/v1/overview", 200).await;
        assert!(self.post(&world, "/admin/v1/purge", &json!({ "all": true }), 200).await.json()["data"]["others_told"].is_boolean());
        redis.tell::<()>(&["FLUSHALL"]);
        let acknowledged = async {
            loop {
                let answer = post(&world, "/admin/v1/acknowledge-loss", &reason).send().await;
                let seen = CONTRACT.check(&Method::POST, "/admin/v1/acknowledge-loss", &answer).expect("as the document says");
                self.0.extend(seen);
                if answer.status == 200 {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, acknowledged).await.expect("the loss is seen");
        redis.kill();
        self.post(&world, "/admin/v1/acknowledge-loss", &reason, 503).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_that_the_document_promises_is_given() {
    let mut exercise = Exercise::default();
    exercise.look().await;
    exercise.act().await;
    exercise.refuse().await;
    exercise.fail().await;
    exercise.lose().await;
    let never: Vec<_> = CONTRACT.promised().difference(&exercise.0).cloned().collect();
    assert!(never.is_empty(), "never answered: {never:#?}");
}

#[tokio::test]
async fn the_document_is_served_and_names_all_there_is() {
    let world = World::new().await;
    assert_eq!(world.admin("/admin/v1/openapi.json").await.text(), TEXT);
    let nowhere = world.admin("/admin/v1/nowhere").await;
    let detail = nowhere.json()["errors"][0]["detail"].as_str().expect("text").to_owned();
    let (outside, below) = detail.split_once(", and under /admin/v1: ").expect("what there is");
    let outside = outside.trim_start_matches("here are ").split(", ").map(str::to_owned);
    let named: BTreeSet<_> = outside.chain(below.split(", ").map(|path| format!("/admin/v1/{path}"))).filter(|path| path != "/").collect();
    assert_eq!(named, CONTRACT.paths().into_keys().map(str::to_owned).collect());
}

#[tokio::test]
async fn a_method_that_the_document_does_not_have_is_refused_with_those_that_it_has() {
    let world = World::new().await;
    for (path, methods) in CONTRACT.paths() {
        let (target, taken) = (concrete(path), if methods.contains("get") { "GET, HEAD" } else { "" });
        let allowed = [taken, if methods.contains("post") { "POST" } else { "" }].into_iter().filter(|word| !word.is_empty());
        let allowed = allowed.collect::<Vec<_>>().join(", ");
        for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            if allowed.split(", ").any(|word| word == method.as_str()) {
                continue;
            }
            let answer = Ask::new(world.admin, &target).method(method.clone()).send().await;
            assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, allowed.as_str()), "{method} {target}");
            assert!(
                method == Method::HEAD || CONTRACT.check(&method, &target, &answer) == Ok(None),
                "{method} {target}: {}",
                answer.text()
            );
        }
    }
}

#[tokio::test]
async fn what_the_document_does_not_have_is_found() {
    let world = World::new().await;
    let (budgets, metrics) = (world.admin("/admin/v1/budgets").await, world.admin("/metrics").await);
    let without = |pointer: &str, member: &str| {
        let mut changed = document();
        changed.pointer_mut(pointer).and_then(Value::as_object_mut).and_then(|object| object.remove(member)).expect("it is there");
        Contract::of(&changed).check(&Method::GET, "/admin/v1/budgets?x=1", &budgets)
    };
    let is_said =
        |found: Result<Option<Seen>, String>, why: &str| assert!(found.as_ref().is_err_and(|said| said.contains(why)), "{found:?}");
    is_said(without("/paths", "/admin/v1/budgets"), "has no path /admin/v1/budgets");
    is_said(without("/paths/~1admin~1v1~1budgets/get/responses", "200"), "the document has no");
    is_said(without("/components/schemas/Budget/properties", "scope"), "'scope' was unexpected");
    is_said(without("/paths/~1admin~1v1~1budgets/get/responses/200/content", "application/json"), "has no \"application/json\"");
    is_said(CONTRACT.check(&Method::GET, "/admin/v1/decisions", &budgets), "/data");
    is_said(CONTRACT.check(&Method::GET, "/admin/v1/kill-switch", &metrics), "has no \"text/plain");
    is_said(CONTRACT.check(&Method::PUT, "/admin/v1/budgets", &budgets), "required");
    let mut more = document();
    more["components"]["schemas"]["Budgets"]["required"] = json!(["data", "colour"]);
    is_said(Contract::of(&more).check(&Method::GET, "/admin/v1/budgets", &budgets), "\"colour\" is a required property");
}

#[test]
fn every_example_of_the_document_fits_its_schema() {
    let document = document();
    let mut examples = 0;
    let mut fits = |place: &str, holder: &Value| {
        if let Some(example) = holder.get("example") {
            examples += 1;
            CONTRACT.fits(&holder["schema"], example).unwrap_or_else(|why| panic!("{place}: {why}"));
        }
    };
    for (path, method, operation) in operations(&document) {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in &parameters {
            fits(&format!("{method} {path}: {}", parameter["name"]), parameter);
        }
        fits(&format!("{method} {path}: the body"), &operation["requestBody"]["content"]["application/json"]);
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let content = resolved(&document, response)["content"].as_object().expect("a body");
            for media in content.values() {
                fits(&format!("{method} {path}: {status}"), media);
            }
        }
    }
    assert!(examples > 50, "only {examples} examples");
}

/// A closed schema tells of a field more; one that is open would not.
#[test]
fn every_object_is_closed_and_says_what_is_always_there() {
    fn look(place: &str, value: &Value) {
        if value["type"] == "object" && !value["properties"].is_null() && !place.contains("openapi.json") {
            assert!(value["additionalProperties"] == false, "{place} is open");
            assert!(value["required"].is_array() || place.ends_with("/NewPurge"), "{place} says nothing of what is required");
        }
        match value {
            Value::Object(members) => members.iter().for_each(|(name, member)| look(&format!("{place}/{name}"), member)),
            Value::Array(items) => items.iter().for_each(|item| look(place, item)),
            _ => {}
        }
    }
    look("", &document());
}

#[test]
fn the_words_of_the_document_are_the_programs() {
    let document = document();
    let words = |pointer: &str| document.pointer(pointer).cloned().unwrap_or_else(|| panic!("no {pointer}"));
    let all = |words: Vec<&'static str>| json!(words);
    let schemas = "/components/schemas";
    assert_eq!(words(&format!("{schemas}/Decision/enum")), all(Decision::ALL.iter().map(|word| word.as_str()).collect()));
    assert_eq!(words(&format!("{schemas}/Billable/enum")), all(Billable::ALL.iter().map(|word| word.as_str()).collect()));
    assert_eq!(words(&format!("{schemas}/ChargeState/enum")), all(State::VARIANTS.iter().map(|word| word.as_str()).collect()));
    assert_eq!(words(&format!("{schemas}/Copy/properties/evidence/enum")), all(Evidence::ALL.iter().map(|word| word.as_str()).collect()));
}
