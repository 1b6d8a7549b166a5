//! Every outcome a request can have, by name: the same word in the answer's header, the log and the metrics.

use strum::{IntoStaticStr, VariantArray};

/// How a request was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Decision {
    /// Answered from a fresh copy.
    Hit,
    /// Answered from a stale copy, within what the configuration allows.
    Stale,
    /// A copy was at hand; a free read replaced it first.
    Revalidated,
    /// Nothing was at hand; the number's own GET answered and was not billed.
    Miss,
    /// Nothing was at hand; the free list answered.
    Probe,
    /// The first GET of a number, which Telnyx bills.
    FirstTouch,
    /// The networks hold no data for the number, and asking again would be billed again.
    Null,
    /// The enterprise has no such number.
    NotFound,
    /// Fresh data was asked for, and the stored data is younger than a new check could be.
    Cooldown,
    /// Answered by another caller's billed call.
    Collapsed,
    /// A billed call whose outcome was unknown turned out to have worked.
    Recovered,
    /// A live check was paid for.
    Billed,
    /// A rate limit refused a billable call.
    RateLimited,
    /// A budget refused a billable call.
    BudgetExhausted,
    /// The caller may not do this.
    NotPermitted,
    /// All billable work is stopped.
    KillSwitch,
    /// The ledger cannot record a charge, so none is made.
    LedgerUnavailable,
    /// A billed call was sent and its outcome is not known yet.
    OutcomeUnknown,
    /// Telnyx, or the way there, failed.
    UpstreamError,
    /// Relayed: neither cached nor billable.
    Passed,
    /// The request is wrong.
    BadRequest,
    /// No key, or one that nobody holds.
    Unauthenticated,
    /// Only a cached answer was wanted, and there is none.
    NotInCache,
    /// A limit on work under way.
    Overloaded,
    /// The caller left before its answer, or the drain time was over.
    Abandoned,
}

impl Decision {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The word in headers, logs and metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether a plain read may be answered with the same copy again as long as that is fresh: it was not about fresh data, and nothing
    /// was refused that may be allowed the next moment.
    pub fn stands(self) -> bool {
        use Decision::{FirstTouch, Hit, Miss, NotFound, Null, Probe, Revalidated, Stale};
        matches!(self, Hit | Stale | Revalidated | Miss | Probe | FirstTouch | Null | NotFound)
    }
}

/// Why something that could be served otherwise is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The caller may not ask for fresh data.
    NotPermitted,
    /// A rate limit for billable calls.
    RateLimited,
    /// A budget, or that there is none.
    BudgetExhausted,
    /// An operator stopped all billable work.
    Stopped,
    /// The ledger cannot record a charge.
    LedgerUnavailable,
    /// A billed call's outcome is not known yet.
    OutcomeUnknown,
    /// Only a cached answer was wanted.
    NotInCache,
    /// Telnyx, or the way there, failed.
    Upstream,
}

impl Reason {
    /// The decision it makes.
    pub const fn decision(self) -> Decision {
        match self {
            Self::NotPermitted => Decision::NotPermitted,
            Self::RateLimited => Decision::RateLimited,
            Self::BudgetExhausted => Decision::BudgetExhausted,
            Self::Stopped => Decision::KillSwitch,
            Self::LedgerUnavailable => Decision::LedgerUnavailable,
            Self::OutcomeUnknown => Decision::OutcomeUnknown,
            Self::NotInCache => Decision::NotInCache,
            Self::Upstream => Decision::UpstreamError,
        }
    }
}
