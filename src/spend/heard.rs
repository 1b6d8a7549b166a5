//! What the log of a shared ledger tells of calls that claimed something: the same to every gateway, of its own calls too.

use std::time::Duration;

use jiff::Timestamp;

use super::{End, HoldId, Past};
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;
use crate::shared::Entry;
use crate::telnyx::{EnterpriseId, PhoneNumber};

/// A hold with a claim ended, or what was assumed of it was corrected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The call.
    pub call: Past,
    /// What became of it.
    pub became: Became,
    /// For which enterprise.
    pub enterprise: EnterpriseId,
    /// The number; none, if it was for the enterprise as a whole.
    pub number: Option<PhoneNumber>,
    /// What was done.
    pub operation: Billable,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// Its hold ended.
    Ended(End),
    /// It had been assumed, and turned out to have been billed, or not.
    Corrected {
        /// Whether it was billed.
        billed: bool,
    },
}

impl Became {
    /// Whether it is known now to have been billed; none, if nobody knows.
    pub const fn is_billed(self) -> Option<bool> {
        match self {
            Self::Ended(End::Settled) | Self::Corrected { billed: true } => Some(true),
            Self::Ended(End::Released) | Self::Corrected { billed: false } => Some(false),
            Self::Ended(End::Assumed) => None,
        }
    }
}

impl Heard {
    /// An entry of the log; nothing, if it tells of something else, or cannot be read. `now` is this machine's time, which says how long the entry
    /// took to come here where the server's clock agrees.
    pub fn read(entry: &Entry, now: Timestamp) -> Option<Self> {
        let field = |name: &str| entry.field(name);
        let number = |name: &str| field(name)?.parse::<i64>().ok();
        let operation = field("o")?.parse().ok()?;
        let became = match (field("k")?, number("a")?) {
            ("corrected", amount) => Became::Corrected { billed: amount == 0 },
            (kind, _) => Became::Ended(kind.parse().ok()?),
        };
        let held = number("h")?;
        let last = i64::try_from(entry.position.millisecond).ok()?.max(now.as_millisecond());
        let ago = Duration::from_millis(u64::try_from(last.saturating_sub(held)).unwrap_or_default());
        let variant = field("v").filter(|variant| !variant.is_empty()).map(str::to_owned);
        let call = Past { hold: HoldId(number("i")?), ago, price: Usd::from_micros(number("p")?), variant };
        let of = field("n").filter(|number| !number.is_empty()).map(str::parse).transpose().ok()?;
        Some(Self { call, became, enterprise: field("e")?.parse().ok()?, number: of, operation })
    }
}
