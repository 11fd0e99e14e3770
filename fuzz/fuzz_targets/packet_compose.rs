//! ICMP errors about arbitrary frames.
#![no_main]

#[path = "../../crates/packet/tests/fuzz/compose.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
