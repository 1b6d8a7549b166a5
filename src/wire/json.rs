//! JSON read strictly: no name stands twice in an object, since readers disagree on which of the two counts. Some readers do not tell
//! cases apart (Go's own is one), so two names that differ only in that are the same here.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads an object and nothing else.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    match serde_json::from_slice(body)? {
        Strict(Value::Object(object)) => Ok(object),
        Strict(_) => Err(serde_json::Error::custom("expected a JSON object")),
    }
}

/// A name as readers see it that tell no cases apart. Letters of which one case is in ASCII are that letter: `ſ` is `s`.
pub fn folded(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

/// A value in which no name stands twice, at any depth.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let (mut object, mut names) = (Map::new(), HashSet::new());
        while let Some((name, Strict(value))) = fields.next_entry::<String, _>()? {
            if !names.insert(folded(&name)) {
                return Err(A::Error::custom(format!("{name:?} stands twice in one object")));
            }
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_stands_twice_is_refused_at_any_depth() {
        for body in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":[{"y":{"a":1,"b":2,"a":3}}]}"#,
            r#"{"as":1,"AS":2}"#,
            r#"{"as":1,"aſ":2}"#,
        ] {
            let refused = object(body.as_bytes()).expect_err(body).to_string();
            assert!(refused.contains("stands twice"), "{body}: {refused}");
        }
        assert!(object(br#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#).is_ok());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["", "null", "[]", "7", "\"a\"", "{", "{} {}", "<html>", "{\"a\":1,}", "\u{feff}{}"] {
            assert!(object(body.as_bytes()).is_err(), "{body}");
        }
        assert!(object("[".repeat(100_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn all_else_is_read_as_serde_json_reads_it(text in "\\PC*", number: i64, part in -1e9..1e9_f64, flag: bool) {
            let body = serde_json::json!({ "a": text, "b": [number, part, flag, null], "c": { "d": { "e": {} } } }).to_string();
            let read = object(body.as_bytes()).expect("an object");
            prop_assert_eq!(Value::Object(read), serde_json::from_str::<Value>(&body).expect("JSON"));
        }
    }
}
