//! The kernel's tunnel device: one per host, in collect-metadata mode. It receives what the program on the
//! underlay does not take itself, and its socket is what gives receive offload.

use crate::Error;
use crate::machine::TunnelLink;
use crate::state::Tunnel;
use netlink::{Links, Offloads, TunnelDevice, TunnelKind};

/// Name of the device.
pub(crate) const NAME: &str = "nbk-tunnel";
/// Larger than any packet that goes through: the limit is the networks' MTU, not the device's.
const MTU: u32 = 65000;

/// Makes the device, or takes over the one there is if `keep` says that it is for the same tunnel.
pub(crate) async fn ensure(links: &Links, tunnel: Tunnel, keep: bool) -> Result<TunnelLink, Error> {
    match links.get(NAME).await {
        Ok(link) if keep && fits(&link.kind, tunnel) => {
            finish(links, link.index).await?;
            return Ok(TunnelLink {
                ifindex: link.index,
                geneve_as_vxlan: tunnel.geneve && link.kind == "vxlan",
            });
        }
        Ok(link) => links.delete(link.index).await?,
        Err(netlink::Error::NoLink { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let geneve_as_vxlan = make(links, tunnel).await?;
    let link = links.get(NAME).await?;
    finish(links, link.index).await?;
    Ok(TunnelLink { ifindex: link.index, geneve_as_vxlan })
}

fn fits(kind: &str, tunnel: Tunnel) -> bool {
    kind == "vxlan" || (tunnel.geneve && kind == "geneve")
}

/// True if a VXLAN device had to stand in for Geneve.
async fn make(links: &Links, tunnel: Tunnel) -> Result<bool, Error> {
    let device = |kind| TunnelDevice { name: NAME, kind, port: tunnel.port, mac: None };
    if tunnel.geneve {
        match links.add_tunnel_device(&device(TunnelKind::Geneve)).await {
            Ok(()) => return Ok(false),
            Err(netlink::Error::Unsupported { .. }) => {}
            Err(error) => return Err(in_use(error, tunnel.port)),
        }
    }
    match links.add_tunnel_device(&device(TunnelKind::Vxlan)).await {
        Ok(()) => Ok(tunnel.geneve),
        Err(netlink::Error::Unsupported { .. }) => Err(Error::NoVxlan),
        Err(error) => Err(in_use(error, tunnel.port)),
    }
}

fn in_use(error: netlink::Error, port: u16) -> Error {
    if error.io().and_then(std::io::Error::raw_os_error) == Some(libc::EADDRINUSE) {
        return Error::TunnelPortTaken { port };
    }
    if error.is_exists() {
        return Error::TunnelPortTaken { port };
    }
    error.into()
}

async fn finish(links: &Links, index: u32) -> Result<(), Error> {
    // Not every kernel takes the whole; what it takes by default is enough for lone packets.
    if let Err(error) = links.set_mtu(index, MTU).await {
        tracing::debug!(error = crate::chain(&error), "MTU of the tunnel device left as it is");
    }
    if let Err(error) = netlink::set_offloads(NAME, Offloads::TUNNEL) {
        tracing::debug!(error = crate::chain(&error), "offloads of the tunnel device left as they are");
    }
    crate::plug::quiet(NAME);
    links.set_up(index).await?;
    Ok(())
}

/// Takes the device away; one that is not there is no error.
pub(crate) async fn remove(links: &Links) -> Result<(), Error> {
    match links.get(NAME).await {
        Ok(link) => Ok(links.delete(link.index).await?),
        Err(netlink::Error::NoLink { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
