//! Port blocks: every host with VMs behind a translating router owns ports of its address, no two own the same, and
//! what was released rests.

mod common;

use common::world::{World, host_id, network_id, router_id};
use controller::blocks::retire::{self, Report, Use};
use controller::blocks::{
    BLOCKS_PER_HOST_MAX, COOL_DOWN_MS, Moment, Plan, allows, apply, more, next_rested, plan,
};
use model::HostId;
use model::resource::{FixedIp, Host, Port, PortBlock, RestingBlock, Router};
use model::slice::BlockId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Barrier, Mutex};
use store::{Store, StoreError};

/// 2026-11-22T06:00:00Z.
const NOW_MS: i64 = 1_795_327_200_000;

static NOBODY: BTreeSet<HostId> = BTreeSet::new();

fn at(now_ms: i64) -> Moment<'static> {
    Moment { now_ms, lost: &NOBODY }
}

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

fn planned(world: &World, moment: Moment<'_>) -> Plan {
    plan(&world.snapshot(), moment, &mut rand::rng())
}

/// Plans and applies until nothing is left to do, as the control loop does.
fn settle(world: &World) -> Plan {
    settle_at(world, at(NOW_MS))
}

fn settle_at(world: &World, moment: Moment<'_>) -> Plan {
    let made = world.store.transact::<_, StoreError>(|transaction| {
        let plan = plan(transaction, moment, &mut rand::rng());
        apply(transaction, &plan, moment.now_ms);
        Ok(plan)
    });
    let again = planned(world, moment);
    assert!(again.is_empty(), "a second plan changes nothing: {again:?}");
    made.unwrap()
}

/// Grants more blocks of `blue` to the host; returns how many.
fn grow(world: &World, host: &str) -> usize {
    let key = (router_id("blue"), host_id(host));
    let granted = world.store.transact::<_, StoreError>(|transaction| {
        let plan = more(transaction, key, at(NOW_MS), &mut rand::rng());
        apply(transaction, &plan, NOW_MS);
        Ok(plan.grant.len())
    });
    granted.unwrap()
}

fn block_id(block: &PortBlock) -> BlockId {
    BlockId { external_network: block.external_network, address: block.address, first_port: block.first_port }
}

fn second_address(world: &World) {
    world.change::<Port>(common::world::port_id("blue:ext"), |port| {
        let second = FixedIp { address: "172.22.7.28".parse().unwrap(), ..port.fixed_ips[0] };
        port.fixed_ips.push(second);
    });
}

/// A block of the one address.
fn block(first_port: u16, host: &str) -> PortBlock {
    PortBlock {
        external_network: network_id("ext"),
        address: "172.22.7.27".parse().unwrap(),
        first_port,
        router: router_id("blue"),
        host: host_id(host),
        granted_at_ms: NOW_MS,
        retiring_since_ms: None,
    }
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
    second_address(&world);
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
        world.put(block(first_port, "ahv02"));
    }
    assert_eq!(world.snapshot().blocks.len(), 63);
    world.host("ahv03", "10.0.0.3", &[]);
    world.port("vm3", "blue", "192.168.10.12", "ahv03");
    let plan = planned(&world, at(NOW_MS));
    assert_eq!(plan.short, [(router_id("blue"), host_id("ahv03"))]);
    assert!(plan.is_empty());
}

#[test]
fn a_released_block_rests_before_another_host_has_it() {
    let world = vpc();
    settle(&world);
    let resting = *world.snapshot().blocks_of_host(host_id("ahv01")).next().unwrap().as_ref();
    let id = block_id(&resting);
    world.remove::<Port>(common::world::port_id("vm1"));
    settle(&world);
    let (soon, then) = (NOW_MS + COOL_DOWN_MS - 1, NOW_MS + COOL_DOWN_MS);
    let snapshot = world.snapshot();
    assert!(!allows(&snapshot, id, host_id("ahv02"), soon));
    assert!(allows(&snapshot, id, host_id("ahv01"), soon), "its former owner may have it back");
    assert!(allows(&snapshot, id, host_id("ahv02"), then));
    assert_eq!(next_rested(&snapshot, NOW_MS), Some(then));
    assert_eq!(next_rested(&snapshot, then), None, "nothing to wake up for");

    // All other blocks are taken: the resting one is not given away, and then it is.
    world.host("ahv03", "10.0.0.3", &[]);
    world.port("vm3", "blue", "192.168.10.12", "ahv03");
    for first_port in (1024..=64512).step_by(1024).filter(|first_port| *first_port != resting.first_port) {
        world.put(block(first_port, "ahv02"));
    }
    assert_eq!(planned(&world, at(soon)).short.len(), 1);
    let granted = settle_at(&world, at(then)).grant;
    assert_eq!(granted, [PortBlock { host: host_id("ahv03"), granted_at_ms: then, ..resting }]);
    assert!(world.snapshot().resting_blocks.is_empty());
}

