//! The tc programs of a host. No logic of their own: each builds a packet and the tables from its context,
//! lets the pipeline walk, and turns the verdict into the kernel's return code.
//!
//! The panic handler loops on purpose: the verifier refuses a program from which it can be reached, so an
//! object that loads has no panic path.

use crate::maps::{self, Maps};
use crate::skb::Skb;
use aya_ebpf::bindings::{
    TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1, bpf_tunnel_key,
};
use aya_ebpf::helpers::generated::{
    bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_get_tunnel_key,
};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use core::mem::MaybeUninit;
use pipeline::session::Path;
use pipeline::verdict::{Reason, Stage};
use pipeline::walk::{self, Origin, TunnelKey, Work};
use pipeline::{Address, Verdict};

/// Ingress of a VM's tap or veth.
#[classifier]
pub fn from_port(context: TcContext) -> i32 {
    run(&context, |skb, work, ifindex| walk::from_port(skb, &Maps, work, ifindex))
}

/// Ingress of the kernel's tunnel device in collect-metadata mode.
#[classifier]
pub fn from_tunnel(context: TcContext) -> i32 {
    run(&context, |skb, work, _| {
        let tunnel = tunnel_key(skb);
        walk::from_tunnel(skb, &Maps, work, tunnel)
    })
}

/// Ingress of a provider NIC.
#[classifier]
pub fn from_uplink(context: TcContext) -> i32 {
    run(&context, |skb, work, ifindex| walk::from_uplink(skb, &Maps, work, ifindex))
}

/// Ingress of the underlay NIC.
#[classifier]
pub fn from_underlay(context: TcContext) -> i32 {
    run(&context, |skb, work, _| pipeline::from_underlay(skb, &Maps, work))
}

/// Ingress of the link of the host's services.
#[classifier]
pub fn from_service(context: TcContext) -> i32 {
    run(&context, |skb, work, ifindex| walk::from_service(skb, &Maps, work, ifindex))
}

/// [`from_tunnel`] for test runs, which cannot carry tunnel metadata: VNI and remote address (host order)
/// stand in the control block. Never attached.
#[classifier]
pub fn test_tunnel(context: TcContext) -> i32 {
    run(&context, |skb, work, _| {
        let (vni, remote) = skb.test_metadata();
        walk::from_tunnel(
            skb,
            &Maps,
            work,
            TunnelKey { vni, vtep: Address::v4(remote.to_be_bytes()), lone: false },
        )
    })
}

/// A frame that the agent gives back to the walk. Run by it, never attached: hook and VNI or VLAN, and the remote
/// address (host order), stand in the control block; the agent carries the verdict out.
#[classifier]
pub fn from_agent(context: TcContext) -> i32 {
    let mut skb = Skb::new(context.skb.skb);
    let Some(work) = maps::agents_working_memory() else { return TC_ACT_SHOT };
    let (from, remote) = skb.test_metadata();
    let origin = Origin {
        hook: from >> 24,
        ifindex: skb_ifindex(&context),
        detail: from & 0x00ff_ffff,
        vtep: Address::v4(remote.to_be_bytes()),
    };
    let verdict = walk::from_agent(&mut skb, &Maps, work, &origin);
    act(&mut skb, verdict, None)
}

/// `AF_INET` of Linux.
const AF_INET: u32 = 2;

#[inline(always)]
fn run(context: &TcContext, walk: impl FnOnce(&mut Skb, &mut Work, u32) -> Verdict) -> i32 {
    let mut skb = Skb::new(context.skb.skb);
    // An array of one element has an element 0; the verifier wants to hear it.
    let Some(work) = maps::working_memory() else {
        return act(&mut skb, Verdict::Drop(Stage::Classify, Reason::NotProgrammed), None);
    };
    let verdict = walk(&mut skb, work, skb_ifindex(context));
    act(&mut skb, verdict, Some(&work.path))
}

#[inline(always)]
fn skb_ifindex(context: &TcContext) -> u32 {
    // SAFETY: the context pointer is valid for the whole program.
    unsafe { (*context.skb.skb).ifindex }
}

/// What the tunnel device took off. Without it, the zero address, which no table holds.
#[inline(always)]
fn tunnel_key(skb: &Skb) -> TunnelKey {
    let mut key = MaybeUninit::<bpf_tunnel_key>::zeroed();
    // SAFETY: the context is valid; the buffer has the size given, all of it initialised.
    let (result, key) = unsafe {
        let result =
            bpf_skb_get_tunnel_key(skb.as_ptr(), key.as_mut_ptr(), size_of::<bpf_tunnel_key>() as u32, 0);
        (result, key.assume_init())
    };
    if result != 0 {
        return TunnelKey { vni: 0, vtep: Address::ZERO, lone: false };
    }
    // SAFETY: without BPF_F_TUNINFO_IPV6 the helper fills the IPv4 member, in host order.
    let remote = unsafe { key.__bindgen_anon_1.remote_ipv4 };
    TunnelKey { vni: key.tunnel_id, vtep: Address::v4(remote.to_be_bytes()), lone: false }
}

/// Carries out a verdict. A test reads it from the control block, which nothing else reads behind a
/// redirect or a drop.
#[inline(always)]
fn act(skb: &mut Skb, verdict: Verdict, path: Option<&Path>) -> i32 {
    let path_is = |flag| path.filter(|path| path.flags & flag != 0);
    match verdict {
        Verdict::Pass => TC_ACT_UNSPEC,
        Verdict::Port { ifindex } => {
            skb.note(1, ifindex);
            if path_is(Path::FLAG_VETH_PEER).is_some() {
                skb.accept();
                // SAFETY: a plain call; the kernel checks the index.
                return unsafe { bpf_redirect_peer(ifindex, 0) as i32 };
            }
            // SAFETY: as above.
            unsafe { bpf_redirect(ifindex, 0) as i32 }
        }
        Verdict::Uplink { ifindex } => {
            skb.note(2, ifindex);
            // SAFETY: as above.
            unsafe { bpf_redirect(ifindex, 0) as i32 }
        }
        Verdict::Tunnel { ifindex } => {
            skb.note(3, ifindex);
            redirect_neighbor(ifindex, path_is(Path::FLAG_ON_LINK).map(|path| path.vtep))
        }
        Verdict::Punt(punt) => {
            skb.note(4, punt as u32);
            TC_ACT_SHOT
        }
        Verdict::Drop(stage, reason) => {
            skb.note(5, (stage as u32) << 8 | reason as u32);
            TC_ACT_SHOT
        }
    }
}

/// Sends to a neighbour, or, without one, where the kernel's routes lead the packet's own destination.
#[inline(always)]
fn redirect_neighbor(ifindex: u32, neighbor: Option<Address>) -> i32 {
    let Some(neighbor) = neighbor else {
        // SAFETY: a plain call; the kernel checks the index.
        return unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 };
    };
    let mut next_hop = bpf_redir_neigh {
        nh_family: AF_INET,
        __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: neighbor.words() },
    };
    next_hop.__bindgen_anon_1.ipv4_nh = u32::from_ne_bytes(neighbor.to_v4());
    // SAFETY: as above; the parameters are read before the call returns.
    unsafe { bpf_redirect_neigh(ifindex, &mut next_hop, size_of::<bpf_redir_neigh>() as i32, 0) as i32 }
}

/// The kernel's licence check reads this: the helpers used are for GPL-compatible programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
