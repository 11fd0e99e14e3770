//! Port blocks: every host with VMs behind a translating router owns ports of its address, no two own the same, and
//! what was released rests.

mod common;

use common::world::{World, host_id, network_id, router_id};
use controller::blocks::{BLOCKS_PER_HOST_MAX, COOL_DOWN, Cooling, Plan, apply, more, plan};
use model::resource::{Host, Port, PortBlock, Router};
use model::slice::BlockId;
use std::collections::BTreeSet;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use store::StoreError;

fn vpc() -> World {
    let world = World::new();
    world.host("ahv01", "10.0.0.1", &["physnet1"]);
    world.host("ahv02", "10.0.0.2", &[]);
    world.external_network("ext", "physnet1", Some(2207), "172.22.7.0/24");
    world.network("blue", "192.168.10.0/24");
    world.router("blue");
    world.attach("blue", "blue", "192.168.10.1");
    world.gateway("blue", "ext", "172.22.7.27");
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    world.port("vm2", "blue", "192.168.10.11", "ahv02");
    world
}

fn planned(world: &World, cooling: &Cooling, now: Instant) -> Plan {
    plan(&world.snapshot(), cooling, now, &mut rand::rng())
}

/// Plans and applies until nothing is left to do, as the control loop does.
fn settle(world: &World) -> Plan {
    let now = Instant::now();
    let made = world.store.transact::<_, StoreError>(|transaction| {
        let plan = plan(transaction, &Cooling::default(), now, &mut rand::rng());
        apply(transaction, &plan);
        Ok(plan)
    });
    let again = planned(world, &Cooling::default(), now);
    assert!(again.is_empty(), "a second plan changes nothing: {again:?}");
    made.unwrap()
}

fn owners(world: &World) -> Vec<(String, String)> {
    let snapshot = world.snapshot();
    let name = |host| snapshot.get::<Host>(host).unwrap().name.clone();
    let mut owners: Vec<_> =
        snapshot.blocks.values().map(|block| (block.address.to_string(), name(block.host))).collect();
    owners.sort();
    owners
}

fn pair(address: &str, host: &str) -> (String, String) {
    (address.to_owned(), host.to_owned())
}

#[test]
fn every_host_with_vms_owns_a_block() {
    let world = vpc();
    settle(&world);
    assert_eq!(owners(&world), [pair("172.22.7.27", "ahv01"), pair("172.22.7.27", "ahv02")]);
    for block in world.snapshot().blocks.values() {
        assert_eq!(block.first_port % 1024, 0);
        assert!(block.first_port >= 1024, "block 0 is nobody's");
        assert_eq!(block.router, router_id("blue"));
    }
}

#[test]
fn blocks_go_with_their_reason() {
    /// What happens, how, and who owns blocks of which addresses (last octet) after it.
    type Case = (&'static str, fn(&World), &'static [(&'static str, &'static str)]);
    let cases: [Case; 6] = [
        (
            "the last VM leaves the host",
            |w| w.remove::<Port>(common::world::port_id("vm1")),
            &[("27", "ahv02")],
        ),
        (
            "the VM is unbound",
            |w| w.change::<Port>(common::world::port_id("vm2"), |port| port.binding_host.clear()),
            &[("27", "ahv01")],
        ),
        (
            "SNAT is switched off",
            |w| w.change::<Router>(router_id("blue"), |r| r.gateway.as_mut().unwrap().enable_snat = false),
            &[],
        ),
        ("the gateway is cleared", |w| w.change::<Router>(router_id("blue"), |r| r.gateway = None), &[]),
        ("the interface is removed", |w| w.remove::<Port>(common::world::port_id("blue:blue")), &[]),
        (
            "the SNAT address changes",
            |w| {
                w.change::<Port>(common::world::port_id("blue:ext"), |port| {
                    port.fixed_ips[0].address = "172.22.7.99".parse().unwrap();
                })
            },
            &[("99", "ahv01"), ("99", "ahv02")],
        ),
    ];
    for (name, change, want) in cases {
        let world = vpc();
        settle(&world);
        change(&world);
        settle(&world);
        let want: Vec<_> = want.iter().map(|(last, host)| pair(&format!("172.22.7.{last}"), host)).collect();
        assert_eq!(owners(&world), want, "{name}");
    }
}

#[test]
fn several_addresses_fill_evenly() {
    let world = vpc();
    world.change::<Port>(common::world::port_id("blue:ext"), |port| {
        let second =
            model::resource::FixedIp { address: "172.22.7.28".parse().unwrap(), ..port.fixed_ips[0] };
        port.fixed_ips.push(second);
    });
    for number in 3..=10 {
        let host = format!("ahv{number:02}");
        world.host(&host, &format!("10.0.0.{number}"), &[]);
        world.port(&format!("vm{number}"), "blue", &format!("192.168.10.{}", 10 + number), &host);
    }
    for number in 1..=10 {
        // One by one, as VMs are started.
        let name = format!("ahv{number:02}");
        let host = Host::clone(world.snapshot().get::<Host>(host_id(&name)).unwrap());
        world.put(Host { live: false, ..host });
        settle(&world);
    }
    let per_address =
        |last: u8| owners(&world).iter().filter(|(address, _)| address.ends_with(&last.to_string())).count();
    assert_eq!(
        (per_address(27) + per_address(28), per_address(27).abs_diff(per_address(28)) <= 1),
        (10, true)
    );
}

