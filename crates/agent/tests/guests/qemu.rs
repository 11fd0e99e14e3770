//! A real guest: Debian's kernel in QEMU without KVM, a virtio NIC on a tap with the port's name, started as
//! `docs/guests.md` says. It gets its addresses by DHCP and SLAAC, reaches a neighbour and the outside by both versions,
//! fetches metadata, and sends and takes TCP in super-packets.

use super::ipv6::{AUTOMATIC, add_ipv6, add_outside6, guest};
use super::metadata::{configured, endpoint, overlap};
use crate::common::{Bench, GATEWAY, Vm, port_id, wait_for, wait_for_within};
use model::resource::Ipv6Mode;
use netlink::PacketSocket;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const MIB: usize = 1 << 20;
const TRANSFER_MIB: usize = 24;
/// Without KVM and with other work on two processors; some ten seconds alone.
const BOOT_WAIT: Duration = Duration::from_secs(150);
/// No Ethernet carries it: a frame of this size is a super-packet. TCP sizes what it sends by its pace, so a slow
/// guest stays below the possible 64 KiB.
const SUPER: usize = 16 << 10;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The commands of the documentation: its block of shell with QEMU in it.
fn documented() -> String {
    let text = std::fs::read_to_string(project().join("docs/guests.md")).unwrap();
    let mut blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks
        .find(|block| block.contains("qemu-system"))
        .expect("a block with QEMU in docs/guests.md")
        .to_owned()
}

/// What runs in the background, and ends with the test.
struct Guest {
    process: Child,
    console: PathBuf,
}

impl Guest {
    fn boot(bench: &Bench, ask: &str) -> Self {
        let console = bench.directory().join("console");
        let out = std::fs::File::create(&console).unwrap();
        let err = out.try_clone().unwrap();
        let image = project().join("target/guest");
        assert!(image.join("vmlinuz").exists(), "no guest in {}: run scripts/setup --test", image.display());
        let mut command = Command::new("sh");
        command.args(["-ec", &documented()]).stdin(Stdio::null()).stdout(out).stderr(err);
        command.env("TAP", port_id(1).link_name()).env("MAC", "fa:16:3e:00:00:01");
        command.env("KERNEL", image.join("vmlinuz")).env("INITRAMFS", image.join("initramfs.gz"));
        command.env("ACCEL", "tcg").env("APPEND", format!("console=ttyS0 quiet panic=-1 {ask}"));
        let process = bench.host.run(|| command.spawn()).unwrap().unwrap();
        Self { process, console }
    }

