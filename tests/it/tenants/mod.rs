//! Callers that share a gateway and not what they see: every operation, asked by each for what belongs to each other.
//!
//! What a caller may not see is answered as if it did not exist: the same bytes but for the date, and nothing sent upstream. `keys` is about
//! callers with gateway keys and enterprises of their own, `forward` about credentials that go upstream, and `races` about requests that meet.

mod forward;
mod keys;
mod races;

use std::collections::HashSet;

use reputation_gateway::telnyx::Operation;

use crate::harness::{Wire, World};

/// An operation on what an enterprise has: `{e}` is the enterprise, `{n}` a number and `{id}` a remediation of its own.
struct Case {
    operation: Operation,
    line: &'static str,
    body: &'static str,
    /// Whether its owner is answered with something that nobody else has.
    tells: bool,
}

const fn read(operation: Operation, line: &'static str) -> Case {
    Case { operation, line, body: "", tells: true }
}

const fn write(operation: Operation, line: &'static str, body: &'static str) -> Case {
    Case { operation, line, body, tells: false }
}

/// What opens the operations without a published price, and paths beside the API.
const OPENED: &str = "[prices]\nunpublished = \"0\"\n[[route]]\nmethods = [\"GET\"]\npath = \"/things\"\n";

const NUMBERS: &str = r#"{"phone_numbers":["{n}"]}"#;

