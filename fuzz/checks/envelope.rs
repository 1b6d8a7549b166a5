//! What a body says of itself: a record, whom it belongs to, a refresh, a list of enterprises, an object read strictly.

use reputation_gateway::telnyx::record;
use reputation_gateway::wire::json;
use serde_json::Value;

pub(crate) fn check(data: &[u8]) {
    let value: Option<Value> = serde_json::from_slice(data).ok();
    let inner = record::inner(data);
    if let Some(raw) = inner {
        assert!(is_part(raw, data), "{raw} is not in the body");
    }
    if let Ok(of_number) = record::document(data) {
        let raw = inner.expect("a record has bytes");
        let wrapped = format!(r#"{{"data":{raw}}}"#);
        assert_eq!(record::document(wrapped.as_bytes()).expect("the same record"), of_number);
        assert_eq!(record::inner(wrapped.as_bytes()), Some(raw));
        if let Ok(owners) = record::whose(data) {
            assert_eq!(owners.iter().map(|owner| owner.enterprise_id).collect::<Vec<_>>(), [Some(of_number.enterprise_id)]);
        }
    }
    if let (Ok(owners), Some(value)) = (record::whose(data), &value) {
        assert_eq!(owners.len(), value["data"].as_array().map_or(1, Vec::len), "an owner for each record");
    }
    if let Ok(results) = record::refreshed(data) {
        let written = record::refresh(&results);
        let again = record::refreshed(&written).expect("what is written is read");
        assert_eq!(again, results);
        let total: Value = serde_json::from_slice(&written).expect("JSON");
        assert_eq!(total["data"]["total_requested"], results.len());
    }
    if let Ok(items) = record::enterprise_items(data) {
        assert!(items.iter().all(|(_, raw)| is_part(raw, data)), "an item's bytes are not in the body");
        let ids: Vec<_> = items.into_iter().map(|(id, _)| id).collect();
        assert_eq!(record::enterprises(data).expect("the same list"), ids);
    }
    assert!(!record::is_error(data) || value.is_none_or(|value| value["errors"].is_array()));
    if let Ok(object) = json::object(data) {
        let object = Value::Object(object);
        assert_eq!(serde_json::from_slice::<Value>(data).expect("JSON"), object);
        // What goes upstream is written anew.
        let written = object.to_string();
        assert_eq!(json::object(written.as_bytes()).map(Value::Object).expect("an object"), object);
    }
}

/// Whether a text lies within the body itself.
fn is_part(raw: &str, body: &[u8]) -> bool {
    body.as_ptr_range().contains(&raw.as_ptr()) && body.as_ptr_range().end >= raw.as_bytes().as_ptr_range().end
}
