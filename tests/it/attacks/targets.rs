//! Targets: queries, encodings, paths, numbers, and the forms of a request's line.

use super::row::{Effect, FIELDS, FRESH, NONE, TOUCH, Table, Then};

const NUMBER: &str = "/v2/reputation/numbers/+{n}";
const SCOPED: &str = "/v2/enterprises/{e}/reputation/numbers/+{n}";

/// Parameters that are there twice, spelt otherwise, or hidden.
pub(super) fn queries() -> Table {
    let mut table = Table::default();
    for (name, query, status, effect) in [
        ("fresh twice, the same", "fresh=true&fresh=true", 200, FRESH),
        ("fresh twice in two spellings", "fresh=1&fresh=TRUE", 200, FRESH),
        ("fresh true, then false", "fresh=true&fresh=false", 400, NONE),
        ("fresh false, then true", "fresh=false&fresh=true", 400, NONE),
        ("fresh 0, then encoded 1", "fresh=0&%66resh=1", 400, NONE),
        ("fresh as a list", "fresh[]=true", 200, TOUCH),
        ("fresh as an encoded list", "fresh%5B%5D=true", 200, TOUCH),
        ("fresh as a member", "fresh[eq]=true", 200, TOUCH),
        ("fresh with NUL in its name", "fresh%00=true", 400, NONE),
        ("fresh with NUL in its value", "fresh=true%00", 400, NONE),
        ("fresh with an encoded name", "%66%72%65%73%68=true", 200, FRESH),
        ("fresh with an encoded value", "fresh=%74%72%75%65", 200, FRESH),
        ("fresh with a name encoded twice", "%2566resh=true", 200, TOUCH),
        ("fresh with a value encoded twice", "fresh=%2574rue", 400, NONE),
        ("fresh in another case", "Fresh=true&FRESH=true", 200, TOUCH),
        ("fresh behind a semicolon", "x=1;fresh=true", 200, TOUCH),
        ("fresh before a semicolon", "fresh=true;fresh=false", 400, NONE),
        ("fresh without a value", "fresh", 400, NONE),
        ("fresh with an empty value", "fresh=", 400, NONE),
        ("fresh as yes", "fresh=yes", 400, NONE),
        ("fresh as on", "fresh=on", 400, NONE),
        ("fresh as t", "fresh=t", 400, NONE),
        ("fresh as 2", "fresh=2", 400, NONE),
        ("fresh as a full-width 1", "fresh=%EF%BC%91", 400, NONE),
        ("fresh with a dotless letter", "fresh=tr%C3%BCe", 400, NONE),
        ("fresh with a space behind it", "fresh=true+", 400, NONE),
        ("fresh with a line end behind it", "fresh=true%0d%0a", 400, NONE),
        ("fresh with a space before its name", "+fresh=true", 200, TOUCH),
        ("fresh behind a second question mark", "?fresh=true", 200, TOUCH),
        ("fresh between empty pairs", "&&fresh=true&", 200, FRESH),
        ("fresh inside another value", "x=%26fresh%3Dtrue", 200, TOUCH),
        ("fresh overlong in UTF-8", "%C1%A6resh=true", 400, NONE),
        ("fresh before a fragment", "fresh=true#&fresh=false", 200, FRESH),
        ("an escape that is cut off", "x=%2", 400, NONE),
        ("a method in the query", "_method=DELETE&fresh=true", 200, FRESH),
        ("another enterprise in the query", "enterprise_id=11111111-2222-4333-8444-555555555555", 200, TOUCH),
        ("another number in the query", "phone_number=%2B{m}&fresh=false", 200, TOUCH),
        ("another path in the query", "/v2/reputation/numbers/+{m}?fresh=true", 200, TOUCH),
    ] {
        table.target(name, &format!("{NUMBER}?{query}"), status, effect);
    }
    table.target("an empty query", &format!("{NUMBER}?"), 200, TOUCH);
    table.target("a query that is encoded into the path", &format!("{NUMBER}%3Ffresh=true"), 400, NONE);
    table.target("a query of a thousand pairs", &format!("{NUMBER}?{}", "fresh=true&".repeat(1000)), 200, FRESH);
    table.target("a query that is too long", &format!("{NUMBER}?fresh=true&x={}", "a".repeat(20_000)), 431, NONE);
    let twice = "?filter[enterprise_id]={e}&filter[enterprise_id]=11111111-2222-4333-8444-555555555555&fresh=true";
    table.target("a list of two enterprises", &format!("/v2/reputation/numbers{twice}"), 400, NONE);
    table.target("a list that is to be fresh", "/v2/reputation/numbers?fresh=true&page[size]=1", 200, LIST);
    table
}

