//! What a `[[route]]` lets pass beside the reputation API, and what it does not.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::harness::process::{Process, text};
use crate::harness::{Ask, ENTERPRISE, Origin, STORED, Wire, World};

const ROUTES: &str = "[[route]]\nmethods = [\"GET\", \"POST\", \"PUT\", \"DELETE\"]\npath = \"/things\"\n\
    [[route]]\nmethods = [\"GET\", \"POST\", \"PATCH\"]\npath = \"/enterprises\"\n";

async fn world() -> (World, Origin) {
    let origin = Origin::start().await;
    (World::before(origin.address, ROUTES, |_| {}).await, origin)
}

/// Long before any limit, since the clock stands still.
async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), event).await.expect("soon")
}

#[tokio::test]
async fn what_no_route_allows_is_refused_with_the_lines_that_would_allow_it() {
    let world = World::new().await;
    let refused = world.ask("/v2/messages/1?x=1").method(Method::POST).body("{}").send().await;
    assert_eq!((refused.outcome(), refused.code().as_str()), ((403, "not_permitted"), "route_not_allowed"));
    let detail = refused.json()["errors"][0]["detail"].as_str().expect("a detail").to_owned();
    let (_, lines) = detail.split_once("[[route]]").expect("the lines");
    assert_eq!(lines, "\nmethods = [\"POST\"]\npath = \"/messages\"");
    let allowed = World::with(&format!("[[route]]{lines}\n"), |_| {}).await;
    let passed = allowed.ask("/v2/messages/1?x=1").method(Method::POST).body("{}").send().await;
    assert_eq!(passed.outcome(), (404, "passed"), "the sandbox has no such path");
    let reputation = world.ask(&format!("/v2/enterprises/{ENTERPRISE}/reputation/history")).send().await;
    assert_eq!((reputation.status.as_u16(), reputation.code().as_str()), (403, "route_not_allowed"));
    assert!(reputation.text().contains("no [[route]] can allow it"), "{}", reputation.text());
    assert_eq!(world.sent(), 0);
}

#[tokio::test]
async fn a_request_passes_with_its_end_to_end_fields_and_so_does_its_answer() {
    let (world, origin) = world().await;
    let answer = world
        .ask("/things/a%2bb/%7Ec?q=a+b&r=%2B&r=2")
        .key("callers-own")
        .header("accept", "text/x")
        .header("cookie", "a=b")
        .header("connection", "x-named")
        .header("x-named", "1")
        .header("x-forwarded-for", "10.0.0.1")
        .header("x-http-method-override", "DELETE")
        .header("x-gateway-trick", "1")
        .header("x-request-id", "mine")
        .header("if-none-match", "\"2\"")
        .send()
        .await;
    assert_eq!((answer.outcome(), answer.text().as_str()), ((200, "passed"), "a thing"));
    assert_eq!((answer.header("x-gateway-billed"), answer.header("x-gateway-cost-usd")), ("unknown", "0.00"));
    assert_eq!(answer.header("cache-status"), "reputation-gateway; fwd=bypass; fwd-status=200; detail=passed");
    assert_eq!((answer.header("x-request-id"), answer.header("etag"), answer.header("x-end")), ("mine", "\"1\"", "1"));
    assert_eq!((answer.header("x-hop"), answer.header("set-cookie")), ("", ""));
    assert_eq!(answer.headers.get_all("via").iter().count(), 2);
    let seen = origin.seen().remove(0);
    assert_eq!(seen.line, "GET /v2/things/a%2Bb/~c?q=a+b&r=%2B&r=2");
    let mut names: Vec<_> = seen.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "authorization", "host", "if-none-match", "via", "x-request-id"]);
    assert_eq!(seen.headers["authorization"], "Bearer upstream-key");
    assert_eq!(seen.headers["x-request-id"], "mine");
    assert_eq!(seen.headers["host"], origin.address.to_string());
}

