//! What the ledger tells: statuses, refusals, ends, events; and what operators tell it.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

use crate::policy::budget::{Charge, Interval, Scope};
pub use crate::policy::claim::HoldId;
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;
use crate::telnyx::{EnterpriseId, PhoneNumber};

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum End {
    /// Telnyx billed it.
    Settled,
    /// Telnyx proved not to have billed it.
    Released,
    /// Nobody knows, so it counts as billed.
    Assumed,
}

/// A text that names no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an end of a hold")]
pub struct NotAnEnd;

impl End {
    /// Every end, in the order in which reports show them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Its name in the ledger, logs and metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// What it posts of a hold's price.
    pub const fn posts(self, price: Usd) -> Usd {
        match self {
            Self::Settled | Self::Assumed => price,
            Self::Released => Usd::ZERO,
        }
    }
}

impl FromStr for End {
    type Err = NotAnEnd;

    fn from_str(text: &str) -> Result<Self, NotAnEnd> {
        Self::ALL.iter().copied().find(|end| end.as_str() == text).ok_or(NotAnEnd)
    }
}

/// What later evidence says of a call whose hold was assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finding {
    /// It was billed: what is posted stands.
    Billed,
    /// It was not billed: what was posted is taken back.
    NotBilled,
}

/// An operator's raise of a budget's limit, in every window until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Override {
    /// The budget's name.
    #[serde(skip)]
    pub budget: String,
    /// What it adds to the limit; more than nothing.
    #[serde(rename = "amount_usd")]
    pub amount: Usd,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// The first instant at which it no longer counts.
    pub expires_at: Timestamp,
    /// Why it was granted.
    pub reason: String,
    /// By whom.
    pub author: String,
}

/// Why a budget's limit is not raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideRefused {
    /// No budget has this name.
    #[error("there is no such budget: it has to be in the configuration of the gateway that runs")]
    NoSuchBudget,
    /// So many are in force already.
    #[error("the budget has {0} overrides in force already; wait until one expires, or edit the budget's limit")]
    TooMany(usize),
    /// The ledger cannot record it.
    #[error("the ledger is unavailable")]
    Unavailable,
}

impl From<Unavailable> for OverrideRefused {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

/// Whether all billable work is stopped, and who said so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KillSwitch {
    /// Whether it is stopped.
    pub on: bool,
    /// Since when it stands as it does; none if it was never touched, as for the two below.
    pub since: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
    /// By whom.
    pub author: Option<String>,
}

/// A budget in one of its windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetStatus {
    /// Its name.
    pub name: String,
    /// What it covers.
    pub scope: Scope,
    /// Whether it refuses.
    pub enforced: bool,
    /// What may be spent in the window now, with all overrides.
    pub limit: Usd,
    /// The part of the limit that overrides add.
    pub raised: Usd,
    /// The overrides in force.
    pub overrides: Vec<Override>,
    /// The highest of the thresholds that were reached in the window, in percent; 0 for none.
    pub threshold: u8,
    /// What is posted: settled and assumed.
    pub spent: Usd,
    /// What is held for calls under way.
    pub held: Usd,
    /// The window's first instant, which is its identity.
    pub starts_at: Timestamp,
    /// The first instant of the next window.
    pub resets_at: Timestamp,
}

/// The holds of calls under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenHolds {
    /// How many there are.
    pub count: usize,
    /// How long the oldest has been open.
    pub oldest_age: Option<Duration>,
}

/// A charge of a former run that was billed, or may have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Its hold.
    pub id: HoldId,
    /// For which enterprise.
    pub enterprise: EnterpriseId,
    /// The number; none, if it was for the enterprise as a whole.
    pub number: Option<PhoneNumber>,
    /// What was done.
    pub operation: Billable,
    /// When it was held.
    pub held_at: Timestamp,
    /// Whether it is known to have been billed.
    pub is_known: bool,
}

/// Why nothing is held, and so nothing billable may be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldRefused {
    /// No budget applies.
    #[error("no budget applies")]
    NoBudget,
    /// A budget has no room for the price. If several have none, the first of the configuration.
    #[error("budget {:?} is exhausted", .0.name)]
    Exhausted(Box<BudgetStatus>),
    /// An operator stopped all billable work.
    #[error("all billable work is stopped")]
    Stopped,
    /// The ledger cannot record a hold.
    #[error("the ledger is unavailable")]
    Unavailable,
}

/// Why an order is not held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHeld {
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] HoldRefused),
    /// Others have these holds open for what it claims.
    #[error("another call for the same is under way")]
    Busy(Vec<HoldId>),
    /// Whoever decided on it knew less of the last calls than the ledger does.
    #[error("a call for the same was made meanwhile")]
    Later(Vec<Told>),
    /// A rate that it takes is used up.
    #[error("a rate is used up")]
    Limited {
        /// Its place in the order.
        rate: usize,
        /// When it lets as many through.
        wait: Duration,
    },
}

impl From<Unavailable> for NotHeld {
    fn from(_: Unavailable) -> Self {
        Self::Refused(HoldRefused::Unavailable)
    }
}

