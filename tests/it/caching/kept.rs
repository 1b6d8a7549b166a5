//! What is kept of an upstream's answers, for whom, and until when.

use std::time::Duration;

use http::{Method, StatusCode};
use reputation_gateway::auth::Permission;
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{Fault, Kind};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::{MINUTE, asking};
use crate::harness::callers::{OTHER, caller, keys};
use crate::harness::{ABSENT, Ask, BUDGET, ENTERPRISE, STORED, UNCHECKED, World};

/// Failures are what these tests are about, so they do not open the breaker.
fn patient(config: &mut Config) {
    config.upstream.breaker_failures = 1_000;
}

/// A gateway before an upstream that puts this before each answer, which is the list that a look at [`STORED`] finds.
async fn before(head: &str) -> World {
    let source = World::new().await;
    let query = format!("filter%5Bphone_number%5D%5Beq%5D={}", STORED.replace('+', "%2B"));
    let list = Ask::new(source.upstream(), &format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers?{query}")).key("any").send().await;
    assert_eq!(list.json()["data"][0]["phone_number"], STORED);
    let answer = format!("{head}connection: close, x-hop\r\ncontent-length: {}\r\n\r\n{}", list.body.len(), list.text());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                line.clear();
            }
            let _written = stream.write_all(answer.as_bytes()).await;
        }
    });
    World::before(address, BUDGET, patient).await
}

#[tokio::test]
async fn rfc_9111_3_5_another_callers_key_is_judged_before_a_copy_is_looked_for() {
    // "A shared cache MUST NOT use a cached response to a request with an Authorization header field to satisfy any subsequent request [...]"
    let own = |name, enterprise| caller(name, &format!("enterprises = [\"{enterprise}\"]"));
    let callers = [BUDGET, &own("one", ENTERPRISE), &own("mate", ENTERPRISE), &own("other", OTHER)].concat();
    let world = World::of_account(&[ENTERPRISE, OTHER], &callers, keys).await;
    let path = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/{STORED}");
    assert_eq!(world.ask(&path).key("key-of-one").send().await.outcome(), (200, "probe"));
    let sent = world.sent();
    for (key, status, decision) in
        [("key-of-other", 403, "not_permitted"), ("key-of-nobody", 401, "unauthenticated"), ("key-of-mate", 200, "hit")]
    {
        let answer = world.ask(&path).key(key).send().await;
        assert_eq!(answer.status, status, "{key}: {answer:?}");
        assert_eq!(answer.header("cache-status").contains("; hit;"), status == 200, "{key}");
        assert_eq!((answer.text().contains("spam"), answer.header("x-gateway-decision")), (status == 200, decision), "{key}");
    }
    assert_eq!(world.ask(&path).send().await.status, 401);
    assert_eq!(world.sent(), sent, "nothing is asked for any of them");
}

#[tokio::test]
async fn rfc_9111_3_1_no_field_of_the_upstreams_comes_back_from_a_copy() {
    // "The Connection header field and fields whose names are listed in it are required [...] to be removed before forwarding the message."
    let fields = "x-hop: 1\r\nset-cookie: a=b\r\nx-end: 1\r\netag: \"theirs\"\r\nkeep-alive: timeout=5\r\n";
    let world = before(&format!("HTTP/1.1 200 OK\r\n{fields}")).await;
    for decision in ["probe", "hit"] {
        let answer = world.read(STORED).await;
        assert_eq!(answer.outcome(), (200, decision));
        for name in ["x-hop", "set-cookie", "x-end", "keep-alive", "connection"] {
            assert_eq!(answer.header(name), "", "{decision}: {name}");
        }
        assert!(answer.header("etag").len() == 34, "a validator of its own: {answer:?}");
    }
}

#[tokio::test]
async fn rfc_9110_15_2_interim_answers_are_passed_over() {
    // "A proxy MUST forward 1xx responses unless the proxy itself requested the generation of the 1xx response." A look is the gateway's own request.
    let world = before("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n").await;
    for decision in ["probe", "hit"] {
        let answer = world.read(STORED).await;
        assert_eq!((answer.outcome(), answer.header("link")), ((200, decision), ""));
        assert_eq!(answer.json()["data"]["phone_number"], STORED);
    }
}

#[tokio::test]
async fn rfc_9111_3_3_what_is_partial_is_neither_asked_for_nor_kept() {
    // "A cache MUST NOT use an incomplete response to answer requests unless the response has been made complete, or the request is partial [...]"
    let world = before("HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-9/100\r\n").await;
    assert_eq!(world.read(STORED).await.outcome(), (502, "upstream_error"));
    assert_eq!(asking(&world, STORED, "only-if-cached").await.outcome(), (504, "not_in_cache"));
    let world = World::new().await;
    let path = format!("/reputation/numbers/{STORED}");
    for decision in ["probe", "hit"] {
        let part = world.ask(&path).header("range", "bytes=0-9").header("if-range", "\"any\"").send().await;
        assert_eq!((part.outcome(), part.header("content-range")), ((200, decision), ""));
        assert_eq!(part.body, world.read(STORED).await.body);
    }
    assert!(world.sandbox.requests().iter().all(|request| !format!("{request:?}").to_lowercase().contains("range")));
}

