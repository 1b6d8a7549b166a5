//! Framing: where a request ends, what follows it, and lines that two readers read in two ways.

use super::row::{Effect, FIELDS, FRESH, JSON, NONE, REFRESH, Table, Then};

const COPY: &str = "/v2/reputation/numbers/+16035551234";
const PAID: &str = "/v2/reputation/numbers/+{n}?fresh=true";
const REFRESHED: &str = "/v2/enterprises/{e}/reputation/numbers/refresh";
const BODY: &str = r#"{"phone_numbers":["+{n}"]}"#;
/// Bytes of [`BODY`] once the number is in it.
const LENGTH: usize = BODY.len() - "{n}".len() + 11;

/// What is hidden behind a request whose end is in doubt; it would be billed.
const HIDDEN: &str =
    "GET /v2/reputation/numbers/+{m}?fresh=true HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer key-of-attacker\r\n\r\n";

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{FIELDS}{fields}\r\n")
}

fn post(fields: &str, body: &str) -> String {
    format!("POST {REFRESHED} HTTP/1.1\r\n{FIELDS}{JSON}{fields}\r\n{body}")
}

pub(super) fn framing() -> Table {
    let mut table = Table::default();
    contradictions(&mut table);
    lines(&mut table);
    bodies(&mut table);
    pipelines(&mut table);
    table
}

/// Bodies whose length is said in two ways, or in none that counts.
fn contradictions(table: &mut Table) {
    let both = format!("content-length: {LENGTH}\r\ntransfer-encoding: chunked\r\n");
    let chunked = format!("{LENGTH:x}\r\n{BODY}\r\n0\r\n\r\n");
    for (name, request) in [
        ("Content-Length, then Transfer-Encoding", post(&both, &chunked)),
        ("Transfer-Encoding, then Content-Length", post("transfer-encoding: chunked\r\ncontent-length: 5\r\n", &chunked)),
        ("Content-Length of 0 and chunks", post("content-length: 0\r\ntransfer-encoding: chunked\r\n", &chunked)),
        ("Content-Length twice, equal", post(&format!("content-length: {LENGTH}\r\n").repeat(2), BODY)),
        ("Content-Length twice, unequal", post(&format!("content-length: 0\r\ncontent-length: {LENGTH}\r\n"), BODY)),
        ("Content-Length as a list", post(&format!("content-length: {LENGTH}, {LENGTH}\r\n"), BODY)),
        ("Content-Length with a sign", post(&format!("content-length: +{LENGTH}\r\n"), BODY)),
        ("Content-Length that is negative", post("content-length: -1\r\n", BODY)),
        ("Content-Length in hexadecimal", post(&format!("content-length: 0x{LENGTH:x}\r\n"), BODY)),
        ("Content-Length beyond 64 bits", post("content-length: 18446744073709551642\r\n", BODY)),
        ("Content-Length with a space before the colon", post(&format!("content-length : {LENGTH}\r\n"), BODY)),
        ("Transfer-Encoding of something else", post("transfer-encoding: xchunked\r\n", &chunked)),
        ("Transfer-Encoding twice", post("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", &chunked)),
        ("Transfer-Encoding as a list", post("transfer-encoding: gzip, chunked\r\n", &chunked)),
        ("Transfer-Encoding with a space before the colon", post("transfer-encoding : chunked\r\n", &chunked)),
        ("Transfer-Encoding on a folded line", post("transfer-encoding:\r\n chunked\r\n", &chunked)),
        ("Transfer-Encoding with a vertical tab", post("transfer-encoding: \u{b}chunked\r\n", &chunked)),
        ("Transfer-Encoding in quotes", post("transfer-encoding: \"chunked\"\r\n", &chunked)),
        ("Transfer-Encoding of identity", post("transfer-encoding: identity\r\n", BODY)),
    ] {
        table.raw(name, &format!("{request}{HIDDEN}"), &[400], Then::Ends, NONE);
    }
    let old = post("transfer-encoding: chunked\r\n", &chunked).replacen("HTTP/1.1", "HTTP/1.0", 1);
    table.raw("Transfer-Encoding in HTTP/1.0", &format!("{old}{HIDDEN}"), &[400], Then::Ends, NONE);
    for (name, chunks) in [
        ("a chunk's size in another notation", format!("0x{LENGTH:x}\r\n{BODY}\r\n0\r\n\r\n")),
        ("a chunk's size with a sign", format!("+{LENGTH:x}\r\n{BODY}\r\n0\r\n\r\n")),
        ("a chunk's size beyond 64 bits", format!("1000000000000001a\r\n{BODY}\r\n0\r\n\r\n")),
        ("a chunk that is longer than its size", format!("5\r\n{BODY}\r\n0\r\n\r\n")),
        ("a chunk that ends with a lone line feed", format!("{LENGTH:x}\r\n{BODY}\n0\r\n\r\n")),
        ("a chunk's size that ends with a lone line feed", format!("{LENGTH:x}\n{BODY}\r\n0\r\n\r\n")),
        ("a line feed in a chunk's extension", format!("{LENGTH:x};a\nb\r\n{BODY}\r\n0\r\n\r\n")),
        ("no size at all", format!("\r\n{BODY}\r\n0\r\n\r\n")),
    ] {
        table.raw(name, &format!("{}{HIDDEN}", post("transfer-encoding: chunked\r\n", &chunks)), &[400], Then::Ends, NONE);
    }
}

