//! HTTP in the product's own terms: what a target, a body, a header or an error looks like on the wire.

pub mod body;
