//! Hits over the loopback from a gateway in this process: their pace with one connection and with 64, and what each takes of the CPU.
//!
//! `cargo bench --bench loopback` prints a table; `cargo test` does one tiny round. The client is one thread, whose own time is told apart.

mod load;

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use load::{Ask, Calls, call, connect, get, load};
use reputation_gateway::app::App;
use reputation_gateway::clock::Clock;
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{self, Sandbox};
use reputation_gateway::server::Server;
use tokio::runtime::Builder;

/// Copies that are hit in turn.
const COPIES: usize = 1_000;

/// Keys are checked and requests counted, as always. The digest is that of "key".
const SETTINGS: &str = r#"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[upstream]
base_url = "http://@UPSTREAM@/v2"
api_key = "upstream"
rate = "1000000/s"
[[caller]]
name = "bench"
key_sha256 = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"
[cache]
ttl_jitter = 0.0
[ledger]
path = ":memory:"
"#;

/// How much is measured: calls of each round, by how many connections, so often.
struct Plan {
    calls: usize,
    connections: [usize; 2],
    rounds: usize,
}

const FIGURES: Plan = Plan { calls: 100_000, connections: [1, 64], rounds: 5 };
const TRIAL: Plan = Plan { calls: 40, connections: [1, 4], rounds: 1 };

fn hit(n: usize, decision: &'static str) -> Ask {
    let path = format!("/v2/enterprises/{}/reputation/numbers/+1{}", sandbox::ENTERPRISE, 2_025_550_000 + n % COPIES);
    let mut request = get(&path);
    request.headers_mut().insert("authorization", http::HeaderValue::from_static("Bearer key"));
    (request, decision)
}

/// Runs a gateway and what is behind it on threads of their own, until this process ends.
fn start() -> SocketAddr {
    let (bound, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let clock = Clock::system();
            let any = "127.0.0.1:0".parse().expect("an address");
            let upstream = Server::bind(any, &Config::default().server).await.expect("a port");
            let settings = SETTINGS.replace("@UPSTREAM@", &upstream.address().to_string());
            let numbers = u32::try_from(COPIES).expect("few");
            let sandbox = Sandbox::new(sandbox::Config { numbers, checked: true, ..sandbox::Config::default() }, clock.clone());
            tokio::spawn(upstream.serve(sandbox, std::future::pending()));
            let app = App::start(&Config::parse(&settings, "bench.toml", []).expect("a configuration"), &clock).await.expect("a gateway");
            bound.send(app.addresses()[0]).expect("it is waited for");
            app.run(std::future::pending()).await;
        });
    });
    address.recv().expect("an address")
}

/// The CPU that a thread of this process has had.
fn cpu_of(stat: &str) -> Duration {
    let stat = fs::read_to_string(stat).unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or_default())
}

/// The CPU that this thread has had, and all others together. One that has ended is not counted.
fn cpu() -> (Duration, Duration) {
    let own = cpu_of("/proc/thread-self/schedstat");
    let threads = fs::read_dir("/proc/self/task").expect("Linux").filter_map(Result::ok);
    let all: Duration = threads.map(|thread| cpu_of(&thread.path().join("schedstat").to_string_lossy())).sum();
    (own, all.saturating_sub(own))
}

/// Calls by so many connections, with the microseconds of CPU that each took: of the client, and of all else.
async fn round(address: SocketAddr, plan: &Plan, count: usize) -> (Calls, [f64; 2]) {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(connect(address).await);
    }
    let each = plan.calls / count;
    let (client, rest) = cpu();
    let calls = load(connections, Duration::ZERO, move |caller, k| (k < each).then(|| hit(caller + k * count, "hit"))).await;
    let after = cpu();
    let taken = [after.0.saturating_sub(client), after.1.saturating_sub(rest)];
    let each = f64::from(u32::try_from(calls.count()).expect("few calls"));
    (calls, taken.map(|taken| taken.as_secs_f64() * 1e6 / each))
}

async fn run(plan: &Plan) -> io::Result<()> {
    let address = start();
    let mut first = connect(address).await;
    for n in 0..COPIES {
        call(&mut first, hit(n, "probe")).await;
    }
    let mut rounds: Vec<_> = plan.connections.into_iter().map(|count| (count, Vec::new(), Vec::new())).collect();
    for _ in 0..plan.rounds {
        for (count, all, taken) in &mut rounds {
            let (calls, cpu) = round(address, plan, *count).await;
            all.push(calls);
            taken.push(cpu);
        }
    }
    let mut out = io::stdout();
    writeln!(
        out,
        "| Connections | hits a second | gateway's CPU, µs a hit | client's CPU, µs a hit | p50 ms | p99 ms |\n|---|---|---|---|---|---|"
    )?;
    for (count, all, mut taken) in rounds {
        let calls = Calls::all(all);
        let mut median = |of: usize| {
            taken.sort_by(|one, other| one[of].total_cmp(&other[of]));
            taken[taken.len() / 2][of]
        };
        let (client, gateway) = (median(0), median(1));
        let (pace, middle, p99) = (calls.pace(), calls.at(500), calls.at(990));
        writeln!(out, "| {count} | {pace:.0} | {gateway:.2} | {client:.2} | {middle:.3} | {p99:.3} |")?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let measures = std::env::args().any(|argument| argument == "--bench");
    runtime.block_on(run(if measures { &FIGURES } else { &TRIAL }))
}
