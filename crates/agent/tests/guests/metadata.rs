//! Metadata: two VMs of different VPCs with equal addresses ask at once, and each gets what is its own.

use crate::common::{Bench, id, port_id, wait_for};
use agent::config::Config;
use agent::metadata::Settings;
use model::slice::{Guest, Network, Object, Port, Slice};
use model::{Mac, NetworkId};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

const SECRET: &str = "squeamish ossifrage";
const GREEN: u128 = 40;
/// As `echo -n vm-blue | openssl dgst -sha256 -hmac 'squeamish ossifrage'` and likewise for vm-green print them.
const SIGNATURES: [(&str, &str); 2] = [
    ("vm-blue", "ec5a11e21a74ae62937840ac39204e1f9c538138a1d41924542e8aed82e3f9a1"),
    ("vm-green", "53fee53f4ca61052445d62b90a95785f47a1412151db721677a051ba80f767af"),
];

/// A compute service: answers every request with its own headers, and tells the test of it.
pub(super) fn endpoint(bench: &Bench) -> (u16, mpsc::Receiver<BTreeMap<String, String>>) {
    let listener = bench.host.run(|| TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel();
    // Ends with the process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if tell.send(exchange(stream.unwrap())).is_err() {
                return;
            }
        }
    });
    (port, told)
}

/// The request line as `request`, and the headers in lower case; one that comes twice is joined.
fn exchange(stream: TcpStream) -> BTreeMap<String, String> {
    let mut reader = BufReader::new(stream);
    let mut said = BTreeMap::new();
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    said.insert("request".to_owned(), line.trim().to_owned());
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        let entry: &mut String = said.entry(name.to_ascii_lowercase()).or_default();
        entry.push_str(value);
    }
    let len = said.get("content-length").map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    reader.read_exact(&mut body).unwrap();
    said.insert("body".to_owned(), String::from_utf8(body).unwrap());
    let answer = format!("{} is {}\n", said["x-forwarded-for"], said["x-instance-id"]);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
    reader.get_mut().write_all(&[head.as_bytes(), answer.as_bytes()].concat()).unwrap();
    said
}

/// A network of another VPC with the same prefix, and on it a port with the address of the first.
pub(super) fn overlap(slice: &mut Slice) {
    let blue = slice.ports.get_mut(&port_id(1)).unwrap();
    let guest = |project: &str, device: &str| Guest {
        project_id: project.to_owned(),
        device_id: device.to_owned(),
        dhcp_options: Vec::new(),
        dhcp6_options: Vec::new(),
    };
    blue.guest = Some(guest("project-blue", "vm-blue"));
    let green = NetworkId::from_uuid(id(GREEN));
    let port = Port {
        network: green,
        mac: Mac([0xfa, 0x16, 0x3e, 0, 9, 1]),
        guest: Some(guest("project-green", "vm-green")),
        ..blue.clone()
    };
    let network = slice.networks.values().next().unwrap().clone();
    let vni = model::Vni::new(102).unwrap();
    slice.upsert(Object::Network(green, Network { vni, name: "green".to_owned(), ..network }));
    slice.upsert(Object::Port(port_id(9), port));
}

pub(super) fn configured(bench: &Bench, port: u16) -> Config {
    let shared_secret_file = bench.directory().join("secret");
    std::fs::write(&shared_secret_file, format!("{SECRET}\n")).unwrap();
    let endpoint = format!("http://127.0.0.1:{port}").parse().unwrap();
    Config { metadata: Some(Settings { endpoint, shared_secret_file }), ..bench.config() }
}

#[test]
fn vms_with_equal_addresses_get_their_own_metadata() {
    let mut bench = Bench::new("meta");
    bench.ip("link set lo up");
    bench.change_slice(overlap);
    let (port, told) = endpoint(&bench);
    bench.start_with(configured(&bench, port));
    let (blue, green) = (bench.vm("blue"), bench.vm("green"));
    bench.plug(1, &blue).unwrap();
    bench.plug(9, &green).unwrap();
    let ask = "curl -sS -m 10 -H X-Instance-ID:stolen -H X-Tenant-ID:stolen -H X-Forwarded-For:1.2.3.4 \
               -H X-Mine:kept -d hello http://169.254.169.254/openstack/latest?x=y";
    // A client goes through its router, or believes the address to be on its link; the green network has no router.
    for (vm, (instance, signature), project, network, ways) in [
        (&blue, SIGNATURES[0], "project-blue", id(2), &["via 192.168.10.1", "scope link"][..]),
        (&green, SIGNATURES[1], "project-green", id(GREEN), &["scope link"]),
    ] {
        for way in ways {
            vm.run(&format!("ip route replace 169.254.169.254 dev eth0 {way}"));
            let got = vm.run(ask);
            assert_eq!(got, format!("192.168.10.11 is {instance}\n"), "{way}: {:?}", bench.status().counters);
            let said = told.recv().unwrap();
            let want = [
                ("request", "POST /openstack/latest?x=y HTTP/1.1"),
                ("body", "hello"),
                ("host", &format!("127.0.0.1:{port}")),
                ("x-forwarded-for", "192.168.10.11"),
                ("x-instance-id", instance),
                ("x-instance-id-signature", signature),
                ("x-tenant-id", project),
                ("x-neutron-network-id", &network.to_string()),
                ("x-mine", "kept"),
            ];
            for (name, value) in want {
                assert_eq!(said.get(name).map(String::as_str), Some(value), "{name}: {said:?}");
            }
        }
    }
    assert!(!blue.reaches("169.254.169.254"), "TCP port 80 and nothing else");
    let counters = bench.status().counters;
    assert_eq!(counters["agent.metadata-answered"], 3, "{counters:?}");
    assert!(counters["drop.switch.not-served"] > 0, "{counters:?}");

    bench.ip("link del nbk-service");
    wait_for("metadata after the link was deleted", || {
        (green.run("curl -sS -m 2 http://169.254.169.254/") == "192.168.10.11 is vm-green\n").then_some(())
    });

    bench.kill();
    bench.start_with(configured(&bench, port));
    wait_for("metadata of the next agent", || {
        (blue.run("curl -sS -m 2 http://169.254.169.254/") == "192.168.10.11 is vm-blue\n").then_some(())
    });
    bench.kill();
    bench.start();
    assert!(!bench.links().contains("nbk-service"), "{}", bench.links());
    assert_eq!(blue.run("curl -sS -m 2 http://169.254.169.254/"), "", "off when not configured");
}
