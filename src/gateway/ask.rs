//! What a request asks for, parsed once into types.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::answer::{Answer, Refused};
use super::refusal;
use crate::auth::Caller;
use crate::cache::Key;
use crate::policy::decide::Want;
use crate::telnyx::{CheckFrequency, EnterpriseId, NotAFrequency, NotE164, PhoneNumber};
use crate::upstream::Context;
use crate::wire::directives::Directives;
use crate::wire::json;
use crate::wire::target::Query;

/// A read of one number, with all that answering it takes.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// Whose copy of which number.
    pub(super) key: Key,
    /// What the caller wants.
    pub(super) want: Want,
    /// Who asks.
    pub(super) caller: Arc<Caller>,
    /// What goes upstream besides the path.
    pub(super) context: Context,
}

/// The number in a path.
pub(super) fn number(segment: Option<&str>) -> Refused<PhoneNumber> {
    let segment = segment.expect("the route of this operation has a number");
    PhoneNumber::from_segment(segment).map_err(|error| not_e164(error.to_string(), "phone_number"))
}

fn not_e164(detail: String, parameter: &'static str) -> Box<Answer> {
    refusal::bad_request("10016", "Phone number must be in +E164 format", detail, parameter)
}

/// Numbers of one refresh, or of one association.
const MOST_NUMBERS: usize = 100;

/// Numbers of one remediation.
const MOST_REMEDIATED: usize = 2_000;

/// The numbers in the body of a refresh or an association.
pub(super) fn numbers(head: &Parts, body: &[u8]) -> Refused<Vec<PhoneNumber>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Refresh {
        phone_numbers: Vec<Value>,
    }
    let bad = |detail: String| bad_parameter("phone_numbers", detail);
    check_type(head, "phone_numbers")?;
    let Refresh { phone_numbers } = serde_json::from_slice(body)
        .map_err(|error| bad(format!("the body is a JSON object with the list phone_numbers and nothing else: {error}")))?;
    listed(&phone_numbers, MOST_NUMBERS)
}

/// The numbers in the body of a remediation; all else in it is Telnyx's to judge.
pub(super) fn remediated(object: &Map<String, Value>) -> Refused<Vec<PhoneNumber>> {
    let Some(Value::Array(phone_numbers)) = object.get("phone_numbers") else {
        return Err(bad_parameter("phone_numbers", "the body has the list phone_numbers"));
    };
    listed(phone_numbers, MOST_REMEDIATED)
}

/// Numbers in a list, none twice. Which of them is at fault is told by its place, from 0.
fn listed(phone_numbers: &[Value], most: usize) -> Refused<Vec<PhoneNumber>> {
    let bad = |detail: String| bad_parameter("phone_numbers", detail);
    if !(1..=most).contains(&phone_numbers.len()) {
        return Err(bad(format!("phone_numbers has 1 to {most} numbers, and these are {}", phone_numbers.len())));
    }
    let (mut numbers, mut places) = (Vec::with_capacity(phone_numbers.len()), HashMap::new());
    for (place, text) in phone_numbers.iter().enumerate() {
        let text = text.as_str().ok_or_else(|| bad(format!("phone_numbers[{place}] is not a text")))?;
        let number = text.parse().map_err(|error: NotE164| not_e164(format!("phone_numbers[{place}]: {error}"), "phone_numbers"))?;
        if let Some(first) = places.insert(number, place) {
            return Err(bad(format!("phone_numbers[{place}] is the same number as phone_numbers[{first}]")));
        }
        numbers.push(number);
    }
    Ok(numbers)
}

/// A body is JSON in no coding; a client may leave its type out.
fn check_type(head: &Parts, parameter: &'static str) -> Refused<()> {
    let is_json = |kind: &HeaderValue| kind.to_str().is_ok_and(|kind| media_type(kind).eq_ignore_ascii_case("application/json"));
    if !head.headers.get_all(CONTENT_TYPE).iter().all(is_json) {
        return Err(bad_parameter(parameter, "the body is JSON: its Content-Type is application/json"));
    }
    if !head.headers.get_all(CONTENT_ENCODING).iter().all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(bad_parameter(parameter, "the body is taken as it is: send it without a Content-Encoding"));
    }
    Ok(())
}

/// The object in the body of a write, or that there is no body. It is sent as it was read here, so that what was checked is what
/// Telnyx gets; an enterprise in it is the one in the path. It sets no schedule: what that sets off is counted where one is set.
pub(super) fn object(head: &Parts, body: &[u8], enterprise: Option<EnterpriseId>) -> Refused<Option<Map<String, Value>>> {
    let object = object_about(head, body, enterprise)?;
    object.iter().flatten().try_for_each(|(name, value)| check_unscheduled(name, value))?;
    Ok(object)
}

