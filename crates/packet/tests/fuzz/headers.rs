//! Every header view over arbitrary bytes. Shared by `fuzz/` and by `replay.rs`, which runs it on every input
//! that once found something.

use packet::zerocopy::{FromBytes, Immutable, IntoBytes};
use packet::{MacAddr, arp, checksum, ethernet, geneve, icmp, ipv4, ipv6, nd, tcp, udp, vxlan};

/// Reads every header at every offset of `data`, asks it all its questions, and writes it back.
pub(crate) fn run(data: &[u8]) {
    for offset in 0..=data.len() {
        same::<ethernet::Header, { ethernet::LEN }>(data, offset, |header| {
            let text = header.dst.to_string();
            assert_eq!(text.parse(), Ok(header.dst));
            let _ = (header.src.is_multicast(), header.src.is_zero());
        });
        same::<arp::Header, { arp::LEN }>(data, offset, |header| {
            let _ = header.is_ethernet_ipv4();
        });
        same::<ipv4::Header, { ipv4::LEN }>(data, offset, |header| {
            assert!(header.header_len() <= 60);
            let _ = (header.version(), header.is_fragment(), header.dont_fragment());
        });
        same::<ipv6::Header, { ipv6::LEN }>(data, offset, |header| assert!(header.version() < 16));
        same::<ipv6::Options, { ipv6::Options::LEN }>(data, offset, |header| {
            assert!(header.bytes() >= 8 && header.bytes() <= 2048);
        });
        same::<ipv6::Fragment, { ipv6::Fragment::LEN }>(data, offset, |header| {
            assert!(!header.is_atomic() || header.offset_more.get() < 8);
        });
        same::<nd::Message, { nd::LEN_WITH_MAC }>(data, offset, |message| {
            let mut packet = nd::Packet::new(message.header.target, nd::ALL_NODES, *message);
            packet.seal(message.option.len == 1);
        });
        same::<tcp::Header, { tcp::LEN }>(data, offset, |header| assert!(header.header_len() <= 60));
        same::<udp::Header, { udp::LEN }>(data, offset, |_| {});
        same::<icmp::Header, { icmp::LEN }>(data, offset, |header| {
            let _ = header.is_echo();
        });
        same::<vxlan::Header, { vxlan::LEN }>(data, offset, |header| assert!(header.vni() < 1 << 24));
        same::<geneve::Header, { geneve::LEN }>(data, offset, |header| {
            assert!(header.vni() < 1 << 24 && header.options_len() <= 252);
            assert!(!header.is_plain() || (header.version() == 0 && header.options_len() == 0));
        });
    }
    let _ = nd::mac_option(data, nd::OPTION_SOURCE_MAC);
    let whole = checksum::checksum(data);
    let (even, odd) = data.split_at(data.len() / 4 * 2);
    assert_eq!(whole, !checksum::fold(checksum::sum(even).wrapping_add(checksum::sum(odd))));
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = text.parse::<MacAddr>();
    }
}

/// A header is there exactly when its bytes are, and is those bytes.
fn same<H, const N: usize>(data: &[u8], offset: usize, ask: impl FnOnce(&H))
where
    H: FromBytes + IntoBytes + Immutable + Copy,
{
    let wire = data.get(offset..offset + N);
    let header: Option<H> = packet::read(data, offset);
    assert_eq!(wire.is_some(), header.is_some());
    if let (Some(wire), Some(header)) = (wire, header) {
        assert_eq!(packet::bytes::<H, N>(header), wire);
        ask(&header);
    }
}
