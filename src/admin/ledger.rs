//! The ledger for operators: rows as JSON page by page, and all of them as one CSV file that streams.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Either};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{JSON, Refused, plain, problem};
use crate::gateway::Gateway;
use crate::spend::books::{BooksError, Export, Filter, Format, Row, Spending, moment};
use crate::wire::body::{Body, BoxError};
use crate::wire::problem::Problem;

const CSV: HeaderValue = HeaderValue::from_static("text/csv; charset=utf-8");
const AS_FILE: HeaderValue = HeaderValue::from_static("attachment; filename=\"ledger.csv\"");

/// Rows of a page, unless the request names another number.
const PAGE: usize = 100;

/// Rows of the longest page.
const MOST: usize = 1_000;

/// Parts of a file that wait for a slow client; one has a thousand rows.
const PARTS: usize = 1;

/// Spending is added up for so long back, unless the request names another time.
const ADDED_UP: SignedDuration = SignedDuration::from_hours(7 * 24);

/// And at most for so long.
const LONGEST: SignedDuration = SignedDuration::from_hours(31 * 24);

/// Callers, numbers and charges that are named then.
const PARTS_NAMED: usize = 20;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    filter: Filter,
    limit: usize,
    after: Option<i64>,
}

#[derive(Serialize)]
struct Page {
    data: Vec<Row>,
    meta: Meta,
}

#[derive(Serialize)]
struct AddedUp {
    data: Spending,
    meta: Since,
}

#[derive(Serialize)]
struct Since {
    since: Timestamp,
}

#[derive(Serialize)]
struct Meta {
    next_cursor: Option<String>,
}

/// One page, and where the next begins.
pub(super) fn page(gateway: &Gateway, query: &str) -> Refused<Response<Body>> {
    let wish = Wish::read(query, &["since", "until", "caller", "state", "limit", "cursor"])?;
    // One more than is asked for tells whether there are more.
    let rows = gateway.books().and_then(|books| books.page(&wish.filter, wish.after, wish.limit + 1));
    let mut data = rows.map_err(unreadable)?;
    let is_last = data.len() <= wish.limit;
    data.truncate(wish.limit);
    let next_cursor = data.last().filter(|_| !is_last).map(|row| row.id.to_string());
    let page = Page { data, meta: Meta { next_cursor } };
    Ok(plain(StatusCode::OK, JSON, serde_json::to_vec(&page).expect("rows always serialise")))
}

/// All rows, read as fast as the client takes them.
pub(super) fn csv(gateway: &Gateway, query: &str) -> Refused<Response<Body>> {
    let filter = Wish::read(query, &["since", "until", "caller", "state"])?.filter;
    let export = gateway.books().and_then(|books| books.export(filter, Format::Csv)).map_err(unreadable)?;
    let (sender, body) = Channel::<Bytes, BoxError>::new(PARTS);
    tokio::spawn(stream(export, sender));
    let mut response = Response::new(Either::Right(body.boxed()));
    response.headers_mut().insert(CONTENT_TYPE, CSV);
    response.headers_mut().insert(CONTENT_DISPOSITION, AS_FILE);
    Ok(response)
}

/// What was spent since a moment: by the hour, by caller and by number, and the last charges.
pub(super) fn spending(gateway: &Gateway, query: &str) -> Refused<Response<Body>> {
    let now = gateway.clock().now();
    let back = |span| now.checked_sub(span).unwrap_or(Timestamp::MIN);
    let since = Wish::read(query, &["since"])?.filter.since.unwrap_or_else(|| back(ADDED_UP));
    if since < back(LONGEST) {
        let detail = format!("since: it is more than {} days ago; read ledger.csv", LONGEST.as_hours() / 24);
        return Err(Box::new(bad(detail).at("since")));
    }
    let data = gateway.books().and_then(|books| books.spending(since, PARTS_NAMED)).map_err(unreadable)?;
    let added_up = AddedUp { data, meta: Since { since } };
    Ok(plain(StatusCode::OK, JSON, serde_json::to_vec(&added_up).expect("sums always serialise")))
}

