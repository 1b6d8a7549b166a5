//! HTTP/2 by prior knowledge: what it shares with HTTP/1.1, and what only it has.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reputation_gateway::config::Config;
use tokio::net::TcpStream;

use crate::harness::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, Outcome, PING, RST_STREAM, SETTINGS,
};
use crate::harness::{Answer, BUDGET, STORED, UNCHECKED, Wire, World};

const PATH: &str = "/v2/reputation/numbers/+16035551234";

/// RFC 9113, 7.
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A connection on which only what is right can be said.
#[derive(Clone)]
struct Client(http2::SendRequest<Full<Bytes>>);

impl Client {
    async fn of(world: &World) -> Self {
        let stream = TcpStream::connect(world.gateway).await.expect("the gateway listens");
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self(sender)
    }

    async fn send(&mut self, method: Method, path: &str, field: (&str, &str), body: Bytes) -> Answer {
        let uri = format!("http://gateway{path}");
        let request = Request::builder().method(method).uri(uri).header(field.0, field.1).body(Full::new(body)).expect("a request");
        let (head, body) = self.0.send_request(request).await.expect("an answer").into_parts();
        Answer { status: head.status, headers: head.headers, body: body.collect().await.expect("a whole body").to_bytes() }
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, ("accept", "application/json"), Bytes::new()).await
    }
}

fn short(setting: fn(&mut Config) -> &mut reputation_gateway::units::Span) -> impl FnOnce(&mut Config) {
    move |config| *setting(config) = "50ms".parse().expect("a time")
}

/// Long before any other limit than the one that a test has set.
async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(15), event).await.expect("soon")
}

#[tokio::test]
async fn both_versions_are_spoken_on_one_address() {
    let world = World::new().await;
    let answer = Client::of(&world).await.get(PATH).await;
    assert_eq!((answer.outcome(), answer.header("x-gateway-billed")), ((200, "probe"), "no"));
    let other = world.read(STORED).await;
    assert_eq!((other.outcome(), &other.body), ((200, "hit"), &answer.body));
}

#[tokio::test]
async fn requests_at_once_on_one_connection_share_one_billed_call() {
    let world = World::new().await;
    let client = Client::of(&world).await;
    let path = format!("/v2/reputation/numbers/{UNCHECKED}?fresh=true");
    let one = |mut client: Client, path: String| async move { client.get(&path).await.outcome().0 };
    let statuses = futures_util::future::join_all((0..50).map(|_| one(client.clone(), path.clone()))).await;
    assert_eq!((statuses, world.charged().as_str()), (vec![200; 50], "0.10"));
}

#[tokio::test]
async fn head_has_the_fields_of_get_and_no_body() {
    let world = World::new().await;
    let mut frames = Frames::to(world.gateway).await;
    let head = [(":method", "HEAD"), (":scheme", "http"), (":authority", "gateway"), (":path", PATH)];
    frames.send(&[Frame::fields(HEADERS, END_HEADERS | END_STREAM, 1, &head)]).await;
    let answer = frames.next_of(HEADERS).await.expect("an answer");
    assert_eq!((answer.flags & END_STREAM, answer.stream), (END_STREAM, 1), "no frame with a body follows");
    let mut client = Client::of(&world).await;
    let length = client.get(PATH).await.body.len().to_string();
    assert_eq!(client.send(Method::HEAD, PATH, ("accept", "*/*"), Bytes::new()).await.header("content-length"), length);
    let tag = client.get(PATH).await.header("etag").to_owned();
    let unchanged = client.send(Method::GET, PATH, ("if-none-match", &tag), Bytes::new()).await;
    assert_eq!((unchanged.status, unchanged.body.len()), (StatusCode::NOT_MODIFIED, 0));
}

