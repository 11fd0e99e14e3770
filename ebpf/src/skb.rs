//! A frame as the pipeline sees it, over `__sk_buff` and its helpers.

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
    BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR,
};
use aya_ebpf::bpf_f_adj_room_encap_l2;
use aya_ebpf::helpers::generated::{
    bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_type,
    bpf_skb_load_bytes, bpf_skb_store_bytes, bpf_skb_vlan_pop, bpf_skb_vlan_push,
};
use core::mem::MaybeUninit;
use pipeline::bounds::{EVENT_PACKET_BYTES, FRAME_BYTES, ICMP_ERROR_BYTES_MAX};
use pipeline::runtime::{CHECKSUM_MANGLED_ZERO, CHECKSUM_PSEUDO};
use pipeline::{Packet, PacketError};

/// `BPF_ADJ_ROOM_MAC`: room directly behind the Ethernet header.
const ADJ_ROOM_MAC: u32 = 1;
/// Outer IPv4, UDP, Geneve or VXLAN, and the inner Ethernet header.
const OUTER_LEN: i32 = 50;
/// Tells the kernel which headers will be there, so that it can segment the packet. The length is that of
/// the inner Ethernet header alone: with the tunnel header in it every super-packet is lost.
const PUSH_FLAGS: u64 = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 as u64
    | BPF_F_ADJ_ROOM_ENCAP_L4_UDP as u64
    | BPF_F_ADJ_ROOM_ENCAP_L2_ETH as u64
    | BPF_F_ADJ_ROOM_NO_CSUM_RESET as u64
    | BPF_F_ADJ_ROOM_FIXED_GSO as u64
    | bpf_f_adj_room_encap_l2(14);
/// For a packet that will not be segmented.
const PLAIN_PUSH_FLAGS: u64 = BPF_F_ADJ_ROOM_NO_CSUM_RESET as u64 | BPF_F_ADJ_ROOM_FIXED_GSO as u64;
/// `ETH_P_8021Q` in wire order.
const VLAN_PROTOCOL: u16 = 0x8100_u16.to_be();

/// The context of one run. Valid for as long as the program runs, which is as long as the value lives.
pub(crate) struct Skb(*mut __sk_buff);

impl Skb {
    #[inline(always)]
    pub(crate) fn new(context: *mut __sk_buff) -> Self {
        Self(context)
    }

    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *mut __sk_buff {
        self.0
    }

    /// Leaves the verdict and the tag where `BPF_PROG_TEST_RUN` returns them. A few stores to a cache line in
    /// use.
    #[inline(always)]
    pub(crate) fn note(&mut self, kind: u32, detail: u32) {
        // SAFETY: the context is valid, and `cb` may be written by tc programs.
        unsafe {
            let tag = (*self.0).vlan_tci | (*self.0).vlan_present << 16;
            (&raw mut (*self.0).cb[0]).write_volatile(kind);
            (&raw mut (*self.0).cb[1]).write_volatile(detail);
            (&raw mut (*self.0).cb[2]).write_volatile(tag);
        }
    }

    /// Marks the frame as meant for whoever receives it: the kernel judged its destination MAC by the device it
    /// came in on, and a packet handed to a veth's other end is not judged again.
    #[inline(always)]
    pub(crate) fn accept(&mut self) {
        const PACKET_HOST: u32 = 0;
        // SAFETY: the context is valid.
        if unsafe { (*self.0).pkt_type } == PACKET_HOST {
            return;
        }
        // SAFETY: the context is valid. It fails only for what is no frame of a wire, and then changes nothing.
        unsafe { bpf_skb_change_type(self.0, PACKET_HOST) };
    }

    /// What a test run left in the control block.
    #[inline(always)]
    pub(crate) fn test_metadata(&self) -> (u32, u32) {
        // SAFETY: the context is valid, and `cb` may be read by tc programs.
        unsafe {
            ((&raw const (*self.0).cb[3]).read_volatile(), (&raw const (*self.0).cb[4]).read_volatile())
        }
    }
}

