//! Requests that are answered before the parser, among such that are not: nobody can tell which is which, and none overtakes another.

use std::collections::BTreeMap;

use http::Method;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::callers::{caller, keys};
use crate::harness::{ABSENT, ENTERPRISE, Raw, STORED, Wire, World, unchecked};

/// A field that changes nothing, and that only the parser takes.
const PARSED: &str = "te: trailers\r\n";

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n{fields}\r\n")
}

fn stored() -> String {
    format!("/v2/reputation/numbers/{STORED}")
}

/// A gateway that has a copy of the number at hand.
async fn warm() -> World {
    let world = World::new().await;
    assert_eq!(world.read(STORED).await.outcome(), (200, "probe"));
    world
}

/// An answer's fields and body, without what is different with each answer.
fn comparable(raw: &Raw) -> (u16, BTreeMap<String, Vec<String>>, String) {
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in raw.head.lines().skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("a field");
        let value = if ["date", "x-request-id"].contains(&name) { format!("{} bytes", value.len()) } else { value.to_owned() };
        fields.entry(name.to_owned()).or_default().push(value);
    }
    (raw.status, fields, raw.body.clone())
}

#[tokio::test]
async fn an_answer_is_the_same_on_either_way() {
    let world = warm().await;
    let missing = format!("/v2/reputation/numbers/{ABSENT}");
    world.ask(&missing).send().await;
    let scoped = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/{STORED}");
    let paths = [
        stored(),
        stored().replace("/v2", ""),
        stored().replace('+', "%2B"),
        scoped.replace(ENTERPRISE, &ENTERPRISE.to_uppercase()),
        scoped,
        missing,
    ];
    let wishes =
        ["", "cache-control: max-age=3600\r\n", "cache-control: no-cache\r\n", "x-request-id: mine-1\r\n", "accept: text/html\r\n"];
    let mut wire = Wire::to(world.gateway).await;
    for (path, fields) in paths.iter().flat_map(|path| wishes.map(|fields| (path, fields))) {
        let mut ways = Vec::new();
        for way in ["", PARSED] {
            wire.send(get(path, &format!("{fields}{way}"))).await;
            ways.push(comparable(&wire.answer().await));
        }
        assert_eq!(ways[0], ways[1], "{path} {fields}");
    }
    wire.send(get(&stored(), "x-request-id: mine-2\r\n")).await;
    assert_eq!(wire.answer().await.field("x-request-id"), "mine-2");
}