#[test]
fn what_rests_still_rests_after_the_controller_was_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let open = || World::over(std::sync::Arc::new(Store::open(Some(&path)).unwrap()));
    let world = open();
    let resting = RestingBlock {
        external_network: network_id("ext"),
        address: "172.22.7.27".parse().unwrap(),
        first_port: 2048,
        host: host_id("ahv01"),
        since_ms: NOW_MS,
    };
    world.put(resting);
    drop(world);
    let world = open();
    let id = block_id(&block(2048, "ahv01"));
    assert!(!allows(&world.snapshot(), id, host_id("ahv02"), NOW_MS + COOL_DOWN_MS - 1));
    assert!(allows(&world.snapshot(), id, host_id("ahv02"), NOW_MS + COOL_DOWN_MS));
}

#[test]
fn what_has_rested_is_forgotten_when_something_else_happens() {
    let world = vpc();
    settle(&world);
    world.remove::<Port>(common::world::port_id("vm1"));
    settle(&world);
    assert_eq!(world.snapshot().resting_blocks.len(), 1);
    world.remove::<Port>(common::world::port_id("vm2"));
    settle_at(&world, at(NOW_MS + COOL_DOWN_MS));
    let left: Vec<_> = world.snapshot().resting_blocks.values().map(|block| block.host).collect();
    assert_eq!(left, [host_id("ahv02")]);
}

#[test]
fn more_blocks_double_what_a_host_has_up_to_the_bound() {
    let world = vpc();
    settle(&world);
    let counts: Vec<usize> = (0..7).map(|_| grow(&world, "ahv01")).collect();
    assert_eq!(counts, [1, 2, 4, 8, 16, 0, 0]);
    assert_eq!(world.snapshot().blocks_of_host(host_id("ahv01")).count(), BLOCKS_PER_HOST_MAX);
    settle(&world);
    assert_eq!(world.snapshot().blocks_of_host(host_id("ahv01")).count(), BLOCKS_PER_HOST_MAX, "kept");
    let stranger = (router_id("blue"), host_id("nobody"));
    let plan = more(&world.snapshot(), stranger, at(NOW_MS), &mut rand::rng());
    assert!(plan.is_empty());
}

/// A second VPC behind the address of the first.
fn sharing() -> World {
    let world = vpc();
    world.network("green", "192.168.10.0/24");
    world.router("green");
    world.attach("green", "green", "192.168.10.1");
    world.gateway("green", "ext", "172.22.7.27");
    world.port("vm3", "green", "192.168.10.10", "ahv01");
    world
}

#[test]
fn vpcs_that_share_an_address_have_blocks_of_their_own() {
    let world = sharing();
    settle(&world);
    let of = |router: &str| -> BTreeSet<BlockId> {
        world.snapshot().blocks_of_router(router_id(router)).map(|block| block_id(block)).collect()
    };
    assert_eq!((of("blue").len(), of("green").len()), (2, 1));
    assert!(of("blue").is_disjoint(&of("green")));
    // One of them goes: the other one keeps its blocks.
    let kept = of("green");
    world.change::<Router>(router_id("blue"), |router| router.gateway = None);
    world.remove::<Port>(common::world::port_id("blue:ext"));
    settle(&world);
    assert_eq!((of("blue"), of("green")), (BTreeSet::new(), kept));
}

#[test]
fn a_vpc_that_shares_an_address_leaves_the_others_their_part() {
    let world = sharing();
    settle(&world);
    let hosts: Vec<String> = (3..=6).map(|number| format!("ahv{number:02}")).collect();
    for (index, host) in hosts.iter().enumerate() {
        world.host(host, &format!("10.0.0.{}", index + 3), &[]);
        world.port(&format!("vm-{host}"), "blue", &format!("192.168.10.{}", 20 + index), host);
    }
    settle(&world);
    for host in hosts.iter().cycle().take(40) {
        grow(&world, host);
    }
    let count = |router: &str| world.snapshot().blocks_of_router(router_id(router)).count();
    assert_eq!(count("blue"), 32, "half of 63, rounded up");
    let key = (router_id("green"), host_id("ahv01"));
    for _ in 0..6 {
        let plan = more(&world.snapshot(), key, at(NOW_MS), &mut rand::rng());
        world
            .store
            .transact::<_, StoreError>(|tx| {
                apply(tx, &plan, NOW_MS);
                Ok(())
            })
            .unwrap();
    }
    assert_eq!(count("green"), 31, "all that is left");
}

