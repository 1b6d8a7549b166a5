//! What a hold adds to a call: purchases through the real binary and its sandbox, beside calls that hold nothing.
//!
//! `cargo bench --bench holds` prints the table of `docs/benchmarks.md`; `cargo test` does one tiny round and asserts that every
//! purchase was billed, once.

mod disk;
mod load;
mod process;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use load::{Ask, Calls, connect, load};
use process::Gateway;
use serde_json::Value;

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

    fn ask(self, number: usize) -> Ask {
        let query = if self == Self::Purchase { "?fresh=true" } else { "" };
        let mut request = load::get(&format!("/v2/reputation/numbers/+1202555{number:04}{query}"));
        if self == Self::Look {
            request.headers_mut().insert("cache-control", http::HeaderValue::from_static("no-cache"));
        }
        (request, self.decision())
    }

    fn decision(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Look => "revalidated",
            Self::Purchase => "billed",
        }
    }
}

/// Starts a gateway whose ledger is this file in a directory of its own, or `:memory:`, and buys every number once, so that there are
/// copies to hit.
async fn stocked(ledger: &str) -> Gateway {
    let gateway = Gateway::start(&["--sandbox=127.0.0.1:0"], &format!("{SETTINGS}[ledger]\npath = \"{ledger}\"\n"));
    round(&gateway, Load::Purchase, 20, NUMBERS / 20).await;
    gateway
}

/// How often its ledger has committed.
async fn commits(gateway: &Gateway) -> usize {
    let scrape = text(gateway.address("admin"), "/metrics").await;
    let count = scrape.lines().find_map(|line| line.strip_prefix("reputation_gateway_ledger_commit_seconds_count "));
    count.and_then(|count| count.parse().ok()).expect("the count of commits")
}

/// How many calls the sandbox has charged.
async fn charged(gateway: &Gateway) -> u64 {
    let charges: Value = serde_json::from_str(&text(gateway.address("sandbox"), "/sandbox/charges").await).expect("JSON");
    charges["count"].as_u64().expect("a count")
}

/// Lets every caller make so many calls, one after the other, over a connection and for numbers of its own.
async fn round(gateway: &Gateway, kind: Load, callers: usize, calls_each: usize) -> Round {
    let mut connections = Vec::new();
    for _ in 0..callers {
        connections.push(connect(gateway.address("listen")).await);
    }
    let before = commits(gateway).await;
    let number = move |caller, k| (caller + k * callers) % NUMBERS;
    let calls = load(connections, Duration::ZERO, move |caller, k| (k < calls_each).then(|| kind.ask(number(caller, k)))).await;
    Round { calls, commits: commits(gateway).await - before }
}

async fn text(address: SocketAddr, path: &str) -> String {
    let request = Request::get(path).header("host", address.to_string()).body(Empty::<Bytes>::new()).expect("a request");
    let answer = connect(address).await.send_request(request).await.expect("an answer");
    let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

/// What one round showed.
struct Round {
    calls: Calls,
    commits: usize,
}

/// A line of the table: the median of the rounds' paces with the lowest and the highest, the latencies of all their calls, and
/// commits per call.
#[expect(clippy::cast_precision_loss, reason = "counts of calls are small")]
fn line(what: &str, callers: usize, rounds: Vec<Round>) -> String {
    let mut paces: Vec<_> = rounds.iter().map(|round| round.calls.pace()).collect();
    paces.sort_by(f64::total_cmp);
    let commits = rounds.iter().map(|round| round.commits).sum::<usize>() as f64;
    let calls = Calls::all(rounds.into_iter().map(|round| round.calls));
    let (lowest, median, highest) = (paces[0], paces[paces.len() / 2], paces[paces.len() - 1]);
    let (range, commits) = (format!("{lowest:.0} – {highest:.0}"), commits / calls.count() as f64);
    format!("{what:<22} {callers:>7} {median:>8.0} {range:>17} {:>8.2} {:>8.2} {commits:>13.3}\n", calls.at(500), calls.at(990))
}

/// Every kind of load by so many callers, in turns, so that a slow moment of the machine meets all of them.
async fn compare(durable: &Gateway, fleeting: &Gateway, plan: &Plan, callers: usize) -> String {
    let calls_each = plan.calls_each.max(plan.calls / callers);
    let kinds = Load::ALL.map(|load| (durable, load)).into_iter().chain([(fleeting, Load::Purchase)]);
    let names = ["hit", "look upstream", "purchase", "purchase, :memory:"];
    let mut kinds: Vec<_> = names.into_iter().zip(kinds).map(|(name, (gateway, load))| (name, gateway, load, Vec::new())).collect();
    for turn in 0..=plan.rounds {
        for (_, gateway, load, rounds) in &mut kinds {
            let shown = round(gateway, *load, callers, calls_each).await;
            // The first one opens the connections upstream.
            rounds.extend((turn > 0).then_some(shown));
        }
    }
    kinds.into_iter().map(|(name, _, _, rounds)| line(name, callers, rounds)).collect()
}

async fn run(plan: &Plan) -> io::Result<()> {
    let mut out = io::stdout();
    let (durable, fleeting) = (stocked("ledger.sqlite").await, stocked(":memory:").await);
    writeln!(out, "The ledger is on {}. Latencies are in milliseconds.\n", disk::filesystem(Path::new(env!("CARGO_TARGET_TMPDIR"))))?;
    writeln!(out, "load                   callers  calls/s    lowest, highest      p50      p99  commits/call")?;
    let mut bought = NUMBERS;
    for &callers in plan.callers {
        write!(out, "{}", compare(&durable, &fleeting, plan, callers).await)?;
        bought += (plan.rounds + 1) * callers * plan.calls_each.max(plan.calls / callers);
    }
    for gateway in [durable, fleeting] {
        assert_eq!(charged(&gateway).await, bought as u64, "every purchase is charged, once");
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(if disk::measures() { &FIGURES } else { &TRIAL }))
}
