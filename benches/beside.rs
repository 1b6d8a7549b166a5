//! What the slow paths take from hits: their latencies alone, and while money is held, a list is read ahead, copies are purged, a snapshot
//! is written, certificates change.
//!
//! `cargo bench --bench beside` prints the table of `docs/performance.md`; `cargo test` does one tiny round. Hits are asked for at a steady
//! pace below what the gateway can do, and who is late is late from when the hit was due: so a pause is seen by all whom it meets.

mod disk;
mod load;
mod process;

use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use load::{Ask, Calls, Connection, call, connect, get, load, over};
use process::Gateway;
use reputation_gateway::clock::Clock;
use reputation_gateway::sandbox::{self, Sandbox};
use reputation_gateway::server::{self, Abort, Server, Service};
use reputation_gateway::wire::body::Body;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

/// Whose numbers are hit and bought.
const OURS: &str = sandbox::ENTERPRISE;
/// Whose list is read ahead, and whose copies are purged.
const OTHERS: &str = "0b6e2f54-33a4-4f1c-9f0e-1f3f6a1f7c11";
/// The most on a page of a list.
const PAGE: usize = 250;

/// Open, generous, with rates that never bind. The upstream and what is particular to a gateway are added.
const SETTINGS: &str = r#"
[auth]
mode = "open"
[server]
listen = "127.0.0.1:0"
@SERVER@
[admin]
listen = "127.0.0.1:0"
[[enterprise]]
id = "0b6e2f54-33a4-4f1c-9f0e-1f3f6a1f7c11"
[upstream]
base_url = "http://@UPSTREAM@/v2"
api_key = "upstream"
rate = "1000000/s"
max_in_flight = 512
[fresh]
rate = "1000000/s"
[[budget]]
name = "million"
limit = "1000000.00"
window = "month"
[ledger]
path = "ledger.sqlite"
[sync]
enabled = @SYNC@
interval = "10s"
[cache]
max_size = "1GiB"
ttl_jitter = 0.0
@CACHE@
[telemetry]
log = "error"
"#;

/// How much is measured.
struct Plan {
    numbers: u32,
    callers: usize,
    /// From one hit of a caller to its next.
    every: Duration,
    /// Copies that are hit.
    hit: usize,
    rounds: usize,
    /// How long one is, where nothing else says it.
    round: Duration,
}

const FIGURES: Plan =
    Plan { numbers: 100_000, callers: 64, every: Duration::from_millis(10), hit: 1_000, rounds: 5, round: Duration::from_secs(2) };
const TRIAL: Plan = Plan { numbers: 300, callers: 4, every: Duration::from_millis(1), hit: 8, rounds: 1, round: Duration::from_millis(50) };

/// Purchases a second, and who makes them.
const HOLDS: u32 = 200;
const BUYERS: u32 = 20;

fn path(n: usize) -> String {
    format!("/v2/enterprises/{OURS}/reputation/numbers/+1{}", 2_025_550_000 + n)
}

/// The sandbox, with a count of the pages that were read of the others' list.
#[derive(Clone)]
struct Upstream {
    sandbox: Sandbox,
    pages: Arc<watch::Sender<usize>>,
}

impl Upstream {
    /// Serves from a thread of its own, until this process ends.
    fn start(numbers: u32) -> (SocketAddr, watch::Receiver<usize>) {
        let enterprises = vec![OURS.to_owned(), OTHERS.to_owned()];
        let config = sandbox::Config { numbers, checked: true, enterprises, ..sandbox::Config::default() };
        let (pages, read) = watch::channel(0);
        let upstream = Self { sandbox: Sandbox::new(config, Clock::system()), pages: Arc::new(pages) };
        let (bound, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let server = Server::bind("127.0.0.1:0".parse().expect("an address"), &server::Config::default()).await.expect("a port");
                bound.send(server.address()).expect("it is waited for");
                server.serve(upstream, std::future::pending()).await;
            });
        });
        (address.recv().expect("an address"), read)
    }
}

impl Service for Upstream {
    type Known = ();

    async fn call(&self, request: Request<Incoming>) -> Result<Response<Body>, Abort> {
        if request.uri().path().contains(OTHERS) {
            self.pages.send_modify(|pages| *pages += 1);
        }
        self.sandbox.call(request).await
    }
}

