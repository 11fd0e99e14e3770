//! The packet's walk: the only place that decides about packets.
//!
//! One `no_std` crate without allocation and without a panic path, generic over [`runtime::Packet`] and
//! [`runtime::Tables`]. It is compiled into the eBPF object and into the host build, where tests, fuzzers
//! and the trace run it. Invariants: every loop is bounded by a constant of [`bounds`]; every packet ends in
//! exactly one [`Verdict`], counted once; the source of a packet's identity is its [`Ingress`], never its
//! bytes.
#![cfg_attr(not(any(test, feature = "host")), no_std)]
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics),
    expect(internal_features, reason = "the only way to a BPF atomic instruction")
)]

pub mod address;
pub mod atomic;
pub mod bounds;
pub mod capture;
pub mod event;
mod flow;
pub mod fragment;
pub mod hash;
#[cfg(feature = "host")]
pub mod host;
pub mod liveness;
pub mod nat;
pub mod runtime;
pub mod session;
mod stage;
#[cfg(feature = "host")]
pub mod table_set;
pub mod tables;
pub mod tunnel;
pub mod verdict;
pub mod walk;

pub use address::Address;
pub use runtime::{Ingress, Packet, PacketError, Tables};
pub use stage::service::{SERVICE_ADDRESS, SERVICE_MAC};
pub use tunnel::from_underlay;
pub use verdict::{Punt, Reason, Stage, Total, Verdict};
pub use walk::{Origin, TunnelKey, Work, from_agent, from_port, from_service, from_tunnel, from_uplink};
