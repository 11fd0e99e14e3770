//! A host's tables in the kernel: only differences are written, they outlive the process, and a change that
//! broke off is finished by the next. Method: pinned tables in a directory of the test's own.

#[expect(dead_code, reason = "every test binary uses its part")]
mod common;

use common::Pins;
use dataplane::testrun::two_ports;
use dataplane::{Dataplane, Error, Settings, Sizes};
use pipeline::Address;
use pipeline::table_set::RoutePrefix;
use pipeline::tables::{Route, RouteKey, Vtep, VtepKey};

fn settings(pins: &Pins) -> Settings {
    Settings { pin_dir: pins.0.clone(), sizes: Sizes::SMALL }
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let pins = Pins::new("same");
    let mut dataplane = Dataplane::open(&settings(&pins)).unwrap();
    let mut tables = two_ports(5, 6);
    let prefix = RoutePrefix {
        len: RouteKey::lpm_len(Address::v4([10, 0, 0, 0]), 24),
        key: RouteKey::new(9, Address::v4([10, 0, 0, 0])),
    };
    tables.routes.insert(prefix, Route { kind: Route::CONNECTED, vni: 100, ..Route::default() });
    let first = dataplane.apply(&tables).unwrap();
    assert_eq!(first.epoch, 1);
    assert_eq!(first.changed, 11, "config, network, 2 x (port, address, station, neighbour), route");
    let again = dataplane.apply(&tables).unwrap();
    assert_eq!((again.changed, again.epoch), (0, 1));

    let mut read = dataplane.read_tables().unwrap();
    assert_eq!(read.config.epoch, 1);
    read.config.epoch = 0;
    assert_eq!(read, tables);
}

#[test]
fn the_next_process_finds_the_tables_and_changes_nothing() {
    let pins = Pins::new("next");
    let tables = two_ports(5, 6);
    let mut dataplane = Dataplane::open(&settings(&pins)).unwrap();
    let applied = dataplane.apply(&tables).unwrap();
    drop(dataplane);
    let mut dataplane = Dataplane::open(&settings(&pins)).unwrap();
    let again = dataplane.apply(&tables).unwrap();
    assert_eq!((again.changed, again.epoch), (0, applied.epoch));
}

#[test]
fn every_change_has_its_epoch_and_what_is_gone_is_removed() {
    let pins = Pins::new("change");
    let mut dataplane = Dataplane::open(&settings(&pins)).unwrap();
    dataplane.apply(&two_ports(5, 6)).unwrap();
    let moved = dataplane.apply(&two_ports(5, 7)).unwrap();
    assert_eq!(moved.epoch, 2);
    // Port, its address and its station under the new index; the old port and address removed.
    assert_eq!(moved.changed, 5);
    let mut read = dataplane.read_tables().unwrap();
    read.config.epoch = 0;
    assert_eq!(read, two_ports(5, 7));
    assert_eq!(dataplane.port_counters().unwrap().keys().copied().collect::<Vec<_>>(), [5, 7]);
    assert_eq!(dataplane.apply(&Default::default()).unwrap().epoch, 3);
    let mut read = dataplane.read_tables().unwrap();
    read.config.epoch = 0;
    assert_eq!(read, Default::default());
}

#[test]
fn a_change_that_broke_off_is_finished_in_a_new_epoch() {
    let pins = Pins::new("broken");
    let mut small = settings(&pins);
    small.sizes.neighbors = 2;
    let mut dataplane = Dataplane::open(&small).unwrap();
    let two = two_ports(5, 6);
    dataplane.apply(&two).unwrap();
    let mut three = two.clone();
    three.vteps.insert(VtepKey { address: Address::v4([192, 0, 2, 1]) }, Vtep::default());
    let neighbor = *two.neighbors.first_key_value().unwrap().1;
    for last in 3..40 {
        let key = pipeline::tables::NeighborKey { vni: 100, address: Address::v4([10, 0, 0, last]) };
        three.neighbors.insert(key, neighbor);
    }
    let error = dataplane.apply(&three).unwrap_err();
    assert!(matches!(error, Error::TableFull("neighbors")), "{error}");
    drop(dataplane);
    let mut dataplane = Dataplane::open(&small).unwrap();
    let healed = dataplane.apply(&two).unwrap();
    assert_eq!(healed.epoch, 2, "the host vtep and neighbours of the broken change are gone again");
    assert!(healed.changed > 0);
    drop(dataplane);

    // Broken off before the first entry: nothing to change, and yet walks may have met both sides.
    let mut dataplane = Dataplane::open(&small).unwrap();
    let quiet = dataplane.apply(&two).unwrap();
    assert_eq!((quiet.changed, quiet.epoch), (0, 2));
}

#[test]
fn tables_of_another_layout_are_refused_with_the_place() {
    let pins = Pins::new("layout");
    drop(Dataplane::open(&settings(&pins)).unwrap());
    let table = pins.0.join("v1/ports");
    std::fs::remove_file(&table).unwrap();
    std::fs::rename(pins.0.join("v1/networks"), &table).unwrap();
    let error = Dataplane::open(&settings(&pins)).unwrap_err();
    assert!(matches!(error, Error::PinnedLayout { table: "ports", .. }), "{error}");
    assert!(error.to_string().contains("v1"), "{error}");
}

#[test]
fn a_pin_directory_elsewhere_is_refused() {
    let settings = Settings { pin_dir: "/tmp/nanboku-no-bpffs".into(), sizes: Sizes::SMALL };
    let error = Dataplane::open(&settings).unwrap_err();
    assert!(matches!(error, Error::Bpffs { .. }), "{error}");
    assert!(!std::path::Path::new("/tmp/nanboku-no-bpffs").exists());
}

#[test]
fn without_privileges_the_error_says_so() {
    let pins = Pins::new("privileges");
    let settings = settings(&pins);
    let as_nobody = || {
        // SAFETY: no pointers. The raw call changes this thread alone, which ends here.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        Dataplane::open(&settings).unwrap_err()
    };
    let error = std::thread::scope(|scope| scope.spawn(as_nobody).join()).unwrap();
    assert!(matches!(error, Error::Privileges(_)), "{error}");
    assert!(error.to_string().contains("root"), "{error}");
}

/// In a mount namespace of the test's own, in which nothing is mounted there yet.
#[test]
fn the_bpf_file_system_is_mounted_once_if_it_is_missing() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let pins = Pins::new("mount");
    let settings = settings(&pins);
    let in_own_namespace = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        while umount2("/sys/fs/bpf", MntFlags::MNT_DETACH).is_ok() {}
        let mut dataplane = Dataplane::open(&settings).unwrap();
        dataplane.apply(&two_ports(5, 6)).unwrap();
        drop(dataplane);
        let again = Dataplane::open(&settings).unwrap().apply(&two_ports(5, 6)).unwrap();
        assert_eq!(again.changed, 0, "the same file system as before");
        let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
        assert_eq!(mounts.lines().filter(|line| line.contains(" /sys/fs/bpf bpf ")).count(), 1);
    };
    std::thread::scope(|scope| scope.spawn(in_own_namespace).join()).unwrap();
    assert!(!pins.0.exists(), "it was another mount namespace's");
}
