//! What slow clients take from fast ones: hits through the real binary, alone and beside connections that dribble or do not read.
//!
//! `cargo bench --bench slow` prints the table of `docs/performance.md`; `cargo test` does one tiny round.

mod disk;
mod load;
mod process;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use load::{Calls, call, connect, get, load};
use process::Gateway;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio::time::interval;

/// Has data from the start.
const HIT: &str = "/v2/reputation/numbers/+16035551234";
/// The longest page of a list there is.
const PAGE: &str = "/v2/reputation/numbers?page%5Bsize%5D=250";

/// Open, with limits beyond the run, so that every slow connection is there for all of it.
const SETTINGS: &str = r#"
[auth]
mode = "open"
[server]
listen = "127.0.0.1:0"
header_timeout = "10m"
body_timeout = "10m"
idle_timeout = "10m"
[admin]
listen = "127.0.0.1:0"
[upstream]
default_enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58"
[cache]
list_ttl = "10m"
ttl_jitter = 0.0
[ledger]
path = ":memory:"
[telemetry]
log = "error"
"#;

/// How much is measured.
struct Plan {
    slow: usize,
    callers: usize,
    rounds: usize,
    calls_each: usize,
}

const FIGURES: Plan = Plan { slow: 1_000, callers: 32, rounds: 7, calls_each: 4_000 };
const TRIAL: Plan = Plan { slow: 9, callers: 2, rounds: 1, calls_each: 10 };

/// Lets every caller read the same copy so often, over a connection of its own.
async fn hits(gateway: &Gateway, plan: &Plan) -> Calls {
    let mut connections = Vec::new();
    for _ in 0..plan.callers {
        connections.push(connect(gateway.address("listen")).await);
    }
    let calls_each = plan.calls_each;
    load(connections, Duration::ZERO, move |_, k| (k < calls_each).then(|| (get(HIT), "hit"))).await
}

/// Connections of three kinds in equal parts, each of which gives or takes a byte a second: heads, bodies, answers that are not read.
async fn slow(address: SocketAddr, count: usize) -> JoinHandle<()> {
    let mut streams = Vec::new();
    for n in 0..count {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a size");
        let mut stream = socket.connect(address).await.expect("it listens");
        let start = match n % 3 {
            0 => "GET / HTTP/1.1\r\nx: ".to_owned(),
            1 => "POST /v2/other HTTP/1.1\r\nhost: gateway\r\ncontent-length: 1000000\r\n\r\n".to_owned(),
            _ => format!("GET {PAGE} HTTP/1.1\r\nhost: gateway\r\n\r\n").repeat(30),
        };
        stream.write_all(start.as_bytes()).await.expect("it reads");
        streams.push(stream);
    }
    tokio::spawn(async move {
        let pause = Duration::from_secs(1) / u32::try_from(count).expect("few connections");
        let (mut turn, mut n) = (interval(pause), 0);
        loop {
            turn.tick().await;
            let stream = &mut streams[n % count];
            if n % count % 3 == 2 {
                stream.read_u8().await.expect("an answer that is not yet taken");
            } else {
                stream.write_all(b"x").await.expect("a connection that is still there");
            }
            n += 1;
        }
    })
}

/// A line of the table: the median of the rounds' paces with the lowest and the highest, and the latencies of all their calls.
fn line(what: &str, rounds: Vec<Calls>) -> (f64, String) {
    let mut paces: Vec<_> = rounds.iter().map(Calls::pace).collect();
    paces.sort_by(f64::total_cmp);
    let (lowest, median, highest) = (paces[0], paces[paces.len() / 2], paces[paces.len() - 1]);
    let calls = Calls::all(rounds);
    let range = format!("{lowest:.0} – {highest:.0}");
    (median, format!("{what:<32} {median:>8.0} {range:>17} {:>8.2} {:>8.2} {:>9}", calls.at(500), calls.at(990), calls.count()))
}

async fn run(plan: &Plan) -> io::Result<()> {
    let gateway = Gateway::start(&["--sandbox=127.0.0.1:0"], SETTINGS);
    let mut first = connect(gateway.address("listen")).await;
    for (path, decision) in [(HIT, "probe"), (PAGE, "passed")] {
        call(&mut first, (get(path), decision)).await;
    }
    hits(&gateway, plan).await;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        alone.push(hits(&gateway, plan).await);
        let dribbling = slow(gateway.address("listen"), plan.slow).await;
        beside.push(hits(&gateway, plan).await);
        assert!(!dribbling.is_finished(), "slow connections were ended within the round");
        dribbling.abort();
    }
    let ((before, alone), (after, beside)) = (line("alone", alone), line(&format!("beside {} slow connections", plan.slow), beside));
    let mut out = io::stdout();
    writeln!(out, "hits, {:>3} callers; p50, p99 in ms  calls/s   lowest, highest      p50      p99     calls", plan.callers)?;
    writeln!(out, "{alone}\n{beside}\nratio {:.0} %", after / before * 100.0)
}

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(if disk::measures() { &FIGURES } else { &TRIAL }))
}
