//! From classified packet to verdict: the session's cached path if there is one, the stages otherwise.

use crate::runtime::{InsertError, Packet, Tables};
use crate::session::{Direction, Path, Session, SessionKey, seen};
use crate::stage::{acl, dnat, output, port_security, resolve, route, snat, switch};
use crate::verdict::{Reason, Stage, Verdict};
use crate::walk::{Hook, Step, Target, Translated, Walk, Work, deny};
use core::sync::atomic::Ordering::Relaxed;
use packet::{ipv4, tcp};

/// Forwards a classified IPv4 packet.
#[inline(always)]
pub(crate) fn forward<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<Verdict> {
    let tables = walk.tables;
    if let Some((session, direction)) = find(walk) {
        follow(walk, &session, direction)?;
        output::check(walk)?;
        account(walk, &session, direction);
        if is_refused(walk, &session, direction) {
            return deny(Stage::Dnat, Reason::Filtered);
        }
        return output::send(walk);
    }
    if walk.work.headers.error_offset != 0 && matches!(walk.hook, Hook::Port | Hook::Overlay) {
        return deny(Stage::Classify, Reason::IcmpErrorNotTranslated);
    }
    evaluate_new(walk)?;
    if walk.work.target.kind == Target::ANSWER {
        return output::answer_echo(walk);
    }
    output::check(walk)?;
    if walk.work.stateless == 0 {
        create(walk)?;
        if let Some(session) = tables.session(&walk.work.stored) {
            account(walk, &session, direction_of(walk.work, &session));
        }
    }
    if walk.work.translated.flags & Session::NAT_PUNCHED != 0 {
        return deny(Stage::Dnat, Reason::Filtered);
    }
    output::send(walk)
}

/// Whether the other end's filter keeps the packet out: it has not sent anything itself.
#[inline(always)]
fn is_refused<P, T>(walk: &Walk<'_, P, T>, session: &Session, direction: Direction) -> bool {
    walk.work.translated.flags & Session::NAT_PUNCHED != 0
        && direction == Direction::Forward
        && !session.is_answered()
}

/// The session of the packet and which direction of it this is; fills `stored` and `forward`.
#[inline(always)]
fn find<'a, P: Packet, T: Tables>(walk: &mut Walk<'a, P, T>) -> Option<(T::SessionRef<'a>, Direction)> {
    let tables = walk.tables;
    let work = &mut *walk.work;
    work.forward = work.key;
    let exchanged = work.key.ends_exchanged();
    work.exchanged = u32::from(exchanged);
    work.stored = if exchanged { work.key.reversed() } else { work.key };
    if let Some(session) = tables.session(&work.stored) {
        let direction = direction_of(work, &session);
        if direction == Direction::Forward {
            return Some((session, direction));
        }
        // Another connection's, if the session's answers are translated.
        if session.reply == work.key {
            work.forward = work.key.reversed();
            return Some((session, direction));
        }
    }
    if walk.hook == Hook::Overlay {
        return None;
    }
    find_by_reply(walk)
}

/// The direction of a packet whose stored key is the session's.
#[inline(always)]
fn direction_of(work: &Work, session: &Session) -> Direction {
    if session.exchanged == work.exchanged { Direction::Forward } else { Direction::Reply }
}

/// The session whose other direction has a key of its own, the packet's.
#[inline(always)]
fn find_by_reply<'a, P: Packet, T: Tables>(
    walk: &mut Walk<'a, P, T>,
) -> Option<(T::SessionRef<'a>, Direction)> {
    let tables = walk.tables;
    let work = &mut *walk.work;
    let stored = tables.reply(&work.key)?;
    let session = tables.session(&stored)?;
    if session.reply != work.key {
        return None;
    }
    work.forward = session.forward(&stored);
    work.stored = stored;
    Some((session, Direction::Reply))
}

/// Fills `path` and `translated` for a packet of an existing session.
#[inline(always)]
fn follow<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    session: &Session,
    direction: Direction,
) -> Step<()> {
    set_translated(walk, session, direction);
    let work = &mut *walk.work;
    if session.path(direction).load(work.config.epoch, &mut work.path)
        && work.path.ingress == work.ingress
        && work.path.arrived_dst == work.headers.dst_mac
    {
        return Ok(());
    }
    evaluate_existing(walk, session, direction)
}

