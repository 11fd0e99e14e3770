//! The controller: serves the API and the agents, and keeps what follows from the model true.
//!
//! - `service`: what the API's verbs do to the store.
//! - [`slices`]: what each host is told of the model. Pure.
//! - [`blocks`]: which host owns which ports of a SNAT address. Pure.
//! - [`agents`]: the streams to the agents: registration, slices, acks, liveness.
//! - [`ca`]: the certificates that agents and controller know one another by.
//!
//! Everything the controller decides by itself (bindings, port blocks, liveness, what is programmed) is a
//! transaction of the store, made by one loop ([`agents::control`]) that may run twice without changing
//! anything more.

pub mod agents;
pub mod blocks;
pub mod ca;
pub mod slices;
