//! One walk on one host: the real entry points over recorded tables, and the outcome in words.

use crate::words::{self, Family, Names};
use crate::{NotReadable, frames, state};
use model::trace::{Headers, Hex, Nat, Origin, SessionUse, Stage, Verdict as Told, WalkRequest, Walked};
use pipeline::host::{Frame, Look, Recorder, Source, Step};
use pipeline::table_set::TableSet;
use pipeline::tables::Config;
use pipeline::{Address, Punt, TunnelKey, Verdict, Work};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where a frame comes in, as the programs see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    Port { ifindex: u32 },
    Uplink { ifindex: u32 },
    Underlay,
}

/// What is known around the tables.
pub struct Surroundings<'a> {
    pub names: &'a Names,
    /// The tables as they were compiled: they know the prefix of a route.
    pub programmed: &'a TableSet,
    /// Revision of the slice they are of.
    pub revision: u64,
    /// Who made the entry of a table with a key, as the compiler names it.
    pub origin: &'a dyn Fn(&'static str, &[u8]) -> Option<Origin>,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// Walks the frame of a request that enters at `arrival`.
///
/// # Errors
/// The state in the request is not readable.
pub fn walk<S: Source>(
    source: &S,
    around: &Surroundings<'_>,
    arrival: Arrival,
    request: &WalkRequest,
) -> Result<Walked, NotReadable> {
    let recorder = Recorder::new(source, state::from_kept(&request.state)?, request.fresh);
    let config = source.config();
    let tunnel = Some((config.tunnel_port, config.flags & Config::FLAG_GENEVE != 0));
    let packet = frames::headers(&request.frame.0, request.vlan, tunnel);
    let mut frame = Frame { bytes: request.frame.0.clone(), vlan: request.vlan, gso_size: 0 };
    let mut work = Box::new(Work::zeroed());
    let verdict = match arrival {
        Arrival::Port { ifindex } => pipeline::from_port(&mut frame, &recorder, &mut work, ifindex),
        Arrival::Uplink { ifindex } => pipeline::from_uplink(&mut frame, &recorder, &mut work, ifindex),
        Arrival::Underlay => from_underlay(&mut frame, &recorder, &mut work, &packet),
    };
    let (steps, state) = recorder.finish();
    let forwarded = !matches!(verdict, Verdict::Drop(..) | Verdict::Punt(_));
    let output = forwarded.then(|| {
        let tunnel = tunnel.filter(|_| matches!(verdict, Verdict::Tunnel { .. }));
        frames::headers(&frame.bytes, frame.vlan, tunnel)
    });
    Ok(Walked {
        revision: around.revision,
        epoch: config.epoch,
        entered: entered(arrival, &packet, around.names),
        session: session_use(&steps),
        nat: output.as_ref().and_then(|output| nat(&packet, output)),
        stages: steps.iter().filter_map(|step| stage(step, around, family(&packet))).collect(),
        verdict: told(verdict, &work, &frame, &steps, around.names),
        packet,
        output,
        vlan: frame.vlan,
        frame: Hex(if forwarded { frame.bytes } else { Vec::new() }),
        state: state::to_kept(&state),
    })
}

/// What the program on the underlay leaves to the kernel's tunnel device comes back by the program behind that.
fn from_underlay<S: Source>(
    frame: &mut Frame,
    recorder: &Recorder<'_, S>,
    work: &mut Work,
    packet: &Headers,
) -> Verdict {
    let verdict = pipeline::from_underlay(frame, recorder, work);
    let (Verdict::Pass, Some(tunnel), Some(inner)) = (verdict, &packet.tunnel, frames::inner(&frame.bytes))
    else {
        return verdict;
    };
    let key = TunnelKey { vni: tunnel.vni, vtep: Address::from(tunnel.src), lone: false };
    frame.bytes = inner;
    pipeline::from_tunnel(frame, recorder, work, key)
}

fn entered(arrival: Arrival, packet: &Headers, names: &Names) -> String {
    match (arrival, &packet.tunnel) {
        (Arrival::Port { ifindex }, _) => format!("from the VM, {}", names.link(ifindex)),
        (Arrival::Uplink { ifindex }, _) => match packet.vlan {
            Some(vlan) => format!("from uplink {}, VLAN {vlan}", names.link(ifindex)),
            None => format!("from uplink {}, untagged", names.link(ifindex)),
        },
        (Arrival::Underlay, Some(tunnel)) => format!(
            "from the tunnel, {}, {} VNI {} ({})",
            names.host(tunnel.src),
            tunnel.protocol,
            tunnel.vni,
            names.network(tunnel.vni)
        ),
        (Arrival::Underlay, None) => "from the underlay".to_owned(),
    }
}

fn session_use(steps: &[Step]) -> SessionUse {
    let looks = || steps.iter().flat_map(|step| &step.looks);
    let known = looks().any(|look| matches!(look, Look::Session(_, Some(_))));
    let walked = steps.iter().any(|step| step.stage == pipeline::Stage::Resolve);
    if looks().any(|look| matches!(look, Look::EndedSession(_))) {
        SessionUse::Ended
    } else if looks().any(|look| matches!(look, Look::NewSession(..))) {
        SessionUse::Made
    } else if known && walked {
        SessionUse::Renewed
    } else if known {
        SessionUse::Cached
    } else {
        SessionUse::None
    }
}

