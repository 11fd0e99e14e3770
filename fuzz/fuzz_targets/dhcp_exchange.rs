//! Arbitrary messages to the DHCP server.
#![no_main]

#[path = "../../crates/dhcp/tests/fuzz/exchange.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
