//! The last requests: which they were, what they came to, and why one did.

use std::str::FromStr;

use http::{StatusCode, Uri};
use serde_json::{Value, json};

use super::control::bad;
use super::explain::one;
use super::ledger::unreadable;
use super::{Refused, blocking, problem};
use crate::gateway::{Gateway, Untold, Wanted};
use crate::policy::decision::Decision;
use crate::policy::evidence::Billing;
use crate::wire::target::Target;

/// Requests of a page, unless the query names another number.
const PAGE: usize = 100;

/// Requests of the longest page.
const MOST: usize = 1_000;

/// The last requests that the query describes, the newest first: `limit`, `caller`, `decision`, `billed`.
pub(super) fn last(gateway: &Gateway, uri: &Uri) -> Refused<Value> {
    let query = Target::parse(uri).map_err(|why| bad(why.to_string()))?.query;
    let wanted = Wanted {
        caller: one(&query, "caller")?.map(str::to_owned),
        decision: one(&query, "decision")?.map(decision).transpose()?,
        billed: one(&query, "billed")?.map(billed).transpose()?,
    };
    let limit = one(&query, "limit")?.map(|limit| usize::from_str(limit).ok().filter(|limit| (1..=MOST).contains(limit)));
    let limit = limit.map_or(Some(PAGE), |limit| limit).ok_or_else(|| bad(format!("limit is a number of requests from 1 to {MOST}")))?;
    Ok(json!({ "data": gateway.last_requests(limit, &wanted), "meta": { "remembered": gateway.remembers() } }))
}

/// Why the past requests of this id came to what they came to.
pub(super) async fn explain(gateway: &Gateway, request_id: &str) -> Refused<Value> {
    let (gateway, request_id) = (gateway.clone(), request_id.to_owned());
    let told = blocking(move || gateway.explain_past(&request_id)).await?;
    told.map(|told| json!({ "data": told })).map_err(|untold| match untold {
        Untold::Unknown(most) => problem(StatusCode::NOT_FOUND, "request_not_found", unknown(most)),
        Untold::Books(error) => unreadable(error),
    })
}

/// Where the request may have gone.
fn unknown(most: usize) -> String {
    let log = if most == 0 {
        "no request is remembered, since telemetry.decisions is 0".to_owned()
    } else {
        format!(
            "no request of this id is among the last {most} that were no hits, or the last {most} hits of each thread (telemetry.decisions)"
        )
    };
    format!(
        "{log}, and the ledger has no charge for it: it cost nothing and is forgotten, or came to another gateway, or before the last restart; the id is the answer's x-request-id"
    )
}

fn decision(word: &str) -> Refused<Decision> {
    let words = || Decision::ALL.iter().map(|decision| decision.as_str()).collect::<Vec<_>>().join(", ");
    let found = Decision::ALL.iter().copied().find(|decision| decision.as_str() == word);
    found.ok_or_else(|| bad(format!("decision is one of {}", words())))
}

fn billed(word: &str) -> Refused<&'static str> {
    let found = Billing::ALL.iter().map(|billing| billing.answer()).find(|answer| *answer == word);
    found.ok_or_else(|| bad("billed is yes, no or unknown".to_owned()))
}
