//! What a body says, read by borrowing: whose record it is and when its data was last refreshed. The bytes stay as they came.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{EnterpriseId, PhoneNumber};

/// One number's record, as far as money and freshness depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The number it is of.
    pub phone_number: PhoneNumber,
    /// The enterprise it belongs to.
    pub enterprise_id: EnterpriseId,
    /// What is stored for it.
    pub reputation: Reputation,
}

/// `reputation_data`: null until a check found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reputation {
    /// Nothing is stored: the next plain GET is billed.
    Null,
    /// Something is stored, refreshed then; the time can be null inside an object that is not.
    Stored(Option<Timestamp>),
}

impl Reputation {
    /// When the stored data was last refreshed.
    pub fn refreshed_at(self) -> Option<Timestamp> {
        match self {
            Self::Null => None,
            Self::Stored(at) => at,
        }
    }
}

/// A body that is not what its operation answers with.
#[derive(Debug, thiserror::Error)]
#[error("not the body this operation answers with: {0}")]
pub struct NotARecord(#[from] serde_json::Error);

/// Reads `{"data": number}`.
pub fn document(body: &[u8]) -> Result<Record, NotARecord> {
    let document: Document<Object<Number>> = read(body)?;
    Ok(document.data.0.into())
}

/// One item of a list, with its bytes.
#[derive(Debug)]
pub struct Item {
    /// What the item says.
    pub record: Record,
    /// The item in an envelope of its own: `{"data":…}` around its bytes as they came.
    pub document: Bytes,
}

/// Reads `{"data": [number, …], …}`.
pub fn list(body: &[u8]) -> Result<Vec<Item>, NotARecord> {
    let list: Document<Vec<&RawValue>> = read(body)?;
    list.data
        .into_iter()
        .map(|raw| {
            let number: Number = part(raw.get())?;
            Ok(Item { record: number.into(), document: Bytes::from(format!(r#"{{"data":{}}}"#, raw.get())) })
        })
        .collect()
}

/// Reads the ids in a list of enterprises.
pub fn enterprises(body: &[u8]) -> Result<Vec<EnterpriseId>, NotARecord> {
    #[derive(Deserialize)]
    struct Enterprise {
        id: EnterpriseId,
    }
    let list: Document<Vec<Object<Enterprise>>> = read(body)?;
    Ok(list.data.into_iter().map(|Object(enterprise)| enterprise.id).collect())
}

/// Reads a list of enterprises: the id of each, with its bytes.
pub fn enterprise_items(body: &[u8]) -> Result<Vec<(EnterpriseId, &str)>, NotARecord> {
    #[derive(Deserialize)]
    struct Enterprise {
        id: EnterpriseId,
    }
    let list: Document<Vec<&RawValue>> = read(body)?;
    let item = |raw: &'_ RawValue| part(raw.get()).map(|Enterprise { id }| id);
    list.data.into_iter().map(|raw| Ok((item(raw)?, raw.get()))).collect()
}

/// The record in `{"data": record}`, as its bytes.
pub fn inner(body: &[u8]) -> Option<&str> {
    let document: Document<&RawValue> = read(body).ok()?;
    Some(document.data.get())
}

/// What any record may say of whom it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Owner {
    /// Its own id.
    #[serde(default)]
    pub id: Option<String>,
    /// Its enterprise.
    #[serde(default)]
    pub enterprise_id: Option<EnterpriseId>,
}

/// Reads of any answer, `{"data": record}` or `{"data": [record, …]}`, to whom its records belong.
pub fn whose(body: &[u8]) -> Result<Vec<Owner>, NotARecord> {
    let answer: Document<&RawValue> = read(body)?;
    let raw = answer.data.get();
    if !raw.starts_with('[') {
        return Ok(vec![part(raw)?]);
    }
    let owners: Vec<Object<Owner>> = serde_json::from_str(raw)?;
    Ok(owners.into_iter().map(|Object(owner)| owner).collect())
}

/// How many items the list has of which a body is a page, `{"data": [item, …], "meta": {"total_results": …}}`.
pub fn total(body: &[u8]) -> Result<u64, NotARecord> {
    #[derive(Deserialize)]
    struct Page {
        data: Vec<IgnoredAny>,
        meta: Object<Meta>,
    }
    #[derive(Deserialize)]
    struct Meta {
        total_results: u64,
    }
    let Page { data, meta: Object(Meta { total_results }) } = read(body)?;
    if total_results < data.len() as u64 {
        return Err(serde_json::Error::custom("the list is shorter than its page").into());
    }
    Ok(total_results)
}

/// Whether settings say that monitoring was disabled.
pub fn is_deleted(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Settings {
        status: String,
    }
    read::<Document<Object<Settings>>>(body).is_ok_and(|settings| settings.data.0.status == "deleted")
}

/// What a refresh says of one number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Refreshed {
    /// The number.
    pub phone_number: PhoneNumber,
    /// Whether it was checked.
    pub success: bool,
    /// Why not, in the upstream's own words.
    #[serde(default)]
    pub error: Value,
}

/// Reads `{"data": {"results": [{"phone_number", "success", "error"}, …], …}}`.
pub fn refreshed(body: &[u8]) -> Result<Vec<Refreshed>, NotARecord> {
    #[derive(Deserialize)]
    struct Results {
        results: Vec<Object<Refreshed>>,
    }
    let answer: Document<Object<Results>> = read(body)?;
    Ok(answer.data.0.results.into_iter().map(|Object(refreshed)| refreshed).collect())
}

/// Writes what [`refreshed`] reads, with the counts that Telnyx adds.
pub fn refresh(results: &[Refreshed]) -> Bytes {
    let total_successful = results.iter().filter(|result| result.success).count();
    let data = json!({
        "results": results,
        "total_requested": results.len(),
        "total_successful": total_successful,
        "total_failed": results.len() - total_successful,
    });
    json!({ "data": data }).to_string().into()
}

/// Whether a body is an error in Telnyx's envelope.
pub fn is_error(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Envelope {
        errors: Vec<IgnoredAny>,
    }
    read::<Envelope>(body).is_ok_and(|envelope| !envelope.errors.is_empty())
}

/// Reads a body as JSON, which is UTF-8 throughout (RFC 8259, 8.1): serde does not look at the texts that it passes over.
fn read<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, serde_json::Error> {
    part(str::from_utf8(body).map_err(Error::custom)?)
}

/// Reads a part of a body that is an object.
fn part<'b, T: Deserialize<'b>>(text: &'b str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text).map(|Object(inner)| inner)
}

/// What is read from an object alone: a derived reader takes a list of the fields' values too, which is no record to any other reader.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

#[derive(Deserialize)]
struct Document<T> {
    data: T,
}

#[derive(Deserialize)]
#[allow(clippy::struct_field_names, reason = "the names are the wire's")]
struct Number {
    phone_number: PhoneNumber,
    enterprise_id: EnterpriseId,
    // With a function of its own a field is required: a record without it is not whole.
    #[serde(deserialize_with = "Option::deserialize")]
    reputation_data: Option<Object<Scores>>,
}

#[derive(Deserialize)]
struct Scores {
    #[serde(default)]
    last_refreshed_at: Option<Timestamp>,
}

impl From<Number> for Record {
    fn from(number: Number) -> Self {
        let reputation = match number.reputation_data {
            None => Reputation::Null,
            Some(Object(scores)) => Reputation::Stored(scores.last_refreshed_at),
        };
        Self { phone_number: number.phone_number, enterprise_id: number.enterprise_id, reputation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#""id":"5f0e","phone_number":"+16035551234","enterprise_id":"6a09cdc3-8948-47f0-aa62-74ac943d6c58""#;

    fn reputation(data: &str) -> Result<Reputation, NotARecord> {
        document(format!(r#"{{"data":{{{HEAD}{data},"newer_field":[1,2]}}}}"#).as_bytes()).map(|record| record.reputation)
    }

    #[test]
    fn a_page_tells_how_long_its_list_is() {
        let total = |body: &str| total(body.as_bytes()).ok();
        assert_eq!(total(r#"{"data":[{}],"meta":{"page_size":1,"total_results":1002}}"#), Some(1002));
        assert_eq!(total(r#"{"data":[],"meta":{"total_results":0}}"#), Some(0));
        for body in [r#"{"data":[{}],"meta":{"total_results":0}}"#, r#"{"data":[]}"#, r#"{"data":[],"meta":{"total_results":-1}}"#, "[]"] {
            assert_eq!(total(body), None, "{body}");
        }
    }

    #[test]
    fn settings_say_when_they_were_deleted() {
        assert!(is_deleted(br#"{"data":{"status":"deleted"}}"#));
        for body in [&br#"{"data":{"status":"approved"}}"#[..], br#"{"data":{}}"#, br#"{"data":[]}"#] {
            assert!(!is_deleted(body));
        }
    }

    #[test]
    fn null_data_and_a_null_time_inside_data_are_told_apart() {
        assert_eq!(reputation(r#","reputation_data":null"#).expect("whole"), Reputation::Null);
        assert_eq!(reputation(r#","reputation_data":{"last_refreshed_at":null}"#).expect("whole"), Reputation::Stored(None));
        assert_eq!(reputation(r#","reputation_data":{"spam_risk":"low"}"#).expect("whole"), Reputation::Stored(None));
        let at: Timestamp = "2026-03-24T12:00:00Z".parse().expect("a time");
        let stored = r#","reputation_data":{"spam_risk":"low","last_refreshed_at":"2026-03-24T12:00:00Z"}"#;
        assert_eq!(reputation(stored).expect("whole"), Reputation::Stored(Some(at)));
    }

    #[test]
    fn a_record_that_is_not_whole_is_no_record() {
        for data in ["", r#","reputation_data":7"#, r#","reputation_data":{"last_refreshed_at":"yesterday"}"#] {
            assert!(reputation(data).is_err(), "{data}");
        }
        for body in ["", "null", "[]", "<html>", r#"{"data":null}"#, r#"{"data":[]}"#, r#"{"errors":[]}"#] {
            assert!(document(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_no_body_wherever_they_stand() {
        let record = [br#"{"data":{"phone_number":"+16035551234","reputation_data":null,"x":""#, &[0xff][..], br#""}}"#].concat();
        assert!(document(&record).is_err() && inner(&record).is_none() && whose(&record).is_err());
        assert!(list(b"{\"data\":[],\"\xff\":1}").is_err());
        assert!(!is_error(b"{\"errors\":[\"\xff\"]}"));
    }

    #[test]
    fn a_list_of_values_is_no_record() {
        let owner = r#""phone_number":"+16035551234","enterprise_id":"6a09cdc3-8948-47f0-aa62-74ac943d6c58""#;
        let values = r#"["+16035551234","6a09cdc3-8948-47f0-aa62-74ac943d6c58",null]"#;
        for body in [format!(r#"[{{{owner},"reputation_data":null}}]"#), format!(r#"{{"data":{values}}}"#)] {
            assert!(document(body.as_bytes()).is_err(), "{body}");
        }
        assert!(reputation(r#","reputation_data":[null]"#).is_err());
        assert!(list(b"[[]]").is_err() && list(format!(r#"{{"data":[{values}]}}"#).as_bytes()).is_err());
        assert!(whose(br#"{"data":[["a",null]]}"#).is_err() && inner(b"[7]").is_none() && !is_error(b"[[7]]"));
        assert!(refreshed(br#"{"data":{"results":[["+16035551234",true,null]]}}"#).is_err());
        assert!(enterprises(br#"{"data":[["6a09cdc3-8948-47f0-aa62-74ac943d6c58"]]}"#).is_err());
    }

    #[test]
    fn what_a_refresh_says_is_read_and_written() {
        let body = r#"{"data":{"total_requested":2,"results":[
            {"phone_number":"+16035551234","success":true,"error":null,"later":1},{"phone_number":"+16035550000","success":false,"error":"gone"}]}}"#;
        let results = refreshed(body.as_bytes()).expect("results");
        assert_eq!(results.iter().map(|result| result.success).collect::<Vec<_>>(), [true, false]);
        assert_eq!(results[1].error, "gone");
        let written = refresh(&results);
        assert_eq!(refreshed(&written).expect("results"), results);
        let counts: Value = serde_json::from_slice(&written).expect("JSON");
        let counts = ["total_requested", "total_successful", "total_failed"].map(|count| counts["data"][count].as_u64());
        assert_eq!(counts, [Some(2), Some(1), Some(1)]);
        for body in ["", "<html>", r#"{"data":{}}"#, r#"{"errors":[{}]}"#, r#"{"data":{"results":[{"phone_number":"+16035551234"}]}}"#] {
            assert!(refreshed(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn an_error_is_known_by_its_envelope() {
        assert!(is_error(br#"{"errors":[{"code":"10009"}]}"#));
        for body in [r#"{"errors":[]}"#, "<html>", "", r#"{"error":"x"}"#, "[]"] {
            assert!(!is_error(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn an_item_of_a_list_keeps_its_bytes() {
        let item = format!(r#"{{ {HEAD} , "reputation_data" : null,  "later": 1.50 }}"#);
        let items = list(format!(r#"{{"data":[{item}],"meta":{{}}}}"#).as_bytes()).expect("a list");
        assert_eq!(items[0].document, format!(r#"{{"data":{item}}}"#));
        assert!(list(br#"{"data":[]}"#).expect("a list").is_empty());
    }
}
