//! Bodies of refreshes, associations and remediations: JSON that two readers read in two ways, and what is no JSON at all.

use super::row::{ASSOCIATE, Effect, JSON, NONE, REFRESH, REMEDIATE, Table};
use crate::harness::unchecked;

const REFRESHES: &str = "/v2/enterprises/{e}/reputation/numbers/refresh";
const ASSOCIATES: &str = "/v2/enterprises/{e}/reputation/numbers";
const REMEDIATES: &str = "/v2/enterprises/{e}/reputation/remediation";
const ONE: &str = r#"{"phone_numbers":["+{n}"]}"#;
const OTHER: &str = "11111111-2222-4333-8444-555555555555";

/// `{"phone_numbers":["+12025550000"]}` in gzip.
const GZIP: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab, 0x56, 0x2a, 0xc8, 0xc8, 0xcf, 0x4b, 0x8d, 0xcf, 0x2b, 0xcd, 0x4d,
    0x4a, 0x2d, 0x2a, 0x56, 0xb2, 0x8a, 0x56, 0xd2, 0x36, 0x34, 0x32, 0x30, 0x32, 0x35, 0x35, 0x35, 0x00, 0x02, 0xa5, 0xd8, 0x5a, 0x00,
    0x88, 0xcd, 0xd5, 0x26, 0x22, 0x00, 0x00, 0x00,
];

