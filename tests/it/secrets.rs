//! Secrets stay put: a process with one at every place where a secret can be, at its most talkative, and nothing that it leaves holds any.

use std::path::Path;

use http::Method;
use reputation_gateway::auth::KeyDigest;
use serde_json::json;

use crate::harness::process::{Process, text};
use crate::harness::receiver::{Receiver, hex};
use crate::harness::redis::RedisServer;
use crate::harness::{ABSENT, Answer, Ask, BUDGET, ENTERPRISE, NULL, PATIENCE, STORED, UNCHECKED, hook, unchecked};

const CALLER_KEY: &str = "rgw_key-of-dialer";
const UPSTREAM_KEY: &str = "KEY_upstream-secret";
const ENTERPRISE_KEY: &str = "KEY_enterprise-secret";
const TOKEN: &str = "admin-token-secret";
const STRANGER: &str = "Bearer-of-a-stranger";
const OTLP_KEY: &str = "otlp-key-secret";
const REDIS_PASSWORD: &str = "redis-password-secret";
const WEBHOOK_SECRET: &str = "c2VjcmV0LW9mLXRoZS13ZWJob29rcy0tLS0t";
const HOOK_TOKEN: &str = "token-in-the-hooks-path";
const SENTINEL_PASSWORD: &str = "sentinel-password-secret";
const NEW_UPSTREAM_KEY: &str = "KEY_after-the-reload";
const NEW_TOKEN: &str = "admin-token-after-the-reload";

const SECRETS: [&str; 12] = [
    CALLER_KEY,
    UPSTREAM_KEY,
    ENTERPRISE_KEY,
    TOKEN,
    STRANGER,
    OTLP_KEY,
    REDIS_PASSWORD,
    WEBHOOK_SECRET,
    HOOK_TOKEN,
    SENTINEL_PASSWORD,
    NEW_UPSTREAM_KEY,
    NEW_TOKEN,
];

/// An enterprise whose account has a key of its own.
const OTHER: &str = "11111111-2222-4333-8444-555555555555";

/// A process, and all that it left.
struct Left {
    process: Process,
    /// Telnyx.
    standin: Process,
    hook: hook::Receiver,
    /// Where secrets are that change.
    secrets: tempfile::TempDir,
    receiver: Receiver,
    directory: tempfile::TempDir,
    redis: Option<RedisServer>,
    /// What it answered.
    answers: Vec<String>,
    /// When it refused a configuration.
    refusals: Vec<serde_json::Value>,
}