#[tokio::test]
async fn answers_pass_as_they_are_but_a_refusal_of_the_gateways_own_key() {
    let (world, _origin) = world().await;
    for status in [201_u16, 302, 403, 404, 409, 429, 500, 503] {
        let answer = world.ask(&format!("/things/status/{status}")).send().await;
        assert_eq!((answer.outcome(), answer.text().as_str()), ((status, "passed"), "said so"));
        assert_eq!(answer.header("location"), "/elsewhere");
    }
    let rejected = world.ask("/things/status/401").send().await;
    assert_eq!((rejected.status.as_u16(), rejected.code().as_str()), (502, "upstream_rejected_credentials"));
    let head = world.ask("/things/flood/1000").method(Method::HEAD).send().await;
    assert_eq!((head.outcome(), head.header("content-length"), head.body.len()), ((200, "passed"), "1000", 0));
}

#[tokio::test]
async fn no_trick_leads_by_a_route_to_what_is_metered() {
    let world = World::with(&(ROUTES.to_owned() + crate::harness::BUDGET), |_| {}).await;
    for path in [
        "reputation/numbers/+12025550000",
        "Reputation/numbers/+12025550000",
        "%72eputation/numbers/+12025550000",
        "%2572eputation/numbers/+12025550000",
        "reputation;x=1/numbers/+12025550000",
        "reputation.json",
        "x/..;/reputation/numbers/+12025550000",
        "x%2F..%2Freputation",
        "x/%2e%2e/reputation",
        "x//reputation",
        "..;/reputation",
        "x;y=1",
        "...",
        "x%20",
        "%EF%BD%92eputation/numbers/+12025550000",
        "reputation%09/numbers",
        "v2/enterprises/x/reputation/history",
    ] {
        for method in [Method::POST, Method::PATCH] {
            let path = format!("/v2/enterprises/{ENTERPRISE}/{path}");
            let answer = world.ask(&path).method(method.clone()).header("content-length", "0").send().await;
            assert!([400, 403, 405].contains(&answer.status.as_u16()), "{method} {path}: {}", answer.text());
        }
    }
    for path in ["/ENTERPRISES", "/v2/v2/things", "/thingsx", "/Things", "/things/../enterprises/x/y", "/terms_of_service/x"] {
        assert!([400, 403].contains(&world.ask(path).send().await.status.as_u16()), "{path}");
    }
    assert_eq!((world.sent(), world.charged().as_str()), (0, "0.00"));
}

