//! Fields: overrides, duplicates, conditionals, connection options, credentials.

use super::row::{FRESH, LOOK, NONE, Table, Then};

/// Its copy is at hand.
const STORED: &str = "/v2/reputation/numbers/+16035551234";
/// Would be billed.
const PAID: &str = "/v2/reputation/numbers/+{n}?fresh=true";
/// Another that would be billed, for fields that name a path.
const OTHER: &str = "/v2/reputation/numbers/+{m}?fresh=true";

const AUTHORIZATION: &str = "authorization: Bearer key-of-attacker\r\n";

pub(super) fn fields() -> Table {
    let mut table = Table::default();
    overrides(&mut table);
    wishes(&mut table);
    hosts_and_keys(&mut table);
    table
}

/// Fields by which some servers take a request for another one. What they name would be billed.
fn overrides(table: &mut Table) {
    for (name, fields) in [
        ("X-HTTP-Method-Override", "x-http-method-override: POST\r\n"),
        ("X-HTTP-Method", "x-http-method: DELETE\r\n"),
        ("X-Method-Override", "x-method-override: PATCH\r\n"),
        ("X-Original-URL", "x-original-url: {o}\r\n"),
        ("X-Rewrite-URL", "x-rewrite-url: {o}\r\n"),
        ("X-Original-URI", "x-original-uri: {o}\r\n"),
        ("X-Forwarded-URI", "x-forwarded-uri: {o}\r\n"),
        ("X-Forwarded-Path", "x-forwarded-path: {o}\r\n"),
        ("X-Forwarded-Prefix", "x-forwarded-prefix: /v2/enterprises/{e}\r\n"),
        ("X-Forwarded-Host", "x-forwarded-host: elsewhere.test\r\nx-forwarded-proto: https\r\n"),
        ("X-Host", "x-host: elsewhere.test\r\nx-original-host: elsewhere.test\r\n"),
        ("Forwarded", "forwarded: for=127.0.0.1;host=elsewhere.test;proto=https\r\n"),
        ("X-Forwarded-For", "x-forwarded-for: 127.0.0.1, ::1\r\nx-real-ip: 127.0.0.1\r\n"),
        ("X-Fresh", "x-fresh: true\r\nfresh: true\r\n"),
        ("Content-Location", "content-location: {o}\r\n"),
        ("Referer and Cookie", "referer: {o}\r\ncookie: fresh=true\r\n"),
        ("Idempotency-Key", "idempotency-key: 1\r\n"),
        ("X-Gateway fields of answers", "x-gateway-billed: yes\r\nx-gateway-cost-usd: 0.00\r\nx-gateway-decision: hit\r\n"),
        ("Content-Encoding without a body", "content-encoding: gzip\r\n"),
        ("Content-Type without a body", "content-type: application/x-www-form-urlencoded\r\n"),
        ("Connection names Authorization", "connection: authorization\r\n"),
        ("Connection names Host", "connection: host, x-request-id\r\n"),
        ("Upgrade to h2c", "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"),
        (
            "Upgrade to a web socket",
            "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n",
        ),
        ("TE", "te: chunked, trailers, gzip\r\n"),
        ("Trailer", "trailer: authorization, content-length\r\n"),
        ("Expect without a body", "expect: 100-continue\r\n"),
        ("Expect of something else", "expect: 200-ok\r\n"),
        ("Range", "range: bytes=0-1\r\n"),
        ("Range and If-Range", "range: bytes=0-1,5-6\r\nif-range: \"x\"\r\n"),
        ("If-Match", "if-match: \"x\"\r\n"),
        ("If-Unmodified-Since", "if-unmodified-since: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
        ("If-Modified-Since", "if-modified-since: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
        ("If-None-Match of another copy", "if-none-match: \"x\", W/\"y\"\r\n"),
        ("a hundred fields", &"x-many: y\r\n".repeat(100)),
        ("a retry that is counted", "x-stainless-retry-count: 2\r\n"),
    ] {
        table.fields(name, STORED, &fields.replace("{o}", OTHER), 200, NONE);
    }
    table.fields("If-None-Match of any copy", STORED, "if-none-match: *\r\n", 304, NONE);
    table.fields("a long field", PAID, &format!("x-long: {}\r\n", "a".repeat(20_000)), 431, NONE);
}

/// What a request may ask for beside its target: never more than once, and never more than it costs.
fn wishes(table: &mut Table) {
    for (name, fields, status, effect) in [
        ("no-cache makes fresh free", "cache-control: no-cache\r\n", 200, LOOK),
        ("no-cache in the second of two fields", "cache-control: max-age=0\r\ncache-control: NO-CACHE\r\n", 200, LOOK),
        ("two ages that differ", "cache-control: max-age=0, max-age=99999999\r\n", 200, FRESH),
        ("an age that is no number", "cache-control: max-age=-1\r\n", 200, FRESH),
        ("no-store", "cache-control: no-store\r\npragma: no-cache\r\n", 200, FRESH),
        ("two preferences that differ", "prefer: handling=strict\r\nprefer: handling=lenient\r\n", 200, FRESH),
        ("a preference for no answer", "prefer: respond-async, return=minimal\r\n", 200, FRESH),
        ("If-None-Match does not make it free", "if-none-match: *\r\n", 304, FRESH),
        ("Range does not make it partial", "range: bytes=0-0\r\n", 200, FRESH),
        ("a request id that is no text", "x-request-id: \u{fc}\r\n", 200, FRESH),
        ("two request ids", "x-request-id: one\r\nx-request-id: two\r\n", 200, FRESH),
        ("a trace context that is none", "traceparent: 00-x\r\ntracestate: a=b\r\nbaggage: fresh=true\r\n", 200, FRESH),
        ("credentials for a proxy", "proxy-authorization: Bearer key-of-attacker\r\n", 200, FRESH),
    ] {
        table.fields(name, PAID, fields, status, effect);
    }
    let head = |target: &str| format!("HEAD {target} HTTP/1.1\r\nhost: gateway\r\n{AUTHORIZATION}\r\n");
    table.raw("HEAD of what would be billed", &head(PAID), &[200], Then::GoesOn, LOOK);
    table.raw("HEAD of a number never checked", &head("/v2/reputation/numbers/+{n}"), &[200], Then::GoesOn, LOOK);
    table.raw("HEAD of a copy", &head(STORED), &[200], Then::GoesOn, NONE);
    table.raw("HEAD of a refresh", &head("/v2/enterprises/{e}/reputation/numbers/refresh"), &[400], Then::GoesOn, NONE);
    let close = format!("GET {PAID} HTTP/1.1\r\nhost: gateway\r\n{AUTHORIZATION}connection: close, x\r\n\r\n");
    table.raw("Connection: close", &close, &[200], Then::Ends, FRESH);
}

fn hosts_and_keys(table: &mut Table) {
    for (name, hosts) in [
        ("no Host", ""),
        ("Host twice", "host: gateway\r\nhost: gateway\r\n"),
        ("Host twice, and they differ", "host: gateway\r\nHost: api.telnyx.com\r\n"),
        ("Host is a list", "host: gateway, api.telnyx.com\r\n"),
        ("Host is empty", "host:\r\n"),
        ("Host has a path", "host: gateway/v2\r\n"),
        ("Host has a user", "host: user@gateway\r\n"),
        ("Host has two ports", "host: gateway:80:80\r\n"),
        ("Host has a port that is none", "host: gateway:65536\r\n"),
    ] {
        table.ends(name, &format!("GET {PAID} HTTP/1.1\r\n{hosts}{AUTHORIZATION}"));
    }
    for (name, keys) in [
        ("no key", ""),
        ("a key twice", "authorization: Bearer key-of-attacker\r\nauthorization: Bearer key-of-attacker\r\n"),
        ("two keys", "authorization: Bearer wrong\r\nAuthorization: Bearer key-of-attacker\r\n"),
        ("two keys in one field", "authorization: Bearer key-of-attacker, Bearer wrong\r\n"),
        ("a key of another scheme", "authorization: Basic a2V5LW9mLWF0dGFja2VyOg==\r\n"),
        ("a key without a scheme", "authorization: key-of-attacker\r\n"),
        ("a key in another case", "authorization: Bearer KEY-OF-ATTACKER\r\n"),
        ("the gateway's own key", "authorization: Bearer upstream-key\r\n"),
        ("a key for a proxy alone", "proxy-authorization: Bearer key-of-attacker\r\n"),
        ("a key in a cookie", "cookie: authorization=Bearer key-of-attacker\r\n"),
        ("a key as X-API-Key", "x-api-key: key-of-attacker\r\n"),
    ] {
        table.raw(name, &format!("GET {PAID} HTTP/1.1\r\nhost: gateway\r\n{keys}\r\n"), &[401], Then::GoesOn, NONE);
    }
    let spelt = |key: &str| format!("GET {PAID} HTTP/1.1\r\nhost: gateway\r\nAUTHORIZATION:{key}\r\n\r\n");
    table.raw("a scheme in another case", &spelt("bEARER key-of-attacker"), &[200], Then::GoesOn, FRESH);
    table.raw("a key between spaces", &spelt("\t Bearer   key-of-attacker \t"), &[200], Then::GoesOn, FRESH);
    let query = "/v2/reputation/numbers/+{n}?fresh=true&api_key=key-of-attacker&access_token=key-of-attacker";
    table.raw("a key in the query", &format!("GET {query} HTTP/1.1\r\nhost: gateway\r\n\r\n"), &[401], Then::GoesOn, NONE);
}
