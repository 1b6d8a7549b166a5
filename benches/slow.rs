//! What slow clients take from fast ones: hits through the real binary, alone and beside connections that dribble or do not read.
//!
//! `cargo bench --bench slow` prints the table of `docs/benchmarks.md`; `cargo test` does one tiny round.

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
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
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

/// A gateway with its sandbox, as a process.
struct Gateway {
    child: Child,
    listen: SocketAddr,
    _directory: TempDir,
}

impl Gateway {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = directory.path().join("gateway.toml");
        std::fs::write(&config, SETTINGS).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_reputation-gateway"));
        command.args(["serve", "--sandbox=127.0.0.1:0", "--config"]).arg(&config).current_dir(directory.path());
        let mut child = command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the gateway starts");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut ready).expect("text");
        let named = ready.split_whitespace().find_map(|word| word.strip_prefix("listen="));
        let listen = named.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("no address in {ready:?}"));
        Self { child, listen, _directory: directory }
    }

    /// Lets every caller read the same copy so often, over a connection of its own: calls a second.
    #[expect(clippy::cast_precision_loss, reason = "counts of calls are small")]
    async fn pace(&self, plan: &Plan) -> f64 {
        let clock = Clock::system();
        let mut connections = Vec::new();
        for _ in 0..plan.callers {
            connections.push(connect(self.listen).await);
        }
        let began = clock.elapsed();
        let mut tasks = JoinSet::new();
        for mut connection in connections {
            let calls = plan.calls_each;
            tasks.spawn(async move {
                for _ in 0..calls {
                    assert_eq!(call(&mut connection, HIT).await, "hit");
                }
            });
        }
        tasks.join_all().await;
        (plan.callers * plan.calls_each) as f64 / clock.elapsed().saturating_sub(began).as_secs_f64()
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

/// The answer's decision.
async fn call(connection: &mut SendRequest<Empty<Bytes>>, path: &str) -> String {
    connection.ready().await.expect("an open connection");
    let request = Request::get(path).header("host", "gateway").body(Empty::new()).expect("a request");
    let (head, body) = connection.send_request(request).await.expect("an answer").into_parts();
    body.collect().await.expect("a whole body");
    assert_eq!(head.status, StatusCode::OK);
    head.headers["x-gateway-decision"].to_str().expect("text").to_owned()
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

async fn run(plan: &Plan) -> io::Result<()> {
    let gateway = Gateway::start();
    let mut first = connect(gateway.listen).await;
    for path in [HIT, PAGE] {
        call(&mut first, path).await;
    }
    gateway.pace(plan).await;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        alone.push(gateway.pace(plan).await);
        let dribbling = slow(gateway.listen, plan.slow).await;
        beside.push(gateway.pace(plan).await);
        assert!(!dribbling.is_finished(), "slow connections were ended within the round");
        dribbling.abort();
    }
    let median = |paces: &mut Vec<f64>| {
        paces.sort_by(f64::total_cmp);
        (paces[paces.len() / 2], paces[0], paces[paces.len() - 1])
    };
    let mut out = io::stdout();
    let ((before, lowest, highest), (after, least, most)) = (median(&mut alone), median(&mut beside));
    writeln!(out, "hits, {} callers               calls/s    lowest, highest", plan.callers)?;
    writeln!(out, "alone                        {before:>9.0} {lowest:>9.0} – {highest:.0}")?;
    writeln!(out, "beside {:>5} slow connections {after:>9.0} {least:>9.0} – {most:.0}", plan.slow)?;
    writeln!(out, "ratio {:.0} %", after / before * 100.0)
}

/// Whether `cargo bench` asks for figures. `cargo test` only wants to see that all works.
fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(if measures() { &FIGURES } else { &TRIAL }))
}
