//! The store's promises: nothing on error, durable on success, allocators that never give a thing twice.

use super::*;
use crate::allocate::{block_starts, free_address, free_block, free_vni};
use model::resource::{AddressRange, FixedIp, Network, Port, PortBlock, Standard};
use model::{HostId, Mac, NetworkId, PortId, RouterId, SubnetId, Vni};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("refused")]
    ByTest,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

pub(crate) fn network(vni: u32) -> Network {
    Network {
        id: NetworkId::random(),
        standard: Standard { name: "blue".to_owned(), ..Standard::default() },
        admin_state_up: true,
        shared: None,
        mtu: 1450,
        vni: Vni::new(vni).unwrap(),
        provider: None,
        external: false,
        is_default: false,
        port_security_enabled: true,
        availability_zone_hints: Vec::new(),
    }
}

pub(crate) fn port(network: NetworkId, address: IpAddr, mac_last: u32) -> Port {
    let [_, b, c, d] = mac_last.to_be_bytes();
    Port {
        id: PortId::random(),
        standard: Standard::default(),
        network,
        mac: Mac([0xfa, 0x16, 0x3e, b, c, d]),
        fixed_ips: vec![FixedIp { subnet: SubnetId::MIN, address }],
        admin_state_up: true,
        device_id: "vm".to_owned(),
        device_owner: "compute:nova".to_owned(),
        binding_host: "ahv01".to_owned(),
        binding_profile: serde_json::Map::new(),
        vnic_type: "normal".to_owned(),
        port_security_enabled: true,
        allowed_address_pairs: Vec::new(),
        extra_dhcp_options: Vec::new(),
        security_groups: None,
        programmed_on: None,
    }
}

fn put<R: Record>(store: &Store, record: R) {
    let put = |tx: &mut Transaction| {
        tx.put(record);
        Ok::<_, StoreError>(())
    };
    store.transact(put).unwrap();
}

fn remove<R: Record>(store: &Store, id: R::Id) {
    let remove = |tx: &mut Transaction| {
        tx.remove::<R>(id);
        Ok::<_, StoreError>(())
    };
    store.transact(remove).unwrap();
}

fn pool(start: [u8; 4], end: [u8; 4]) -> AddressRange {
    AddressRange { start: start.into(), end: end.into() }
}

#[test]
fn nothing_is_applied_when_the_transaction_fails() {
    let store = Store::open(None).unwrap();
    let mut revisions = store.watch();
    let result: Result<(), Refused> = store.transact(|tx| {
        tx.put(network(1));
        assert_eq!(tx.networks.len(), 1, "a transaction sees its own writes");
        Err(Refused::ByTest)
    });
    assert!(matches!(result, Err(Refused::ByTest)));
    assert!(store.snapshot().networks.is_empty());
    assert_eq!(store.snapshot().revision, 0);
    assert!(!revisions.has_changed().unwrap());
    put(&store, network(1));
    assert!(revisions.has_changed().unwrap());
    assert_eq!(*revisions.borrow_and_update(), 1);
}

#[test]
fn writing_the_same_again_is_no_change() {
    let store = Store::open(None).unwrap();
    let blue = network(1);
    for _ in 0..2 {
        put(&store, blue.clone());
    }
    assert_eq!(store.snapshot().revision, 1);
}

#[test]
fn an_old_snapshot_does_not_change() {
    let store = Store::open(None).unwrap();
    let before = store.snapshot();
    put(&store, network(1));
    assert!(before.networks.is_empty());
    assert_eq!(store.snapshot().networks.len(), 1);
}

#[test]
fn everything_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let store = Store::open(Some(&path)).unwrap();
    let (blue, green) = (network(1), network(2));
    let vm = port(blue.id, [10, 0, 0, 5].into(), 1);
    store
        .transact(|tx| {
            tx.put(blue.clone());
            tx.put(green.clone());
            tx.put(vm.clone());
            Ok::<_, StoreError>(())
        })
        .unwrap();
    remove::<Network>(&store, green.id);
    let before = store.snapshot();
    drop(store);
    let after = Store::open(Some(&path)).unwrap().snapshot();
    assert_eq!(after.revision, 2);
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_eq!(after.networks, before.networks);
    assert_eq!(after.ports, before.ports);
    assert_eq!(after.indexes, before.indexes);
    assert_eq!(after.port_by_address(blue.id, Ipv4Addr::new(10, 0, 0, 5)).unwrap().id, vm.id);
}

