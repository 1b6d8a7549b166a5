//! Answers on their way down a `[[route]]`: framing in which an upstream contradicts itself, and targets that grow on their way up.

use std::time::Duration;

use reputation_gateway::sandbox::{Fault, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{STORED, Wire, World};

const ROUTE: &str = "[[route]]\nmethods = [\"GET\"]\npath = \"/things\"\n";

/// A gateway before an upstream that answers each request on a connection of its own with these bytes.
async fn before(answer: &'static str) -> World {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _read = stream.read(&mut request).await;
            let _written = stream.write_all(answer.as_bytes()).await;
        }
    });
    World::before(address, ROUTE, |_| {}).await
}

const GET: &str = "GET /things HTTP/1.1\r\nhost: g\r\n\r\n";
const NEXT: &str = "GET /none HTTP/1.1\r\nhost: g\r\n\r\n";

#[tokio::test]
async fn an_answer_with_two_framings_has_one_behind_the_gateway() {
    for length in [3, 5, 500] {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let world = before(answer.leak()).await;
        let mut wire = Wire::to(world.gateway).await;
        wire.send(GET).await;
        let head = wire.head().await;
        assert_eq!((head.status, head.field("content-length"), head.field("transfer-encoding")), (200, "", "chunked"), "{length}");
        for line in ["5", "hello", "0", ""] {
            assert_eq!(wire.line().await, line);
        }
        wire.send(NEXT).await;
        assert_eq!(wire.answer().await.status, 403, "{length}: the connection is in step");
    }
}

#[tokio::test]
async fn a_body_where_there_is_none_does_not_reach_the_client() {
    for (status, method) in [(204, "GET"), (304, "GET"), (200, "HEAD")] {
        let world = before(format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\n\r\nhello").leak()).await;
        let mut wire = Wire::to(world.gateway).await;
        wire.send(GET.replacen("GET", method, 1)).await;
        let head = wire.head().await;
        let length = if method == "HEAD" { "5" } else { "" };
        assert_eq!((head.status, head.field("content-length")), (status, length), "{status} {method}");
        wire.send(NEXT).await;
        assert_eq!(wire.answer().await.status, 403, "{status} {method}: the connection is in step");
    }
}

#[tokio::test]
async fn who_sends_a_body_by_a_route_does_not_try_the_upstream_for_all_others() {
    let world = World::with(ROUTE, |config| config.upstream.breaker_failures = 1).await;
    world.fault(Fault::new(Kind::Status).status(http::StatusCode::SERVICE_UNAVAILABLE));
    world.fault(Fault::new(Kind::Hang).delay(Duration::from_secs(20)).method(&http::Method::GET).path_contains("things"));
    assert_eq!(world.read(STORED).await.status, 503);
    world.turn(Duration::from_secs(5));
    let mut wire = Wire::to(world.gateway).await;
    wire.send("GET /things HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await;
    assert_eq!(wire.head().await.status, 503, "it could go on for as long as its client likes");
    assert_eq!(world.read(STORED).await.outcome(), (200, "probe"));
}

#[tokio::test]
async fn a_target_that_grows_too_long_on_its_way_up_is_refused() {
    let origin = crate::harness::Origin::start().await;
    let long_heads = |config: &mut reputation_gateway::config::Config| {
        config.server.max_header_size = reputation_gateway::units::ByteSize(128 * 1024);
    };
    let world = World::before(origin.address, ROUTE, long_heads).await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send(format!("GET /things/{} HTTP/1.1\r\nhost: g\r\n\r\n", "!".repeat(22_000))).await;
    assert_eq!(wire.answer().await.status, 431, "each mark is escaped, and three bytes long then");
    wire.send(NEXT).await;
    assert_eq!(wire.answer().await.status, 403);
    assert_eq!(origin.seen().len(), 0);
}
