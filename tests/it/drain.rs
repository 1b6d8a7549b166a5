//! Stopping: what was paid for is recorded and answered, and nothing new begins.

use std::time::Duration;

use reputation_gateway::config::Config;
use tokio::net::TcpStream;

use crate::harness::{Ask, BUDGET, STORED, UNCHECKED, Wire, World};

/// What the ledger's file says was settled, in micro-dollars.
fn settled(world: &World) -> i64 {
    let ledger = rusqlite::Connection::open(world.ledger()).expect("a ledger");
    let sum = "SELECT coalesce(sum(amount_micros), 0) FROM entry WHERE kind = 'settled'";
    ledger.query_row(sum, (), |row| row.get(0)).expect("documented columns")
}

/// Waits until the gateway has taken notice of the stop.
async fn is_draining(world: &World) {
    while world.admin("/readyz").await.status == 200 {
        tokio::task::yield_now().await;
    }
    while TcpStream::connect(world.gateway).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_billed_call_under_way_is_settled_and_answered_before_the_gateway_stops() {
    let mut world = World::gated(BUDGET, |_| {}).await;
    world.gate.close();
    let waiting = tokio::spawn(Ask::new(world.gateway, &format!("/v2/reputation/numbers/{UNCHECKED}?fresh=true")).send());
    world.reached(1).await;
    world.begin_stop();
    is_draining(&world).await;
    let (live, ready) = (world.admin("/livez").await, world.admin("/readyz").await);
    assert_eq!((live.status.as_u16(), ready.status.as_u16(), ready.text().as_str()), (200, 503, "draining\n"));
    assert_eq!(world.metric("reputation_gateway_holds_open").await, "1");
    world.gate.open();
    let answer = waiting.await.expect("nothing panics");
    assert_eq!((answer.outcome(), answer.header("x-gateway-billed")), ((200, "billed"), "yes"));
    world.stop().await;
    assert_eq!((settled(&world), world.charged().as_str()), (100_000, "0.10"));
}

#[tokio::test]
async fn a_billed_call_whose_caller_has_left_is_settled_before_the_gateway_stops() {
    let mut world = World::gated(BUDGET, |config| config.server.drain_timeout = "0s".parse().expect("a time")).await;
    world.gate.close();
    let mut wire = Wire::to(world.gateway).await;
    wire.send(format!("GET /v2/reputation/numbers/{UNCHECKED}?fresh=true HTTP/1.1\r\nhost: gateway\r\n\r\n")).await;
    world.reached(1).await;
    drop(wire);
    world.begin_stop();
    is_draining(&world).await;
    assert_eq!(settled(&world), 0);
    world.gate.open();
    world.stop().await;
    assert_eq!((settled(&world), world.charged().as_str()), (100_000, "0.10"));
    world.restart().await;
    assert_eq!(world.metric("reputation_gateway_holds_total{end=\"assumed\"}").await, "0", "nothing was left open");
}

#[tokio::test]
async fn a_purchase_that_was_still_queued_is_not_sent_when_nobody_can_be_told() {
    let narrow = |config: &mut Config| {
        config.upstream.max_in_flight = 1;
        config.server.drain_timeout = "0s".parse().expect("a time");
    };
    let mut world = World::gated(BUDGET, narrow).await;
    world.gate.close();
    let ask = |number: &str| tokio::spawn(world.ask(&format!("/v2/reputation/numbers/{number}?fresh=true")).try_send());
    let callers = [ask(UNCHECKED), ask(STORED)];
    world.reached(1).await;
    while world.metric("reputation_gateway_holds_open").await != "2" {
        tokio::task::yield_now().await;
    }
    world.begin_stop();
    is_draining(&world).await;
    for caller in callers {
        assert!(caller.await.expect("nothing panics").is_none(), "the drain time is over");
    }
    world.gate.open();
    world.stop().await;
    assert_eq!((settled(&world), world.charged().as_str()), (100_000, "0.10"), "only what had been sent");
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_stop() {
    let mut world = World::with("", |config| config.server.drain_timeout = "1h".parse().expect("a time")).await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send(format!("GET /v2/reputation/numbers/{STORED} HTTP/1.1\r\nhost: gateway\r\n\r\n")).await;
    assert_eq!(wire.answer().await.status, 200);
    tokio::time::timeout(Duration::from_mins(1), world.stop()).await.expect("long before the drain time");
    wire.ended().await;
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_when_the_drain_time_is_over() {
    let mut world = World::with("", |config| config.server.drain_timeout = "50ms".parse().expect("a time")).await;
    let mut wire = Wire::to(world.gateway).await;
    wire.send("POST /v2/reputation/numbers HTTP/1.1\r\nhost: gateway\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").await;
    assert_eq!(wire.head().await.status, 100, "the request is under way");
    tokio::time::timeout(Duration::from_secs(20), world.stop()).await.expect("the body time is 30 s, the drain time is not");
}