#[tokio::test]
async fn answers_come_in_the_order_of_their_requests_however_they_arrive() {
    let world = warm().await;
    // What each kind of request is answered with.
    let kinds: [(String, u16); 6] = [
        (get(&stored(), ""), 200),
        (get(&stored(), PARSED), 200),
        (get(&stored(), "authorization: Bearer another\r\n"), 200),
        (get("/v2/reputation/numbers/no-number", ""), 400),
        (format!("POST {} HTTP/1.1\r\nhost: gateway\r\ncontent-length: 2\r\n\r\nab", stored()), 405),
        (format!("\r\nPUT {} HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n\r\n1\r\nG\r\n0\r\n\r\n", stored()), 405),
    ];
    let orders = prop::collection::vec((0..kinds.len(), prop::sample::select(vec![1_usize, 7, 64, 4096])), 1..30);
    let mut runner = TestRunner::deterministic();
    for _ in 0..60 {
        let order = orders.new_tree(&mut runner).expect("a tree").current();
        let mut wire = Wire::to(world.gateway).await;
        let bytes: Vec<u8> = order.iter().enumerate().flat_map(|(nth, (kind, _))| numbered(&kinds[*kind].0, nth)).collect();
        let mut rest = &bytes[..];
        for (_, cut) in order.iter().cycle() {
            let (part, behind) = rest.split_at((*cut).min(rest.len()));
            wire.send(part).await;
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        for (nth, (kind, _)) in order.iter().enumerate() {
            let answer = wire.answer().await;
            assert_eq!((answer.status, answer.field("x-request-id")), (kinds[*kind].1, &*format!("nth-{nth}")), "{order:?}");
        }
    }
    assert_eq!(world.charged(), "0.00");
}

/// The request with an id of its own, so that its answer can be told.
fn numbered(request: &str, nth: usize) -> Vec<u8> {
    request.replacen("host: gateway\r\n", &format!("host: gateway\r\nx-request-id: nth-{nth}\r\n"), 1).into_bytes()
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_given_no_more() {
    const REQUESTS: usize = 20_000;
    let world = warm().await;
    let (mut reader, mut writer) = tokio::net::TcpStream::connect(world.gateway).await.expect("the gateway listens").into_split();
    let sent = tokio::spawn(async move {
        let requests = get(&stored(), "").repeat(REQUESTS);
        writer.write_all(requests.as_bytes()).await.expect("all is taken in the end");
        writer
    });
    // Both sides' kernels hold a few MiB at most; 20,000 answers are 20 MB.
    let hits = || world.metric(r#"reputation_gateway_requests_total{caller="anonymous",decision="hit",operation="retrieve"}"#);
    let mut seen = String::new();
    loop {
        let now = hits().await;
        if now == seen && now != "0" {
            break;
        }
        seen = now;
        tokio::task::yield_now().await;
    }
    assert!(seen.parse::<usize>().expect("a count") < REQUESTS, "{seen} answers wait for a client that takes none");
    let (mut answers, mut buffer) = (0, Vec::new());
    let mut part = vec![0; 64 * 1024];
    while answers < REQUESTS {
        let read = reader.read(&mut part).await.expect("the connection stands");
        assert!(read > 0, "the connection ended after {answers} answers");
        buffer.extend_from_slice(&part[..read]);
        let whole = buffer.windows(4).rposition(|end| end == b"\r\n\r\n").map_or(0, |at| at + 4);
        answers += String::from_utf8_lossy(&buffer[..whole]).matches("HTTP/1.1 200 OK").count();
        buffer.drain(..whole);
    }
    assert_eq!(answers, REQUESTS);
    drop(sent.await.expect("nothing panics"));
}

#[tokio::test]
async fn another_key_on_the_same_connection_is_another_caller() {
    const KEY: &str = "key-of-dialer";
    let world = World::with(&caller("dialer", ""), keys).await;
    let mut wire = Wire::to(world.gateway).await;
    let with = |key: &str| get(&stored(), &format!("authorization: Bearer {key}\r\n"));
    for (key, status) in [(KEY, 200), (KEY, 200), ("key-of-nobody", 401), (KEY, 200), ("", 401), (KEY, 200)] {
        wire.send(with(key)).await;
        assert_eq!(wire.answer().await.status, status, "{key:?}");
    }
    wire.send(get(&stored(), "")).await;
    assert_eq!(wire.answer().await.status, 401, "no key at all");
}

/// The gateway and its client are on this thread, and the client's part allocates nothing.
#[test]
fn a_hit_allocates_nothing() {
    const HITS: usize = 100;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let world = runtime.block_on(World::with(&caller("dialer", ""), keys));
    let request = get(&stored(), "accept: application/json\r\nauthorization: Bearer key-of-dialer\r\n");
    let mut stream = runtime.block_on(tokio::net::TcpStream::connect(world.gateway)).expect("the gateway listens");
    let mut answer = vec![0; 4096];
    let mut hits = async |count: usize| {
        for _ in 0..count {
            stream.write_all(request.as_bytes()).await.expect("the gateway reads");
            let length = stream.read(&mut answer).await.expect("the gateway answers");
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer[..length].ends_with(b"}"), "a whole answer in one piece");
        }
    };
    // The first is fetched, and the second makes what the connection and the thread keep.
    runtime.block_on(hits(2));
    let counted = allocation_counter::measure(|| runtime.block_on(hits(HITS)));
    assert_eq!(counted.count_total, 0, "allocations in {HITS} hits");
}

#[tokio::test]
async fn a_copy_is_answered_from_as_long_as_it_is_fresh_and_no_longer() {
    let world = World::with("", |config| config.cache.stale_while_revalidate = "0s".parse().expect("a time")).await;
    let mut wire = Wire::to(world.gateway).await;
    let mut decisions = Vec::new();
    for _ in 0..3 {
        wire.send(get(&stored(), "")).await;
        let answer = wire.answer().await;
        decisions.push((answer.field("x-gateway-decision").to_owned(), answer.field("age").to_owned()));
        world.clock.advance(std::time::Duration::from_secs(3599));
    }
    let told = |decision: &str, age: &str| (decision.to_owned(), age.to_owned());
    assert_eq!(decisions, [told("probe", ""), told("hit", "3599"), told("revalidated", "")]);
}

#[tokio::test]
async fn what_is_answered_at_once_is_counted_and_remembered_like_all_else() {
    let world = warm().await;
    let mut wire = Wire::to(world.gateway).await;
    for way in ["", PARSED, ""] {
        wire.send(get(&stored(), way)).await;
        assert_eq!(wire.answer().await.field("x-gateway-decision"), "hit");
    }
    let counted = |series: &str| format!("reputation_gateway_{series}");
    let hits = world.metric(&counted(r#"requests_total{caller="anonymous",decision="hit",operation="retrieve"}"#)).await;
    let timed = world.metric(&counted(r#"request_duration_seconds_count{operation="retrieve"}"#)).await;
    assert_eq!((hits.as_str(), timed.as_str()), ("3", "4"));
}

#[tokio::test]
async fn a_connection_that_was_answered_on_ends_with_the_gateway() {
    let mut world = warm().await;
    let mut wire = Wire::to(world.gateway).await;
    for _ in 0..3 {
        wire.send(get(&stored(), "")).await;
        assert_eq!(wire.answer().await.status, 200);
    }
    world.stop().await;
    wire.ended().await;
}

#[tokio::test]
async fn a_client_that_says_close_is_answered_and_left() {
    let world = warm().await;
    for option in ["close", "keep-alive, close"] {
        let mut wire = Wire::to(world.gateway).await;
        wire.send(get(&stored(), "connection: keep-alive\r\n")).await;
        assert_eq!(wire.answer().await.field("x-gateway-decision"), "hit");
        wire.send(get(&stored(), &format!("connection: {option}\r\n"))).await;
        let last = wire.answer().await;
        assert_eq!((last.field("x-gateway-decision"), last.field("connection")), ("hit", "close"));
        wire.ended().await;
    }
}

#[tokio::test]
async fn a_bare_line_feed_is_refused_behind_answers_too() {
    let world = warm().await;
    let good = get(&stored(), "");
    for bad in [good.replacen("\r\n", "\n", 1), good.replace("gateway\r\n", "gateway\n"), good.replace("\r\n\r\n", "\r\n\n")] {
        let mut wire = Wire::to(world.gateway).await;
        wire.send(format!("{good}{bad}{good}")).await;
        assert_eq!(wire.answer().await.status, 200);
        assert_eq!(wire.answer().await.status, 400, "{bad:?}");
        wire.ended().await;
    }
}

#[tokio::test]
async fn neither_head_nor_an_unchecked_number_is_answered_at_once() {
    let world = warm().await;
    let answer = world.ask(&stored()).method(Method::HEAD).send().await;
    assert_eq!((answer.outcome(), answer.body.len()), ((200, "hit"), 0));
    let unpaid = world.ask(&format!("/v2/reputation/numbers/{}", unchecked(1))).header("cache-control", "only-if-cached").send().await;
    assert_eq!(unpaid.outcome(), (504, "not_in_cache"));
}
