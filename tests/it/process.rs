//! The command: what it prints, how it ends, and what a crash leaves behind.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use reputation_gateway::auth::KeyDigest;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::process::{Process, run, said, text};
use crate::harness::{Answer, Ask, Gate, PATIENCE, unchecked};

const DEMO: [&str; 6] = ["serve", "--sandbox=127.0.0.1:0", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

/// A stand-in in a process of its own, so that its bill outlives a gateway's crash.
struct Place {
    sandbox: Process,
    gate: Gate,
    directory: TempDir,
}

impl Place {
    /// A configuration with this budget, and all that it needs.
    async fn new(limit: &str) -> Self {
        let sandbox = Process::start(&["sandbox", "--listen", "127.0.0.1:0"]);
        let gate = Gate::before(sandbox.address("sandbox")).await;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"open\"\n\
             [upstream]\nbase_url = \"http://{}/v2\"\napi_key = \"upstream-key\"\n[ledger]\npath = \"{}\"\n\
             [[budget]]\nname = \"all\"\nlimit = \"{limit}\"\nwindow = \"month\"\n",
            gate.address,
            text(&directory.path().join("ledger.sqlite")),
        );
        std::fs::write(directory.path().join("gateway.toml"), config).expect("writable");
        Self { sandbox, gate, directory }
    }

    fn config(&self) -> std::path::PathBuf {
        self.directory.path().join("gateway.toml")
    }

    fn serve(&self) -> Process {
        Process::start(&["serve", "--config", text(&self.config())])
    }

    /// How many dollars were charged.
    async fn charged(&self) -> Value {
        Ask::new(self.sandbox.address("sandbox"), "/sandbox/charges").send().await.json()["total_usd"].clone()
    }

    /// Waits until so many requests have reached the stand-in.
    async fn reached(&self, requests: usize) {
        let seen = || Ask::new(self.sandbox.address("sandbox"), "/sandbox/requests").send();
        while seen().await.json().as_array().map_or(0, Vec::len) < requests {
            tokio::task::yield_now().await;
        }
    }
}

async fn fresh(gateway: &Process, number: &str) -> Answer {
    Ask::new(gateway.address("listen"), &format!("/v2/reputation/numbers/{number}?fresh=true")).send().await
}

async fn budget(gateway: &Process) -> Value {
    Ask::new(gateway.address("admin"), "/admin/v1/budgets").send().await.json()["data"][0].clone()
}

fn wrong(directory: &Path, config: &str) -> (Option<i32>, String) {
    let path = directory.join("wrong.toml");
    std::fs::write(&path, config).expect("writable");
    said(&["check-config", "--config", text(&path)])
}

#[tokio::test]
async fn the_demo_says_in_one_line_that_it_is_ready_serves_and_ends_with_0() {
    let gateway = Process::start(&DEMO);
    assert_eq!(gateway.ready.split_whitespace().count(), 4, "{:?}", gateway.ready);
    assert_eq!(fresh(&gateway, &unchecked(1)).await.outcome(), (200, "billed"));
    let charges = Ask::new(gateway.address("sandbox"), "/sandbox/charges").send().await.json();
    assert_eq!((&charges["total_usd"], &budget(&gateway).await["spent_usd"]), (&"0.10".into(), &"0.10".into()));
    let admin = gateway.address("admin").to_string();
    assert_eq!(said(&["health", "--admin-listen", &admin]), (Some(0), String::new()));
    assert_eq!(said(&["health", "--json", "--admin-listen", &admin]), (Some(0), "{\"detail\":\"ready\",\"ready\":true}\n".to_owned()));
    gateway.terminate();
    let ended = gateway.ended().await;
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
    let (code, why) = said(&["health", "--admin-listen", &admin]);
    assert!(code == Some(1) && why.contains("not ready"), "{code:?} {why}");
}

#[tokio::test]
async fn a_signal_right_after_the_ready_line_is_a_clean_end() {
    for command in [&DEMO[..], &["sandbox", "--listen", "127.0.0.1:0"]] {
        let process = Process::start(command);
        process.terminate();
        assert_eq!(process.ended().await.status.code(), Some(0), "{command:?}");
    }
}

