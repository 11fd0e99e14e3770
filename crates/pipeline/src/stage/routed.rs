//! North-south without translation: a VM's own address is used on the external network, by routes that say so
//! (`Route::EXTERNAL_UNTRANSLATED`: all of IPv6, and of IPv4 what RFC 6888 REQ-6 exempts).
//!
//! Two tables must agree before a packet passes: the address is one that `external_addresses` has as routed, and the
//! router's route to the other end says that nothing is translated. The second is asked of the source of what comes
//! in, too, so that only those get in whom the VM reaches in the same way. Everything else is the floating IP's walk.

use crate::address::Address;
use crate::runtime::{Packet, Tables};
use crate::session::Session;
use crate::stage::{dnat, snat};
use crate::tables::{ExternalAddress, ExternalAddressKey, Route, RouteKey};
use crate::verdict::{Reason, Stage};
use crate::walk::{Hook, Step, Walk, deny};

/// A new flow from a VM by a route without translation: its address must be used outside, and be its router's.
#[inline(never)]
pub(crate) fn outbound<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let (external_vni, router_vni) = (walk.work.external_vni, walk.work.router_vni);
    let address = walk.work.key.src;
    let known = walk.tables.external_address(&ExternalAddressKey { external_vni, address });
    if known.is_some_and(|known| is_here(&known) && known.router_vni == router_vni) {
        return Ok(());
    }
    snat::refuse(walk, Stage::Snat, Reason::NotRouted)
}

/// To a VM's own address, on its host, without a session.
#[inline(never)]
pub(crate) fn inbound<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    address: &ExternalAddress,
) -> Step<()> {
    if walk.work.headers.error_offset != 0 {
        return deny(Stage::Dnat, Reason::IcmpErrorNotTranslated);
    }
    // From here, the sender's address outside is its own only if nothing translates it either.
    let translated = walk.hook == Hook::Port && walk.work.translated.flags & Session::NAT_ROUTED_SRC == 0;
    if translated || !is_untranslated(walk, address.router_vni, walk.work.key.src) {
        return deny(Stage::Dnat, Reason::NotRouted);
    }
    if walk.hook != Hook::Port {
        walk.work.router_vni = address.router_vni;
    }
    walk.work.translated.flags |= Session::NAT_ROUTED_DST;
    dnat::to_tenant(walk, address.network_vni, address.fixed);
    Ok(())
}

/// Whether the configuration still lets a session have its own addresses, or, if its source is translated, still
/// translates.
#[inline(never)]
pub(crate) fn still_valid<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, session: &Session) -> bool {
    let (external_vni, forward) = (session.external_vni, &walk.work.forward);
    let known = |address| walk.tables.external_address(&ExternalAddressKey { external_vni, address });
    if session.flags & (Session::NAT_SNAT | Session::NAT_FLOATING_SRC) != 0 {
        return !is_untranslated(walk, session.router_vni, forward.dst);
    }
    if session.flags & Session::NAT_ROUTED_SRC != 0 {
        let own = known(forward.src).filter(is_here);
        let router_vni = session.router_vni;
        if own.is_none_or(|own| own.router_vni != router_vni)
            || !is_untranslated(walk, router_vni, forward.dst)
        {
            return false;
        }
    }
    if session.flags & Session::NAT_ROUTED_DST != 0 {
        let own = known(forward.dst).filter(is_here);
        return own.is_some_and(|own| is_untranslated(walk, own.router_vni, forward.src));
    }
    true
}

/// A VM's own address, whose VM is on this host.
#[inline(always)]
fn is_here(address: &ExternalAddress) -> bool {
    address.kind == ExternalAddress::ROUTED && address.vtep.is_zero()
}

/// Whether a router translates nothing between its VMs and an address.
#[inline(always)]
fn is_untranslated<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, router_vni: u32, address: Address) -> bool {
    let route = walk.tables.route(&RouteKey::new(router_vni, address));
    route.is_some_and(|route| route.kind == Route::EXTERNAL_UNTRANSLATED)
}
