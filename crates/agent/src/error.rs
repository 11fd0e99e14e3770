//! Why the agent does not start, or stops.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the agent needs root, or CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW and CAP_SYS_ADMIN; run it with sudo"
    )]
    Privileges,
    #[error("{path} is missing: make it with `nanboku ca issue` and copy it here (field `certificates`)")]
    Certificate { path: PathBuf, source: std::io::Error },
    #[error("another agent runs with the state directory {0}")]
    Locked(PathBuf),
    #[error("the state directory {path} cannot be used")]
    StateDirectory { path: PathBuf, source: std::io::Error },
    #[error("no link of this host has the tunnel address {0} (field `vtep`); add it, or correct the field")]
    NoVtep(Ipv4Addr),
    #[error("link '{link}' (field `underlay`) does not have the tunnel address {vtep} (field `vtep`)")]
    UnderlayWithoutVtep { link: String, vtep: Ipv4Addr },
    #[error("this kernel has no VXLAN devices (CONFIG_VXLAN)")]
    NoVxlan,
    #[error(
        "UDP port {port} is taken by another tunnel device; remove that device or change the cluster's tunnel"
    )]
    TunnelPortTaken { port: u16 },
    #[error("the control socket {path} cannot be made")]
    ControlSocket { path: PathBuf, source: std::io::Error },
    #[error("cannot listen on {address} (field `metrics_listen`)")]
    Metrics { address: SocketAddr, source: std::io::Error },
    #[error("the shared secret {path} (field `metadata.shared_secret_file`) cannot be read")]
    MetadataSecret { path: PathBuf, source: std::io::Error },
    #[error("the shared secret {path} (field `metadata.shared_secret_file`) is empty")]
    MetadataSecretEmpty { path: PathBuf },
    #[error("the metadata service cannot listen in its namespace")]
    Metadata(#[source] std::io::Error),
    #[error("the flow log (field `flow_log`) cannot be written")]
    FlowLog(#[source] std::io::Error),
    #[error("the agent's pins in {path} cannot be removed")]
    Detach { path: PathBuf, source: std::io::Error },
    #[error("the kernel no longer tells what happens to links")]
    LinkWatch,
    #[error("the process cannot wait for signals or events")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Dataplane(#[from] dataplane::Error),
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
}

/// An error with all its sources, for logs.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        // Transparent wrappers repeat what they wrap.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