/// The translation between what came and what left.
fn nat(before: &Headers, after: &Headers) -> Option<Nat> {
    // Nothing of IPv6 is translated: what differs there is an answer of the host's own.
    if before.src.is_some_and(|src| src.is_ipv6()) {
        return None;
    }
    let ends = |headers: &Headers| {
        let end = |address: Option<IpAddr>, port: Option<u16>| match (address, port) {
            (Some(address), Some(port)) if headers.protocol != "icmp" => {
                SocketAddr::new(address, port).to_string()
            }
            (Some(address), Some(port)) => format!("{address} id {port}"),
            (Some(address), None) => address.to_string(),
            (None, _) => "?".to_owned(),
        };
        format!("{} > {}", end(headers.src, headers.src_port), end(headers.dst, headers.dst_port))
    };
    let answered = before.protocol == "arp" || (before.src == after.dst && before.dst == after.src);
    let (before, after) = (ends(before), ends(after));
    (!answered && before != after).then_some(Nat { before, after })
}

fn family(packet: &Headers) -> Family {
    if packet.src.is_some_and(|src| src.is_ipv6()) { Family::Ipv6 } else { Family::Ipv4 }
}

fn stage(step: &Step, around: &Surroundings<'_>, family: Family) -> Option<Stage> {
    let looks = step.looks.iter().filter_map(|look| words::look(look, around)).collect();
    let text = words::summary(step, around, family)?;
    Some(Stage { name: step.stage.name().to_owned(), text, looks })
}

fn told(verdict: Verdict, work: &Work, frame: &Frame, steps: &[Step], names: &Names) -> Told {
    let link = |kind: &str, ifindex: u32| {
        let known = names.links.get(&ifindex);
        Told {
            kind: kind.to_owned(),
            link: Some(names.link(ifindex)),
            link_up: known.map(|link| link.up),
            port: known.and_then(|link| link.port),
            physical_network: known.and_then(|link| link.physical_network.clone()),
            ..Told::default()
        }
    };
    match verdict {
        Verdict::Pass => Told { text: "left to the host itself: not ours".to_owned(), ..link("host", 0) },
        Verdict::Port { ifindex } => {
            Told { text: format!("to {}", names.link(ifindex)), ..link("port", ifindex) }
        }
        Verdict::Uplink { ifindex } => {
            let tag = frame.vlan.map_or("untagged".to_owned(), |vlan| format!("VLAN {vlan}"));
            let text = format!("out of uplink {}, {tag}", names.link(ifindex));
            let neighbor = Some(work.target.next_hop).filter(|next_hop| !next_hop.is_zero());
            let neighbor = neighbor.map(IpAddr::from);
            Told { text, vlan: frame.vlan, neighbor, ..link("uplink", ifindex) }
        }
        Verdict::Tunnel { .. } => {
            let vtep = Ipv4Addr::from(work.path.vtep.to_v4());
            let vni = work.path.vni;
            let text =
                format!("to {} ({vtep}) by the tunnel, VNI {vni} ({})", names.host(vtep), names.network(vni));
            Told { text, vtep: Some(vtep), vni: Some(vni), kind: "tunnel".to_owned(), ..Told::default() }
        }
        Verdict::Drop(stage, reason) => Told {
            kind: "drop".to_owned(),
            text: format!("dropped in {}: {}", stage.name(), reason.sentence()),
            stage: Some(stage.name().to_owned()),
            reason: Some(reason.name().to_owned()),
            sentence: Some(reason.sentence().to_owned()),
            ..Told::default()
        },
        Verdict::Punt(punt) => punted(punt, steps),
    }
}

fn punted(punt: Punt, steps: &[Step]) -> Told {
    let events = steps.iter().flat_map(|step| step.looks.iter().map(move |look| (step.stage, look)));
    let mut told = events.filter_map(|(stage, look)| match look {
        Look::Event(event) if event.punt == punt as u32 => Some((stage, event)),
        _ => None,
    });
    let event = told.next_back();
    let detail = event.map_or(0, |(_, event)| event.detail);
    let next_hop = event.map(|(_, event)| IpAddr::from(event.address));
    let what = match (punt, next_hop) {
        (Punt::FragmentationNeeded, _) => format!("larger than the {detail} bytes that fit"),
        (Punt::ResolveNeighbor, Some(next_hop)) => format!("the MAC of {next_hop} is not known"),
        _ => punt.name().replace('-', " "),
    };
    Told {
        kind: "punt".to_owned(),
        text: format!("handed to the agent, {what}: {}", punt.sentence()),
        stage: event.map(|(stage, _)| stage.name().to_owned()),
        reason: Some(punt.name().to_owned()),
        sentence: Some(punt.sentence().to_owned()),
        mtu: (punt == Punt::FragmentationNeeded).then_some(detail),
        neighbor: next_hop.filter(|_| punt == Punt::ResolveNeighbor),
        ..Told::default()
    }
}
