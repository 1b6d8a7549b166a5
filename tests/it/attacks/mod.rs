//! Attacks on the meter: raw requests that try to have the upstream bill what the ledger does not know.
//!
//! Each row says what is answered, what it costs, and which requests reach the upstream for it; most cost nothing. The caller may do all
//! there is and its budget would pay, so whatever gets past the meter is billed. After each row the upstream's bill is the ledger's, number
//! by number; the connection is in step or at its end; and nothing else has reached the upstream, in no other words than the gateway's own.

mod bodies;
mod fields;
mod framing;
mod row;
mod streams;
mod targets;

use std::collections::{BTreeMap, BTreeSet};

use reputation_gateway::sandbox::Seen;
use tokio::time::timeout;

use crate::harness::callers::{ALL, caller, keys};
use crate::harness::{PATIENCE, STORED, Wire, World, books};
use row::{Row, Table, Then};

const BUDGET: &str = "[[budget]]\nname = \"all-day\"\nlimit = \"1000.00\"\nwindow = \"day\"\n";

/// Fields that a request upstream may have, however many a client sent.
const UPSTREAM: [&str; 8] = ["accept", "accept-encoding", "content-length", "content-type", "host", "user-agent", "via", "x-request-id"];

/// A world before a table, and what was billed and seen in it so far.
struct Range {
    world: World,
    cents: i64,
    seen: usize,
    complaints: Vec<String>,
}

impl Range {
    async fn new() -> Self {
        let world = World::with(&format!("{BUDGET}{}", caller("attacker", ALL)), keys).await;
        let path = format!("/v2/reputation/numbers/{STORED}");
        assert_eq!(world.ask(&path).key("key-of-attacker").send().await.outcome(), (200, "probe"));
        Self { seen: world.sent(), cents: 0, complaints: Vec::new(), world }
    }

    /// Sends a row, reads its answers, and sends a request behind it.
    async fn attack(&mut self, place: usize, row: &Row) {
        let told = timeout(PATIENCE, converse(&self.world, place, row)).await;
        let expected = (row.answers.clone(), row.then);
        if told.as_ref().ok() != Some(&expected) {
            self.complaints.push(format!("{}: got {told:?} instead of {expected:?}", row.name));
        }
        self.account(row.name, row.cents, &row.reaches);
    }

    /// Compares what was billed and what was sent with what was expected, and both bills with each other.
    fn account(&mut self, name: &str, cents: i64, reaches: &[String]) {
        let charges = self.world.charges();
        let billed = charges.total.micros() / 10_000;
        if billed - self.cents != cents {
            self.complaints.push(format!("{name}: {} cents were billed instead of {cents}", billed - self.cents));
        }
        self.cents = billed;
        let posted = books::by_number(&books::charges(&self.world.ledger()));
        let by_number: BTreeMap<_, _> =
            charges.by_number.iter().map(|(number, tally)| (number.clone(), tally.usd.micros() / 10_000)).collect();
        if posted != by_number {
            self.complaints.push(format!("{name}: the ledger has {posted:?}, and the bill {by_number:?}"));
        }
        let seen = self.world.sandbox.requests().split_off(self.seen);
        self.seen += seen.len();
        let lines: Vec<_> = seen.iter().map(|seen| format!("{} {}", seen.method, seen.path_and_query)).collect();
        if lines != reaches {
            self.complaints.push(format!("{name}: {lines:?} were sent instead of {reaches:?}"));
        }
        let strange = |seen: &Seen| seen.headers.keys().filter(|name| !UPSTREAM.contains(&name.as_str())).cloned().collect::<Vec<_>>();
        let strange: BTreeSet<_> = seen.iter().flat_map(strange).collect();
        if !strange.is_empty() {
            self.complaints.push(format!("{name}: {strange:?} went upstream"));
        }
    }

    /// Everything that was not as expected.
    fn end(self) {
        assert!(self.complaints.is_empty(), "{} complaints:\n{}", self.complaints.len(), self.complaints.join("\n"));
    }
}

