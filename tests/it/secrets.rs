//! Secrets stay put: a process with one at every place where a secret can be, at its most talkative, and nothing that it leaves holds any.

use std::path::Path;

use http::Method;
use reputation_gateway::auth::KeyDigest;
use serde_json::json;

use crate::harness::process::{Process, text};
use crate::harness::receiver::{Receiver, hex};
use crate::harness::redis::RedisServer;
use crate::harness::{ABSENT, Ask, BUDGET, ENTERPRISE, NULL, STORED, UNCHECKED, unchecked};

const CALLER_KEY: &str = "rgw_key-of-dialer";
const UPSTREAM_KEY: &str = "KEY_upstream-secret";
const ENTERPRISE_KEY: &str = "KEY_enterprise-secret";
const TOKEN: &str = "admin-token-secret";
const STRANGER: &str = "Bearer-of-a-stranger";
const OTLP_KEY: &str = "otlp-key-secret";
const REDIS_PASSWORD: &str = "redis-password-secret";

const SECRETS: [&str; 7] = [CALLER_KEY, UPSTREAM_KEY, ENTERPRISE_KEY, TOKEN, STRANGER, OTLP_KEY, REDIS_PASSWORD];

/// An enterprise whose account has a key of its own.
const OTHER: &str = "11111111-2222-4333-8444-555555555555";

/// A process, and all that it left.
struct Left {
    process: Process,
    receiver: Receiver,
    directory: tempfile::TempDir,
    redis: Option<RedisServer>,
    /// What it answered.
    answers: Vec<String>,
}

