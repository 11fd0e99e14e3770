//! Arbitrary frames through the pipeline of a populated cluster.
//!
//! Goal: whatever comes in, nothing panics, every packet is counted in once and out once, and what is
//! promised of every packet holds (see `check`). Method: an input is a script (see `script`) of frames, most
//! of them made from frames that get far, altered; each is given to two copies of the host, one of which
//! works in memory that earlier packets left dirty, and both must do the same. Shared by `fuzz/` and by
//! `replay.rs`.

mod check;
mod script;

use check::Before;
use compiler::TunnelProtocol;
use model::slice::Egress;
use pipeline::host::{Frame, HostTables};
use pipeline::table_set::TableSet;
use pipeline::{Address, TunnelKey, Verdict, Work};
use script::{Action, Last, Script, Template};
use std::net::Ipv4Addr;
use std::rc::Rc;
use testkit::World;

/// Hosts of the testkit's cluster.
const HOSTS: usize = 3;
/// Actions of one script: connections in both directions over all hosts fit.
const ACTIONS_MAX: usize = 24;

/// Where a frame comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Port { ifindex: u32 },
    Tunnel { vni: u32, vtep: Address },
    Uplink { ifindex: u32 },
    Underlay,
}

/// The cluster compiled once for each way of configuring it.
struct Cluster {
    sets: Vec<TableSet>,
    templates: Vec<Template>,
}

thread_local! {
    static CLUSTERS: Rc<[Cluster]> = (0..8).map(cluster).collect();
}

fn cluster(choice: u8) -> Cluster {
    let protocol = if choice & 1 == 0 { TunnelProtocol::Geneve } else { TunnelProtocol::Vxlan };
    let egress = if choice & 2 == 0 { Egress::Direct } else { Egress::Gateway };
    let mut world = World::new(protocol, egress);
    world.add_ipv6();
    if choice & 4 != 0 {
        world.add_floating(1, "vm_a", 1, Ipv4Addr::new(172, 22, 7, 101));
        world.add_floating(2, "vm_c", 1, Ipv4Addr::new(172, 22, 7, 103));
        world.program();
    }
    let templates = script::templates(&world);
    Cluster { sets: world.hosts.into_iter().map(|host| host.tables.set).collect(), templates }
}

/// One host, twice.
struct Host {
    clean: HostTables,
    dirty: HostTables,
}

impl Host {
    fn new(set: &TableSet, number: usize) -> Self {
        let tables = || HostTables::new(set.clone(), number as u64);
        Self { clean: tables(), dirty: tables() }
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let choice = script.byte() & 7;
    let clusters = CLUSTERS.with(Rc::clone);
    let cluster = &clusters[usize::from(choice)];
    let mut hosts: Vec<Host> =
        cluster.sets.iter().enumerate().map(|(number, set)| Host::new(set, number)).collect();
    let mut dirty_work = Box::new(Work::zeroed());
    let mut last = Last::default();
    for _ in 0..ACTIONS_MAX {
        let Some(action) = script.next(&cluster.templates, &last) else { break };
        match action {
            Action::Frame { host, entry, frame } => {
                let host_number = host % HOSTS;
                let (verdict, frame) = step(&mut hosts[host_number], entry, frame, &mut dirty_work);
                last = Last { host: host_number, verdict: Some(verdict), frame };
            }
            Action::Wait { nanoseconds } => hosts.iter().for_each(|host| {
                for tables in [&host.clean, &host.dirty] {
                    tables.now_ns.set(tables.now_ns.get().saturating_add(nanoseconds));
                }
            }),
            Action::Reconfigure { host } => {
                let (host, set) = (&mut hosts[host % HOSTS], &cluster.sets[host % HOSTS]);
                host.clean.reconfigure(set.clone());
                host.dirty.reconfigure(set.clone());
            }
        }
    }
}

/// Gives a frame to both copies of a host; what becomes of it.
fn step(host: &mut Host, entry: Entry, frame: Frame, dirty_work: &mut Work) -> (Verdict, Frame) {
    let before = Before::new(&host.clean, entry, &frame);
    let mut output = frame.clone();
    let verdict = enter(entry, &mut output, &host.clean, &mut Work::zeroed());
    check::all(&before, &host.clean, verdict, &output);

    let mut dirty_output = frame;
    let dirty_verdict = enter(entry, &mut dirty_output, &host.dirty, dirty_work);
    assert_eq!(verdict, dirty_verdict, "{entry:?}: the verdict depends on an earlier packet's memory");
    assert_eq!(output, dirty_output, "{entry:?}: the frame depends on an earlier packet's memory");
    assert_eq!(*host.clean.counters.borrow(), *host.dirty.counters.borrow(), "{entry:?}");
    (verdict, output)
}

fn enter(entry: Entry, frame: &mut Frame, tables: &HostTables, work: &mut Work) -> Verdict {
    match entry {
        Entry::Port { ifindex } => pipeline::from_port(frame, tables, work, ifindex),
        Entry::Tunnel { vni, vtep } => {
            pipeline::from_tunnel(frame, tables, work, TunnelKey { vni, vtep, lone: false })
        }
        Entry::Uplink { ifindex } => pipeline::from_uplink(frame, tables, work, ifindex),
        Entry::Underlay => pipeline::from_underlay(frame, tables, work),
    }
}
