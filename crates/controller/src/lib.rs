//! The controller: serves the API and the agents, and keeps what follows from the model true.
//!
//! - [`service`]: what the API's verbs do to the store.
//! - [`slices`]: what each host is told of the model. Pure.
//! - [`blocks`]: which host owns which ports of a SNAT address. Pure.
//! - `virtual_addresses`: which port has an address that several may have (VRRP). Pure.
//! - [`nat_log`]: the record of which host had which ports when.
//! - [`agents`]: the streams to the agents: registration, slices, acks, liveness.
//! - [`ca`]: the certificates that agents and controller know one another by.
//! - [`bootstrap`]: the first administrator.
//! - [`keystone`]: tokens of an identity service elsewhere; the built-in one is the crate `identity`.
//! - [`config`], [`server`]: from a configuration file to a running process.
//!
//! Everything the controller decides by itself (bindings, port blocks, liveness, what is programmed) is a
//! transaction of the store, made by one loop ([`agents::control`]) that may run twice without changing
//! anything more.

pub mod agents;
mod api_server;
pub mod blocks;
pub mod bootstrap;
pub mod ca;
pub mod config;
mod connections;
pub mod keystone;
mod meters;
pub mod nat_log;
pub mod server;
pub mod service;
pub mod slices;
mod virtual_addresses;

pub use config::Config;
pub use connections::Limits;
pub use server::{Server, ServerError, run};
