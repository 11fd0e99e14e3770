//! The whole crate against the real kernel, in namespaces of its own prefix. Needs root.

use netlink::{
    LinkEvent, LinkWatch, Links, MacAddr, Netns, Offloads, PacketSocket, Route, Tap, TapOptions,
    TunnelDevice, TunnelKind, Veth, VethPeer, set_offloads,
};
use std::net::UdpSocket;
use std::time::Duration;

/// A namespace that is deleted when the test ends, however it ends.
struct Scratch(Netns);

impl Scratch {
    fn new(title: &str) -> Self {
        let name = format!("nbk-nltest-{}-{title}", std::process::id());
        Self(Netns::create(&name).expect("create a namespace (root needed)"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(Netns::delete(self.0.name()));
    }
}

const MAC_A: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 0xa]);
const MAC_B: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 0xb]);

async fn pair(a: &Netns, b: &Netns) -> (Links, Links) {
    let (links_a, links_b) = (Links::connect_in(a).unwrap(), Links::connect_in(b).unwrap());
    let peer = VethPeer { name: "right", mac: Some(MAC_B), netns: Some(b) };
    links_a.add_veth(&Veth { name: "left", mac: Some(MAC_A), mtu: Some(1600), peer }).await.unwrap();
    (links_a, links_b)
}

#[tokio::test]
async fn root_a_namespace_is_made_found_and_deleted() {
    let name = format!("nbk-nltest-{}-life", std::process::id());
    let netns = Netns::create(&name).unwrap();
    assert!(Netns::names().contains(&name));
    assert!(Netns::create(&name).unwrap_err().is_exists(), "a second one of that name is refused");
    let inside = Links::connect_in(&netns).unwrap().list().await.unwrap();
    assert_eq!(inside.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["lo"]);
    assert!(inside[0].up && inside[0].loopback);
    Netns::delete(&name).unwrap();
    assert!(!Netns::names().contains(&name));
    Netns::delete(&name).expect("deleting what is gone is no error");
    assert!(Netns::open(&name).unwrap_err().is_gone());
}

#[tokio::test]
async fn root_packets_cross_a_veth_pair_between_namespaces() {
    let (a, b) = (Scratch::new("a"), Scratch::new("b"));
    let (links_a, links_b) = pair(&a.0, &b.0).await;
    let (left, right) = (links_a.get("left").await.unwrap(), links_b.get("right").await.unwrap());
    assert_eq!((left.mac, left.mtu, left.kind.as_str(), left.up), (MAC_A, 1600, "veth", false));
    assert_eq!((right.mac, right.mtu), (MAC_B, 1600));
    for (links, link, address) in [(&links_a, &left, "192.0.2.1/24"), (&links_b, &right, "198.51.100.1/24")] {
        links.add_address(link.index, address.parse().unwrap()).await.unwrap();
        links.set_up(link.index).await.unwrap();
    }
    let on_link =
        Route { destination: "192.0.2.0/24".parse().unwrap(), gateway: None, link: Some(right.index) };
    links_b.add_route(&on_link).await.unwrap();
    let default = Route {
        destination: "0.0.0.0/0".parse().unwrap(),
        gateway: Some("192.0.2.9".parse().unwrap()),
        link: None,
    };
    links_a.add_route(&default).await.unwrap();
    links_a.add_neighbor(left.index, "192.0.2.9".parse().unwrap(), MAC_B).await.unwrap();
    assert_eq!(links_a.addresses(left.index).await.unwrap(), ["192.0.2.1/24".parse().unwrap()]);

    let receiver = b.0.run(|| UdpSocket::bind("198.51.100.1:7").unwrap()).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let sender = a.0.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    let mut buffer = [0; 16];
    // The kernel lets packets through some time after both ends are up.
    let received = (0..100).find_map(|_| {
        sender.send_to(b"through", "198.51.100.1:7").unwrap();
        receiver.recv_from(&mut buffer).ok()
    });
    let (length, from) = received.expect("10 s without one of 100 datagrams");
    assert_eq!((&buffer[..length], from.ip().to_string().as_str()), (&b"through"[..], "192.0.2.1"));
}

