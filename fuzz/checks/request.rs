//! Raw bytes on a connection, through the whole gateway onto the sandbox: nothing is charged that the ledger does not know, no answer is a
//! fault of the gateway's, and the next connection is answered.
//!
//! Each run has a gateway of its own, so that bytes do the same whatever ran before. Answers in HTTP/2 are not read.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use reputation_gateway::clock::Clock;
use reputation_gateway::config::Config;
use reputation_gateway::gateway::Live;
use reputation_gateway::policy::money::Usd;
use reputation_gateway::sandbox::{self, Sandbox};
use reputation_gateway::server::{self, Server, Service};
use reputation_gateway::spend::books::{Filter, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Everybody may do everything, for ten dollars.
const CONFIG: &str = r#"
[auth]
mode = "open"
allow = ["fresh", "refresh", "associate", "remediation", "enable", "enterprises"]
[upstream]
api_key = "upstream-key"
default_enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58"
rate = "1000000/s"
[fresh]
rate = "1000000/s"
[cache]
ttl_jitter = 0.0
[ledger]
path = ":memory:"
[[budget]]
name = "all-day"
limit = "10.00"
window = "day"
"#;

/// Ends an unfinished head, fills an unfinished body, and is else a request that is refused at once.
const CLOSE: &[u8] = b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// More than any request takes; a connection that the gateway neither answers nor ends is a fault.
const PATIENCE: Duration = Duration::from_secs(20);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

pub(crate) fn check(data: &[u8]) {
    RUNTIME.block_on(async {
        let clock = Clock::manual("2026-03-24T12:00:00Z".parse().expect("a time"));
        let sandbox = Sandbox::new(sandbox::Config { numbers: 20, ..sandbox::Config::default() }, clock.clone());
        let upstream = Listener::start(sandbox.clone()).await;
        let mut config = Config::parse(CONFIG, "request", []).expect("a configuration");
        config.upstream.base_url = format!("http://{}/v2", upstream.address).parse().expect("a URL");
        let live = Live::build(&config, &clock).unwrap_or_else(|error| panic!("{error}"));
        // Opened before the ledger closes, which is in memory.
        let gateway = live.gateway();
        let books = gateway.books().expect("books");
        let callers = Listener::start(live).await;
        statuses(&conversation(callers.address, data).await);
        let next = conversation(callers.address, b"GET /v2/enterprises HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(next.starts_with(b"HTTP/1.1 2") || next.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&next));
        callers.stop().await;
        gateway.close().await;
        upstream.stop().await;
        let rows = books.page(&Filter::default(), None, usize::from(u16::MAX)).expect("rows");
        assert!(rows.iter().all(|row| row.state != State::Held), "a hold has no end: {rows:?}");
        let posted: Usd = rows.iter().map(|row| row.posted).sum();
        assert_eq!(posted, sandbox.charges().total, "posted, and charged: {:?}, {:?}", rows, sandbox.charges());
        assert!(posted <= config.budget[0].limit, "{posted} is more than the budget");
    });
}

/// Something that serves, on a port of its own.
struct Listener {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

impl Listener {
    async fn start<S: Service>(service: S) -> Self {
        let limits = server::Config { drain_timeout: "5s".parse().expect("a time"), ..server::Config::default() };
        let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &limits).await.expect("a free port");
        let (address, stop) = (server.address(), CancellationToken::new());
        let ended = tokio::spawn(server.serve(service, stop.clone().cancelled_owned()));
        Self { address, stop, ended }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.ended.await.expect("the server stops");
    }
}

/// Sends the bytes, then requests to close until the gateway ends the connection, so that none of it waits for more. Returns what it answered.
async fn conversation(address: SocketAddr, data: &[u8]) -> Vec<u8> {
    let (mut from, mut to) = TcpStream::connect(address).await.expect("the gateway listens").into_split();
    let mut answers = Vec::new();
    let send = async {
        // The gateway may have ended the connection before it has read all.
        let mut taken = to.write_all(data).await;
        while taken.is_ok() {
            taken = to.write_all(CLOSE).await;
            tokio::task::yield_now().await;
        }
        std::future::pending::<()>().await;
    };
    let ended = async {
        tokio::select! {
            // Bytes that were not read before the end make the kernel reset the connection.
            _reset = from.read_to_end(&mut answers) => {}
            () = send => {}
        }
    };
    assert!(tokio::time::timeout(PATIENCE, ended).await.is_ok(), "the gateway did not end the connection");
    answers
}

/// Reads the answers one by one, and asserts that none is a server's error but what `only-if-cached` asks for.
fn statuses(mut rest: &[u8]) {
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    while let Some(after) = rest.strip_prefix(b"HTTP/1.") {
        let end = find(after, b"\r\n\r\n").map_or(after.len(), |at| at + 4);
        let head = String::from_utf8_lossy(&after[..end]).into_owned();
        let body = &after[end..];
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
        // Not behind the head of an answer to HEAD.
        let length = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let length = if body.starts_with(b"HTTP/1.") { 0 } else { body.len().min(length) };
        let status = head.split(' ').nth(1).unwrap_or_default();
        let is_wished = field("x-gateway-decision").is_some_and(|decision| decision == "not_in_cache");
        assert!(!status.starts_with('5') || is_wished, "{head}{}", String::from_utf8_lossy(&body[..length]));
        rest = &body[length..];
    }
    assert!(rest.is_empty() || !rest.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(rest));
}
