//! How the gateway treats an upstream that fails, or that allows no more; and clients that want shorter answers.

use std::io::Read;
use std::time::Duration;

use flate2::read::GzDecoder;
use http::StatusCode;
use reputation_gateway::auth::Permission;
use reputation_gateway::sandbox::{Fault, Kind};

use crate::harness::{Answer, BUDGET, STORED, UNCHECKED, World, books, unchecked};

const SECOND: Duration = Duration::from_secs(1);
const BREAKER: &str = "reputation_gateway_upstream_breaker_state";
const SUSPENDED: (u16, &str, &str) = (503, "upstream_error", "upstream_suspended");

/// A gateway that gives up after two failures, and has the stored number at hand.
async fn wary() -> World {
    let world = World::with(BUDGET, |config| {
        config.upstream.breaker_failures = 2;
        config.auth.allow.push(Permission::Refresh);
    })
    .await;
    world.read(STORED).await;
    world
}

/// Lets two free reads fail.
async fn suspended() -> World {
    let world = wary().await;
    world.fault(Fault::new(Kind::Status).status(StatusCode::BAD_GATEWAY).times(2));
    for n in [1, 2] {
        assert_eq!(world.read(&unchecked(n)).await.outcome(), (502, "upstream_error"));
    }
    assert_eq!(world.metric(BREAKER).await, "1");
    world
}

fn refusal(answer: &Answer) -> (u16, &str, String) {
    let (status, decision) = answer.outcome();
    (status, decision, answer.code())
}

fn is_suspended(answer: &Answer) {
    assert_eq!(refusal(answer), (SUSPENDED.0, SUSPENDED.1, SUSPENDED.2.to_owned()), "{answer:?}");
}

#[tokio::test]
async fn an_upstream_that_fails_is_left_alone_and_copies_go_on() {
    let world = suspended().await;
    let sent = world.sent();
    let refused = world.read(UNCHECKED).await;
    is_suspended(&refused);
    assert_eq!((refused.header("retry-after"), refused.header("x-should-retry")), ("5", ""));
    is_suspended(&world.ask("/reputation/numbers").send().await);
    assert_eq!(world.read(STORED).await.outcome(), (200, "hit"));
    world.turn(2 * SECOND);
    let path = format!("/reputation/numbers/{STORED}");
    let stale = world.ask(&path).header("cache-control", "no-cache").send().await;
    assert_eq!(stale.outcome(), (200, "stale"), "as for any failure");
    assert_eq!(world.read(UNCHECKED).await.header("retry-after"), "3");
    assert_eq!(world.sent(), sent, "nothing was sent");
    world.turn(3 * SECOND);
    assert_eq!(world.metric(BREAKER).await, "2");
    assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "first_touch"), "the look tried, and then it was bought");
    assert_eq!(world.metric(BREAKER).await, "0");
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test]
async fn nothing_is_held_for_a_call_that_would_not_be_sent() {
    let world = suspended().await;
    world.turn(2 * SECOND);
    let sent = world.sent();
    is_suspended(&world.fresh(UNCHECKED).await);
    is_suspended(&world.refresh(&[UNCHECKED, STORED]).await);
    let stored = world.fresh(STORED).await;
    assert_eq!(stored.outcome(), (200, "upstream_error"), "the copy in place of the refusal");
    assert!(books::charges(&world.ledger()).is_empty(), "the ledger has nothing of it");
    assert_eq!(world.sent(), sent);
}

#[tokio::test]
async fn a_purchase_waits_for_a_free_look_to_show_that_the_upstream_answers() {
    for buys_many in [false, true] {
        let world = suspended().await;
        let buy = || async { if buys_many { world.refresh(&[UNCHECKED]).await } else { world.fresh(UNCHECKED).await } };
        world.turn(5 * SECOND);
        world.fault(Fault::new(Kind::Reset));
        assert_eq!(buy().await.outcome(), (502, "upstream_error"), "the look is the trial");
        assert!(books::charges(&world.ledger()).is_empty());
        world.turn(9 * SECOND);
        is_suspended(&buy().await);
        world.turn(SECOND);
        assert_eq!(buy().await.outcome(), (200, "billed"));
        assert_eq!((world.charged().as_str(), world.charges().count), ("0.10", 1));
    }
}

#[tokio::test]
async fn what_is_an_answer_does_not_suspend_the_upstream() {
    let world = wary().await;
    for status in [400, 403, 404, 422, 429, 500] {
        let status = StatusCode::from_u16(status).expect("a status");
        for n in [1, 2] {
            world.fault(Fault::new(Kind::Status).status(status));
            assert_eq!(world.read(&unchecked(n)).await.status, status);
            // A 429 is no failure, and yet nothing is sent for a while.
            world.turn(60 * SECOND);
        }
    }
    assert_eq!(world.metric(BREAKER).await, "0");
}

