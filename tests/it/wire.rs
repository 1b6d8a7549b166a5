//! What clients do to a connection: long heads, bodies where none belong, framing that lies, heads that never end.

use std::time::Duration;

use reputation_gateway::clock::Clock;
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{self, Sandbox};
use reputation_gateway::server::{self, Server};

use crate::harness::{STORED, UNCHECKED, Wire, World, exchange};

const GET: &str = "GET /v2/reputation/numbers/+16035551234 HTTP/1.1\r\nhost: gateway\r\n";

fn with(fields: &str) -> String {
    format!("{GET}{fields}\r\n")
}

/// Asserts that a head was refused before it meant anything.
async fn is_cut_off(request: &str) {
    let world = World::new().await;
    let smuggled = format!("{request}GET /v2/reputation/numbers/{UNCHECKED}?fresh=true HTTP/1.1\r\nhost: gateway\r\n\r\n");
    let answers = exchange(world.gateway, smuggled.as_bytes()).await;
    let first = answers.lines().next().unwrap_or_default();
    assert!(first.is_empty() || first.starts_with("HTTP/1.1 400"), "{request:?} got {answers}");
    assert!(answers.matches("HTTP/1.1 ").count() <= 1, "the connection went on after {request:?}: {answers}");
    assert_eq!((world.sent(), world.charged().as_str()), (0, "0.00"), "{request:?}");
}

#[tokio::test]
async fn a_long_head_is_a_431_in_the_envelope() {
    let world = World::new().await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send(with(&format!("x-long: {}\r\n", "a".repeat(20 * 1024)))).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.code().as_str(), answer.field("x-should-retry")), (431, "header_too_large", "false"));
    wire.send(format!("GET /{} HTTP/1.1\r\nhost: gateway\r\n\r\n", "a".repeat(20 * 1024))).await;
    assert_eq!(wire.answer().await.status, 431, "a long target counts too, and the connection is in step");
    wire.send(with("")).await;
    assert_eq!(wire.answer().await.status, 200);
    assert_eq!(world.sent(), 1);
}

#[tokio::test]
async fn a_head_without_end_is_a_431_and_the_end_of_the_connection() {
    let world = World::new().await;
    for endless in ["x-long: ".to_owned() + &"a".repeat(1024 * 1024), "x: y\r\n".repeat(200_000)] {
        let mut wire = Wire::to(world.gateway).await;
        wire.send_while_taken(with(&endless)).await;
        assert_eq!(wire.head().await.status, 431);
        wire.ended().await;
    }
    assert_eq!(world.sent(), 0);
}

#[tokio::test]
async fn a_body_on_get_is_refused_and_the_connection_stays_in_step() {
    let world = World::new().await;
    let inner = format!("GET /v2/reputation/numbers/{UNCHECKED}?fresh=true HTTP/1.1\r\nhost: gateway\r\n\r\n");
    let length = inner.len();
    for body in [
        format!("content-length: {length}\r\n\r\n{inner}"),
        format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{inner}\r\n0\r\n\r\n"),
    ] {
        let mut wire = Wire::to(world.gateway).await;
        wire.send(format!("{GET}{body}{}", with(""))).await;
        let refused = wire.answer().await;
        assert_eq!((refused.status, refused.code().as_str(), refused.field("x-should-retry")), (400, "10015", "false"));
        assert_eq!(wire.answer().await.status, 200, "the request behind the body");
    }
    assert_eq!(world.charged(), "0.00");
    assert!(world.sandbox.requests().iter().all(|seen| !seen.path_and_query.contains(&UNCHECKED[1..])), "the body was read as a request");
}

