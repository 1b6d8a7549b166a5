//! What operators see: a line for each request, and every series from the start.

use reputation_gateway::auth::KeyDigest;
use reputation_gateway::config::Config;
use reputation_gateway::secret::Secret;
use serde_json::Value;

use crate::harness::process::{Process, text};
use crate::harness::{Answer, Ask, BUDGET, STORED, UNCHECKED, World, exchange};

const CALLER_KEY: &str = "rgw_key-of-dialer";
const UPSTREAM_KEY: &str = "KEY_upstream-secret";
const TOKEN: &str = "admin-token-secret";
const STRANGER: &str = "Bearer-of-a-stranger";

/// Every metric, by its kind: `docs` and dashboards rely on these names.
const METRICS: [(&str, &str); 32] = [
    ("requests_total", "counter"),
    ("request_duration_seconds", "histogram"),
    ("overhead_seconds", "histogram"),
    ("upstream_requests_total", "counter"),
    ("upstream_duration_seconds", "histogram"),
    ("spend_usd_total", "counter"),
    ("avoided_usd_total", "counter"),
    ("budget_limit_usd", "gauge"),
    ("budget_spent_usd", "gauge"),
    ("budget_held_usd", "gauge"),
    ("budget_resets_timestamp_seconds", "gauge"),
    ("budget_decisions_total", "counter"),
    ("holds_open", "gauge"),
    ("hold_oldest_age_seconds", "gauge"),
    ("holds_total", "counter"),
    ("cache_entries", "gauge"),
    ("cache_bytes", "gauge"),
    ("cache_evictions_total", "counter"),
    ("rate_limit_denied_total", "counter"),
    ("ledger_commit_seconds", "histogram"),
    ("reconciliation_timestamp_seconds", "gauge"),
    ("reconciliation_drift_usd", "gauge"),
    ("reconciliation_drifts", "gauge"),
    ("spans_total", "counter"),
    ("upstream_breaker_state", "gauge"),
    ("upstream_paused_seconds", "gauge"),
    ("kill_switch", "gauge"),
    ("tls_certificate_expiry_timestamp_seconds", "gauge"),
    ("config_reload_success", "gauge"),
    ("config_last_reload_success_timestamp_seconds", "gauge"),
    ("config_restart_needed", "gauge"),
    ("build_info", "gauge"),
];

/// A process with a key at every place where a key can be.
fn keyed(directory: &std::path::Path) -> Process {
    std::fs::write(directory.join("upstream-key"), UPSTREAM_KEY).expect("writable");
    std::fs::write(directory.join("token"), TOKEN).expect("writable");
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = {{ file = \"{0}/token\" }}\n\
         [upstream]\napi_key = {{ file = \"{0}/upstream-key\" }}\n[ledger]\npath = \"{0}/ledger.sqlite\"\n\
         [[caller]]\nname = \"dialer\"\nkey_sha256 = \"{1}\"\nallow = [\"fresh\"]\n\
         [telemetry]\nlog = \"trace\"\n{BUDGET}",
        text(directory),
        KeyDigest::of(CALLER_KEY.as_bytes()),
    );
    let path = directory.join("gateway.toml");
    std::fs::write(&path, config).expect("writable");
    Process::start(&["serve", "--sandbox=127.0.0.1:0", "--config", text(&path)])
}

async fn asked(process: &Process, key: &str, path: &str) -> Answer {
    Ask::new(process.address("listen"), path).key(key).header("x-request-id", "the-request").send().await
}

/// The access lines of a log, as JSON.
fn access_lines(log: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    lines.filter(|line| line["target"] == "access").collect()
}

#[tokio::test]
async fn each_request_leaves_one_line_that_says_what_was_decided() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let process = keyed(directory.path());
    let number = format!("/v2/reputation/numbers/{UNCHECKED}");
    asked(&process, CALLER_KEY, &format!("{number}?fresh=true")).await;
    asked(&process, CALLER_KEY, &number).await;
    asked(&process, STRANGER, &number).await;
    asked(&process, CALLER_KEY, "/v2/messages").await;
    Ask::new(process.address("listen"), &number).key(CALLER_KEY).header("x-long", &"a".repeat(20_000)).send().await;
    process.terminate();
    let ended = process.ended().await;
    let lines = access_lines(&ended.stderr);
    let fields = |line: &Value| {
        ["status", "decision", "caller", "operation", "billed", "cost_usd"].map(|name| line[name].to_string().replace('"', "")).join(" ")
    };
    let found: Vec<_> = lines.iter().map(fields).collect();
    assert_eq!(
        found,
        [
            "200 billed dialer retrieve yes 0.10",
            "200 hit dialer retrieve no 0.00",
            "401 unauthenticated anonymous unknown no 0.00",
            "403 not_permitted dialer unknown no 0.00",
            "431 bad_request anonymous unknown no 0.00",
        ]
    );
    assert_eq!((&lines[0]["request_id"], &lines[0]["number"]), (&"the-request".into(), &"+12*******00".into()));
    assert!(lines[0]["duration_us"].is_u64() && lines[0]["upstream_us"].is_u64(), "{}", lines[0]);
    assert!(!ended.stderr.contains(&UNCHECKED[1..]), "a whole number is in the log");
}