fn object_about(head: &Parts, body: &[u8], enterprise: Option<EnterpriseId>) -> Refused<Option<Map<String, Value>>> {
    if body.is_empty() {
        return Ok(None);
    }
    check_type(head, "body")?;
    let object = json::object(body).map_err(|error| bad_parameter("body", format!("the body is a JSON object or nothing: {error}")))?;
    let named = object.iter().find_map(|(name, value)| (json::folded(name) == "enterprise_id").then_some(value));
    if let (Some(enterprise), Some(named)) = (enterprise, named) {
        let same = named.as_str().and_then(|named| named.parse().ok()) == Some(enterprise);
        if !same {
            return Err(bad_parameter("enterprise_id", "the body names another enterprise than the path"));
        }
    }
    Ok(Some(object))
}

/// The schedule in the body of a change of it, in which there is nothing else.
pub(super) fn frequency(head: &Parts, body: &[u8]) -> Refused<CheckFrequency> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Change {
        check_frequency: Value,
    }
    check_type(head, CHECK_FREQUENCY)?;
    let change: Change = serde_json::from_slice(body).map_err(|error| {
        bad_parameter(CHECK_FREQUENCY, format!("the body is a JSON object with check_frequency and nothing else: {error}; {NotAFrequency}"))
    })?;
    check_frequency(&change.check_frequency)
}

/// What enabling takes: a letter of authorisation, and a schedule or none, of which a new enterprise without numbers has no runs. All else
/// in the body is Telnyx's to judge.
pub(super) fn enabling(head: &Parts, body: &[u8], enterprise: EnterpriseId) -> Refused<Map<String, Value>> {
    let object = object_about(head, body, Some(enterprise))?.unwrap_or_default();
    if !matches!(object.get("loa_document_id"), Some(Value::String(id)) if !id.is_empty()) {
        return Err(bad_parameter("loa_document_id", "the body names the letter of authorisation: {\"loa_document_id\": \"…\"}"));
    }
    for (name, value) in &object {
        if name == CHECK_FREQUENCY { check_frequency(value).map(drop) } else { check_unscheduled(name, value) }?;
    }
    Ok(object)
}

const CHECK_FREQUENCY: &str = "check_frequency";

/// Refuses a schedule, at any depth and in any case.
fn check_unscheduled(name: &str, value: &Value) -> Refused<()> {
    if json::folded(name) == CHECK_FREQUENCY {
        let detail =
            "how often Telnyx checks all numbers is set by PATCH …/reputation/frequency, where it is counted, and by no other request";
        return Err(bad_parameter(CHECK_FREQUENCY, detail));
    }
    match value {
        Value::Object(object) => object.iter().try_for_each(|(name, value)| check_unscheduled(name, value)),
        Value::Array(list) => list.iter().try_for_each(|value| check_unscheduled("", value)),
        _ => Ok(()),
    }
}

fn check_frequency(value: &Value) -> Refused<CheckFrequency> {
    let named = value.as_str().and_then(|text| text.parse().ok());
    named.ok_or_else(|| bad_parameter(CHECK_FREQUENCY, NotAFrequency.to_string()))
}

/// A media type without its parameters.
pub(super) fn media_type(kind: &str) -> &str {
    kind.split(';').next().unwrap_or_default().trim()
}

/// The wishes of a refresh: to have each number checked, unless that would bring what is stored. Nothing of it can be cached.
pub(super) fn refresh(wishes: Directives) -> Want {
    Want { fresh: true, may_bill: true, max_age: wishes.max_age, no_store: wishes.no_store, retry: wishes.retry, ..Want::default() }
}

/// The wishes of a read. HEAD and `no-cache` never cost anything.
pub(super) fn want(head: &Parts, query: &Query<'_>, wishes: Directives) -> Refused<Want> {
    Ok(Want {
        fresh: fresh(query)?,
        may_bill: head.method != Method::HEAD && !wishes.no_cache,
        no_cache: wishes.no_cache,
        only_if_cached: wishes.only_if_cached,
        max_age: wishes.max_age,
        min_fresh: wishes.min_fresh,
        max_stale: wishes.max_stale,
        no_store: wishes.no_store,
        strict: wishes.strict,
        retry: wishes.retry,
    })
}

