//! Targets, methods and operations that are refused: a clear 4xx in the envelope, and nothing of it upstream.

use http::Method;

use crate::harness::{Answer, ENTERPRISE, STORED, UNCHECKED, World};

/// Asserts that an answer is an error in the envelope which no client library tries again.
#[track_caller]
fn is_refusal(answer: &Answer, status: u16, code: &str, asked: &str) {
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{asked}: {}", answer.text());
    let body = answer.json();
    let error = &body["errors"][0];
    for member in [&error["code"], &error["title"], &error["detail"], &error["meta"]["url"]] {
        assert!(member.as_str().is_some_and(|text| !text.is_empty()), "{asked}: {body}");
    }
    assert_eq!(body["gateway"]["request_id"], answer.header("x-request-id"), "{asked}");
    assert_eq!(body["gateway"]["decision"], answer.header("x-gateway-decision"), "{asked}");
    assert_eq!((answer.header("x-should-retry"), answer.header("retry-after")), ("false", ""), "{asked}");
    assert_eq!((answer.header("x-gateway-billed"), answer.header("x-gateway-cost-usd")), ("no", "0.00"), "{asked}");
    assert_eq!(answer.header("content-type"), "application/json", "{asked}");
}

/// Asserts that each target is refused, and that nothing was sent or billed.
async fn are_refused(status: u16, code: &str, targets: impl IntoIterator<Item = String>) {
    let world = World::new().await;
    for target in targets {
        is_refusal(&world.ask(&target).send().await, status, code, &target);
    }
    assert_eq!((world.sent(), world.charged().as_str()), (0, "0.00"));
}

#[tokio::test]
async fn a_number_that_is_not_e164_is_refused() {
    let long = "1".repeat(4_000);
    let numbers = [
        "16035551234",
        "+",
        "+0123456789",
        "+123456",
        "+1234567890123456",
        "+1603555123x",
        "+1%20603",
        "%20+16035551234",
        "+16035551234%20",
        "++16035551234",
        "+-6035551234",
        "+1.6035551e4",
        "%252B",
        "%25252B16035551234",
        "%2B%2B16035551234",
        "+%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96%EF%BC%97",
        "tel:+16035551234",
        "+16035551234;ext=1",
        "null",
        "*",
        "%2a",
        &long,
    ];
    let paths = numbers.iter().flat_map(|number| {
        [format!("/v2/reputation/numbers/{number}?fresh=true"), format!("/enterprises/{ENTERPRISE}/reputation/numbers/{number}")]
    });
    are_refused(400, "10016", paths).await;
}

#[tokio::test]
async fn an_enterprise_that_is_not_a_uuid_is_refused() {
    let ids = [
        "x",
        "6a09cdc3-8948-47f0-aa62-74ac943d6c5",
        "6a09cdc3-8948-47f0-aa62-74ac943d6c58x",
        "{6a09cdc3-8948-47f0-aa62-74ac943d6c58}",
        "%2e%2e%2e",
        "*",
    ];
    let paths = ids.iter().flat_map(|id| {
        [
            format!("/v2/enterprises/{id}/reputation/numbers/{STORED}?fresh=true"),
            format!("/v2/enterprises/{id}/reputation/numbers"),
            format!("/v2/reputation/numbers?filter%5Benterprise_id%5D={id}"),
        ]
    });
    are_refused(400, "10015", paths).await;
}

#[tokio::test]
async fn a_query_that_is_not_understood_or_disagrees_with_itself_is_refused() {
    let of_number = [
        "fresh=maybe",
        "fresh",
        "fresh=",
        "fresh=2",
        "fresh=true,true",
        "fresh=true&fresh=false",
        "%66resh=yes",
        "fresh=1&fresh=0",
        "fresh=true;x",
        "fresh=%74rue%20",
    ];
    let of_list = [
        "page[number]=0",
        "page[number]=-1",
        "page[number]=x",
        "page[size]=0",
        "page[size]=1.5",
        "page[size]=99999999999",
        "page[size]=1&page[size]=2",
    ];
    let twice = format!("filter[phone_number][eq]=%2B1&filter[phone_number][eq]=%2B2&filter[enterprise_id]={ENTERPRISE}");
    let numbers = of_number.iter().map(|query| format!("/v2/reputation/numbers/{STORED}?{query}"));
    let lists = of_list.iter().copied().chain([twice.as_str()]).map(|query| format!("/v2/reputation/numbers?{query}"));
    are_refused(400, "10015", numbers.chain(lists)).await;
}

#[tokio::test]
async fn a_target_that_two_readers_could_read_differently_is_refused() {
    let number = format!("/v2/reputation/numbers/{STORED}");
    let targets = [
        "/",
        "/v2/",
        "//v2/reputation/numbers",
        "/v2//reputation/numbers/+16035551234",
        "/v2/reputation/numbers/",
        "/v2/reputation//numbers",
        "/v2/reputation/numbers/%",
        "/v2/reputation/numbers/%2",
        "/v2/reputation/numbers/%zz",
        "/v2/reputation/numbers/%ff%fe",
        "/v2/reputation/numbers/%c0%ae%c0%ae",
        "/v2/reputation/./numbers",
        "/v2/reputation/../reputation/numbers",
        "/v2/x/%2e%2e/reputation/numbers",
        "/v2/reputation/numbers/%2E",
        "/v2/reputation/numbers/..",
        "/v2/reputation%2fnumbers",
        "/v2/reputation/numbers%2F+16035551234",
        "/v2/reputation/numbers%5c+16035551234",
        "/v2/reputation/numbers/+1603%2f..",
        "/v2/reputation/numbers/+16035551234%00",
        "/v2/reputation/numbers/%0d%0aHost:%20x",
        "/v2/reputation/numbers/%7f",
        "/v2/reputation/numbers/%c2%85",
    ];
    let queries = ["fresh=%", "fresh=%ff", "x=%00", "%0a=1", "a=1&b=%g0"].map(|query| format!("{number}?{query}"));
    are_refused(400, "10015", targets.map(str::to_owned).into_iter().chain(queries)).await;
}

