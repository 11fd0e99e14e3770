//! Packets that the programs hand over whole: fragments that overtook the first of their datagram are held until it
//! has come, and packets that are too big and may be cut are cut (RFC 4787 REQ-13a and REQ-14).
//!
//! Sans IO: what was handed over in, what is to walk once more out. How often an ingress may hand something over is
//! bounded by the programs, how much is held by [`Holder`].

use dataplane::fragments::{self, Holder};
use dataplane::{FRAME_LEN_MAX, Handed};
use pipeline::event::Event;
use pipeline::fragment::FragmentKey;
use pipeline::{Origin, Punt};
use std::collections::BTreeMap;
use std::time::Instant;

/// A frame that cannot walk once more in one piece is cut to this: every network carries it.
const PIECE_LEN: usize = 1400;

/// A packet for the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Again {
    pub(crate) origin: Origin,
    pub(crate) frame: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Frames {
    holder: Holder,
    /// Packets cut into pieces.
    cut: u64,
    /// Packets that could not be.
    malformed: u64,
}

impl Frames {
    /// A packet that was handed over. `knows`: whether the first fragment of a datagram came a moment ago.
    pub(crate) fn handed(
        &mut self,
        now: Instant,
        handed: Handed,
        knows: impl FnOnce(&FragmentKey) -> bool,
    ) -> Vec<Again> {
        match u8::try_from(handed.head.punt).ok().and_then(Punt::from_number) {
            Some(Punt::Fragment) => self.cut(&handed),
            Some(Punt::EarlyFragment) => {
                let (vni, ingress) = (handed.head.vni, handed.head.ingress);
                let Some(key) = fragments::datagram_of(vni, ingress, &handed.frame) else {
                    self.malformed += 1;
                    return Vec::new();
                };
                if knows(&key) {
                    return again(handed);
                }
                self.holder.hold(now, key, handed);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The first fragment of a datagram came whose others may be held.
    pub(crate) fn first_came(&mut self, event: &Event) -> Vec<Again> {
        let len = (event.packet_len as usize).min(event.packet.len());
        let packet = event.packet.get(..len).unwrap_or_default();
        let key = fragments::datagram_of(event.vni, event.ingress, packet);
        let released = key.map(|key| self.holder.release(&key)).unwrap_or_default();
        released.into_iter().flat_map(again).collect()
    }

    fn cut(&mut self, handed: &Handed) -> Vec<Again> {
        let mtu = usize::try_from(handed.head.detail).unwrap_or(0).min(FRAME_LEN_MAX - 18);
        match fragments::cut(&handed.frame, mtu) {
            Ok(pieces) => {
                self.cut += 1;
                pieces.into_iter().map(|frame| Again { origin: handed.origin(), frame }).collect()
            }
            Err(error) => {
                self.malformed += 1;
                tracing::debug!(%error, "a packet that is too big was not cut");
                Vec::new()
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.holder.deadline()
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        self.holder.expire(now);
    }

    pub(crate) fn counters(&self) -> BTreeMap<String, u64> {
        let held = self.holder.counters;
        let counters = [
            ("fragments-held", held.held),
            ("fragments-released", held.released),
            ("fragments-expired", held.expired),
            ("fragments-refused", held.refused),
            ("fragments-overlapping", held.overlapping),
            ("packets-cut", self.cut),
            ("packets-malformed", self.malformed),
        ];
        counters.map(|(name, count)| (format!("agent.{name}"), count)).into()
    }
}

fn again(handed: Handed) -> Vec<Again> {
    let origin = handed.origin();
    if handed.frame.len() <= FRAME_LEN_MAX {
        return vec![Again { origin, frame: handed.frame }];
    }
    let pieces = fragments::cut(&handed.frame, PIECE_LEN).unwrap_or_default();
    pieces.into_iter().map(|frame| Again { origin, frame }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline::event::FrameHead;

    /// A frame with `payload` bytes of a datagram behind the offset and flags of `field`.
    fn handed(punt: Punt, field: u16, payload: usize) -> Handed {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + payload as u16).to_be_bytes());
        frame.extend([0x12, 0x34]);
        frame.extend(field.to_be_bytes());
        frame.extend([64, 17, 0, 0, 10, 0, 0, 1, 8, 8, 8, 8]);
        frame.resize(34 + payload, 7);
        let frame_len = frame.len() as u32;
        let head = FrameHead {
            punt: punt as u32,
            ingress: 11,
            vni: 101,
            detail: 1400,
            frame_len,
            ..FrameHead::default()
        };
        Handed { head, frame }
    }

    fn first_fragment() -> Event {
        let mut packet = [0; pipeline::bounds::EVENT_PACKET_BYTES];
        let frame = handed(Punt::EarlyFragment, packet::ipv4::FLAG_MF, 80).frame;
        packet[..frame.len()].copy_from_slice(&frame);
        Event {
            punt: Punt::FirstFragment as u32,
            ingress: 11,
            vni: 101,
            detail: 0,
            address: pipeline::Address::ZERO,
            vtep: pipeline::Address::ZERO,
            frame_len: frame.len() as u32,
            packet_len: frame.len() as u32,
            packet,
        }
    }

    #[test]
    fn an_early_fragment_waits_for_the_first_and_walks_again() {
        let (mut frames, now) = (Frames::default(), Instant::now());
        let early = handed(Punt::EarlyFragment, 10, 80);
        assert_eq!(frames.handed(now, early.clone(), |_| false), []);
        assert!(frames.deadline().is_some());
        let want = Again { origin: early.origin(), frame: early.frame };
        assert_eq!(frames.first_came(&first_fragment()), [want]);
        assert_eq!(frames.first_came(&first_fragment()), []);
        assert_eq!(frames.counters()["agent.fragments-released"], 1);
    }

    #[test]
    fn a_fragment_whose_first_came_meanwhile_walks_at_once() {
        let early = handed(Punt::EarlyFragment, 10, 80);
        let again = Frames::default().handed(Instant::now(), early.clone(), |key| {
            assert_eq!((key.vni, key.ingress, key.identification), (101, 11, 0x1234));
            true
        });
        assert_eq!(again, [Again { origin: early.origin(), frame: early.frame }]);
    }

    #[test]
    fn a_jumbo_fragment_walks_in_pieces_that_a_run_takes() {
        let early = handed(Punt::EarlyFragment, 10, 8000);
        let again = Frames::default().handed(Instant::now(), early, |_| true);
        assert_eq!(again.len(), 6);
        assert!(again.iter().all(|piece| piece.frame.len() <= FRAME_LEN_MAX));
    }

    #[test]
    fn a_packet_that_is_too_big_is_cut_to_the_mtu() {
        let mut frames = Frames::default();
        let big = handed(Punt::Fragment, 0, 1480);
        let pieces = frames.handed(Instant::now(), big.clone(), |_| false);
        let lens: Vec<usize> = pieces.iter().map(|piece| piece.frame.len() - 14).collect();
        assert_eq!(lens, [1396, 124]);
        assert!(pieces.iter().all(|piece| piece.origin == big.origin()));
        assert_eq!(frames.handed(Instant::now(), Handed { frame: vec![0; 20], ..big }, |_| false), []);
        let counters = frames.counters();
        assert_eq!((counters["agent.packets-cut"], counters["agent.packets-malformed"]), (1, 1));
    }
}
