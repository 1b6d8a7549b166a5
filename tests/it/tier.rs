//! Several gateways on one Redis share copies, and hear at once what is not true any more.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::harness::cable::Cable;
use crate::harness::process::{Process, text};
use crate::harness::redis::RedisServer;
use crate::harness::{ABSENT, Answer, Ask, BUDGET, ENTERPRISE, Gate, PATIENCE, STORED, UNCHECKED, World, unchecked};

/// Gateways before one upstream, which is that of the first.
struct Place {
    world: World,
    redis: RedisServer,
    folder: TempDir,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let redis = RedisServer::start(folder.path(), &["--appendonly", "yes", "--appendfsync", "always"]);
        redis.tell::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        // It stands aside: what it is for is its sandbox.
        let world = World::with(BUDGET, |_| {}).await;
        Self { world, redis, folder }
    }

    /// The `n`th gateway, which reaches the Redis at `url`.
    async fn serve(&self, n: usize, url: &str, more: &str) -> Gateway {
        self.serve_before(self.world.upstream(), n, url, more).await
    }

    /// The same before an upstream of its own.
    async fn serve_before(&self, upstream: SocketAddr, n: usize, url: &str, more: &str) -> Gateway {
        let ledger = self.folder.path().join(format!("copy-{n}.sqlite"));
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"open\"\nallow = [\"fresh\"]\n\
             [upstream]\nbase_url = \"http://{}/v2\"\napi_key = \"upstream-key\"\ndefault_enterprise = \"{ENTERPRISE}\"\nrate = \"1000000/s\"\n\
             [ledger]\npath = \"{}\"\n{BUDGET}[shared]\nredis_url = \"{url}\"\ntimeout = \"2s\"\n{more}\n",
            upstream,
            text(&ledger),
        );
        let path = self.folder.path().join(format!("gateway-{n}.toml"));
        std::fs::write(&path, config).expect("writable");
        let gateway = Gateway(Process::start(&["serve", "--config", text(&path)]));
        gateway.says(|ready| !ready.contains("degraded")).await;
        gateway
    }

    async fn serve_straight(&self, n: usize) -> Gateway {
        self.serve(n, &self.redis.url(), "").await
    }

    /// Two gateways; the second one's fetch of a number has been answered upstream, and hears of it when the gate opens.
    async fn with_a_fetch_under_way(&self) -> (Gateway, Gateway, Gate, JoinHandle<Answer>) {
        let gate = Gate::before(self.world.upstream()).await;
        let (one, other) = (self.serve_straight(1).await, self.serve_before(gate.address, 2, &self.redis.url(), "").await);
        gate.close();
        let sent = self.world.sent();
        let address = other.0.address("listen");
        let reading = tokio::spawn(async move { Ask::new(address, &format!("/v2/reputation/numbers/{STORED}")).send().await });
        self.world.reached(sent + 1).await;
        (one, other, gate, reading)
    }
}

struct Gateway(Process);

impl Gateway {
    fn admin(&self) -> SocketAddr {
        self.0.address("admin")
    }

    async fn read(&self, number: &str) -> Answer {
        Ask::new(self.0.address("listen"), &format!("/v2/reputation/numbers/{number}")).send().await
    }

    async fn cached(&self, number: &str) -> Answer {
        let ask = Ask::new(self.0.address("listen"), &format!("/v2/reputation/numbers/{number}"));
        ask.header("cache-control", "only-if-cached").send().await
    }

    async fn purge(&self, body: &Value) -> Value {
        let ask = Ask::new(self.admin(), "/admin/v1/purge").method(Method::POST).header("content-type", "application/json");
        let answer = ask.body(body.to_string()).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"].clone()
    }

