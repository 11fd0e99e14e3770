//! Arbitrary frames through the pipeline of a populated cluster.
#![no_main]

#[path = "../../crates/testkit/tests/fuzz/pipeline/mod.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
