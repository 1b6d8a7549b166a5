//! What a hold adds to a call: purchases through the real binary and its sandbox, beside calls that hold nothing.
//!
//! `cargo bench --bench holds` prints the table of `docs/benchmarks.md`; `cargo test` does one tiny round and asserts that every
//! purchase was billed, once.

mod disk;

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use reputation_gateway::clock::Clock;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How many numbers the sandbox has that were never checked.
const NUMBERS: usize = 1000;

/// Open, generous, with rates that never bind, and a place upstream for every caller. One number may be bought again and again.
const SETTINGS: &str = r#"
[auth]
mode = "open"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[upstream]
default_enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58"
rate = "1000000/s"
max_in_flight = 512
[fresh]
rate = "1000000/s"
min_age = "0s"
[cache]
ttl_jitter = 0.0
[[budget]]
name = "million"
limit = "1000000.00"
window = "month"
[telemetry]
log = "error"
"#;

/// How much is measured.
struct Plan {
    callers: &'static [usize],
    /// Each is measured so often, in turn with the other kinds of load.
    rounds: usize,
    /// The fewest calls of a round, and the fewest of one caller in it.
    calls: usize,
    calls_each: usize,
}

const FIGURES: Plan = Plan { callers: &[1, 32, 256], rounds: 5, calls: 400, calls_each: 16 };
const TRIAL: Plan = Plan { callers: &[4], rounds: 1, calls: 8, calls_each: 2 };

/// What callers ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// A copy from memory: no hold, nothing upstream.
    Hit,
    /// A free look upstream: one exchange, as a purchase has, and no hold.
    Look,
    /// A billed call under a hold.
    Purchase,
}

impl Load {
    const ALL: [Self; 3] = [Self::Hit, Self::Look, Self::Purchase];

    fn request(self, number: &str) -> Request<Empty<Bytes>> {
        let query = if self == Self::Purchase { "?fresh=true" } else { "" };
        let mut request = Request::get(format!("/v2/reputation/numbers/{number}{query}")).header("host", "gateway");
        if self == Self::Look {
            request = request.header("cache-control", "no-cache");
        }
        request.body(Empty::new()).expect("a request")
    }

    fn decision(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Look => "revalidated",
            Self::Purchase => "billed",
        }
    }
}

/// A gateway with its sandbox, as a process.
struct Gateway {
    child: Child,
    listen: SocketAddr,
    admin: SocketAddr,
    sandbox: SocketAddr,
    directory: TempDir,
}

impl Gateway {
    /// Starts one whose ledger is this file in a directory of its own, or `:memory:`.
    fn start(ledger: &str) -> Self {
        let directory = disk::directory();
        let config = directory.path().join("gateway.toml");
        std::fs::write(&config, format!("{SETTINGS}[ledger]\npath = \"{ledger}\"\n")).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_reputation-gateway"));
        command.args(["serve", "--sandbox=127.0.0.1:0", "--config"]).arg(&config).current_dir(directory.path());
        let mut child = command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the gateway starts");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut ready).expect("text");
        let address = |name: &str| {
            let named = ready.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            named.unwrap_or_else(|| panic!("no {name} in {ready:?}")).parse().expect("an address")
        };
        Self { listen: address("listen"), admin: address("admin"), sandbox: address("sandbox"), child, directory }
    }

    /// How often its ledger has committed.
    async fn commits(&self) -> usize {
        let scrape = text(self.admin, "/metrics").await;
        let count = scrape.lines().find_map(|line| line.strip_prefix("reputation_gateway_ledger_commit_seconds_count "));
        count.and_then(|count| count.parse().ok()).expect("the count of commits")
    }

    /// How many calls the sandbox has charged.
    async fn charged(&self) -> u64 {
        let charges: Value = serde_json::from_str(&text(self.sandbox, "/sandbox/charges").await).expect("JSON");
        charges["count"].as_u64().expect("a count")
    }

    /// Buys every number once, so that there are copies to hit.
    async fn stock(&self) {
        self.round(Load::Purchase, 20, NUMBERS / 20).await;
    }