    /// Waits until `/readyz` is as wanted.
    async fn says(&self, mut wanted: impl FnMut(&str) -> bool) {
        let waiting = async {
            loop {
                let ready = Ask::new(self.admin(), "/readyz").send().await;
                assert_eq!(ready.status, 200);
                if wanted(&ready.text()) {
                    return;
                }
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{}", self.0.log()));
    }

    async fn metric(&self, series: &str) -> u64 {
        let text = Ask::new(self.admin(), "/metrics").send().await.text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series}")).parse().expect("a number")
    }

    /// Waits until the others have what this one learnt.
    async fn has_written(&self, place: &Place, number: &str) {
        let key = format!("{{reputation-gateway}}:copy:{ENTERPRISE}:{number}");
        let waiting = async {
            while place.redis.tell::<u64>(&["EXISTS", &key]) == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{}", self.0.log()));
    }

    /// Waits until its copy of a number answers no more.
    async fn has_forgotten(&self, number: &str) -> Duration {
        let began = Instant::now();
        let waiting = async { while self.cached(number).await.outcome() != (504, "not_in_cache") {} };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{}", self.0.log()));
        began.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_gateway_learnt_another_serves_without_any_request_upstream() {
    let place = Place::new().await;
    let (one, other) = (place.serve_straight(1).await, place.serve_straight(2).await);
    assert_eq!(one.read(STORED).await.outcome(), (200, "probe"));
    assert_eq!(one.read(ABSENT).await.outcome(), (404, "not_found"));
    // What is paid for is there before its answer is.
    assert_eq!(one.read(UNCHECKED).await.outcome(), (200, "first_touch"));
    for number in [STORED, ABSENT] {
        one.has_written(&place, number).await;
    }
    let sent = place.world.sent();
    let answer = other.read(STORED).await;
    assert_eq!((answer.outcome(), answer.body.clone()), ((200, "hit"), one.read(STORED).await.body));
    assert_eq!(other.read(ABSENT).await.outcome(), (404, "not_found"));
    assert_eq!(other.read(UNCHECKED).await.outcome(), (200, "hit"));
    assert_eq!(place.world.sent(), sent);
    assert_eq!(other.metric("reputation_gateway_shared_copies_total{result=\"hit\"}").await, 3);
    assert_eq!(other.metric("reputation_gateway_shared_up").await, 1);
    assert_eq!(place.world.charges().count, 1);
    // One that comes later begins with what is there.
    let third = place.serve_straight(3).await;
    assert_eq!(third.read(STORED).await.outcome(), (200, "hit"));
    assert_eq!(place.world.sent(), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_on_one_gateway_is_seen_by_the_others_at_once() {
    let place = Place::new().await;
    let (one, other) = (place.serve_straight(1).await, place.serve_straight(2).await);
    for scope in [json!({ "enterprise": ENTERPRISE, "number": STORED }), json!({ "enterprise": ENTERPRISE }), json!({ "all": true })] {
        for hard in [false, true] {
            one.read(STORED).await;
            other.read(STORED).await;
            assert_eq!(other.cached(STORED).await.outcome(), (200, "hit"), "{scope} {hard}");
            let mut purge = scope.clone();
            purge["hard"] = hard.into();
            assert_eq!(one.purge(&purge).await["others_told"], true, "{scope} {hard}");
            let took = other.has_forgotten(STORED).await;
            assert!(took < Duration::from_secs(1), "{scope} {hard}: {took:?}");
            assert_eq!(one.cached(STORED).await.status, 504, "the server's copy is from before: {scope} {hard}");
        }
    }
    assert_eq!(place.world.charged(), "0.00");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_goes_on_with_what_is_free_and_serves_nothing_from_before_a_purge_when_it_is_back() {
    let place = Place::new().await;
    let cable = Cable::to(&place.redis).await;
    let (one, other) = (place.serve_straight(1).await, place.serve(2, cable.url(), "").await);
    one.read(STORED).await;
    one.has_written(&place, STORED).await;
    assert_eq!(other.read(STORED).await.outcome(), (200, "hit"));
    cable.cut();
    other.says(|ready| ready.starts_with("ready, degraded")).await;
    assert_eq!(other.read(STORED).await.outcome(), (200, "hit"));
    assert_eq!(other.read(ABSENT).await.outcome(), (404, "not_found"), "a free look");
    assert_eq!(other.purge(&json!({ "enterprise": ENTERPRISE, "number": ABSENT })).await["others_told"], false);
    one.purge(&json!({ "enterprise": ENTERPRISE, "number": STORED, "hard": true })).await;
    assert_eq!(other.cached(STORED).await.outcome(), (200, "hit"), "nobody could tell it");
    assert!(other.metric("reputation_gateway_shared_degraded_total{what=\"copy_not_asked\"}").await > 0);
    assert!(other.metric("reputation_gateway_shared_degraded_total{what=\"change_delayed\"}").await > 0);
    assert_eq!(other.metric("reputation_gateway_shared_up").await, 0);
    cable.mend();
    other.says(|ready| !ready.contains("degraded")).await;
    assert_eq!(other.cached(STORED).await.outcome(), (504, "not_in_cache"));
    // What it purged meanwhile is told now.
    let key = format!("{{reputation-gateway}}:moment:{ENTERPRISE}:{ABSENT}");
    let telling = async {
        while place.redis.tell::<u64>(&["EXISTS", &key]) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, telling).await.expect("it is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_begun_before_a_purge_on_another_gateway_keeps_nothing_anywhere() {
    let place = Place::new().await;
    let (one, other, gate, reading) = place.with_a_fetch_under_way().await;
    assert_eq!(one.purge(&json!({ "all": true, "hard": true })).await["others_told"], true);
    gate.open();
    assert_eq!(reading.await.expect("no panic").outcome(), (200, "probe"));
    assert_eq!((other.cached(STORED).await.status.as_u16(), one.cached(STORED).await.status.as_u16()), (504, 504));
    assert_eq!(one.read(STORED).await.outcome(), (200, "probe"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_begun_before_another_gateways_purchase_is_not_taken_for_what_was_paid_for() {
    let place = Place::new().await;
    let (one, other, gate, reading) = place.with_a_fetch_under_way().await;
    let bought = one.read(&format!("{STORED}?fresh=true")).await;
    assert_eq!(bought.outcome(), (200, "billed"));
    // Its books have the purchase by the same log that it is heard by, and are never ahead of that by much.
    let hearing = async {
        while Ask::new(other.admin(), "/admin/v1/ledger").send().await.json()["data"][0]["state"] != "settled" {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, hearing).await.unwrap_or_else(|_| panic!("{}", other.0.log()));
    gate.open();
    let before = reading.await.expect("no panic");
    assert_ne!(before.body, bought.body);
    for want in ["?fresh=true", ""] {
        assert_eq!(other.read(&format!("{STORED}{want}")).await.body, bought.body, "{want}");
    }
    assert_eq!(place.world.charges().count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_costs_a_miss_one_wait_and_then_none() {
    let place = Place::new().await;
    let gateway = place.serve(1, &place.redis.url(), "").await;
    place.redis.signal("-STOP");
    let began = Instant::now();
    assert_eq!(gateway.read(STORED).await.outcome(), (200, "probe"));
    // At most `shared.timeout`, once.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    gateway.says(|ready| ready.starts_with("ready, degraded")).await;
    let began = Instant::now();
    assert_eq!(gateway.read(ABSENT).await.outcome(), (404, "not_found"));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    place.redis.signal("-CONT");
    gateway.says(|ready| !ready.contains("degraded")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_can_be_kept_apart_and_under_forwarded_keys_they_are() {
    let place = Place::new().await;
    let url = place.redis.url();
    let (one, other) = (place.serve(1, &url, "copies = false").await, place.serve(2, &url, "copies = false").await);
    one.read(STORED).await;
    assert_eq!(other.read(STORED).await.outcome(), (200, "probe"), "it looks itself");
    assert_eq!(one.purge(&json!({ "all": true })).await["others_told"], true);
    other.has_forgotten(STORED).await;
    assert_eq!(place.redis.tell::<Vec<String>>(&["KEYS", "*:copy:*"]), Vec::<String>::new());
    drop((one, other));
    let forwarding = place.folder.path().join("forwarding.toml");
    let config = std::fs::read_to_string(place.folder.path().join("gateway-1.toml")).expect("readable");
    let config = config.replace("mode = \"open\"", "mode = \"forward\"").replace("api_key = \"upstream-key\"\n", "");
    std::fs::write(&forwarding, config.replace("copies = false", "")).expect("writable");
    let gateway = Gateway(Process::start(&["serve", "--config", text(&forwarding)]));
    gateway.says(|ready| !ready.contains("degraded")).await;
    let number = unchecked(3);
    let ask = Ask::new(gateway.0.address("listen"), &format!("/v2/reputation/numbers/{number}")).key("a-key-of-its-own");
    assert_eq!(ask.send().await.status, 200);
    assert_eq!(place.redis.tell::<Vec<String>>(&["KEYS", "*:copy:*"]), Vec::<String>::new());
}