const LIST: Effect = Effect(0, &["GET {E}/reputation/numbers?page%5Bnumber%5D=1&page%5Bsize%5D=1"]);

/// Spellings of a number.
pub(super) fn numbers() -> Table {
    let mut table = Table::default();
    for (name, number, status, effect) in [
        ("a plus as %2B", "%2B{n}", 200, FRESH),
        ("a plus as %2b", "%2b{n}", 200, FRESH),
        ("a plus encoded twice", "%252B{n}", 200, FRESH),
        ("a plus encoded thrice", "%25252B{n}", 400, NONE),
        ("a plus as %u002B", "%u002B{n}", 400, NONE),
        ("a plus overlong in UTF-8", "%C0%AB{n}", 400, NONE),
        ("a full-width plus", "%EF%BC%8B{n}", 400, NONE),
        ("two spellings of two pluses", "%2B+{n}", 400, NONE),
        ("two pluses", "++{n}", 400, NONE),
        ("a digit encoded", "+%31{r}", 200, FRESH),
        ("a digit encoded twice", "+%2531{r}", 400, NONE),
        ("a digit overlong in two bytes", "+%C0%B1{r}", 400, NONE),
        ("a digit overlong in three bytes", "+%E0%80%B1{r}", 400, NONE),
        ("a full-width digit", "+%EF%BC%91{r}", 400, NONE),
        ("an Arabic digit", "+%D9%A1{r}", 400, NONE),
        ("a superscript digit", "+%C2%B9{r}", 400, NONE),
        ("a mark that turns the direction", "%E2%80%AE+{n}", 400, NONE),
        ("a mark behind it", "+{n}%E2%80%8F", 400, NONE),
        ("a space of no width", "+1%E2%80%8B{r}", 400, NONE),
        ("a byte order mark", "%EF%BB%BF+{n}", 400, NONE),
        ("bytes that are no UTF-8", "+{n}%FF", 400, NONE),
        ("an escape that is cut off", "+{n}%2", 400, NONE),
        ("NUL behind it", "+{n}%00", 400, NONE),
        ("a line end behind it", "+{n}%0d%0ax: y", 400, NONE),
        ("a space before it", "%20+{n}", 400, NONE),
        ("a space within", "+1%20{r}", 400, NONE),
        ("dashes", "+1-202-555-0001", 400, NONE),
        ("brackets", "+1(202)5550001", 400, NONE),
        ("tel:", "tel:+{n}", 400, NONE),
        ("no plus", "{n}", 400, NONE),
        ("two zeros for the plus", "00{n}", 400, NONE),
        ("a zero behind the plus", "+0{n}", 400, NONE),
        ("too many digits", "+{n}00000", 400, NONE),
        ("a decimal point", "+{n}.0", 400, NONE),
        ("an exponent", "+12025550001e0", 400, NONE),
        ("a minus", "-{n}", 400, NONE),
        ("an extension", "+{n};ext=1", 400, NONE),
        ("a file's ending", "+{n}.json", 400, NONE),
        ("two numbers", "+{n},+{m}", 400, NONE),
        ("a wildcard", "+1202555*", 400, NONE),
        ("quotes", "%22+{n}%22", 400, NONE),
    ] {
        let target = format!("/v2/reputation/numbers/{number}?fresh=true");
        if number.contains(' ') {
            table.ends(name, &format!("GET {target} HTTP/1.1\r\n{FIELDS}"));
        } else {
            table.target(name, &target, status, effect);
        }
    }
    table
}

