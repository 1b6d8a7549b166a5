//! HTTP in the product's own terms: what a target, a body, a wish or an error looks like on the wire.

pub mod authority;
pub mod base_url;
pub mod body;
pub mod directives;
pub mod encoding;
pub mod fields;
pub mod json;
pub mod problem;
pub mod room;
pub mod stream;
pub mod target;
pub mod trace;