impl Left {
    async fn start(format: &str, with_redis: bool) -> Self {
        let (directory, receiver) = (tempfile::tempdir().expect("a temporary directory"), Receiver::start().await);
        let redis = with_redis.then(|| {
            let server = directory.path().join("redis");
            std::fs::create_dir(&server).expect("writable");
            RedisServer::start(&server, &["--requirepass", REDIS_PASSWORD, "--appendonly", "yes", "--appendfsync", "always"])
        });
        let url = redis.as_ref().map(|redis| format!("{}?pass={REDIS_PASSWORD}", redis.url())).unwrap_or_default();
        let shared = if with_redis { "[shared]\nredis_url = { env = \"REDIS_URL\" }\ntimeout = \"2s\"\n" } else { "" };
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = {{ env = \"TOKEN\" }}\n\
             [upstream]\napi_key = {{ env = \"UPSTREAM_KEY\" }}\ndefault_enterprise = \"{ENTERPRISE}\"\n\
             [[enterprise]]\nid = \"{OTHER}\"\nname = \"other\"\napi_key = {{ env = \"ENTERPRISE_KEY\" }}\n\
             [[caller]]\nname = \"dialer\"\nkey_sha256 = \"{digest}\"\nallow = [\"fresh\", \"refresh\", \"associate\", \"remediation\"]\n\
             [[route]]\nmethods = [\"GET\"]\npath = \"/messages\"\n[sync]\nenabled = true\n\
             [cache]\nsnapshot = \"{folder}/snapshot\"\n[ledger]\npath = \"{folder}/ledger.sqlite\"\n\
             [telemetry]\nlog = \"trace\"\nformat = \"{format}\"\notlp_endpoint = \"{otlp}\"\n\
             otlp_headers = {{ authorization = {{ env = \"OTLP_KEY\" }} }}\n{BUDGET}{shared}",
            digest = KeyDigest::of(CALLER_KEY.as_bytes()),
            folder = text(directory.path()),
            otlp = receiver.url(),
        );
        let path = directory.path().join("gateway.toml");
        std::fs::write(&path, config).expect("writable");
        let environment = [
            ("TOKEN", TOKEN),
            ("UPSTREAM_KEY", UPSTREAM_KEY),
            ("ENTERPRISE_KEY", ENTERPRISE_KEY),
            ("OTLP_KEY", OTLP_KEY),
            ("REDIS_URL", url.as_str()),
        ];
        let process = Process::start_in(&environment, &["serve", "--sandbox=127.0.0.1:0", "--config", text(&path)]);
        Self { process, receiver, directory, redis, answers: Vec::new() }
    }

    async fn told(&mut self, ask: Ask) {
        let answer = ask.header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").send().await;
        self.answers.extend([format!("{:?}", answer.headers), answer.text()]);
    }

    /// What this listener answers, in JSON or not.
    async fn ask(&mut self, listener: &str, key: &str, method: Method, path: &str, body: &str) {
        let ask = Ask::new(self.process.address(listener), path).key(key).method(method).header("content-type", "application/json");
        self.told(ask.body(body.to_owned())).await;
    }

    /// Something goes wrong with the next requests.
    async fn fault(&self, fault: &serde_json::Value) {
        let ask = Ask::new(self.process.address("sandbox"), "/sandbox/faults").method(Method::POST).body(fault.to_string());
        assert_eq!(ask.send().await.status, 201);
    }
}

/// Callers of all kinds ask for all kinds of things, and get hits, purchases, refusals and errors.
async fn ask_everything(left: &mut Left) {
    let read = |number: &str| format!("/v2/reputation/numbers/{number}");
    let numbers = json!({"phone_numbers": [UNCHECKED, unchecked(1)]}).to_string();
    for key in [CALLER_KEY, STRANGER, UPSTREAM_KEY, "invalid"] {
        let fresh = format!("{}?fresh=true", read(UNCHECKED));
        let others = format!("/v2/enterprises/{OTHER}/reputation/numbers/{UNCHECKED}");
        let paths = [fresh, read(UNCHECKED), read(STORED), read(NULL), read(ABSENT), read("+1"), others, "/v2/messages".to_owned()];
        for path in paths.iter().map(String::as_str).chain(["/v2/reputation/numbers", "/%", "/v2/enterprises"]) {
            left.ask("listen", key, Method::GET, path, "").await;
        }
        for path in ["/numbers/refresh", "/numbers", "/remediation"] {
            let path = format!("/v2/enterprises/{ENTERPRISE}/reputation{path}");
            left.ask("listen", key, Method::POST, &path, &numbers).await;
            left.ask("listen", key, Method::POST, &path, "{").await;
        }
    }
    for fault in ["reset_after_billing", "status", "cut", "garbage"] {
        left.fault(&json!({"fault": fault, "times": 1, "query_contains": "fresh"})).await;
        left.ask("listen", CALLER_KEY, Method::GET, &format!("{}?fresh=true", read(&unchecked(fault.len()))), "").await;
    }
}

/// Operators, and who is none, look at everything and steer.
async fn ask_admin(left: &mut Left) {
    for token in [TOKEN, STRANGER] {
        let gets =
            ["/metrics", "/livez", "/readyz", "/", "/admin/v1/budgets", "/admin/v1/overview", "/admin/v1/spending", "/admin/v1/decisions"];
        let more =
            ["/admin/v1/ledger", "/admin/v1/ledger.csv", "/admin/v1/config", "/admin/v1/requests", "/admin/v1/explain?request_id=one"];
        let explain = format!("/admin/v1/explain?path=/v2/reputation/numbers/{STORED}%3Ffresh=true&caller=dialer");
        let copy = format!("/admin/v1/cache/{ENTERPRISE}/{STORED}");
        for path in gets.into_iter().chain(more).chain([explain.as_str(), &copy]) {
            left.ask("admin", token, Method::GET, path, "").await;
        }
        left.ask("admin", token, Method::POST, "/admin/v1/kill-switch", r#"{"on":true,"reason":"why"}"#).await;
        left.ask("admin", token, Method::POST, "/admin/v1/kill-switch", r#"{"on":false,"reason":"why"}"#).await;
        left.ask("admin", token, Method::POST, "/admin/v1/purge", r#"{"all":true,"dry_run":true}"#).await;
    }
}

/// Every file below a folder but the configuration, with its name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let mut found = Vec::new();
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() && !path.ends_with("gateway.toml") {
            found.push((path.display().to_string(), std::fs::read(&path).expect("readable")));
        }
    }
    found
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test]
async fn no_secret_is_in_anything_that_the_process_wrote_and_no_whole_number_in_what_operators_keep() {
    for (format, with_redis) in [("json", false), ("text", true)] {
        let mut left = Left::start(format, with_redis).await;
        ask_everything(&mut left).await;
        ask_admin(&mut left).await;
        left.process.signal("-HUP");
        left.ask("listen", CALLER_KEY, Method::GET, &format!("/v2/reputation/numbers/{STORED}"), "").await;
        let scrape = Ask::new(left.process.address("admin"), "/metrics").send().await.text();
        left.process.terminate();
        let Left { process, receiver, directory, redis, answers } = left;
        let ended = process.ended().await;
        drop(redis);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);

        let kept = files(directory.path());
        let exports = receiver.exports();
        assert!(ended.stderr.contains("TRACE") && ended.stderr.contains("SIGHUP"), "the log is there");
        assert!(kept.iter().any(|(name, bytes)| name.ends_with("ledger.sqlite") && holds(bytes, &UNCHECKED[1..])), "the ledger is there");
        assert!(kept.iter().any(|(name, _)| name.ends_with("snapshot")), "a snapshot is there");
        assert!(receiver.spans().len() > 50 && exports.iter().all(|export| export.headers["authorization"] == OTLP_KEY));

        let spans = exports.iter().map(|export| ("a span".to_owned(), export.body.to_vec()));
        let log = [("the log".to_owned(), ended.stderr.into_bytes()), ("a metric".to_owned(), scrape.into_bytes())];
        let shown: Vec<_> = spans.chain(log).collect();
        let rest = answers.into_iter().chain([ended.stdout]).map(|answer| ("an answer".to_owned(), answer.into_bytes()));
        for (place, bytes) in rest.chain(kept).chain(shown.iter().cloned()) {
            for secret in SECRETS {
                assert!(!holds(&bytes, secret) && !holds(&bytes, &hex(secret.as_bytes())), "{secret} is in {place}");
            }
        }
        for number in [UNCHECKED, STORED, NULL, ABSENT, &unchecked(1)] {
            for (place, bytes) in &shown {
                assert!(!holds(bytes, &number[1..]), "{number} is in {place}");
            }
        }
    }
}