#[inline(always)]
fn check(result: i64) -> Result<(), PacketError> {
    if result == 0 { Ok(()) } else { Err(PacketError) }
}

impl Packet for Skb {
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { (*self.0).gso_size }
    }

    #[inline(always)]
    fn gso_segments(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { (*self.0).gso_segs }.max(1)
    }

    #[inline(always)]
    fn vlan(&self) -> Option<u16> {
        // SAFETY: the context is valid.
        let (present, tci) = unsafe { ((*self.0).vlan_present, (*self.0).vlan_tci) };
        (present != 0).then_some((tci & 0x0fff) as u16)
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Result<[u8; N], PacketError> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the context is valid and the buffer has N bytes; on success all are written.
        unsafe {
            check(bpf_skb_load_bytes(self.0.cast(), offset, bytes.as_mut_ptr().cast(), N as u32))?;
            Ok(bytes.assume_init())
        }
    }

    #[inline(always)]
    fn load_start(&self, buffer: &mut [u8; EVENT_PACKET_BYTES]) -> u32 {
        let len = bounded(self.len());
        // SAFETY: the context is valid and `len` is at most the buffer's length.
        let result = unsafe { bpf_skb_load_bytes(self.0.cast(), 0, buffer.as_mut_ptr().cast(), len) };
        if result == 0 { len } else { 0 }
    }

    #[inline(always)]
    fn load_some(&self, offset: u32, len: u32, buffer: &mut [u8; FRAME_BYTES]) -> Result<(), PacketError> {
        let len = bounded_frame(len);
        // SAFETY: the context is valid and `len` is at most the buffer's length.
        check(unsafe { bpf_skb_load_bytes(self.0.cast(), offset, buffer.as_mut_ptr().cast(), len) })
    }

    #[inline(always)]
    fn sum(&self, offset: u32, len: u32, buffer: &mut [u8; FRAME_BYTES]) -> Result<u16, PacketError> {
        self.load_some(offset, len, buffer)?;
        // The helper takes whole words; what it takes too much is zero.
        let end = masked::<{ SUM_MAX - 1 }>(len) as usize;
        if let Some(tail) = buffer.get_mut(end..end + 4) {
            tail.copy_from_slice(&[0; 4]);
        }
        let total = len.wrapping_add(3) & !3;
        let mut sum = 0;
        for part in 0..SUM_MAX / SUM_PART {
            let size = masked::<{ 2 * SUM_PART - 1 }>(total.saturating_sub(part * SUM_PART).min(SUM_PART));
            // SAFETY: the buffer is larger than all parts together.
            sum = unsafe {
                let from = buffer.as_mut_ptr().add((part * SUM_PART) as usize);
                bpf_csum_diff(core::ptr::null_mut(), 0, from.cast(), size, sum as u32)
            };
        }
        let sum = sum as u32;
        let sum = (sum & 0xffff) + (sum >> 16);
        Ok(((sum & 0xffff) + (sum >> 16)) as u16)
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> Result<(), PacketError> {
        // SAFETY: the context is valid and the buffer has N bytes.
        check(unsafe { bpf_skb_store_bytes(self.0, offset, bytes.as_ptr().cast(), N as u32, 0) })
    }

    #[inline(always)]
    fn replace_l3_checksum(&mut self, offset: u32, from: u32, to: u32, size: u32) -> Result<(), PacketError> {
        // SAFETY: the context is valid; the kernel checks the offset.
        check(unsafe { bpf_l3_csum_replace(self.0, offset, from.into(), to.into(), size.into()) })
    }

    #[inline(always)]
    fn replace_l4_checksum(
        &mut self,
        offset: u32,
        from: u32,
        to: u32,
        size: u32,
        flags: u32,
    ) -> Result<(), PacketError> {
        let mut kernel_flags = u64::from(size & 0xf);
        if flags & CHECKSUM_PSEUDO != 0 {
            kernel_flags |= BPF_F_PSEUDO_HDR as u64;
        }
        if flags & CHECKSUM_MANGLED_ZERO != 0 {
            kernel_flags |= BPF_F_MARK_MANGLED_0 as u64;
        }
        // SAFETY: the context is valid; the kernel checks the offset.
        check(unsafe { bpf_l4_csum_replace(self.0, offset, from.into(), to.into(), kernel_flags) })
    }

    #[inline(always)]
    fn push_outer(&mut self) -> Result<(), PacketError> {
        // SAFETY: the context is valid.
        let told = unsafe { bpf_skb_adjust_room(self.0, OUTER_LEN, ADJ_ROOM_MAC, PUSH_FLAGS) };
        if told == 0 || self.gso_size() != 0 {
            return check(told);
        }
        // A lone packet that this host decapsulated is still marked as encapsulated, and the kernel refuses to
        // mark it twice (EALREADY, nothing changed). It is never segmented, so it needs no mark.
        // SAFETY: the context is valid.
        check(unsafe { bpf_skb_adjust_room(self.0, OUTER_LEN, ADJ_ROOM_MAC, PLAIN_PUSH_FLAGS) })
    }

    #[inline(always)]
    fn pop_outer(&mut self) -> Result<(), PacketError> {
        // No flags: the packet's checksum status becomes "none", as the outer checksum was what it spoke of.
        // SAFETY: the context is valid.
        check(unsafe { bpf_skb_adjust_room(self.0, -OUTER_LEN, ADJ_ROOM_MAC, 0) })
    }

    #[inline(always)]
    fn push_vlan(&mut self, vlan: u16) -> Result<(), PacketError> {
        // SAFETY: the context is valid.
        check(unsafe { bpf_skb_vlan_push(self.0, VLAN_PROTOCOL, vlan) })
    }

    #[inline(always)]
    fn pop_vlan(&mut self) -> Result<(), PacketError> {
        // SAFETY: the context is valid.
        check(unsafe { bpf_skb_vlan_pop(self.0) })
    }
}