/// Paths that are almost those of the table.
pub(super) fn paths() -> Table {
    let mut table = Table::default();
    for (name, path, status, effect) in [
        ("without /v2", "/reputation/numbers/+{n}", 200, FRESH),
        ("an encoded letter", "/v2/%72eputation/numbers/+{n}", 200, FRESH),
        ("an encoded v2", "/%76%32/reputation/numbers/+{n}", 403, NONE),
        ("/v2 twice", "/v2/v2/reputation/numbers/+{n}", 403, NONE),
        ("/V2", "/V2/reputation/numbers/+{n}", 403, NONE),
        ("a word in another case", "/v2/Reputation/numbers/+{n}", 403, NONE),
        ("all words in another case", "/v2/REPUTATION/NUMBERS/+{n}", 403, NONE),
        ("a homoglyph", "/v2/r%D0%B5putation/numbers/+{n}", 403, NONE),
        ("a space of no width behind a word", "/v2/reputation/numbers%E2%80%8B/+{n}", 403, NONE),
        ("a dot segment", "/v2/reputation/./numbers/+{n}", 400, NONE),
        ("two dots", "/v2/reputation/numbers/../numbers/+{n}", 400, NONE),
        ("two encoded dots", "/v2/x/%2e%2e/reputation/numbers/+{n}", 400, NONE),
        ("dots in two spellings", "/v2/x/.%2E/reputation/numbers/+{n}", 400, NONE),
        ("dots encoded twice", "/v2/x/%252e%252e/reputation/numbers/+{n}", 403, NONE),
        ("dots and a semicolon", "/v2/x/..;/reputation/numbers/+{n}", 403, NONE),
        ("two slashes at the start", "//v2/reputation/numbers/+{n}", 400, NONE),
        ("two slashes within", "/v2/reputation//numbers/+{n}", 400, NONE),
        ("a slash at the end", "/v2/reputation/numbers/+{n}/", 400, NONE),
        ("an encoded slash", "/v2/reputation%2Fnumbers/+{n}", 400, NONE),
        ("a slash encoded twice", "/v2/reputation%252Fnumbers/+{n}", 403, NONE),
        ("an overlong slash", "/v2/reputation%C0%AFnumbers/+{n}", 400, NONE),
        ("an encoded backslash", "/v2/reputation%5Cnumbers/+{n}", 400, NONE),
        ("a backslash", "/v2/reputation\\numbers/+{n}", 400, NONE),
        ("a path parameter of a word", "/v2/reputation;x=1/numbers/+{n}", 403, NONE),
        ("a path parameter of the number", "/v2/reputation/numbers/+{n};x=1", 400, NONE),
        ("a path parameter of /v2", "/v2;x=1/reputation/numbers/+{n}", 403, NONE),
        ("an enterprise in upper case", "/v2/enterprises/6A09CDC3-8948-47F0-AA62-74AC943D6C58/reputation/numbers/+{n}", 200, FRESH),
        ("an enterprise without hyphens", "/v2/enterprises/6a09cdc3894847f0aa6274ac943d6c58/reputation/numbers/+{n}", 400, NONE),
        ("an enterprise in braces", "/v2/enterprises/%7B{e}%7D/reputation/numbers/+{n}", 400, NONE),
        ("an enterprise with a path parameter", "/v2/enterprises/{e};x/reputation/numbers/+{n}", 400, NONE),
        ("an enterprise that is a dot segment", "/v2/enterprises/%2e/reputation/numbers/+{n}", 400, NONE),
        ("an unknown path under /reputation", "/v2/reputation/checks/+{n}", 403, NONE),
        ("an unknown path under a number", "/v2/reputation/numbers/+{n}/check", 403, NONE),
        ("an unknown path under an enterprise", "/v2/enterprises/{e}/reputation/numbers/+{n}/history/1", 403, NONE),
        ("a refresh by GET", "/v2/enterprises/{e}/reputation/numbers/refresh", 400, NONE),
        ("a fragment before the number", "/v2/reputation/numbers#/+{n}", 200, Effect(0, &[FIRST_PAGE])),
    ] {
        table.target(name, &format!("{path}?fresh=true"), status, effect);
    }
    for (name, line, status) in [
        ("a refresh without an enterprise", "POST /v2/reputation/numbers/refresh", 405),
        ("a refresh of one number", "POST /v2/enterprises/{e}/reputation/numbers/+{n}/refresh", 403),
        ("a refresh with a slash at the end", "POST /v2/enterprises/{e}/reputation/numbers/refresh/", 400),
        ("a refresh in another case", "POST /v2/enterprises/{e}/reputation/numbers/Refresh", 405),
        ("a batch that nobody knows", "POST /v2/enterprises/{e}/reputation/numbers/batch", 405),
        ("a remediation that is tried again", "POST /v2/enterprises/{e}/reputation/remediation/1/retry", 403),
        ("a schedule that nobody knows", "POST /v2/enterprises/{e}/reputation/schedule", 403),
        ("a number that is put", "PUT /v2/reputation/numbers/+{n}?fresh=true", 405),
        ("a number that is patched", "PATCH /v2/enterprises/{e}/reputation/numbers/+{n}?fresh=true", 405),
        ("a number that is posted", "POST /v2/reputation/numbers/+{n}?fresh=true", 405),
        ("a number whose options are asked for", "OPTIONS /v2/reputation/numbers/+{n}?fresh=true", 405),
        ("a number that is traced", "TRACE /v2/reputation/numbers/+{n}?fresh=true", 405),
        ("a number that is purged", "PURGE /v2/reputation/numbers/+{n}?fresh=true", 405),
        ("a method in lower case", "get /v2/reputation/numbers/+{n}?fresh=true", 405),
        ("a method that begins like GET", "GETS /v2/reputation/numbers/+{n}?fresh=true", 405),
    ] {
        table.line(name, line, status, NONE);
    }
    table
}