/// RFC 4787 REQ-2, as far as the choice of blocks decides it.
#[test]
fn rfc4787_req2_a_host_keeps_its_address_until_that_is_used_up() {
    let world = vpc();
    second_address(&world);
    settle(&world);
    let addresses = |host: &str| -> BTreeSet<String> {
        world.snapshot().blocks_of_host(host_id(host)).map(|block| block.address.to_string()).collect()
    };
    let first = addresses("ahv01");
    for _ in 0..6 {
        grow(&world, "ahv01");
        assert_eq!(addresses("ahv01"), first);
    }
    // It has given up everything and comes back within the cool-down: the same address, though the other one
    // has more free blocks.
    world.change::<Port>(common::world::port_id("vm1"), |port| port.binding_host.clear());
    settle(&world);
    for first_port in (1024..=40 * 1024).step_by(1024) {
        let address = first.first().unwrap().parse().unwrap();
        let stranger = PortBlock { address, ..block(first_port, "ahv02") };
        if allows(&world.snapshot(), block_id(&stranger), host_id("ahv02"), NOW_MS) {
            world.put(stranger);
        }
    }
    world.change::<Port>(common::world::port_id("vm1"), |port| port.binding_host = "ahv01".into());
    settle(&world);
    assert_eq!(addresses("ahv01"), first);
}

#[test]
fn when_an_address_is_used_up_the_next_one_is_taken() {
    let world = vpc();
    settle(&world);
    for first_port in (1024..=64512).step_by(1024) {
        if world.snapshot().get::<PortBlock>(block_id(&block(first_port, "ahv02"))).is_none() {
            world.put(block(first_port, "ahv02"));
        }
    }
    assert_eq!(grow(&world, "ahv01"), 0);
    second_address(&world);
    assert_eq!(grow(&world, "ahv01"), 1);
    assert!(owners(&world).contains(&pair("172.22.7.28", "ahv01")));
}

/// Issue: at least 99 % of the ports of an address are usable before the first refusal. One block per host, as
/// the worst case: nobody can have a part of a block.
#[test]
fn all_blocks_above_the_system_ports_can_be_had() {
    for size in [64_u16, 128, 256, 512, 1024, 2048, 4096] {
        let world = vpc();
        world.change::<model::resource::Network>(network_id("ext"), |network| {
            network.provider.as_mut().unwrap().block_size = size;
        });
        settle(&world);
        let mut hosts = 2;
        while planned(&world, at(NOW_MS)).short.is_empty() {
            hosts += 1;
            let host = format!("host{hosts}");
            world.host(&host, &format!("10.{}.0.{}", 1 + hosts / 256, hosts % 256), &[]);
            let at = format!("10.9.{}.{}", hosts / 256, hosts % 256);
            world.port(&format!("{host}-vm"), "blue", &at, &host);
            settle(&world);
            if size < 512 && hosts > 20 {
                // The rest at once: the search for a block does not depend on who asks.
                for first_port in store::allocate::block_starts(size) {
                    let next = block(first_port, "ahv01");
                    if world.snapshot().get::<PortBlock>(block_id(&next)).is_none() {
                        world.put(next);
                    }
                }
            }
        }
        let ports = |block: &PortBlock| f64::from(block_id(block).last_port(size) - block.first_port) + 1.0;
        let usable: f64 = world.snapshot().blocks.values().map(|block| ports(block)).sum();
        let share = usable / f64::from(65536 - 1024);
        println!("blocks of {size}: {usable} of 64512 ports, {:.1} %", share * 100.0);
        assert!(share >= 0.99, "blocks of {size}: {share}");
    }
}

#[test]
fn a_host_that_is_gone_for_good_leaves_its_blocks_to_others() {
    let world = vpc();
    settle(&world);
    let lost = BTreeSet::from([host_id("ahv01")]);
    settle_at(&world, Moment { now_ms: NOW_MS, lost: &lost });
    assert_eq!(owners(&world), [pair("172.22.7.27", "ahv02")]);
    assert_eq!(world.snapshot().resting_blocks.len(), 1, "as long as its last packets may come");
    settle(&world);
    assert_eq!(owners(&world).len(), 2, "it is back");

    world.change::<Port>(common::world::port_id("vm1"), |port| port.binding_host.clear());
    world.remove::<Host>(host_id("ahv01"));
    settle(&world);
    assert_eq!(owners(&world), [pair("172.22.7.27", "ahv02")]);
}

