//! A captured packet in one line.

use model::capture::{Place, PlaceKind, Seen};
use time::OffsetDateTime;
use trace::frames;

/// `12:00:01.000123456 ahv01 port tap… in: … [nat …] to uplink eth1, VLAN 2207`.
pub(super) fn of(seen: &Seen) -> String {
    let mut line = format!("{} {} {}: {}", clock(seen.at_ns), point(seen), seen.edge, headers(seen));
    if let Some(nat) = &seen.nat {
        line.push_str(&format!(" | NAT {} -> {}", nat.before, nat.after));
    }
    line.push_str(&format!(" | {}", outcome(seen)));
    line
}

/// The frame's headers, without its tag, which is said apart.
pub(crate) fn headers(seen: &Seen) -> String {
    let frame = &seen.frame.0;
    let tag = frame.get(12..16).filter(|tag| tag.starts_with(&[0x81, 0]));
    let vlan = tag.map(|tag| u16::from_be_bytes([tag[2], tag[3]]) & 0x0fff);
    let plain = match vlan {
        Some(_) => [frame.get(..12).unwrap_or_default(), frame.get(16..).unwrap_or_default()].concat(),
        None => frame.clone(),
    };
    let text = frames::headers(&plain, vlan, None).text;
    vlan.map_or_else(|| text.clone(), |vlan| format!("VLAN {vlan}, {text}"))
}

/// Verdict, or stage and reason of the drop.
pub(crate) fn outcome(seen: &Seen) -> String {
    match &seen.drop {
        Some(drop) => format!("dropped at {}: {} ({})", drop.stage, drop.reason, drop.sentence),
        None => seen.verdict.clone(),
    }
}

/// The interface of the point: host, and whichever end of the walk the edge is nearer to.
pub(super) fn point(seen: &Seen) -> String {
    let place = match (&seen.to, seen.edge.as_str()) {
        (Some(to), "out") => to,
        _ => &seen.from,
    };
    let place = place_name(place);
    if seen.host.is_empty() { place } else { format!("{} {place}", seen.host) }
}

pub(crate) fn place_name(place: &Place) -> String {
    match place.kind {
        PlaceKind::Host | PlaceKind::Agent => place.kind.name().to_owned(),
        kind if place.name.is_empty() => kind.name().to_owned(),
        kind => format!("{} {}", kind.name(), place.name),
    }
}

/// UTC, as all that hosts tell.
pub(crate) fn clock(at_ns: u64) -> String {
    let time =
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ns)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (hour, minute, second, nanosecond) = time.to_hms_nano();
    format!("{hour:02}:{minute:02}:{second:02}.{nanosecond:09}")
}