const FIRST_PAGE: &str = "GET {E}/reputation/numbers?page%5Bnumber%5D=1&page%5Bsize%5D=20";

/// Absolute form, asterisk form, authority form, and lines that are none.
pub(super) fn forms() -> Table {
    let mut table = Table::default();
    for (name, target, status, effect) in [
        ("absolute form", "http://gateway{p}", 200, FRESH),
        ("absolute form with the port that is usual", "http://GATEWAY:80{p}", 200, FRESH),
        ("absolute form of https", "https://gateway:443{p}", 200, FRESH),
        ("two slashes and a host", "//elsewhere.test{p}", 400, NONE),
        ("a URL as a path", "/http://gateway{p}", 400, NONE),
    ] {
        table.target(name, &target.replace("{p}", &format!("{NUMBER}?fresh=true")), status, effect);
    }
    for (name, line) in [
        ("absolute form of another host", "GET http://elsewhere.test{p}"),
        ("absolute form of the upstream", "GET https://api.telnyx.com{p}"),
        ("absolute form with a user", "GET http://user@gateway{p}"),
        ("absolute form with the host as user", "GET http://gateway@elsewhere.test{p}"),
        ("absolute form with another port", "GET http://gateway:8081{p}"),
        ("absolute form of another scheme", "GET ftp://gateway{p}"),
        ("absolute form without a host", "GET http://{p}"),
        ("a target without a slash", "GET v2/reputation/numbers/+{n}"),
        ("no target", "GET "),
        ("a space in the target", "GET {p} x"),
        ("a tab in the target", "GET {p}\tx"),
        ("two spaces before the version", "GET {p} "),
    ] {
        table.ends(name, &format!("{} HTTP/1.1\r\n{FIELDS}", line.replace("{p}", &format!("{SCOPED}?fresh=true"))));
    }
    for (name, version) in [("HTTP/0.9", ""), ("HTTP/1.2", " HTTP/1.2"), ("HTTP/2.0", " HTTP/2.0"), ("http/1.1", " http/1.1")] {
        table.ends(name, &format!("GET {SCOPED}?fresh=true{version}\r\n{FIELDS}"));
    }
    table.line("asterisk form", "OPTIONS *", 400, NONE);
    table.line("authority form with GET", "GET gateway:80", 400, NONE);
    table.line("asterisk form with GET", "GET *", 400, NONE);
    let asked = |rest: &str| format!("GET {SCOPED}?fresh=true HTTP/1.0\r\n{FIELDS}{rest}\r\n");
    table.raw("HTTP/1.0", &asked(""), &[200], Then::Ends, FRESH);
    table.raw("HTTP/1.0 that is kept", &asked("connection: keep-alive\r\n"), &[200], Then::GoesOn, FRESH);
    let tunnel = "CONNECT api.telnyx.com:443 HTTP/1.1\r\nhost: api.telnyx.com:443\r\nauthorization: Bearer key-of-attacker\r\n\r\n";
    table.raw("a tunnel", tunnel, &[400], Then::GoesOn, NONE);
    table
}
