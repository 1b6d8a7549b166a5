//! What past requests came to, and why: from the log of decisions, and from the ledger, which goes further back.

use std::cmp::Reverse;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Gateway;
use super::decisions::{Course, Record, Wanted};
use super::told::{self, Teller};
use super::trail::Step;
use crate::policy::decision::Decision;
use crate::spend::HoldId;
use crate::spend::books::{Books, BooksError, Filter, Row, State};

/// Requests of one id that are told: a caller may give all of its requests the same.
const MOST_REQUESTS: usize = 100;

/// Charges of one id that are told, the newest. A refresh has up to a hundred.
const MOST_CHARGES: usize = 1_000;

/// Why a past request cannot be explained.
#[derive(Debug)]
pub enum Untold {
    /// Nothing is known of such an id. So many requests are remembered that were no hits, and as many hits of each thread.
    Unknown(usize),
    /// The ledger cannot be read, and nothing else knows of it.
    Books(BooksError),
}

impl Gateway {
    /// Explains the last requests of this id, the newest first, with what the ledger has of them now.
    pub fn explain_past(&self, request_id: &str) -> Result<Vec<Value>, Untold> {
        let decisions = &self.0.decisions;
        let records = decisions.of_id(request_id, MOST_REQUESTS, &self.0.metrics.requests.names());
        let mut charges = match self.books().and_then(|books| charges_of(&books, request_id)) {
            Ok(charges) => charges,
            Err(error) if records.is_empty() => return Err(Untold::Books(error)),
            // What is remembered is told without it.
            Err(_) => Vec::new(),
        };
        let teller = self.teller();
        let mut explained: Vec<(Timestamp, Value)> = Vec::new();
        for record in &records {
            let steps = steps(record);
            let holds: Vec<_> = steps.iter().flat_map(holds).map(|hold| hold.0).collect();
            let (own, rest) = charges.into_iter().partition(|row| holds.contains(&row.id));
            charges = rest;
            explained.push((record.at, self.explained(record, &steps, &own)));
        }
        // What was held together was held for one request.
        let same = |one: &Row, other: &Row| (one.held_at, &one.caller, one.operation) == (other.held_at, &other.caller, other.operation);
        explained.extend(charges.chunk_by(same).map(|own| (own[0].held_at, forgotten(&teller, own))));
        explained.sort_by_key(|(at, _)| Reverse(*at));
        explained.truncate(MOST_REQUESTS);
        if explained.is_empty() {
            Err(Untold::Unknown(decisions.most()))
        } else {
            Ok(explained.into_iter().map(|(_, told)| told).collect())
        }
    }

    /// The last requests of these, the newest first.
    pub fn last_requests(&self, limit: usize, wanted: &Wanted) -> Vec<Value> {
        let records = self.0.decisions.last(limit, wanted, &self.0.metrics.requests.names());
        records.iter().map(|record| head(&self.teller(), record)).collect()
    }

    /// How many requests that were no hits are remembered, and how many hits of each thread.
    pub fn remembers(&self) -> usize {
        self.0.decisions.most()
    }

    fn explained(&self, record: &Record, steps: &[Step], charges: &[Row]) -> Value {
        let teller = self.teller();
        let mut told = head(&teller, record);
        told["source"] = "log".into();
        let (steps, left_out) = match &record.course {
            Course::Hit(copy) => (vec![hit(*copy)], 0),
            Course::Trail(trail) => (steps.iter().map(|step| teller.step(step)).collect(), trail.steps().left_out),
        };
        told["why"] = why(&steps, record).into();
        told["steps"] = steps.into();
        told["steps_left_out"] = left_out.into();
        told["charges"] = charges.iter().map(|row| charge(&teller, row)).collect::<Vec<_>>().into();
        told
    }
}

/// The last charges of this id, the oldest of them first.
fn charges_of(books: &Books, request_id: &str) -> Result<Vec<Row>, BooksError> {
    let filter = Filter { request_id: Some(request_id.to_owned()), ..Filter::default() };
    let (mut last, mut after) = (Vec::new(), None);
    loop {
        let page = books.page(&filter, after, MOST_CHARGES)?;
        let is_last = page.len() < MOST_CHARGES;
        after = page.last().map(|row| row.id);
        last.extend(page);
        last.drain(..last.len().saturating_sub(MOST_CHARGES));
        if is_last {
            return Ok(last);
        }
    }
}

