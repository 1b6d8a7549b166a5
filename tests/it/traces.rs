//! Traces: spans arrive at a receiver, below the caller's and above Telnyx's; whatever the receiver does, no request waits for it.

use futures_util::future::join_all;
use opentelemetry_proto::tonic::trace::v1::Span;
use reputation_gateway::config::Config;
use reputation_gateway::units::Fraction;

use crate::harness::process::{Process, text};
use crate::harness::receiver::{Receiver, Reply, Told, hex};
use crate::harness::{Ask, BUDGET, Origin, PATIENCE, STORED, UNCHECKED, Wire, World, unchecked};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// Settings by which spans go to a receiver.
fn to(receiver: &Receiver) -> impl FnOnce(&mut Config) + use<> {
    let url = receiver.url().parse().expect("a URL");
    move |config: &mut Config| config.telemetry.otlp_endpoint = Some(url)
}

fn read(number: &str) -> String {
    format!("/v2/reputation/numbers/{number}")
}

/// The one span with this title.
fn only<'s>(spans: &'s [Span], title: &str) -> &'s Span {
    let found: Vec<_> = spans.iter().filter(|span| span.title() == title).collect();
    assert_eq!(found.len(), 1, "{title} among {:?}", spans.iter().map(Told::title).collect::<Vec<_>>());
    found[0]
}

#[tokio::test]
async fn a_trace_arrives_below_its_callers_span_and_telnyx_is_told_of_ours() {
    let receiver = Receiver::start().await;
    let mut world = World::with(BUDGET, to(&receiver)).await;
    let path = format!("{}?fresh=true", read(UNCHECKED));
    let ask = world.ask(&path).header("traceparent", PARENT).header("tracestate", "congo=t61rcWkgMzE").header("x-request-id", "one");
    assert_eq!(ask.send().await.outcome(), (200, "billed"));
    let seen = world.sandbox.requests();
    world.stop().await;

    let (exports, spans) = (receiver.exports(), receiver.spans());
    assert_eq!(
        (exports[0].line.as_str(), &exports[0].headers["content-type"]),
        ("POST /v1/traces", &"application/x-protobuf".parse().unwrap())
    );
    assert_eq!(exports[0].resource("service.name").as_deref(), Some("reputation-gateway"));
    assert_eq!(spans.len(), 3, "{spans:#?}");
    let (server, hold, client) =
        (only(&spans, "SERVER GET retrieve"), only(&spans, "INTERNAL ledger hold"), only(&spans, "CLIENT GET retrieve"));
    assert_eq!((server.parent().as_str(), server.trace_state.as_str()), (PARENT, "congo=t61rcWkgMzE"));
    assert_eq!((hold.parent(), client.parent()), (server.context(), server.context()));
    let sent = &seen.last().expect("a call").headers;
    assert_eq!((&sent["traceparent"], sent["tracestate"].as_str()), (&client.context(), "congo=t61rcWkgMzE"));
    let told = |span: &Span, keys: &[&str]| -> Vec<String> {
        let prefixed = |key: &&str| if key.contains('.') { (*key).to_owned() } else { format!("reputation_gateway.{key}") };
        keys.iter().map(|key| span.told(&prefixed(key)).unwrap_or_default()).collect()
    };
    assert_eq!(
        told(
            server,
            &["decision", "billed", "cost_usd", "operation", "caller", "cache_status", "number", "request_id", "http.response.status_code"]
        ),
        ["billed", "yes", "0.10", "retrieve", "anonymous", "request", "+12*******00", "one", "200"]
    );
    assert_eq!(told(hold, &["holds", "answer"]), ["1", "held"]);
    assert_eq!(told(client, &["result", "http.response.status_code", "server.address"]), ["billed", "200", "127.0.0.1"]);
    assert!(spans.iter().all(|span| span.start_time_unix_nano > 0 && span.start_time_unix_nano <= span.end_time_unix_nano));
}

