//! The bound on what is in memory for single requests: what does not fit is refused, copies go on, and everything is given back.

use http::Method;
use reputation_gateway::auth::Permission;
use reputation_gateway::config::Config;
use reputation_gateway::units::ByteSize;

use crate::harness::frames::{Frame, Frames, HEADERS};
use crate::harness::{Answer, BUDGET, ENTERPRISE, STORED, UNCHECKED, Wire, World};

const ROOM: usize = 64 * 1024;

fn narrow(room: usize) -> impl FnOnce(&mut Config) {
    move |config| {
        config.auth.allow.push(Permission::Refresh);
        (config.server.max_buffered, config.server.max_body_size) = (ByteSize(room), ByteSize(room));
    }
}

fn wish() -> String {
    format!("{{\"phone_numbers\":[\"{UNCHECKED}\"]}}")
}

/// Has a number refreshed, if there is room for its body.
fn refresh(world: &World) -> crate::harness::Ask {
    let path = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/refresh");
    world.ask(&path).method(Method::POST).header("content-type", "application/json").body(wish())
}

/// A client that sends so many bytes of a longer body, and no more.
async fn uploading(world: &World, bytes: usize) -> Wire {
    let path = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/refresh");
    let mut wire = Wire::to(world.gateway).await;
    wire.send(format!("POST {path} HTTP/1.1\r\nhost: g\r\ncontent-length: {ROOM}\r\n\r\n")).await;
    wire.send(vec![b' '; bytes]).await;
    wire
}

async fn buffered(world: &World, bytes: usize) {
    let wanted = bytes.to_string();
    let full = async { while world.metric("reputation_gateway_buffered_bytes").await != wanted {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), full).await.expect("soon");
}

fn is_refused(answer: &Answer) -> bool {
    (answer.outcome(), answer.header("retry-after"), answer.code().as_str()) == ((503, "overloaded"), "1", "overloaded")
}

#[tokio::test]
async fn slow_uploads_take_room_from_uploads_and_none_from_copies() {
    let world = World::with(BUDGET, narrow(ROOM)).await;
    assert_eq!(world.read(STORED).await.status, 200);
    let sent = world.sent();
    let slow = [uploading(&world, 40_000).await, uploading(&world, ROOM - 40_001).await];
    buffered(&world, ROOM - 1).await;
    let refused = refresh(&world).send().await;
    assert!(is_refused(&refused), "{}", refused.text());
    assert_eq!(world.read(STORED).await.outcome(), (200, "hit"));
    assert_eq!((world.sent(), world.charged().as_str()), (sent, "0.00"));
    drop(slow);
    buffered(&world, 0).await;
    assert_eq!(refresh(&world).send().await.outcome(), (200, "billed"));
    buffered(&world, 0).await;
}

#[tokio::test]
async fn answers_that_are_not_taken_keep_further_ones_from_being_fetched() {
    let list = |size: u32| format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers?page%5Bsize%5D={size}");
    let length = World::new().await.ask(&list(20)).send().await.body.len();
    let world = World::with(BUDGET, narrow(length)).await;
    assert_eq!(world.read(STORED).await.status, 200);
    let mut unread = Frames::with(world.gateway, &[(4, 0)]).await;
    unread.send(&[Frame::get(1, &list(20))]).await;
    assert_eq!(unread.next_of(HEADERS).await.expect("an answer").stream, 1);
    buffered(&world, length).await;
    let sent = world.sent();
    for path in [list(10), format!("/v2/enterprises/{ENTERPRISE}/reputation"), "/v2/terms_of_service/status".to_owned()] {
        let refused = world.ask(&path).send().await;
        assert!(is_refused(&refused), "{path}: {}", refused.text());
    }
    assert!(is_refused(&refresh(&world).send().await));
    assert_eq!(world.ask(&list(20)).send().await.outcome(), (200, "hit"));
    assert_eq!(world.read(STORED).await.outcome(), (200, "hit"));
    assert_eq!((world.sent(), world.charged().as_str()), (sent, "0.00"));
    drop(unread);
    buffered(&world, 0).await;
    assert_eq!(world.ask(&list(10)).send().await.outcome(), (200, "passed"));
}

#[tokio::test]
async fn an_answer_that_was_read_for_nothing_and_does_not_fit_is_refused() {
    let list = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers?page%5Bsize%5D=250");
    let world = World::with(BUDGET, narrow(1024)).await;
    let refused = world.ask(&list).send().await;
    assert!(is_refused(&refused), "{}", refused.text());
    assert_eq!(world.ask(&list).send().await.outcome(), (200, "hit"), "it was kept for all");
    buffered(&world, 0).await;
}

#[tokio::test]
async fn a_read_that_was_paid_for_is_given_whatever_there_is_room_for() {
    let priced = |config: &mut Config| {
        narrow(ROOM)(config);
        config.auth.allow.push(Permission::Ownership);
        config.prices.unpublished = Some("0.25".parse().expect("an amount"));
    };
    let world = World::gated(BUDGET, priced).await;
    world.gate.close();
    let paid = tokio::spawn(world.ask(&format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/{STORED}/ownership")).send());
    world.reached(1).await;
    let slow = uploading(&world, ROOM - 1).await;
    buffered(&world, ROOM - 1).await;
    world.gate.open();
    let answer = paid.await.expect("nothing panics");
    assert_eq!((answer.outcome(), answer.header("x-gateway-cost-usd")), ((200, "billed"), "0.25"));
    drop(slow);
    buffered(&world, 0).await;
}

#[tokio::test]
async fn an_answer_that_was_paid_for_is_given_whatever_there_is_room_for() {
    let world = World::gated(BUDGET, narrow(ROOM)).await;
    world.gate.close();
    let paid = tokio::spawn(refresh(&world).send());
    world.reached(1).await;
    let slow = uploading(&world, ROOM - wish().len()).await;
    buffered(&world, ROOM).await;
    world.gate.open();
    let answer = paid.await.expect("nothing panics");
    assert_eq!((answer.outcome(), world.charged().as_str()), ((200, "billed"), "0.10"));
    drop(slow);
    buffered(&world, 0).await;
}