    /// Lets every caller make so many calls, one after the other, over a connection and for numbers of its own.
    async fn round(&self, load: Load, callers: usize, calls_each: usize) -> Round {
        let clock = Clock::system();
        let mut connections = Vec::new();
        for _ in 0..callers {
            connections.push(connect(self.listen).await);
        }
        let commits = self.commits().await;
        let began = clock.elapsed();
        let mut tasks = JoinSet::new();
        for (caller, mut connection) in connections.into_iter().enumerate() {
            let clock = clock.clone();
            tasks.spawn(async move {
                let mut latencies = Vec::with_capacity(calls_each);
                for number in (caller..NUMBERS).step_by(callers).cycle().take(calls_each) {
                    let began = clock.elapsed();
                    call(&mut connection, load, number).await;
                    latencies.push(clock.elapsed().saturating_sub(began));
                }
                latencies
            });
        }
        let latencies = tasks.join_all().await.concat();
        let took = clock.elapsed().saturating_sub(began);
        Round { took, latencies, commits: self.commits().await - commits }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Either fails if it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

async fn connect(address: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a connection");
    let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    sender
}

async fn call(connection: &mut SendRequest<Empty<Bytes>>, load: Load, number: usize) {
    connection.ready().await.expect("an open connection");
    let answer = connection.send_request(load.request(&format!("+1202555{number:04}"))).await.expect("an answer");
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    let decision = head.headers.get("x-gateway-decision").map(|value| value.to_str().expect("text"));
    assert_eq!((head.status, decision), (StatusCode::OK, Some(load.decision())), "{body:?}");
}

async fn text(address: SocketAddr, path: &str) -> String {
    let request = Request::get(path).header("host", address.to_string()).body(Empty::new()).expect("a request");
    let answer = connect(address).await.send_request(request).await.expect("an answer");
    let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

/// What one round showed.
struct Round {
    took: Duration,
    latencies: Vec<Duration>,
    commits: usize,
}

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "counts of calls are small")]
    fn pace(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }
}

/// A line of the table: the median of the rounds' paces with the lowest and the highest, the latencies of all their calls, and
/// commits per call.
#[expect(clippy::cast_precision_loss, reason = "counts of calls are small")]
fn line(what: &str, callers: usize, rounds: &[Round]) -> String {
    let mut paces: Vec<_> = rounds.iter().map(Round::pace).collect();
    paces.sort_by(f64::total_cmp);
    let mut latencies = rounds.iter().flat_map(|round| &round.latencies).copied().collect::<Vec<_>>();
    latencies.sort();
    let at = |percent: usize| latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)].as_secs_f64() * 1e3;
    let commits = rounds.iter().map(|round| round.commits).sum::<usize>() as f64 / latencies.len() as f64;
    let (lowest, median, highest) = (paces[0], paces[paces.len() / 2], paces[paces.len() - 1]);
    let range = format!("{lowest:.0} – {highest:.0}");
    format!("{what:<22} {callers:>7} {median:>8.0} {range:>17} {:>8.2} {:>8.2} {commits:>13.3}\n", at(50), at(99))
}

/// Every kind of load by so many callers, in turns, so that a slow moment of the machine meets all of them.
async fn compare(durable: &Gateway, fleeting: &Gateway, plan: &Plan, callers: usize) -> String {
    let calls_each = plan.calls_each.max(plan.calls / callers);
    let kinds = Load::ALL.map(|load| (durable, load)).into_iter().chain([(fleeting, Load::Purchase)]);
    let names = ["hit", "look upstream", "purchase", "purchase, :memory:"];
    let mut kinds: Vec<_> = names.into_iter().zip(kinds).map(|(name, (gateway, load))| (name, gateway, load, Vec::new())).collect();
    for round in 0..=plan.rounds {
        for (_, gateway, load, rounds) in &mut kinds {
            let shown = gateway.round(*load, callers, calls_each).await;
            // The first one opens the connections upstream.
            rounds.extend((round > 0).then_some(shown));
        }
    }
    kinds.iter().map(|(name, _, _, rounds)| line(name, callers, rounds)).collect()
}

async fn run(plan: &Plan) -> io::Result<()> {
    let mut out = io::stdout();
    let (durable, fleeting) = (Gateway::start("ledger.sqlite"), Gateway::start(":memory:"));
    durable.stock().await;
    fleeting.stock().await;
    writeln!(out, "The ledger is on {}. Latencies are in milliseconds.\n", disk::filesystem(durable.directory.path()))?;
    writeln!(out, "load                   callers  calls/s    lowest, highest      p50      p99  commits/call")?;
    let mut bought = NUMBERS;
    for &callers in plan.callers {
        write!(out, "{}", compare(&durable, &fleeting, plan, callers).await)?;
        bought += (plan.rounds + 1) * callers * plan.calls_each.max(plan.calls / callers);
    }
    for gateway in [durable, fleeting] {
        assert_eq!(gateway.charged().await, bought as u64, "every purchase is charged, once");
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(if disk::measures() { &FIGURES } else { &TRIAL }))
}