#[test]
fn an_address_that_two_ports_share_is_held_until_both_are_gone() {
    let store = Store::open(None).unwrap();
    let (blue, address) = (network(1).id, IpAddr::from([172, 22, 7, 27]));
    let (first, second) = (port(blue, address, 1), port(blue, address, 2));
    put(&store, first.clone());
    put(&store, second.clone());
    let holders = |store: &Store| -> BTreeSet<PortId> {
        store.snapshot().ports_by_address(blue, address).map(|port| port.id).collect()
    };
    assert_eq!(holders(&store), BTreeSet::from([first.id, second.id]));
    let pool = [AddressRange { start: address, end: address }];
    for gone in [second.id, first.id] {
        assert_eq!(free_address(&store.snapshot(), blue, &pool, &mut rand::rng()), Err(Exhausted));
        remove::<Port>(&store, gone);
    }
    assert_eq!(holders(&store), BTreeSet::new());
    assert_eq!(free_address(&store.snapshot(), blue, &pool, &mut rand::rng()), Ok(address));
}

#[test]
fn a_locked_file_is_refused_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let _first = Store::open(Some(&path)).unwrap();
    let error = Store::open(Some(&path)).err().unwrap();
    assert!(matches!(&error, StoreError::Locked(_)), "{error:?}");
    assert!(error.to_string().contains("store.redb"), "{error}");
}

#[test]
fn a_file_of_a_newer_version_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    drop(Store::open(Some(&path)).unwrap());
    let database = redb::Database::create(&path).unwrap();
    let write = database.begin_write().unwrap();
    let marks: redb::TableDefinition<'_, &str, &str> = redb::TableDefinition::new("marks");
    write.open_table(marks).unwrap().insert("format", "2").unwrap();
    write.commit().unwrap();
    drop(database);
    let error = Store::open(Some(&path)).err().unwrap();
    assert!(matches!(error, StoreError::NewerFormat { found: 2, supported: 1, .. }), "{error:?}");
}

#[test]
fn a_file_that_is_not_a_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    std::fs::write(&path, "shopping list".repeat(1000)).unwrap();
    let error = Store::open(Some(&path)).err().unwrap();
    assert!(error.to_string().contains("notes.txt"), "{error:?}");
}

#[test]
fn threads_never_get_the_same_address_and_take_all_of_them() {
    let store = Store::open(None).unwrap();
    let blue = network(1).id;
    let pools = [pool([10, 0, 0, 10], [10, 0, 0, 109])];
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let store = &store;
            scope.spawn(move || {
                for i in 0..25 {
                    store
                        .transact(|tx| {
                            let address = free_address(tx, blue, &pools, &mut rand::rng())?;
                            tx.put(port(blue, address, thread * 100 + i));
                            Ok::<_, Refused>(())
                        })
                        .unwrap();
                }
            });
        }
    });
    let snapshot = store.snapshot();
    let addresses: BTreeSet<_> =
        snapshot.ports.values().flat_map(|port| &port.fixed_ips).map(|ip| ip.address).collect();
    assert_eq!(addresses.len(), 100);
    assert_eq!(free_address(&snapshot, blue, &pools, &mut rand::rng()), Err(Exhausted));
}

#[test]
fn a_pool_up_to_the_last_address_of_ipv4_does_not_overflow() {
    let store = Store::open(None).unwrap();
    let blue = network(1).id;
    let pools = [pool([255, 255, 255, 255], [255, 255, 255, 255])];
    let mut rng = StdRng::seed_from_u64(1);
    let address = free_address(&store.snapshot(), blue, &pools, &mut rng).unwrap();
    put(&store, port(blue, address, 1));
    assert_eq!(free_address(&store.snapshot(), blue, &pools, &mut rng), Err(Exhausted));
}

#[test]
fn vnis_rest_after_use_and_gaps_are_found_at_the_end() {
    let store = Store::open(None).unwrap();
    let range = VniRange { first: Vni::new(1).unwrap(), last: Vni::new(3).unwrap() };
    let mut networks = Vec::new();
    for want in 1..=3 {
        let vni = free_vni(&store.snapshot(), range).unwrap();
        assert_eq!(vni.get(), want);
        networks.push(network(vni.get()));
        put(&store, networks.last().unwrap().clone());
    }
    assert_eq!(free_vni(&store.snapshot(), range), Err(Exhausted));
    remove::<Network>(&store, networks[1].id);
    assert_eq!(free_vni(&store.snapshot(), range).unwrap().get(), 2);
}

