//! The schedule of router advertisements, sans IO.
//!
//! Every port on a network with IPv6 and a router hears from each of its routers: when there is something new to say,
//! twice more soon after (a guest may not be listening yet), every ten minutes from then on, and when its guest asks.
//! A router that is the guests' router no more says so, three times (RFC 4861 section 6.2).

use dhcp::advertisement::Advertisement;
use packet::MacAddr;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// RFC 4861 §10: between the first advertisements, and how many these are.
const SOON: Duration = Duration::from_secs(16);
const SOON_COUNT: u32 = 3;
/// The longest that RFC 4861 §6.2.1 would have by default.
const EVERY: Duration = Duration::from_secs(600);
/// Between the last words of a router (RFC 4861 §6.2.5: no more than three, at least this far apart).
const LAST_EVERY: Duration = Duration::from_secs(3);
const LAST_COUNT: u32 = 3;

/// Whom an advertisement is for: the port's link, and the guest there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listener {
    pub(crate) ifindex: u32,
    pub(crate) mac: MacAddr,
}

/// What every port is to hear.
pub(crate) type Wanted = BTreeMap<Listener, Vec<Advertisement>>;

#[derive(Debug)]
struct Schedule {
    advertisement: Advertisement,
    due: Instant,
    /// Since there was something new.
    said: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Advertiser {
    /// By the listener and its router.
    schedules: BTreeMap<(Listener, MacAddr), Schedule>,
}

impl Advertiser {
    /// Everything there is to say from now on. `here`: the link is still there, so that last words are heard.
    pub(crate) fn set(&mut self, now: Instant, wanted: &Wanted, here: impl Fn(u32) -> bool) {
        self.schedules.retain(|(listener, router), schedule| {
            let routers = wanted.get(listener).into_iter().flatten();
            let stays = routers.clone().any(|advertisement| advertisement.router == *router);
            if !stays && !schedule.advertisement.ends {
                let advertisement = schedule.advertisement.last();
                *schedule = Schedule { advertisement, due: now, said: 0 };
            }
            stays || here(listener.ifindex)
        });
        for (listener, advertisements) in wanted {
            for advertisement in advertisements {
                let key = (*listener, advertisement.router);
                if self.schedules.get(&key).is_some_and(|known| known.advertisement == *advertisement) {
                    continue;
                }
                let fresh = Schedule { advertisement: advertisement.clone(), due: now, said: 0 };
                self.schedules.insert(key, fresh);
            }
        }
    }

    /// A guest asks.
    pub(crate) fn solicited(&self, ifindex: u32) -> impl Iterator<Item = (u32, Vec<u8>)> {
        let of_port = self.schedules.iter().filter(move |((listener, _), _)| listener.ifindex == ifindex);
        let alive = of_port.filter(|(_, schedule)| !schedule.advertisement.ends);
        alive.map(|((listener, _), schedule)| frame(*listener, &schedule.advertisement))
    }

    /// What is due: frames, and the links they go out of.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<(u32, Vec<u8>)> {
        let mut frames = Vec::new();
        for ((listener, _), schedule) in self.schedules.iter_mut().filter(|(_, schedule)| schedule.due <= now)
        {
            frames.push(frame(*listener, &schedule.advertisement));
            schedule.said += 1;
            schedule.due = now
                + match (schedule.advertisement.ends, schedule.said) {
                    (true, _) => LAST_EVERY,
                    (false, said) if said < SOON_COUNT => SOON,
                    (false, _) => EVERY,
                };
        }
        self.schedules.retain(|_, schedule| !schedule.advertisement.ends || schedule.said < LAST_COUNT);
        frames
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.schedules.values().map(|schedule| schedule.due).min()
    }
}

fn frame(listener: Listener, advertisement: &Advertisement) -> (u32, Vec<u8>) {
    (listener.ifindex, advertisement.frame(listener.mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAP: u32 = 11;
    const GUEST: MacAddr = MacAddr([2, 0, 0, 0, 0, 5]);

    fn advertisement(mtu: u16) -> Advertisement {
        Advertisement {
            router: MacAddr([0xfa, 0x16, 0x3e, 0, 1, 1]),
            ends: false,
            managed: false,
            other: false,
            mtu,
            prefixes: Vec::new(),
            dns_servers: Vec::new(),
        }
    }

    fn wanted(mtu: u16) -> Wanted {
        Wanted::from([(Listener { ifindex: TAP, mac: GUEST }, vec![advertisement(mtu)])])
    }

    /// Seconds after `start` at which a frame was sent, for `span` seconds.
    fn run(advertiser: &mut Advertiser, start: Instant, span: u64) -> Vec<(u64, Vec<u8>)> {
        let poll = |second| {
            let frames = advertiser.poll(start + Duration::from_secs(second));
            frames.into_iter().map(move |(ifindex, frame)| {
                assert_eq!(ifindex, TAP);
                (second, frame)
            })
        };
        (0..span).flat_map(poll).collect()
    }

    #[test]
    fn three_times_soon_and_then_every_ten_minutes() {
        let (mut advertiser, start) = (Advertiser::default(), Instant::now());
        advertiser.set(start, &wanted(1450), |_| true);
        advertiser.set(start, &wanted(1450), |_| true);
        let said = run(&mut advertiser, start, 1300);
        assert_eq!(said.iter().map(|(second, _)| *second).collect::<Vec<_>>(), [0, 16, 32, 632, 1232]);
        assert!(said.iter().all(|(_, frame)| *frame == advertisement(1450).frame(GUEST)));
    }

    #[test]
    fn a_change_is_said_at_once() {
        let (mut advertiser, start) = (Advertiser::default(), Instant::now());
        advertiser.set(start, &wanted(1450), |_| true);
        run(&mut advertiser, start, 100);
        let later = start + Duration::from_secs(100);
        advertiser.set(later, &wanted(1400), |_| true);
        assert_eq!(advertiser.poll(later), [(TAP, advertisement(1400).frame(GUEST))]);
    }

    #[test]
    fn a_router_that_is_none_any_more_says_so_three_times() {
        let (mut advertiser, start) = (Advertiser::default(), Instant::now());
        advertiser.set(start, &wanted(1450), |_| true);
        run(&mut advertiser, start, 2);
        advertiser.set(start, &Wanted::new(), |_| true);
        assert_eq!(advertiser.solicited(TAP).count(), 0);
        let said = run(&mut advertiser, start, 700);
        let last = advertisement(1450).last().frame(GUEST);
        assert_eq!(said, [(0, last.clone()), (3, last.clone()), (6, last)]);
        assert_eq!(advertiser.deadline(), None);
    }

    #[test]
    fn a_guest_that_asks_is_answered_and_one_that_is_gone_is_not() {
        let (mut advertiser, start) = (Advertiser::default(), Instant::now());
        advertiser.set(start, &wanted(1450), |_| true);
        let answers: Vec<_> = advertiser.solicited(TAP).collect();
        assert_eq!(answers, [(TAP, advertisement(1450).frame(GUEST))]);
        assert_eq!(advertiser.solicited(TAP + 1).count(), 0);
        advertiser.set(start, &Wanted::new(), |_| false);
        assert_eq!(advertiser.poll(start), []);
    }
}
