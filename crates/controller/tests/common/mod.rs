//! What the controller's tests share: a model built by name, and an agent that is only a stream.
#![expect(dead_code, reason = "each test uses its part of it")]

pub(crate) mod agent;
pub(crate) mod world;
