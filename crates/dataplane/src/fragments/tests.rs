use super::*;
use pipeline::event::FrameHead;

const SECOND: Duration = Duration::from_secs(1);

/// A UDP datagram in a frame: `options` behind the fixed header, `flags` and offset as in the header.
fn frame(options: &[u8], field: u16, payload: &[u8]) -> Vec<u8> {
    let mut head = vec![0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 8, 8, 8, 8];
    head.extend_from_slice(options);
    let mut link = vec![2; 12];
    link.extend([8, 0]);
    piece(&link, &head, field, payload)
}

fn payload(frame: &[u8]) -> &[u8] {
    &frame[ETHERNET_LEN + usize::from(frame[ETHERNET_LEN] & 0xf) * 4..]
}

fn handed(frame: Vec<u8>) -> Handed {
    Handed { head: FrameHead::default(), frame }
}

fn key(ingress: u32, identification: u16) -> FragmentKey {
    FragmentKey { ingress, identification, ..FragmentKey::default() }
}

/// The datagram that pieces make; every header is checked.
fn whole(pieces: &[Vec<u8>], mtu: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let header: ipv4::Header = packet::read(piece, ETHERNET_LEN).unwrap();
        assert!(usize::from(header.total_len.get()) <= mtu);
        assert_eq!(piece.len(), ETHERNET_LEN + usize::from(header.total_len.get()));
        let head = &piece[ETHERNET_LEN..ETHERNET_LEN + header.header_len() as usize];
        assert_eq!(checksum::checksum(head), 0, "the header's sum");
        assert_eq!(range(piece).unwrap().0, bytes.len(), "in order, without gaps");
        assert_eq!(header.flags_fragment.get() & ipv4::FLAG_MF != 0, number + 1 < pieces.len());
        assert_eq!(header.identification.get(), 0x1234);
        bytes.extend_from_slice(payload(piece));
    }
    bytes
}

#[test]
fn pieces_make_the_datagram_again_whatever_the_mtu() {
    let data: Vec<u8> = (0..2000u16).map(|byte| byte as u8).collect();
    for mtu in [68, 576, 1400, 1499, 1500] {
        let pieces = cut(&frame(&[], 0, &data), mtu).unwrap();
        assert_eq!(whole(&pieces, mtu), data, "{mtu}");
        assert_eq!(pieces.len(), data.len().div_ceil((mtu - 20) / 8 * 8), "{mtu}");
    }
}

#[test]
fn a_fragment_is_cut_further_and_keeps_its_place() {
    let data = [7; 1000];
    for (field, last_has_more) in [(ipv4::FLAG_MF | 100, true), (100, false)] {
        let pieces = cut(&frame(&[], field, &data), 576).unwrap();
        let fields: Vec<u16> = pieces
            .iter()
            .map(|piece| packet::read::<ipv4::Header>(piece, ETHERNET_LEN).unwrap().flags_fragment.get())
            .collect();
        let last = if last_has_more { ipv4::FLAG_MF } else { 0 };
        assert_eq!(fields, [ipv4::FLAG_MF | 100, last | 169]);
    }
}

#[test]
fn only_options_that_say_so_are_copied() {
    let (record_route, router_alert) = ([7, 3, 4], [0x94, 4, 0, 0]);
    let options = [&record_route[..], &[1], &router_alert[..]].concat();
    let pieces = cut(&frame(&options, 0, &[7; 200]), 100).unwrap();
    assert_eq!(pieces[0][34..42], options[..]);
    for piece in &pieces[1..] {
        assert_eq!((piece[14], &piece[34..38]), (0x46, &router_alert[..]));
    }
}

