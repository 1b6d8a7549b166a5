//! Runs `checks/target.rs` on bytes that libFuzzer makes up.

#![no_main]

#[path = "../checks/target.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::check(data));