fn report(world: &World, host: &str, used: impl Fn(usize) -> u32) -> Report {
    let snapshot = world.snapshot();
    let blocks = snapshot.blocks_of_host(host_id(host)).enumerate();
    let told = blocks.map(|(number, block)| {
        let retiring = block.retiring_since_ms.is_some();
        (block_id(block), Use { ports_used: used(number), retiring })
    });
    told.collect()
}

fn retire_all(world: &World, extra: &[BlockId], now_ms: i64) {
    world
        .store
        .transact::<_, StoreError>(|transaction| {
            retire::apply(transaction, &extra.iter().copied().collect(), now_ms);
            Ok(())
        })
        .unwrap();
}

#[test]
fn blocks_beyond_four_times_the_use_are_too_many() {
    let world = vpc();
    settle(&world);
    for _ in 0..4 {
        grow(&world, "ahv01");
    }
    // 16 blocks of 1024 ports. How much is used of the first, and how many blocks are too many.
    let extra = |used: [u32; 2]| {
        let report = report(&world, "ahv01", |number| used.get(number).copied().unwrap_or(0));
        retire::surplus(&world.snapshot(), host_id("ahv01"), &report)
            .remove(&router_id("blue"))
            .unwrap_or_default()
    };
    for (used, want) in [([0, 0], 15), ([1, 0], 15), ([200, 100], 14), ([1000, 1000], 8), ([1024, 1023], 8)] {
        assert_eq!(extra(used).len(), want, "{used:?}");
    }
    let busiest = report(&world, "ahv01", |_| 0).into_keys().next().unwrap();
    assert!(!extra([1, 0]).contains(&busiest), "the one in use is the one that stays");
    let old = report(&world, "ahv01", |_| 0).into_iter().skip(1).collect();
    assert_eq!(retire::surplus(&world.snapshot(), host_id("ahv01"), &old), Default::default());
}

#[test]
fn doubling_never_makes_too_many() {
    let world = vpc();
    settle(&world);
    for blocks in [1_u32, 2, 4, 8, 16] {
        grow(&world, "ahv01");
        // Two thirds of what there was.
        let used = blocks * 1024 * 2 / 3;
        let report = report(&world, "ahv01", |number| if number == 0 { used } else { 0 });
        assert_eq!(retire::surplus(&world.snapshot(), host_id("ahv01"), &report), Default::default());
    }
}

#[test]
fn a_retiring_block_is_released_when_its_owner_says_that_it_is_empty() {
    let world = vpc();
    settle(&world);
    grow(&world, "ahv01");
    let used = report(&world, "ahv01", |number| u32::from(number == 0));
    let extra =
        retire::surplus(&world.snapshot(), host_id("ahv01"), &used).remove(&router_id("blue")).unwrap();
    assert_eq!(extra.len(), 1);
    retire_all(&world, &extra, NOW_MS);
    let later = NOW_MS + retire::RETIRING_MS_MIN;
    let released =
        |report: &Report, now_ms| retire::released(&world.snapshot(), host_id("ahv01"), report, now_ms);
    assert_eq!(released(&used, later), [], "told before the host knew");
    let knows = |ports_used| BTreeMap::from([(extra[0], Use { ports_used, retiring: true })]);
    assert_eq!(released(&knows(1), later), [], "a connection lives");
    assert_eq!(released(&knows(0), later - 1), [], "a packet may be under way");
    assert_eq!(released(&knows(0), later), extra);
    settle(&world);
    assert_eq!(world.snapshot().blocks_of_host(host_id("ahv01")).count(), 2, "nobody else takes it away");
}

