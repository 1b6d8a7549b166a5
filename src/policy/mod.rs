//! Pure decisions: values in, an enum out, and `now` is an argument.

pub mod associate;
pub mod budget;
pub mod claim;
pub mod decide;
pub mod decision;
pub mod enable;
pub mod entitlement;
pub mod evidence;
pub mod forecast;
pub mod hindsight;
pub mod invalidation;
pub mod money;
pub mod outlook;
pub mod pricing;
pub mod refresh;
pub mod routes;