#[tokio::test]
async fn a_hit_is_a_span_too_by_either_way() {
    let receiver = Receiver::start().await;
    let mut world = World::with(BUDGET, to(&receiver)).await;
    world.read(STORED).await;
    let other = PARENT.replace("4bf9", "4bfa");
    let mut wire = Wire::to(world.gateway).await;
    // The second one is answered before the parser.
    for _ in 0..2 {
        wire.send(format!("GET {} HTTP/1.1\r\nhost: g\r\ntraceparent: {other}\r\n\r\n", read(STORED))).await;
        assert_eq!(wire.answer().await.status, 200);
    }
    wire.send(format!("GET {} HTTP/1.1\r\nhost: g\r\ntraceparent: {other}\r\ncache-control: max-age=60\r\n\r\n", read(STORED))).await;
    assert_eq!(wire.answer().await.status, 200);
    drop(wire);
    world.stop().await;
    let spans = receiver.spans();
    let hits: Vec<_> = spans.iter().filter(|span| span.parent() == other).collect();
    assert_eq!(hits.len(), 3);
    for hit in hits {
        let said = (hit.title(), hit.told("reputation_gateway.cache_status"), hit.told("reputation_gateway.decision"));
        assert_eq!(said, ("SERVER GET retrieve".to_owned(), Some("hit".to_owned()), Some("hit".to_owned())));
    }
}

#[tokio::test]
async fn what_is_kept_of_a_request_does_not_grow_with_its_method_or_its_path() {
    let receiver = Receiver::start().await;
    let mut world = World::with(BUDGET, to(&receiver)).await;
    let mut wire = Wire::to(world.gateway).await;
    for line in [format!("{} {}", "X".repeat(8_000), read(STORED)), format!("GET /{}", "x".repeat(8_000))] {
        wire.send(format!("{line} HTTP/1.1\r\nhost: g\r\nx-request-id: long\r\n\r\n")).await;
        let status = wire.answer().await.status;
        assert!((400..500).contains(&status), "{status}");
    }
    drop(wire);
    let (last, past) = (world.admin("/admin/v1/requests").await.text(), world.admin("/admin/v1/explain?request_id=long").await.text());
    world.stop().await;
    let spans = receiver.spans();
    let methods: Vec<_> = spans.iter().map(|span| (span.told("http.request.method").unwrap_or_default(), span.name.as_str())).collect();
    assert_eq!(methods, [("_OTHER".to_owned(), "_OTHER unknown"), ("GET".to_owned(), "GET unknown")]);
    for kept in [last, past] {
        assert!(kept.contains("_OTHER") && kept.len() < 6_000, "{} bytes: {}", kept.len(), &kept[..2_000]);
    }
}

#[tokio::test]
async fn callers_decide_whether_their_traces_are_recorded_and_the_ratio_about_others() {
    let receiver = Receiver::start().await;
    let endpoint = to(&receiver);
    let mut world = World::with(BUDGET, |config| {
        endpoint(config);
        config.telemetry.otlp_sample = Fraction(0.0);
    })
    .await;
    for (n, traceparent) in [(1, UNSAMPLED), (2, ""), (3, "00-x"), (4, PARENT)] {
        world.ask(&read(&unchecked(n))).header("traceparent", traceparent).send().await;
    }
    let passed: Vec<_> = world.sandbox.requests().iter().map(|seen| seen.headers.get("traceparent").cloned()).collect();
    world.stop().await;
    let spans = receiver.spans();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == PARENT[3..35]), "{spans:#?}");
    assert_eq!(spans.len(), 4, "a request, a look, a hold, a call");
    assert_eq!(passed[..2], [Some(UNSAMPLED.to_owned()), Some(UNSAMPLED.to_owned())], "what nobody records is passed on as it came");
    assert_eq!(passed[2..6], [None, None, None, None]);
}

