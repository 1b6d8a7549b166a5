//! Runs `checks/envelope.rs` on bytes that libFuzzer makes up.

#![no_main]

#[path = "../checks/envelope.rs"]
mod envelope;

libfuzzer_sys::fuzz_target!(|data: &[u8]| envelope::check(data));