#[test]
fn a_host_that_needs_more_gets_back_what_it_was_giving_up() {
    let world = vpc();
    settle(&world);
    for _ in 0..2 {
        grow(&world, "ahv01");
    }
    let used = report(&world, "ahv01", |number| u32::from(number == 0));
    let extra =
        retire::surplus(&world.snapshot(), host_id("ahv01"), &used).remove(&router_id("blue")).unwrap();
    retire_all(&world, &extra, NOW_MS);
    assert_eq!(grow(&world, "ahv01"), 0, "one of its own goes on");
    let retiring = || {
        let snapshot = world.snapshot();
        let blocks = snapshot.blocks_of_host(host_id("ahv01"));
        blocks.filter(|block| block.retiring_since_ms.is_some()).count()
    };
    assert_eq!(retiring(), 2);
    assert_eq!(grow(&world, "ahv01"), 0);
    assert_eq!(retiring(), 0);
    assert_eq!(grow(&world, "ahv01"), 4);
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
                        let first = plan(transaction, at(NOW_MS), &mut rand::rng());
                        apply(transaction, &first, NOW_MS);
                        let key = (router_id("blue"), host_id(&format!("host{number}")));
                        let further = more(transaction, key, at(NOW_MS), &mut rand::rng());
                        apply(transaction, &further, NOW_MS);
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

/// Hosts die and come back while others ask for more: 8 threads, one store, a clock that runs. Whatever the order, a
/// block that was one host's is another's only after it has rested, and no dead host gets one.
#[test]
fn blocks_of_hosts_that_die_go_to_others_without_a_race() {
    const THREADS: u64 = 8;
    let world = vpc();
    for number in 0..THREADS {
        let host = format!("host{number}");
        world.host(&host, &format!("10.1.0.{number}"), &[]);
        world.port(&format!("{host}-vm"), "blue", &format!("192.168.10.{}", 100 + number), &host);
    }
    let clock = AtomicI64::new(NOW_MS);
    // When whose block became whose; written within the transactions, which come one after the other.
    let history: Mutex<Vec<(i64, BlockId, Option<HostId>)>> = Mutex::default();
    let step = |rng: &mut StdRng| {
        let done = world.store.transact::<_, StoreError>(|transaction| {
            let now_ms = clock.fetch_add(rng.random_range(0..20_000), Ordering::Relaxed);
            let dead = host_id(&format!("host{}", rng.random_range(0..THREADS)));
            let moment = Moment { now_ms, lost: &BTreeSet::from([dead]) };
            let asking = host_id(&format!("host{}", rng.random_range(0..THREADS)));
            let before = transaction.blocks.clone();
            let first = plan(transaction, moment, rng);
            assert!(first.grant.iter().all(|block| block.host != dead), "a dead host gets nothing");
            apply(transaction, &first, now_ms);
            let further = more(transaction, (router_id("blue"), asking), moment, rng);
            apply(transaction, &further, now_ms);
            let owner = |id: &BlockId| transaction.get::<PortBlock>(*id).map(|block| block.host);
            let touched: BTreeSet<BlockId> =
                before.keys().chain(transaction.blocks.keys()).copied().collect();
            let changed = touched.iter().filter(|id| before.get(*id).map(|block| block.host) != owner(id));
            let changed = changed.map(|id| (now_ms, *id, owner(id)));
            history.lock().unwrap().extend(changed);
            Ok(())
        });
        done.unwrap();
    };
    std::thread::scope(|scope| {
        for seed in 0..THREADS {
            let step = &step;
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(seed);
                (0..40).for_each(|_| step(&mut rng));
            });
        }
    });
    let owners = check_history(history.into_inner().unwrap());
    let stored: BTreeMap<BlockId, HostId> =
        world.snapshot().blocks.iter().map(|(id, block)| (*id, block.host)).collect();
    assert_eq!(stored, owners, "the history is the whole of it");
}

/// Who owns which blocks in the end, after a history in which nobody lost one or got one too early.
fn check_history(history: Vec<(i64, BlockId, Option<HostId>)>) -> BTreeMap<BlockId, HostId> {
    let mut owners: BTreeMap<BlockId, HostId> = BTreeMap::new();
    let mut last: BTreeMap<BlockId, (i64, HostId)> = BTreeMap::new();
    let (mut released, mut handed_over) = (0, 0);
    for (now_ms, id, owner) in history {
        match owner {
            None => {
                released += 1;
                last.insert(id, (now_ms, owners.remove(&id).expect("it was somebody's")));
            }
            Some(host) => {
                assert_eq!(owners.insert(id, host), None, "taken away from a living host");
                let Some((since_ms, former)) = last.get(&id).filter(|(_, former)| *former != host) else {
                    continue;
                };
                handed_over += 1;
                let rested_ms = now_ms - since_ms;
                assert!(rested_ms >= COOL_DOWN_MS, "{id} of {former} rested {rested_ms} ms");
            }
        }
    }
    assert!(released > 50 && handed_over > 10, "{released} released, {handed_over} handed over");
    owners
}
