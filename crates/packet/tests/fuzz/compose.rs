//! ICMP errors about arbitrary frames. Shared by `fuzz/` and by `replay.rs`, which runs it on every input that
//! once found something.

use packet::compose::{ErrorSender, IcmpError, Refusal, icmp_error};
use packet::{MacAddr, checksum, ipv4};

/// An ICMP error about the frame in `data`, whose first bytes choose the error. The frame's IPv4 checksum is
/// made right in half of the cases, or hardly any would get past it.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, frame)) = data.split_at_checked(4) else { return };
    let mut frame = frame.to_vec();
    if choice[0] & 0x80 != 0 {
        fix_checksum(&mut frame);
    }
    let error = match choice[0] & 7 {
        0 => IcmpError::TimeExceeded,
        1 => IcmpError::FragmentationNeeded { mtu: u16::from_be_bytes([choice[1], choice[2]]) },
        2 => IcmpError::NetUnreachable,
        3 => IcmpError::HostUnreachable,
        4 => IcmpError::PortUnreachable,
        _ => IcmpError::AdminProhibited,
    };
    let vlan = (choice[3] != 0).then_some(u16::from(choice[3]));
    let sender = ErrorSender { mac: MacAddr([2, 0, 0, 0, 0, 1]), ip: [192, 168, 10, 1], vlan };
    let Ok(sent) = icmp_error(error, &frame, &sender) else { return };
    let ip = if vlan.is_some() { 18 } else { 14 };
    let outer: ipv4::Header = packet::read(&sent, ip).expect("an IPv4 header is sent");
    assert_eq!(usize::from(outer.total_len.get()), sent.len() - ip);
    assert!(outer.total_len.get() <= 576);
    assert_eq!(checksum::checksum(&sent[ip..ip + ipv4::LEN]), 0);
    assert_eq!(checksum::checksum(&sent[ip + ipv4::LEN..]), 0);
    assert_eq!(sent[..6], frame[6..12]);
    // The rules that keep two routers from telling each other for ever.
    let again = icmp_error(error, &sent, &sender).expect_err("never about an error");
    assert_eq!(again, Refusal::AboutIcmpError);
}

fn fix_checksum(frame: &mut [u8]) {
    let Some(first) = frame.get(14) else { return };
    let len = usize::from(first & 0xf) * 4;
    let Some(header) = frame.get_mut(14..14 + len).filter(|header| header.len() >= ipv4::LEN) else { return };
    header[10..12].fill(0);
    let sum = checksum::checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}