#[tokio::test]
async fn a_trace_begins_here_where_a_request_comes_with_none() {
    let receiver = Receiver::start().await;
    let mut world = World::with(BUDGET, to(&receiver)).await;
    world.read(STORED).await;
    world.ask(&read(STORED)).header("traceparent", &PARENT.to_uppercase()).send().await;
    let sent = world.sandbox.requests()[0].headers["traceparent"].clone();
    world.stop().await;
    let spans = receiver.spans();
    let roots: Vec<_> = spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
    assert_eq!((spans.len(), roots.len()), (3, 2), "{spans:#?}");
    assert_ne!(roots[0].trace_id, roots[1].trace_id);
    assert_eq!(sent, only(&spans, "CLIENT GET list").context());
    assert!(roots.iter().all(|root| hex(&root.trace_id) != PARENT[3..35]));
}

#[tokio::test]
async fn a_purchase_that_outlives_its_caller_has_its_spans_in_the_callers_trace() {
    let receiver = Receiver::start().await;
    let mut world = World::gated(BUDGET, to(&receiver)).await;
    world.gate.close();
    let leaving = tokio::spawn(world.ask(&format!("{}?fresh=true", read(UNCHECKED))).header("traceparent", PARENT).send());
    world.reached(1).await;
    leaving.abort();
    assert!(leaving.await.is_err_and(|left| left.is_cancelled()), "answered before the upstream was");
    // Its span is there before the call has ended.
    receiver.sent(1).await;
    while !receiver.spans().iter().any(|span| span.title() == "SERVER GET retrieve") {
        receiver.sent(receiver.exports().len() + 1).await;
    }
    world.gate.open();
    world.stop().await;
    let spans = receiver.spans();
    let server = only(&spans, "SERVER GET retrieve");
    assert_eq!(server.told("reputation_gateway.decision").as_deref(), Some("abandoned"));
    let client = only(&spans, "CLIENT GET retrieve");
    assert_eq!((client.parent(), client.told("reputation_gateway.result").as_deref()), (server.context(), Some("billed")));
}

#[tokio::test]
async fn who_joins_anothers_call_has_a_link_to_whose_it_was() {
    let receiver = Receiver::start().await;
    let mut world = World::gated(BUDGET, to(&receiver)).await;
    world.gate.close();
    let path = format!("{}?fresh=true", read(UNCHECKED));
    let first = tokio::spawn(world.ask(&path).send());
    world.reached(1).await;
    let second = tokio::spawn(world.ask(&path).send());
    while world.metric("reputation_gateway_requests_waiting").await != "1" {
        tokio::task::yield_now().await;
    }
    world.gate.open();
    for answer in join_all([first, second]).await {
        assert_eq!(answer.expect("nothing panics").status, 200);
    }
    world.stop().await;
    let spans = receiver.spans();
    let by = |decision: &str| {
        let is = |span: &&Span| span.told("reputation_gateway.decision").as_deref() == Some(decision);
        spans.iter().find(is).unwrap_or_else(|| panic!("nobody was told {decision}"))
    };
    let (bought, collapsed) = (by("billed"), by("collapsed"));
    assert_eq!((bought.links.len(), collapsed.links.len()), (0, 1));
    let link = &collapsed.links[0];
    assert_eq!((&link.trace_id, &link.span_id), (&bought.trace_id, &bought.span_id));
    assert_ne!(bought.trace_id, collapsed.trace_id);
}