/// A session's translation of a direction: the other key, turned round.
#[inline(always)]
fn set_translated<P, T>(walk: &mut Walk<'_, P, T>, session: &Session, direction: Direction) {
    let other = match direction {
        Direction::Forward => &session.reply,
        Direction::Reply => &walk.work.forward,
    };
    walk.work.translated = Translated {
        src: other.dst,
        dst: other.src,
        src_port: other.dst_port,
        dst_port: other.src_port,
        flags: session.flags,
    };
}

/// The stages for a session's direction whose path is missing, of an older epoch, or of another ingress; the
/// session keeps the new path.
#[inline(never)]
fn evaluate_existing<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    session: &Session,
    direction: Direction,
) -> Step<()> {
    if walk.hook == Hook::Port {
        port_security::run(walk)?;
        acl::egress(walk, Some(direction))?;
        walk.work.router_vni = 0;
        switch::run(walk)?;
    }
    if !snat::still_valid(walk, session) {
        return end(walk, session);
    }
    let routed = walk.hook != Hook::Port || walk.work.router_vni != 0;
    match (session.flags != 0, walk.hook) {
        (false, Hook::Port) if routed => {
            route::run(walk)?;
            if walk.work.target.kind != Target::ADDRESS {
                return end(walk, session);
            }
        }
        (false, Hook::Port) => {}
        (false, Hook::Overlay) => switch::run(walk)?,
        (true, Hook::Port | Hook::Transit | Hook::Uplink) if routed => {
            walk.work.router_vni = session.router_vni;
            walk.work.external_vni = session.external_vni;
            translated_target(walk, session, direction)?;
        }
        _ => return end(walk, session),
    }
    acl::ingress(walk, Some(direction))?;
    resolve::run(walk)?;
    if direction == Direction::Forward && session.flags == 0 && reply_vni(walk.work) != session.reply.vni {
        return end(walk, session);
    }
    session.path(direction).store(&walk.work.path);
    Ok(())
}

/// Where a translated session's direction goes: a VM of ours, or the outside.
#[inline(always)]
fn translated_target<P: Packet, T: Tables>(
    walk: &mut Walk<'_, P, T>,
    session: &Session,
    direction: Direction,
) -> Step<()> {
    let forward = walk.work.forward;
    match direction {
        Direction::Forward if session.flags & (Session::NAT_DST | Session::NAT_ROUTED_DST) != 0 => {
            dnat::to_tenant(walk, session.inside_vni, session.reply.src);
            Ok(())
        }
        Direction::Forward => dnat::to_outside(walk, forward.dst, forward.dst_port),
        Direction::Reply if forward.vni == session.external_vni => {
            dnat::to_outside(walk, forward.src, forward.src_port)
        }
        Direction::Reply => {
            dnat::to_tenant(walk, forward.vni, forward.src);
            Ok(())
        }
    }
}

/// Ends a session that the configuration no longer allows.
#[inline(never)]
fn end<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>, session: &Session) -> Step<()> {
    // Where the answers have no key of their own, theirs may be another connection's claim.
    if walk.tables.reply(&session.reply) == Some(walk.work.stored) {
        walk.tables.remove_reply(&session.reply);
    }
    walk.tables.remove_session(&walk.work.stored);
    deny(Stage::Classify, Reason::SessionEnded)
}

/// The stages for the first packet of a connection, or for one that is only passed on.
#[inline(never)]
fn evaluate_new<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let key = walk.work.key;
    walk.work.translated =
        Translated { src: key.src, dst: key.dst, src_port: key.src_port, dst_port: key.dst_port, flags: 0 };
    match walk.hook {
        Hook::Port => {
            port_security::run(walk)?;
            acl::egress(walk, None)?;
            switch::run(walk)?;
            if walk.work.router_vni != 0 {
                from_vm_routed(walk)?;
            }
        }
        Hook::Overlay => switch::run(walk)?,
        Hook::Transit | Hook::Uplink => dnat::inbound(walk)?,
    }
    if walk.work.target.kind == Target::ANSWER {
        return Ok(());
    }
    acl::ingress(walk, None)?;
    resolve::run(walk)
}

#[inline(always)]
fn from_vm_routed<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    route::run(walk)?;
    if walk.work.target.kind != Target::EXTERNAL {
        return Ok(());
    }
    dnat::outbound(walk)?;
    if walk.work.target.kind == Target::ANSWER {
        return Ok(());
    }
    snat::run(walk)
}