impl Left {
    async fn start(format: &str, with_redis: bool) -> Self {
        let (directory, receiver) = (tempfile::tempdir().expect("a temporary directory"), Receiver::start().await);
        let (secrets, hook, nowhere) =
            (tempfile::tempdir().expect("a temporary directory"), hook::Receiver::start(&[]).await, hook::Receiver::nowhere().await);
        let standin = Process::start(&["sandbox", "--listen", "127.0.0.1:0"]);
        write(secrets.path(), UPSTREAM_KEY, TOKEN);
        let redis = with_redis.then(|| {
            let server = directory.path().join("redis");
            std::fs::create_dir(&server).expect("writable");
            RedisServer::start(&server, &["--requirepass", REDIS_PASSWORD, "--appendonly", "yes", "--appendfsync", "always"])
        });
        let url = redis.as_ref().map(|redis| format!("{}?pass={REDIS_PASSWORD}", redis.url())).unwrap_or_default();
        let shared = if with_redis {
            "[shared]\nredis_url = { env = \"REDIS_URL\" }\ntimeout = \"2s\"\n".to_owned()
        } else {
            format!("[shared]\nsentinels = [\"redis://:{SENTINEL_PASSWORD}@127.0.0.1:1\"]\n")
        };
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = {{ file = \"{secrets}/token\" }}\n\
             [upstream]\nbase_url = \"http://{standin}/v2\"\napi_key = {{ file = \"{secrets}/key\" }}\ndefault_enterprise = \"{ENTERPRISE}\"\n\
             [[enterprise]]\nid = \"{OTHER}\"\nname = \"other\"\napi_key = {{ env = \"ENTERPRISE_KEY\" }}\n\
             [[caller]]\nname = \"dialer\"\nkey_sha256 = \"{digest}\"\nallow = [\"fresh\", \"refresh\", \"associate\", \"remediation\"]\n\
             [[route]]\nmethods = [\"GET\"]\npath = \"/messages\"\n[sync]\nenabled = true\n\
             [cache]\nsnapshot = \"{folder}/snapshot\"\n[ledger]\npath = \"{folder}/ledger.sqlite\"\n\
             [telemetry]\nlog = \"trace\"\nformat = \"{format}\"\notlp_endpoint = \"{otlp}\"\n\
             otlp_headers = {{ authorization = {{ env = \"OTLP_KEY\" }} }}\n{BUDGET}{shared}\
             [[webhook]]\nurl = \"http://{hook}/hook?token={HOOK_TOKEN}\"\nsecret = {{ env = \"WEBHOOK_SECRET\" }}\n\
             [[webhook]]\nurl = \"http://{nowhere}/{HOOK_TOKEN}\"\nsecret = \"{WEBHOOK_SECRET}\"\n",
            digest = KeyDigest::of(CALLER_KEY.as_bytes()),
            folder = text(directory.path()),
            otlp = receiver.url(),
            secrets = text(secrets.path()),
            standin = standin.address("sandbox"),
            hook = hook.address,
        );
        let path = directory.path().join("gateway.toml");
        std::fs::write(&path, config).expect("writable");
        let environment =
            [("WEBHOOK_SECRET", WEBHOOK_SECRET), ("ENTERPRISE_KEY", ENTERPRISE_KEY), ("OTLP_KEY", OTLP_KEY), ("REDIS_URL", url.as_str())];
        let process = Process::start_in(&environment, &["serve", "--config", text(&path)]);
        Self { process, standin, hook, secrets, receiver, directory, redis, answers: Vec::new(), refusals: Vec::new() }
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
        let ask = Ask::new(self.standin.address("sandbox"), "/sandbox/faults").method(Method::POST).body(fault.to_string());
        assert_eq!(ask.send().await.status, 201);
    }
}

/// Where the process finds its key and its token.
fn write(secrets: &Path, key: &str, token: &str) {
    std::fs::write(secrets.join("key"), key).expect("writable");
    std::fs::write(secrets.join("token"), token).expect("writable");
}

/// Other secrets are read, and then a file that cannot be: what the configuration is and what is wrong with the last one is asked for after each.
async fn reload(left: &mut Left) {
    write(left.secrets.path(), NEW_UPSTREAM_KEY, NEW_TOKEN);
    left.process.signal("-HUP");
    in_force(left, |answer| answer.status == 200).await;
    left.ask("listen", CALLER_KEY, Method::GET, &format!("/v2/reputation/numbers/{}?fresh=true", unchecked(20)), "").await;
    let file = left.directory.path().join("gateway.toml");
    let good = std::fs::read_to_string(&file).expect("readable");
    let wrong = [
        good.replace("[shared]\n", &format!("[shared]\nsentinel_service = [\"{SENTINEL_PASSWORD}\"]\n")),
        good.replace("otlp_headers = {", &format!("otlp_headers = \"authorization={OTLP_KEY}\" # {{")),
        format!("{good}[[webhook]]\nurl = \"http://10.0.0.1/{HOOK_TOKEN}\"\nsecret = \"{TOKEN}\"\n"),
        format!("{good}[[webhook]]\nurl = \"http://{}/hook?token={HOOK_TOKEN}\"\nsecret = \"{WEBHOOK_SECRET}\"\n", left.hook.address),
        format!("{good}[upstream]\napi_key = \"{UPSTREAM_KEY}\" {NEW_UPSTREAM_KEY}\n"),
    ];
    for (nth, text) in wrong.into_iter().enumerate() {
        std::fs::write(&file, text).expect("writable");
        left.process.signal("-HUP");
        let before = left.refusals.last().cloned();
        in_force(left, |answer| {
            let error = &answer.json()["data"]["last_error"];
            !error.is_null() && before.as_ref() != Some(&error["at"])
        })
        .await;
        assert_eq!(left.refusals.len(), nth + 1);
    }
}

/// Asks for the configuration in force until it is as expected.
async fn in_force(left: &mut Left, is_so: impl Fn(&Answer) -> bool) {
    let asking = async {
        loop {
            let answer = Ask::new(left.process.address("admin"), "/admin/v1/config").key(NEW_TOKEN).send().await;
            if is_so(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, asking).await.expect("it comes to be so");
    left.refusals.extend(Some(answer.json()["data"]["last_error"]["at"].take()).filter(|at| !at.is_null()));
    left.answers.push(answer.text());
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
        left.hook.posts(2).await;
        reload(&mut left).await;
        let scrape = Ask::new(left.process.address("admin"), "/metrics").send().await.text();
        left.process.terminate();
        let Left { process, receiver, directory, redis, answers, hook, .. } = left;
        let ended = process.ended().await;
        drop(redis);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);

        let kept = files(directory.path());
        let exports = receiver.exports();
        assert!(ended.stderr.contains("TRACE") && ended.stderr.contains("cannot come into force"), "the log is there");
        assert!(ended.stderr.contains("a webhook was not delivered"), "one receiver was not there");
        assert!(kept.iter().any(|(name, bytes)| name.ends_with("ledger.sqlite") && holds(bytes, &UNCHECKED[1..])), "the ledger is there");
        assert!(kept.iter().any(|(name, _)| name.ends_with("snapshot")), "a snapshot is there");
        assert!(receiver.spans().len() > 50 && exports.iter().all(|export| export.headers["authorization"] == OTLP_KEY));

        let spans = exports.iter().map(|export| ("a span".to_owned(), export.body.to_vec()));
        let log = [("the log".to_owned(), ended.stderr.into_bytes()), ("a metric".to_owned(), scrape.into_bytes())];
        let shown: Vec<_> = spans.chain(log).collect();
        let posts = hook.so_far().into_iter().map(|post| format!("{:?} {}", post.headers, String::from_utf8_lossy(&post.body)));
        let rest = answers.into_iter().chain([ended.stdout]).chain(posts).map(|answer| ("an answer".to_owned(), answer.into_bytes()));
        for (place, bytes) in rest.chain(kept).chain(shown.iter().cloned()) {
            for secret in SECRETS {
                assert!(!holds(&bytes, secret) && !holds(&bytes, &hex(secret.as_bytes())), "{secret} is in {place}");
            }
        }
        let posted = hook.so_far().into_iter().map(|post| ("a post".to_owned(), post.body.to_vec()));
        let shown: Vec<_> = shown.into_iter().chain(posted).collect();
        for number in [UNCHECKED, STORED, NULL, ABSENT, &unchecked(1)] {
            for (place, bytes) in &shown {
                assert!(!holds(bytes, &number[1..]), "{number} is in {place}");
            }
        }
    }
}