pub(super) fn refreshes() -> Table {
    let mut table = Table::default();
    for (name, body, status, effect) in [
        ("an honest refresh", ONE, 200, REFRESH),
        ("white space around", " \r\n\t{ \"phone_numbers\" : [ \"+{n}\" ] }\r\n", 200, REFRESH),
        ("an escaped name", r#"{"phone_n\u0075mbers":["+{n}"]}"#, 200, REFRESH),
        ("an escaped plus", r#"{"phone_numbers":["\u002b{n}"]}"#, 200, REFRESH),
        ("a name twice", r#"{"phone_numbers":["+{n}"],"phone_numbers":["+{m}"]}"#, 400, NONE),
        ("a name twice, once escaped", r#"{"phone_numbers":["+{n}"],"phone_n\u0075mbers":["+{m}"]}"#, 400, NONE),
        ("a name in another case", r#"{"Phone_Numbers":["+{n}"]}"#, 400, NONE),
        ("a name also in another case", r#"{"phone_numbers":["+{n}"],"PHONE_NUMBERS":["+{m}"]}"#, 400, NONE),
        ("a name in camel case", r#"{"phoneNumbers":["+{n}"]}"#, 400, NONE),
        ("a name in the singular", r#"{"phone_number":"+{n}"}"#, 400, NONE),
        ("a name with a homoglyph", r#"{"phone_numb\u0435rs":["+{n}"],"phone_numbers":["+{m}"]}"#, 400, NONE),
        ("another name beside it", r#"{"phone_numbers":["+{n}"],"force":true}"#, 400, NONE),
        ("the enterprise beside it", r#"{"phone_numbers":["+{n}"],"enterprise_id":"{e}"}"#, 400, NONE),
        ("numbers within data", r#"{"data":{"phone_numbers":["+{n}"]}}"#, 400, NONE),
        ("numbers within numbers", r#"{"phone_numbers":{"phone_numbers":["+{n}"]}}"#, 400, NONE),
        ("a list within the list", r#"{"phone_numbers":[["+{n}"]]}"#, 400, NONE),
        ("an object within the list", r#"{"phone_numbers":[{"phone_number":"+{n}"}]}"#, 400, NONE),
        ("a list alone", r#"["+{n}"]"#, 400, NONE),
        ("a list around the object", r#"[{"phone_numbers":["+{n}"]}]"#, 400, NONE),
        ("a text for the list", r#"{"phone_numbers":"+{n}"}"#, 400, NONE),
        ("numbers in a text, by commas", r#"{"phone_numbers":["+{n},+{m}"]}"#, 400, NONE),
        ("numbers as integers", r#"{"phone_numbers":[{n}]}"#, 400, NONE),
        ("numbers as fractions", r#"{"phone_numbers":[1.2025550001e10]}"#, 400, NONE),
        ("null beside a number", r#"{"phone_numbers":["+{n}",null]}"#, 400, NONE),
        ("no number", r#"{"phone_numbers":[]}"#, 400, NONE),
        ("a number twice", r#"{"phone_numbers":["+{n}","+{n}"]}"#, 400, NONE),
        ("a number twice, once escaped", r#"{"phone_numbers":["+{n}","\u002B{n}"]}"#, 400, NONE),
        ("a number in the encoding of URLs", r#"{"phone_numbers":["%2B{n}"]}"#, 400, NONE),
        ("a number without its plus", r#"{"phone_numbers":["{n}"]}"#, 400, NONE),
        ("a number behind a space", r#"{"phone_numbers":[" +{n}"]}"#, 400, NONE),
        ("a number before a line's end", r#"{"phone_numbers":["+{n}\n"]}"#, 400, NONE),
        ("a number before NUL", r#"{"phone_numbers":["+{n}\u0000"]}"#, 400, NONE),
        ("a number with dashes", r#"{"phone_numbers":["+1-202-555-0001"]}"#, 400, NONE),
        ("a number in full width", r#"{"phone_numbers":["+\uff11{r}"]}"#, 400, NONE),
        ("a number behind a mark that turns the direction", r#"{"phone_numbers":["\u202e+{n}"]}"#, 400, NONE),
        ("a wildcard", r#"{"phone_numbers":["*"]}"#, 400, NONE),
        ("half a surrogate", r#"{"phone_numbers":["+{n}\ud800"]}"#, 400, NONE),
        ("a second object behind", r#"{"phone_numbers":["+{n}"]}{"phone_numbers":["+{m}"]}"#, 400, NONE),
        ("a word behind", r#"{"phone_numbers":["+{n}"]} true"#, 400, NONE),
        ("a comment", r#"{"phone_numbers":["+{n}"/*,"+{m}"*/]}"#, 400, NONE),
        ("a comma too many", r#"{"phone_numbers":["+{n}",]}"#, 400, NONE),
        ("quotes that are single", "{'phone_numbers':['+{n}']}", 400, NONE),
        ("a byte order mark", "\u{feff}{\"phone_numbers\":[\"+{n}\"]}", 400, NONE),
        ("an object that does not end", r#"{"phone_numbers":["+{n}"]"#, 400, NONE),
        ("nothing", "", 400, NONE),
        ("a form", "phone_numbers[]=%2B{n}", 400, NONE),
    ] {
        table.json(name, REFRESHES, body, status, effect);
    }
    let deep = format!(r#"{{"phone_numbers":{}"+{{n}}"{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    table.json("a list ten thousand deep", REFRESHES, &deep, 400, NONE);
    let many: Vec<_> = (700..801).map(|n| format!("\"{}\"", unchecked(n))).collect();
    table.json("101 numbers", REFRESHES, &format!(r#"{{"phone_numbers":[{}]}}"#, many.join(",")), 400, NONE);
    table.json("numbers in the query", &format!("{REFRESHES}?phone_numbers[]=%2B{{n}}"), "{}", 400, NONE);
    table.json("numbers in the body and in the query", &format!("{REFRESHES}?phone_numbers=%2B{{m}}"), ONE, 200, REFRESH);
    typed(&mut table);
    table
}

/// Types and codings that say how else a body could be read.
fn typed(table: &mut Table) {
    for (name, fields, status, effect) in [
        ("no type", "", 200, REFRESH),
        ("a type with a character set", "content-type: application/json; charset=utf-16\r\n", 200, REFRESH),
        ("a type in another case", "content-type: Application/JSON\r\n", 200, REFRESH),
        ("a type of text", "content-type: text/plain\r\n", 400, NONE),
        ("a type that ends in JSON", "content-type: application/vnd.api+json\r\n", 400, NONE),
        ("a type of a form", "content-type: application/x-www-form-urlencoded\r\n", 400, NONE),
        ("a type of a form in parts", "content-type: multipart/form-data; boundary=x\r\n", 400, NONE),
        ("two types", "content-type: application/json\r\ncontent-type: text/plain\r\n", 400, NONE),
        ("two types in one field", "content-type: application/json, text/plain\r\n", 400, NONE),
        ("a coding that was not applied", "content-type: application/json\r\ncontent-encoding: gzip\r\n", 400, NONE),
        ("a coding that nobody knows", "content-type: application/json\r\ncontent-encoding: x\r\n", 400, NONE),
        ("the coding that is none", "content-type: application/json\r\ncontent-encoding: identity\r\n", 200, REFRESH),
        ("an override of the method", "content-type: application/json\r\nx-http-method-override: GET\r\n", 200, REFRESH),
        ("a part of a body", "content-type: application/json\r\ncontent-range: bytes 0-1/2\r\n", 200, REFRESH),
        ("a key that makes retries safe elsewhere", "idempotency-key: 1\r\n", 200, REFRESH),
    ] {
        table.post(name, (REFRESHES, fields), ONE.as_bytes(), status, effect);
    }
    let coded = format!("{JSON}content-encoding: gzip\r\n");
    table.post("a body in gzip", (REFRESHES, &coded), GZIP, 400, NONE);
    table.post("a body in gzip that does not say so", (REFRESHES, JSON), GZIP, 400, NONE);
    let wide: Vec<_> = r#"{"phone_numbers":["+12025550000"]}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    table.post("a body in UTF-16", (REFRESHES, JSON), &wide, 400, NONE);
    let marked = [&[0xff, 0xfe], &wide[..]].concat();
    table.post("a body in UTF-16 with its mark", (REFRESHES, JSON), &marked, 400, NONE);
    table.post("bytes that are no UTF-8", (REFRESHES, JSON), b"{\"phone_numbers\":[\"+12025550000\xff\"]}", 400, NONE);
    let part = "--x\r\ncontent-disposition: form-data; name=\"phone_numbers\"\r\n\r\n+{n}\r\n--x--\r\n";
    table.post("a form in parts", (REFRESHES, "content-type: multipart/form-data; boundary=x\r\n"), part.as_bytes(), 400, NONE);
}

/// An order's list may have other members beside it, which are Telnyx's to judge.
pub(super) fn others() -> Table {
    let mut table = Table::default();
    let purpose = r#""call_purpose":"a""#;
    for (name, members, status, effect) in [
        ("an honest remediation", r#""phone_numbers":["+{n}"]"#, 202, REMEDIATE),
        ("a remediation of the enterprise in its path", r#""phone_numbers":["+{n}"],"enterprise_id":"{e}""#, 202, REMEDIATE),
        ("a remediation of another enterprise", r#""phone_numbers":["+{n}"],"enterprise_id":"{o}""#, 400, NONE),
        ("a remediation of an enterprise in another case", r#""phone_numbers":["+{n}"],"Enterprise_ID":"{o}""#, 400, NONE),
        ("a remediation of no enterprise", r#""phone_numbers":["+{n}"],"enterprise_id":null"#, 400, NONE),
        ("a remediation of two enterprises", r#""phone_numbers":["+{n}"],"enterprise_id":["{e}","{o}"]"#, 400, NONE),
        ("a remediation with two lists", r#""phone_numbers":["+{n}"],"phone_numbers":["+{m}"]"#, 400, NONE),
        ("a remediation with a list in another case", r#""phone_numbers":["+{n}"],"Phone_Numbers":["+{m}"]"#, 400, NONE),
        ("a remediation with a list in another case first", r#""PHONE_NUMBERS":["+{m}"],"phone_numbers":["+{n}"]"#, 400, NONE),
        ("a remediation with a list under a long s", r#""phone_numbers":["+{n}"],"phone_number\u017f":["+{m}"]"#, 400, NONE),
        ("a remediation with a name twice, deep", r#""phone_numbers":["+{n}"],"x":[{"y":1,"y":2}]"#, 400, NONE),
        ("a remediation of a number twice", r#""phone_numbers":["+{n}","+{n}"]"#, 400, NONE),
        ("a remediation of integers", r#""phone_numbers":[{n}]"#, 400, NONE),
        ("a remediation of a text", r#""phone_numbers":"+{n}""#, 400, NONE),
        ("a remediation of nothing", r#""phone_numbers":[]"#, 400, NONE),
        ("a remediation without a list", r#""webhook_url":"http://elsewhere.test""#, 400, NONE),
    ] {
        table.json(name, REMEDIATES, &format!("{{{purpose},{}}}", members.replace("{o}", OTHER)), status, effect);
    }
    for (name, body, status, effect) in [
        ("an honest association", r#"{"phone_numbers":["+{a}"]}"#, 201, ASSOCIATE),
        ("an association of a number twice", r#"{"phone_numbers":["+{a}","\u002b{a}"]}"#, 400, NONE),
        ("an association for another enterprise", r#"{"phone_numbers":["+{a}"],"enterprise_id":"{o}"}"#, 400, NONE),
        ("an association with two lists", r#"{"phone_numbers":["+{a}"],"phone_numbers":["+{m}"]}"#, 400, NONE),
        ("an association of digits in full width", r#"{"phone_numbers":["+1999\uff15550000"]}"#, 400, NONE),
        ("an association of nothing", "", 400, NONE),
    ] {
        table.json(name, ASSOCIATES, &body.replace("{o}", OTHER), status, effect);
    }
    let profile = "/v2/enterprises/{e}";
    table.line("a letter without a body", "PATCH /v2/enterprises/{e}/reputation/loa", 400, Effect(0, &["PATCH {E}/reputation/loa"]));
    table.json("an enterprise that is posted to", profile, ONE, 405, NONE);
    table
}
