//! What goes to the scripts and comes back, as JSON. Amounts and instants are strings: Lua's numbers have 53 bits, and its JSON writes 14 digits.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::super::accounts::OpenHold;
use super::super::{Claim, HoldId, KillSwitch, Override};
use super::claim::{AskedRate, Later, UsedUp};
use crate::policy::budget::Charge;
use crate::policy::money::Usd;

/// What `join.lua` is asked. An empty generation: none is known.
#[derive(Serialize)]
pub(super) struct Join<'a> {
    pub(super) replica: &'a str,
    pub(super) lease_ms: String,
    pub(super) generation: &'a str,
    pub(super) new_generation: String,
    pub(super) seen: &'a str,
    pub(super) schema: u32,
    pub(super) compatible: u32,
    pub(super) terms: &'a str,
    pub(super) open: Vec<OpenId<'a>>,
}

/// A hold that the gateway has open.
#[derive(Serialize)]
pub(super) struct OpenId<'a> {
    pub(super) id: String,
    pub(super) owner: &'a str,
}

#[derive(Debug, Deserialize)]
pub(super) struct Joined {
    pub(super) generation: Option<String>,
    pub(super) later: Option<String>,
    pub(super) lost: Option<String>,
    /// Those of the others.
    pub(super) terms: Option<String>,
    /// The open holds that are still its own.
    #[serde(default, deserialize_with = "list")]
    pub(super) kept: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Leave<'a> {
    pub(super) replica: &'a str,
}

/// What `leave.lua` answers: nothing.
#[derive(Debug, Deserialize)]
pub(super) struct Left {}

#[derive(Serialize)]
pub(super) struct Acknowledge<'a> {
    pub(super) seen: &'a str,
    pub(super) schema: u32,
    pub(super) compatible: u32,
    pub(super) generation: &'a str,
    pub(super) new_generation: String,
    pub(super) newest_hold: String,
    pub(super) now: String,
    pub(super) reason: &'a str,
    pub(super) author: &'a str,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Acknowledged {
    /// Whether there was no loss.
    pub(super) nothing: bool,
}

/// What `commit.lua` is asked. Accounts are named by their place in the list, from 0.
#[derive(Debug, Serialize)]
pub(super) struct Commit {
    pub(super) replica: String,
    pub(super) seq: String,
    /// Whether nothing is to be recorded but that the gateway lives.
    pub(super) is_beat: bool,
    pub(super) generation: String,
    pub(super) seen: String,
    pub(super) now: String,
    pub(super) lease_ms: String,
    pub(super) skew_ms: String,
    pub(super) remembered_ms: String,
    pub(super) most_overrides: usize,
    pub(super) most_orphans: usize,
    pub(super) thresholds: &'static [u8],
    pub(super) accounts: Vec<AskedAccount>,
    pub(super) ends: Vec<AskedEnd>,
    pub(super) corrections: Vec<AskedCorrection>,
    pub(super) switches: Vec<Switch>,
    pub(super) grants: Vec<Granted>,
    pub(super) holds: Vec<Wish>,
}

#[derive(Debug, Serialize)]
pub(super) struct AskedAccount {
    /// Its name among keys.
    pub(super) window: String,
    pub(super) budget: String,
    pub(super) start: String,
    pub(super) end: String,
    pub(super) limit: String,
    pub(super) enforce: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) enterprise: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) caller: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct AskedEnd {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) why: String,
    /// Whether it was held in a ledger that was lost since.
    pub(super) former: bool,
    pub(super) charge: HeldCharge,
    pub(super) accounts: Vec<usize>,
}

#[derive(Debug, Serialize)]
pub(super) struct AskedCorrection {
    pub(super) id: String,
    pub(super) billed: bool,
    pub(super) why: String,
    pub(super) accounts: Vec<usize>,
}

#[derive(Debug, Serialize)]
pub(super) struct Wish {
    pub(super) needs: Vec<Need>,
    pub(super) charges: Vec<Wanted>,
    pub(super) rates: Vec<AskedRate>,
}

/// What all charges of a wish need of one account.
#[derive(Debug, Serialize)]
pub(super) struct Need {
    pub(super) account: usize,
    pub(super) amount: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Wanted {
    pub(super) charge: HeldCharge,
    pub(super) accounts: Vec<usize>,
    /// The last calls that are known, by their holds; 0 for none.
    pub(super) paid: String,
    pub(super) unknown: String,
}

/// A charge as the server has it while it is held, and while it may be corrected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeldCharge {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    pub(super) owner: String,
    pub(super) at: String,
    pub(super) request_id: String,
    pub(super) caller: String,
    pub(super) enterprise: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) number: Option<String>,
    pub(super) operation: String,
    pub(super) price: String,
    /// What it claims, if it claims anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) variant: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Switch {
    pub(super) on: bool,
    pub(super) at: String,
    pub(super) reason: String,
    pub(super) author: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Granted {
    pub(super) budget: String,
    pub(super) amount: String,
    pub(super) at: String,
    pub(super) expires: String,
    pub(super) reason: String,
    pub(super) author: String,
}