#[tokio::test]
async fn rfc_9110_9_3_2_the_empty_body_of_head_is_never_kept() {
    // "The server SHOULD send the same header fields in response to a HEAD request as it would have sent if the request method had been GET."
    let world = World::new().await;
    let head = |number: &str| world.ask(&format!("/reputation/numbers/{number}")).method(Method::HEAD).send();
    for (number, decision) in [(STORED, "probe"), (STORED, "hit"), (UNCHECKED, "null")] {
        let answer = head(number).await;
        assert_eq!((answer.outcome(), answer.body.len()), ((200, decision), 0), "{number}");
        assert_ne!(answer.header("content-length"), "0", "{number}");
    }
    let whole = world.read(STORED).await;
    assert_eq!((whole.outcome(), &whole.json()["data"]["phone_number"]), ((200, "hit"), &STORED.into()));
    assert_eq!(world.charged(), "0.00");
    assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "first_touch"));
}

#[tokio::test]
async fn rfc_9111_3_errors_foreign_and_cut_bodies_are_never_kept() {
    // "A cache MUST NOT store a response to a request unless [...] the response status code is final."
    let world = World::with(BUDGET, patient).await;
    for fault in [
        Fault::new(Kind::Status),
        Fault::new(Kind::Status).status(StatusCode::OK),
        Fault::new(Kind::Status).status(StatusCode::NOT_FOUND),
        Fault::new(Kind::Garbage),
        Fault::new(Kind::WrongNumber),
        Fault::new(Kind::Cut),
        Fault::new(Kind::Reset),
    ] {
        world.fault(fault.clone());
        let answer = asking(&world, STORED, "no-cache").await;
        assert_ne!(answer.status, 200, "{fault:?}: {answer:?}");
        assert_eq!(asking(&world, STORED, "only-if-cached").await.outcome(), (504, "not_in_cache"), "{fault:?}");
    }
    assert_eq!((world.read(STORED).await.outcome(), world.charged().as_str()), ((200, "probe"), "0.00"));
}

#[tokio::test]
async fn rfc_5861_4_which_statuses_a_stale_copy_stands_in_for() {
    // "In this context, an error is any situation that would result in a 500, 502, 503, or 504 HTTP response status code being returned."
    let world = World::with(BUDGET, patient).await;
    world.read(STORED).await;
    world.turn(120 * MINUTE);
    for (status, stands_in) in [(403, false), (404, false), (410, false), (500, true), (502, true), (503, true), (504, true)] {
        world.fault(Fault::new(Kind::Status).status(StatusCode::from_u16(status).expect("a status")));
        let answer = world.read(STORED).await;
        assert_eq!(answer.outcome(), if stands_in { (200, "stale") } else { (status, "upstream_error") });
        world.turn(MINUTE);
    }
    for kind in [Kind::Reset, Kind::Cut] {
        world.fault(Fault::new(kind));
        assert_eq!(world.read(STORED).await.outcome(), (200, "stale"), "{kind:?}");
        world.turn(MINUTE);
    }
    world.fault(Fault::new(Kind::Hang).delay(60 * MINUTE));
    let (sent, read) = (world.sent(), tokio::spawn(world.ask(&format!("/reputation/numbers/{STORED}")).send()));
    world.reached(sent + 1).await;
    world.turn(MINUTE);
    assert_eq!(read.await.expect("no panic").outcome(), (200, "stale"), "a time-out");
}

#[tokio::test]
async fn rfc_9111_4_3_4_a_renewal_without_change_begins_a_new_lifetime() {
    // "When a cache receives a 304 (Not Modified) response, it needs to identify stored responses that are suitable for updating with the
    // new information provided, and then do so." A look that brings the same is what comes nearest: the age counts anew.
    let world = World::new().await;
    let first = world.read(STORED).await;
    world.turn(120 * MINUTE);
    let renewed = world.read(STORED).await;
    assert_eq!((renewed.outcome(), renewed.header("etag")), ((200, "revalidated"), first.header("etag")));
    world.turn(59 * MINUTE);
    let hit = world.read(STORED).await;
    assert_eq!((hit.outcome(), hit.header("age"), &hit.body), ((200, "hit"), "3540", &first.body));
    assert_eq!(hit.header("cache-status"), "reputation-gateway; hit; ttl=60; detail=hit");
}

#[tokio::test]
async fn rfc_9111_4_4_a_write_makes_untrue_what_it_is_about_also_if_its_answer_was_lost() {
    // "A cache MUST invalidate the target URI when it receives a non-error status code in response to an unsafe request method."
    let world = World::with(BUDGET, |config| config.auth.allow = vec![Permission::Associate]).await;
    let path = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/{STORED}");
    world.read(STORED).await;
    world.fault(Fault::new(Kind::ResetAfterBilling).method(&Method::DELETE));
    assert_ne!(world.ask(&path).method(Method::DELETE).send().await.status, 204);
    for way in [path.clone(), format!("/reputation/numbers/{STORED}")] {
        let copy = world.ask(&way).header("cache-control", "only-if-cached").send().await;
        assert_eq!(copy.outcome(), (504, "not_in_cache"), "{way}");
    }
    assert_eq!(world.read(STORED).await.outcome(), (404, "not_found"));
    world.read(ABSENT).await;
    let page = || world.ask("/reputation/numbers?page[size]=3").send();
    assert_eq!(((page().await.outcome()), page().await.outcome()), ((200, "passed"), (200, "hit")));
    world.turn(Duration::from_secs(1));
    assert_eq!(world.ask(&path.replace(STORED, UNCHECKED)).method(Method::DELETE).send().await.status, 204);
    assert_eq!(page().await.outcome(), (200, "passed"), "the lists that it was on");
    assert_eq!(world.read(ABSENT).await.outcome(), (404, "not_found"));
}
