//! What is posted: one event of the ledger, as JSON, under an id that is made of the event.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use strum::{IntoStaticStr, VariantArray};

use crate::policy::budget::{Charge, Interval};
use crate::policy::claim::HoldId;
use crate::policy::money::Usd;
use crate::telnyx::PhoneNumber;

/// What can be posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schemars(rename = "Event")]
pub enum Kind {
    /// What is posted in a budget's window reached 50, 80, 95 or 100 % of its limit.
    BudgetThreshold,
    /// An operator stopped all billable work, or allowed it again.
    KillSwitch,
    /// Nobody knows whether a call was billed; it counts as billed.
    OutcomeUnknown,
}

impl Kind {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Its name in settings, in `type` and in logs.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One event, ready to be posted: every delivery has the same id and the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) body: Bytes,
}

impl Notice {
    /// What is posted in a budget's window reached so many hundredths of its limit, at `at`.
    pub fn threshold(budget: &str, percent: u8, (spent, limit): (Usd, Usd), window: Interval, at: Timestamp) -> Self {
        let data = json!({
            "budget": budget,
            "percent": percent,
            "spent_usd": spent,
            "limit_usd": limit,
            "starts_at": window.start,
            "resets_at": window.end,
        });
        Self::new(Kind::BudgetThreshold, &json!([budget, percent, window.start, at]), at, &data)
    }

    /// All billable work was stopped at `at`, or allowed again.
    pub fn kill_switch(on: bool, at: Timestamp, reason: Option<&str>, author: Option<&str>) -> Self {
        let data = json!({ "on": on, "reason": reason, "author": author });
        Self::new(Kind::KillSwitch, &json!([on, at, reason, author]), at, &data)
    }

    /// Nobody knows whether a call was billed, since `at`. Its number is masked: the ledger shows it whole.
    pub fn outcome_unknown(hold: HoldId, charge: &Charge, held_at: Timestamp, at: Timestamp) -> Self {
        let data = json!({
            "hold": hold.to_string(),
            "request_id": charge.request_id,
            "caller": &*charge.caller,
            "enterprise_id": charge.enterprise,
            "phone_number": charge.number.map(PhoneNumber::masked),
            "operation": charge.operation.as_str(),
            "price_usd": charge.price,
            "held_at": held_at,
        });
        Self::new(Kind::OutcomeUnknown, &json!([hold.0, held_at, charge.request_id]), at, &data)
    }

    /// `event` tells it from every other of its kind.
    fn new(kind: Kind, event: &Value, at: Timestamp, data: &Value) -> Self {
        let digest = Sha256::digest(json!([kind, event]).to_string());
        let id = digest.iter().take(16).fold("msg_".to_owned(), |id, byte| format!("{id}{byte:02x}"));
        let body = json!({ "type": kind, "timestamp": at, "data": data });
        Self { kind, id, body: body.to_string().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threshold(percent: u8, at: &str) -> Notice {
        let [start, end, at] = ["2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z", at].map(|text| text.parse().expect("an instant"));
        let usd = |text: &str| text.parse().expect("dollars");
        Notice::threshold("all-month", percent, (usd("400.00"), usd("500.00")), Interval { start, end }, at)
    }

    #[test]
    fn an_event_has_one_id_and_another_event_another() {
        let notice = threshold(80, "2026-03-24T12:00:00.000001Z");
        assert_eq!(notice, threshold(80, "2026-03-24T12:00:00.000001Z"));
        assert!(notice.id.len() == 36 && notice.id.starts_with("msg_"), "{}", notice.id);
        assert_ne!(notice.id, threshold(95, "2026-03-24T12:00:00.000001Z").id);
        assert_ne!(notice.id, threshold(80, "2026-03-24T12:00:00.000002Z").id, "of another ledger");
        insta::assert_snapshot!(String::from_utf8_lossy(&notice.body), @r#"{"data":{"budget":"all-month","limit_usd":"500.00","percent":80,"resets_at":"2026-04-01T00:00:00Z","spent_usd":"400.00","starts_at":"2026-03-01T00:00:00Z"},"timestamp":"2026-03-24T12:00:00.000001Z","type":"budget_threshold"}"#);
    }
}
