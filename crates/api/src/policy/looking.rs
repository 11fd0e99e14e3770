//! Who may look at whose packets: administrators at all; a member at what its own ports send and get, and at no more
//! of the network than that.

use super::{Facts, forbidden};
use crate::caller::Caller;
use crate::{Error, Resource};
use model::PortId;
use model::capture::CaptureRequest;
use model::resource::Port;
use model::trace::{Description, Headers, Hex, Hop, HopOutcome, Trace, Verdict, Walked, Way};

/// Lets the request pass, for a member cut down to its own port.
///
/// # Errors
/// Not found: the port is not the caller's. Forbidden: it is not about a port alone.
pub(crate) fn may_capture(
    caller: &Caller,
    facts: &impl Facts,
    names_host: bool,
    request: &mut CaptureRequest,
) -> Result<(), Error> {
    request.own = !caller.is_admin();
    if caller.is_admin() {
        return Ok(());
    }
    let inside = |edge: &String| !matches!(edge.as_str(), "in" | "out");
    let forbidden_parts = [
        ("host", names_host),
        ("router_id", request.router.is_some()),
        ("network_id", request.network.is_some()),
        ("physical_network", request.physical_network.is_some()),
        ("edge", request.edges.iter().any(inside)),
        ("port_id", request.port.is_none()),
    ];
    if let Some((part, _)) = forbidden_parts.iter().find(|(_, given)| *given) {
        return Err(forbidden("capture", part));
    }
    // Of a walk it sees the end at its port.
    request.whole = false;
    request.port.map_or(Ok(()), |port| may_look_at(caller, facts, port))
}

/// Lets a description pass.
///
/// # Errors
/// As above.
pub(crate) fn may_trace(caller: &Caller, facts: &impl Facts, description: &Description) -> Result<(), Error> {
    match description.from_port {
        _ if caller.is_admin() => Ok(()),
        Some(port) if description.from_external.is_none() => may_look_at(caller, facts, port),
        _ => Err(forbidden("trace", "from_external")),
    }
}

/// Its own, by project: the owner of a network does not look into others' ports on it.
fn may_look_at(caller: &Caller, facts: &impl Facts, port: PortId) -> Result<(), Error> {
    let id = port.to_string();
    let own = facts.port(&id).is_some_and(|(project, _)| caller.owns(&project));
    if own { Ok(()) } else { Err(Port::not_found(id)) }
}

/// What a member is told of a trace: what its own port sends and what becomes of it; of what lies behind, how the
/// walk of each host ended.
pub(crate) fn told_to_member(trace: Trace) -> Trace {
    let Trace { packet, forward, answer, complete } = trace;
    Trace { packet, forward: way(forward, true), answer: answer.map(|answer| way(answer, false)), complete }
}

fn way(way: Way, own: bool) -> Way {
    let text = match way.hops.last().map(|hop| &hop.outcome) {
        Some(HopOutcome::Walked(walked)) if !way.arrived => verdict(&walked.verdict).text,
        _ if way.arrived => "it arrives".to_owned(),
        _ => "it does not arrive".to_owned(),
    };
    let hops =
        |hops: Vec<Hop>| hops.into_iter().enumerate().map(|(n, told)| hop(n, told, own && n == 0)).collect();
    Way { arp: hops(way.arp), hops: hops(way.hops), arrived: way.arrived, text }
}

fn hop(number: usize, hop: Hop, own: bool) -> Hop {
    let outcome = match hop.outcome {
        HopOutcome::Walked(walked) => HopOutcome::Walked(Box::new(walked_on(*walked, own))),
        HopOutcome::NoEntry(no_entry) if own => HopOutcome::NoEntry(no_entry),
        HopOutcome::NoEntry(_) => HopOutcome::Unanswered("it has no such port".to_owned()),
        HopOutcome::Unanswered(_) => HopOutcome::Unanswered("it did not answer".to_owned()),
    };
    Hop { host: format!("host {}", number + 1), outcome }
}

fn walked_on(walked: Walked, own: bool) -> Walked {
    let stages = walked.stages.into_iter();
    let stages = stages.map(|stage| model::trace::Stage { text: String::new(), looks: Vec::new(), ..stage });
    // A new destination would tell who is behind somebody's address.
    let same_destination = walked.output.as_ref().is_some_and(|output| output.dst == walked.packet.dst);
    Walked {
        revision: 0,
        epoch: 0,
        entered: if own { "from the VM".to_owned() } else { String::new() },
        packet: if own { walked.packet } else { Headers::default() },
        session: walked.session,
        nat: walked.nat.filter(|_| own && same_destination),
        stages: stages.collect(),
        verdict: verdict(&walked.verdict),
        output: None,
        frame: Hex::default(),
        vlan: None,
        state: Vec::new(),
    }
}

fn verdict(verdict: &Verdict) -> Verdict {
    let text = match verdict.kind.as_str() {
        "drop" => format!("dropped: {}", verdict.sentence.as_deref().unwrap_or_default()),
        "punt" => "held or answered by the host".to_owned(),
        _ => "sent on".to_owned(),
    };
    Verdict {
        kind: verdict.kind.clone(),
        text,
        stage: verdict.stage.clone(),
        reason: verdict.reason.clone(),
        sentence: verdict.sentence.clone(),
        mtu: verdict.mtu,
        ..Verdict::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_hears_nothing_of_hosts_tunnels_and_others() {
        let walked = Walked {
            revision: 7,
            epoch: 7,
            entered: "secret-host".into(),
            packet: Headers { text: "own packet".into(), ..Headers::default() },
            session: model::trace::SessionUse::Made,
            nat: Some(model::trace::Nat { before: "a".into(), after: "secret-nat".into() }),
            stages: vec![model::trace::Stage {
                name: "route".into(),
                text: "secret-route".into(),
                looks: vec![],
            }],
            verdict: Verdict {
                kind: "tunnel".into(),
                text: "secret-verdict".into(),
                vtep: Some([10, 0, 0, 1].into()),
                physical_network: Some("secret-physnet".into()),
                link: Some("secret-link".into()),
                ..Verdict::default()
            },
            output: Some(Headers { dst: Some([9, 9, 9, 9].into()), ..Headers::default() }),
            frame: Hex(vec![0xde, 0xad]),
            vlan: Some(2207),
            state: vec![],
        };
        let at =
            |host: &str| Hop { host: host.into(), outcome: HopOutcome::Walked(Box::new(walked.clone())) };
        let forward =
            Way { hops: vec![at("secret-1"), at("secret-2")], text: "secret-text".into(), ..Way::default() };
        let told =
            told_to_member(Trace { forward: forward.clone(), answer: Some(forward), ..Trace::default() });
        let text = serde_json::to_string(&told).unwrap();
        for hidden in ["secret", "dead", "2207", "10.0.0.1", "9.9.9.9"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
        assert_eq!(text.matches("own packet").count(), 1, "only where it is sent: {text}");
        assert!(text.contains("route") && text.contains("host 2"));
    }
}