/// Every operation that is about an enterprise, in each of its forms.
static SCOPED: &[Case] = &[
    read(Operation::Retrieve, "GET /v2/enterprises/{e}/reputation/numbers/{n}"),
    read(Operation::Retrieve, "GET /enterprises/{e}/reputation/numbers/{n}?fresh=true"),
    read(Operation::List, "GET /v2/enterprises/{e}/reputation/numbers?page[size]=250"),
    read(Operation::List, "GET /v2/enterprises/{e}/reputation/numbers?filter[phone_number][eq]=%2B{d}"),
    read(Operation::List, "GET /v2/reputation/numbers?filter[enterprise_id]={e}&page[size]=250"),
    read(Operation::Settings, "GET /v2/enterprises/{e}/reputation"),
    read(Operation::Remediations, "GET /v2/enterprises/{e}/reputation/remediation"),
    read(Operation::Remediations, "GET /v2/enterprises/{e}/reputation/remediation/{id}"),
    read(Operation::Enterprises, "GET /v2/enterprises/{e}"),
    write(Operation::Associate, "POST /v2/enterprises/{e}/reputation/numbers", NUMBERS),
    write(Operation::Refresh, "POST /v2/enterprises/{e}/reputation/numbers/refresh", NUMBERS),
    write(Operation::Disassociate, "DELETE /v2/enterprises/{e}/reputation/numbers/{n}", ""),
    write(Operation::Enable, "POST /v2/enterprises/{e}/reputation", r#"{"loa_document_id":"a"}"#),
    write(Operation::Disable, "DELETE /v2/enterprises/{e}/reputation", ""),
    write(Operation::Frequency, "PATCH /v2/enterprises/{e}/reputation/frequency", r#"{"check_frequency":"daily"}"#),
    write(Operation::Loa, "PATCH /v2/enterprises/{e}/reputation/loa", r#"{"loa_document_id":"a"}"#),
    write(Operation::Loa, "POST /v2/enterprises/{e}/reputation/loa", "{}"),
    write(Operation::Remediate, "POST /v2/enterprises/{e}/reputation/remediation", r#"{"phone_numbers":["{n}"],"call_purpose":"a"}"#),
    write(Operation::Enterprises, "PUT /v2/enterprises/{e}", r#"{"legal_name":"a"}"#),
    write(Operation::Enterprises, "DELETE /v2/enterprises/{e}", ""),
    read(Operation::Ownership, "GET /v2/enterprises/{e}/reputation/numbers/{n}/ownership"),
    write(Operation::Ownership, "POST /v2/enterprises/{e}/reputation/numbers/{n}/ownership_confirm", "{}"),
    write(Operation::Ownership, "GET /v2/enterprises/{e}/reputation/external_verification", ""),
    write(Operation::Ownership, "POST /v2/enterprises/{e}/reputation/external_verification", "{}"),
    write(Operation::Route, "GET /v2/things/{e}", ""),
    write(Operation::Webhook, "PATCH /v2/enterprises/{e}/reputation/webhook", r#"{"webhook_url":"http://elsewhere.test"}"#),
];

/// Operations on what the caller's own enterprise has, asked about what is another's: they name no enterprise, or the caller's own.
static OWN: &[Case] = &[
    write(Operation::Retrieve, "GET /v2/reputation/numbers/{n}", ""),
    write(Operation::Retrieve, "GET /v2/reputation/numbers/{n}?fresh=true", ""),
    write(Operation::List, "GET /v2/reputation/numbers?filter[phone_number][eq]=%2B{d}", ""),
    write(Operation::List, "GET /v2/reputation/numbers?filter[phone_number][contains]={d}", ""),
    write(Operation::Disassociate, "DELETE /v2/reputation/numbers/{n}", ""),
    write(Operation::Refresh, "POST /v2/enterprises/{own}/reputation/numbers/refresh", NUMBERS),
    write(Operation::Remediate, "POST /v2/enterprises/{own}/reputation/remediation", r#"{"phone_numbers":["{n}"],"call_purpose":"a"}"#),
    write(Operation::Remediations, "GET /v2/enterprises/{own}/reputation/remediation/{id}", ""),
    write(Operation::Enterprises, "GET /v2/enterprises?filter[legal_name][contains]={mark}", ""),
    write(Operation::Enterprises, "GET /v2/enterprises?legal_name={mark}&page[size]=1", ""),
];

/// Operations on the account: there is nothing of an enterprise in them.
static ACCOUNT: &[Case] = &[
    write(Operation::Terms, "GET /v2/terms_of_service/status?product_type=number_reputation", ""),
    write(Operation::AgreeTerms, "POST /v2/terms_of_service/number_reputation/agree", ""),
    write(Operation::Enterprises, "GET /v2/enterprises", ""),
    write(Operation::Enterprises, "POST /v2/enterprises", r#"{"legal_name":"a"}"#),
];

/// What an enterprise has that no other has; all of it are texts by which a leak is known.
#[derive(Clone, Debug)]
struct Marks {
    enterprise: String,
    number: String,
    remediation: String,
    name: String,
    /// Of a copy of its number.
    etag: String,
    /// Of its number's record.
    record: String,
}

impl Marks {
    /// Those of an enterprise that does not exist.
    fn of_nobody() -> Self {
        Self {
            enterprise: "99999999-9999-4999-8999-999999999999".to_owned(),
            number: "+19995559999".to_owned(),
            remediation: "88888888-8888-4888-8888-888888888888".to_owned(),
            name: "mark-of-x".to_owned(),
            etag: "\"none\"".to_owned(),
            record: "77777777-7777-4777-8777-777777777777".to_owned(),
        }
    }

    fn fill(&self, text: &str) -> String {
        let text = text.replace("{e}", &self.enterprise).replace("{n}", &self.number).replace("{d}", &self.number[1..]);
        text.replace("{id}", &self.remediation).replace("{mark}", &self.name)
    }

    /// Which of them stand in a text.
    fn within(&self, text: &str) -> Vec<&str> {
        let all = [&self.enterprise, &self.number[1..], &self.remediation, &self.name, self.etag.trim_matches('"'), &self.record];
        all.into_iter().filter(|mark| text.contains(mark)).collect()
    }
}

/// A head without its date, and the body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    status: u16,
    text: String,
}

impl Told {
    fn decision(&self) -> &str {
        self.text.lines().find_map(|line| line.strip_prefix("x-gateway-decision: ")).unwrap_or_default()
    }
}

/// Asks, always by the same request id.
async fn told(world: &World, key: &str, (line, fields, body): (&str, &str, &str)) -> Told {
    let length =
        if body.is_empty() { String::new() } else { format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()) };
    let mut wire = Wire::to(world.gateway).await;
    let head =
        format!("{line} HTTP/1.1\r\nhost: gateway\r\nx-request-id: same\r\nauthorization: Bearer {key}\r\n{fields}{length}\r\n{body}");
    wire.send(head).await;
    let head = wire.head().await;
    let body = if head.status == 304 { String::new() } else { wire.body(&head).await };
    let lines: Vec<_> = head.head.lines().filter(|line| !line.starts_with("date: ")).collect();
    Told { status: head.status, text: format!("{}\n{body}", lines.join("\n")) }
}

#[test]
fn the_matrix_has_every_operation() {
    let covered: HashSet<_> = [SCOPED, OWN, ACCOUNT].into_iter().flatten().map(|case| case.operation).collect();
    let missing: Vec<_> =
        Operation::ALL.iter().filter(|operation| **operation != Operation::Unknown && !covered.contains(operation)).collect();
    assert!(missing.is_empty(), "without a row: {missing:?}");
}