/// The statuses of a row's answers, and whether the connection goes on behind them with the answer to its own next request.
async fn converse(world: &World, place: usize, row: &Row) -> (Vec<u16>, Then) {
    let mut wire = Wire::to(world.gateway).await;
    wire.send_while_taken(&row.bytes).await;
    let mut statuses = Vec::new();
    while statuses.len() < row.answers.len() {
        let Some(head) = wire.next_head().await else { return (statuses, Then::Ends) };
        statuses.push(head.status);
        let bare = row.bytes.starts_with(b"HEAD ") || matches!(head.status, 100 | 204 | 304);
        if !bare {
            wire.body(&head).await;
        }
    }
    let id = format!("behind-{place}");
    let next = format!("GET /v2/none HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer key-of-attacker\r\nx-request-id: {id}\r\n\r\n");
    wire.send_while_taken(next).await;
    match wire.next_head().await {
        None => (statuses, Then::Ends),
        Some(head) if head.status == 403 && head.field("x-request-id") == id => (statuses, Then::GoesOn),
        Some(head) => panic!("{}: out of step: {head:?}", row.name),
    }
}

async fn run(table: Table) {
    let mut range = Range::new().await;
    for (place, row) in table.0.iter().enumerate() {
        range.attack(place, row).await;
    }
    range.end();
}

#[tokio::test]
async fn no_query_gets_past_the_meter() {
    run(targets::queries()).await;
}

#[tokio::test]
async fn no_spelling_of_a_number_gets_past_the_meter() {
    run(targets::numbers()).await;
}

#[tokio::test]
async fn no_path_gets_past_the_meter() {
    run(targets::paths()).await;
}

#[tokio::test]
async fn no_form_of_a_request_line_gets_past_the_meter() {
    run(targets::forms()).await;
}

#[tokio::test]
async fn no_field_gets_past_the_meter() {
    run(fields::fields()).await;
}

#[tokio::test]
async fn no_framing_gets_past_the_meter() {
    run(framing::framing()).await;
}

#[tokio::test]
async fn no_refresh_gets_past_the_meter() {
    run(bodies::refreshes()).await;
}

#[tokio::test]
async fn no_order_gets_past_the_meter() {
    run(bodies::others()).await;
}

#[tokio::test]
async fn no_stream_gets_past_the_meter() {
    let mut range = Range::new().await;
    for (place, row) in streams::streams().into_iter().enumerate() {
        let outcome = timeout(PATIENCE, row.outcome(&range.world)).await;
        if outcome.as_ref().ok() != Some(&row.expected()) {
            range.complaints.push(format!("{}: got {outcome:?} instead of {:?}", row.name, row.expected()));
        }
        let reaches: Vec<_> = row.effect.1.iter().map(|line| row::filled(line, place)).collect();
        range.account(row.name, row.effect.0, &reaches);
    }
    range.end();
}

#[test]
fn there_are_at_least_150_attacks_and_each_has_its_own_name() {
    let tables = [
        targets::queries(),
        targets::numbers(),
        targets::paths(),
        targets::forms(),
        fields::fields(),
        framing::framing(),
        bodies::refreshes(),
        bodies::others(),
    ];
    let names: Vec<_> = tables.iter().flat_map(|table| table.0.iter().map(|row| row.name)).collect();
    let names: Vec<_> = names.into_iter().chain(streams::streams().iter().map(|row| row.name)).collect();
    assert!(names.len() >= 150, "{} attacks", names.len());
    for table in &tables {
        let distinct: BTreeSet<_> = table.0.iter().map(|row| row.name).collect();
        assert_eq!(distinct.len(), table.0.len(), "a name stands twice: {distinct:?}");
        assert!(table.0.iter().flat_map(|row| &row.answers).all(|status| *status < 500), "an attack is no reason for a 5xx");
    }
}