#[tokio::test]
async fn a_caller_limited_to_enterprises_needs_to_be_named() {
    let key = |key: &[u8]| reputation_gateway::auth::KeyDigest::of(key);
    let callers = format!(
        "[[caller]]\nname = \"free\"\nkey_sha256 = \"{}\"\n\
         [[caller]]\nname = \"limited\"\nkey_sha256 = \"{}\"\nenterprises = [\"{ENTERPRISE}\"]\n\
         [[route]]\nmethods = [\"GET\"]\npath = \"/things\"\n\
         [[route]]\nmethods = [\"GET\"]\npath = \"/named\"\ncallers = [\"limited\"]\n",
        key(b"FREE"),
        key(b"LIMITED")
    );
    let origin = Origin::start().await;
    let keys = |config: &mut reputation_gateway::config::Config| config.auth.mode = reputation_gateway::auth::Mode::Keys;
    let world = World::before(origin.address, &callers, keys).await;
    for (path, key, status, word) in [
        ("/things", "FREE", 200, "a thing"),
        ("/things", "LIMITED", 403, "limited to some enterprises"),
        ("/named", "LIMITED", 200, "a thing"),
        ("/named", "FREE", 403, "for other callers"),
        ("/things", "STRANGER", 401, "does not know this key"),
    ] {
        let answer = world.ask(path).key(key).send().await;
        assert_eq!(answer.status, status, "{path} {key}: {}", answer.text());
        assert!(answer.text().contains(word), "{path} {key}: {}", answer.text());
    }
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn under_forwarded_keys_the_callers_own_key_goes_up_and_its_refusal_comes_down() {
    let origin = Origin::start().await;
    let forward = |config: &mut reputation_gateway::config::Config| config.auth.mode = reputation_gateway::auth::Mode::Forward;
    let world = World::before(origin.address, ROUTES, forward).await;
    let answer = world.ask("/things/status/401").key("KEYOFMINE").send().await;
    assert_eq!((answer.outcome(), answer.text().as_str()), ((401, "passed"), "said so"));
    assert_eq!(origin.seen()[0].headers["authorization"], "Bearer KEYOFMINE");
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways_in_http1() {
    let (world, origin) = world().await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send(
        "POST /things/echo HTTP/1.1\r\nhost: g\r\nte: trailers\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    )
    .await;
    let head = soon(wire.head()).await;
    assert_eq!((head.status, head.field("transfer-encoding")), (200, "chunked"), "before the request has ended");
    assert_eq!(soon(wire.line()).await, "5");
    assert_eq!(wire.line().await, "hello");
    wire.send("1\r\n!\r\n0\r\nx-sum: 6\r\nhost: elsewhere\r\n\r\n").await;
    for line in ["1", "!", "0", "x-sum: 6", ""] {
        assert_eq!(soon(wire.line()).await, line);
    }
    wire.send(format!("GET /v2/reputation/numbers/{STORED}/x HTTP/1.1\r\nhost: g\r\n\r\n")).await;
    assert_eq!(wire.answer().await.status, 403, "the connection is in step");
    assert_eq!(origin.seen()[0].headers["te"], "trailers");
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways_in_http2() {
    let (world, _origin) = world().await;
    let stream = TcpStream::connect(world.gateway).await.expect("the gateway listens");
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let body = Bytes::from((0..200_000_u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>());
    let trailers = [("x-sum", "1"), ("authorization", "Bearer x")];
    let trailers =
        trailers.into_iter().map(|(name, value)| (name.parse::<http::HeaderName>().expect("a name"), value.parse().expect("a value")));
    let sent = Full::new(body.clone()).with_trailers(std::future::ready(Some(Ok(trailers.collect()))));
    let request = Request::post("http://g/v2/things/echo").header("te", "trailers").header("trailer", "x-sum");
    let answer = sender.send_request(request.body(sent).expect("a request")).await.expect("an answer");
    let whole = soon(answer.into_body().collect()).await.expect("a whole body");
    let trailers = whole.trailers().expect("trailers");
    assert_eq!((trailers.len(), trailers["x-sum"].as_bytes()), (1, &b"1"[..]));
    assert_eq!(whole.to_bytes(), body);
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_is_asked_once_the_request_is_on_its_way() {
    let (world, origin) = world().await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send("POST /things/sink HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n").await;
    assert_eq!(soon(wire.head()).await.status, 100);
    wire.send("abc").await;
    assert_eq!(wire.answer().await.body, "all of it");
    assert!(!origin.seen()[0].headers.contains_key("expect"));
    wire.send("POST /other HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n").await;
    assert_eq!(soon(wire.head()).await.status, 100, "what is refused is read to its end, as elsewhere");
}

#[tokio::test]
async fn an_answer_before_the_uploads_end_is_given_and_the_connection_ends() {
    let (world, _origin) = world().await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send("POST /things/early HTTP/1.1\r\nhost: g\r\ncontent-length: 100000000\r\n\r\n0123456789").await;
    let answer = soon(wire.answer()).await;
    assert_eq!((answer.status, answer.body.as_str()), (413, "too much"));
    let piece = vec![b'x'; 64 * 1024];
    soon(async { while wire.takes(&piece).await {} }).await;
}

#[tokio::test]
async fn a_short_upload_that_was_answered_early_is_read_to_its_end() {
    let (world, _origin) = world().await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send("POST /things/early HTTP/1.1\r\nhost: g\r\ncontent-length: 20\r\n\r\n0123456789").await;
    assert_eq!(soon(wire.answer()).await.status, 413);
    wire.send("0123456789GET /things HTTP/1.1\r\nhost: g\r\n\r\n").await;
    assert_eq!(soon(wire.answer()).await.body, "a thing");
}

#[tokio::test]
async fn an_answer_that_is_cut_is_broken_for_its_client_too() {
    let (world, _origin) = world().await;
    for (path, ends) in [("cut", false), ("cut-chunked", false), ("flood/5", true)] {
        let raw = format!("GET /things/{path} HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n");
        let answer = soon(crate::harness::exchange(world.gateway, raw.as_bytes())).await;
        let is_whole = answer.ends_with("\r\n0\r\n\r\n") || answer.contains("content-length: 5\r\n") && answer.ends_with("xxxxx");
        assert!(answer.starts_with("HTTP/1.1 200") && is_whole == ends, "{path}: {answer}");
        let stream = TcpStream::connect(world.gateway).await.expect("the gateway listens");
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = Request::get(format!("http://g/things/{path}")).body(Full::new(Bytes::new())).expect("a request");
        let answer = sender.send_request(request).await.expect("a head");
        assert_eq!(soon(answer.into_body().collect()).await.is_ok(), ends, "{path}");
    }
}

#[tokio::test]
async fn what_stands_still_is_ended_before_the_head_and_after_it() {
    let (world, origin) = world().await;
    let waiting = tokio::spawn(world.ask("/things/never").send());
    origin.until(|counts| counts.requests == 1).await;
    world.turn(Duration::from_secs(5));
    let late = soon(waiting).await.expect("nothing panics");
    assert_eq!((late.outcome(), late.code().as_str()), ((504, "upstream_error"), "upstream_timeout"));
    soon(origin.until(|counts| counts.left == 1)).await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send("GET /things/drip HTTP/1.1\r\nhost: g\r\n\r\n").await;
    assert_eq!(soon(wire.head()).await.status, 200);
    assert_eq!((wire.line().await, wire.line().await), ("5".to_owned(), "12345".to_owned()));
    world.turn(Duration::from_secs(5));
    soon(wire.ended()).await;
    soon(origin.until(|counts| counts.left == 2)).await;
    world.read(STORED).await;
    assert_eq!(origin.counts().requests, 3, "a stream that stands still does not open the breaker");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let (world, origin) = world().await;
    for (requests, path) in [(1, "never"), (2, "drip")] {
        let mut wire = Wire::to(world.gateway).await;
        wire.send(format!("GET /things/{path} HTTP/1.1\r\nhost: g\r\n\r\n")).await;
        origin.until(|counts| counts.requests == requests).await;
        if path == "drip" {
            assert_eq!(soon(wire.head()).await.status, 200);
        }
        drop(wire);
        soon(origin.until(|counts| counts.left == requests)).await;
    }
    let series = "reputation_gateway_requests_total{caller=\"anonymous\",decision=\"abandoned\",operation=\"route\"}";
    soon(async { while world.metric(series).await != "2" {} }).await;
}

#[tokio::test]
async fn streams_have_places_of_their_own() {
    let origin = Origin::start().await;
    let world = World::before(origin.address, ROUTES, |config| config.upstream.max_streams = 1).await;
    let waiting = tokio::spawn(world.ask("/things/never").try_send());
    origin.until(|counts| counts.requests == 1).await;
    let refused = world.ask("/things").method(Method::POST).body("x").send().await;
    assert_eq!((refused.outcome(), refused.code().as_str()), ((503, "overloaded"), "overloaded"));
    world.read(STORED).await;
    assert_eq!(origin.counts().requests, 2, "reputation work is sent");
    waiting.abort();
    soon(origin.until(|counts| counts.left == 1)).await;
    soon(async { while world.ask("/things").send().await.status == 503 {} }).await;
}

#[tokio::test]
async fn a_stream_under_way_is_finished_before_the_gateway_stops() {
    let (mut world, origin) = world().await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send("POST /things/echo HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await;
    assert_eq!(soon(wire.head()).await.status, 200);
    origin.until(|counts| counts.taken == 1).await;
    world.begin_stop();
    while Ask::new(world.admin, "/readyz").send().await.status == 200 {}
    wire.send("1\r\nb\r\n0\r\n\r\n").await;
    for line in ["1", "a", "1", "b", "0", ""] {
        assert_eq!(soon(wire.line()).await, line);
    }
    soon(world.stop()).await;
}

/// The binary itself before an origin, in open mode.
fn process(origin: &Origin, directory: &tempfile::TempDir, upstream: &str) -> Process {
    let settings = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"open\"\n[upstream]\napi_key = \"k\"\n\
         base_url = \"http://{}/v2\"\n{upstream}\n[ledger]\npath = \":memory:\"\n{ROUTES}",
        origin.address
    );
    let path = directory.path().join("gateway.toml");
    std::fs::write(&path, settings).expect("written");
    Process::start(&["serve", "--config", text(&path)])
}

/// The most memory that a process ever had, in KiB.
fn peak(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

const GIB: usize = 1024 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_each_way_leaves_memory_flat() {
    let (origin, directory) = (Origin::start().await, tempfile::tempdir().expect("a temporary directory"));
    let gateway = process(&origin, &directory, "");
    let listen = gateway.address("listen");
    assert_eq!(Ask::new(listen, "/things/flood/1000000").send().await.body.len(), 1_000_000);
    let before = peak(&gateway);
    let mut wire = Wire::to(listen).await;
    wire.send(format!("GET /things/flood/{GIB} HTTP/1.1\r\nhost: g\r\n\r\n")).await;
    assert_eq!(wire.head().await.field("content-length"), GIB.to_string());
    wire.skip(GIB).await;
    wire.send(format!("POST /things/sink HTTP/1.1\r\nhost: g\r\ncontent-length: {GIB}\r\n\r\n")).await;
    let piece = vec![b'x'; 256 * 1024];
    for _ in 0..GIB / piece.len() {
        wire.send(&piece).await;
    }
    assert_eq!(wire.answer().await.body, "all of it");
    assert_eq!((origin.counts().given, origin.counts().taken), (GIB + 1_000_000, GIB));
    let growth = peak(&gateway) - before;
    assert!(growth < 24 * 1024, "memory grew by {growth} KiB");
}

/// What the kernel keeps on the way, at most, with room to spare; a gateway that kept the rest would have all of the gibibyte.
const ON_THE_WAY: usize = 64 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_read_stops_whoever_writes() {
    let (origin, directory) = (Origin::start().await, tempfile::tempdir().expect("a temporary directory"));
    let gateway = process(&origin, &directory, "timeout = \"1s\"");
    let mut slow = Wire::to(gateway.address("listen")).await;
    slow.send(format!("GET /things/flood/{GIB} HTTP/1.1\r\nhost: g\r\n\r\n")).await;
    assert_eq!(slow.head().await.status, 200);
    let counts = origin.until(|counts| counts.left == 1).await;
    assert!(counts.given < ON_THE_WAY, "{} bytes were read for a client that reads none", counts.given);
    let mut uploading = Wire::to(gateway.address("listen")).await;
    uploading.send(format!("POST /things/hold HTTP/1.1\r\nhost: g\r\ncontent-length: {GIB}\r\n\r\n")).await;
    let (piece, mut taken) = (vec![b'x'; 64 * 1024], 0);
    let answered = loop {
        match uploading.status_or_taken(&piece).await {
            None => taken += piece.len(),
            Some(status) => break status,
        }
    };
    assert!(answered == 504 && taken < ON_THE_WAY, "{answered} after {taken} bytes for an upstream that reads none");
}
