//! What happens to links, as the kernel tells it.

use crate::links::{Link, link_of};
use crate::{Error, Netns};
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::SocketAddr;
use tokio::task::JoinHandle;

/// One thing that happened to the links of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The link is there: it is new, or something about it changed.
    Present(Link),
    /// The link is gone (deleted, renamed away or moved to another namespace).
    Removed(Link),
    /// The kernel had to drop events: list the links again.
    Missed,
}

/// A stream of link events. Events that happened before it was opened are not in it: open it first, list then.
pub struct LinkWatch {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    driver: JoinHandle<()>,
}

impl LinkWatch {
    /// Watches the calling thread's namespace. Needs a tokio runtime.
    pub fn open() -> Result<Self, Error> {
        let (connection, _, messages) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])
            .map_err(|source| Error::Netlink { operation: "open", source })?;
        let driver = tokio::spawn(connection);
        Ok(Self { messages, driver })
    }

    /// Watches another namespace. Needs a tokio runtime.
    pub fn open_in(netns: &Netns) -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::current();
        netns.run(|| {
            let _guard = runtime.enter();
            Self::open()
        })?
    }

    /// The next event; `None` when the socket broke.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        loop {
            let (message, _) = futures::StreamExt::next(&mut self.messages).await?;
            if let Some(event) = event_of(message.payload) {
                return Some(event);
            }
        }
    }
}

impl Drop for LinkWatch {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A bridge tells of its ports in messages of its own family ("removed" means removed from the bridge there).
fn event_of(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<LinkEvent> {
    match payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message))
            if message.header.interface_family != AddressFamily::Bridge =>
        {
            Some(LinkEvent::Present(link_of(message)))
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message))
            if message.header.interface_family != AddressFamily::Bridge =>
        {
            Some(LinkEvent::Removed(link_of(message)))
        }
        NetlinkPayload::Overrun(_) => Some(LinkEvent::Missed),
        _ => None,
    }
}
