//! Plugging a port into a network namespace: a veth pair, `tap…` here, the other end there, configured as
//! the model says. All or nothing: what fails halfway is removed.

use crate::control::Plugged;
use crate::machine::PortView;
use model::PortId;
use netlink::{Links, MacAddr, Netns, Route, Veth, VethPeer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a new link waits for the controller to bind its port to this host, and for the tables.
pub(crate) const BIND_WAIT: Duration = Duration::from_secs(8);
/// Length the kernel allows for link names.
const LINK_NAME_LEN_MAX: usize = 15;

/// Ports bound to this host, as the main loop publishes them.
pub(crate) type Views = Arc<BTreeMap<PortId, PortView>>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PlugError {
    #[error("'{0}' is no link name: it needs 1 to {LINK_NAME_LEN_MAX} letters without '/' and spaces")]
    BadName(String),
    #[error("there is no network namespace '{name}'; make it with `ip netns add {name}`")]
    NoNetns { name: String, source: netlink::Error },
    #[error("port {port} is plugged already as link {link}; unplug it first")]
    Taken { port: PortId, link: String },
    #[error("network namespace '{netns}' has a link '{ifname}' already")]
    NameTaken { netns: String, ifname: String },
    #[error("port {0} is not plugged here")]
    NotPlugged(PortId),
    #[error(
        "port {0} was not bound to this host in time: does it exist, is it bound to another host, \
         is the controller connected?"
    )]
    NotBound(PortId),
    #[error("port {0} was bound but not programmed in time; see the agent's log")]
    NotProgrammed(PortId),
    #[error("the network could not be configured: {0}")]
    Netlink(#[from] netlink::Error),
}

/// What to plug where.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) port_id: PortId,
    pub(crate) netns: String,
    pub(crate) ifname: String,
}

/// Plugs and waits until packets flow. Errors leave nothing behind.
pub(crate) async fn plug(
    links: &Links,
    order: &Order,
    views: watch::Receiver<Views>,
    started: Instant,
) -> Result<Plugged, PlugError> {
    let name = &order.ifname;
    if name.is_empty() || name.len() > LINK_NAME_LEN_MAX || name.contains(['/', ' ']) {
        return Err(PlugError::BadName(name.clone()));
    }
    let netns = Netns::open(&order.netns)
        .map_err(|source| PlugError::NoNetns { name: order.netns.clone(), source })?;
    let link = order.port_id.link_name();
    let view = views.borrow().get(&order.port_id).cloned();
    add_pair(links, order, &netns, view.as_ref()).await?;
    let outcome = configure(links, order, &netns, views).await;
    match outcome {
        Ok(view) => Ok(plugged(order, link, &view, started)),
        Err(error) => {
            // The pair may be gone with its namespace; then there is nothing left to remove.
            drop(remove_link(links, &link).await);
            Err(error)
        }
    }
}

/// Removes the pair; the other end goes with this one.
pub(crate) async fn unplug(links: &Links, port: PortId) -> Result<(), PlugError> {
    match remove_link(links, &port.link_name()).await {
        Err(netlink::Error::NoLink { .. }) => Err(PlugError::NotPlugged(port)),
        other => Ok(other?),
    }
}

async fn remove_link(links: &Links, name: &str) -> Result<(), netlink::Error> {
    links.delete(links.get(name).await?.index).await
}

async fn add_pair(
    links: &Links,
    order: &Order,
    netns: &Netns,
    view: Option<&PortView>,
) -> Result<(), PlugError> {
    let link = order.port_id.link_name();
    if links.get(&link).await.is_ok() {
        return Err(PlugError::Taken { port: order.port_id, link });
    }
    let peer =
        VethPeer { name: &order.ifname, mac: view.map(|view| MacAddr(view.mac.0)), netns: Some(netns) };
    let veth = Veth { name: &link, mac: None, mtu: view.map(|view| u32::from(view.mtu)), peer };
    match links.add_veth(&veth).await {
        // The link was not there a moment ago: the name inside is what exists.
        Err(error) if error.is_exists() => {
            Err(PlugError::NameTaken { netns: order.netns.clone(), ifname: order.ifname.clone() })
        }
        other => Ok(other?),
    }
}

async fn configure(
    links: &Links,
    order: &Order,
    netns: &Netns,
    mut views: watch::Receiver<Views>,
) -> Result<PortView, PlugError> {
    let link = order.port_id.link_name();
    let index = links.get(&link).await?.index;
    quiet(&link);
    links.set_up(index).await?;
    let bound = wait_for(&mut views, order.port_id, |_| true);
    let view = bound.await.ok_or(PlugError::NotBound(order.port_id))?;
    links.set_mtu(index, u32::from(view.mtu)).await?;
    configure_inside(netns, &order.ifname, &view).await?;
    let programmed = wait_for(&mut views, order.port_id, |view| view.programmed);
    programmed.await.ok_or(PlugError::NotProgrammed(order.port_id))
}

/// Waits until the port is bound here and `ready`.
async fn wait_for(
    views: &mut watch::Receiver<Views>,
    port: PortId,
    ready: impl Fn(&PortView) -> bool,
) -> Option<PortView> {
    let found = views.wait_for(|views| views.get(&port).is_some_and(&ready));
    let views = tokio::time::timeout(BIND_WAIT, found).await.ok()?.ok()?;
    views.get(&port).cloned()
}

async fn configure_inside(netns: &Netns, ifname: &str, view: &PortView) -> Result<(), netlink::Error> {
    let inside = Links::connect_in(netns)?;
    let link = inside.get(ifname).await?;
    let mac = MacAddr(view.mac.0);
    if link.mac != mac {
        inside.set_mac(link.index, mac).await?;
    }
    inside.set_mtu(link.index, u32::from(view.mtu)).await?;
    inside.set_up(link.index).await?;
    for (address, prefix_len) in &view.addresses {
        // A prefix length of a subnet, or 32.
        let Ok(net) = ipnet::Ipv4Net::new(*address, *prefix_len) else { continue };
        inside.add_address(link.index, net.into()).await?;
    }
    if let Some(gateway) = view.gateway {
        let route = Route {
            destination: ipnet::Ipv4Net::default().into(),
            gateway: Some(gateway.into()),
            link: Some(link.index),
        };
        inside.add_route(&route).await?;
    }
    Ok(())
}

fn plugged(order: &Order, link: String, view: &PortView, started: Instant) -> Plugged {
    Plugged {
        port_id: order.port_id,
        link,
        ifname: order.ifname.clone(),
        mac: view.mac.to_string(),
        addresses: view.addresses.iter().map(|(address, len)| format!("{address}/{len}")).collect(),
        mtu: view.mtu,
        gateway: view.gateway,
        elapsed_ms: started.elapsed().as_secs_f64() * 1000.0,
    }
}

/// Keeps the host's own IPv6 off a link: its router solicitations and duplicate address probes are none of a
/// VM's business. Best effort: a kernel without IPv6 has no such file.
pub(crate) fn quiet(link: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6");
    if let Err(error) = std::fs::write(&path, "1") {
        tracing::debug!(path, error = crate::chain(&error), "IPv6 not switched off");
    }
}