/// `len` cut to the event's packet bytes, in a form in which the verifier believes it: the compiler may not
/// remove the mask, although it could prove that it changes nothing.
#[inline(always)]
fn bounded(len: u32) -> u32 {
    const MAX: u32 = EVENT_PACKET_BYTES as u32;
    const { assert!(MAX == 128, "the mask below is for 128") };
    let mut less_one = u64::from(len.min(MAX).wrapping_sub(1));
    // SAFETY: one instruction on one register.
    unsafe { core::arch::asm!("{0} &= 127", inout(reg) less_one, options(pure, nomem, nostack)) };
    less_one as u32 + 1
}

/// Longest run of bytes that is summed up, and how much of it the helper takes at a time (its scratch buffer before
/// Linux 6.13).
const SUM_MAX: u32 = ICMP_ERROR_BYTES_MAX;
const SUM_PART: u32 = 512;

/// `value`, which should have no bits outside `MASK`, in a form in which the verifier believes it.
#[inline(always)]
fn masked<const MASK: u32>(value: u32) -> u32 {
    const { assert!((MASK + 1).is_power_of_two()) };
    let mut value = u64::from(value);
    // SAFETY: one instruction on one register.
    unsafe { core::arch::asm!("{0} &= {1}", inout(reg) value, const MASK, options(pure, nomem, nostack)) };
    value as u32
}

/// Likewise for a whole frame.
#[inline(always)]
pub(crate) fn bounded_frame(len: u32) -> u32 {
    const MAX: u32 = FRAME_BYTES as u32;
    const { assert!(MAX == 16384, "the mask below is for 16384") };
    let mut less_one = u64::from(len.min(MAX).wrapping_sub(1));
    // SAFETY: one instruction on one register.
    unsafe { core::arch::asm!("{0} &= 16383", inout(reg) less_one, options(pure, nomem, nostack)) };
    less_one as u32 + 1
}