    /// The guest's own lines.
    fn said(&self) -> Vec<String> {
        let text = std::fs::read(&self.console).unwrap();
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        text.lines().filter_map(|line| Some(line.split_once("guest: ")?.1.to_owned())).collect()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The shell has become QEMU, which may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Takes what is sent to port 5001 and sends as much from port 5002. How much it took.
fn peer(vm: &Vm) -> Arc<AtomicUsize> {
    let taken = Arc::new(AtomicUsize::new(0));
    let listen = |port| vm.0.run(|| TcpListener::bind(("0.0.0.0", port)).unwrap()).unwrap();
    let (sink, source) = (listen(5001), listen(5002));
    let count = Arc::clone(&taken);
    // Both end with the process.
    std::thread::spawn(move || {
        let (mut stream, _) = sink.accept().unwrap();
        let mut buffer = vec![0; MIB];
        while let Ok(len) = stream.read(&mut buffer).map(|len| len.min(buffer.len())) {
            if len == 0 {
                break;
            }
            count.fetch_add(len, Ordering::Relaxed);
        }
    });
    std::thread::spawn(move || {
        let (mut stream, _) = source.accept().unwrap();
        let data = vec![0; MIB];
        // A guest that goes early is seen by what it says.
        let _ = (0..TRANSFER_MIB).try_for_each(|_| stream.write_all(&data));
    });
    taken
}

/// The largest frames on a link, from its guest and to it.
#[derive(Default)]
struct Largest {
    from_guest: AtomicUsize,
    to_guest: AtomicUsize,
    end: AtomicBool,
}

fn watch(bench: &Bench, link: &str, guest_mac: [u8; 6]) -> (Arc<Largest>, std::thread::JoinHandle<()>) {
    let open = || {
        let socket = PacketSocket::open().unwrap();
        let ifindex = nix::net::if_::if_nametoindex(link).unwrap();
        socket.listen(ifindex, Duration::from_millis(200)).unwrap();
        socket
    };
    let socket = bench.host.run(open).unwrap();
    let largest = Arc::new(Largest::default());
    let seen = Arc::clone(&largest);
    let thread = std::thread::spawn(move || {
        let mut buffer = vec![0; 80 << 10];
        while !seen.end.load(Ordering::Relaxed) {
            let Ok(Some(received)) = socket.receive(&mut buffer) else { continue };
            let from_guest = buffer[6..12] == guest_mac;
            let largest = if from_guest { &seen.from_guest } else { &seen.to_guest };
            largest.fetch_max(received.len, Ordering::Relaxed);
        }
    });
    (largest, thread)
}

#[test]
fn a_guest_boots_and_uses_everything() {
    let mut bench = Bench::new("qemu");
    bench.ip("link set lo up");
    bench.change_slice(overlap);
    bench.change_slice(|slice| add_ipv6(slice, Ipv6Mode::Slaac, AUTOMATIC));
    let gateway6 = add_outside6(&mut bench);
    let (port, _told) = endpoint(&bench);
    bench.start_with(configured(&bench, port));
    let vm = guest(&bench, "b", 2);
    let taken = peer(&vm);

    let url = "http://169.254.169.254/latest";
    let ask = format!(
        "slaac=yes ping=192.168.10.12,{GATEWAY},{},{gateway6} fetch={url} send=192.168.10.12:5001 \
         take=192.168.10.12:5002 mib={TRANSFER_MIB}",
        AUTOMATIC[1]
    );
    let mut guest = Guest::boot(&bench, &ask);
    let tap = port_id(1).link_name();
    wait_for("the tap", || bench.links().contains(&tap).then_some(()));
    let (largest, thread) = watch(&bench, &tap, [0xfa, 0x16, 0x3e, 0, 0, 1]);
    wait_for_within(BOOT_WAIT, || "the guest's end".to_owned(), || guest.process.try_wait().unwrap());
    let console = String::from_utf8_lossy(&std::fs::read(&guest.console).unwrap()).into_owned();
    largest.end.store(true, Ordering::Relaxed);
    thread.join().unwrap();

    let want = [
        "dhcp ip=192.168.10.11 subnet=255.255.255.0 mtu=1450 dns=9.9.9.9 lease=86400 server=169.254.169.254"
            .to_owned(),
        format!("slaac={}", AUTOMATIC[0]),
        "ping=192.168.10.12 ok".to_owned(),
        format!("ping={GATEWAY} ok"),
        format!("ping={} ok", AUTOMATIC[1]),
        format!("ping={gateway6} ok"),
        format!("fetch={url} 192.168.10.11 is vm-blue"),
        "send=192.168.10.12:5001 ok".to_owned(),
        format!("take=192.168.10.12:5002 {}", TRANSFER_MIB * MIB),
        "done".to_owned(),
    ];
    assert_eq!(guest.said(), want, "{:?}\n{console}", bench.status().counters);
    // Also a NIC that takes no other multicast hears who asks for the router.
    let groups = bench.host.run(|| Command::new("ip").args(["maddr", "show", "dev", "uplink0"]).output());
    let groups = String::from_utf8_lossy(&groups.unwrap().unwrap().stdout).into_owned();
    assert!(groups.contains("33:33:ff:00:00:27"), "{groups}");
    assert_eq!(taken.load(Ordering::Relaxed), TRANSFER_MIB * MIB);
    let (from_guest, to_guest) =
        (largest.from_guest.load(Ordering::Relaxed), largest.to_guest.load(Ordering::Relaxed));
    assert!(from_guest > SUPER && to_guest > SUPER, "largest frames: {from_guest} from it, {to_guest} to it");
}
