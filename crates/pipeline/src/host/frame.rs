//! A frame in a vector, behaving as `__sk_buff` does under the helpers the pipeline uses.

use crate::bounds::{EVENT_PACKET_BYTES, FRAME_BYTES};
use crate::runtime::{CHECKSUM_MANGLED_ZERO, Packet, PacketError};
use crate::tunnel::OUTER_LEN;
use packet::{checksum, ethernet};

/// A frame as an interface delivers it: the VLAN tag taken off and kept beside the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub bytes: Vec<u8>,
    pub vlan: Option<u16>,
    /// Payload bytes per segment of a super-packet, 0 for a lone one.
    pub gso_size: u32,
}

impl Frame {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, vlan: None, gso_size: 0 }
    }

    pub fn tagged(bytes: Vec<u8>, vlan: u16) -> Self {
        Self { bytes, vlan: Some(vlan), gso_size: 0 }
    }

    fn at(&self, offset: u32, len: usize) -> Result<std::ops::Range<usize>, PacketError> {
        let start = offset as usize;
        let end = start.checked_add(len).ok_or(PacketError)?;
        if end > self.bytes.len() { Err(PacketError) } else { Ok(start..end) }
    }

    fn word(&self, offset: u32) -> Result<u16, PacketError> {
        Ok(u16::from_be_bytes(self.load::<2>(offset)?))
    }

    fn is_ipv4(&self) -> bool {
        self.word(12) == Ok(ethernet::TYPE_IPV4)
    }

    /// The checksum at `offset` after a field changed from `from` to `to`, both in memory order.
    fn replaced(&self, offset: u32, from: u32, to: u32, size: u32) -> Result<u16, PacketError> {
        let old = self.word(offset)?;
        let words = |value: u32| {
            let [a, b, c, d] = value.to_ne_bytes();
            [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
        };
        let ([from_high, from_low], [to_high, to_low]) = (words(from), words(to));
        match size {
            2 => Ok(checksum::update(old, from_high, to_high)),
            4 => Ok(checksum::update(checksum::update(old, from_high, to_high), from_low, to_low)),
            _ => Err(PacketError),
        }
    }
}

impl Packet for Frame {
    fn len(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn gso_size(&self) -> u32 {
        self.gso_size
    }

    fn gso_segments(&self) -> u32 {
        match self.gso_size {
            0 => 1,
            size => self.len().div_ceil(size).max(1),
        }
    }

    fn vlan(&self) -> Option<u16> {
        self.vlan
    }

    fn load<const N: usize>(&self, offset: u32) -> Result<[u8; N], PacketError> {
        let range = self.at(offset, N)?;
        self.bytes[range].try_into().map_err(|_| PacketError)
    }

    fn load_start(&self, buffer: &mut [u8; EVENT_PACKET_BYTES]) -> u32 {
        let len = self.bytes.len().min(EVENT_PACKET_BYTES);
        buffer[..len].copy_from_slice(&self.bytes[..len]);
        len as u32
    }

    fn load_some(&self, offset: u32, len: u32, buffer: &mut [u8; FRAME_BYTES]) -> Result<(), PacketError> {
        let range = self.at(offset, len as usize)?;
        buffer.get_mut(..range.len()).ok_or(PacketError)?.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn sum(&self, offset: u32, len: u32, _buffer: &mut [u8; FRAME_BYTES]) -> Result<u16, PacketError> {
        let range = self.at(offset, len as usize)?;
        Ok(checksum::fold(checksum::sum(&self.bytes[range])))
    }

    fn store<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> Result<(), PacketError> {
        let range = self.at(offset, N)?;
        self.bytes[range].copy_from_slice(bytes);
        Ok(())
    }

    fn replace_l3_checksum(&mut self, offset: u32, from: u32, to: u32, size: u32) -> Result<(), PacketError> {
        let new = self.replaced(offset, from, to, size)?;
        self.store(offset, &new.to_be_bytes())
    }

    fn replace_l4_checksum(
        &mut self,
        offset: u32,
        from: u32,
        to: u32,
        size: u32,
        flags: u32,
    ) -> Result<(), PacketError> {
        let optional = flags & CHECKSUM_MANGLED_ZERO != 0;
        if optional && self.word(offset)? == 0 {
            return Ok(());
        }
        let new = match self.replaced(offset, from, to, size)? {
            0 if optional => 0xffff,
            new => new,
        };
        self.store(offset, &new.to_be_bytes())
    }

    fn push_outer(&mut self) -> Result<(), PacketError> {
        if !matches!(self.word(12), Ok(ethernet::TYPE_IPV4 | ethernet::TYPE_IPV6)) {
            return Err(PacketError);
        }
        let room = [0u8; OUTER_LEN as usize];
        self.bytes.splice(ethernet::LEN..ethernet::LEN, room);
        Ok(())
    }

    fn pop_outer(&mut self) -> Result<(), PacketError> {
        let end = ethernet::LEN + OUTER_LEN as usize;
        // The kernel keeps an Ethernet and an IPv4 header.
        if !self.is_ipv4() || self.bytes.len() < end + packet::ipv4::LEN {
            return Err(PacketError);
        }
        self.bytes.drain(ethernet::LEN..end);
        Ok(())
    }

    fn push_vlan(&mut self, vlan: u16) -> Result<(), PacketError> {
        if self.vlan.replace(vlan).is_some() { Err(PacketError) } else { Ok(()) }
    }

    fn pop_vlan(&mut self) -> Result<(), PacketError> {
        self.vlan = None;
        Ok(())
    }
}
