//! What is to be held, and on what conditions.

use std::num::NonZeroU32;

use crate::policy::budget::Charge;
use crate::policy::claim::Known;
use crate::units::Rate;

/// Charges that are made together: all of them are held, or none.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// What is to be paid for.
    pub charges: Vec<Charge>,
    /// What each charge claims, in their order; empty, if none claims anything. A ledger that is not shared does not look at it, since
    /// one gateway has its own single flight.
    pub claims: Vec<Claim>,
    /// Rates that are taken with the holds, also by a shared ledger only.
    pub rates: Vec<Taken>,
}

/// That nobody else has a hold for what a charge is about ([`Charge::subject`]), nor had one that is not known here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// What was known of the last calls.
    pub known: Known,
    /// Which of several things its operation may be about, for whoever comes later.
    pub variant: Option<&'static str>,
}

/// Some of a rate that all gateways share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which rate.
    pub name: String,
    /// How much it lets through.
    pub rate: Rate,
    /// How much of it.
    pub calls: NonZeroU32,
}

impl From<Vec<Charge>> for Order {
    fn from(charges: Vec<Charge>) -> Self {
        Self { charges, ..Self::default() }
    }
}