/// systemd's protocol: one datagram a message, to the socket that the environment names.
#[tokio::test]
async fn the_supervisor_is_told_when_it_is_ready_and_when_it_stops() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("notify");
    let supervisor = UnixDatagram::bind(&path).expect("a socket");
    supervisor.set_read_timeout(Some(PATIENCE)).expect("a time");
    let told = || {
        let mut message = [0; 64];
        let length = supervisor.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let gateway = Process::start_in(&[("NOTIFY_SOCKET", text(&path))], &DEMO);
    assert_eq!(told(), "READY=1\n");
    gateway.terminate();
    assert_eq!(told(), "STOPPING=1\n");
    assert_eq!(gateway.ended().await.status.code(), Some(0));
    let gateway = Process::start_in(&[("NOTIFY_SOCKET", text(&directory.path().join("nobody")))], &DEMO);
    gateway.terminate();
    let ended = gateway.ended().await;
    assert_eq!(ended.status.code(), Some(0), "nobody listens there, and it serves all the same");
    assert!(ended.stderr.contains("NOTIFY_SOCKET"), "{}", ended.stderr);
}

#[tokio::test]
async fn health_does_not_wait_for_a_listener_that_says_nothing() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("an address").to_string();
    let unready: Value = serde_json::from_slice(&run(&["health", "--json", "--admin-listen", &address]).stdout).expect("JSON");
    assert_eq!(unready["ready"], false, "{unready}");
    let (code, why) = said(&["health", "--admin-listen", &address]);
    assert!(code == Some(1) && why.contains("not ready"), "{code:?} {why}");
}

#[tokio::test]
async fn a_crash_loses_no_usage_and_pays_for_nothing_twice() {
    let place = Place::new("0.30").await;
    let gateway = place.serve();
    for n in 0..2 {
        assert_eq!(fresh(&gateway, &unchecked(n)).await.outcome(), (200, "billed"));
    }
    gateway.crash().await;
    let gateway = place.serve();
    assert_eq!(budget(&gateway).await["spent_usd"], "0.20");
    for n in 0..2 {
        assert_eq!(fresh(&gateway, &unchecked(n)).await.outcome(), (200, "cooldown"));
    }
    assert_eq!(fresh(&gateway, &unchecked(2)).await.outcome(), (200, "billed"));
    assert_eq!(fresh(&gateway, &unchecked(3)).await.outcome(), (402, "budget_exhausted"));
    assert_eq!(place.charged().await, "0.30");
}

#[tokio::test]
async fn a_call_under_way_at_a_crash_counts_and_is_not_sent_again() {
    let place = Place::new("1.00").await;
    let gateway = place.serve();
    // The enterprise is learnt first, so that the one request behind the closed gate is the billed one.
    assert_eq!(fresh(&gateway, &unchecked(0)).await.outcome(), (200, "billed"));
    place.gate.close();
    let address = gateway.address("listen");
    let path = format!("/v2/reputation/numbers/{}?fresh=true", unchecked(1));
    let lost = tokio::spawn(async move { Ask::new(address, &path).try_send().await });
    place.reached(3).await;
    assert_eq!(budget(&gateway).await["held_usd"], "0.10");
    gateway.crash().await;
    assert!(lost.await.expect("nothing panics").is_none(), "nobody answered");
    place.gate.open();
    let gateway = place.serve();
    let assumed = Ask::new(gateway.address("admin"), "/metrics").send().await.text();
    assert!(assumed.contains("reputation_gateway_holds_total{end=\"assumed\"} 1"), "{assumed}");
    let after = budget(&gateway).await;
    assert_eq!((&after["spent_usd"], &after["held_usd"]), (&"0.20".into(), &"0.00".into()));
    let recovered = fresh(&gateway, &unchecked(1)).await;
    assert!(["recovered", "cooldown"].contains(&recovered.header("x-gateway-decision")), "{recovered:?}");
    assert_eq!((recovered.status.as_u16(), recovered.header("x-gateway-cost-usd")), (200, "0.00"));
    assert_eq!(place.charged().await, "0.20");
}