/// Writes the session; first the reply key, where it has one of its own, which is also the claim on it.
#[inline(never)]
fn create<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    fill_reply(walk);
    fill_fresh(walk);
    let max = walk.work.config.sessions_per_port_max;
    let owner = session_owner(walk);
    if max != 0 && !walk.tables.reserve_session(owner, max) {
        return snat::refuse(walk, Stage::Output, Reason::SessionQuota);
    }
    let created = insert(walk);
    if max != 0 && created.is_err() {
        walk.tables.release_session(owner);
    }
    created
}

/// The port whose share of the host's sessions a new one counts against: the sender's, or else the receiver's.
#[inline(always)]
fn session_owner<P, T>(walk: &Walk<'_, P, T>) -> u32 {
    if walk.hook == Hook::Port { walk.work.ingress } else { walk.work.path.ifindex }
}

#[inline(never)]
fn insert<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) -> Step<()> {
    let tables = walk.tables;
    let work = &mut *walk.work;
    let own_reply = work.reply != work.key.reversed();
    if own_reply {
        match tables.insert_reply(&work.reply, &work.stored) {
            Ok(()) => {}
            Err(InsertError::Full) => return deny(Stage::Output, Reason::SessionTableFull),
            Err(InsertError::Exists) => take_over(tables, &work.reply, &work.stored)?,
        }
    }
    let reason = match tables.insert_session(&work.stored, &work.fresh) {
        Ok(()) => {
            if work.translated.flags & Session::NAT_PUNCHED != 0 {
                settle_punched(tables, work);
            }
            return Ok(());
        }
        Err(InsertError::Exists) if same_connection(tables, work) => return Ok(()),
        Err(InsertError::Exists) => Reason::SessionConflict,
        Err(InsertError::Full) => Reason::SessionTableFull,
    };
    if own_reply {
        tables.remove_reply(&work.reply);
    }
    deny(Stage::Output, reason)
}

/// Two CPUs may each make a session of one connection, from either end, and neither would ever see an answer.
/// Of the two, both CPUs choose the same to go; its packets then are the other's answers.
#[inline(never)]
fn settle_punched<T: Tables>(tables: &T, work: &Work) {
    let (other, _) = work.reply.stored();
    let Some(session) = tables.session(&other) else { return };
    if session.reply != work.key {
        return;
    }
    let own_goes = (work.key.src, work.key.src_port) > (work.reply.src, work.reply.src_port);
    if own_goes {
        tables.remove_reply(&work.reply);
        tables.remove_session(&work.stored);
    } else {
        tables.remove_reply(&session.reply);
        tables.remove_session(&other);
    }
}

/// The session's key is taken: by the same connection, if another CPU was first with a packet of this
/// direction or the other.
#[inline(never)]
fn same_connection<T: Tables>(tables: &T, work: &Work) -> bool {
    let Some(session) = tables.session(&work.stored) else { return false };
    if session.exchanged == work.exchanged {
        session.reply == work.reply
    } else {
        session.reply == work.key && work.reply == work.key.reversed()
    }
}

/// The reply key is taken: by the same flow (another CPU, or half swept), by a session that is gone, or by
/// another live connection, which then keeps it.
#[inline(never)]
fn take_over<T: Tables>(tables: &T, reply: &SessionKey, stored: &SessionKey) -> Step<()> {
    let Some(holder) = tables.reply(reply) else { return Ok(()) };
    if holder == *stored {
        return Ok(());
    }
    if tables.session(&holder).is_some() {
        return deny(Stage::Output, Reason::SessionConflict);
    }
    tables.remove_reply(reply);
    match tables.insert_reply(reply, stored) {
        Ok(()) => Ok(()),
        Err(_) => deny(Stage::Output, Reason::SessionConflict),
    }
}

/// The network that answers are on when they are looked up. Of a routed connection it is another once the receiver
/// moves to this host or away from it.
#[inline(always)]
fn reply_vni(work: &Work) -> u32 {
    match work.target.kind {
        Target::EXTERNAL | Target::REMOTE => work.external_vni,
        _ if work.path.output == Path::OUT_PORT => work.target.vni,
        _ => work.key.vni,
    }
}

#[inline(always)]
fn fill_reply<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) {
    let work = &mut *walk.work;
    work.reply = SessionKey {
        vni: reply_vni(work),
        src: work.translated.dst,
        dst: work.translated.src,
        src_port: work.translated.dst_port,
        dst_port: work.translated.src_port,
        protocol: work.key.protocol,
        zero: [0; 3],
    };
}