#[tokio::test]
async fn a_request_that_is_too_long_is_refused_and_the_connection_goes_on() {
    let world = World::new().await;
    let mut client = Client::of(&world).await;
    let long = client.send(Method::GET, PATH, ("x-long", &"a".repeat(20 * 1024)), Bytes::new()).await;
    assert_eq!((long.status.as_u16(), long.code().as_str()), (431, "header_too_large"));
    let longer = client.send(Method::GET, PATH, ("x-long", &"a".repeat(63 * 1024)), Bytes::new()).await;
    assert_eq!(longer.status, 431);
    let body = client.send(Method::POST, "/v2/reputation/numbers", ("accept", "*/*"), vec![0; 4 * 1024 * 1024].into()).await;
    assert_eq!((body.status.as_u16(), body.code().as_str(), body.header("connection")), (413, "body_too_large", ""));
    let bodied = client.send(Method::GET, PATH, ("accept", "*/*"), "{}".into()).await;
    assert_eq!((bodied.status.as_u16(), bodied.code().as_str()), (400, "10015"));
    assert_eq!(client.get(PATH).await.status, 200);
    assert_eq!(world.sent(), 1);
}

#[tokio::test]
async fn trailers_are_taken_and_dropped() {
    let world = World::new().await;
    let mut frames = Frames::to(world.gateway).await;
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "gateway"), (":path", PATH), ("te", "trailers")];
    let trailers = [("x-trailer", "a"), ("authorization", "Bearer elsewhere"), ("host", "elsewhere")];
    let request = Frame::fields(HEADERS, END_HEADERS, 1, &fields);
    frames.send(&[request, Frame::fields(HEADERS, END_HEADERS | END_STREAM, 1, &trailers)]).await;
    assert_eq!(frames.outcome(1).await, Outcome::Answered(200));
}

/// What is no request, or could be taken for another, by the fields that are put in the place of a GET's or behind them.
#[tokio::test]
async fn tricks_with_fields_are_refused() {
    const NO: &str = "\0";
    let world = World::new().await;
    for (replaced, added) in [
        (&[(":method", NO)][..], &[][..]),
        (&[(":scheme", NO)], &[]),
        (&[(":path", NO)], &[]),
        (&[(":path", "")], &[]),
        (&[(":path", "v2/reputation/numbers/+16035551234")], &[]),
        (&[(":path", "http://gateway/v2/reputation/numbers/+16035551234")], &[]),
        (&[(":path", "*")], &[]),
        (&[(":path", "/v2/reputation/numbers/+16035551234 HTTP/1.1")], &[]),
        (&[(":scheme", "gopher")], &[]),
        (&[(":method", "GE T")], &[]),
        (&[(":authority", NO)], &[]),
        (&[(":authority", "")], &[]),
        (&[(":authority", "user:password@gateway")], &[]),
        (&[(":authority", "gateway/v2")], &[]),
        (&[(":authority", "gateway:99999")], &[]),
        (&[(":method", "CONNECT")], &[]),
        (&[(":method", "CONNECT"), (":scheme", NO), (":path", NO)], &[]),
        (&[(":method", "CONNECT")], &[(":protocol", "websocket")]),
        (&[], &[(":path", "/v2/elsewhere")]),
        (&[], &[(":status", "200")]),
        (&[], &[(":unknown", "a")]),
        (&[], &[("a", "b"), (":authority", "gateway")]),
        (&[], &[("host", "elsewhere")]),
        (&[], &[("host", "gateway"), ("host", "gateway")]),
        (&[], &[("X-Upper", "a")]),
        (&[], &[("connection", "close")]),
        (&[], &[("connection", "x-request-id")]),
        (&[], &[("keep-alive", "timeout=5")]),
        (&[], &[("proxy-connection", "keep-alive")]),
        (&[], &[("transfer-encoding", "chunked")]),
        (&[], &[("upgrade", "h2c")]),
        (&[], &[("te", "gzip")]),
        (&[], &[("content-length", "5")]),
        (&[], &[("content-length", "0"), ("content-length", "0")]),
        (&[], &[("content-length", "x")]),
        (&[], &[("na me", "a")]),
        (&[], &[("", "a")]),
        (&[], &[("name", "a\r\nb: c")]),
        (&[], &[("name", "a\0")]),
    ] {
        let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":authority", "gateway"), (":path", PATH)];
        for (name, value) in replaced {
            fields.iter_mut().filter(|field| field.0 == *name).for_each(|field| field.1 = *value);
        }
        fields.retain(|field| field.1 != NO);
        // What is put behind pseudo-fields of its own kind stands directly behind them.
        fields.extend(added);
        let mut frames = Frames::to(world.gateway).await;
        frames.send(&[Frame::fields(HEADERS, END_HEADERS | END_STREAM, 1, &fields)]).await;
        let outcome = frames.outcome(1).await;
        let refused = [Outcome::Answered(400), Outcome::Reset(PROTOCOL_ERROR), Outcome::Ended(Some(PROTOCOL_ERROR))];
        assert!(refused.contains(&outcome), "{fields:?}: {outcome:?}");
    }
    assert_eq!((world.sent(), world.charged().as_str()), (0, "0.00"));
}

