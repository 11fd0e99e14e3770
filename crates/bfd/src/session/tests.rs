//! Two sessions joined by a wire that can be cut, in simulated time.

use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn settings(discriminator: u32) -> Settings {
    Settings { discriminator, desired_min_tx: 50 * MS, required_min_rx: 50 * MS, detect_mult: 3 }
}

/// Sessions `a` and `b` and the wire between them.
struct Pair {
    a: Session,
    b: Session,
    now: Duration,
    /// Packets from a to b, from b to a, pass.
    wire: (bool, bool),
    random: u32,
    changes: Vec<(char, Duration, Change)>,
    sent: (u32, u32),
}

impl Pair {
    fn new() -> Self {
        Self {
            a: Session::new(settings(1), Duration::ZERO),
            b: Session::new(settings(2), Duration::ZERO),
            now: Duration::ZERO,
            wire: (true, true),
            random: 7,
            changes: Vec::new(),
            sent: (0, 0),
        }
    }

    /// Runs until `end`, delivering packets at once.
    fn run(&mut self, end: Duration) {
        while self.a.next().min(self.b.next()) <= end {
            self.now = self.now.max(self.a.next().min(self.b.next()));
            self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (from_a, change) = self.a.poll(self.now, self.random >> 8);
            self.note('a', change);
            let (from_b, change) = self.b.poll(self.now, self.random >> 16);
            self.note('b', change);
            if let Some(control) = from_a {
                self.sent.0 += 1;
                let heard = Control::parse(&control.emit()).expect("well-formed");
                if self.wire.0 {
                    let change = self.b.receive(&heard, self.now);
                    self.note('b', change);
                }
            }
            if let Some(control) = from_b {
                self.sent.1 += 1;
                let heard = Control::parse(&control.emit()).expect("well-formed");
                if self.wire.1 {
                    let change = self.a.receive(&heard, self.now);
                    self.note('a', change);
                }
            }
        }
        self.now = end;
    }

    fn note(&mut self, who: char, change: Option<Change>) {
        self.changes.extend(change.map(|change| (who, self.now, change)));
    }
}

#[test]
fn comes_up_within_a_slow_interval_and_then_sends_fast() {
    let mut pair = Pair::new();
    pair.run(1100 * MS);
    assert_eq!((pair.a.state(), pair.b.state()), (State::Up, State::Up), "{:?}", pair.changes);
    pair.sent = (0, 0);
    pair.run(2100 * MS);
    for sent in [pair.sent.0, pair.sent.1] {
        assert!((19..=28).contains(&sent), "one every 37.5 to 50 ms: {sent} in a second");
    }
}

#[test]
fn a_silent_peer_is_down_after_its_detection_time() {
    let mut pair = Pair::new();
    pair.run(1500 * MS);
    pair.changes.clear();
    pair.wire = (false, true);
    pair.run(2000 * MS);
    let (who, at, change) = pair.changes[0];
    assert_eq!((who, change.diagnostic), ('b', Diagnostic::ControlDetectionTimeExpired));
    assert!(at <= 1650 * MS, "3 x 50 ms after the last packet: {at:?}");
    let (who, _, change) = pair.changes[1];
    assert_eq!((who, change.diagnostic), ('a', Diagnostic::NeighborSignaledDown), "the other side is told");
}

#[test]
fn a_peer_that_restarts_at_any_moment_comes_back() {
    for restart_ms in [0, 10, 500, 1000, 1500, 1530] {
        let mut pair = Pair::new();
        pair.run(restart_ms * MS);
        pair.b = Session::new(settings(99), pair.now);
        pair.run(restart_ms * MS + 4000 * MS);
        assert_eq!((pair.a.state(), pair.b.state()), (State::Up, State::Up), "restart at {restart_ms} ms");
        assert_eq!(pair.a.remote_discriminator(), 99);
    }
}

#[test]
fn the_remote_discriminator_is_forgotten_after_a_detection_time() {
    let mut pair = Pair::new();
    pair.run(1500 * MS);
    pair.wire = (false, false);
    pair.run(2000 * MS);
    assert_eq!(pair.a.remote_discriminator(), 0);
}

#[test]
fn admin_down_is_told_and_held() {
    let mut pair = Pair::new();
    pair.run(1500 * MS);
    pair.a.set_admin_down(true, pair.now);
    pair.run(1501 * MS);
    assert_eq!((pair.a.state(), pair.b.state()), (State::AdminDown, State::Down));
    pair.run(5000 * MS);
    assert_eq!((pair.a.state(), pair.b.state()), (State::AdminDown, State::Down));
    pair.a.set_admin_down(false, pair.now);
    pair.run(7500 * MS);
    assert_eq!((pair.a.state(), pair.b.state()), (State::Up, State::Up));
}

#[test]
fn a_poll_is_answered_with_a_final_at_once() {
    let mut session = Session::new(settings(1), Duration::ZERO);
    let poll = Control {
        state: State::Down,
        diagnostic: 0,
        poll: true,
        r#final: false,
        detect_mult: 3,
        my_discriminator: 2,
        your_discriminator: 0,
        desired_min_tx_us: 1_000_000,
        required_min_rx_us: 50_000,
    };
    session.receive(&poll, MS);
    let (answer, _) = session.poll(MS, 0);
    let answer = answer.expect("an answer");
    assert!(answer.r#final && !answer.poll);
}

#[test]
fn a_packet_for_another_session_changes_nothing() {
    let mut session = Session::new(settings(1), Duration::ZERO);
    let other = Control {
        state: State::Up,
        diagnostic: 0,
        poll: true,
        r#final: false,
        detect_mult: 3,
        my_discriminator: 2,
        your_discriminator: 77,
        desired_min_tx_us: 50_000,
        required_min_rx_us: 50_000,
    };
    assert_eq!(session.receive(&other, MS), None);
    assert_eq!((session.remote_discriminator(), session.state()), (0, State::Down));
}

proptest! {
    /// Whatever the wire does, once it is whole again both sides come up and stay up.
    #[test]
    fn a_whole_wire_wins(cuts in proptest::collection::vec((0u32..400, any::<(bool, bool)>()), 0..20)) {
        let mut pair = Pair::new();
        for (hold_ms, wire) in cuts {
            pair.wire = wire;
            pair.run(pair.now + hold_ms * MS);
        }
        pair.wire = (true, true);
        pair.run(pair.now + 4000 * MS);
        prop_assert_eq!((pair.a.state(), pair.b.state()), (State::Up, State::Up));
        let changes = pair.changes.len();
        pair.run(pair.now + 2000 * MS);
        prop_assert_eq!(pair.changes.len(), changes, "no flapping on a whole wire");
    }
}

#[test]
fn a_path_that_is_down_is_told_at_once_and_the_session_stays_up() {
    let mut pair = Pair::new();
    pair.run(2000 * MS);
    assert!(!pair.b.remote_path_down());
    pair.changes.clear();
    pair.a.set_path_down(true, pair.now);
    pair.run(2001 * MS);
    assert!(pair.b.remote_path_down() && !pair.a.remote_path_down());
    pair.run(4000 * MS);
    assert!(pair.b.remote_path_down());
    pair.a.set_path_down(false, pair.now);
    pair.run(4001 * MS);
    assert!(!pair.b.remote_path_down());
    assert_eq!(pair.changes, [], "the sessions stayed up");
}
