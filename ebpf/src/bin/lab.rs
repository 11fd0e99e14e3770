//! Programs of laboratories, not part of the product: an access port of a VLAN switch, for kernels without the
//! 8021q module, and a NIC's way with a frame's owner.
//!
//! A bridge without VLAN filtering carries tagged frames as they are. On a port with these programs, frames
//! coming in get the port's tag, and only frames with that tag leave, without it. A port without an entry
//! lets nothing through.
#![no_std]
#![no_main]

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{bpf_clone_redirect, bpf_skb_vlan_pop, bpf_skb_vlan_push};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::TcContext;

/// VLAN id by interface index.
#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static access_vlans: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);

/// `ETH_P_8021Q` in wire order.
const VLAN_PROTOCOL: u16 = 0x8100_u16.to_be();

/// Ingress of the bridge port.
#[classifier]
pub fn lab_access_in(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the context is valid for the whole program.
    let (ifindex, tagged) = unsafe { ((*skb).ifindex, (*skb).vlan_present) };
    let Some(vlan) = access_vlan(ifindex) else { return TC_ACT_SHOT };
    if tagged != 0 {
        return TC_ACT_SHOT;
    }
    // SAFETY: as above.
    match unsafe { bpf_skb_vlan_push(skb, VLAN_PROTOCOL, vlan as u16) } {
        0 => TC_ACT_UNSPEC,
        _ => TC_ACT_SHOT,
    }
}

/// Egress of the bridge port.
#[classifier]
pub fn lab_access_out(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the context is valid for the whole program.
    let (ifindex, tagged, tci) = unsafe { ((*skb).ifindex, (*skb).vlan_present, (*skb).vlan_tci) };
    let Some(vlan) = access_vlan(ifindex) else { return TC_ACT_SHOT };
    if tagged == 0 || tci & 0x0fff != vlan {
        return TC_ACT_SHOT;
    }
    // SAFETY: as above.
    match unsafe { bpf_skb_vlan_pop(skb) } {
        0 => TC_ACT_UNSPEC,
        _ => TC_ACT_SHOT,
    }
}

/// Egress of a veth that plays a NIC. A NIC has sent a super-packet, and it belongs to no socket any more; a veth
/// passes the socket of a tap's writer on to the other host, where GRO keeps the one segment that has it apart from
/// the others, which it then overtakes. A clone has no socket.
#[classifier]
pub fn lab_nic_out(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the context is valid for the whole program.
    let (socket, gso_size, ifindex) =
        unsafe { ((*skb).__bindgen_anon_2.sk, (*skb).gso_size, (*skb).ifindex) };
    // What is not cut into segments has no others to be merged with again.
    if socket.is_null() || gso_size == 0 {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: as above. Nothing of the frame is read afterwards.
    unsafe { bpf_clone_redirect(skb, ifindex, 0) };
    TC_ACT_SHOT
}

#[inline(always)]
fn access_vlan(ifindex: u32) -> Option<u32> {
    // SAFETY: one aligned word.
    access_vlans.get_ptr(ifindex).map(|vlan| unsafe { vlan.read_volatile() })
}

/// The kernel's licence check reads this: the helpers used are for GPL-compatible programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