#[tokio::test]
async fn what_only_begins_like_http_2_is_ended() {
    let world = World::new().await;
    for start in ["PRI * HTTP/2.0\r\n\r\n", "PRI * HTTP/1.1\r\n\r\n"] {
        let smuggled = format!("{start}GET {PATH}?fresh=true HTTP/1.1\r\nhost: gateway\r\n\r\n");
        let answer = crate::harness::exchange(world.gateway, smuggled.as_bytes()).await;
        assert!(!answer.contains("HTTP/1.1"), "{answer}");
    }
    assert_eq!(world.sent(), 0);
}

#[tokio::test]
async fn requests_taken_back_at_once_end_the_connection_and_nothing_else() {
    let world = World::new().await;
    let mut frames = Frames::to(world.gateway).await;
    let path = format!("/v2/reputation/numbers/{UNCHECKED}?fresh=true");
    let flood = (0..10_000).flat_map(|n| [Frame::get(2 * n + 1, &path), Frame::cancel(2 * n + 1)]);
    frames.send(&flood.collect::<Vec<_>>()).await;
    let reasons = frames.ended().await;
    assert!(reasons.is_empty() || reasons.contains(&ENHANCE_YOUR_CALM), "{reasons:?}");
    assert_eq!(Client::of(&world).await.get(PATH).await.status, 200);
    assert!(["0.00", "0.10"].contains(&world.charged().as_str()), "one number is paid for once at most");
}

#[tokio::test]
async fn malformed_requests_end_the_connection_when_there_are_too_many() {
    let world = World::with(BUDGET, |config| config.server.http2_max_malformed = 10).await;
    let mut frames = Frames::to(world.gateway).await;
    let malformed = |stream| Frame::fields(HEADERS, END_HEADERS | END_STREAM, stream, &[(":method", "GET")]);
    frames.send(&(0..1000).map(|n| malformed(2 * n + 1)).collect::<Vec<_>>()).await;
    let reasons = frames.ended().await;
    assert!(reasons.is_empty() || reasons.contains(&ENHANCE_YOUR_CALM), "{reasons:?}");
    assert_eq!(Client::of(&world).await.get(PATH).await.status, 200);
}

#[tokio::test]
async fn fields_without_end_end_the_connection_and_nothing_else() {
    let world = World::new().await;
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "gateway"), (":path", PATH)];
    let empty = Frame { kind: CONTINUATION, flags: 0, stream: 1, payload: Vec::new() };
    let full = Frame::fields(CONTINUATION, 0, 1, &[("x-long", "a long value of a field"); 300]);
    for next in [empty, full] {
        let mut frames = Frames::to(world.gateway).await;
        frames.send(&[Frame::fields(HEADERS, END_STREAM, 1, &fields)]).await;
        frames.send(&vec![next; 10_000]).await;
        let reasons = frames.ended().await;
        let expected = [ENHANCE_YOUR_CALM, PROTOCOL_ERROR];
        assert!(reasons.iter().all(|reason| expected.contains(reason)), "{reasons:?}");
    }
    assert_eq!(Client::of(&world).await.get(PATH).await.status, 200);
}

