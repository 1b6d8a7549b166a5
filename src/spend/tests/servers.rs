//! The kinds of servers that a shared ledger may be on: one that a Sentinel names, which may change, one with replicas, a Cluster.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Stdio};

use super::*;

/// Ports that nobody listens on now.
pub(super) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

/// A Sentinel, which ends with its test.
pub(super) struct Sentinel(Child);

impl Sentinel {
    pub(super) fn start(settings: &Path) -> Self {
        let mut command = server::program();
        let mut child = command.arg(settings).arg("--sentinel").stdout(Stdio::piped()).spawn().expect("redis-server is installed");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("+monitor master money")), "it does not start");
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // Either fails if it has ended already.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Buys something on this server, and finds it in the books.
pub(super) async fn spend_on(bench: &Bench, shared: crate::shared::Config) {
    let redis = Redis::new(&shared).expect("a URL").expect("one is named");
    let config = Config { path: bench.path(), ..Config::default() };
    let terms = (vec![budget("all", "0.20")], PriceList::default());
    let ledger = Ledger::join(&config, redis, terms, MEMORY, bench.clock.clone(), bench.observe()).expect("joins");
    let holds = ledger.hold_all(vec![charge("a"), charge("a")]).await.expect("held");
    assert_eq!(exhausted(ledger.hold(charge("a")).await), "all");
    for hold in holds {
        hold.assume("lost").await.expect("written");
    }
    assert_eq!(ledger.correct(HoldId(1), Finding::NotBilled, "older data").await, Ok(true));
    assert_eq!(figures(&ledger), ["all: 0.10 + 0.00"]);
    let report = ledger.books().and_then(|books| books.verify(&[], |_, _| {})).expect("readable");
    assert!(report.is_clean() && report.summary.charges == 2, "{report:?}");
    ledger.close().await;
}

/// Gives a command to whoever listens on this port.
fn tell_at(port: u16, command: &[&str]) {
    let url = format!("redis://127.0.0.1:{port}");
    let mut connection = redis::Client::open(url).and_then(|client| client.get_connection()).expect("it listens");
    redis::cmd(command[0]).arg(&command[1..]).query::<()>(&mut connection).unwrap_or_else(|error| panic!("{command:?}: {error}"));
}

/// A gateway by these settings, with a dollar to spend.
fn joined(bench: &Bench, shared: &crate::shared::Config) -> Ledger {
    let redis = Redis::new(shared).expect("a URL").expect("one is named");
    let config = Config { path: bench.path(), ..Config::default() };
    let terms = (vec![budget("all", "1.00")], PriceList::default());
    Ledger::join(&config, redis, terms, MEMORY, bench.clock.clone(), bench.observe()).expect("joins")
}

/// Holds as soon as the ledger can be reached.
async fn held_at_last(ledger: &Ledger, caller: &str) -> Hold {
    loop {
        match ledger.hold(charge(caller)).await {
            Ok(hold) => return hold,
            Err(HoldRefused::Unavailable) => tokio::task::yield_now().await,
            Err(refused) => panic!("{refused:?}"),
        }
    }
}

/// A server on a port of its own, and in a folder of its own.
fn listening(bench: &Bench, name: &str, port: u16, settings: &[&str]) -> RedisServer {
    let folder = bench.dir.path().join(name);
    std::fs::create_dir(&folder).expect("a folder");
    let port = port.to_string();
    RedisServer::start(&folder, &[&["--port", &port, "--appendonly", "no", "--repl-diskless-sync-delay", "0"], settings].concat())
}

/// A master, and a replica that is up to date.
fn replicated(bench: &Bench) -> ([RedisServer; 2], [u16; 2]) {
    let ports = free_ports();
    let of = format!("127.0.0.1 {}", ports[0]);
    let servers = [listening(bench, "master", ports[0], &[]), listening(bench, "replica", ports[1], &["--replicaof", &of])];
    while !servers[0].tell::<String>(&["INFO", "replication"]).contains("state=online") {}
    (servers, ports)
}

