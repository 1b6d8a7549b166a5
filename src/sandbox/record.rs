//! A number's record, and the scores that a check of it finds.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::WITHOUT_DATA;

/// A number as Telnyx shows it; its fields are written in this order.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Record {
    id: Uuid,
    pub(super) phone_number: String,
    pub(super) enterprise_id: String,
    source: &'static str,
    ownership_status: &'static str,
    confirm_by: Option<Timestamp>,
    pub(super) reputation_data: Option<Reputation>,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip)]
    checks: u32,
}

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Reputation {
    spam_risk: &'static str,
    spam_category: Option<&'static str>,
    maturity_score: u8,
    connection_score: u8,
    engagement_score: u8,
    sentiment_score: u8,
    last_refreshed_at: Timestamp,
}

/// The value that `filter[source]` compares with: every number here is one of Telnyx's own.
pub(super) const SOURCE: &str = "telnyx";
/// The value that `filter[ownership_status]` compares with.
pub(super) const OWNERSHIP_STATUS: &str = "verified";

impl Record {
    /// A number that was associated at `created_at` and never checked.
    pub(super) fn unchecked(seed: u64, enterprise_id: &str, phone_number: &str, created_at: Timestamp) -> Self {
        Self {
            id: uuid(&[&seed.to_string(), "number", enterprise_id, phone_number]),
            phone_number: phone_number.to_owned(),
            enterprise_id: enterprise_id.to_owned(),
            source: SOURCE,
            ownership_status: OWNERSHIP_STATUS,
            confirm_by: None,
            reputation_data: None,
            created_at,
            updated_at: created_at,
            checks: 0,
        }
    }

    /// Asks the networks, which know nothing about [`WITHOUT_DATA`]: a check of it stores nothing.
    pub(super) fn check(&mut self, seed: u64, now: Timestamp) {
        self.checks = self.checks.saturating_add(1);
        if self.phone_number != WITHOUT_DATA {
            self.reputation_data = Some(Reputation::found(seed, &self.phone_number, self.checks, now));
            self.updated_at = now;
        }
    }
}

impl Reputation {
    /// Scores move a little from check to check, and are the same in every run with the same seed.
    fn found(seed: u64, phone_number: &str, checks: u32, now: Timestamp) -> Self {
        let base = hash(&[&seed.to_string(), "scores", phone_number]);
        let drift = hash(&[&seed.to_string(), "drift", phone_number, &checks.to_string()]);
        let score = |metric: usize| (base[metric] % 91) + (drift[metric] % 11);
        let (spam_risk, spam_category) = match base[31] % 10 {
            0 => ("high", Some("Telemarketing")),
            1 | 2 => ("medium", Some("Debt Collector")),
            _ => ("low", None),
        };
        Self {
            spam_risk,
            spam_category,
            maturity_score: score(0),
            connection_score: score(1),
            engagement_score: score(2),
            sentiment_score: score(3),
            last_refreshed_at: now,
        }
    }
}

/// `now` less some hours, for facts that are older than the sandbox.
pub(super) fn hours_before(now: Timestamp, hours: i64) -> Timestamp {
    now.saturating_sub(SignedDuration::from_hours(hours)).unwrap_or(Timestamp::MIN)
}

/// A UUID that depends on nothing but its parts.
pub(super) fn uuid(parts: &[&str]) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash(parts)[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

fn hash(parts: &[&str]) -> [u8; 32] {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update(part);
        sha.update([0]);
    }
    sha.finalize().into()
}