#[tokio::test]
async fn a_frame_beyond_the_limit_ends_the_connection() {
    let world = World::new().await;
    let mut frames = Frames::to(world.gateway).await;
    frames.send(&[Frame { kind: DATA, flags: 0, stream: 1, payload: vec![0; 16 * 1024 + 1] }]).await;
    let reasons = frames.ended().await;
    assert!(reasons.is_empty() || reasons == [FRAME_SIZE_ERROR], "{reasons:?}");
}

#[tokio::test]
async fn no_more_requests_are_under_way_on_a_connection_than_allowed() {
    let world = World::gated(BUDGET, |config| config.server.http2_max_streams = 2).await;
    world.gate.close();
    let mut frames = Frames::to(world.gateway).await;
    frames.send(&[Frame::get(1, PATH), Frame::get(3, PATH), Frame::get(5, PATH)]).await;
    assert_eq!(frames.outcome(5).await, Outcome::Reset(REFUSED_STREAM));
    world.reached(1).await;
    world.gate.open();
    assert_eq!(frames.outcome(1).await, Outcome::Answered(200));
}

#[tokio::test]
async fn fields_that_trickle_in_end_the_connection_also_beside_a_request() {
    let world = World::gated(BUDGET, short(|config| &mut config.server.header_timeout)).await;
    let begun = Frame::fields(HEADERS, END_STREAM, 1, &[(":method", "GET")]);
    let mut alone = Frames::to(world.gateway).await;
    alone.send(std::slice::from_ref(&begun)).await;
    soon(alone.ended()).await;
    world.gate.close();
    let mut beside = Frames::to(world.gateway).await;
    beside.send(&[Frame::get(1, PATH), Frame { stream: 3, ..begun }]).await;
    world.reached(1).await;
    soon(beside.ended()).await;
    world.gate.open();
}

#[tokio::test]
async fn fields_that_came_in_time_leave_the_connection_alone() {
    let times = |config: &mut Config| {
        config.server.header_timeout = "50ms".parse().expect("a time");
        config.server.idle_timeout = "1h".parse().expect("a time");
    };
    let world = World::with(BUDGET, times).await;
    let mut frames = Frames::to(world.gateway).await;
    frames.send(&[Frame::get(1, PATH)]).await;
    assert_eq!(frames.outcome(1).await, Outcome::Answered(200));
    // Another connection has run out of its time meanwhile, which began later.
    let mut late = Frames::to(world.gateway).await;
    late.send(&[Frame::fields(HEADERS, 0, 1, &[(":method", "GET")])]).await;
    late.ended().await;
    frames.send(&[Frame { kind: PING, flags: 0, stream: 0, payload: vec![0; 8] }, Frame::get(3, PATH)]).await;
    assert_eq!(frames.outcome(3).await, Outcome::Answered(200));
}

#[tokio::test]
async fn pings_do_not_keep_an_idle_connection() {
    let world = World::with(BUDGET, short(|config| &mut config.server.idle_timeout)).await;
    Frames::to(world.gateway).await.ping_until_ended().await;
    let mut told = Frames::to(world.gateway).await;
    told.send(&[Frame::get(1, PATH)]).await;
    assert_eq!(told.outcome(1).await, Outcome::Answered(200));
    assert_eq!(told.ended().await.first(), Some(&NO_ERROR), "it is told before it is ended");
}

#[tokio::test]
async fn an_answer_that_is_not_taken_ends_the_connection() {
    let world = World::with(BUDGET, short(|config| &mut config.server.idle_timeout)).await;
    // SETTINGS_INITIAL_WINDOW_SIZE is 0, and no WINDOW_UPDATE follows.
    let mut frames = Frames::with(world.gateway, &[(4, 0)]).await;
    frames.send(&[Frame::get(1, PATH)]).await;
    assert_eq!(frames.outcome(1).await, Outcome::Answered(200));
    frames.ping_until_ended().await;
}

