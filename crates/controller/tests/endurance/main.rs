//! The API under load, under attack and under the axe: what it answered is true, and nobody else notices.

#[path = "../api/common.rs"]
#[expect(dead_code, reason = "made for the tests of single requests")]
mod client;
#[path = "../common/mod.rs"]
mod common;
mod concurrency;
mod connections;
mod fuzz;
mod killed;

use rand::Rng as _;

/// Of a random run: `NANBOKU_SEED`, or a fresh one. Printed, so that a failure can be had again.
fn seed() -> u64 {
    let given =
        std::env::var("NANBOKU_SEED").ok().map(|text| text.parse().expect("NANBOKU_SEED is a number"));
    let seed = given.unwrap_or_else(|| rand::rng().random());
    println!("NANBOKU_SEED={seed}");
    seed
}

/// A number from the environment, for longer runs.
fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}