fn steps(record: &Record) -> Vec<Step> {
    match &record.course {
        Course::Hit(_) => Vec::new(),
        Course::Trail(trail) => trail.steps().taken,
    }
}

/// The holds that a step took.
fn holds(step: &Step) -> Vec<HoldId> {
    match step {
        Step::Held { holds, .. } => holds.iter().map(|(hold, _)| *hold).collect(),
        _ => Vec::new(),
    }
}

/// What a request was and came to.
fn head(teller: &Teller<'_>, record: &Record) -> Value {
    json!({
        "request_id": record.request_id, "at": record.at, "caller": record.caller, "method": record.method.as_str(),
        "operation": record.operation.as_str(), "enterprise": record.enterprise.map(|id| id.to_string()),
        "number": record.number.map(|number| teller.number(number)), "status": record.status, "decision": record.decision.as_str(),
        "billed": record.bill.billing.answer(), "cost_usd": record.bill.cost,
        "duration_us": told::micros(record.duration), "upstream_us": told::micros(record.upstream),
    })
}

/// A hit is one decision, by its copy alone.
fn hit(copy: Option<crate::policy::decide::Copy>) -> Value {
    let rule = "the copy is fresh";
    let (what, facts) = match copy {
        Some(copy) => (told::copy_text(Some(copy)), json!({ "copy": told::copy(copy) })),
        None => ("a page of a list at hand".to_owned(), json!({})),
    };
    let text = format!("a plain read, {what}: serve, since {rule}");
    json!({ "step": "decided", "text": text, "action": "serve", "from": "copy", "decision": "hit", "rule": rule, "facts": facts })
}

/// The whole in a sentence: each step, and what it came to.
fn why(steps: &[Value], record: &Record) -> String {
    let texts = steps.iter().filter_map(|step| step["text"].as_str());
    let all = texts.chain(ending(record.decision)).collect::<Vec<_>>().join("; ");
    let came = format!("{}, billed: {}, {}", record.decision.as_str(), record.bill.billing.answer(), record.bill.cost);
    if all.is_empty() { came } else { format!("{all}: {came}") }
}

/// What no step tells.
fn ending(decision: Decision) -> Option<&'static str> {
    match decision {
        Decision::Passed => Some("what costs nothing and is not kept is passed on"),
        Decision::Abandoned => Some("the caller left before the answer, or the drain time was over"),
        _ => None,
    }
}

/// A charge as the ledger has it now.
fn charge(teller: &Teller<'_>, row: &Row) -> Value {
    json!({
        "hold": row.id, "held_at": row.held_at, "ended_at": row.ended_at, "state": row.state, "why": row.why,
        "number": row.number.map(|number| teller.number(number)), "operation": row.operation, "price_usd": row.price, "posted_usd": row.posted,
    })
}

/// A request that left the log, as far as the ledger knows it.
fn forgotten(teller: &Teller<'_>, rows: &[Row]) -> Value {
    let first = &rows[0];
    let billed = |row: &Row| match row.state {
        State::Settled => "yes",
        State::Held | State::Assumed => "unknown",
        State::Corrected if row.posted == row.price => "yes",
        State::Released | State::Corrected => "no",
    };
    let all: Vec<_> = rows.iter().map(billed).collect();
    let billed = ["unknown", "yes"].into_iter().find(|word| all.contains(word)).unwrap_or("no");
    let cost: crate::policy::money::Usd = rows.iter().map(|row| row.posted).sum();
    let ends = rows.iter().map(|row| {
        let why = row.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("hold {} of {} for {} is {}{why}", row.id, row.price, row.operation, row.state)
    });
    let under_way = rows.iter().any(|row| row.state == State::Held);
    let place =
        if under_way { "is under way, here or at another gateway" } else { "left the log of decisions, or came to another gateway" };
    let note = format!("the request {place}, and this is what the ledger has of it");
    let why = format!("{note}; {}: billed: {billed}, {cost}", ends.collect::<Vec<_>>().join("; "));
    json!({
        "request_id": first.request_id, "at": first.held_at, "caller": first.caller, "enterprise": first.enterprise.to_string(),
        "number": first.number.filter(|_| rows.len() == 1).map(|number| teller.number(number)),
        "billed": billed, "cost_usd": cost, "source": "ledger", "why": why, "steps": [], "steps_left_out": null,
        "charges": rows.iter().map(|row| charge(teller, row)).collect::<Vec<_>>(),
    })
}
