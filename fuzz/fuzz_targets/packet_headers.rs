//! Every header view over arbitrary bytes.
#![no_main]

#[path = "../../crates/packet/tests/fuzz/headers.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
