//! `nanboku trace --live`: real packets through all hosts as they pass, from the events of `nanboku capture`.
//!
//! A packet that one host puts into the tunnel and another takes out is the same one if addresses, identification and
//! the beginning of the transport header are the same. What is told is a sample: so many walks per second and host.

use super::{Kind, TraceArgs, address_of};
use crate::command::capture::line::{clock, headers, outcome, place_name};
use crate::command::capture::stream::{Item, Stream};
use crate::command::capture::{Points, filter};
use crate::resource::Context;
use clap::Args;
use model::capture::{PlaceKind, Seen};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Write as _;

/// Bytes of a frame that headers need.
const SNAP_LEN: u32 = 128;
/// Packets under way, and walks, that are remembered.
const REMEMBERED: usize = 4096;

#[derive(Args, Debug, Default)]
pub(crate) struct Following {
    /// With --live: which packets, in tcpdump's words.
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// With --live: only what this router forwards or answers.
    #[arg(long)]
    router: Option<String>,
    /// With --live: end after so many packets.
    #[arg(long, value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// With --live: packets per second and host at most; the others pass unseen. 100 if not given.
    #[arg(long, value_name = "PACKETS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
}

impl Following {
    pub(super) fn is_given(&self) -> bool {
        !self.filter.is_empty() || self.router.is_some() || self.count.is_some() || self.rate.is_some()
    }
}

const RATE_DEFAULT: u32 = 100;

pub(super) async fn run(args: TraceArgs, cx: &Context) -> anyhow::Result<String> {
    let TraceArgs { sender, to, ipv6, kind, following, .. } = args;
    let points = Points {
        port: sender.from,
        network: sender.from_external,
        router: following.router,
        ..Points::default()
    };
    // By itself, so that a mistake is shown in the user's own words.
    filter(&following.filter)?;
    let mut words: Vec<String> = Vec::new();
    if let Some(to) = &to {
        words.push(format!("host {}", address_of((to, ipv6), cx).await?));
    }
    words.extend(protocol(kind));
    if !following.filter.is_empty() {
        words.push(format!("({})", following.filter.join(" ")));
    }
    let mut query = points.query(cx).await?;
    query.extend(filter(&[words.join(" and ")])?);
    query.push(("snap_len", SNAP_LEN.to_string()));
    query.push(("per_second", following.rate.unwrap_or(RATE_DEFAULT).to_string()));
    query.push(("whole", "true".to_owned()));
    let mut stream = Stream::open(cx, &query, None).await?;
    let mut packets = Packets::default();
    let count = following.count.unwrap_or(u64::MAX);
    while let Some(item) = stream.next().await? {
        let Item::Seen(seen) = item else { continue };
        let Some(text) = packets.tell(&seen) else { continue };
        if packets.number > count || write!(std::io::stdout(), "{text}").is_err() {
            break;
        }
    }
    if stream.lost() > 0 {
        eprintln!("nanboku: {} records lost", stream.lost());
    }
    stream.warn();
    Ok(String::new())
}

/// The filter that a kind is.
fn protocol(kind: Kind) -> Option<String> {
    match kind {
        Kind { icmp: true, .. } => Some("(icmp or icmp6)".to_owned()),
        Kind { tcp: Some(port), .. } => Some(format!("tcp port {port}")),
        Kind { udp: Some(port), .. } => Some(format!("udp port {port}")),
        Kind { protocol: Some(number), .. } => Some(format!("proto {number}")),
        _ => None,
    }
}

/// Packets as they were met, each with a number.
#[derive(Debug, Default)]
struct Packets {
    number: u64,
    /// Those in a tunnel, by what names them there: number, and when they were put in.
    under_way: HashMap<u64, (u64, u64)>,
    put_in: VecDeque<u64>,
    told: HashSet<(String, u64)>,
    told_in_order: VecDeque<(String, u64)>,
}

