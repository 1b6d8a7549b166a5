//! Rows of the tables: what is sent, what is answered, and what of it may reach the upstream.

use crate::harness::{ENTERPRISE, unchecked};

/// What a row costs, in cents, and the lines of the requests that reach the upstream for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effect(pub(super) i64, pub(super) &'static [&'static str]);

/// Refused, or answered from memory.
pub(super) const NONE: Effect = Effect(0, &[]);
/// A free look at the list.
pub(super) const LOOK: Effect = Effect(0, &[LOOKED]);
/// `fresh=true`, understood as such and paid for.
pub(super) const FRESH: Effect = Effect(10, &["GET {E}/reputation/numbers/+{n}?fresh=true"]);
/// A plain read of a number that was never checked, paid for.
pub(super) const TOUCH: Effect = Effect(10, &[LOOKED, "GET {E}/reputation/numbers/+{n}"]);
/// A refresh of one number, paid for.
pub(super) const REFRESH: Effect = Effect(10, &["POST {E}/reputation/numbers/refresh"]);
/// An association of one number, paid for.
pub(super) const ASSOCIATE: Effect = Effect(10, &["POST {E}/reputation/numbers"]);
/// A remediation of one number, paid for.
pub(super) const REMEDIATE: Effect = Effect(100, &["POST {E}/reputation/remediation"]);

const LOOKED: &str = "GET {E}/reputation/numbers?filter%5Bphone_number%5D%5Beq%5D=%2B{n}&page%5Bnumber%5D=1&page%5Bsize%5D=10";

/// What becomes of the connection behind the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The next request on it is answered.
    GoesOn,
    /// It ends.
    Ends,
}

/// One attack over HTTP/1.1.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
    /// The statuses of the answers, in their order; none: the connection is closed without one.
    pub(super) answers: Vec<u16>,
    pub(super) then: Then,
    pub(super) cents: i64,
    pub(super) reaches: Vec<String>,
}

/// Rows that share a world. Each has numbers of its own which were never checked, so that whatever lets one of them through is billed.
#[derive(Debug, Default)]
pub(super) struct Table(pub(super) Vec<Row>);

/// Puts the numbers of the `place`th row into a text: `{n}` and `{m}` were never checked, `{r}` is `{n}` without its first digit, `{a}` is
/// not associated; `{e}` is the enterprise.
pub(super) fn filled(text: &str, place: usize) -> String {
    let [n, m] = [unchecked(place), unchecked(500 + place)].map(|number| number[1..].to_owned());
    let text = text.replace("{E}", "/v2/enterprises/{e}").replace("{e}", ENTERPRISE);
    text.replace("{n}", &n).replace("{m}", &m).replace("{r}", &n[1..]).replace("{a}", &format!("1999555{place:04}"))
}

impl Table {
    /// The number of its row at `place`, which it will have.
    fn fill(&self, text: &str) -> String {
        filled(text, self.0.len())
    }

    /// Bytes as they are but for the numbers.
    pub(super) fn raw(&mut self, name: &'static str, bytes: &str, answers: &[u16], then: Then, effect: Effect) {
        let bytes = self.fill(bytes).into_bytes();
        self.bytes(name, bytes, answers, then, effect);
    }

    fn bytes(&mut self, name: &'static str, bytes: Vec<u8>, answers: &[u16], then: Then, Effect(cents, lines): Effect) {
        let reaches = lines.iter().map(|line| self.fill(line)).collect();
        self.0.push(Row { name, bytes, answers: answers.to_vec(), then, cents, reaches });
    }

    /// A GET of this target.
    pub(super) fn target(&mut self, name: &'static str, target: &str, status: u16, effect: Effect) {
        self.line(name, &format!("GET {target}"), status, effect);
    }

    /// A request with this method and target, and no body.
    pub(super) fn line(&mut self, name: &'static str, line: &str, status: u16, effect: Effect) {
        self.raw(name, &format!("{line} HTTP/1.1\r\n{FIELDS}\r\n"), &[status], Then::GoesOn, effect);
    }

    /// A request whose head ends the connection with a 400.
    pub(super) fn ends(&mut self, name: &'static str, head: &str) {
        self.raw(name, &format!("{head}\r\n"), &[400], Then::Ends, NONE);
    }

    /// A GET with more fields.
    pub(super) fn fields(&mut self, name: &'static str, target: &str, fields: &str, status: u16, effect: Effect) {
        self.raw(name, &format!("GET {target} HTTP/1.1\r\n{FIELDS}{fields}\r\n"), &[status], Then::GoesOn, effect);
    }

    /// A JSON body that is posted.
    pub(super) fn json(&mut self, name: &'static str, path: &str, body: &str, status: u16, effect: Effect) {
        self.post(name, (path, JSON), body.as_bytes(), status, effect);
    }

    /// A body that is posted with these fields; its length is said for it.
    pub(super) fn post(&mut self, name: &'static str, (path, fields): (&str, &str), body: &[u8], status: u16, effect: Effect) {
        let body = match std::str::from_utf8(body) {
            Ok(text) => self.fill(text).into_bytes(),
            Err(_) => body.to_vec(),
        };
        let head = format!("POST {path} HTTP/1.1\r\n{FIELDS}{fields}content-length: {}\r\n\r\n", body.len());
        let bytes = [self.fill(&head).into_bytes(), body].concat();
        self.bytes(name, bytes, &[status], Then::GoesOn, effect);
    }
}

/// What an honest request has: a host, and the key of a caller who may do all there is.
pub(super) const FIELDS: &str = "host: gateway\r\nauthorization: Bearer key-of-attacker\r\n";
pub(super) const JSON: &str = "content-type: application/json\r\n";
