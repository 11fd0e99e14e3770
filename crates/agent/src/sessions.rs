//! Sessions as rows for people: one per connection, both directions and their NAT.

use dataplane::SessionRow;
use packet::ipv4;
use pipeline::Address;
use pipeline::session::{Path, Session, SessionKey};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A row of `nanboku sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) host: String,
    pub(crate) network: String,
    pub(crate) protocol: String,
    /// As the one who opened the connection sent it.
    pub(crate) src: String,
    pub(crate) dst: String,
    /// As the other end sees it; the same as `src` and `dst` where nothing is translated.
    pub(crate) translated_src: String,
    pub(crate) translated_dst: String,
    pub(crate) nat: &'static str,
    pub(crate) state: &'static str,
    pub(crate) age_ms: u64,
    pub(crate) idle_ms: u64,
    pub(crate) forward_packets: u64,
    pub(crate) forward_bytes: u64,
    pub(crate) reply_packets: u64,
    pub(crate) reply_bytes: u64,
    /// Where packets of each direction go from here; empty before the first.
    pub(crate) forward_output: String,
    pub(crate) reply_output: String,
}

/// What rows are told in.
pub(crate) struct Names<'a> {
    pub(crate) host: &'a str,
    /// By VNI.
    pub(crate) networks: &'a BTreeMap<u32, String>,
    /// By ifindex.
    pub(crate) links: &'a BTreeMap<u32, String>,
}

/// The first `rows_max` sessions as a JSON array.
pub(crate) fn to_json(
    sessions: impl Iterator<Item = SessionRow>,
    names: &Names<'_>,
    now_ns: u64,
    rows_max: usize,
) -> Result<Vec<u8>, serde_json::Error> {
    let rows: Vec<Row> = sessions.take(rows_max).map(|session| row(&session, names, now_ns)).collect();
    serde_json::to_vec(&rows)
}

/// Does the outside see the session's sender, translated, as that address and port?
pub(crate) fn is_seen_as(session: &SessionRow, (address, port): (Ipv4Addr, u16)) -> bool {
    let translated = session.flags & (Session::NAT_SNAT | Session::NAT_FLOATING_SRC) != 0;
    translated && session.reply.dst == address.into() && session.reply.dst_port == port
}

fn row(session: &SessionRow, names: &Names<'_>, now_ns: u64) -> Row {
    let SessionRow { key, reply, .. } = session;
    let [forward, back] = &session.paths;
    let ([forward_packets, reply_packets], [forward_bytes, reply_bytes]) = (session.packets, session.bytes);
    let ms_since = |then_ns: u64| now_ns.saturating_sub(then_ns) / 1_000_000;
    Row {
        host: names.host.to_owned(),
        network: network(key.vni, names),
        protocol: protocol(key.protocol),
        src: endpoint(key, key.src, key.src_port),
        dst: endpoint(key, key.dst, key.dst_port),
        translated_src: endpoint(reply, reply.dst, reply.dst_port),
        translated_dst: endpoint(reply, reply.src, reply.src_port),
        nat: nat(session.flags),
        state: session.state().name(),
        age_ms: ms_since(session.created_ns),
        idle_ms: ms_since(session.last_ns),
        forward_packets,
        forward_bytes,
        reply_packets,
        reply_bytes,
        forward_output: output(forward, names),
        reply_output: output(back, names),
    }
}

fn network(vni: u32, names: &Names<'_>) -> String {
    names.networks.get(&vni).cloned().unwrap_or_else(|| format!("VNI {vni}"))
}

fn protocol(number: u8) -> String {
    match number {
        ipv4::PROTOCOL_ICMP => "icmp".to_owned(),
        ipv4::PROTOCOL_TCP => "tcp".to_owned(),
        ipv4::PROTOCOL_UDP => "udp".to_owned(),
        other => other.to_string(),
    }
}

/// ICMP has an identifier in place of ports.
fn endpoint(key: &SessionKey, address: Address, port: u16) -> String {
    match key.protocol {
        ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_UDP => format!("{address}:{port}"),
        ipv4::PROTOCOL_ICMP => format!("{address} id {port}"),
        _ => address.to_string(),
    }
}

fn nat(flags: u32) -> &'static str {
    let has = |flag| flags & flag != 0;
    match (has(Session::NAT_SNAT), has(Session::NAT_FLOATING_SRC), has(Session::NAT_FLOATING_DST)) {
        (true, _, true) => "snat+dnat",
        (true, _, false) => "snat",
        (false, true, true) => "floating+dnat",
        (false, true, false) => "floating",
        (false, false, true) => "dnat",
        (false, false, false) => "",
    }
}

fn output(path: &Path, names: &Names<'_>) -> String {
    let link = || names.links.get(&path.ifindex).cloned().unwrap_or_else(|| format!("link {}", path.ifindex));
    match path.output {
        Path::OUT_PORT => format!("port {}", link()),
        Path::OUT_TUNNEL => format!("tunnel {} vni {}", path.vtep, path.vni),
        Path::OUT_UPLINK if path.vlan != 0 => format!("uplink {} vlan {}", link(), path.vlan),
        Path::OUT_UPLINK => format!("uplink {}", link()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translated_connection_is_one_row_with_both_sides() {
        let key = SessionKey {
            vni: 101,
            src: Address::v4([192, 168, 10, 11]),
            dst: Address::v4([8, 8, 8, 8]),
            src_port: 40000,
            dst_port: 53,
            protocol: ipv4::PROTOCOL_UDP,
            zero: [0; 3],
        };
        let reply = SessionKey {
            vni: 201,
            src: key.dst,
            dst: Address::v4([172, 22, 7, 27]),
            src_port: 53,
            dst_port: 2047,
            ..key
        };
        let forward = Path { output: Path::OUT_UPLINK, ifindex: 3, vlan: 2207, ..Path::default() };
        let back = Path { output: Path::OUT_PORT, ifindex: 11, ..Path::default() };
        let session = SessionRow {
            key,
            reply,
            flags: Session::NAT_SNAT,
            created_ns: 1_000_000_000,
            last_ns: 3_000_000_000,
            packets: [2, 1],
            bytes: [120, 60],
            seen: 0x0101,
            router_vni: 301,
            external_vni: 201,
            paths: [forward, back],
        };
        let networks = BTreeMap::from([(101, "blue".to_owned())]);
        let links = BTreeMap::from([(3, "uplink0".to_owned()), (11, "tap1".to_owned())]);
        let names = Names { host: "ahv01", networks: &networks, links: &links };
        let json = to_json([session, session].into_iter(), &names, 4_000_000_000, 1).unwrap();
        let want = r#"[{"host":"ahv01","network":"blue","protocol":"udp","src":"192.168.10.11:40000","dst":"8.8.8.8:53","translated_src":"172.22.7.27:2047","translated_dst":"8.8.8.8:53","nat":"snat","state":"active","age_ms":3000,"idle_ms":1000,"forward_packets":2,"forward_bytes":120,"reply_packets":1,"reply_bytes":60,"forward_output":"uplink uplink0 vlan 2207","reply_output":"port tap1"}]"#;
        assert_eq!(String::from_utf8(json).unwrap(), want);
        let outside = Ipv4Addr::new(172, 22, 7, 27);
        assert!(is_seen_as(&session, (outside, 2047)));
        assert!(!is_seen_as(&session, (outside, 2048)));
        assert!(!is_seen_as(&SessionRow { flags: 0, ..session }, (outside, 2047)), "not translated");
    }
}
