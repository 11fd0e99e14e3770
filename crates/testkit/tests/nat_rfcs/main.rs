//! The requirements of the NAT RFCs, one named test each; docs/nat-compliance.md is made from their names.
//!
//! Goal: every requirement that the packet path meets is shown to be met. Method: each test plays a scene in
//! a world of three hosts on the host build, asserts what the requirement says, and then has the loaded
//! object repeat every step. Timers and states are checked on the pure functions that the sweeper uses. What
//! is missing is in docs/nat-requirements.toml, with the reason.

#[path = "../object/mod.rs"]
mod object;

mod port_control;
mod rfc4787;
mod rfc5382;
mod rfc5508;
mod rfc6888;
mod rfc7857;
mod scene;
mod untranslated;