#[tokio::test]
async fn what_a_route_lets_pass_is_traced() {
    let (receiver, origin) = (Receiver::start().await, Origin::start().await);
    let route = format!("{BUDGET}[[route]]\nmethods = [\"GET\"]\npath = \"/things\"\n");
    let mut world = World::before(origin.address, &route, to(&receiver)).await;
    let ask = |state: &str| world.ask("/v2/things/status/503").header("traceparent", PARENT).header("tracestate", state).send();
    ask("a=b").await;
    ask("no state").await;
    let sent: Vec<_> = origin.seen().into_iter().map(|seen| seen.headers).collect();
    world.stop().await;
    let spans = receiver.spans();
    let clients: Vec<_> = spans.iter().filter(|span| span.title() == "CLIENT GET route failed").map(Told::context).collect();
    assert_eq!(clients, [&sent[0], &sent[1]].map(|sent| sent["traceparent"].to_str().expect("text")));
    assert_eq!((sent[0].get("tracestate").map(|state| state.to_str().expect("text")), sent[1].get("tracestate")), (Some("a=b"), None));
    assert_eq!(spans.iter().filter(|span| span.title() == "SERVER GET route failed").count(), 2, "{spans:#?}");
}

/// The count of spans that ended so.
async fn ended(world: &World, how: &str) -> String {
    world.metric(&format!("reputation_gateway_spans_total{{result=\"{how}\"}}")).await
}

#[tokio::test]
async fn what_a_receiver_refuses_for_now_is_sent_again_and_what_it_rejects_is_counted() {
    let receiver = Receiver::start().await;
    receiver.replies([Reply::Status(503), Reply::Rejects(1), Reply::Status(400)]);
    let world = World::with(BUDGET, to(&receiver)).await;
    world.read(STORED).await;
    receiver.sent(2).await;
    let bodies = receiver.exports();
    assert_eq!(bodies[0].body, bodies[1].body);
    while ended(&world, "exported").await == "0" {
        tokio::task::yield_now().await;
    }
    assert_eq!([ended(&world, "exported").await, ended(&world, "rejected").await, ended(&world, "failed").await], ["1", "1", "0"]);
    world.read(STORED).await;
    while ended(&world, "failed").await == "0" {
        tokio::task::yield_now().await;
    }
    assert_eq!(receiver.exports().len(), 3, "what is refused for good is not sent again");
}

#[tokio::test]
async fn a_receiver_that_is_away_or_never_answers_keeps_nobody_waiting() {
    let silent = Receiver::start().await;
    silent.replies([Reply::Never, Reply::Never, Reply::Never]);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    for url in [silent.url(), format!("http://{gone}")] {
        let mut world = World::with(BUDGET, |config| config.telemetry.otlp_endpoint = Some(url.parse().expect("a URL"))).await;
        assert_eq!(world.fresh(UNCHECKED).await.outcome(), (200, "billed"));
        if url == silent.url() {
            silent.sent(1).await;
        }
        assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "hit"));
        tokio::time::timeout(PATIENCE, world.stop()).await.expect("a stop that does not wait for it");
    }
}

#[tokio::test]
async fn sigterm_exports_what_waits() {
    let receiver = Receiver::start().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ledger = format!("{}/ledger.sqlite", text(directory.path()));
    let endpoint = receiver.url();
    let environment = [
        ("REPUTATION_GATEWAY__LEDGER__PATH", ledger.as_str()),
        ("REPUTATION_GATEWAY__TELEMETRY__OTLP_ENDPOINT", &endpoint),
        // Other programs' settings are not this one's.
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://192.0.2.1:4318"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-other=1"),
    ];
    let demo = ["serve", "--sandbox=127.0.0.1:0", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let process = Process::start_in(&environment, &demo);
    let answer = Ask::new(process.address("listen"), &read(UNCHECKED)).header("traceparent", PARENT).send().await;
    assert_eq!(answer.status, 200);
    process.terminate();
    let ended = process.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(receiver.spans().iter().any(|span| span.parent() == PARENT), "{}", ended.stderr);
    assert!(!receiver.exports()[0].headers.contains_key("x-other") && !receiver.exports()[0].headers.contains_key("content-encoding"));
    let line = ended.stderr.lines().find(|line| line.contains(" access: ")).expect("an access line");
    assert!(line.contains(&format!("trace_id=\"{}\"", &PARENT[3..35])), "{line}");
}