fn scripts_run(server: &RedisServer) -> u64 {
    let stats: String = server.tell(&["INFO", "commandstats"]);
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_counts_only_when_as_many_replicas_have_it_as_are_waited_for() {
    let bench = Bench::new();
    let ([master, replica], _ports) = replicated(&bench);
    let ledger =
        joined(&bench, &crate::shared::Config { wait_for: 1, timeout: "2s".parse().expect("a time"), ..shared_config(&master.url()) });
    held_at_last(&ledger, "a").await.settle("200").await.expect("written");
    replica.signal("-STOP");
    assert_eq!(ledger.hold(charge("b")).await.expect_err("the replica stands still"), HoldRefused::Unavailable);
    // Asked again on other connections, it is as far as before.
    let before = scripts_run(&master);
    while scripts_run(&master) < before + 2 {
        assert!(!ledger.is_available());
        tokio::task::yield_now().await;
    }
    replica.signal("-CONT");
    held_at_last(&ledger, "c").await.settle("200").await.expect("written");
    while figures(&ledger) != ["all: 0.20 + 0.00"] {
        barrier(&ledger).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_forgot_nothing_goes_on_and_one_that_did_stops_until_that_is_acknowledged() {
    for forgets in [false, true] {
        let bench = Bench::new();
        let ([mut master, replica], _ports) = replicated(&bench);
        let name = bench.dir.path().join("redis.sock");
        std::os::unix::fs::symlink(master.socket(), &name).expect("a link");
        let proxy = chaos::Chaos::before(&name).await;
        let ledger = joined(&bench, &shared_config(&format!("redis://{}", proxy.address)));
        ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
        while replica.tell::<u32>(&["XLEN", "{reputation-gateway}:log"]) < 2 {}
        if forgets {
            replica.tell::<()>(&["REPLICAOF", "NO", "ONE"]);
        }
        ledger.hold(charge("b")).await.expect("held").settle("200").await.expect("written");
        let under_way = ledger.hold(charge("c")).await.expect("held");
        if !forgets {
            while replica.tell::<u32>(&["XLEN", "{reputation-gateway}:log"]) < 5 {}
            replica.tell::<()>(&["REPLICAOF", "NO", "ONE"]);
        }
        std::fs::remove_file(&name).and_then(|()| std::os::unix::fs::symlink(replica.socket(), &name)).expect("another link");
        master.kill();
        if forgets {
            while !replica.tell::<bool>(&["HEXISTS", "{reputation-gateway}:state", "lost"]) {
                assert_eq!(ledger.hold(charge("d")).await.expect_err("away, or behind"), HoldRefused::Unavailable);
            }
            assert_eq!(ledger.acknowledge_loss("the replica was behind".to_owned(), "ops".to_owned()).await, Ok(true));
        }
        let hold = held_at_last(&ledger, "d").await;
        under_way.settle("200").await.expect("written");
        hold.release("404").await.expect("written");
        let figure = if forgets { "all: 0.20 + 0.00" } else { "all: 0.30 + 0.00" };
        while figures(&ledger) != [figure] {
            barrier(&ledger).await;
        }
        let report = ledger.books().and_then(|books| books.verify(&[], |_, _| {})).expect("readable");
        assert!(report.is_clean(), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_move_to_another_node_of_a_cluster_are_found_there() {
    let bench = Bench::new();
    let ports: [u16; 3] = free_ports();
    let buses: [u16; 3] = free_ports();
    let ranges = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
    let nodes = [0, 1, 2].map(|n| {
        let bus = buses[n].to_string();
        let settings = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-announce-ip", "127.0.0.1"];
        let node = listening(&bench, &format!("node-{n}"), ports[n], &settings);
        node.tell::<()>(&["CLUSTER", "ADDSLOTSRANGE", ranges[n].0, ranges[n].1]);
        node
    });
    for other in [1, 2] {
        nodes[0].tell::<()>(&["CLUSTER", "MEET", "127.0.0.1", &ports[other].to_string(), &buses[other].to_string()]);
    }
    let knows_all = |node: &RedisServer| {
        let info: String = node.tell(&["CLUSTER", "INFO"]);
        info.contains("cluster_state:ok") && info.contains("cluster_size:3")
    };
    while !nodes.iter().all(knows_all) {
        tokio::task::yield_now().await;
    }
    let slot: u16 = nodes[0].tell(&["CLUSTER", "KEYSLOT", "{reputation-gateway}:state"]);
    let from = ranges.iter().position(|(first, last)| (first.parse().expect("a slot")..=last.parse().expect("a slot")).contains(&slot));
    let from = from.expect("every slot is on a node");
    let [to, third] = [(from + 1) % 3, (from + 2) % 3];
    // The node that is named has none of the keys.
    let url = format!("redis://127.0.0.1:{}", ports[third]);
    let ledger = joined(&bench, &crate::shared::Config { cluster: true, ..shared_config(&url) });
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    let under_way = ledger.hold(charge("b")).await.expect("held");
    let ids = [0, 1, 2].map(|n: usize| nodes[n].tell::<String>(&["CLUSTER", "MYID"]));
    let slot = slot.to_string();
    nodes[to].tell::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[from]]);
    nodes[from].tell::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[to]]);
    let keys: Vec<String> = nodes[from].tell(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]);
    let port = ports[to].to_string();
    let moving: Vec<&str> =
        ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    nodes[from].tell::<()>(&moving);
    for n in [to, from, third] {
        nodes[n].tell::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[to]]);
    }
    let hold = held_at_last(&ledger, "c").await;
    under_way.settle("200").await.expect("written");
    hold.settle("200").await.expect("written");
    assert_eq!(figures(&ledger), ["all: 0.30 + 0.00"]);
    assert_eq!(nodes[from].tell::<u32>(&["CLUSTER", "COUNTKEYSINSLOT", &slot]), 0);
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_that_sentinels_name_after_a_failover_is_gone_on_with() {
    let bench = Bench::new();
    let ([mut master, replica], [port, other]) = replicated(&bench);
    let [sentinel] = free_ports();
    let folder = bench.dir.path().join("sentinel");
    std::fs::create_dir(&folder).expect("a folder");
    let settings = format!("port {sentinel}\nsentinel monitor money 127.0.0.1 {port} 1\n");
    std::fs::write(folder.join("sentinel.conf"), settings).expect("writable");
    let _sentinel = Sentinel::start(&folder.join("sentinel.conf"));
    let sentinels = vec![format!("redis://127.0.0.1:{sentinel}").parse().expect("a URL")];
    let shared = shared_config("redis://elsewhere.invalid:1");
    let ledger = joined(&bench, &crate::shared::Config { sentinels, sentinel_service: "money".to_owned(), ..shared });
    let before = ledger.hold(charge("a")).await.expect("held");
    while replica.tell::<u32>(&["XLEN", "{reputation-gateway}:log"]) < 1 {}
    replica.tell::<()>(&["REPLICAOF", "NO", "ONE"]);
    tell_at(sentinel, &["SENTINEL", "REMOVE", "money"]);
    tell_at(sentinel, &["SENTINEL", "MONITOR", "money", "127.0.0.1", &other.to_string(), "1"]);
    master.kill();
    let after = held_at_last(&ledger, "b").await;
    before.settle("200").await.expect("written");
    after.settle("200").await.expect("written");
    assert_eq!(figures(&ledger), ["all: 0.20 + 0.00"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_says_where_the_master_is() {
    let mut bench = Bench::new();
    let [port, sentinel] = free_ports();
    bench.redis = Some(RedisServer::start(bench.dir.path(), &["--port", &port.to_string()]));
    let folder = bench.dir.path().join("sentinel");
    std::fs::create_dir(&folder).expect("a folder");
    let settings = format!("port {sentinel}\nsentinel monitor money 127.0.0.1 {port} 1\n");
    std::fs::write(folder.join("sentinel.conf"), settings).expect("writable");
    let _sentinel = Sentinel::start(&folder.join("sentinel.conf"));
    let shared = shared_config("redis://elsewhere.invalid:1/2");
    let sentinels = vec![format!("redis://127.0.0.1:{sentinel}").parse().expect("a URL")];
    spend_on(&bench, crate::shared::Config { sentinels, sentinel_service: "money".to_owned(), ..shared }).await;
}
