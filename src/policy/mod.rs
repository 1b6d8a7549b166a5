//! Pure decisions: values in, an enum out, and `now` is an argument.

pub mod budget;
pub mod money;
pub mod pricing;