#[tokio::test]
async fn root_a_raw_frame_arrives_with_its_vlan_tag() {
    let (a, b) = (Scratch::new("ra"), Scratch::new("rb"));
    let (links_a, links_b) = pair(&a.0, &b.0).await;
    let (left, right) = (links_a.get("left").await.unwrap(), links_b.get("right").await.unwrap());
    links_a.set_up(left.index).await.unwrap();
    links_b.set_up(right.index).await.unwrap();
    let listener = b.0.run(|| PacketSocket::open().unwrap()).unwrap();
    listener.listen(right.index, Duration::from_secs(2)).unwrap();
    let mut frame = [0x55; 64];
    frame[..6].copy_from_slice(&MAC_B.0);
    frame[6..12].copy_from_slice(&MAC_A.0);
    frame[12..18].copy_from_slice(&[0x81, 0x00, 0x08, 0x9f, 0x88, 0xb5]);
    a.0.run(|| PacketSocket::open().unwrap().send(left.index, &frame).unwrap()).unwrap();
    let mut buffer = [0; 128];
    let seen = loop {
        let seen = listener.receive(&mut buffer).unwrap().expect("a frame within two seconds");
        if buffer[12..14] == [0x88, 0xb5] {
            break seen;
        }
    };
    assert_eq!((seen.len, seen.vlan_tci, seen.outgoing), (60, Some(2207), false));
}

#[tokio::test]
async fn root_links_change_and_the_watch_tells() {
    let (a, b) = (Scratch::new("wa"), Scratch::new("wb"));
    let mut watch = LinkWatch::open_in(&a.0).unwrap();
    let (links_a, links_b) = pair(&a.0, &b.0).await;
    links_a.add_bridge("br").await.unwrap();
    let (left, bridge) = (links_a.get("left").await.unwrap(), links_a.get("br").await.unwrap());
    assert_eq!(bridge.kind, "bridge");
    links_a.set_master(left.index, bridge.index).await.unwrap();
    links_a.set_mtu(left.index, 1700).await.unwrap();
    links_a.set_mac(left.index, MAC_B).await.unwrap();
    links_a.rename(left.index, "renamed").await.unwrap();
    links_a.set_up(left.index).await.unwrap();
    let changed = links_a.get_index(left.index).await.unwrap();
    let want = ("renamed", MAC_B, 1700, Some(bridge.index), true);
    assert_eq!((changed.name.as_str(), changed.mac, changed.mtu, changed.master, changed.up), want);
    links_a.set_port_isolated(left.index, true).await.unwrap();
    links_a.clear_master(left.index).await.unwrap();
    let free = links_a.get_index(left.index).await.unwrap();
    assert_eq!((free.master, free.up), (None, true));
    assert!(links_a.set_port_isolated(left.index, true).await.is_err(), "it is no port any more");
    links_a.set_down(left.index).await.unwrap();
    links_a.move_to(left.index, &b.0).await.unwrap();
    assert!(links_b.get("renamed").await.is_ok());
    assert!(links_a.get("renamed").await.unwrap_err().is_gone());
    links_a.delete(bridge.index).await.unwrap();

    let mut seen = Vec::new();
    loop {
        let event = tokio::time::timeout(Duration::from_secs(2), watch.next()).await;
        let event = event.unwrap_or_else(|_| panic!("no removal of the bridge in {seen:?}")).unwrap();
        seen.push(event.clone());
        if matches!(&event, LinkEvent::Removed(link) if link.name == "br") {
            break;
        }
    }
    assert!(seen.iter().any(|e| matches!(e, LinkEvent::Present(l) if l.name == "left")));
    assert!(seen.iter().any(|e| matches!(e, LinkEvent::Present(l) if l.name == "renamed" && l.up)));
    assert!(seen.iter().any(|e| matches!(e, LinkEvent::Removed(l) if l.index == left.index)));
}

