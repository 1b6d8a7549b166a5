//! What a request would come to: asked by its path, its caller, and what of its head matters. And what a past one came to: asked by its id.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use serde_json::{Value, json};

use super::cache::PARTITIONED;
use super::control::bad;
use super::{Refused, problem, requests};
use crate::auth::ANONYMOUS;
use crate::gateway::{Gateway, Unexplained};
use crate::wire::target::{Query, Target};

/// Explains the request that the query describes: `path`, `caller`, `method`, and `header` as often as there are fields; or the past ones of
/// a `request_id`.
pub(super) async fn explain(gateway: &Gateway, uri: &Uri) -> Refused<Value> {
    let query = Target::parse(uri).map_err(|why| bad(why.to_string()))?.query;
    if let Some(request_id) = one(&query, "request_id")? {
        if query.values("path").next().is_some() {
            return Err(bad("name a past request's request_id, or the path of one that might be".to_owned()));
        }
        return requests::explain(gateway, request_id).await;
    }
    let caller = one(&query, "caller")?.unwrap_or(ANONYMOUS);
    let explained = gateway.explain(&described(&query)?, caller).map_err(|why| match why {
        Unexplained::NoSuchCaller => {
            problem(StatusCode::NOT_FOUND, "caller_not_found", format!("no [[caller]] is named {caller:?}: name one as caller=NAME"))
        }
        Unexplained::Partitioned => problem(StatusCode::CONFLICT, "partitioned", PARTITIONED),
    })?;
    Ok(json!({ "data": explained }))
}

/// The head of the request that is described.
fn described(query: &Query<'_>) -> Refused<Parts> {
    let path = one(query, "path")?
        .ok_or_else(|| bad("name the request's path, with its query, encoded as path=…, or a past request's request_id".to_owned()))?;
    let path: Uri = path.parse().map_err(|why| bad(format!("path is no path: {why}")))?;
    let method = one(query, "method")?.unwrap_or("GET");
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad("method is no method of HTTP".to_owned()))?;
    let (mut head, ()) = Request::builder().method(method).uri(path).body(()).map_err(|why| bad(why.to_string()))?.into_parts();
    for field in query.values("header") {
        let parsed = field.split_once(':').and_then(|(name, value)| Some((name.parse().ok()?, HeaderValue::from_str(value.trim()).ok()?)));
        let (name, value): (HeaderName, _) = parsed.ok_or_else(|| bad("header is a field as in \"Cache-Control: no-cache\"".to_owned()))?;
        head.headers.append(name, value);
    }
    Ok(head)
}

pub(super) fn one<'q>(query: &'q Query<'_>, name: &'static str) -> Refused<Option<&'q str>> {
    let mut values = query.values(name);
    let first = values.next();
    if values.next().is_some() { Err(bad(format!("{name} is given twice"))) } else { Ok(first) }
}