/// What the ledger knows of the last calls for what a charge claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The charge's place in the order.
    pub charge: usize,
    /// The last that was billed.
    pub paid: Option<Past>,
    /// The last whose outcome is unknown, if it is later.
    pub unknown: Option<Past>,
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Its hold.
    pub hold: HoldId,
    /// Time since that was taken, by the clock of whoever keeps the ledger.
    pub ago: Duration,
    /// What it cost.
    pub price: Usd,
    /// Which of several things its operation may be about, if it said.
    pub variant: Option<String>,
}

impl From<Unavailable> for HoldRefused {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

/// The ledger cannot be written or read, or too many holds are open or waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger is unavailable")]
pub struct Unavailable;

/// The ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("ledger {}: {why}", path.display())]
pub struct OpenError {
    /// The ledger's file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: OpenFailure,
}

/// What keeps a ledger from being opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailure {
    /// Another process has it open.
    #[error("another process has it open; each gateway needs a ledger of its own")]
    InUse,
    /// The lock file beside it cannot be made or locked.
    #[error("its lock file cannot be locked: {0}")]
    Lock(io::Error),
    /// It was written by a later version, or is no ledger.
    #[error("its version is {found}, and this gateway knows versions up to {known}")]
    Version {
        /// The file's version.
        found: i64,
        /// The last version that is known.
        known: usize,
    },
    /// Its directory is not there.
    #[error("the directory that it is to be in does not exist")]
    NoDirectory,
    /// The file that was opened is not at its path any more.
    #[error("the file was removed or replaced; put it back, or start the gateway anew to use what is there now")]
    Replaced,
    /// The journal that was written is not at its path any more.
    #[error("its journal was removed or replaced; what it held is copied into the file now")]
    NoJournal,
    /// It is the copy of a shared ledger.
    #[error("it is a copy of a ledger that gateways share, and no gateway may spend by it: set shared.redis_url, or name another file")]
    Copy,
    /// It is a ledger of one gateway, and was to be the copy of a shared one.
    #[error(
        "it is a ledger that one gateway has for itself; with shared.redis_url name another file, which will be a copy of the shared one"
    )]
    NoCopy,
    /// The Redis that keeps a shared ledger does not answer, or refuses.
    #[error("Redis: {0}")]
    Redis(String),
    /// The Redis that keeps a shared ledger has forgotten some of it.
    #[error(
        "the Redis that keeps it has lost some of it: {0}; mend that, or go on with what is there: reputation-gateway acknowledge-loss"
    )]
    Lost(String),
    /// Gateways that share a ledger run with other prices or budgets.
    #[error("gateways that share it run with other {0}; stop them first, or set another shared.prefix")]
    Terms(String),
    /// Redis has a ledger of a version that this one does not go with.
    #[error("Redis has it in version {0}, which this gateway does not know")]
    Later(String),
    /// Redis may throw money away.
    #[error("{0}")]
    Evicting(String),
    /// `SQLite` cannot use it.
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    /// The writer's thread cannot be started.
    #[error("its writer cannot be started: {0}")]
    Writer(io::Error),
}

impl OpenFailure {
    /// Whether only an operator can mend it, so that waiting for the cause to go away is no use.
    pub(super) const fn is_final(&self) -> bool {
        let is_of_shared = matches!(self, Self::Copy | Self::NoCopy | Self::Terms(_) | Self::Later(_) | Self::Evicting(_));
        is_of_shared || matches!(self, Self::InUse | Self::Version { .. } | Self::NoDirectory | Self::Writer(_))
    }
}

/// Something that others count, log or remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// This charge of a former run posted money. Told at the first opening, oldest end first, before anything is held.
    Recalled(&'a Posted),
    /// A group of holds and ends was made durable.
    CommitTook(Duration),
    /// A budget was asked for a hold and had room, as did all others that apply.
    Allowed {
        /// The budget's name.
        budget: &'a str,
    },
    /// A budget was asked for a hold and had no room.
    Denied {
        /// The budget's name.
        budget: &'a str,
    },
    /// A hold ended, durably.
    Ended {
        /// How.
        end: End,
        /// What it posted.
        amount: Usd,
        /// Who had asked for the call.
        caller: &'a str,
    },
    /// Nobody knows whether a call was billed, so its hold was assumed, durably. Of gateways that share a ledger one tells it.
    Unknown {
        /// Its hold.
        id: HoldId,
        /// What was held.
        charge: &'a Charge,
        /// When it was held.
        held_at: Timestamp,
    },
    /// What an assumed hold had posted was taken back, durably.
    TakenBack {
        /// How much.
        amount: Usd,
        /// Who had asked for the call.
        caller: &'a str,
    },
    /// What is posted in a budget's window reached so much of its limit: told once for each, by one of the gateways that share a ledger.
    Threshold {
        /// The budget's name.
        budget: &'a str,
        /// Hundredths of the limit.
        percent: u8,
        /// What is posted.
        spent: Usd,
        /// The limit, with all overrides.
        limit: Usd,
        /// The window.
        window: Interval,
        /// When it was reached.
        at: Timestamp,
    },
    /// An operator stopped all billable work or allowed it again, durably: told by the gateway that was asked for it.
    Switched(&'a KillSwitch),
}

/// Where the ledger reports events: called on the ledger's own thread, so it must be quick and must not wait.
pub type Observe = Arc<dyn Fn(Event<'_>) + Send + Sync>;