#[tokio::test]
async fn an_empty_body_on_get_is_none() {
    let world = World::new().await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send(with("content-length: 0\r\n")).await;
    assert_eq!(wire.answer().await.status, 200);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_a_413_and_the_end_of_the_connection() {
    let world = World::with("", |config: &mut Config| config.server.max_body_size = "1KiB".parse().expect("a size")).await;
    let body = "a".repeat(4 * 1024 * 1024);
    let length = body.len();
    for body in
        [format!("content-length: {length}\r\n\r\n{body}"), format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")]
    {
        let mut wire = Wire::to(world.gateway).await;
        wire.send_while_taken(format!("POST /v2/reputation/numbers HTTP/1.1\r\nhost: gateway\r\n{body}")).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.code().as_str(), answer.field("connection")), (413, "body_too_large", "close"));
        assert_eq!(answer.field("x-should-retry"), "false");
        wire.ended().await;
    }
    assert_eq!(world.sent(), 0);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_not_asked_for() {
    let world = World::new().await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send("POST /v2/reputation/numbers HTTP/1.1\r\nhost: gateway\r\nexpect: 100-continue\r\ncontent-length: 9999999\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 413);
    wire.ended().await;
}

#[tokio::test]
async fn a_body_that_may_come_is_asked_for() {
    let world = World::new().await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send("POST /v2/reputation/numbers HTTP/1.1\r\nhost: gateway\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").await;
    assert_eq!(wire.head().await.status, 100);
    wire.send("{}").await;
    assert_eq!(wire.answer().await.status, 405);
    wire.send(with("")).await;
    assert_eq!(wire.answer().await.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_408_and_the_end_of_the_connection() {
    let world = World::with("", |config: &mut Config| config.server.body_timeout = "50ms".parse().expect("a time")).await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send("POST /v2/reputation/numbers HTTP/1.1\r\nhost: gateway\r\ncontent-length: 2\r\n\r\n{").await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.code().as_str(), answer.field("connection")), (408, "body_timeout", "close"));
    wire.ended().await;
}

#[tokio::test]
async fn requests_that_are_sent_at_once_are_answered_in_their_order() {
    let world = World::new().await;
    let mut wire = Wire::to(world.gateway).await;
    let ids: Vec<_> = (0..50).map(|n| format!("request-{n}")).collect();
    let target = |n: usize| if n.is_multiple_of(3) { format!("/v2/reputation/numbers/{STORED}") } else { "/v2/messages".to_owned() };
    let request = |(n, id): (usize, &String)| format!("GET {} HTTP/1.1\r\nhost: gateway\r\nx-request-id: {id}\r\n\r\n", target(n));
    wire.send(ids.iter().enumerate().map(request).collect::<String>()).await;
    for (n, id) in ids.iter().enumerate() {
        let answer = wire.answer().await;
        assert_eq!((answer.field("x-request-id"), answer.status), (id.as_str(), if n.is_multiple_of(3) { 200 } else { 403 }));
    }
    assert_eq!(world.sent(), 1, "one look, and copies from then on");
}

#[tokio::test]
async fn an_answer_does_not_wait_for_the_rest_of_the_next_head() {
    let world = World::new().await;
    let mut wire = Wire::to(world.gateway).await;
    let second = with("x-request-id: two\r\n");
    let (next, rest) = second.split_at(20);
    wire.send(format!("{}{next}", with("x-request-id: one\r\n"))).await;
    assert_eq!(wire.answer().await.field("x-request-id"), "one");
    wire.send(rest).await;
    assert_eq!(wire.answer().await.field("x-request-id"), "two");
}

#[tokio::test]
async fn framing_that_contradicts_itself_ends_the_connection() {
    is_cut_off(&format!("{GET}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n1\r\na\r\n0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}content-length: 0\r\ncontent-length: 4\r\n\r\n")).await;
    is_cut_off(&format!("{GET}content-length: 0\r\ncontent-length: 0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}content-length: 0, 0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}content-length:\r\n\r\n")).await;
    is_cut_off(&format!("{GET}content-length: 0x0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}content-length: 18446744073709551616\r\n\r\n")).await;
    is_cut_off(&format!("{GET}content-length : 0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}content-length: 0, 4\r\n\r\n")).await;
    is_cut_off(&format!("{GET}content-length: +4\r\n\r\nabcd")).await;
    is_cut_off(&format!("{GET}transfer-encoding: gzip\r\n\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding:\r\n\r\n0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding: chunked\r\n\r\n0;a\nb\r\n\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding: chunked\r\n\r\n1\r\naa\r\n0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding: chunked\r\n\r\n0\r\nx: y\n\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding: chunked\r\n\r\n1ffffffffffffffff\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding: chunked\r\n\r\nzz\r\n0\r\n\r\n")).await;
    is_cut_off(&format!("{GET}transfer-encoding : chunked\r\n\r\n0\r\n\r\n")).await;
    is_cut_off(&GET.replace("HTTP/1.1", "HTTP/1.0").replace("host", "transfer-encoding: chunked\r\nhost")).await;
}

#[tokio::test]
async fn bytes_that_are_no_request_end_the_connection() {
    for garbage in [
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /a b HTTP/1.1\r\n\r\n",
        "{}\r\n\r\n",
        "\0\0\0\0\0\0\r\n\r\n",
    ] {
        is_cut_off(garbage).await;
    }
    is_cut_off(&format!("{GET}folded: a\r\n b\r\n\r\n")).await;
    is_cut_off(&format!("{GET} folded: a\r\n\r\n")).await;
    is_cut_off(&format!("{GET}space : a\r\n\r\n")).await;
    is_cut_off(&format!("{GET}tab\t: a\r\n\r\n")).await;
    is_cut_off(&format!("{GET}no colon\r\n\r\n")).await;
    is_cut_off(&format!("{GET}: no name\r\n\r\n")).await;
    is_cut_off(&format!("{GET}nul: a\0b\r\n\r\n")).await;
}

#[tokio::test]
async fn lines_end_with_cr_and_lf() {
    is_cut_off(&GET.replace("\r\nhost", "\nhost")).await;
    is_cut_off(&format!("{GET}a: b\nc: d\r\n\r\n")).await;
    is_cut_off(&format!("{GET}\n")).await;
    is_cut_off(&format!("{GET}a: b\rc: d\r\n\r\n")).await;
    is_cut_off(&format!("{GET}a: b\r\r\n\r\n")).await;
    is_cut_off(&GET.replace(" HTTP", "\rHTTP")).await;
    is_cut_off("\nGET / HTTP/1.1\r\nhost: gateway\r\n\r\n").await;
    is_cut_off("\rGET / HTTP/1.1\r\nhost: gateway\r\n\r\n").await;
}

#[tokio::test]
async fn a_lone_lf_behind_other_requests_is_refused_in_its_turn() {
    let world = World::new().await;
    let body = "{\n}\n";
    let post = |framing: &str| format!("POST /v2/reputation/numbers HTTP/1.1\r\nhost: gateway\r\n{framing}");
    let length = post(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    let chunked = post(&format!("transfer-encoding: chunked\r\n\r\n{:x};a=b\r\n{body}\r\n0\r\nc: d\r\n\r\n", body.len()));
    let mut wire = Wire::to(world.gateway).await;
    wire.send(format!("{length}{chunked}\r\n{}{GET}a: b\n\r\n", with(""))).await;
    for status in [405, 405, 200] {
        assert_eq!(wire.answer().await.status, status, "a line feed in a body is a byte like any other");
    }
    assert_eq!(wire.answer().await.status, 400);
    wire.ended().await;
}

#[tokio::test]
async fn a_request_says_once_which_host_it_is_for() {
    let path = "/v2/reputation/numbers/+16035551234";
    for (target, hosts) in [
        (path.to_owned(), ""),
        (path.to_owned(), "host: gateway\r\nhost: gateway\r\n"),
        (path.to_owned(), "host: gateway\r\nHOST: other\r\n"),
        (path.to_owned(), "host:\r\n"),
        (path.to_owned(), "host: gateway, other\r\n"),
        (path.to_owned(), "host: user@gateway\r\n"),
        (path.to_owned(), "host: gateway/v2\r\n"),
        (path.to_owned(), "host: gateway:80:80\r\n"),
        (format!("http://elsewhere.test{path}"), "host: gateway\r\n"),
        (format!("http://gateway{path}"), ""),
        (format!("http://user:password@gateway{path}"), "host: gateway\r\n"),
        (format!("gopher://gateway{path}"), "host: gateway\r\n"),
    ] {
        is_cut_off(&format!("GET {target} HTTP/1.1\r\n{hosts}\r\n")).await;
    }
}

#[tokio::test]
async fn targets_without_a_path_are_refused() {
    let world = World::new().await;
    for line in ["OPTIONS * HTTP/1.1", "CONNECT telnyx.test:443 HTTP/1.1"] {
        let mut wire = Wire::to(world.gateway).await;
        let host = if line.starts_with("CONNECT") { "telnyx.test:443" } else { "gateway" };
        wire.send(format!("{line}\r\nhost: {host}\r\n\r\n")).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "10015"), "{line}");
    }
    assert_eq!(world.sent(), 0);
}

#[tokio::test]
async fn absolute_form_is_read_by_its_path() {
    let world = World::new().await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send("GET http://Gateway:80/v2/reputation/numbers/%2B16035551234 HTTP/1.1\r\nhost: gateway\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 200);
    assert_eq!(world.sandbox.requests()[0].headers["host"], world.upstream().to_string());
}

#[tokio::test]
async fn an_ipv6_address_is_listened_on_like_any_other() {
    let (clock, at) = (Clock::manual("2026-03-24T12:00:00Z".parse().expect("a time")), "[::1]:0".parse().expect("an address"));
    let server = Server::bind(at, &server::Config::default()).await.expect("an IPv6 loopback");
    let address = server.address();
    let serving = tokio::spawn(server.serve(Sandbox::new(sandbox::Config::default(), clock), std::future::pending()));
    let mut wire = Wire::to(address).await;
    wire.send(format!("GET /sandbox/charges HTTP/1.1\r\nhost: {address}\r\n\r\n")).await;
    assert_eq!(wire.answer().await.status, 200);
    serving.abort();
}

#[tokio::test]
async fn head_has_the_fields_of_get_and_no_body() {
    let world = World::new().await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send(with("").replacen("GET", "HEAD", 1)).await;
    let head = wire.head().await;
    wire.send(with("")).await;
    let get = wire.answer().await;
    assert_eq!(
        (head.status, head.field("content-length"), head.field("etag")),
        (200, get.body.len().to_string().as_str(), get.field("etag"))
    );
}

#[tokio::test]
async fn an_upgrade_is_not_agreed_to() {
    let world = World::new().await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send(with("connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n")).await;
    assert_eq!(wire.answer().await.status, 200);
    wire.send(with("")).await;
    assert_eq!(wire.answer().await.status, 200);
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let world = World::new().await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send(with("").replace("HTTP/1.1", "HTTP/1.0")).await;
    assert_eq!(wire.answer().await.status, 200);
    wire.ended().await;
}

#[tokio::test]
async fn a_head_that_trickles_in_is_ended() {
    let world = World::with("", |config: &mut Config| config.server.header_timeout = "50ms".parse().expect("a time")).await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send("GET /v2/reputation/numbers/+16035551234 HTTP/1.1\r\nho").await;
    wire.ended().await;
    // One that sends a byte now and then does not gain time by it.
    let wire = Wire::to(world.gateway).await;
    wire.trickle("GET /v2/reputation/numbers/+16035551234 HTTP/1.1\r\nx-slow: ", b'a').await;
    assert_eq!(world.sent(), 0);
}

#[tokio::test]
async fn a_connection_that_stands_still_is_ended() {
    let world = World::with("", |config: &mut Config| config.server.idle_timeout = "50ms".parse().expect("a time")).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), Wire::to(world.gateway).await.ended()).await;
    ended.expect("long before a head would be late");
    let mut wire = Wire::to(world.gateway).await;
    wire.send(with("")).await;
    assert_eq!(wire.answer().await.status, 200);
    wire.ended().await;
}