#[tokio::test]
async fn every_series_is_there_before_the_first_request() {
    let world = World::new().await;
    let scrape = world.admin("/metrics").await;
    assert_eq!(scrape.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let scrape = scrape.text();
    for (name, kind) in METRICS {
        let kind = format!("# TYPE reputation_gateway_{name} {kind}\n");
        assert!(scrape.contains(&kind), "{kind}");
        let series = scrape.lines().filter(|line| line.starts_with(&format!("reputation_gateway_{name}"))).count();
        assert!(series > 0, "no series of {name}");
    }
    let names = |text: &str| -> Vec<String> {
        let series = text.lines().filter(|line| !line.starts_with('#'));
        series.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    };
    world.fresh(UNCHECKED).await;
    world.read(STORED).await;
    world.ask("/v2/messages").send().await;
    assert_eq!(names(&world.admin("/metrics").await.text()), names(&scrape), "requests add no series");
    assert!(!scrape.contains("+1202") && !scrape.contains("+1603"), "a number is a label");
}

#[tokio::test]
async fn health_is_told_without_a_token_and_budgets_are_not() {
    let world = World::with(BUDGET, |config: &mut Config| config.admin.token = Some(Secret::Plain(TOKEN.to_owned()))).await;
    for (path, body) in [("/livez", "ok\n"), ("/readyz", "ready\n")] {
        let answer = world.admin(path).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, body));
    }
    assert_eq!(world.admin("/metrics").await.status, 200);
    let budgets = || Ask::new(world.admin, "/admin/v1/budgets");
    for ask in [budgets(), budgets().key("wrong"), budgets().header("authorization", TOKEN), budgets().key(&format!("{TOKEN}x"))] {
        let answer = ask.send().await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "unauthenticated"));
    }
    assert_eq!(budgets().key(TOKEN).send().await.json()["data"][0]["name"], "all-day");
    assert_eq!(budgets().key(TOKEN).method(http::Method::POST).send().await.status, 405);
    assert_eq!(world.admin("/nowhere").await.status, 404);
}

#[tokio::test]
async fn no_page_in_a_browser_steers_a_gateway_without_a_token() {
    let world = World::new().await;
    let stop = |host: &str, media_type: &str| {
        let head =
            format!("POST /admin/v1/kill-switch HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\ncontent-type: {media_type}\r\n");
        format!("{head}content-length: 26\r\nconnection: close\r\n\r\n{{\"on\":true,\"reason\":\"why\"}}")
    };
    for (host, media_type, status) in [
        ("rebound.example:8081", "application/json", 421),
        ("127.0.0.1.rebound.example", "application/json", 421),
        ("127.0.0.1:8081", "text/plain", 415),
        ("127.0.0.1:8081", "application/jsonp", 415),
        ("127.0.0.1:8081", "application/json; charset=utf-8", 200),
        ("[::1]:8081", "application/json", 200),
        ("localhost:8081", "application/json", 200),
    ] {
        let answer = exchange(world.admin, stop(host, media_type).as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host} {media_type}: {answer}");
    }
}

#[tokio::test]
async fn health_checks_and_scrapes_cost_nothing_and_send_nothing() {
    let world = World::new().await;
    for path in ["/livez", "/readyz", "/metrics", "/admin/v1/budgets", "/"] {
        world.admin(path).await;
    }
    assert_eq!((world.sent(), world.charged().as_str()), (0, "0.00"));
}
