//! Several gateways on one Redis, each a process of its own: one wallet, whatever dies.

mod claims;
mod reload;
mod webhook;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use reputation_gateway::policy::money::Usd;
use reputation_gateway::sandbox;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use crate::harness::chaos::{Chaos, Moment, Weather};
use crate::harness::process::{self, Process, text};
use crate::harness::redis::RedisServer;
use crate::harness::{Answer, Ask, ENTERPRISE, PATIENCE, STORED, books};
use crate::kills::{Seeded, Upstream};

/// A server that keeps what it acknowledged.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// All that outlives a gateway.
struct Place {
    upstream: Upstream,
    address: SocketAddr,
    upstream_timeout: &'static str,
    /// What gateways let through together.
    rate: &'static str,
    redis: RedisServer,
    directory: TempDir,
}

impl Place {
    async fn new(numbers: u32) -> Self {
        let (upstream, address) = Upstream::start(sandbox::Config { numbers, ..sandbox::Config::default() }).await;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let redis = RedisServer::start(directory.path(), &DURABLE);
        // As docs/shared.md says.
        let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/shared.md")).expect("a document");
        let user =
            docs.lines().find_map(|line| line.strip_prefix("user gateway ")).expect("a line for the user").replace(">password", ">none");
        redis.tell::<()>(&["ACL", "SETUSER", "gateway"].into_iter().chain(user.split(' ')).collect::<Vec<_>>());
        redis.tell::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        Self { upstream, address, upstream_timeout: "60s", rate: "1000000/s", redis, directory }
    }

    /// The configuration of the `n`th gateway.
    fn config(&self, n: usize, limit: &str, more: &str) -> PathBuf {
        self.config_to(&self.redis.url_of("gateway"), n, limit, more)
    }

