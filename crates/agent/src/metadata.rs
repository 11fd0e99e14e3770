//! The metadata service 169.254.169.254: a proxy in a network namespace of its own, which tells the VMs of this host
//! apart and passes their requests on to the compute service, signed as Neutron's metadata agent does.
//!
//! The namespace has no name and lives as long as the agent. A veth pair leads into it; the programs send VMs' packets
//! there, each VM under an address that no other one has, because their own may be equal. Who asks is known from that
//! address alone, so from the port, and never from what a request says of itself
//! ([decision 0019](../../../docs/decisions/0019-what-a-host-serves.md)).

mod proxy;
mod settings;

pub use settings::{Endpoint, NoEndpoint, Settings};

use crate::Error;
use netlink::{Links, MacAddr, Netns, Route, Veth, VethPeer};
use proxy::Proxy;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};

/// The host's end of the pair.
pub(crate) const LINK: &str = "nbk-service";
const INSIDE: &str = "guests";
const PORT: u16 = 80;
/// The other end's neighbour there: all guests are behind it. Nothing answers at it.
const GUESTS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
const GUESTS_MAC: MacAddr = MacAddr([0x02, 0x00, 0xa9, 0xfe, 0xa9, 0xfd]);
/// Both addresses.
const PREFIX_LEN: u8 = 30;
/// Of the pair: what is sent follows the VM's own segment size.
const MTU: u32 = 65_000;

/// Who a VM is to the compute service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) instance_id: String,
    pub(crate) project_id: String,
    pub(crate) network_id: String,
    /// Its own, inside its VPC.
    pub(crate) address: Ipv4Addr,
}

/// Asks the main loop whose address it is on the service's link.
#[derive(Debug)]
pub(crate) struct WhoIs {
    pub(crate) address: Ipv4Addr,
    pub(crate) answer: oneshot::Sender<Option<Guest>>,
}

/// What became of requests.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    answered: AtomicU64,
    unknown_guest: AtomicU64,
    endpoint_failed: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    fn note(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn by_name(&self) -> BTreeMap<String, u64> {
        let counters = [
            ("answered", &self.answered),
            ("unknown-guest", &self.unknown_guest),
            ("endpoint-failed", &self.endpoint_failed),
            ("refused", &self.refused),
        ];
        let read = counters.map(|(name, counter)| (name, counter.load(Ordering::Relaxed)));
        let some = read.into_iter().filter(|(_, count)| *count > 0);
        some.map(|(name, count)| (format!("agent.metadata-{name}"), count)).collect()
    }
}

/// The service, running.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// The host's end of the pair.
    pub(crate) ifindex: u32,
    pub(crate) counters: Arc<Counters>,
    /// Where the proxy listens.
    netns: Netns,
}

impl Metadata {
    /// Takes away what an earlier agent left, makes the namespace and serves there.
    pub(crate) async fn start(
        settings: &Settings,
        links: &Links,
        questions: mpsc::Sender<WhoIs>,
    ) -> Result<Self, Error> {
        let proxy = settings.read()?;
        remove(links).await?;
        let netns = Netns::unnamed(INSIDE)?;
        let ifindex = connect(links, &netns).await?;
        let address = SocketAddrV4::new(pipeline::SERVICE_ADDRESS.into(), PORT);
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = netns.run(listen)?.and_then(tokio::net::TcpListener::from_std);
        let listener = listener.map_err(Error::Metadata)?;
        let counters = Arc::new(Counters::default());
        let proxy = Proxy::new(proxy, questions, Arc::clone(&counters));
        tokio::spawn(proxy.run(listener));
        tracing::info!(endpoint = %settings.endpoint, ifindex, "metadata is served");
        Ok(Self { ifindex, counters, netns })
    }

    /// Makes the pair again if somebody took it away; the proxy goes on listening meanwhile. True if it was gone.
    pub(crate) async fn ensure(&mut self, links: &Links) -> Result<bool, Error> {
        if links.get(LINK).await.is_ok_and(|link| link.index == self.ifindex) {
            return Ok(false);
        }
        // What was renamed or moved is in the way too, and goes with its other end.
        remove(links).await?;
        remove_named(&Links::connect_in(&self.netns)?, INSIDE).await?;
        self.ifindex = connect(links, &self.netns).await?;
        Ok(true)
    }
}

/// Removes the pair of an earlier agent, if its namespace has not gone with it yet.
pub(crate) async fn remove(links: &Links) -> Result<(), Error> {
    remove_named(links, LINK).await
}

async fn remove_named(links: &Links, name: &str) -> Result<(), Error> {
    match links.get(name).await {
        Ok(link) => match links.delete(link.index).await {
            Err(error) if !error.is_gone() => Err(error.into()),
            _ => Ok(()),
        },
        Err(netlink::Error::NoLink { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The pair, both ends up. The index of the host's end.
async fn connect(links: &Links, netns: &Netns) -> Result<u32, netlink::Error> {
    // The namespace is a new one without IPv6 routers; what it says of itself is nobody's business.
    for scope in ["all", "default"] {
        if let Err(error) = netns.sysctl(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "1") {
            tracing::debug!(error = crate::chain(&error), "IPv6 not switched off");
        }
    }
    let mac = MacAddr(pipeline::SERVICE_MAC.0);
    let peer = VethPeer { name: INSIDE, mac: Some(mac), netns: Some(netns) };
    links.add_veth(&Veth { name: LINK, mac: None, mtu: Some(MTU), peer }).await?;
    crate::plug::quiet(LINK);
    let index = links.get(LINK).await?.index;
    let inside = Links::connect_in(netns)?;
    let end = inside.get(INSIDE).await?.index;
    inside.set_mtu(end, MTU).await?;
    inside.set_up(end).await?;
    links.set_up(index).await?;
    let address = ipnet::Ipv4Net::new_assert(pipeline::SERVICE_ADDRESS.into(), PREFIX_LEN);
    inside.add_address(end, address.into()).await?;
    inside.add_neighbor(end, GUESTS, GUESTS_MAC).await?;
    let route = Route {
        destination: ipnet::Ipv4Net::default().into(),
        gateway: Some(GUESTS.into()),
        link: Some(end),
    };
    inside.add_route(&route).await?;
    Ok(index)
}
