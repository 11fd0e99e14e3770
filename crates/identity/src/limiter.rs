//! Slows down who guesses: failed logins fill a bucket per user and one per source address; both leak with time.
//!
//! An attempt is charged before it is checked and refunded when it was right, so that attempts at the same time are
//! not worth more than attempts one after the other, and so that a client that logs in for every command never waits.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// A user may be failed 20 times at once, then every 3 seconds: 28,800 guesses a day are nothing against a password
/// of eight random characters, and the user still gets in between them.
const USER: Rate = Rate { cost_ms: 3_000, full_ms: 60_000 };
/// Many users may share an address (a proxy, NAT), so it may fail more often: 30 times, then every 2 seconds.
const SOURCE: Rate = Rate { cost_ms: 2_000, full_ms: 60_000 };
/// Buckets kept. One more pushes out the emptiest, which is the one that says least.
const BUCKETS_MAX: usize = 10_000;

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A socket of this machine that only its owner reaches.
    Local,
    Address(IpAddr),
}

struct Rate {
    cost_ms: u64,
    full_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// Domain and user as the caller named them: users that do not exist are limited like those that do.
    User(String),
    Source(IpAddr),
}

/// How full it was when it was last touched; it leaks 1 ms per ms.
struct Bucket {
    level_ms: u64,
    touched_ms: u64,
}

impl Bucket {
    fn level(&self, now_ms: u64) -> u64 {
        self.level_ms.saturating_sub(now_ms.saturating_sub(self.touched_ms))
    }
}

#[derive(Default)]
pub(crate) struct Limiter {
    buckets: HashMap<Key, Bucket>,
}

/// An attempt that was let through.
pub(crate) struct Charge {
    keys: Vec<Key>,
}

impl Limiter {
    /// Charges an attempt, or says in how many seconds it would be let through.
    pub(crate) fn charge(&mut self, user: &str, source: Source, now_ms: u64) -> Result<Charge, u64> {
        let mut keys = vec![Key::User(user.to_owned())];
        if let Source::Address(address) = source {
            keys.push(Key::Source(network(address)));
        }
        let wait_ms = keys.iter().map(|key| self.wait_ms(key, now_ms)).max().unwrap_or(0);
        if wait_ms > 0 {
            return Err(wait_ms.div_ceil(1000));
        }
        for key in &keys {
            let cost_ms = rate(key).cost_ms;
            self.make_room(key, now_ms);
            let bucket =
                self.buckets.entry(key.clone()).or_insert(Bucket { level_ms: 0, touched_ms: now_ms });
            *bucket = Bucket { level_ms: bucket.level(now_ms) + cost_ms, touched_ms: now_ms };
        }
        Ok(Charge { keys })
    }

    /// The attempt was right.
    pub(crate) fn refund(&mut self, charge: &Charge) {
        for key in &charge.keys {
            if let Some(bucket) = self.buckets.get_mut(key) {
                bucket.level_ms = bucket.level_ms.saturating_sub(rate(key).cost_ms);
            }
        }
    }

    fn wait_ms(&self, key: &Key, now_ms: u64) -> u64 {
        let Rate { cost_ms, full_ms } = *rate(key);
        let level = self.buckets.get(key).map_or(0, |bucket| bucket.level(now_ms));
        (level + cost_ms).saturating_sub(full_ms)
    }

    fn make_room(&mut self, key: &Key, now_ms: u64) {
        if self.buckets.len() < BUCKETS_MAX || self.buckets.contains_key(key) {
            return;
        }
        self.buckets.retain(|_, bucket| bucket.level(now_ms) > 0);
        if self.buckets.len() < BUCKETS_MAX {
            return;
        }
        let emptiest = self.buckets.iter().min_by_key(|(_, bucket)| bucket.level(now_ms));
        if let Some(key) = emptiest.map(|(key, _)| key.clone()) {
            self.buckets.remove(&key);
        }
    }
}

fn rate(key: &Key) -> &'static Rate {
    match key {
        Key::User(_) => &USER,
        Key::Source(_) => &SOURCE,
    }
}

/// Who has one IPv6 address has its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACKER: Source = Source::Address(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    fn failures(limiter: &mut Limiter, user: &str, source: Source, now_ms: u64) -> usize {
        (0..1000).take_while(|_| limiter.charge(user, source, now_ms).is_ok()).count()
    }

    #[test]
    fn a_user_is_guessed_slowly_from_wherever() {
        let mut limiter = Limiter::default();
        assert_eq!(failures(&mut limiter, "admin", Source::Local, 0), 20);
        assert_eq!(limiter.charge("admin", ATTACKER, 0).err(), Some(3));
        assert!(limiter.charge("bob", ATTACKER, 0).is_ok(), "others are not concerned");
        assert_eq!(failures(&mut limiter, "admin", Source::Local, 9_000), 3);
        assert_eq!(failures(&mut limiter, "admin", Source::Local, 1_000_000), 20);
    }

    #[test]
    fn an_address_guesses_slowly_whomever() {
        let mut limiter = Limiter::default();
        let count =
            (0..1000).take_while(|i| limiter.charge(&format!("user {i}"), ATTACKER, 0).is_ok()).count();
        assert_eq!(count, 30);
        let one = |last: u16| Source::Address(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last)));
        let mut limiter = Limiter::default();
        let neighbours = (0..1000).take_while(|i| limiter.charge(&i.to_string(), one(*i), 0).is_ok()).count();
        assert_eq!(neighbours, 30, "a /64 is one source");
    }

    #[test]
    fn success_costs_nothing() {
        let mut limiter = Limiter::default();
        for _ in 0..1000 {
            let charge = limiter.charge("admin", ATTACKER, 0).unwrap_or_else(|wait| panic!("wait {wait}"));
            limiter.refund(&charge);
        }
    }

    #[test]
    fn the_table_has_an_end_and_keeps_the_fullest() {
        let mut limiter = Limiter::default();
        assert_eq!(failures(&mut limiter, "admin", Source::Local, 0), 20);
        for i in 0..2 * BUCKETS_MAX {
            let _ = limiter.charge(&format!("user {i}"), Source::Local, 0);
        }
        assert_eq!(limiter.buckets.len(), BUCKETS_MAX);
        assert!(limiter.charge("admin", Source::Local, 0).is_err());
    }
}