/// What a gateway has beside the common settings.
#[derive(Clone, Copy, Default)]
struct Particular<'a> {
    server: &'a str,
    cache: &'a str,
    sync: bool,
}

/// A gateway that has every copy that is hit, and connections to it.
struct Hit {
    gateway: Gateway,
    tls: Option<TlsConnector>,
}

impl Hit {
    async fn start(plan: &Plan, upstream: SocketAddr, own: Particular<'_>, tls: Option<TlsConnector>) -> Self {
        let settings = SETTINGS.replace("@UPSTREAM@", &upstream.to_string()).replace("@SYNC@", &own.sync.to_string());
        let settings = settings.replace("@SERVER@", own.server).replace("@CACHE@", own.cache);
        let hit = Self { gateway: Gateway::start(&[], &settings), tls };
        let mut first = hit.connect().await;
        for n in 0..plan.hit {
            call(&mut first, (get(&path(n)), "probe")).await;
        }
        hit
    }

    async fn connect(&self) -> Connection {
        let address = self.gateway.address("listen");
        let Some(tls) = &self.tls else { return connect(address).await };
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a connection");
        over(tls.connect(ServerName::try_from("localhost").expect("a name"), stream).await.expect("a handshake")).await
    }

    async fn connections(&self, count: usize) -> Vec<Connection> {
        let mut connections = Vec::new();
        for _ in 0..count {
            connections.push(self.connect().await);
        }
        connections
    }