#[test]
fn when_nothing_is_free_it_says_for_whom() {
    let world = vpc();
    settle(&world);
    let taken: BTreeSet<u16> = world.snapshot().blocks.values().map(|block| block.first_port).collect();
    for first_port in (1024..=64512).step_by(1024).filter(|first_port| !taken.contains(first_port)) {
        let host = host_id("ahv02");
        let (external_network, router) = (network_id("ext"), router_id("blue"));
        let address = "172.22.7.27".parse().unwrap();
        world.put(PortBlock { external_network, address, first_port, router, host });
    }
    assert_eq!(world.snapshot().blocks.len(), 63);
    world.host("ahv03", "10.0.0.3", &[]);
    world.port("vm3", "blue", "192.168.10.12", "ahv03");
    let plan = planned(&world, &Cooling::default(), Instant::now());
    assert_eq!(plan.short, [(router_id("blue"), host_id("ahv03"))]);
    assert!(plan.is_empty());
}

#[test]
fn a_released_block_rests_before_another_host_has_it() {
    let world = vpc();
    settle(&world);
    let block = *world.snapshot().blocks_of_host(host_id("ahv01")).next().unwrap().as_ref();
    let id = BlockId {
        external_network: block.external_network,
        address: block.address,
        first_port: block.first_port,
    };
    let start = Instant::now();
    let mut cooling = Cooling::default();
    cooling.note(id, host_id("ahv01"), start);
    let soon = start + COOL_DOWN - Duration::from_millis(1);
    assert!(!cooling.allows(&id, host_id("ahv02"), soon));
    assert!(cooling.allows(&id, host_id("ahv01"), soon), "its former owner may have it back");
    assert!(cooling.allows(&id, host_id("ahv02"), start + COOL_DOWN));
    assert_eq!(cooling.next_end(start), Some(start + COOL_DOWN));
    assert_eq!(cooling.next_end(start + COOL_DOWN), None, "nothing to wake up for");

    // All other blocks are taken: the resting one is not given away, and then it is.
    world.remove::<PortBlock>(id);
    world.remove::<Port>(common::world::port_id("vm1"));
    world.host("ahv03", "10.0.0.3", &[]);
    world.port("vm3", "blue", "192.168.10.12", "ahv03");
    for first_port in (1024..=64512).step_by(1024).filter(|first_port| *first_port != block.first_port) {
        world.put(PortBlock { first_port, host: host_id("ahv02"), ..block });
    }
    assert_eq!(planned(&world, &cooling, soon).short.len(), 1);
    let granted = planned(&world, &cooling, start + COOL_DOWN).grant;
    assert_eq!(granted, [PortBlock { host: host_id("ahv03"), ..block }]);
}

#[test]
fn more_blocks_double_what_a_host_has_up_to_the_bound() {
    let world = vpc();
    settle(&world);
    let key = (router_id("blue"), host_id("ahv01"));
    let mut counts = Vec::new();
    for _ in 0..7 {
        let granted = world.store.transact::<_, StoreError>(|transaction| {
            let plan = more(transaction, key, &Cooling::default(), Instant::now(), &mut rand::rng());
            apply(transaction, &plan);
            Ok(plan.grant.len())
        });
        counts.push(granted.unwrap());
    }
    assert_eq!(counts, [1, 2, 4, 8, 16, 0, 0]);
    assert_eq!(world.snapshot().blocks_of_host(host_id("ahv01")).count(), BLOCKS_PER_HOST_MAX);
    settle(&world);
    assert_eq!(world.snapshot().blocks_of_host(host_id("ahv01")).count(), BLOCKS_PER_HOST_MAX, "kept");
    let stranger = (router_id("blue"), host_id("nobody"));
    let plan = more(&world.snapshot(), stranger, &Cooling::default(), Instant::now(), &mut rand::rng());
    assert!(plan.is_empty());
}

/// Many hosts ask at the same moment while ports come and go: 16 threads, one store. No block has two owners, and
/// none is lost: every grant that was answered is there.
#[test]
fn many_requests_at_once_never_share_a_block() {
    const THREADS: usize = 16;
    let world = vpc();
    for number in 0..THREADS {
        let host = format!("host{number}");
        world.host(&host, &format!("10.1.0.{number}"), &[]);
        world.port(&format!("{host}-vm"), "blue", &format!("192.168.10.{}", 100 + number), &host);
    }
    let barrier = Barrier::new(THREADS);
    let granted: Vec<PortBlock> = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let (world, barrier) = (&world, &barrier);
            move || {
                barrier.wait();
                let mut granted = Vec::new();
                for _ in 0..4 {
                    let grants = world.store.transact::<_, StoreError>(|transaction| {
                        let now = Instant::now();
                        let first = plan(transaction, &Cooling::default(), now, &mut rand::rng());
                        apply(transaction, &first);
                        let key = (router_id("blue"), host_id(&format!("host{number}")));
                        let further = more(transaction, key, &Cooling::default(), now, &mut rand::rng());
                        apply(transaction, &further);
                        Ok([first.grant, further.grant].concat())
                    });
                    granted.extend(grants.unwrap());
                }
                granted
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|number| scope.spawn(ask(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: BTreeSet<u16> = granted.iter().map(|block| block.first_port).collect();
    assert_eq!(distinct.len(), granted.len(), "no block was granted twice");
    assert_eq!(granted.len(), 63, "all of the address was given out");
    let snapshot = world.snapshot();
    for block in &granted {
        let stored = snapshot.blocks_of_address(block.external_network, block.address);
        assert!(stored.into_iter().any(|stored| stored.as_ref() == block), "{block:?}");
    }
}
