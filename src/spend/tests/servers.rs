//! The kinds of servers that a shared ledger may be on: with TLS, found by a Sentinel, a Cluster.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use super::*;

/// Ports that nobody listens on now.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

/// A Sentinel, which ends with its test.
struct Sentinel(Child);

impl Sentinel {
    fn start(settings: &Path) -> Self {
        let mut command = Command::new("redis-server");
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
async fn spend_on(bench: &Bench, shared: crate::shared::Config) {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_reached_with_tls_under_an_authority_of_its_own() {
    let mut bench = Bench::new();
    let folder = bench.dir.path().to_owned();
    let path = |name: &str| folder.join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(path("cert.pem"), made.cert.pem()).expect("writable");
    std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).expect("writable");
    let [port] = free_ports();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let settings = ["--tls-port", &port.to_string(), "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &cert];
    bench.redis = Some(RedisServer::start(&folder, &[&settings[..], &["--tls-auth-clients", "no"]].concat()));
    let url = format!("rediss://localhost:{port}/3");
    let trusting = crate::shared::Config { ca_certificate: Some(cert.into()), ..shared_config(&url) };
    let stranger = Redis::new(&shared_config(&url)).expect("a URL").expect("one is named").connect().await;
    assert!(stranger.is_err(), "a certificate that nobody vouches for");
    spend_on(&bench, trusting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_has_all_keys_of_a_ledger_in_one_slot() {
    let mut bench = Bench::new();
    let [port, bus] = free_ports().map(|port| port.to_string());
    let settings = ["--port", &port, "--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-announce-ip", "127.0.0.1"];
    let redis = RedisServer::start(bench.dir.path(), &settings);
    redis.tell::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    while !redis.tell::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
        tokio::task::yield_now().await;
    }
    bench.redis = Some(redis);
    let url = format!("redis://127.0.0.1:{port}");
    spend_on(&bench, crate::shared::Config { cluster: true, ..shared_config(&url) }).await;
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
    let sentinels = vec![format!("redis://127.0.0.1:{sentinel}")];
    spend_on(&bench, crate::shared::Config { sentinels, sentinel_service: "money".to_owned(), ..shared }).await;
}
