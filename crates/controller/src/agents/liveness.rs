//! Which hosts are live: their agent is connected and has programmed its slice, or was a moment ago.
//!
//! Pure: time comes in. A host stays live for a grace period after its stream broke, so that the restart or
//! upgrade of an agent moves no gateway. A controller that starts grants the same to every host its store says
//! was live. What comes out goes into the store ([`Host::live`](model::resource::Host)), slices are made from
//! there.

use model::HostId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What is known of the agents' streams.
#[derive(Debug)]
pub struct Liveness {
    grace: Duration,
    started: Instant,
    hosts: BTreeMap<HostId, State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Connected; before its first ack it is what it was: live until the instant if there is one.
    Connected { live_until: Option<Instant> },
    /// Connected, and has its slice in its tables.
    Programmed,
    /// No stream; live until then.
    Gone { live_until: Instant },
}

impl Liveness {
    /// `were_live`: the hosts the store holds for live.
    pub fn new(grace: Duration, were_live: impl IntoIterator<Item = HostId>, now: Instant) -> Self {
        let gone = |host| (host, State::Gone { live_until: now + grace });
        Self { grace, started: now, hosts: were_live.into_iter().map(gone).collect() }
    }

    pub fn connected(&mut self, host: HostId, now: Instant) {
        let live_until = match self.hosts.get(&host) {
            // A stream that replaces another one: as if that had broken now.
            Some(State::Programmed) => Some(now + self.grace),
            Some(State::Connected { live_until }) => *live_until,
            Some(State::Gone { live_until }) => Some(*live_until),
            None => None,
        };
        self.hosts.insert(host, State::Connected { live_until });
    }

    pub fn programmed(&mut self, host: HostId) {
        if self.hosts.contains_key(&host) {
            self.hosts.insert(host, State::Programmed);
        }
    }

    pub fn disconnected(&mut self, host: HostId, now: Instant) {
        let state = match self.hosts.get(&host) {
            Some(State::Programmed) => Some(State::Gone { live_until: now + self.grace }),
            Some(State::Connected { live_until: Some(live_until) }) => {
                Some(State::Gone { live_until: *live_until })
            }
            Some(State::Gone { live_until }) => Some(State::Gone { live_until: *live_until }),
            Some(State::Connected { live_until: None }) | None => None,
        };
        match state {
            Some(state) => drop(self.hosts.insert(host, state)),
            None => drop(self.hosts.remove(&host)),
        }
    }

    pub fn is_live(&self, host: HostId, now: Instant) -> bool {
        match self.hosts.get(&host) {
            Some(State::Programmed) => true,
            Some(State::Connected { live_until: Some(until) } | State::Gone { live_until: until }) => {
                now < *until
            }
            Some(State::Connected { live_until: None }) | None => false,
        }
    }

    /// Has the host been away for `after`? Of one that did not come since this controller started, it counts
    /// from then.
    pub fn is_lost(&self, host: HostId, after: Duration, now: Instant) -> bool {
        self.away_since(self.hosts.get(&host)).is_some_and(|since| now >= since + after)
    }

    fn away_since(&self, state: Option<&State>) -> Option<Instant> {
        match state {
            Some(State::Programmed | State::Connected { .. }) => None,
            Some(State::Gone { live_until }) => Some(*live_until),
            None => Some(self.started),
        }
    }

    /// When the next host is lost; past instants excluded.
    pub fn next_lost(&self, after: Duration, now: Instant) -> Option<Instant> {
        let known = self.hosts.values().map(Some).chain([None]);
        let ends = known.filter_map(|state| Some(self.away_since(state)? + after));
        ends.filter(|end| *end > now).min()
    }

    /// When a host stops being live by itself; past instants excluded.
    pub fn next_change(&self, now: Instant) -> Option<Instant> {
        let ends = self.hosts.values().filter_map(|state| match state {
            State::Connected { live_until } => *live_until,
            State::Gone { live_until } => Some(*live_until),
            State::Programmed => None,
        });
        ends.filter(|end| *end > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn ahv01() -> HostId {
        HostId::from_uuid(uuid::Uuid::from_u128(1))
    }

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn live_means_connected_and_programmed() {
        let start = Instant::now();
        let mut liveness = Liveness::new(GRACE, [], start);
        assert!(!liveness.is_live(ahv01(), start));
        liveness.connected(ahv01(), start);
        assert!(!liveness.is_live(ahv01(), start), "connected is not enough");
        liveness.programmed(ahv01());
        assert!(liveness.is_live(ahv01(), start + second(3600)));
        assert_eq!(liveness.next_change(start), None);
    }

    #[test]
    fn a_restart_within_the_grace_period_changes_nothing() {
        let start = Instant::now();
        let mut liveness = Liveness::new(GRACE, [], start);
        liveness.connected(ahv01(), start);
        liveness.programmed(ahv01());
        liveness.disconnected(ahv01(), start + second(100));
        assert!(liveness.is_live(ahv01(), start + second(105)));
        liveness.connected(ahv01(), start + second(105));
        assert!(liveness.is_live(ahv01(), start + second(109)), "not yet programmed again, grace still runs");
        liveness.programmed(ahv01());
        assert!(liveness.is_live(ahv01(), start + second(3600)));
    }

    #[test]
    fn a_host_that_does_not_come_back_stops_being_live() {
        let start = Instant::now();
        let mut liveness = Liveness::new(GRACE, [], start);
        liveness.connected(ahv01(), start);
        liveness.programmed(ahv01());
        liveness.disconnected(ahv01(), start);
        assert_eq!(liveness.next_change(start), Some(start + GRACE));
        assert!(!liveness.is_live(ahv01(), start + GRACE));
    }

    #[test]
    fn coming_back_without_programming_does_not_extend_the_grace_period() {
        let start = Instant::now();
        let mut liveness = Liveness::new(GRACE, [ahv01()], start);
        for number in 0..9 {
            liveness.connected(ahv01(), start + second(number));
            liveness.disconnected(ahv01(), start + second(number));
        }
        assert!(liveness.is_live(ahv01(), start + second(9)));
        assert!(!liveness.is_live(ahv01(), start + second(10)));
    }

    #[test]
    fn a_host_is_lost_when_it_has_been_away_for_long() {
        let (start, after) = (Instant::now(), second(3600));
        let mut liveness = Liveness::new(GRACE, [], start);
        assert!(!liveness.is_lost(ahv01(), after, start + second(3599)), "it may still come");
        assert!(liveness.is_lost(ahv01(), after, start + second(3600)));
        assert_eq!(liveness.next_lost(after, start), Some(start + after));
        liveness.connected(ahv01(), start + second(4000));
        assert!(!liveness.is_lost(ahv01(), after, start + second(4000)), "it is back");
        liveness.programmed(ahv01());
        liveness.disconnected(ahv01(), start + second(5000));
        let away = start + second(5000) + GRACE;
        assert!(!liveness.is_lost(ahv01(), after, away + second(3599)));
        assert!(liveness.is_lost(ahv01(), after, away + second(3600)));
        assert_eq!(liveness.next_lost(after, away), Some(away + after));
    }

    #[test]
    fn a_controller_that_starts_believes_its_store_for_the_grace_period() {
        let start = Instant::now();
        let liveness = Liveness::new(GRACE, [ahv01()], start);
        assert!(liveness.is_live(ahv01(), start + second(9)));
        assert!(!liveness.is_live(ahv01(), start + second(10)));
    }
}