#[tokio::test]
async fn lost_billable_calls_suspend_it_too() {
    let world = wary().await;
    for n in [1, 2] {
        // The look after the lost call is lost as well.
        world.fault(Fault::new(Kind::Reset).times(2));
        let lost = world.fresh(&unchecked(n)).await;
        if n == 1 {
            assert_eq!(lost.outcome(), (504, "outcome_unknown"));
        } else {
            is_suspended(&lost);
        }
    }
    assert_eq!(books::charges(&world.ledger()).len(), 1);
}

#[tokio::test]
async fn when_telnyx_allows_no_more_nothing_is_sent_until_its_reset() {
    let world = World::new().await;
    world.read(STORED).await;
    world.fault(Fault::new(Kind::RateLimited).reset_s(40));
    let limited = world.read(UNCHECKED).await;
    assert_eq!((limited.outcome(), limited.header("retry-after")), ((429, "upstream_error"), "40"));
    let sent = world.sent();
    world.turn(10 * SECOND);
    for refused in [world.read(UNCHECKED).await, world.fresh(UNCHECKED).await, world.ask("/reputation/numbers").send().await] {
        assert_eq!(refusal(&refused), (429, "upstream_error", "upstream_rate_limited".to_owned()), "{refused:?}");
        assert_eq!((refused.header("retry-after"), refused.header("x-should-retry")), ("30", ""));
    }
    assert_eq!(world.read(STORED).await.outcome(), (200, "hit"));
    assert_eq!(world.fresh(STORED).await.outcome(), (200, "upstream_error"), "the copy in place of the refusal");
    assert_eq!(world.metric("reputation_gateway_upstream_paused_seconds").await, "30");
    assert!(books::charges(&world.ledger()).is_empty());
    assert_eq!(world.sent(), sent);
    world.turn(30 * SECOND);
    assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "first_touch"));
}

#[tokio::test]
async fn a_reset_that_is_near_is_waited_for() {
    let world = World::new().await;
    world.fault(Fault::new(Kind::RateLimited).reset_s(15));
    world.read(STORED).await;
    let sent = world.sent();
    let (waited, ()) = tokio::join!(world.fresh(UNCHECKED), async {
        while world.metric("reputation_gateway_holds_open").await == "0" {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.sent(), sent, "it is held, and not sent");
        world.turn(15 * SECOND);
    });
    assert_eq!((waited.outcome(), world.sent()), ((200, "billed"), sent + 1));
}

#[tokio::test]
async fn what_nobody_waits_for_gives_way_to_the_limit() {
    let world = World::new().await;
    world.read(STORED).await;
    world.fault(Fault::new(Kind::RateLimited).reset_s(10));
    world.turn(Duration::from_mins(61));
    assert_eq!(world.read(UNCHECKED).await.status, 429);
    let sent = world.sent();
    assert_eq!(world.read(STORED).await.outcome(), (200, "stale"));
    world.turn(10 * SECOND);
    assert_eq!(world.sent(), sent, "its renewal did not wait for the reset either");
    assert_eq!(world.read(STORED).await.outcome(), (200, "stale"));
    world.reached(sent + 1).await;
}

#[tokio::test]
async fn a_long_page_is_packed_for_who_accepts_that_and_a_record_never_is() {
    let world = World::new().await;
    let path = "/reputation/numbers?page[size]=50";
    let asking = |path: &str, codings: &str| world.ask(path).header("accept-encoding", codings).send();
    let plain = world.ask(path).send().await;
    assert_eq!((plain.header("vary"), plain.header("content-encoding")), ("accept-encoding", ""));
    for (codings, coding) in [("gzip, deflate", "gzip"), ("gzip, deflate, br", "br")] {
        let packed = asking(path, codings).await;
        assert_eq!(packed.outcome(), (200, "hit"), "all are one copy");
        assert_eq!((packed.header("vary"), packed.header("content-encoding")), ("accept-encoding", coding));
        assert_eq!(packed.header("content-length"), packed.body.len().to_string());
        let mut unpacked = Vec::new();
        let mut reader: Box<dyn Read> = match coding {
            "br" => Box::new(brotli::Decompressor::new(&packed.body[..], 4096)),
            _ => Box::new(GzDecoder::new(&packed.body[..])),
        };
        reader.read_to_end(&mut unpacked).expect("it is packed so");
        assert!(unpacked == plain.body && packed.body.len() * 2 < plain.body.len(), "{coding}");
    }
    for codings in ["gzip;q=0", "deflate", "identity"] {
        let refused = asking(path, codings).await;
        assert_eq!((refused.header("vary"), &refused.body), ("accept-encoding", &plain.body), "{codings}");
    }
    let whole = asking(&format!("/reputation/numbers/{STORED}"), "gzip").await;
    assert_eq!((whole.header("vary"), whole.header("content-encoding"), whole.body.first()), ("", "", Some(&b'{')));
    let short = asking("/reputation/numbers?page[size]=1", "gzip").await;
    assert_eq!((short.header("vary"), short.header("content-encoding")), ("", ""), "{} bytes", short.body.len());
}