    /// Hits for as long as `work` takes, and at least one by each caller.
    async fn during(&self, plan: &Plan, work: impl Future<Output = ()>) -> Calls {
        let connections = self.connections(plan.callers).await;
        let (over, copies, callers) = (Arc::new(AtomicBool::new(false)), plan.hit, plan.callers);
        let ended = Arc::clone(&over);
        let ask = move |caller: usize, k: usize| -> Option<Ask> {
            (k == 0 || !ended.load(Ordering::Relaxed)).then(|| (get(&path((caller + k * callers) % copies)), "hit"))
        };
        let work = async {
            work.await;
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(load(connections, plan.every, ask), work).0
    }
}

/// What was measured in each round, by what went on.
#[derive(Default)]
struct Table(Vec<(&'static str, Vec<Calls>)>);

impl Table {
    fn add(&mut self, what: &'static str, calls: Calls) {
        match self.0.iter_mut().find(|(name, _)| *name == what) {
            Some((_, rounds)) => rounds.push(calls),
            None => self.0.push((what, vec![calls])),
        }
    }
}

/// Two hundred purchases a second, each of another number and of none that is hit.
async fn holds(hit: &Hit, plan: &Plan, bought: &Arc<AtomicUsize>) {
    let connections = hit.connections(BUYERS as usize).await;
    let every = Duration::from_secs(1) / (HOLDS / BUYERS);
    let each = plan.round.as_nanos().div_ceil(every.as_nanos());
    let (bought, first) = (Arc::clone(bought), plan.hit);
    let ask = move |_, k: usize| -> Option<Ask> {
        let next = || first + bought.fetch_add(1, Ordering::Relaxed);
        ((k as u128) < each).then(|| (get(&format!("{}?fresh=true", path(next()))), "billed"))
    };
    load(connections, every, ask).await;
}

/// Throws the others' copies away, and goes on for a while: what was counted out has still to be freed.
async fn purge(hit: &Hit, plan: &Plan) {
    let mut admin = TcpStream::connect(hit.gateway.address("admin")).await.expect("it listens");
    let body = format!(r#"{{"enterprise":"{OTHERS}","hard":true}}"#);
    let head = format!(
        "POST /admin/v1/purge HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    admin.write_all(format!("{head}{body}").as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    admin.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains(r#""entries":0"#), "{answer}");
    tokio::time::sleep(plan.round / 2).await;
}

/// Hits alone, beside holds, beside a pass over the others' list, and beside a purge of what that brought; in turns.
async fn engines(plan: &Plan, table: &mut Table) {
    let (upstream, mut pages) = Upstream::start(plan.numbers);
    let hit = Hit::start(plan, upstream, Particular { sync: true, ..Particular::default() }, None).await;
    let (pages_each, bought) = ((plan.numbers as usize).div_ceil(PAGE), Arc::new(AtomicUsize::new(0)));
    for round in 0..plan.rounds {
        let (first, last) = (round * pages_each + 1, (round + 1) * pages_each);
        pages.wait_for(|read| *read >= first).await.expect("it serves");
        let whole = async {
            pages.wait_for(|read| *read >= last).await.expect("it serves");
        };
        table.add("the list is read ahead", hit.during(plan, whole).await);
        table.add("alone", hit.during(plan, tokio::time::sleep(plan.round)).await);
        table.add("money is held", hit.during(plan, holds(&hit, plan, &bought)).await);
        table.add("copies are purged", hit.during(plan, purge(&hit, plan)).await);
    }
}

/// Hits while a snapshot is written each second.
async fn snapshots(plan: &Plan, table: &mut Table) {
    let (upstream, mut pages) = Upstream::start(plan.numbers);
    let cache = "snapshot = \"cache.snapshot\"\nsnapshot_interval = \"1s\"";
    let hit = Hit::start(plan, upstream, Particular { sync: true, cache, ..Particular::default() }, None).await;
    let last = (plan.numbers as usize).div_ceil(PAGE);
    pages.wait_for(|read| *read >= last).await.expect("it serves");
    let rounds = u32::try_from(plan.rounds).expect("few rounds");
    table.add("a snapshot is written each second", hit.during(plan, tokio::time::sleep(plan.round * rounds)).await);
}

/// A certificate for localhost with its key, in these files; and who trusts it.
fn certify(directory: &Path) -> (PathBuf, PathBuf, TlsConnector) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
    std::fs::write(&certificate, certified.cert.pem()).expect("writable");
    std::fs::write(&key, certified.signing_key.serialize_pem()).expect("writable");
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).expect("a certificate");
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (certificate, key, TlsConnector::from(Arc::new(config)))
}

/// Hits over TLS alone, and while the files change each second and ten new connections come in it.
async fn certificates(plan: &Plan, table: &mut Table) {
    let (upstream, _) = Upstream::start(1_000);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key, tls) = certify(directory.path());
    let server = format!(r#"tls = {{ certificate = "{}", private_key = "{}" }}"#, certificate.display(), key.display());
    let hit = Hit::start(plan, upstream, Particular { server: &server, ..Particular::default() }, Some(tls)).await;
    let rounds = u32::try_from(plan.rounds).expect("few rounds");
    table.add("alone, over TLS", hit.during(plan, tokio::time::sleep(plan.round * rounds)).await);
    let renewing = async {
        for _ in 0..plan.rounds * 2 {
            // The same bytes, written again: a file that was replaced is read, whatever is in it.
            for file in [&certificate, &key] {
                let bytes = std::fs::read(file).expect("it is there");
                std::fs::write(file, bytes).expect("writable");
            }
            for _ in 0..10 {
                hit.connect().await;
                tokio::time::sleep(plan.round / 20).await;
            }
        }
    };
    table.add("certificates are read again, over TLS", hit.during(plan, renewing).await);
}

async fn run(plan: &Plan) -> io::Result<()> {
    let mut table = Table::default();
    engines(plan, &mut table).await;
    snapshots(plan, &mut table).await;
    certificates(plan, &mut table).await;
    let mut out = io::stdout();
    writeln!(out, "{} connections, a hit each {:?}; {} numbers on the list\n", plan.callers, plan.every, plan.numbers)?;
    writeln!(out, "| Hits while | Hits | a second | p50 ms | p99 ms | p99.9 ms | longest ms |\n|---|---|---|---|---|---|---|")?;
    for (what, rounds) in table.0 {
        let calls = Calls::all(rounds);
        let [middle, p99, p999, longest] = [500, 990, 999, 1000].map(|part| calls.at(part));
        let (count, pace) = (calls.count(), calls.pace());
        writeln!(out, "| {what} | {count} | {pace:.0} | {middle:.2} | {p99:.2} | {p999:.2} | {longest:.2} |")?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(if disk::measures() { &FIGURES } else { &TRIAL }))
}