    /// The same, where the Redis is reached by this URL.
    fn config_to(&self, url: &str, n: usize, limit: &str, more: &str) -> PathBuf {
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"open\"\nallow = [\"fresh\", \"refresh\", \"enable\", \"frequency\"]\n\
             [upstream]\nbase_url = \"http://{}/v2\"\napi_key = \"upstream-key\"\ndefault_enterprise = \"{ENTERPRISE}\"\nrate = \"1000000/s\"\ntimeout = \"{}\"\nbreaker_failures = 1000000\n\
             [fresh]\nrate = \"{}\"\n[ledger]\npath = \"{}\"\n\
             [[budget]]\nname = \"all\"\nlimit = \"{limit}\"\nwindow = \"month\"\n\
             [shared]\nredis_url = \"{url}\"\nlease = \"3s\"\n{more}\n",
            self.address,
            self.upstream_timeout,
            self.rate,
            text(&self.copy(n)),
        );
        let path = self.directory.path().join(format!("gateway-{n}.toml"));
        std::fs::write(&path, config).expect("writable");
        path
    }

    /// The `n`th gateway. A machine that runs tests may be slow to answer.
    fn serve(&self, n: usize, limit: &str) -> Process {
        Process::start(&["serve", "--config", text(&self.config(n, limit, "timeout = \"5s\""))])
    }

    fn copy(&self, n: usize) -> PathBuf {
        self.directory.path().join(format!("copy-{n}.sqlite"))
    }

    fn charged(&self) -> i64 {
        self.upstream.sandbox.charges().total.micros()
    }

    /// Waits until nothing is held any more, as this gateway sees it, and returns what is posted.
    async fn settled(&self, gateway: &Process) -> i64 {
        let settling = async {
            loop {
                if let Some(posted) = self.posted(gateway).await {
                    return posted;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE * 3, settling).await.unwrap_or_else(|_| panic!("still held: {}", gateway.log()))
    }

    /// What is posted, if nothing is held.
    async fn posted(&self, gateway: &Process) -> Option<i64> {
        let budgets = Ask::new(gateway.address("admin"), "/admin/v1/budgets").send().await.json();
        let amount = |name: &str| budgets["data"][0][name].as_str().expect("dollars").parse::<Usd>().expect("dollars").micros();
        (budgets["ledger_available"] == true && amount("held_usd") == 0).then(|| amount("spent_usd"))
    }

    /// The copy of a gateway that is closed has to be right, and to say what the budgets say.
    async fn audited(&self, n: usize, gateway: Process, posted: i64) {
        gateway.terminate();
        gateway.ended().await;
        let charges = books::charges(&self.copy(n));
        assert_eq!(books::posted(&charges), posted, "gateway {n}");
        assert!(charges.iter().all(|charge| charge.state != "held"), "gateway {n}: {charges:?}");
        let (code, report) = process::said(&["ledger", "verify", "--ledger", text(&self.copy(n))]);
        assert_eq!(code, Some(0), "gateway {n}: {report}");
    }
}

/// Waits until this gateway reaches the Redis.
async fn reached(gateway: &Process) {
    let reaching = async {
        while Ask::new(gateway.address("admin"), "/readyz").send().await.text().contains("degraded") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE * 3, reaching).await.unwrap_or_else(|_| panic!("still away: {}", gateway.log()));
}

fn fresh(gateway: SocketAddr, n: usize) -> Ask {
    Ask::new(gateway, &format!("/v2/reputation/numbers/+{}?fresh=true", 12_025_550_000 + n))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_dollars_buy_fifty_checks_of_two_thousand_that_four_gateways_are_asked_for_at_once() {
    const GATEWAYS: usize = 4;
    let place = Place::new(2_000).await;
    let gateways: Vec<_> = (0..GATEWAYS).map(|n| place.serve(n, "5.00")).collect();
    let addresses: Vec<_> = gateways.iter().map(|gateway| gateway.address("listen")).collect();
    let asked: Vec<_> = (0..2_000).map(|n| tokio::spawn(fresh(addresses[n % GATEWAYS], n).send())).collect();
    let answers: Vec<Answer> = join_all(asked).await.into_iter().map(|answer| answer.expect("nothing panics")).collect();
    let billed = answers.iter().filter(|answer| answer.outcome() == (200, "billed")).count();
    let refused = answers.iter().filter(|answer| answer.outcome() == (402, "budget_exhausted")).count();
    assert_eq!((billed, refused), (50, 1_950), "{:?}", answers.iter().find(|answer| ![200, 402].contains(&answer.status.as_u16())));
    assert_eq!(place.upstream.sandbox.charges().count, 50);
    for (n, gateway) in gateways.into_iter().enumerate() {
        assert_eq!(place.settled(&gateway).await, 5_000_000, "gateway {n}");
        place.audited(n, gateway, 5_000_000).await;
    }
}

/// Numbers of a round of kills.
const NUMBERS: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_and_their_redis_that_are_killed_again_and_again_never_under_count() {
    const GATEWAYS: usize = 3;
    let rounds = std::env::var("KILL_ROUNDS").map_or(8, |rounds| rounds.parse().expect("a number of rounds"));
    let mut place = Place::new(u32::try_from(rounds * NUMBERS).expect("not so many rounds")).await;
    // Some of the calls are never answered.
    place.upstream_timeout = "3s";
    let mut seeded = Seeded(7);
    let mut gateways: Vec<_> = (0..GATEWAYS).map(|n| place.serve(n, "1000000.00")).collect();
    for round in 0..rounds {
        for gateway in &gateways {
            reached(gateway).await;
        }
        let mut calls = place.upstream.calls.subscribe();
        let enough = *calls.borrow() + 1 + seeded.below(NUMBERS as u64 / 2);
        place.upstream.armed.store(true, Ordering::SeqCst);
        let addresses: Vec<_> = gateways.iter().map(|gateway| gateway.address("listen")).collect();
        let numbers = round * NUMBERS..(round + 1) * NUMBERS;
        let asked: Vec<_> = numbers.map(|n| tokio::spawn(fresh(addresses[n % GATEWAYS], n).try_send())).collect();
        let coming = timeout(PATIENCE * 3, calls.wait_for(|calls| *calls >= enough)).await.map(|calls| calls.is_ok());
        assert_eq!(coming, Ok(true), "round {round}: the calls do not come: {:?}", gateways.iter().map(Process::log).collect::<Vec<_>>());
        let victim = usize::try_from(seeded.below(GATEWAYS as u64 + 1)).expect("few");
        if victim < GATEWAYS {
            gateways.remove(victim).crash().await;
            place.upstream.armed.store(false, Ordering::SeqCst);
            gateways.insert(victim, place.serve(victim, "1000000.00"));
        } else {
            let folder = place.directory.path().to_owned();
            // Its users are in no file.
            let users: Vec<String> = place.redis.tell(&["ACL", "LIST"]);
            place.redis.kill();
            place.redis = RedisServer::start(&folder, &DURABLE);
            let user = users.iter().find_map(|user| user.strip_prefix("user gateway ")).expect("a user");
            place.redis.tell::<()>(&["ACL", "SETUSER", "gateway"].into_iter().chain(user.split(' ')).collect::<Vec<_>>());
            place.upstream.armed.store(false, Ordering::SeqCst);
        }
        // Calls that the stand-in never answers end when their gateway's time is over; the next round does not wait for them.
        drop(asked);
    }
    for gateway in &gateways[1..] {
        gateway.signal("-KILL");
    }
    let posted = place.settled(&gateways[0]).await;
    assert!(posted >= place.charged(), "{posted} posted of {} charged", place.charged());
    let charges = place.upstream.sandbox.charges();
    assert!(charges.by_number.values().all(|number| number.count == 1), "charged twice: {charges:?}");
    assert!(usize::try_from(charges.count).is_ok_and(|count| count > rounds), "{charges:?}");
    place.audited(0, gateways.remove(0), posted).await;
    eprintln!("{rounds} kills, {} calls charged, {} posted", charges.count, posted / 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_stops_what_costs_money_and_nothing_else() {
    let place = Place::new(10).await;
    let gateway = Process::start(&["serve", "--config", text(&place.config(0, "5.00", ""))]);
    let (listen, admin) = (gateway.address("listen"), gateway.address("admin"));
    // What it has before it follows the others is outdated when it does.
    reached(&gateway).await;
    let plain = Ask::new(listen, &format!("/v2/reputation/numbers/{STORED}"));
    assert_eq!(plain.send().await.outcome(), (200, "probe"));
    place.redis.signal("-STOP");
    let refused = fresh(listen, 1).header("prefer", "handling=strict").send().await;
    assert_eq!(refused.outcome(), (503, "ledger_unavailable"), "{refused:?}");
    assert_eq!(Ask::new(listen, &format!("/v2/reputation/numbers/{STORED}")).send().await.outcome(), (200, "hit"));
    let ready = Ask::new(admin, "/readyz").send().await;
    assert!(ready.status == 200 && ready.text().starts_with("ready, degraded"), "{ready:?}");
    place.redis.signal("-CONT");
    reached(&gateway).await;
    let mut answer = fresh(listen, 1).send().await;
    while answer.outcome() == (503, "ledger_unavailable") {
        // A busy machine may not answer within 40 ms at once.
        answer = fresh(listen, 1).send().await;
    }
    assert_eq!(answer.outcome(), (200, "billed"), "{answer:?}");
    assert_eq!(place.settled(&gateway).await, 100_000);
    place.audited(0, gateway, 100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_cut_off_in_the_middle_of_a_call_neither_loses_nor_doubles_its_charge() {
    for moment in [Moment::Before, Moment::After] {
        let place = Place::new(10).await;
        let chaos = Chaos::before(place.redis.socket()).await;
        let url = format!("redis://gateway:none@{}", chaos.address);
        let gateway = Process::start(&["serve", "--config", text(&place.config_to(&url, 0, "5.00", "timeout = \"5s\""))]);
        let listen = gateway.address("listen");
        reached(&gateway).await;
        let plain = || Ask::new(listen, &format!("/v2/reputation/numbers/{STORED}"));
        assert_eq!(plain().send().await.outcome(), (200, "probe"));
        chaos.cut_at("\"kind\":\"settled\"", moment);
        assert_eq!(fresh(listen, 1).send().await.outcome(), (200, "billed"), "it was paid for");
        chaos.is_cut().await;
        let refused = fresh(listen, 2).header("prefer", "handling=strict").send().await;
        assert_eq!(refused.outcome(), (503, "ledger_unavailable"), "{refused:?}");
        assert_eq!(plain().send().await.outcome(), (200, "hit"));
        chaos.set(Weather::Fair);
        reached(&gateway).await;
        assert_eq!(place.settled(&gateway).await, 100_000, "{moment:?}");
        assert_eq!(place.charged(), 100_000);
        place.audited(0, gateway, 100_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_slow_is_one_that_is_away() {
    let place = Place::new(10).await;
    let chaos = Chaos::before(place.redis.socket()).await;
    let url = format!("redis://gateway:none@{}", chaos.address);
    let gateway = Process::start(&["serve", "--config", text(&place.config_to(&url, 0, "5.00", "timeout = \"2s\""))]);
    let listen = gateway.address("listen");
    let plain = || Ask::new(listen, &format!("/v2/reputation/numbers/{STORED}"));
    assert_eq!(plain().send().await.outcome(), (200, "probe"));
    chaos.set(Weather::Slow(Duration::from_secs(3)));
    let asked = Instant::now();
    let refused = fresh(listen, 1).header("prefer", "handling=strict").send().await;
    assert_eq!(refused.outcome(), (503, "ledger_unavailable"), "{refused:?}");
    assert!(asked.elapsed() < Duration::from_millis(2_900), "{:?}", asked.elapsed());
    assert_eq!(plain().send().await.outcome(), (200, "hit"));
    assert_eq!(place.charged(), 0);
    chaos.set(Weather::Fair);
    reached(&gateway).await;
    assert_eq!(place.settled(&gateway).await, 0);
    place.audited(0, gateway, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_empty_stops_spending_until_an_operator_says_so() {
    let mut place = Place::new(10).await;
    let gateway = place.serve(0, "5.00");
    assert_eq!(fresh(gateway.address("listen"), 1).send().await.outcome(), (200, "billed"));
    let folder = place.directory.path().to_owned();
    place.redis.kill();
    std::fs::remove_dir_all(folder.join("appendonlydir")).expect("removes");
    place.redis = RedisServer::start(&folder, &DURABLE);
    place.redis.tell::<()>(&["ACL", "SETUSER", "gateway", "on", ">none", "~*", "&*", "+@all"]);
    let refused = fresh(gateway.address("listen"), 2).send().await;
    assert_eq!(refused.outcome(), (503, "ledger_unavailable"), "{refused:?}");
    // Restarted, it still knows.
    gateway.terminate();
    gateway.ended().await;
    let gateway = place.serve(0, "5.00");
    assert_eq!(fresh(gateway.address("listen"), 3).send().await.outcome(), (503, "ledger_unavailable"));
    assert!(gateway.log().contains("it is empty, and had a ledger"), "{}", gateway.log());
    let admin = gateway.address("admin").to_string();
    let acknowledge = ["acknowledge-loss", "--admin-listen", &admin, "--reason", "a new machine"];
    let (code, said) = process::said(&acknowledge);
    assert_eq!(code, Some(0), "{said}");
    let mut answer = fresh(gateway.address("listen"), 4).send().await;
    while answer.outcome() == (503, "ledger_unavailable") {
        answer = fresh(gateway.address("listen"), 4).send().await;
    }
    assert_eq!(answer.outcome(), (200, "billed"));
    let (code, said) = process::said(&acknowledge);
    assert!(code == Some(1) && said.contains("nothing of the ledger is known to be lost"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_with_other_prices_does_not_start_beside_one_that_runs() {
    let place = Place::new(1).await;
    let _running = place.serve(0, "5.00");
    let (code, said) = process::said(&["serve", "--config", text(&place.config(1, "5.00", "[prices]\ncheck = \"0.20\""))]);
    assert!(code == Some(1) && said.contains("gateways that share it run with other prices"), "{code:?} {said}");
}