#[test]
fn blocks_stay_above_the_system_ports_and_inside_the_port_space() {
    let table = [(64, 1024, 1008), (1024, 1024, 63), (2048, 1024, 32), (4096, 1024, 16)];
    for (size, first, count) in table {
        let starts: Vec<u16> = block_starts(size).collect();
        assert_eq!((starts[0], starts.len()), (first, count), "blocks of {size}");
        assert!(starts.iter().skip(1).all(|start| start % size == 0));
        assert_eq!(u32::from(*starts.last().unwrap()) + u32::from(size), 65536);
        let id = |first_port| model::slice::BlockId {
            external_network: NetworkId::MIN,
            address: [0, 0, 0, 0].into(),
            first_port,
        };
        let ports = starts.iter().map(|start| u32::from(id(*start).last_port(size) - start) + 1);
        assert_eq!(ports.sum::<u32>(), 65536 - 1024, "every port is in one");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any interleaving of taking and giving back addresses: what is given is inside the pools and free,
    /// and it is refused only when nothing is left.
    #[test]
    fn addresses_are_in_the_pool_and_unique(seed: u64, takes in proptest::collection::vec(any::<bool>(), 1..80)) {
        let mut rng = StdRng::seed_from_u64(seed);
        let store = Store::open(None).unwrap();
        let blue = network(1).id;
        let pools = [pool([10, 0, 0, 2], [10, 0, 0, 9]), pool([10, 0, 0, 20], [10, 0, 0, 27])];
        let mut held: Vec<Port> = Vec::new();
        for (i, take) in takes.into_iter().enumerate() {
            if !take {
                if let Some(port) = held.pop() {
                    remove::<Port>(&store, port.id);
                }
                continue;
            }
            match free_address(&store.snapshot(), blue, &pools, &mut rng) {
                Ok(address) => {
                    prop_assert!(pools.iter().any(|pool| (pool.start..=pool.end).contains(&address)));
                    prop_assert!(held.iter().all(|port| port.fixed_ips[0].address != address));
                    let port = port(blue, address, u32::try_from(i).unwrap());
                    put(&store, port.clone());
                    held.push(port);
                }
                Err(Exhausted) => prop_assert_eq!(held.len(), 16),
            }
        }
    }

    /// Blocks of two addresses: never twice, all of them, and evenly over the addresses.
    #[test]
    fn blocks_are_unique_and_complete(seed: u64, size in prop_oneof![Just(512u16), Just(1024), Just(4096)]) {
        let mut rng = StdRng::seed_from_u64(seed);
        let store = Store::open(None).unwrap();
        let external_network = NetworkId::random();
        let addresses = [Ipv4Addr::new(172, 22, 7, 27), Ipv4Addr::new(172, 22, 7, 28)];
        let (router, host) = (RouterId::random(), HostId::random());
        let all = 2 * block_starts(size).count();
        let mut seen = BTreeSet::new();
        for taken in 0..all {
            let snapshot = store.snapshot();
            let id = free_block(&snapshot, external_network, &addresses, size, &mut rng).unwrap();
            prop_assert!(seen.insert(id));
            let block = PortBlock {
                external_network, address: id.address, first_port: id.first_port, router, host, granted_at_ms: 0,
                retiring_since_ms: None,
            };
            put(&store, block);
            let counts = addresses.map(|a| store.snapshot().blocks_of_address(external_network, a).count());
            prop_assert!(counts[0].abs_diff(counts[1]) <= 1, "after {taken}: {counts:?}");
        }
        let left = free_block(&store.snapshot(), external_network, &addresses, size, &mut rng);
        prop_assert_eq!(left, Err(Exhausted));
        prop_assert_eq!(store.snapshot().blocks_of_router(router).count(), all);
        prop_assert_eq!(store.snapshot().blocks_of_host(host).count(), all);
    }

    /// Indexes after any changes are what loading the records afresh would build.
    #[test]
    fn indexes_follow_the_records(changes in proptest::collection::vec((0..6usize, 0..12u8, 0..3u8), 1..60)) {
        let store = Store::open(None).unwrap();
        let blue = network(1).id;
        let ids: Vec<PortId> = (0..6).map(|_| PortId::random()).collect();
        for (which, address, change) in changes {
            store.transact(|tx| {
                if change == 0 {
                    tx.remove::<Port>(ids[which]);
                } else {
                    let mut port = port(blue, [10, 0, change, address].into(), u32::from(address));
                    port.id = ids[which];
                    if tx.port_by_mac(blue, port.mac).is_none() {
                        tx.put(port);
                    }
                }
                Ok::<_, StoreError>(())
            }).unwrap();
        }
        let snapshot = store.snapshot();
        let mut fresh = Snapshot::new(snapshot.cluster_id);
        for port in snapshot.ports.values() {
            fresh.insert(Port::clone(port));
        }
        prop_assert_eq!(&snapshot.indexes, &fresh.indexes);
    }
}
