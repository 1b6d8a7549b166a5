//! What a hit costs, piece by piece and whole: its time, and how often it allocates.
//!
//! `cargo bench --bench hit` prints both; `cargo test` does each once. The whole hit goes through a pipe in memory, so that no socket is in
//! its time, with hyper alone beside it; its allocations are counted where the gateway serves it, over a socket. `pure` has the pieces that
//! need no engine.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hint::black_box;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use criterion::Criterion;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use reputation_gateway::auth::Auth;
use reputation_gateway::cache::{Cache, Content, Key};
use reputation_gateway::clock::Clock;
use reputation_gateway::config::Config;
use reputation_gateway::gateway::Live;
use reputation_gateway::policy::entitlement::Partition;
use reputation_gateway::sandbox::{self, Sandbox};
use reputation_gateway::server::{self, Server};
use reputation_gateway::telnyx::record::Reputation;
use reputation_gateway::telnyx::{PhoneNumber, route};
use reputation_gateway::wire::body::BoxError;
use reputation_gateway::wire::directives::Directives;
use reputation_gateway::wire::target::Target;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

/// Copies that are hit in turn.
const COPIES: usize = 1_000;
/// As long as the sandbox's records.
const BODY: usize = 494;
/// Keys are checked and requests counted, as always. The digest is that of "key".
const SETTINGS: &str = r#"
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

fn configured(upstream: SocketAddr) -> Config {
    Config::parse(&SETTINGS.replace("@UPSTREAM@", &upstream.to_string()), "bench.toml", []).expect("a configuration")
}

fn path(n: usize) -> String {
    format!("/v2/enterprises/{}/reputation/numbers/+1{}", sandbox::ENTERPRISE, 2_025_550_000 + n % COPIES)
}

/// What a client sends for the `n`th copy.
fn request(n: usize) -> Vec<u8> {
    format!("GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\nAuthorization: Bearer key\r\n\r\n", path(n)).into_bytes()
}

/// Sends a request and takes its answer, and allocates nothing.
async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &[u8]) {
    stream.write_all(request).await.expect("it reads");
    let (mut answer, mut length) = ([0; 4096], 0);
    loop {
        length += stream.read(&mut answer[length..]).await.expect("an answer");
        let text = std::str::from_utf8(&answer[..length]).expect("text");
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let field = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            if body.len() >= field.parse().expect("a number") {
                assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
                return;
            }
        }
    }
}

/// A gateway on this thread's runtime that has every copy, and where it listens.
async fn gateway() -> (Live, SocketAddr) {
    let clock = Clock::system();
    let any = "127.0.0.1:0".parse().expect("an address");
    let upstream = Server::bind(any, &server::Config::default()).await.expect("a port");
    let config = configured(upstream.address());
    let numbers = u32::try_from(COPIES).expect("few");
    let sandbox = Sandbox::new(sandbox::Config { numbers, checked: true, ..sandbox::Config::default() }, clock.clone());
    tokio::spawn(upstream.serve(sandbox, std::future::pending()));
    let (gateway, server) = (Live::build(&config, &clock).expect("a gateway"), Server::bind(any, &config.server).await.expect("a port"));
    let address = server.address();
    tokio::spawn(server.serve(gateway.clone(), std::future::pending()));
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    for n in 0..COPIES {
        exchange(&mut stream, &request(n)).await;
    }
    (gateway, address)
}

/// A piece of a hit, by name.
type Piece<'a> = (&'static str, Box<dyn FnMut() + 'a>);

