//! One BFD session per peer, and the verdict on each: can it be used as a gateway.
//!
//! A peer is dead when its session is not Up, after it once was, or when it did not come up within
//! [`GRACE`]; and while it says that the path behind it is down. It is alive again after [`HOLD_DOWN`] of
//! uninterrupted good news, so that a flapping host moves addresses once.

use super::{Timing, Wanted};
use bfd::{Control, Session, Settings, State};
use model::HostId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long a session may take to come up before the peer counts as dead.
pub(super) const GRACE: Duration = Duration::from_secs(3);
/// How long a peer that was dead must be well.
pub(super) const HOLD_DOWN: Duration = Duration::from_secs(1);

struct Peer {
    address: Ipv4Addr,
    session: Session,
    /// Dead at this time unless it is well before; none: it was well once, or it is dead.
    grace_until: Option<Duration>,
    well_since: Option<Duration>,
    dead: bool,
}

/// All sessions. Times are durations since the thread's start.
pub(super) struct Peers {
    timing: Timing,
    wanted: Wanted,
    peers: BTreeMap<HostId, Peer>,
    /// Control packets from no known address, or malformed ones.
    pub(super) refused: u64,
}

impl Peers {
    pub(super) fn new(timing: Timing) -> Self {
        Self { timing, wanted: Wanted::default(), peers: BTreeMap::new(), refused: 0 }
    }

    /// `random`: any bits, for the discriminators of new sessions.
    pub(super) fn set_wanted(&mut self, wanted: Wanted, now: Duration, mut random: impl FnMut() -> u32) {
        let begins = wanted.serving && !self.wanted.serving;
        self.peers.retain(|host, peer| wanted.peers.get(host) == Some(&peer.address));
        for (host, address) in &wanted.peers {
            if !self.peers.contains_key(host) {
                let discriminator = self.free_discriminator(&mut random);
                self.peers.insert(*host, Peer::new(*address, self.timing, discriminator, now));
            }
        }
        for peer in self.peers.values_mut() {
            peer.session.set_admin_down(!wanted.serving, now);
            peer.session.set_path_down(wanted.path_down, now);
            if begins && peer.grace_until.is_some() {
                peer.grace_until = Some(now + GRACE);
            }
        }
        self.wanted = wanted;
        self.judge(now);
    }

    /// Not 0 and not taken: with at most some thousand sessions the second draw is rarely needed.
    fn free_discriminator(&self, random: &mut impl FnMut() -> u32) -> u32 {
        let taken: BTreeSet<u32> = self.peers.values().map(|peer| peer.session.discriminator()).collect();
        let first = random().max(1);
        (first..=u32::MAX).chain(1..first).find(|number| !taken.contains(number)).unwrap_or(first)
    }

    /// A UDP payload with the TTL it came with.
    pub(super) fn receive(&mut self, from: Ipv4Addr, ttl: u8, payload: &[u8], now: Duration) {
        let peer = self.peers.values_mut().find(|peer| peer.address == from);
        match (peer, Control::parse(payload)) {
            (Some(peer), Ok(control)) if ttl == bfd::TTL => drop(peer.session.receive(&control, now)),
            _ => self.refused += 1,
        }
        self.judge(now);
    }

    /// Control packets to send now.
    pub(super) fn poll(
        &mut self,
        now: Duration,
        mut random: impl FnMut() -> u32,
    ) -> Vec<(Ipv4Addr, Control)> {
        let mut packets = Vec::new();
        for peer in self.peers.values_mut() {
            // A Final may be owed besides the packet that is due.
            for _ in 0..2 {
                let (control, _) = peer.session.poll(now, random());
                packets.extend(control.map(|control| (peer.address, control)));
            }
        }
        self.judge(now);
        packets
    }

    /// When [`Peers::poll`] has something to do next.
    pub(super) fn next(&self) -> Option<Duration> {
        self.peers.values().map(Peer::next).min()
    }

    /// Without tables of its own a host has nothing to decide, and its sessions tell it nothing.
    fn judge(&mut self, now: Duration) {
        if self.wanted.serving {
            self.peers.values_mut().for_each(|peer| peer.judge(now));
        }
    }

    pub(super) fn dead(&self) -> BTreeSet<HostId> {
        self.peers.iter().filter(|(_, peer)| peer.dead).map(|(host, _)| *host).collect()
    }
}

impl Peer {
    fn new(address: Ipv4Addr, timing: Timing, discriminator: u32, now: Duration) -> Self {
        let settings = Settings {
            discriminator,
            desired_min_tx: timing.interval,
            required_min_rx: timing.interval,
            detect_mult: timing.multiplier,
        };
        let session = Session::new(settings, now);
        Self { address, session, grace_until: Some(now + GRACE), well_since: None, dead: false }
    }

    fn next(&self) -> Duration {
        let well = self.well_since.filter(|_| self.dead).map(|since| since + HOLD_DOWN);
        let judged = [self.grace_until, well].into_iter().flatten();
        judged.chain([self.session.next()]).min().unwrap_or(Duration::MAX)
    }

    fn judge(&mut self, now: Duration) {
        if self.session.state() == State::Up && !self.session.remote_path_down() {
            let since = *self.well_since.get_or_insert(now);
            self.grace_until = None;
            self.dead &= now < since + HOLD_DOWN;
            return;
        }
        self.well_since = None;
        let spoke = self.session.remote_path_down();
        if spoke || self.grace_until.is_none_or(|until| until <= now) {
            self.dead = true;
            self.grace_until = None;
        }
    }
}

#[cfg(test)]
mod tests;
