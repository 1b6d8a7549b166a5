//! Numbers: reading one, listing, associating, refreshing, removing. Most of the money is here.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::answer::{Paging, Refusal, Reply};
use super::call::Call;
use super::charges::Operation;
use super::record::{OWNERSHIP_STATUS, Record, SOURCE};
use super::routes::{Endpoint, is_e164};
use super::state::State;

/// Numbers in one association or refresh.
const MAX_NUMBERS: usize = 100;
/// Fewer digits than this match too much.
const MIN_DIGITS: usize = 5;
const SCOPED_PAGE: usize = 10;
const SIMPLIFIED_PAGE: usize = 20;

#[derive(Deserialize)]
struct Numbers {
    phone_numbers: Vec<String>,
}

/// Rows 1 and 2: billed if `fresh`, and also if nothing is stored.
pub(super) fn number(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let number = e164(&call.route.item)?;
    let fresh = call.query.fresh()?;
    let owner = state.owner(call.route.enterprise.as_deref(), number)?;
    let (enterprise, stored) = (owner.id.clone(), owner.numbers[number].clone());
    let record = if fresh {
        state.check(&enterprise, number, Operation::Fresh, call.now)?
    } else if stored.reputation_data.is_none() {
        state.check(&enterprise, number, Operation::FirstTouch, call.now)?
    } else {
        stored
    };
    Ok(Reply::one(StatusCode::OK, record))
}

/// Rows 3 and 4: free.
pub(super) fn list(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let (default_size, enterprise) = match &call.route.enterprise {
        Some(id) => {
            state.enterprise(id)?.settings()?;
            (SCOPED_PAGE, Some(id.as_str()))
        }
        None => (SIMPLIFIED_PAGE, call.query.parameter("filter[enterprise_id]")),
    };
    let paging = call.query.paging(default_size)?;
    let filter = Filter::read(call)?;
    let enterprises = state.enterprises.iter().filter(|candidate| enterprise.is_none_or(|id| candidate.id.eq_ignore_ascii_case(id)));
    let records: Vec<&Record> =
        enterprises.flat_map(|enterprise| enterprise.numbers.values()).filter(|record| filter.takes(record)).collect();
    Ok(Reply::page(&records, paging))
}

/// Row 5: all or none of the numbers; each is checked, and the check is billed.
pub(super) fn associate(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let id = call.enterprise();
    let enterprise = state.enterprise(id)?;
    enterprise.settings()?;
    let numbers = numbers(call, MAX_NUMBERS)?;
    for (index, number) in numbers.iter().enumerate() {
        if enterprise.numbers.contains_key(number) || numbers[..index].contains(number) {
            return Err(Refusal::bad_request(format!("{number} is already associated.")).at(format!("/body/phone_numbers/{index}")));
        }
    }
    let mut records = Vec::new();
    for number in &numbers {
        let record = Record::unchecked(state.seed, id, number, call.now);
        state.enterprise(id)?.numbers.insert(number.clone(), record);
        records.push(state.check(id, number, Operation::Associate, call.now)?);
    }
    Ok(Reply::created(&records))
}

#[derive(Serialize)]
struct Refreshed {
    phone_number: String,
    success: bool,
    error: Option<&'static str>,
}

#[derive(Serialize)]
struct Refresh {
    total_requested: usize,
    total_successful: usize,
    total_failed: usize,
    results: Vec<Refreshed>,
}

/// Row 6: each number that could be checked is billed; the others are told apart by `success`.
pub(super) fn refresh(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let id = call.enterprise();
    state.enterprise(id)?.settings()?;
    let numbers = numbers(call, MAX_NUMBERS)?;
    let mut check = |number: String| match state.check(id, &number, Operation::Refresh, call.now) {
        Ok(_) => Refreshed { phone_number: number, success: true, error: None },
        Err(_) => Refreshed { phone_number: number, success: false, error: Some("Phone number is not associated with this enterprise.") },
    };
    let results: Vec<Refreshed> = numbers.into_iter().map(&mut check).collect();
    let total_successful = results.iter().filter(|result| result.success).count();
    let body = Refresh { total_requested: results.len(), total_successful, total_failed: results.len() - total_successful, results };
    Ok(Reply::one(StatusCode::OK, body))
}

/// Rows 7 and 8: free.
pub(super) fn disassociate(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let number = e164(&call.route.item)?;
    state.owner(call.route.enterprise.as_deref(), number)?.numbers.remove(number);
    Ok(Reply::no_content())
}

/// The right kind of answer with the record of a number that was not asked for; one with data, which is the more tempting to believe.
pub(super) fn mistaken(state: &State, call: &Call) -> Result<Reply, Refusal> {
    let asked = match call.route.endpoint {
        Endpoint::Number => Some(call.route.item.as_str()),
        _ => call.query.parameter("filter[phone_number][eq]"),
    };
    let strangers = || {
        let records = state.enterprises.iter().flat_map(|enterprise| enterprise.numbers.values());
        records.filter(|record| Some(record.phone_number.as_str()) != asked)
    };
    let found = strangers().find(|record| record.reputation_data.is_some()).or_else(|| strangers().next());
    let record = found.ok_or_else(|| Refusal::not_found("There is no other number."))?;
    Ok(match call.route.endpoint {
        Endpoint::Number => Reply::one(StatusCode::OK, record),
        _ => Reply::page(&[record], Paging { number: 1, size: 1 }),
    })
}

/// The body's `phone_numbers`: 1 to `most`, each in E.164.
pub(super) fn numbers(call: &Call, most: usize) -> Result<Vec<String>, Refusal> {
    let Numbers { phone_numbers } = call.json()?;
    if phone_numbers.is_empty() || phone_numbers.len() > most {
        return Err(Refusal::bad_request(format!("phone_numbers must hold 1 to {most} numbers.")).at("/body/phone_numbers"));
    }
    for (index, number) in phone_numbers.iter().enumerate() {
        e164(number).map_err(|refusal| refusal.at(format!("/body/phone_numbers/{index}")))?;
    }
    Ok(phone_numbers)
}

fn e164(text: &str) -> Result<&str, Refusal> {
    if is_e164(text) { Ok(text) } else { Err(Refusal::not_e164(text)) }
}

struct Filter<'a> {
    eq: Option<&'a str>,
    contains: Option<&'a str>,
    source: Option<&'a str>,
    ownership_status: Option<&'a str>,
}

impl<'a> Filter<'a> {
    fn read(call: &'a Call) -> Result<Self, Refusal> {
        const CONTAINS: &str = "filter[phone_number][contains]";
        let contains = call.query.parameter(CONTAINS);
        if contains.is_some_and(|part| part.bytes().filter(u8::is_ascii_digit).count() < MIN_DIGITS) {
            return Err(Refusal::bad_request(format!("{CONTAINS} needs {MIN_DIGITS} digits or more.")).parameter(CONTAINS));
        }
        Ok(Self {
            eq: call.query.parameter("filter[phone_number][eq]"),
            contains,
            source: call.query.parameter("filter[source]"),
            ownership_status: call.query.parameter("filter[ownership_status]"),
        })
    }

    fn takes(&self, record: &Record) -> bool {
        self.eq.is_none_or(|number| record.phone_number == number)
            && self.contains.is_none_or(|part| record.phone_number.contains(part))
            && self.source.is_none_or(|source| source == SOURCE)
            && self.ownership_status.is_none_or(|status| status == OWNERSHIP_STATUS)
    }
}