impl Packets {
    /// One walk in words; none if it was told already, at its other end.
    fn tell(&mut self, seen: &Seen) -> Option<String> {
        let walk = (seen.host.clone(), seen.walk);
        if !self.told.insert(walk.clone()) {
            return None;
        }
        self.told_in_order.push_back(walk);
        if self.told_in_order.len() > REMEMBERED {
            self.told_in_order.pop_front().map(|oldest| self.told.remove(&oldest));
        }
        let before = if seen.from.kind == PlaceKind::Tunnel {
            self.under_way.get(&seen.arrived_as).copied()
        } else {
            None
        };
        let number = before.map_or_else(
            || {
                self.number += 1;
                self.number
            },
            |(number, _)| number,
        );
        if seen.to.as_ref().is_some_and(|to| to.kind == PlaceKind::Tunnel) {
            self.under_way.insert(seen.left_as, (number, seen.at_ns));
            self.put_in.push_back(seen.left_as);
            if self.put_in.len() > REMEMBERED {
                self.put_in.pop_front().map(|oldest| self.under_way.remove(&oldest));
            }
        }
        Some(words(seen, number, before.map(|(_, at_ns)| at_ns)))
    }
}

fn words(seen: &Seen, number: u64, before_ns: Option<u64>) -> String {
    let later = before_ns
        .map_or(String::new(), |before| format!(" (+{} us)", seen.at_ns.saturating_sub(before) / 1000));
    let from = place_name(&seen.from);
    let network =
        if seen.from.network.is_empty() { String::new() } else { format!(" ({})", seen.from.network) };
    let mut text = format!("#{number} {}{later} {} from {from}{network}\n", clock(seen.at_ns), seen.host);
    let nat = seen.nat.as_ref().map(|nat| format!("NAT     {} -> {}", nat.before, nat.after));
    let lines = [
        Some(format!("packet  {}", headers(seen))),
        Some(format!("stages  {}", seen.stages.join(" "))),
        nat,
        Some(format!("verdict {}", outcome(seen))),
    ];
    for line in lines.into_iter().flatten() {
        text.push_str(&format!("   {line}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::capture::Place;

    fn place(kind: PlaceKind) -> Place {
        Place { kind, name: "x".into(), ..Place::default() }
    }

    fn seen(
        host: &str,
        walk: u64,
        (from, to): (PlaceKind, PlaceKind),
        (arrived_as, left_as): (u64, u64),
    ) -> Seen {
        Seen {
            host: host.into(),
            walk,
            at_ns: 1000 * walk,
            from: place(from),
            to: Some(place(to)),
            arrived_as,
            left_as,
            ..Seen::default()
        }
    }

    #[test]
    fn a_packet_keeps_its_number_from_host_to_host() {
        use PlaceKind::{Port, Tunnel, Uplink};
        let mut packets = Packets::default();
        let sent = seen("ahv03", 1, (Port, Tunnel), (11, 12));
        assert!(packets.tell(&sent).unwrap().starts_with("#1 "));
        assert_eq!(packets.tell(&sent), None, "its other end");
        let other = seen("ahv03", 2, (Port, Tunnel), (21, 22));
        assert!(packets.tell(&other).unwrap().starts_with("#2 "));
        let forwarded = packets.tell(&seen("ahv01", 5, (Tunnel, Uplink), (12, 13))).unwrap();
        assert!(forwarded.starts_with("#1 ") && forwarded.contains("(+4 us)"), "{forwarded}");
        let back = packets.tell(&seen("ahv01", 6, (Uplink, Tunnel), (14, 15))).unwrap();
        assert!(back.starts_with("#3 "), "{back}");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut packets = Packets::default();
        for walk in 0..3 * REMEMBERED as u64 {
            packets.tell(&seen("h", walk, (PlaceKind::Port, PlaceKind::Tunnel), (walk, walk + 1)));
        }
        assert_eq!((packets.told.len(), packets.under_way.len()), (REMEMBERED, REMEMBERED));
    }
}