#[tokio::test]
async fn a_call_that_a_crash_left_unclear_is_not_sent_again_while_it_is() {
    let place = Place::new("1.00").await;
    let gateway = place.serve();
    assert_eq!(fresh(&gateway, &unchecked(0)).await.outcome(), (200, "billed"));
    let silent = r#"{"fault": "hang", "query_contains": "fresh", "delay_ms": 3600000}"#;
    let sandbox = place.sandbox.address("sandbox");
    Ask::new(sandbox, "/sandbox/faults").method(http::Method::POST).body(silent).send().await;
    let address = gateway.address("listen");
    let path = format!("/v2/reputation/numbers/{}?fresh=true", unchecked(1));
    let lost = tokio::spawn(async move { Ask::new(address, &path).try_send().await });
    place.reached(3).await;
    gateway.crash().await;
    assert!(lost.await.expect("nothing panics").is_none(), "nobody answered");
    let gateway = place.serve();
    for _ in 0..2 {
        let refused = fresh(&gateway, &unchecked(1)).await;
        assert_eq!((refused.outcome(), refused.header("x-should-retry")), ((504, "outcome_unknown"), "false"));
    }
    assert_eq!((place.charged().await, &budget(&gateway).await["spent_usd"]), ("0.10".into(), &"0.20".into()));
}

#[tokio::test]
async fn a_ledger_serves_one_process_at_a_time() {
    let place = Place::new("1.00").await;
    let gateway = place.serve();
    let (code, why) = said(&["serve", "--config", text(&place.config())]);
    assert!(code == Some(1) && why.contains("ledger.sqlite"), "{code:?} {why}");
    assert_eq!(fresh(&gateway, &unchecked(1)).await.outcome(), (200, "billed"), "the first goes on");
    gateway.terminate();
    assert_eq!(gateway.ended().await.status.code(), Some(0));
    assert_eq!(fresh(&place.serve(), &unchecked(1)).await.outcome(), (200, "cooldown"), "the ledger is free again");
}

#[test]
fn a_configuration_that_is_right_is_said_to_be() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (code, text) = said(&["check-config", "--config", text(&root.join("config/gateway.toml"))]);
    assert!(code == Some(78) && text.contains("TELNYX_API_KEY"), "its secrets are not there: {code:?} {text}");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let forward = "[auth]\nmode = \"forward\"\n[[budget]]\nname = \"all\"\nlimit = \"1.00\"\nwindow = \"day\"\n";
    assert_eq!(wrong(directory.path(), forward), (Some(0), "the configuration is valid\n".to_owned()));
}

#[test]
fn a_configuration_that_is_wrong_is_told_by_file_line_key_and_nearest_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (config, said) in [
        ("[cache]\nttl = \"1h\"\nttll = \"1h\"\n", ["wrong.toml:3", "cache.ttll", "did you mean `ttl`?"]),
        ("[cach]\nttl = \"1h\"\n", ["wrong.toml:1", "cach", "did you mean `cache`?"]),
        ("[cache]\nttl = \"soon\"\n", ["wrong.toml:2", "cache.ttl", "is not a length of time"]),
        ("[[budget]]\nname = \"a\"\nlimit = 1.5\nwindow = \"day\"\n", ["wrong.toml:3", "budget", "limit"]),
        ("[[budget]]\nname = \"a\"\nlimit = \"1.00\"\nwindow = \"months\"\n", ["wrong.toml:4", "window", "did you mean `month`?"]),
        ("[auth]\nmode = \"key\"\n", ["wrong.toml:2", "auth.mode", "did you mean `keys`?"]),
        ("[server\n", ["wrong.toml:1", "", ""]),
    ] {
        let (code, text) = wrong(directory.path(), config);
        assert_eq!(code, Some(78), "{config}: {text}");
        assert!(said.iter().all(|part| text.contains(part)), "{said:?} is not all in {text}");
    }
    let (code, text) = said(&["check-config", "--config", "nowhere.toml"]);
    assert!(code == Some(78) && text.contains("nowhere.toml"), "{code:?} {text}");
}

