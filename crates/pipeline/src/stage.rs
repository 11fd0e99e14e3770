//! The stages, in the order of [`crate::verdict::Stage`]: one file each, one shape.

pub(crate) mod acl;
pub(crate) mod classify;
pub(crate) mod dnat;
pub(crate) mod icmp_error;
pub(crate) mod ipv6;
pub(crate) mod neighbor;
pub(crate) mod output;
pub(crate) mod port_security;
pub(crate) mod resolve;
pub(crate) mod route;
pub(crate) mod routed;
pub(crate) mod service;
pub(crate) mod snat;
pub(crate) mod switch;