/// `fresh`: `true`, `false`, `1` or `0` in any case. Two values that disagree are refused: Telnyx might read the other one.
fn fresh(query: &Query<'_>) -> Refused<bool> {
    let mut wanted = None;
    for value in query.values("fresh") {
        let value = match value.to_ascii_lowercase().as_str() {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => return Err(bad_parameter("fresh", "fresh is true or false (or 1 or 0)")),
        };
        if *wanted.get_or_insert(value) != value {
            return Err(bad_parameter("fresh", "fresh is given twice, with different values"));
        }
    }
    Ok(wanted.unwrap_or(false))
}

fn bad_parameter(parameter: &'static str, detail: impl Into<String>) -> Box<Answer> {
    refusal::bad_request("10015", "Bad Request", detail, parameter)
}

/// A page of a list, in a canonical form: known parameters only, in one order, defaults written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// `filter[enterprise_id]` of the simplified form.
    pub(super) enterprise: Option<String>,
    /// The encoded query.
    pub(super) query: Arc<str>,
}

static FILTERS: [&str; 4] = ["filter[ownership_status]", "filter[phone_number][contains]", "filter[phone_number][eq]", "filter[source]"];

/// A filter's value, in bytes; encoded it is up to three times as long, and a target upstream has its limit too.
const LONGEST_PARAMETER: usize = 256;

/// The largest page that Telnyx gives.
const MAX_PAGE_SIZE: u32 = 250;

impl Page {
    /// Reads the query of a list. Without a size, the scoped form has 10 items and the simplified form 20.
    pub(super) fn parse(query: &Query<'_>, scoped: bool) -> Refused<Self> {
        let enterprise = if scoped { None } else { one(query, "filter[enterprise_id]")? };
        let enterprise = enterprise.map(Cow::into_owned);
        let paging = Paging::or(query, if scoped { 10 } else { 20 })?.query();
        let filters = known(query, &FILTERS)?;
        let separator = if filters.is_empty() { "" } else { "&" };
        Ok(Self { enterprise, query: format!("{filters}{separator}{paging}").into() })
    }
}

/// Which page of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paging {
    /// From 1.
    pub(super) number: u32,
    /// Items on a full page.
    pub(super) size: u32,
}

impl Default for Paging {
    fn default() -> Self {
        Self { number: 1, size: 10 }
    }
}

impl Paging {
    /// None, if the query says nothing of it.
    pub(super) fn parse(query: &Query<'_>) -> Refused<Option<Self>> {
        let said = ["page[number]", "page[size]"].iter().any(|name| query.values(name).next().is_some());
        if said { Self::or(query, Self::default().size).map(Some) } else { Ok(None) }
    }

    /// Without a size, pages have so many items.
    fn or(query: &Query<'_>, size: u32) -> Refused<Self> {
        let number = whole(query, "page[number]")?.unwrap_or(1);
        Ok(Self { number, size: whole(query, "page[size]")?.unwrap_or(size).min(MAX_PAGE_SIZE) })
    }

    /// As it goes upstream.
    pub(super) fn query(self) -> String {
        format!("page%5Bnumber%5D={}&page%5Bsize%5D={}", self.number, self.size)
    }
}

/// These parameters of a query, encoded, in the order of `names`; others are left out.
pub(super) fn known(query: &Query<'_>, names: &'static [&'static str]) -> Refused<String> {
    let mut canonical = form_urlencoded::Serializer::new(String::new());
    for name in names {
        if let Some(value) = one(query, name)? {
            canonical.append_pair(name, &value);
        }
    }
    Ok(canonical.finish())
}

/// An id in a path that is no enterprise's: Telnyx's own are UUIDs.
pub(super) fn id(text: &str) -> Refused<&str> {
    let plain = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if plain { Ok(text) } else { Err(bad_parameter("id", "an id is 1 to 64 letters, digits, hyphens and underscores")) }
}

/// The enterprise in a path or a filter.
pub(super) fn enterprise(text: &str) -> Refused<EnterpriseId> {
    text.parse().map_err(|error: crate::telnyx::NotAnEnterpriseId| bad_parameter("enterprise_id", error.to_string()))
}

fn one<'q>(query: &'q Query<'_>, name: &'static str) -> Refused<Option<Cow<'q, str>>> {
    let mut values = query.values(name);
    let first = values.next();
    if values.any(|value| Some(value) != first) {
        return Err(bad_parameter(name, format!("{name} is given twice, with different values")));
    }
    if first.is_some_and(|value| value.len() > LONGEST_PARAMETER) {
        return Err(bad_parameter(name, format!("{name} is longer than {LONGEST_PARAMETER} bytes")));
    }
    Ok(first.map(Cow::Borrowed))
}