/// Lines that end too early, or where some readers see no line's end.
fn lines(table: &mut Table) {
    for (name, field) in [
        ("a folded field", "x: a\r\n b\r\n"),
        ("a folded field with a tab", "x: a\r\n\tcontent-length: 5\r\n"),
        ("a lone line feed", "x: a\nauthorization: Bearer other\r\n"),
        ("a lone carriage return", "x: a\rcontent-length: 5\r\n"),
        ("NUL in a value", "x: a\0b\r\n"),
        ("a space in a name", "x y: a\r\n"),
        ("a space before the colon", "x : a\r\n"),
        ("no name", ": a\r\n"),
        ("no colon", "x\r\n"),
    ] {
        table.raw(name, &format!("{}{HIDDEN}", get(PAID, field)), &[400], Then::Ends, NONE);
    }
    table.raw("a line feed for the empty line", &format!("GET {PAID} HTTP/1.1\r\n{FIELDS}\n{HIDDEN}"), &[400], Then::Ends, NONE);
    table.raw("lines that end with line feeds", &get(PAID, "").replace("\r\n", "\n"), &[400], Then::Ends, NONE);
    table.raw("a line feed before the request", &format!("\n{}", get(PAID, "")), &[400], Then::Ends, NONE);
    table.raw("empty lines before the request", &format!("\r\n\r\n{}", get(PAID, "")), &[200], Then::GoesOn, FRESH);
}