#[tokio::test]
async fn a_path_that_is_no_read_and_no_list_is_refused() {
    let scoped = format!("/v2/enterprises/{ENTERPRISE}/reputation");
    let under = ["numbers/+16035551234/history", "numbers/+16035551234/x/y", "scores", "numbers/+16035551234/fresh"]
        .map(|rest| format!("{scoped}/{rest}"));
    let others = [
        "/v2",
        "/v2/reputation",
        "/v2/reputation/number/+16035551234",
        "/v2/Reputation/numbers",
        "/v2/REPUTATION/NUMBERS/+16035551234",
        "/v2/v2/reputation/numbers",
        "/v3/reputation/numbers",
        "/V2/reputation/numbers",
        "/%76%32/reputation/numbers",
        "/v2/reputation/numbers/+16035551234/x",
        "/v2/messages",
        "/v2/phone_numbers",
        "/healthz",
        "/metrics",
        "/admin/v1/budgets",
        "/favicon.ico",
        "/reputation;x/numbers",
    ];
    are_refused(403, "route_not_allowed", under.into_iter().chain(others.map(str::to_owned))).await;
}

#[tokio::test]
async fn a_known_path_with_another_method_is_refused() {
    let world = World::new().await;
    let number = format!("/v2/reputation/numbers/{STORED}");
    let scoped = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/{STORED}?fresh=true");
    for (method, path) in [
        (Method::POST, number.as_str()),
        (Method::PUT, &number),
        (Method::PATCH, &scoped),
        (Method::OPTIONS, &number),
        (Method::TRACE, &scoped),
        (Method::POST, "/v2/reputation/numbers"),
        (Method::DELETE, "/v2/reputation/numbers"),
        (Method::from_bytes(b"PURGE").expect("a method"), &number),
        (Method::from_bytes(b"get").expect("a method"), &number),
    ] {
        is_refusal(&world.ask(path).method(method.clone()).send().await, 405, "method_not_allowed", &format!("{method} {path}"));
    }
    assert_eq!((world.sent(), world.charged().as_str()), (0, "0.00"));
}

#[tokio::test]
async fn an_operation_whose_price_nobody_has_told_never_reaches_the_upstream() {
    let world = World::new().await;
    let scoped = format!("/v2/enterprises/{ENTERPRISE}/reputation");
    let one = format!("/numbers/{UNCHECKED}");
    for (method, path, body) in [
        (Method::GET, format!("{scoped}{one}/ownership"), ""),
        (Method::POST, format!("{scoped}{one}/ownership_confirm"), "{}"),
        (Method::PATCH, format!("{scoped}/webhook"), "{}"),
        (Method::POST, format!("{scoped}/external_verification"), "{}"),
        (Method::GET, format!("{scoped}/external_verification"), ""),
    ] {
        let answer = world.ask(&path).method(method.clone()).body(body).send().await;
        is_refusal(&answer, 403, "operation_not_permitted", &format!("{method} {path}"));
    }
    assert_eq!((world.sent(), world.charged().as_str()), (0, "0.00"));
}

#[tokio::test]
async fn what_a_client_sends_beside_its_wish_stays_here() {
    let world = World::new().await;
    let path = format!("/v2/reputation/numbers/{UNCHECKED}?Fresh=true&fresh[]=true&x=%26fresh%3Dtrue&enterprise_id=other");
    let ask = world.ask(&path).header("x-http-method-override", "POST").header("range", "bytes=0-1").header("cookie", "a=b");
    let ask = ask.header("if-none-match", "*").header("traceparent", &"x".repeat(5_000)).header("x-forwarded-host", "elsewhere");
    assert_eq!(ask.send().await.status, 304, "the copy is what the client says it has");
    let seen = world.sandbox.requests();
    assert_eq!(seen.len(), 2, "a look, and a first touch");
    assert_eq!(seen[1].path_and_query, format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/{UNCHECKED}"));
    for name in ["x-http-method-override", "range", "cookie", "if-none-match", "traceparent", "x-forwarded-host"] {
        assert!(seen.iter().all(|request| !request.headers.contains_key(name)), "{name} went upstream");
    }
}

#[tokio::test]
async fn a_trace_context_goes_upstream_as_it_came_where_no_spans_are_made() {
    let world = World::new().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let ask = world.ask(&format!("/v2/reputation/numbers/{STORED}"));
    ask.header("traceparent", traceparent).header("tracestate", "a=b").header("tracestate", "c=d").send().await;
    let headers = &world.sandbox.requests()[0].headers;
    assert_eq!((headers["traceparent"].as_str(), headers["tracestate"].as_str()), (traceparent, "a=b,c=d"));
}
