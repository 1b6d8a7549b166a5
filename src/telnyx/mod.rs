//! The Number Reputation API in pure terms: numbers, ids, operations as a table, and what a body says.

mod ids;
mod number;
mod operation;
pub mod record;
mod schedule;

pub use ids::{EnterpriseId, NotAnEnterpriseId};
pub use number::{NotE164, PhoneNumber};
pub use operation::{NoRoute, Operation, PriceClass, Route, route};
pub use schedule::{CheckFrequency, NotAFrequency};