/// What `commit.lua` answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    /// The gateway was taken for dead, and has to join again.
    pub(super) fenced: bool,
    /// An operator gave up the ledger that was known.
    pub(super) succeeded: bool,
    pub(super) lost: Option<String>,
    /// The last entry that the batch made in the log.
    pub(super) last: Option<String>,
    #[serde(deserialize_with = "list")]
    pub(super) ends: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) corrections: Vec<bool>,
    #[serde(deserialize_with = "list")]
    pub(super) grants: Vec<bool>,
    #[serde(deserialize_with = "list")]
    pub(super) holds: Vec<Decided>,
    #[serde(deserialize_with = "list")]
    pub(super) thresholds: Vec<Reached>,
    #[serde(deserialize_with = "list")]
    pub(super) standings: Vec<Stands>,
    #[serde(deserialize_with = "list")]
    pub(super) overrides: Vec<Granted>,
    pub(super) stop: Option<Switch>,
    #[serde(deserialize_with = "list")]
    pub(super) orphans: Vec<HeldCharge>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Decided {
    pub(super) stopped: bool,
    /// How far the clocks are apart, where that is too far.
    pub(super) skew_ms: Option<String>,
    /// Holds that are open for what is claimed.
    #[serde(deserialize_with = "list")]
    pub(super) busy: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) later: Vec<Later>,
    pub(super) limited: Option<UsedUp>,
    #[serde(deserialize_with = "list")]
    pub(super) rooms: Vec<Consulted>,
    pub(super) ids: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Consulted {
    pub(super) account: usize,
    pub(super) has_room: bool,
    pub(super) posted: String,
    pub(super) held: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reached {
    pub(super) account: usize,
    pub(super) percent: u8,
    pub(super) spent: String,
    pub(super) limit: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Stands {
    pub(super) posted: String,
    pub(super) held: String,
    pub(super) threshold: u8,
}

/// A list; Lua writes an empty one as an empty object.
fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Listed<T> {
        Some(Vec<T>),
        None {},
    }
    Ok(match Listed::deserialize(from)? {
        Listed::Some(list) => list,
        Listed::None {} => Vec::new(),
    })
}

pub(super) fn micros(at: Timestamp) -> String {
    at.as_microsecond().to_string()
}

/// An instant that the server has.
pub(super) fn instant(text: &str) -> Option<Timestamp> {
    Timestamp::from_microsecond(text.parse().ok()?).ok()
}

pub(super) fn usd(text: &str) -> Option<Usd> {
    text.parse().ok().map(Usd::from_micros)
}

pub(super) fn hold_id(text: &str) -> Option<HoldId> {
    text.parse().ok().map(HoldId)
}

impl HeldCharge {
    pub(super) fn of(charge: &Charge, at: Timestamp, owner: &str) -> Self {
        Self {
            id: None,
            owner: owner.to_owned(),
            at: micros(at),
            request_id: charge.request_id.clone(),
            caller: charge.caller.to_string(),
            enterprise: charge.enterprise.to_string(),
            number: charge.number.map(|number| number.to_string()),
            operation: charge.operation.as_str().to_owned(),
            price: charge.price.micros().to_string(),
            subject: None,
            variant: None,
        }
    }

    /// The same, claiming what it is about.
    pub(super) fn claiming(self, charge: &Charge, claim: Option<Claim>) -> Self {
        let Some(Claim { variant, .. }) = claim else { return self };
        Self { subject: charge.subject(), variant: variant.map(str::to_owned), ..self }
    }

    /// The hold, if every value is one.
    pub(super) fn read(&self) -> Option<OpenHold> {
        let number = self.number.as_ref().map(|number| number.parse()).transpose().ok()?;
        let (caller, enterprise, operation) =
            (Arc::from(self.caller.as_str()), self.enterprise.parse().ok()?, self.operation.parse().ok()?);
        let charge = Charge { request_id: self.request_id.clone(), caller, enterprise, number, operation, price: usd(&self.price)? };
        Some(OpenHold { charge, held_at: instant(&self.at)?, since: Duration::ZERO })
    }
}

impl Switch {
    pub(super) fn of(set: &KillSwitch) -> Self {
        let (reason, author) = (set.reason.clone().unwrap_or_default(), set.author.clone().unwrap_or_default());
        Self { on: set.on, at: micros(set.since.unwrap_or_default()), reason, author }
    }

    pub(super) fn read(self) -> KillSwitch {
        KillSwitch { on: self.on, since: instant(&self.at), reason: Some(self.reason), author: Some(self.author) }
    }
}

impl Granted {
    pub(super) fn of(granted: &Override) -> Self {
        Self {
            budget: granted.budget.clone(),
            amount: granted.amount.micros().to_string(),
            at: micros(granted.granted_at),
            expires: micros(granted.expires_at),
            reason: granted.reason.clone(),
            author: granted.author.clone(),
        }
    }

    pub(super) fn read(&self) -> Option<Override> {
        Some(Override {
            budget: self.budget.clone(),
            amount: usd(&self.amount)?,
            granted_at: instant(&self.at)?,
            expires_at: instant(&self.expires)?,
            reason: self.reason.clone(),
            author: self.author.clone(),
        })
    }
}
