//! Arbitrary messages to the DHCPv6 server.
#![no_main]

#[path = "../../crates/dhcp/tests/fuzz/v6.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
