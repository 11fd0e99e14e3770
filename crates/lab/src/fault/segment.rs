//! What an onlooker on the external segment hears and asks: who announces an address, who answers for it.
//!
//! The onlooker is a machine of its own, so that its questions teach the provider's router nothing.

use crate::names::GUEST_LINK;
use netlink::{Links, MacAddr, Netns, PacketSocket};
use packet::{arp, ethernet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the ear waits before it looks whether it is to end.
const POLL: Duration = Duration::from_millis(50);
/// Answers to a question come within microseconds; a busy machine takes longer.
const ANSWERS_WITHIN: Duration = Duration::from_millis(100);
/// An ARP message and its Ethernet header.
const FRAME_LEN: usize = ethernet::LEN + arp::LEN;

/// One ARP message about an address, from whoever says that it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) address: Ipv4Addr,
    pub(super) mac: MacAddr,
    /// Gratuitous: sender and target are the same address.
    pub(super) announcement: bool,
}

type Log = Arc<Mutex<Vec<Heard>>>;

fn lock(log: &Log) -> MutexGuard<'_, Vec<Heard>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open ear on the segment. Dropping it ends it.
pub(super) struct Onlooker {
    address: Ipv4Addr,
    mac: MacAddr,
    ifindex: u32,
    mouth: PacketSocket,
    log: Log,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Onlooker {
    /// On the link of a machine outside with this address.
    pub(super) async fn start(netns: &Netns, address: Ipv4Addr) -> anyhow::Result<Self> {
        let link = Links::connect_in(netns)?.get(GUEST_LINK).await?;
        let (mouth, ear) = (netns.run(PacketSocket::open)??, netns.run(PacketSocket::open)??);
        ear.listen_for(link.index, ethernet::TYPE_ARP, POLL)?;
        let (log, stop) = (Log::default(), Arc::new(AtomicBool::new(false)));
        let (thread_log, thread_stop) = (Arc::clone(&log), Arc::clone(&stop));
        let listen = move || listen(&ear, &thread_log, &thread_stop);
        let thread = std::thread::Builder::new().name("onlooker".to_owned()).spawn(listen)?;
        Ok(Self { address, mac: link.mac, ifindex: link.index, mouth, log, stop, thread: Some(thread) })
    }

    /// Announcements heard since then, oldest first.
    pub(super) fn announcements(&self, since: Instant) -> Vec<Heard> {
        let log = lock(&self.log);
        log.iter().filter(|heard| heard.announcement && heard.at >= since).copied().collect()
    }

    pub(super) fn forget(&self) {
        lock(&self.log).clear();
    }

    /// Asks for each address and answers all that said they have it.
    pub(super) async fn owners(
        &self,
        addresses: &[Ipv4Addr],
    ) -> anyhow::Result<BTreeMap<Ipv4Addr, BTreeSet<MacAddr>>> {
        let asked = Instant::now();
        for address in addresses {
            self.mouth.send(self.ifindex, &question(self.mac, self.address, *address))?;
        }
        // All answers are awaited: a second owner is what this may be about.
        tokio::time::sleep(ANSWERS_WITHIN).await;
        let mut owners: BTreeMap<_, _> =
            addresses.iter().map(|address| (*address, BTreeSet::new())).collect();
        for heard in lock(&self.log).iter().filter(|heard| heard.at >= asked && !heard.announcement) {
            if let Some(macs) = owners.get_mut(&heard.address) {
                macs.insert(heard.mac);
            }
        }
        Ok(owners)
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn listen(ear: &PacketSocket, log: &Log, stop: &AtomicBool) {
    let mut buffer = [0; 128];
    while !stop.load(Ordering::Relaxed) {
        let Ok(received) = ear.receive(&mut buffer) else { return };
        let Some(received) = received.filter(|received| !received.outgoing) else { continue };
        let heard = claim(&buffer[..received.len], Instant::now());
        lock(log).extend(heard);
    }
}

/// What an ARP frame says about who has an address. A question says nothing of the kind, but an announcement may
/// look like one.
fn claim(frame: &[u8], at: Instant) -> Option<Heard> {
    let bytes = frame.get(ethernet::LEN..FRAME_LEN)?.try_into().ok()?;
    let header: arp::Header = packet::view::<_, { arp::LEN }>(bytes);
    let announcement = header.sender_ip == header.target_ip;
    let tells = announcement || header.operation.get() == arp::OP_REPLY;
    let (address, mac) = (Ipv4Addr::from(header.sender_ip), header.sender_mac);
    (header.is_ethernet_ipv4() && tells).then_some(Heard { at, address, mac, announcement })
}

fn question(mac: MacAddr, own: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let request = arp::Header::new(arp::OP_REQUEST, (mac, own.octets()), (MacAddr::ZERO, target.octets()));
    let mut frame = Vec::from(MacAddr::BROADCAST.0);
    frame.extend(mac.0);
    frame.extend(ethernet::TYPE_ARP.to_be_bytes());
    frame.extend(packet::bytes::<_, { arp::LEN }>(request));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_and_answers_are_claims_and_questions_are_none() {
        let (mac, at) = (MacAddr([2, 0, 0, 0, 7, 1]), Instant::now());
        let (own, target) = (Ipv4Addr::new(172, 22, 7, 9), Ipv4Addr::new(172, 22, 7, 27));
        let asked = question(mac, own, target);
        assert_eq!(claim(&asked, at), None, "a question");
        let announced = question(mac, own, own);
        let want = Heard { at, address: own, mac, announcement: true };
        assert_eq!(claim(&announced, at), Some(want));
        let mut answered = asked.clone();
        answered[ethernet::LEN + 7] = arp::OP_REPLY as u8;
        assert_eq!(claim(&answered, at), Some(Heard { announcement: false, ..want }));
        (0..FRAME_LEN).for_each(|len| assert_eq!(claim(&announced[..len], at), None, "{len} bytes"));
    }
}