/// Reads a part on a thread that may block, and holds none while the client takes it.
async fn stream(mut export: Export, mut sender: Sender<Bytes, BoxError>) {
    loop {
        let read = tokio::task::spawn_blocking(move || (export.next_part(), export)).await;
        let (part, rest) = match read {
            Ok((Ok(Some(part)), rest)) => (part, rest),
            Ok((Ok(None), _)) => return,
            Ok((Err(error), _)) => {
                tracing::warn!(%error, "an export of the ledger broke off");
                return sender.abort(error.into());
            }
            Err(error) => return sender.abort(error.into()),
        };
        export = rest;
        if sender.send_data(part.into()).await.is_err() {
            return;
        }
    }
}

impl Wish {
    /// Reads a query that has these parameters and no others, each at most once.
    fn read(query: &str, known: &[&'static str]) -> Refused<Self> {
        let mut wish = Self { filter: Filter::default(), limit: PAGE, after: None };
        let mut seen = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(name) = known.iter().copied().find(|known| *known == name) else {
                return Err(Box::new(bad(format!("there is no parameter {name:?} here; there are {}", known.join(", ")))));
            };
            let twice = seen.contains(&name);
            seen.push(name);
            let set = if twice { Err("given twice; give it once".to_owned()) } else { wish.set(name, value) };
            set.map_err(|what| Box::new(bad(format!("{name}: {what}")).at(name)))?;
        }
        Ok(wish)
    }

    fn set(&mut self, name: &str, value: Cow<'_, str>) -> Result<(), String> {
        let said = |error: &dyn std::fmt::Display| format!("{value:?} is {error}");
        match name {
            "since" => self.filter.since = Some(moment(&value).map_err(|error| said(&error))?),
            "until" => self.filter.until = Some(moment(&value).map_err(|error| said(&error))?),
            "state" => self.filter.state = Some(value.parse().map_err(|error| said(&error))?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                self.limit = limit.ok_or_else(|| said(&"not a number of rows from 1 to 1000"))?;
            }
            "cursor" => self.after = Some(value.parse().map_err(|_| said(&"not the next_cursor of a page"))?),
            _ => self.filter.caller = Some(value.into_owned()),
        }
        Ok(())
    }
}

fn bad(detail: String) -> Problem {
    Problem::bad_request("bad_request", "Admin", detail)
}

#[allow(clippy::needless_pass_by_value, reason = "as map_err calls it")]
pub(super) fn unreadable(error: BooksError) -> Box<Problem> {
    tracing::warn!(%error, "the ledger cannot be read for an operator");
    problem(StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_what_is_wrong_with_it_is_named() {
        let known = ["since", "until", "caller", "state", "limit", "cursor"];
        let wish = Wish::read("since=2026-03-24&caller=a+b&state=held&limit=7&cursor=9", &known).expect("a query");
        let since = Some("2026-03-24T00:00:00Z".parse().expect("a time"));
        let filter = Filter { since, caller: Some("a b".to_owned()), state: "held".parse().ok(), ..Filter::default() };
        assert_eq!(wish, Wish { filter, limit: 7, after: Some(9) });
        for (query, said) in [
            ("since=now", "since: \"now\" is not a time: write it as 2026-11-01T08:30:00Z"),
            ("until=2026-13-01", "until: \"2026-13-01\" is not a time"),
            ("state=billed", "state: \"billed\" is not a state: write held, settled"),
            ("limit=0", "limit: \"0\" is not a number of rows from 1 to 1000"),
            ("limit=1001", "limit: \"1001\" is not a number of rows"),
            ("cursor=x", "cursor: \"x\" is not the next_cursor of a page"),
            ("state=held&state=held", "state: given twice"),
            ("sinse=2026-03-24", "there is no parameter \"sinse\" here; there are since, until"),
        ] {
            let problem = Wish::read(query, &known).expect_err(query);
            assert!(problem.detail.starts_with(said), "{query}: {}", problem.detail);
            assert_eq!((problem.status, problem.parameter.is_some()), (StatusCode::BAD_REQUEST, !query.starts_with("sinse")));
        }
    }
}