#[test]
fn a_checksum_left_to_the_nic_is_completed_and_a_wrong_one_left_wrong() {
    let mut datagram = vec![0, 53, 0, 53, 0, 108, 0, 0];
    datagram.extend([9; 100]);
    let pseudo = |datagram: &[u8]| checksum::sum(&[10, 0, 0, 1, 8, 8, 8, 8, 0, 17]) + datagram.len() as u32;
    let partial = checksum::fold(pseudo(&datagram)).to_be_bytes();
    datagram[6..8].copy_from_slice(&partial);
    let sent = whole(&cut(&frame(&[], 0, &datagram), 68).unwrap(), 68);
    assert_eq!(checksum::fold(checksum::sum(&sent) + pseudo(&sent)), 0xffff, "right now");

    for left_alone in [[0, 0], [0x12, 0x34]] {
        datagram[6..8].copy_from_slice(&left_alone);
        let sent = whole(&cut(&frame(&[], 0, &datagram), 68).unwrap(), 68);
        assert_eq!(sent[6..8], left_alone);
    }
}

#[test]
fn what_cannot_be_cut_is_refused() {
    assert_eq!(cut(&[], 576), Err(CutError::Malformed));
    assert_eq!(cut(&frame(&[], 0, &[7; 100])[..60], 576), Err(CutError::Malformed));
    assert_eq!(cut(&frame(&[], 0, &[7; 100]), 67), Err(CutError::Mtu));
    // The end of the datagram would be beyond what an offset can say.
    assert_eq!(cut(&frame(&[], 0x1fff, &[7; 100]), 68).unwrap_err(), CutError::Malformed);
}

#[test]
fn fragments_wait_for_the_first_one_and_no_longer_than_they_may() {
    let (mut holder, now) = (Holder::default(), Instant::now());
    let second = handed(frame(&[], ipv4::FLAG_MF | 10, &[1; 80]));
    let third = handed(frame(&[], 20, &[2; 80]));
    assert!(holder.hold(now, key(1, 7), third.clone()) && holder.hold(now, key(1, 7), second.clone()));
    assert!(holder.hold(now + SECOND, key(1, 8), second.clone()));
    assert_eq!(holder.release(&key(1, 9)), []);
    assert_eq!(holder.release(&key(1, 7)), [third, second]);
    assert_eq!(holder.deadline(), Some(now + SECOND + HOLD));
    holder.expire(now + HOLD);
    assert_eq!(holder.len(), 1);
    holder.expire(now + SECOND + HOLD);
    assert!(holder.is_empty() && holder.deadline().is_none());
    let want = HeldCounters { held: 3, released: 2, expired: 1, ..HeldCounters::default() };
    assert_eq!(holder.counters, want);
}

#[test]
fn one_ingress_fills_its_own_share_only() {
    let (mut holder, now) = (Holder::default(), Instant::now());
    let fragment = handed(frame(&[], 10, &[1; 80]));
    let taken = (0..200).filter(|id| holder.hold(now, key(1, *id), fragment.clone())).count();
    assert_eq!(taken, HELD_PER_INGRESS_MAX);
    assert!(holder.hold(now, key(2, 1), fragment.clone()), "another is not concerned");
    for ingress in 3..100 {
        for id in 0..100 {
            holder.hold(now, key(ingress, id), fragment.clone());
        }
    }
    assert_eq!(holder.len(), HELD_MAX);
    assert!(holder.hold(now + HOLD, key(1, 1), fragment), "what is over makes room");
}

#[test]
fn overlapping_fragments_take_their_datagram_with_them() {
    let (mut holder, now) = (Holder::default(), Instant::now());
    let at = |offset| handed(frame(&[], ipv4::FLAG_MF | offset, &[1; 80]));
    assert!(holder.hold(now, key(1, 7), at(10)));
    assert!(holder.hold(now, key(1, 7), at(10)), "the same again contradicts nothing");
    assert!(!holder.hold(now, key(1, 7), at(15)));
    assert!(!holder.hold(now, key(1, 7), at(40)), "nothing more of it");
    assert_eq!(holder.release(&key(1, 7)), []);
    assert_eq!(holder.counters.overlapping, 4);
    assert!(holder.is_empty());
}