/// What `check-config --json` prints, whatever it writes to standard error, and how it ends.
fn checked_as_json(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = run(&[&["check-config", "--json"], arguments].concat());
    (output.status.code(), serde_json::from_slice(&output.stdout).expect("JSON"))
}

#[test]
fn what_is_wrong_is_told_as_json_too() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("gateway.toml");
    let checked = |config: &str, more: &[&str]| {
        std::fs::write(&path, config).expect("writable");
        checked_as_json(&[&["--config", text(&path)], more].concat())
    };
    let (code, report) = checked("[cache]\nttll = \"1h\"\n", &[]);
    let wrong = &report["errors"][0];
    assert_eq!((code, &report["valid"], &wrong["key"], &wrong["nearest"]), (Some(78), &false.into(), &"cache.ttll".into(), &"ttl".into()));
    assert!(wrong["place"].as_str().is_some_and(|place| place.ends_with("gateway.toml:2")), "{report}");
    let (code, report) = checked("[auth]\nmode = \"open\"\n[server]\nlisten = \"0.0.0.0:0\"\n[upstream]\napi_key = \"KEY\"\n", &[]);
    assert_eq!((code, &report["errors"][0]["key"]), (Some(78), &"auth.mode".into()), "{report}");
    let (code, report) = checked("[auth]\nmode = \"open\"\n[upstream]\napi_key = \"KEY-plain\"\n", &["--print"]);
    assert_eq!((code, &report["valid"], &report["config"]["upstream"]["api_key"]), (Some(0), &true.into(), &"[redacted]".into()));
    assert!(report["warnings"].as_array().is_some_and(|warnings| warnings.len() == 2), "{report}");
    assert_eq!(checked_as_json(&["--config", "nowhere.toml"]).0, Some(78));
}

#[test]
fn settings_that_are_unsafe_together_keep_it_from_starting() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("unsafe.toml");
    let config = "[server]\nlisten = \"0.0.0.0:0\"\n[admin]\nlisten = \"0.0.0.0:0\"\n[auth]\nmode = \"open\"\n[upstream]\napi_key = \"KEY-that-is-secret\"\n";
    std::fs::write(&path, config).expect("writable");
    for command in ["serve", "check-config"] {
        let (code, why) = said(&[command, "--config", text(&path)]);
        assert_eq!(code, Some(78), "{why}");
        assert!(why.contains("auth.mode: ") && why.contains("admin.listen: ") && !why.contains("KEY-that"), "{why}");
    }
}

#[test]
fn a_printed_configuration_shows_no_secret() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("plain.toml");
    let config = "[admin]\ntoken = \"TOKEN-plain\"\n[auth]\nmode = \"open\"\n[upstream]\napi_key = \"KEY-plain\"\n";
    std::fs::write(&path, config).expect("writable");
    let (code, printed) = said(&["check-config", "--print", "--config", text(&path)]);
    assert!(code == Some(0) && printed.contains("[redacted]") && !printed.contains("-plain"), "{code:?} {printed}");
}

#[test]
fn a_new_key_comes_with_its_digest() {
    let output = run(&["key", "new"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let word = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).expect("a line of it").to_owned();
    assert_eq!(word("key_sha256 "), KeyDigest::of(word("key ").as_bytes()).to_string());
    assert_ne!(run(&["key", "new"]).stdout, text.as_bytes(), "each is another");
    let json: Value = serde_json::from_slice(&run(&["key", "new", "--json"]).stdout).expect("JSON");
    let key = json["key"].as_str().expect("a key");
    assert_eq!(json["key_sha256"], KeyDigest::of(key.as_bytes()).to_string());
}

#[test]
fn help_names_every_command() {
    let (code, help) = said(&["--help"]);
    assert_eq!(code, Some(0));
    for command in ["serve", "check-config", "sandbox", "key", "health", "budgets", "kill-switch", "explain", "requests", "purge"] {
        assert!(help.contains(command), "{command} is not in {help}");
        assert_eq!(said(&[command, "--help"]).0, Some(0));
    }
    assert_eq!(said(&["serve", "--no-such"]).0, Some(2));
}
