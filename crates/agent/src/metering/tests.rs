//! Goal: every byte that crosses a gateway is counted once, by the labels whose rules are about it, and none goes away.
//! Method: the scene's tables, and sessions as the sweep would show them.

use super::*;
use crate::scene::fixture::{self, BLUE, EXTERNAL, ROUTER, SNAT, VM_A};
use crate::sessions::tests::{dns, east_west};
use model::metering::Prefixes;
use model::slice::MeterRule;
use pipeline::tables::ExternalAddress;
use uuid::Uuid;

const START_NS: u64 = 1_000_000_000;

fn label(number: u128) -> MeteringLabelId {
    MeteringLabelId::from_uuid(Uuid::from_u128(number))
}

fn rule(direction: Direction, excluded: bool, source: &str, destination: &str) -> MeterRule {
    let prefix = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    let prefixes = Prefixes::Ends { source: prefix(source), destination: prefix(destination) };
    MeterRule { direction, excluded, prefixes }
}

/// 1: all that leaves. 2: all that comes, but not from 8.8.8.0/24. 3: both, said twice. 4: the VM, as Neutron says it.
fn meters() -> Meters {
    use Direction::{Egress, Ingress};
    let remote = |text: &str| Prefixes::Remote(text.parse().unwrap());
    let vm = MeterRule { direction: Egress, excluded: false, prefixes: remote("192.168.10.11/32") };
    let all = "0.0.0.0/0";
    let rules = [
        vec![rule(Egress, false, all, "")],
        vec![rule(Ingress, false, all, ""), rule(Ingress, true, "8.8.8.0/24", "")],
        vec![
            rule(Egress, false, all, ""),
            rule(Egress, false, "", "8.8.8.8/32"),
            rule(Ingress, false, all, ""),
        ],
        vec![vm],
        vec![],
    ];
    let meters = rules.into_iter().zip(1..).map(|(rules, number)| Meter { label: label(number), rules });
    Meters(HashMap::from([(ROUTER, meters.collect())]))
}

struct Bench {
    metering: Metering,
    tables: TableSet,
    now_ns: u64,
}

impl Bench {
    fn new() -> Self {
        let metering = Metering::new(SharedCounts::default(), START_NS);
        Self { metering, tables: TableSet::default(), now_ns: START_NS }
    }

    fn sweep(&mut self, meters: &Meters, seen: &[(SessionRow, Fate)]) {
        self.now_ns += 1_000_000_000;
        let mut look = self.metering.look(meters, &self.tables, self.now_ns);
        seen.iter().for_each(|(session, fate)| look.seen(session, *fate));
        look.finish(true);
    }

    fn counts(&self) -> Vec<(u64, u64)> {
        counts(&self.metering.counts).values().map(|count| (count.packets, count.bytes)).collect()
    }
}

fn with(session: SessionRow, packets: [u64; 2], bytes: [u64; 2]) -> SessionRow {
    SessionRow { packets, bytes, ..session }
}

#[test]
fn a_session_is_counted_as_it_grows_and_its_last_bytes_when_it_ends() {
    let mut bench = Bench::new();
    let session = SessionRow { created_ns: START_NS + 1, ..dns() };
    bench.sweep(&meters(), &[(with(session, [2, 1], [120, 60]), Fate::Alive)]);
    assert_eq!(bench.counts(), [(2, 120), (0, 0), (3, 180), (2, 120), (0, 0)]);
    // Twice in one look, as it may be in a table that changes: counted once.
    let grown = with(session, [3, 5], [180, 5060]);
    bench.sweep(&meters(), &[(grown, Fate::Alive), (grown, Fate::Alive)]);
    bench.sweep(&meters(), &[(with(session, [4, 5], [200, 5060]), Fate::Ended)]);
    let want = [(4, 200), (0, 0), (9, 5260), (4, 200), (0, 0)];
    assert_eq!(bench.counts(), want);
    bench.sweep(&meters(), &[]);
    assert_eq!(bench.counts(), want, "nothing goes away with its session");
    // The router, or its labels, left the host.
    bench.sweep(&Meters::default(), &[]);
    assert_eq!(bench.counts(), want);
}

