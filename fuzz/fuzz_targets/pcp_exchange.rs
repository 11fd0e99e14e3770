//! Arbitrary messages to the PCP server.
#![no_main]

#[path = "../../crates/pcp/tests/fuzz/exchange.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