#[inline(always)]
fn fill_fresh<P: Packet, T: Tables>(walk: &mut Walk<'_, P, T>) {
    let now_ns = walk.tables.now_ns();
    let work = &mut *walk.work;
    let translated = work.translated.flags != 0;
    let fresh = &mut work.fresh;
    fresh.reply = work.reply;
    fresh.flags = work.translated.flags;
    fresh.created_ns = now_ns;
    fresh.last_ns.store(now_ns, Relaxed);
    // No loop: the verifier loses the bounds of a chained iterator.
    let ([packets_forward, packets_reply], [bytes_forward, bytes_reply]) = (&fresh.packets, &fresh.bytes);
    packets_forward.store(0, Relaxed);
    packets_reply.store(0, Relaxed);
    bytes_forward.store(0, Relaxed);
    bytes_reply.store(0, Relaxed);
    fresh.seen.store(0, Relaxed);
    fresh.router_vni = if translated { work.router_vni } else { 0 };
    fresh.external_vni = if translated { work.external_vni } else { 0 };
    fresh.inside_vni = work.target.vni;
    fresh.exchanged = work.exchanged;
    fresh.zero = 0;
    let [forward, reply] = &fresh.paths;
    forward.store(&work.path);
    reply.clear();
}

/// Counts the packet and notes what it says of the connection's state.
#[inline(always)]
fn account<P: Packet, T: Tables>(walk: &Walk<'_, P, T>, session: &Session, direction: Direction) {
    let headers = &walk.work.headers;
    if headers.error_offset != 0 {
        // RFC 5508 REQ-6, RFC 5382 REQ-10: an error neither refreshes nor ends a session.
        return;
    }
    // RFC 7857 §7: a stranger that was let in keeps nothing alive, nor does the reset it is answered with.
    // A VM's own packet keeps its own mapping alive, also when it goes to a sibling's.
    let mapped = session.flags & (Session::NAT_MAPPED_DST | Session::NAT_SNAT) == Session::NAT_MAPPED_DST;
    let uninvited = mapped && (direction == Direction::Forward || headers.tcp_flags & tcp::FLAG_RST != 0);
    let used_ns = if uninvited { session.last_ns.load(Relaxed) } else { walk.tables.now_ns() };
    let (wire_packets, ip_bytes) = on_wire(walk);
    session.count(direction, wire_packets, ip_bytes, used_ns);
    let mut bits = seen::PACKET;
    if headers.protocol == ipv4::PROTOCOL_TCP {
        bits |= flag(headers.tcp_flags, tcp::FLAG_SYN, seen::SYN)
            | flag(headers.tcp_flags, tcp::FLAG_ACK, seen::ACK)
            | flag(headers.tcp_flags, tcp::FLAG_FIN, seen::FIN)
            | flag(headers.tcp_flags, tcp::FLAG_RST, seen::RST);
    }
    if direction == Direction::Reply {
        bits <<= seen::REPLY_SHIFT;
    }
    // A lost update of two CPUs is made good by the next packet or segment that carries the bit.
    let before = session.seen.load(Relaxed);
    let after = bits | before & kept(headers.tcp_flags, before);
    if after != before {
        session.seen.store(after, Relaxed);
    }
}

/// How many packets the packet is on the wire, and their IP bytes in total: each has headers of its own.
#[inline(always)]
fn on_wire<P: Packet, T: Tables>(walk: &Walk<'_, P, T>) -> (u32, u32) {
    let (headers, gso_size) = (&walk.work.headers, walk.packet.gso_size());
    let payload = headers.ip_len.saturating_sub(headers.len());
    if gso_size == 0 || payload <= gso_size {
        return (1, headers.ip_len);
    }
    let packets = payload.div_ceil(gso_size);
    (packets, packets.wrapping_mul(headers.len()).wrapping_add(payload))
}

/// What of a connection's past a segment leaves standing: what follows a reset says that it was not believed
/// (RFC 7857 §2, the way out of TRANS), and a SYN after the end begins anew.
#[inline(always)]
fn kept(tcp_flags: u8, before: u32) -> u32 {
    const RESETS: u32 = seen::RST | seen::RST << seen::REPLY_SHIFT;
    const CLOSED: u32 = seen::FIN | seen::FIN << seen::REPLY_SHIFT;
    if tcp_flags & tcp::FLAG_RST != 0 {
        u32::MAX
    } else if tcp_flags & tcp::FLAG_SYN != 0 && (before & RESETS != 0 || before & CLOSED == CLOSED) {
        0
    } else {
        !RESETS
    }
}

#[inline(always)]
fn flag(flags: u8, flag: u8, bit: u32) -> u32 {
    if flags & flag != 0 { bit } else { 0 }
}