#[tokio::test]
async fn a_client_that_does_not_answer_pings_is_gone() {
    let world = World::gated(BUDGET, short(|config| &mut config.server.http2_ping_interval)).await;
    world.gate.close();
    let mut silent = Frames::to(world.gateway).await;
    silent.send(&[Frame { kind: SETTINGS, flags: ACK, stream: 0, payload: Vec::new() }, Frame::get(1, PATH)]).await;
    world.reached(1).await;
    silent.ended().await;
    world.gate.open();
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_408_and_the_connection_goes_on() {
    let world = World::with(BUDGET, short(|config| &mut config.server.body_timeout)).await;
    let mut frames = Frames::to(world.gateway).await;
    let post = [(":method", "POST"), (":scheme", "http"), (":authority", "gateway"), (":path", "/v2/reputation/numbers")];
    let part = Frame { kind: DATA, flags: 0, stream: 1, payload: vec![b'{'] };
    frames.send(&[Frame::fields(HEADERS, END_HEADERS, 1, &post), part]).await;
    assert_eq!(frames.outcome(1).await, Outcome::Answered(408));
    assert_eq!(frames.next_of(RST_STREAM).await.map(|frame| frame.stream), Some(1), "the rest of the body is not wanted");
    frames.send(&[Frame::get(3, PATH)]).await;
    assert_eq!(frames.outcome(3).await, Outcome::Answered(200));
}

#[tokio::test]
async fn a_stop_is_announced_and_requests_under_way_are_answered() {
    let mut world = World::gated(BUDGET, |_| {}).await;
    world.gate.close();
    let mut frames = Frames::to(world.gateway).await;
    frames.send(&[Frame::get(1, &format!("/v2/reputation/numbers/{UNCHECKED}?fresh=true"))]).await;
    world.reached(1).await;
    world.begin_stop();
    let goaway = frames.next_of(GOAWAY).await.expect("it is announced");
    assert_eq!(goaway.payload[4..8], NO_ERROR.to_be_bytes());
    world.gate.open();
    // The server asks by a ping what the client had sent before it knew.
    while let Some(frame) = frames.next().await {
        match frame.kind {
            PING => frames.send(&[Frame { flags: ACK, ..frame }]).await,
            HEADERS => {
                assert_eq!(frame.stream, 1);
                break;
            }
            _ => {}
        }
    }
    assert_eq!(frames.ended().await.last().copied().unwrap_or(NO_ERROR), NO_ERROR);
    world.stop().await;
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test]
async fn requests_that_do_not_finish_in_the_drain_time_are_cut() {
    let mut world = World::gated(BUDGET, |config| config.server.drain_timeout = "0s".parse().expect("a time")).await;
    world.gate.close();
    let mut frames = Frames::to(world.gateway).await;
    frames.send(&[Frame::get(1, &format!("/v2/reputation/numbers/{UNCHECKED}?fresh=true"))]).await;
    world.reached(1).await;
    world.begin_stop();
    assert!(matches!(frames.outcome(1).await, Outcome::Reset(_) | Outcome::Ended(_)));
    world.gate.open();
    world.stop().await;
    assert_eq!(world.charged(), "0.10", "what was paid for is recorded all the same");
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_stop() {
    let mut world = World::with(BUDGET, |config| config.server.drain_timeout = "1h".parse().expect("a time")).await;
    let mut client = Client::of(&world).await;
    assert_eq!(client.get(PATH).await.status, 200);
    let (silent, undecided) = (Wire::to(world.gateway).await, Wire::to(world.gateway).await);
    let mut undecided = undecided;
    undecided.send("PR").await;
    world.stop().await;
    silent.ended().await;
    undecided.ended().await;
}
