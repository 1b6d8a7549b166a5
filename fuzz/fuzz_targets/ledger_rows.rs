//! Runs `checks/ledger_rows.rs` on bytes that libFuzzer makes up.

#![no_main]

#[path = "../checks/ledger_rows.rs"]
mod ledger_rows;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ledger_rows::check(data));
