//! Two hosts' sessions on a wire that can be cut, in simulated time.

use super::*;
use model::HostId;
use uuid::Uuid;

const MS: Duration = Duration::from_millis(1);
const TIMING: Timing = Timing { interval: Duration::from_millis(50), multiplier: 3 };

fn host(number: u8) -> HostId {
    HostId::from_uuid(Uuid::from_u128(u128::from(number)))
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, number)
}

struct Pair {
    hosts: [Peers; 2],
    now: Duration,
    cut: bool,
    random: u32,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            hosts: [Peers::new(TIMING), Peers::new(TIMING)],
            now: Duration::ZERO,
            cut: false,
            random: 1,
        };
        pair.want(0, true, false);
        pair.want(1, true, false);
        pair
    }

    fn want(&mut self, index: u8, serving: bool, path_down: bool) {
        let other = 1 - index;
        let wanted = Wanted {
            peers: BTreeMap::from([(host(other), address(other))]),
            serving,
            path_down,
            tunnel: None,
        };
        let seed = u32::from(index) + 1;
        self.hosts[usize::from(index)].set_wanted(wanted, self.now, || seed);
    }

    /// Milliseconds after now at which host 0's verdict changed, until `span` has passed.
    fn run(&mut self, span: u64) -> Vec<(u64, bool)> {
        let (start, mut changes) = (self.now, Vec::new());
        let mut dead = self.dead();
        for ms in 0..=span {
            self.now = start + ms as u32 * MS;
            for index in [0u8, 1] {
                self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let random = self.random >> 8;
                let packets = self.hosts[usize::from(index)].poll(self.now, || random);
                for (to, control) in packets.into_iter().filter(|_| !self.cut) {
                    assert_eq!(to, address(1 - index));
                    let receiver = &mut self.hosts[usize::from(1 - index)];
                    receiver.receive(address(index), 255, &control.emit(), self.now);
                }
            }
            if self.dead() != dead {
                dead = !dead;
                changes.push((ms, dead));
            }
        }
        changes
    }

    fn dead(&self) -> bool {
        self.hosts[0].verdicts().dead.contains(&host(1))
    }
}

#[test]
fn a_silent_peer_is_dead_within_three_intervals_and_back_after_the_hold_down() {
    let mut pair = Pair::new();
    assert_eq!(pair.run(2500), [], "alive from the start");
    pair.cut = true;
    let changes = pair.run(1000);
    assert!(matches!(changes[..], [(at, true)] if (100..=151).contains(&at)), "{changes:?}");
    pair.cut = false;
    let changes = pair.run(4000);
    assert!(matches!(changes[..], [(at, false)] if (1000..=3100).contains(&at)), "{changes:?}");
}

#[test]
fn a_peer_that_never_comes_up_is_dead_after_the_grace() {
    let mut pair = Pair::new();
    pair.cut = true;
    assert_eq!(pair.run(10_000), [(3000, true)]);
}

#[test]
fn a_path_that_is_down_takes_the_peer_out_at_once_and_puts_it_back_after_the_hold_down() {
    let mut pair = Pair::new();
    pair.run(2500);
    pair.want(1, true, true);
    assert_eq!(pair.run(2000), [(0, true)]);
    pair.want(1, true, false);
    assert_eq!(pair.run(2000), [(1000, false)]);
}

#[test]
fn a_peer_that_stops_serving_is_dead_at_once() {
    let mut pair = Pair::new();
    pair.run(2500);
    pair.want(1, false, false);
    assert_eq!(pair.run(500), [(0, true)]);
}

#[test]
fn a_flapping_peer_stays_dead() {
    let mut pair = Pair::new();
    pair.run(2500);
    pair.want(1, true, true);
    assert_eq!(pair.run(100), [(0, true)]);
    for _ in 0..5 {
        pair.want(1, true, false);
        assert_eq!(pair.run(900), []);
        pair.want(1, true, true);
        assert_eq!(pair.run(100), []);
    }
}

#[test]
fn who_does_not_serve_judges_nobody() {
    let mut pair = Pair::new();
    pair.want(0, false, false);
    pair.cut = true;
    assert_eq!(pair.run(5000), []);
    pair.want(0, true, false);
    assert_eq!(pair.run(5000), [(3000, true)], "the grace begins with the service");
}

#[test]
fn packets_of_strangers_with_another_ttl_or_malformed_are_refused_and_counted() {
    let mut pair = Pair::new();
    pair.run(2500);
    let down = Control {
        state: State::Down,
        diagnostic: 0,
        poll: false,
        r#final: false,
        detect_mult: 3,
        my_discriminator: 66,
        your_discriminator: 0,
        desired_min_tx_us: 50_000,
        required_min_rx_us: 50_000,
    };
    let now = pair.now;
    let bytes = down.emit();
    let foreign = Control { your_discriminator: 0xffff_ffff, ..down }.emit();
    pair.hosts[0].receive(address(66), 255, &bytes, now);
    pair.hosts[0].receive(address(1), 254, &bytes, now);
    pair.hosts[0].receive(address(1), 255, &bytes[..23], now);
    pair.hosts[0].receive(address(1), 255, &foreign, now);
    assert_eq!((pair.hosts[0].refused, pair.dead()), ([1, 1, 1, 1], false), "each by its reason");
    pair.hosts[0].receive(address(1), 255, &bytes, now);
    assert!(pair.dead(), "the same packet from the peer itself counts");
}

#[test]
fn silence_and_a_path_that_is_down_are_told_apart() {
    let verdicts = |dead: bool, withdrawn: bool, alone: bool| {
        let set = |is: bool| is.then_some(host(1)).into_iter().collect();
        Verdicts { dead: set(dead), withdrawn: set(withdrawn), alone }
    };
    let why = |pair: &Pair| pair.hosts[0].views()[0].why;
    let mut pair = Pair::new();
    pair.run(2500);
    assert_eq!((pair.hosts[0].verdicts(), why(&pair)), (verdicts(false, false, false), Why::Well));
    pair.want(1, true, true);
    pair.run(500);
    assert_eq!((pair.hosts[0].verdicts(), why(&pair)), (verdicts(true, true, false), Why::PathDown));
    pair.cut = true;
    pair.run(500);
    assert_eq!(
        (pair.hosts[0].verdicts(), why(&pair)),
        (verdicts(true, true, true), Why::Silent),
        "its last word"
    );
    (pair.cut, pair.hosts[1]) = (false, Peers::new(TIMING));
    pair.want(1, true, false);
    pair.run(4000);
    assert_eq!((pair.hosts[0].verdicts(), why(&pair)), (verdicts(false, false, false), Why::Well));
    pair.cut = true;
    pair.run(500);
    assert_eq!(
        (pair.hosts[0].verdicts(), why(&pair)),
        (verdicts(true, false, true), Why::Silent),
        "nothing was said"
    );
    pair.cut = false;
    pair.run(500);
    assert_eq!(pair.hosts[0].verdicts(), verdicts(true, false, true), "heard again, and not used yet");
    pair.run(1500);
    assert_eq!(pair.hosts[0].verdicts(), verdicts(false, false, false));
}