#[tokio::test]
async fn root_tunnel_devices_are_made_or_named_unsupported() {
    let a = Scratch::new("tun");
    let links = Links::connect_in(&a.0).unwrap();
    let vxlan = TunnelDevice { name: "nbk-tunnel", kind: TunnelKind::Vxlan, port: 6081, mac: Some(MAC_A) };
    links.add_tunnel_device(&vxlan).await.unwrap();
    let made = links.get("nbk-tunnel").await.unwrap();
    assert_eq!((made.kind.as_str(), made.mac), ("vxlan", MAC_A));
    let geneve = TunnelDevice { name: "gnv", kind: TunnelKind::Geneve, port: 6082, mac: None };
    match links.add_tunnel_device(&geneve).await {
        Ok(()) => assert_eq!(links.get("gnv").await.unwrap().kind, "geneve"),
        Err(error) => assert_eq!(error.to_string(), "this kernel has no geneve devices"),
    }
}

#[tokio::test]
async fn root_a_tap_carries_frames_with_their_header() {
    let a = Scratch::new("tap");
    let links = Links::connect_in(&a.0).unwrap();
    let options = TapOptions { vnet_hdr: true, offloads: true };
    let tap = a.0.run(|| Tap::open("tap0", options).unwrap()).unwrap();
    let link = links.get("tap0").await.unwrap();
    assert_eq!(link.kind, "tun");
    links.set_up(link.index).await.unwrap();
    let mut frame = [0x77u8; netlink::VNET_HDR_LEN + 64];
    frame[..netlink::VNET_HDR_LEN].fill(0);
    frame[netlink::VNET_HDR_LEN..][12..14].copy_from_slice(&[0x88, 0xb5]);
    let listener = a.0.run(|| PacketSocket::open().unwrap()).unwrap();
    listener.listen(link.index, Duration::from_secs(2)).unwrap();
    assert_eq!(tap.write(&frame).unwrap(), frame.len());
    let mut buffer = [0; 256];
    loop {
        let seen = listener.receive(&mut buffer).unwrap().expect("the frame within two seconds");
        if buffer[12..14] == [0x88, 0xb5] {
            assert_eq!((seen.len, seen.outgoing), (64, false));
            break;
        }
    }
    drop(tap);
    assert!(links.get("tap0").await.unwrap_err().is_gone(), "the link ends with its file");
}

#[tokio::test]
async fn root_offloads_and_sysctls_are_set_in_the_namespace() {
    let (a, b) = (Scratch::new("oa"), Scratch::new("ob"));
    pair(&a.0, &b.0).await;
    let features = || {
        let shown = a.0.run(|| std::process::Command::new("ethtool").args(["-k", "left"]).output().unwrap());
        String::from_utf8(shown.unwrap().stdout).unwrap()
    };
    a.0.run(|| set_offloads("left", Offloads::OFF)).unwrap().unwrap();
    let off = features();
    for feature in ["tx-checksumming", "tx-tcp-segmentation", "generic-receive-offload"] {
        assert!(off.contains(&format!("{feature}: off")), "{feature} in {off}");
    }
    a.0.run(|| set_offloads("left", Offloads::ON)).unwrap().unwrap();
    assert!(features().contains("tx-tcp-segmentation: on"));
    assert!(a.0.run(|| set_offloads("absent", Offloads::ON)).unwrap().unwrap_err().is_gone());

    a.0.sysctl("net/ipv4/ip_forward", "1").unwrap();
    let read =
        |netns: &Netns| netns.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap());
    assert_eq!((read(&a.0).unwrap().trim(), read(&b.0).unwrap().trim()), ("1", "0"));
    assert!(a.0.sysctl("net/ipv4/no_such_key", "1").is_err());
}
