//! Pure decisions: values in, an enum out, and `now` is an argument.

pub mod money;