/// What a hit asks of the engines.
fn engines() -> Vec<Piece<'static>> {
    let config = configured("127.0.0.1:9".parse().expect("an address"));
    let (auth, clock) = (Auth::new(&config.auth, &config.caller), Clock::system());
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer key".parse().expect("a value"));
    headers.insert("accept", "application/json".parse().expect("a value"));
    let wishes = headers.clone();
    let uri: Uri = path(0).parse().expect("a URI");
    let key = |uri: &Uri| {
        let target = Target::parse(uri).expect("a target");
        let route = route(&Method::GET, &target.segments).expect("a route");
        let number = route.number.map(PhoneNumber::from_segment).expect("a number").expect("E.164");
        Key { partition: Partition::SHARED, enterprise: route.enterprise.expect("one").parse().expect("a UUID"), number }
    };
    let cache = Cache::new(&config.cache, HashMap::new(), Arc::new(|_| {}));
    let keys: Vec<Key> = (0..COPIES).map(|n| key(&path(n).parse().expect("a URI"))).collect();
    for key in &keys {
        let content = Content::record(Reputation::Stored(None), Bytes::from(vec![b'x'; BODY]), None);
        cache.keep(&cache.entry(key, content, clock.elapsed(), clock.elapsed()));
    }
    let mut keys = keys.into_iter().cycle();
    let mut lookup = move || black_box(cache.get(&keys.next().expect("endless"))).is_some();
    vec![
        ("who is calling", Box::new(move || assert!(black_box(auth.identify(black_box(&headers))).is_ok()))),
        ("what it wishes", Box::new(move || assert!(!black_box(Directives::parse(black_box(&wishes))).no_store))),
        ("the key, from the path", Box::new(move || assert_eq!(black_box(key(black_box(&uri))).partition, Partition::SHARED))),
        ("the lookup", Box::new(move || assert!(lookup()))),
    ]
}

/// Where the connections of pipes are served, and their clients wait: this thread.
struct Place {
    runtime: Runtime,
    tasks: LocalSet,
}

impl Place {
    /// The client's end of a pipe in memory, at whose other end hyper asks `service`.
    fn pipe<S, B>(&self, service: S) -> DuplexStream
    where
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let (near, far) = tokio::io::duplex(64 * 1024);
        self.tasks.spawn_local(http1::Builder::new().serve_connection(TokioIo::new(far), service));
        near
    }

    /// Asks for one copy after the other.
    fn asks<'a>(&'a self, mut stream: impl AsyncRead + AsyncWrite + Unpin + 'a) -> Box<dyn FnMut() + 'a> {
        let (requests, mut n) = ((0..COPIES).map(request).collect::<Vec<_>>(), 0);
        Box::new(move || {
            n += 1;
            self.tasks.block_on(&self.runtime, exchange(&mut stream, &requests[n % COPIES]));
        })
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let place = Place { runtime, tasks: LocalSet::new() };
    let (gateway, address) = place.runtime.block_on(gateway());
    let body = Bytes::from(vec![b'x'; BODY]);
    let fixed = service_fn(move |_| std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(body.clone())))));
    let hit = service_fn(move |request| {
        let gateway = gateway.clone();
        async move { server::Service::call(&gateway, request).await }
    });
    let mut pieces = engines();
    pieces.push(("hyper alone, through a pipe", place.asks(place.pipe(fixed))));
    pieces.push(("the long way to a hit, through a pipe", place.asks(place.pipe(hit))));
    let mut criterion = Criterion::default().configure_from_args();
    for (name, piece) in &mut pieces {
        criterion.bench_function(name, |b| b.iter(&mut *piece));
    }
    criterion.final_summary();

    let stream = place.runtime.block_on(TcpStream::connect(address)).expect("it listens");
    pieces.push(("a hit, as it is served", place.asks(stream)));
    let counted: u64 = if std::env::args().any(|argument| argument == "--bench") { 10_000 } else { 100 };
    let mut out = std::io::stdout();
    writeln!(out, "| A hit's | allocations | bytes |\n|---|---|---|").expect("standard output");
    for (name, piece) in &mut pieces {
        piece();
        let info = allocation_counter::measure(|| (0..counted).for_each(|_| piece()));
        let each = |count: u64| format!("{}.{:02}", count / counted, count % counted * 100 / counted);
        writeln!(out, "| {name} | {} | {} |", each(info.count_total), each(info.bytes_total)).expect("standard output");
    }
}
