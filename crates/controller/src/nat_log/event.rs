//! What the log says: one JSON object per line.
//!
//! A line about a block has `time`, `event` (`granted`, `returned`, `revoked`, `held`), the block
//! (`external_network`, `address`, `first_port`, `last_port`), its owner (`router`, `router_name`, `host`,
//! `host_name`, `project`) and `granted`, the time its owner got it. A `checkpoint` line has `time`, `event` and
//! `blocks`, the number of `held` lines that follow it. Times are RFC 3339 in UTC with milliseconds.

use model::moment::{self, Fraction};
use model::resource::{Host, Network, PortBlock, Router};
use model::slice::BlockId;
use model::{HostId, NetworkId, RouterId};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use store::Snapshot;

/// A block in its owner's hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub external_network: NetworkId,
    pub address: Ipv4Addr,
    pub first_port: u16,
    pub last_port: u16,
    pub router: RouterId,
    pub router_name: String,
    pub host: HostId,
    pub host_name: String,
    pub project: String,
    /// Milliseconds since 1970.
    pub granted_at_ms: i64,
}

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Kind {
    Granted = 1,
    /// Its owner needed it no more.
    Returned = 2,
    /// The reason for it went: the last VM, SNAT, the address, the host.
    Revoked = 3,
    /// Of a checkpoint: it is its owner's.
    Held = 4,
    /// What is not among the lines `held` that follow is nobody's.
    Checkpoint = 5,
}

impl Kind {
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Granted,
            2 => Self::Returned,
            3 => Self::Revoked,
            4 => Self::Held,
            5 => Self::Checkpoint,
            _ => return None,
        })
    }
}

/// An event of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Milliseconds since 1970.
    pub time_ms: i64,
    pub kind: Kind,
    pub holding: Holding,
}

#[derive(Serialize, Deserialize)]
pub(super) struct BlockLine {
    pub(super) time: String,
    pub(super) event: Kind,
    external_network: NetworkId,
    address: Ipv4Addr,
    first_port: u16,
    last_port: u16,
    router: RouterId,
    router_name: String,
    host: HostId,
    host_name: String,
    project: String,
    granted: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct CheckpointLine {
    pub(super) time: String,
    pub(super) event: Kind,
    pub(super) blocks: usize,
}

impl Event {
    /// The line, without its end.
    pub(super) fn to_line(&self) -> Result<String, serde_json::Error> {
        let holding = &self.holding;
        serde_json::to_string(&BlockLine {
            time: time_text(self.time_ms),
            event: self.kind,
            external_network: holding.external_network,
            address: holding.address,
            first_port: holding.first_port,
            last_port: holding.last_port,
            router: holding.router,
            router_name: holding.router_name.clone(),
            host: holding.host,
            host_name: holding.host_name.clone(),
            project: holding.project.clone(),
            granted: time_text(holding.granted_at_ms),
        })
    }

    /// None if the line is none of a block.
    pub(super) fn from_line(line: &[u8]) -> Option<Self> {
        let line: BlockLine = serde_json::from_slice(line).ok()?;
        Some(Self {
            time_ms: parse_time(&line.time)?,
            kind: line.event,
            holding: Holding {
                external_network: line.external_network,
                address: line.address,
                first_port: line.first_port,
                last_port: line.last_port,
                router: line.router,
                router_name: line.router_name,
                host: line.host,
                host_name: line.host_name,
                project: line.project,
                granted_at_ms: parse_time(&line.granted)?,
            },
        })
    }
}

impl Holding {
    /// A block of `snapshot` with the names its owner has there.
    pub(super) fn of(snapshot: &Snapshot, block: &PortBlock) -> Self {
        let network = snapshot.get::<Network>(block.external_network);
        let size = network.and_then(|network| network.provider.as_ref()).map_or(1, |own| own.block_size);
        let router = snapshot.get::<Router>(block.router);
        let host = snapshot.get::<Host>(block.host);
        Self {
            external_network: block.external_network,
            address: block.address,
            first_port: block.first_port,
            last_port: crate::slices::block_id(block).last_port(size),
            router: block.router,
            router_name: router.map(|router| router.standard.name.clone()).unwrap_or_default(),
            host: block.host,
            host_name: host.map(|host| host.name.clone()).unwrap_or_default(),
            project: router.map(|router| router.standard.project_id.clone()).unwrap_or_default(),
            granted_at_ms: block.granted_at_ms,
        }
    }

    /// All blocks of a snapshot.
    pub(super) fn all(snapshot: &Snapshot) -> Vec<Self> {
        snapshot.blocks.values().map(|block| Self::of(snapshot, block)).collect()
    }
}

/// What happened to blocks between two snapshots, endings first.
pub(super) fn between(before: &Snapshot, after: &Snapshot, time_ms: i64) -> Vec<Event> {
    if before.blocks.ptr_eq(&after.blocks) {
        return Vec::new();
    }
    let other = |snapshot: &Snapshot, id: &BlockId, block: &PortBlock| {
        snapshot.get::<PortBlock>(*id).is_none_or(|same| {
            (same.router, same.host, same.granted_at_ms) != (block.router, block.host, block.granted_at_ms)
        })
    };
    let gone = before.blocks.iter().filter(|(id, block)| other(after, id, block));
    let ended = gone.map(|(_, block)| {
        let kind = if block.retiring_since_ms.is_some() { Kind::Returned } else { Kind::Revoked };
        Event { time_ms, kind, holding: Holding::of(before, block) }
    });
    let new = after.blocks.iter().filter(|(id, block)| other(before, id, block));
    let granted =
        new.map(|(_, block)| Event { time_ms, kind: Kind::Granted, holding: Holding::of(after, block) });
    ended.chain(granted).collect()
}

/// RFC 3339 in UTC with milliseconds; of a time that no calendar has, that of 1970.
pub fn time_text(ms: i64) -> String {
    moment::text(ms.saturating_mul(1000), Fraction::Milliseconds)
}

/// Milliseconds since 1970 of a time in RFC 3339.
pub fn parse_time(text: &str) -> Option<i64> {
    i64::try_from(moment::parse_ns(text)?.div_euclid(1_000_000)).ok()
}
