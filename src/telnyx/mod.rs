//! The Number Reputation API in pure terms: numbers, ids, operations as a table, and what a body says.

mod ids;
mod number;

pub use ids::{EnterpriseId, NotAnEnterpriseId};
pub use number::{NotE164, PhoneNumber};
