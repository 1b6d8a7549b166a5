//! Runs `checks/harvest.rs` on bytes that libFuzzer makes up.

#![no_main]

#[path = "../checks/harvest.rs"]
mod harvest;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harvest::check(data));