fn whole(query: &Query<'_>, name: &'static str) -> Refused<Option<u32>> {
    let parse = |text: Cow<'_, str>| match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(bad_parameter(name, format!("{name} is a whole number from 1 upwards"))),
    };
    one(query, name)?.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::wire::target::Target;

    fn with_query<T>(query: &str, read: impl Fn(&Query<'_>) -> Refused<T>) -> Result<T, String> {
        let uri = format!("/a?{query}").parse().expect("a URI");
        let target = Target::parse(&uri).expect("a target");
        read(&target.query).map_err(|answer| format!("{:?}", answer.content))
    }

    #[test]
    fn fresh_has_two_values_in_any_case_and_no_others() {
        for (query, wanted) in [("", false), ("fresh=TRUE", true), ("fresh=1&fresh=true", true), ("fresh=0", false), ("Fresh=true", false)]
        {
            assert_eq!(with_query(query, fresh), Ok(wanted), "{query}");
        }
        for query in ["fresh=maybe", "fresh=", "fresh", "fresh=true&fresh=false", "fresh=+true", "fresh=true%20"] {
            assert!(with_query(query, fresh).is_err(), "{query}");
        }
    }

    fn numbers_in(body: &str) -> Result<Vec<String>, String> {
        let (head, ()) = http::Request::new(()).into_parts();
        let numbers = numbers(&head, body.as_bytes()).map_err(|answer| format!("{:?}", answer.content))?;
        Ok(numbers.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_refresh_names_1_to_100_numbers_once_each_and_nothing_else() {
        let list = |count: usize| json!({ "phone_numbers": (0..count).map(|n| format!("+1202555{n:04}")).collect::<Vec<_>>() }).to_string();
        assert_eq!(numbers_in(r#"{"phone_numbers":["+16035551234"]}"#), Ok(vec!["+16035551234".to_owned()]));
        assert_eq!(numbers_in(&list(100)).map(|numbers| numbers.len()), Ok(100));
        for (body, fault) in [
            ("", "JSON object"),
            ("[]", "JSON object"),
            ("{}", "phone_numbers"),
            (r#"{"phone_numbers":"+16035551234"}"#, "JSON object"),
            (r#"{"phone_numbers":["+16035551234"],"force":true}"#, "force"),
            (r#"{"phone_numbers":["+16035551234"],"phone_numbers":[]}"#, "duplicate"),
            (r#"{"phone_numbers":["+16035551234"]} {}"#, "trailing"),
            (&list(0), "1 to 100"),
            (&list(101), "1 to 100"),
            (r#"{"phone_numbers":["+16035551234",7]}"#, "phone_numbers[1]"),
            (r#"{"phone_numbers":["+16035551234",null]}"#, "phone_numbers[1]"),
            (r#"{"phone_numbers":["+16035551234","16035551235"]}"#, "phone_numbers[1]"),
            (r#"{"phone_numbers":["+16035551234","%2B16035551235"]}"#, "phone_numbers[1]"),
            (
                r#"{"phone_numbers":["+16035551234","+12025550000","+16035551234"]}"#,
                "phone_numbers[2] is the same number as phone_numbers[0]",
            ),
        ] {
            let refused = numbers_in(body).expect_err(body);
            assert!(refused.contains(fault), "{body}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn every_list_of_numbers_comes_through_in_its_order(list in proptest::collection::hash_set("\\+[1-9][0-9]{6,14}", 1..100)) {
            let list: Vec<_> = list.into_iter().collect();
            prop_assert_eq!(numbers_in(&json!({ "phone_numbers": list }).to_string()), Ok(list));
        }

        #[test]
        fn no_body_makes_it_panic(body in ".*", pieces in proptest::collection::vec("[\\[\\]{}:,\"a-z0-9+]*", 0..20)) {
            let _read = (numbers_in(&body), numbers_in(&pieces.concat()));
        }
    }

    #[test]
    fn a_page_has_one_canonical_query() {
        let page = |query, scoped| with_query(query, |query| Page::parse(query, scoped)).map(|page| page.query.to_string());
        assert_eq!(page("", true).as_deref(), Ok("page%5Bnumber%5D=1&page%5Bsize%5D=10"));
        assert_eq!(page("leak=1", false).as_deref(), Ok("page%5Bnumber%5D=1&page%5Bsize%5D=20"));
        let filtered = "page[size]=999&filter[phone_number][eq]=%2B16035551234&page[number]=2";
        let canonical = "filter%5Bphone_number%5D%5Beq%5D=%2B16035551234&page%5Bnumber%5D=2&page%5Bsize%5D=250";
        assert_eq!(page(filtered, true).as_deref(), Ok(canonical));
        for query in ["page[number]=0", "page[size]=x", "page[size]=-1", "page[size]=1&page[size]=2"] {
            assert!(page(query, true).is_err(), "{query}");
        }
    }
}
