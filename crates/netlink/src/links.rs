//! Links, addresses, routes and neighbours of one namespace, over rtnetlink.

use crate::error::to_io;
use crate::{Error, MacAddr, Netns};
use futures::TryStreamExt;
use ipnet::{IpNet, Ipv4Net};
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::NeighbourFlags;
use netlink_packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkGeneve, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan,
    RouteMessageBuilder,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// A link as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Zero for links without an Ethernet address.
    pub mac: MacAddr,
    pub mtu: u32,
    pub up: bool,
    /// The lower layer is up too: a cable with a live end (of a veth: the peer is up).
    pub carrier: bool,
    /// `veth`, `tun`, `bridge`, `vxlan`, …; empty for hardware.
    pub kind: String,
    /// Its other end (of a veth: the peer) is in another namespace.
    pub peer_elsewhere: bool,
    /// Index of the bridge (or other master) the link is a port of.
    pub master: Option<u32>,
    pub loopback: bool,
}

/// A veth pair to be made.
#[derive(Clone, Debug)]
pub struct Veth<'a> {
    pub name: &'a str,
    pub mac: Option<MacAddr>,
    pub mtu: Option<u32>,
    pub peer: VethPeer<'a>,
}

/// The other end of a veth pair.
#[derive(Clone, Debug)]
pub struct VethPeer<'a> {
    pub name: &'a str,
    pub mac: Option<MacAddr>,
    /// Where the peer is made; the handle's own namespace if `None`.
    pub netns: Option<&'a Netns>,
}

/// Encapsulation of a kernel tunnel device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    Geneve,
    Vxlan,
}

/// A tunnel device in collect-metadata mode (`external`): remote and VNI come with each packet.
#[derive(Clone, Copy, Debug)]
pub struct TunnelDevice<'a> {
    pub name: &'a str,
    pub kind: TunnelKind,
    pub port: u16,
    pub mac: Option<MacAddr>,
}

/// A route to be added; without gateway the destination is on the link itself.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub destination: IpNet,
    pub gateway: Option<IpAddr>,
    /// Index of the output link; needed when there is no gateway.
    pub link: Option<u32>,
}

fn message(route: &Route) -> io::Result<RouteMessage> {
    let destination = route.destination;
    let mut message = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(destination.network(), destination.prefix_len())
        .map_err(io::Error::other)?;
    message = match route.gateway {
        Some(gateway) => message.gateway(gateway).map_err(io::Error::other)?,
        None => message.scope(RouteScope::Link),
    };
    if let Some(link) = route.link {
        message = message.output_interface(link);
    }
    Ok(message.build())
}

/// A handle to one namespace's links; clones share the socket, which closes with the last of them.
#[derive(Clone)]
pub struct Links {
    handle: Handle,
    _driver: Arc<Driver>,
}

struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Links {
    /// Connects in the calling thread's namespace. Needs a tokio runtime.
    pub fn connect() -> Result<Self, Error> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|source| Error::Netlink { operation: "open", source })?;
        let driver = tokio::spawn(connection);
        Ok(Self { handle, _driver: Arc::new(Driver(driver)) })
    }

    /// Connects in another namespace; the handle stays bound to it. Needs a tokio runtime.
    pub fn connect_in(netns: &Netns) -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::current();
        netns.run(|| {
            let _guard = runtime.enter();
            Self::connect()
        })?
    }

    /// All links, in the order of their indices.
    pub async fn list(&self) -> Result<Vec<Link>, Error> {
        let messages: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| Error::Netlink { operation: "list links on", source: to_io(error) })?;
        let mut links: Vec<Link> = messages.into_iter().map(link_of).collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// The link of that name; `Error::NoLink` if there is none.
    pub async fn get(&self, name: &str) -> Result<Link, Error> {
        let request = self.handle.link().get().match_name(name);
        self.get_one(request, name).await
    }

    /// The link of that index; `Error::NoLink` if there is none.
    pub async fn get_index(&self, index: u32) -> Result<Link, Error> {
        let request = self.handle.link().get().match_index(index);
        self.get_one(request, &format!("index {index}")).await
    }

    async fn get_one(&self, request: rtnetlink::LinkGetRequest, what: &str) -> Result<Link, Error> {
        let answer = std::pin::pin!(request.execute()).try_next().await;
        match answer.map_err(to_io) {
            Ok(Some(message)) => Ok(link_of(message)),
            Ok(None) => Err(Error::NoLink { link: what.to_owned() }),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                Err(Error::NoLink { link: what.to_owned() })
            }
            Err(error) => Err(Error::link("look up", what, error)),
        }
    }

    /// IPv4 addresses of a link.
    pub async fn addresses(&self, index: u32) -> Result<Vec<Ipv4Net>, Error> {
        Ok(self
            .all_addresses()
            .await?
            .into_iter()
            .filter(|(link, _)| *link == index)
            .map(|(_, net)| net)
            .collect())
    }

    /// Every IPv4 address of the namespace with the index of its link.
    pub async fn all_addresses(&self) -> Result<Vec<(u32, Ipv4Net)>, Error> {
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| Error::Netlink { operation: "list addresses on", source: to_io(error) })?;
        let nets = messages.into_iter().filter_map(|message| {
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                _ => None,
            })?;
            Some((message.header.index, Ipv4Net::new(address, message.header.prefix_len).ok()?))
        });
        Ok(nets.collect())
    }

    pub async fn add_veth(&self, veth: &Veth<'_>) -> Result<(), Error> {
        let mut peer = LinkUnspec::new_with_name(veth.peer.name);
        peer = with_mac(peer, veth.peer.mac);
        if let Some(mtu) = veth.mtu {
            peer = peer.mtu(mtu);
        }
        if let Some(netns) = veth.peer.netns {
            peer = peer.setns_by_fd(netns.as_fd().as_raw_fd());
        }
        let mut link = with_mac(LinkVeth::new(veth.name, veth.peer.name), veth.mac)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())));
        if let Some(mtu) = veth.mtu {
            link = link.mtu(mtu);
        }
        self.add("add veth", veth.name, link.build()).await
    }

    /// A bridge without spanning tree, multicast snooping or forward delay: frames flow at once.
    pub async fn add_bridge(&self, name: &str) -> Result<(), Error> {
        let settings = vec![InfoBridge::ForwardDelay(0), InfoBridge::StpState(0.into())];
        let message = LinkBridge::new(name).set_info_data(InfoData::Bridge(settings)).build();
        self.add("add bridge", name, message).await
    }

    /// Adds a collect-metadata tunnel device; `Error::Unsupported` if the kernel lacks the kind.
    pub async fn add_tunnel_device(&self, device: &TunnelDevice<'_>) -> Result<(), Error> {
        let (kind, message) = match device.kind {
            TunnelKind::Geneve => {
                let link = LinkMessageBuilder::<LinkGeneve>::new(device.name)
                    .port(device.port)
                    .collect_metadata()
                    .udp_zero_csum6_rx(true);
                ("geneve", with_mac(link, device.mac).build())
            }
            TunnelKind::Vxlan => {
                let link = LinkMessageBuilder::<LinkVxlan>::new(device.name)
                    .port(device.port)
                    .collect_metadata(true)
                    .learning(false)
                    .append_info_data(InfoVxlan::UDPZeroCsumRX(true));
                ("vxlan", with_mac(link, device.mac).build())
            }
        };
        match self.add("add tunnel device", device.name, message).await {
            Err(error) if error.io().and_then(|e| e.raw_os_error()) == Some(libc::EOPNOTSUPP) => {
                Err(Error::Unsupported { kind })
            }
            other => other,
        }
    }

    pub async fn set_up(&self, index: u32) -> Result<(), Error> {
        self.change("set up", index, LinkUnspec::new_with_index(index).up()).await
    }

    pub async fn set_down(&self, index: u32) -> Result<(), Error> {
        self.change("set down", index, LinkUnspec::new_with_index(index).down()).await
    }

    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), Error> {
        self.change("set the MTU of", index, LinkUnspec::new_with_index(index).mtu(mtu)).await
    }

    pub async fn set_mac(&self, index: u32, mac: MacAddr) -> Result<(), Error> {
        self.change("set the MAC of", index, with_mac(LinkUnspec::new_with_index(index), Some(mac))).await
    }

    /// Makes the link a port of a bridge.
    pub async fn set_master(&self, index: u32, master: u32) -> Result<(), Error> {
        self.change("set the master of", index, LinkUnspec::new_with_index(index).controller(master)).await
    }

    /// Takes a port out of its bridge. The link and its peer stay up.
    pub async fn clear_master(&self, index: u32) -> Result<(), Error> {
        self.change("clear the master of", index, LinkUnspec::new_with_index(index).nocontroller()).await
    }

    /// Isolated ports of a bridge exchange nothing with one another, only with its other ports.
    pub async fn set_port_isolated(&self, index: u32, isolated: bool) -> Result<(), Error> {
        let message = LinkBridgePort::new(index).isolated(isolated).build();
        let answer = self.handle.link().set_port(message).execute().await;
        answer.map_err(|error| Error::link("isolate", &format!("index {index}"), to_io(error)))
    }

    /// Renames a link (it must be down on older kernels).
    pub async fn rename(&self, index: u32, name: &str) -> Result<(), Error> {
        self.change("rename", index, LinkUnspec::new_with_index(index).name(name)).await
    }

    /// Moves a link to another namespace. It arrives down and without addresses.
    pub async fn move_to(&self, index: u32, netns: &Netns) -> Result<(), Error> {
        let fd = netns.as_fd().as_raw_fd();
        self.change("move", index, LinkUnspec::new_with_index(index).setns_by_fd(fd)).await
    }

    pub async fn delete(&self, index: u32) -> Result<(), Error> {
        let answer = self.handle.link().del(index).execute().await;
        answer.map_err(|error| Error::link("delete", &format!("index {index}"), to_io(error)))
    }

    pub async fn add_address(&self, index: u32, address: IpNet) -> Result<(), Error> {
        let request = self.handle.address().add(index, address.addr(), address.prefix_len());
        request.execute().await.map_err(|error| {
            Error::link("add an address to", &format!("index {index} ({address})"), to_io(error))
        })
    }

    /// # Errors
    /// The kernel refuses it, or destination and gateway are not of one version.
    pub async fn add_route(&self, route: &Route) -> Result<(), Error> {
        let failed = |error| {
            let what = format!("{} via {:?}", route.destination, route.gateway);
            Error::link("add a route by", &what, error)
        };
        let message = message(route).map_err(failed)?;
        let answer = self.handle.route().add(message).execute().await;
        answer.map_err(|error| failed(to_io(error)))
    }

    /// Adds or replaces a permanent neighbour.
    pub async fn add_neighbor(&self, index: u32, address: Ipv4Addr, mac: MacAddr) -> Result<(), Error> {
        let request = self.handle.neighbours().add(index, IpAddr::V4(address));
        let answer = request.link_layer_address(&mac.0).replace().execute().await;
        answer.map_err(|error| {
            Error::link("add a neighbour on", &format!("index {index} ({address})"), to_io(error))
        })
    }

    /// Makes a NIC accept frames for another MAC, also a multicast one, until the link goes away (`bridge fdb add … self`).
    /// One that is accepted already is no error.
    pub async fn accept_mac(&self, index: u32, mac: MacAddr) -> Result<(), Error> {
        let request = self.handle.neighbours().add_bridge(index, &mac.0).flags(NeighbourFlags::Own);
        match request.execute().await.map_err(to_io) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
                Err(Error::link("add a MAC to", &format!("index {index}"), error))
            }
            _ => Ok(()),
        }
    }

    async fn add(&self, operation: &'static str, name: &str, message: LinkMessage) -> Result<(), Error> {
        let answer = self.handle.link().add(message).execute().await;
        answer.map_err(|error| Error::link(operation, name, to_io(error)))
    }

    async fn change(
        &self,
        operation: &'static str,
        index: u32,
        message: LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), Error> {
        let answer = self.handle.link().change(message.build()).execute().await;
        answer.map_err(|error| Error::link(operation, &format!("index {index}"), to_io(error)))
    }
}

fn with_mac<T>(link: LinkMessageBuilder<T>, mac: Option<MacAddr>) -> LinkMessageBuilder<T> {
    match mac {
        Some(mac) => link.address(mac.0.to_vec()),
        None => link,
    }
}

/// Reads what we want to know out of a link message; what is missing gets its neutral value.
pub(crate) fn link_of(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: MacAddr::ZERO,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        kind: String::new(),
        peer_elsewhere: false,
        master: None,
        loopback: flags.contains(LinkFlags::Loopback),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::LinkNetNsId(_) => link.peer_elsewhere = true,
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::Address(octets) => {
                link.mac = octets.try_into().map_or(MacAddr::ZERO, MacAddr);
            }
            LinkAttribute::LinkInfo(infos) => link.kind = kind_of(&infos).unwrap_or_default(),
            _ => {}
        }
    }
    link
}

fn kind_of(infos: &[LinkInfo]) -> Option<String> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(InfoKind::to_string(kind)),
        _ => None,
    })
}
