//! The compiler: a host's slice of the model and its local facts in, the desired tables out.
//!
//! Pure: no IO, no time, no randomness; equal input gives equal output, and the order of the lists inside
//! the input does not matter. Every entry carries the object that made it and why. An object that is wrong
//! never blocks another one: what is wrong with it is recorded, and what depends on it is left out (no
//! entry means drop). What each entry means to a packet is documented in [`pipeline::tables`].

mod acl;
mod external;
mod facts;
mod forwarding;
mod hosts;
mod nat;
mod output;
mod ownership;
mod ports;
mod routed;
mod routers;
mod services;

pub use acl::AclSizes;
pub use facts::{LinkFacts, LocalFacts, ServiceFacts, Standing, TunnelFacts, TunnelProtocol, UplinkFacts};
pub use output::{Compiled, EntryName, Problem, Provenance};
pub use ownership::contested;

use model::slice::Slice;
use output::Builder;

/// Compiles a slice for the host that `facts` describes.
pub fn compile(slice: &Slice, facts: &LocalFacts) -> Compiled {
    let mut builder = Builder::default();
    hosts::compile(slice, facts, &mut builder);
    routers::compile(slice, facts, &mut builder);
    let policies = acl::compile(slice, facts, &mut builder);
    ports::compile(slice, facts, &policies, &mut builder);
    external::compile(slice, facts, &mut builder);
    nat::compile(slice, facts, &mut builder);
    forwarding::compile(slice, facts, &mut builder);
    routed::compile(slice, facts, &mut builder);
    builder.finish()
}

#[cfg(test)]
mod tests;
