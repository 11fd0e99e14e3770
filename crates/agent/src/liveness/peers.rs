//! One BFD session per peer, and the verdict on each: can it be used as a gateway.
//!
//! A peer is dead when its session is not Up, after it once was, or when it did not come up within
//! [`GRACE`]; and while it says that the path behind it is down. It is alive again after [`HOLD_DOWN`] of
//! uninterrupted good news, so that a flapping host moves addresses once.

use super::{Timing, Verdicts, Wanted};
use bfd::{Control, Session, Settings, State};
use model::HostId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long a session may take to come up before the peer counts as dead.
pub(super) const GRACE: Duration = Duration::from_secs(3);
/// How long a peer that was dead must be well.
pub(super) const HOLD_DOWN: Duration = Duration::from_secs(1);

/// Why a packet to the control port was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Refusal {
    /// From no host that this one watches.
    UnknownSender = 0,
    /// From more than one hop away (RFC 5881 §5).
    Ttl = 1,
    /// Against RFC 5880 §6.8.6.
    Malformed = 2,
    /// For another session: the peer has not noticed yet that this side began anew, or it is forged.
    OtherSession = 3,
}

impl Refusal {
    pub(crate) const ALL: [Self; 4] = [Self::UnknownSender, Self::Ttl, Self::Malformed, Self::OtherSession];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::UnknownSender => "unknown-sender",
            Self::Ttl => "ttl",
            Self::Malformed => "malformed",
            Self::OtherSession => "other-session",
        }
    }
}

/// A session, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerView {
    pub(crate) host: HostId,
    pub(crate) address: Ipv4Addr,
    pub(crate) state: State,
    pub(crate) usable: bool,
    pub(crate) why: Why,
    /// When state or verdict changed last.
    pub(crate) since: Duration,
}

/// What the verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Well,
    /// No session yet, and not long enough to say that there will be none.
    Waiting,
    /// The session is down.
    Silent,
    /// It says that its uplink, or what is behind it, is of no use.
    PathDown,
    /// It was dead, and has not been well for long enough.
    HoldDown,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Well => "well",
            Self::Waiting => "waiting",
            Self::Silent => "silent",
            Self::PathDown => "path down",
            Self::HoldDown => "hold-down",
        })
    }
}

struct Peer {
    address: Ipv4Addr,
    session: Session,
    /// Dead at this time unless it is well before; none: it was well once, or it is dead.
    grace_until: Option<Duration>,
    well_since: Option<Duration>,
    dead: bool,
    /// Its last word was that the path behind it is down; forgotten when it is not dead any more.
    withdrawn: bool,
    /// As last shown, and since when.
    shown: (State, Why),
    since: Duration,
}

/// All sessions. Times are durations since the thread's start.
pub(super) struct Peers {
    timing: Timing,
    wanted: Wanted,
    peers: BTreeMap<HostId, Peer>,
    /// By [`Refusal`].
    pub(super) refused: [u64; Refusal::ALL.len()],
}

impl Peers {
    pub(super) fn new(timing: Timing) -> Self {
        Self { timing, wanted: Wanted::default(), peers: BTreeMap::new(), refused: [0; Refusal::ALL.len()] }
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
        if let Err(refusal) = self.take(from, ttl, payload, now) {
            let count = &mut self.refused[refusal as usize];
            *count = count.saturating_add(1);
        }
        self.judge(now);
    }

    fn take(&mut self, from: Ipv4Addr, ttl: u8, payload: &[u8], now: Duration) -> Result<(), Refusal> {
        let peer = self.peers.values_mut().find(|peer| peer.address == from);
        let session = &mut peer.ok_or(Refusal::UnknownSender)?.session;
        if ttl != bfd::TTL {
            return Err(Refusal::Ttl);
        }
        let control = Control::parse(payload).map_err(|_| Refusal::Malformed)?;
        if ![0, session.discriminator()].contains(&control.your_discriminator) {
            return Err(Refusal::OtherSession);
        }
        session.receive(&control, now);
        Ok(())
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

    pub(super) fn verdicts(&self) -> Verdicts {
        let those = |is: fn(&Peer) -> bool| {
            self.peers.iter().filter(|(_, peer)| is(peer)).map(|(host, _)| *host).collect()
        };
        // One that is heard again is not used yet. Until then this host owns no more than it did while it heard none:
        // hosts come back one after the other, and what it claimed it could not deliver to the last of them.
        let unheard = |peer: &Peer| peer.dead && !(peer.withdrawn && peer.session.state() == State::Up);
        Verdicts {
            dead: those(|peer| peer.dead),
            withdrawn: those(|peer| peer.dead && peer.withdrawn),
            alone: !self.peers.is_empty() && self.peers.values().all(unheard),
        }
    }

    pub(super) fn views(&self) -> Vec<PeerView> {
        let view = |(host, peer): (&HostId, &Peer)| PeerView {
            host: *host,
            address: peer.address,
            state: peer.shown.0,
            usable: !peer.dead,
            why: peer.shown.1,
            since: peer.since,
        };
        self.peers.iter().map(view).collect()
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
        Self {
            address,
            session,
            grace_until: Some(now + GRACE),
            well_since: None,
            dead: false,
            withdrawn: false,
            shown: (State::Down, Why::Waiting),
            since: now,
        }
    }

    fn next(&self) -> Duration {
        let well = self.well_since.filter(|_| self.dead).map(|since| since + HOLD_DOWN);
        let judged = [self.grace_until, well].into_iter().flatten();
        judged.chain([self.session.next()]).min().unwrap_or(Duration::MAX)
    }

    fn judge(&mut self, now: Duration) {
        let spoke = self.session.remote_path_down();
        if self.session.state() == State::Up && !spoke {
            let since = *self.well_since.get_or_insert(now);
            self.grace_until = None;
            self.dead &= now < since + HOLD_DOWN;
            self.withdrawn &= self.dead;
        } else {
            self.well_since = None;
            self.withdrawn |= spoke;
            if spoke || self.grace_until.is_none_or(|until| until <= now) {
                self.dead = true;
                self.grace_until = None;
            }
        }
        let shown = (self.session.state(), self.why());
        if self.shown != shown {
            (self.shown, self.since) = (shown, now);
        }
    }

    fn why(&self) -> Why {
        match (self.dead, self.session.state()) {
            (false, State::Up) => Why::Well,
            (false, _) => Why::Waiting,
            (true, State::Up) if self.session.remote_path_down() => Why::PathDown,
            (true, State::Up) => Why::HoldDown,
            (true, _) => Why::Silent,
        }
    }
}

#[cfg(test)]
mod tests;
