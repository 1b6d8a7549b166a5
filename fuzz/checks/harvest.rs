//! A page of a list: each item's bytes are the page's own, in their order, and say in an envelope of their own what they say in it.

use reputation_gateway::telnyx::record;
use serde_json::Value;
use serde_json::value::RawValue;

pub(crate) fn check(data: &[u8]) {
    let Ok(items) = record::list(data) else { return };
    let page = str::from_utf8(data).expect("a list is text");
    let mut rest = page;
    for item in &items {
        let document = str::from_utf8(&item.document).expect("an item is text");
        let raw = document.strip_prefix(r#"{"data":"#).and_then(|rest| rest.strip_suffix('}')).expect("an envelope");
        let at = rest.find(raw).unwrap_or_else(|| panic!("{raw} does not follow in {page}"));
        rest = &rest[at + raw.len()..];
        assert_eq!(record::inner(&item.document), Some(raw));
        assert_eq!(record::document(&item.document).expect("a record"), item.record);
        let _whole: &RawValue = serde_json::from_str(raw).expect("one value");
    }
    if let Ok(page) = serde_json::from_slice::<Value>(data) {
        let said: Vec<Value> =
            items.iter().map(|item| serde_json::from_slice::<Value>(&item.document).expect("JSON")["data"].take()).collect();
        assert_eq!(page["data"], Value::Array(said));
    }
}
