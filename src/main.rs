//! The `reputation-gateway` command.

fn main() {}