#[test]
fn what_was_before_is_not_counted() {
    let mut bench = Bench::new();
    let old = SessionRow { created_ns: START_NS - LATE_NS - 1, ..dns() };
    bench.sweep(&meters(), &[(with(old, [100, 0], [9000, 0]), Fate::Alive)]);
    bench.sweep(&meters(), &[(with(old, [101, 0], [9060, 0]), Fate::Alive)]);
    assert_eq!(bench.counts()[0], (1, 60), "from before the agent");
    // A session that was there when the router had no labels.
    let other = SessionRow { created_ns: bench.now_ns - LATE_NS - 1, ..dns() };
    bench.sweep(&Meters::default(), &[(with(other, [7, 0], [700, 0]), Fate::Alive)]);
    bench.sweep(&meters(), &[(with(other, [8, 0], [800, 0]), Fate::Alive)]);
    bench.sweep(&meters(), &[(with(other, [9, 0], [900, 0]), Fate::Alive)]);
    assert_eq!(bench.counts()[0], (2, 160), "from before the label");
}

#[test]
fn a_look_that_failed_loses_nothing() {
    let mut bench = Bench::new();
    let first = SessionRow { created_ns: START_NS + 1, ..dns() };
    let second = SessionRow { created_ns: START_NS + 2, ..dns() };
    bench.sweep(&meters(), &[(first, Fate::Alive)]);
    let meters = meters();
    let look = bench.metering.look(&meters, &bench.tables, bench.now_ns + 1);
    look.finish(false);
    let third = SessionRow { created_ns: bench.now_ns, ..dns() };
    bench.now_ns += 1;
    let seen = [first, second, third].map(|session| (with(session, [3, 0], [180, 0]), Fate::Alive));
    bench.sweep(&meters, &seen);
    // Of the second nothing: it was there when the first whole look saw no such session.
    assert_eq!(bench.counts()[0], (6, 360));
}

#[test]
fn only_what_crosses_the_gateway_is_counted() {
    let mut bench = Bench::new();
    let fresh = |session: SessionRow| SessionRow { created_ns: START_NS + 1, ..session };
    let within = east_west(BLUE, (VM_A, fixture::VM_C), true);
    // By a router without labels.
    let other = SessionRow { router_vni: ROUTER + 1, ..dns() };
    // To an address of the same router: it turns around.
    let mut hairpin = dns();
    hairpin.key.dst = SNAT.into();
    let key = ExternalAddressKey { external_vni: EXTERNAL, address: SNAT.into() };
    let own = ExternalAddress { router_vni: ROUTER, ..Default::default() };
    bench.tables.external_addresses.insert(key, own);
    bench.sweep(&meters(), &[within, other, hairpin].map(|session| (fresh(session), Fate::Alive)));
    assert_eq!(bench.counts(), [(0, 0); 5]);
}

#[test]
fn who_is_called_from_outside_gets_ingress() {
    let caller: Address = std::net::Ipv4Addr::new(9, 9, 9, 9).into();
    let asked = dns();
    let flags = Session::NAT_FLOATING_DST;
    let (mut key, mut reply) = (asked.reply, asked.key);
    (key.src, reply.src, reply.dst) = (caller, VM_A.into(), caller);
    let called = SessionRow { key, reply, flags, created_ns: START_NS + 1, ..asked };
    let mut bench = Bench::new();
    bench.sweep(&meters(), &[(with(called, [2, 1], [120, 60]), Fate::Alive)]);
    assert_eq!(bench.counts(), [(1, 60), (2, 120), (3, 180), (1, 60), (0, 0)]);
    // By another router's VM on this host: egress of the one, ingress of the other.
    let sender = SessionRow {
        flags: flags | Session::NAT_FLOATING_SRC,
        router_vni: ROUTER + 1,
        external_vni: EXTERNAL,
        ..called
    };
    let at = ExternalAddressKey { external_vni: EXTERNAL, address: sender.key.dst };
    let own = ExternalAddress { router_vni: ROUTER, ..Default::default() };
    bench.tables.external_addresses.insert(at, own);
    let mut both = meters();
    let meter = Meter { label: label(9), rules: vec![rule(Direction::Egress, false, "9.9.9.9/32", "")] };
    both.0.insert(ROUTER + 1, vec![meter]);
    let turned = SessionRow { created_ns: bench.now_ns + 1, ..sender };
    bench.sweep(&both, &[(with(turned, [2, 1], [120, 60]), Fate::Alive)]);
    assert_eq!(bench.counts(), [(2, 120), (4, 240), (6, 360), (2, 120), (0, 0), (2, 120)]);
}