#[tokio::test]
async fn an_answer_that_takes_long_is_not_standing_still() {
    let short = |config: &mut Config| {
        config.server.idle_timeout = "20ms".parse().expect("a time");
        config.server.header_timeout = "20ms".parse().expect("a time");
    };
    let world = World::gated("", short).await;
    world.gate.close();
    let mut slow = Wire::to(world.gateway).await;
    slow.send(with("")).await;
    world.reached(1).await;
    // Another connection has stood still for its whole time meanwhile.
    Wire::to(world.gateway).await.ended().await;
    world.gate.open();
    assert_eq!(slow.answer().await.status, 200);
}

#[tokio::test]
async fn no_more_connections_are_served_at_once_than_allowed() {
    let world = World::with("", |config: &mut Config| config.server.max_connections = 1).await;
    let mut first = Wire::to(world.gateway).await;
    first.send(with("x-request-id: one\r\n")).await;
    assert_eq!(first.answer().await.field("x-request-id"), "one");
    let mut second = Wire::to(world.gateway).await;
    second.send(with("x-request-id: two\r\n")).await;
    for _ in 0..20 {
        first.send(with("")).await;
        assert_eq!(first.answer().await.status, 200);
    }
    let answered = "reputation_gateway_requests_total{caller=\"anonymous\",decision=\"hit\",operation=\"retrieve\"}";
    assert_eq!(world.metric(answered).await, "20", "the second connection is not served while the first is open");
    drop(first);
    assert_eq!(second.answer().await.field("x-request-id"), "two");
}

#[tokio::test]
async fn an_id_that_is_not_plain_is_replaced() {
    let world = World::new().await;
    let mut wire = Wire::to(world.gateway).await;
    let long = "a".repeat(129);
    for id in ["", "two words", "\u{fc}", &long] {
        wire.send(with(&format!("x-request-id: {id}\r\n"))).await;
        let answered = wire.answer().await;
        let id = answered.field("x-request-id");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id:?}");
    }
}