/// Bodies that come whole, where they belong and where they do not.
fn bodies(table: &mut Table) {
    let hidden = HIDDEN.len() - "{m}".len() + 11;
    let length = format!("content-length: {hidden}\r\n\r\n{HIDDEN}");
    let chunks = format!("transfer-encoding: chunked\r\n\r\n{hidden:x}\r\n{HIDDEN}\r\n0\r\n\r\n");
    for (name, line, body) in [
        ("a request in the body of GET", format!("GET {PAID}"), &length),
        ("a request in the chunks of GET", format!("GET {PAID}"), &chunks),
        ("a request in the body of DELETE", "DELETE /v2/reputation/numbers/+{n}".to_owned(), &length),
        ("a request in the chunks of DELETE", "DELETE /v2/reputation/numbers/+{n}".to_owned(), &chunks),
        ("no chunk but the last with GET", format!("GET {PAID}"), &"transfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
    ] {
        table.raw(name, &format!("{line} HTTP/1.1\r\n{FIELDS}{body}"), &[400], Then::GoesOn, NONE);
    }
    let head = format!("HEAD {PAID} HTTP/1.1\r\n{FIELDS}{length}");
    table.raw("a request in the body of HEAD", &head, &[400], Then::GoesOn, NONE);
    table.raw("a length of 0 with GET", &get(PAID, "content-length: 0\r\n"), &[200], Then::GoesOn, FRESH);
    table.raw("a request in the body of POST", &post(&format!("content-length: {hidden}\r\n"), HIDDEN), &[400], Then::GoesOn, NONE);
    for (name, chunks) in [
        ("chunks", format!("{LENGTH:X}\r\n{BODY}\r\n0\r\n\r\n")),
        ("a chunk's size with zeros before it", format!("0000{LENGTH:x}\r\n{BODY}\r\n000\r\n\r\n")),
        ("extensions of chunks", format!("{LENGTH:x};phone_numbers=\"+{{m}}\"\r\n{BODY}\r\n0;last\r\n\r\n")),
        (
            "trailers",
            format!("{LENGTH:x}\r\n{BODY}\r\n0\r\nauthorization: Bearer other\r\ncontent-length: 5\r\nhost: elsewhere.test\r\n\r\n"),
        ),
    ] {
        table.raw(name, &post("transfer-encoding: chunked\r\n", &chunks), &[200], Then::GoesOn, REFRESH);
    }
    let expecting = post(&format!("expect: 100-continue\r\ncontent-length: {LENGTH}\r\n"), BODY);
    table.raw("an expectation whose body came with it", &expecting, &[100, 200], Then::GoesOn, REFRESH);
    let over = post("content-length: 99999999\r\n", BODY);
    table.raw("a body that is too long", &over, &[413], Then::Ends, NONE);
}

const TWO: Effect = Effect(20, &["GET {E}/reputation/numbers/+{n}?fresh=true", "GET {E}/reputation/numbers/+{m}?fresh=true"]);
const SECOND: Effect = Effect(10, &["GET {E}/reputation/numbers/+{m}?fresh=true"]);
const BOTH: Effect = Effect(20, &["POST {E}/reputation/numbers/refresh", "GET {E}/reputation/numbers/+{m}?fresh=true"]);
const AFTER: Effect = Effect(10, &["GET {E}/reputation/numbers/+{n}?fresh=true", "DELETE {E}/reputation/numbers/+{n}"]);

/// Several requests at once: each is metered by itself, and in its turn.
fn pipelines(table: &mut Table) {
    let paid = get(PAID, "");
    let refused = get("/v2/reputation/numbers/+{n};x?fresh=true", "");
    let removal = format!("DELETE /v2/reputation/numbers/+{{n}} HTTP/1.1\r\n{FIELDS}\r\n");
    let refresh = post(&format!("content-length: {LENGTH}\r\n"), BODY);
    for (name, bytes, answers, effect) in [
        ("a purchase behind a copy", format!("{}{HIDDEN}", get(COPY, "")), &[200, 200][..], SECOND),
        ("a purchase behind a length of 0", format!("{}{HIDDEN}", get(COPY, "content-length: 0\r\n")), &[200, 200], SECOND),
        ("a purchase behind an upgrade", format!("{}{HIDDEN}", get(COPY, "connection: upgrade\r\nupgrade: h2c\r\n")), &[200, 200], SECOND),
        ("a purchase behind a refusal", format!("{refused}{HIDDEN}"), &[400, 200], SECOND),
        ("a purchase behind a purchase", format!("{paid}{HIDDEN}"), &[200, 200], TWO),
        ("a purchase twice", format!("{paid}{paid}"), &[200, 200], FRESH),
        ("a purchase three times", format!("{paid}{paid}{paid}"), &[200, 200, 200], FRESH),
        ("a purchase behind a refresh", format!("{refresh}{HIDDEN}"), &[200, 200], BOTH),
        ("a refresh twice", format!("{refresh}{refresh}"), &[200, 200], REFRESH),
        ("a purchase of what was refreshed", format!("{refresh}{paid}"), &[200, 200], RECALLED),
        ("a removal behind a purchase", format!("{paid}{removal}"), &[200, 204], AFTER),
    ] {
        table.raw(name, &bytes, answers, Then::GoesOn, effect);
    }
    let ended = format!("GET {COPY} HTTP/1.1\r\nhost: gateway\r\nhost: gateway\r\n\r\n{HIDDEN}");
    table.raw("a purchase behind an end", &ended, &[400], Then::Ends, NONE);
    let closed = format!("{}{HIDDEN}", get(COPY, "connection: close\r\n"));
    table.raw("a purchase behind a wish to end", &closed, &[200], Then::Ends, NONE);
    let preface = format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{HIDDEN}");
    table.raw("HTTP/2 behind HTTP/1.1", &format!("{}{preface}", get(COPY, "")), &[200], Then::Ends, NONE);
}

const RECALLED: Effect = Effect(
    10,
    &[
        "POST {E}/reputation/numbers/refresh",
        "GET {E}/reputation/numbers?filter%5Bphone_number%5D%5Beq%5D=%2B{n}&page%5Bnumber%5D=1&page%5Bsize%5D=10",
    ],
);
