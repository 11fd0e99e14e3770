//! The kernel's side: carries out plans, sends frames, reads counters. All calls are short and blocking.

use crate::answer::Outgoing;
use crate::control::HookStatus;
use crate::frames::Again;
use crate::machine::{BlockUses, Plan};
use dataplane::{
    Attachment, Dataplane, EventReader, FrameReader, OpenPort, SessionTables, Settings, Sizes, Sweeper,
    Timeouts, Watching,
};
use model::NatTimeouts;
use netlink::{IpSocket, PacketSocket};
use pipeline::Total;
use pipeline::Verdict;
use pipeline::fragment::FragmentKey;
use pipeline::nat::Mapping;
use pipeline::table_set::TableSet;
use pipeline::tables::{BlockOwnerKey, NetworkKey, PortCounters, RouterKey};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Kernel {
    dataplane: Dataplane,
    socket: PacketSocket,
    /// For packets that the programs put into the tunnel.
    ip_socket: IpSocket,
    /// Attached by this process: this version's programs.
    attached: BTreeSet<Attachment>,
    /// Hooks of the last plan; none before the first.
    hooks: Option<BTreeSet<Attachment>>,
    programmed: Arc<TableSet>,
    /// Own blocks as of the last purge, with the router's VNI.
    own_blocks: BTreeMap<BlockOwnerKey, u32>,
    /// Frames that could not be sent.
    pub(crate) send_failures: u64,
}

/// Of the data path of an agent.
pub(crate) fn settings(pin_dir: &Path) -> Settings {
    Settings { pin_dir: pin_dir.to_owned(), sizes: Sizes::default() }
}

impl Kernel {
    pub(crate) fn open(pin_dir: &Path) -> Result<(Self, EventReader, FrameReader), crate::Error> {
        let settings = settings(pin_dir);
        let mut dataplane = Dataplane::open(&settings)?;
        let (events, frames) = (dataplane.events()?, dataplane.frames()?);
        let programmed = Arc::new(dataplane.read_tables()?);
        let kernel = Self {
            dataplane,
            socket: PacketSocket::open()?,
            ip_socket: IpSocket::open()?,
            attached: BTreeSet::new(),
            hooks: None,
            programmed,
            own_blocks: BTreeMap::new(),
            send_failures: 0,
        };
        Ok((kernel, events, frames))
    }

    /// The programs that tell of packets take the others' place, or give it back.
    pub(crate) fn exchange_programs(
        &mut self,
        watching: Option<Watching>,
    ) -> Result<Option<Watching>, dataplane::Error> {
        self.dataplane.exchange_programs(watching)
    }

    /// Programs first, then tables, then what is no longer wanted. After an error it can be repeated. What ended of that
    /// which VMs asked for.
    pub(crate) fn carry_out(&mut self, plan: &Plan) -> Result<Vec<OpenPort>, dataplane::Error> {
        for attachment in &plan.hooks {
            if self.attached.contains(attachment) {
                continue;
            }
            match self.dataplane.attach(attachment.hook, attachment.ifindex) {
                Ok(_) => drop(self.attached.insert(*attachment)),
                // Gone since the plan was made; the link's removal is under way to us.
                Err(dataplane::Error::NoInterface(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let applied = self.dataplane.apply(&plan.compiled.tables)?;
        self.programmed = Arc::new(plan.compiled.tables.clone());
        if applied.changed > 0 {
            tracing::info!(
                revision = plan.revision,
                changed = applied.changed,
                epoch = applied.epoch,
                problems = plan.compiled.problems.len(),
                "tables applied"
            );
        }
        self.detach_extra(&plan.hooks)?;
        self.purge(&plan.compiled.tables)
    }

    /// Programs that an earlier configuration or a vanished link left.
    fn detach_extra(&mut self, wanted: &BTreeSet<Attachment>) -> Result<(), dataplane::Error> {
        if self.hooks.as_ref() == Some(wanted) {
            return Ok(());
        }
        let extra = self.dataplane.attached()?.into_iter().filter(|found| !wanted.contains(found));
        for attachment in extra.collect::<Vec<_>>() {
            tracing::info!(hook = attachment.hook.program(), ifindex = attachment.ifindex, "detached");
            self.dataplane.detach(attachment)?;
        }
        self.attached.retain(|attachment| wanted.contains(attachment));
        self.hooks = Some(wanted.clone());
        Ok(())
    }

    /// Ends mappings in blocks that are no longer ours: another host's connections may use them. Those of a block
    /// that is only retiring live on.
    fn purge(&mut self, tables: &TableSet) -> Result<Vec<OpenPort>, dataplane::Error> {
        let owned = tables.block_owners.iter().filter(|(_, owner)| owner.vtep.is_zero());
        let own: BTreeMap<BlockOwnerKey, u32> = owned.map(|(key, owner)| (*key, owner.router_vni)).collect();
        if self.own_blocks == own {
            return Ok(Vec::new());
        }
        let purged = self.dataplane.purge_mappings(|key, mapping| {
            let router = RouterKey { router_vni: key.router_vni };
            let same_network =
                tables.snat.get(&router).is_some_and(|snat| snat.external_vni == mapping.external_vni);
            same_network
                && block_of(tables, mapping).and_then(|block| own.get(&block)) == Some(&key.router_vni)
        })?;
        if purged.mappings > 0 {
            tracing::info!(purged = purged.mappings, "mappings of blocks that are not ours any more ended");
        }
        self.own_blocks = own;
        Ok(purged.openings)
    }

    pub(crate) fn send(&mut self, outgoing: &Outgoing) {
        let sent = match outgoing.ifindex {
            Outgoing::UNDERLAY => self.ip_socket.send(&outgoing.frame),
            ifindex => self.socket.send(ifindex, &outgoing.frame),
        };
        if let Err(error) = sent {
            self.send_failures += 1;
            tracing::debug!(error = crate::chain(&error), "frame not sent");
        }
    }

    /// Lets a packet walk once more, and sends it where that ends.
    pub(crate) fn walk_again(&mut self, again: &Again) {
        let outcome = match self.dataplane.walk_again(&again.origin, &again.frame) {
            Ok(outcome) => outcome,
            Err(error) => {
                self.send_failures += 1;
                tracing::debug!(error = crate::chain(&error), "a packet did not walk once more");
                return;
            }
        };
        match outcome.verdict {
            Verdict::Port { ifindex } => self.send(&Outgoing { ifindex, frame: outcome.frame }),
            Verdict::Uplink { ifindex } => {
                self.send(&Outgoing { ifindex, frame: tagged(outcome.frame, outcome.vlan) });
            }
            Verdict::Tunnel { .. } => {
                let packet = outcome.frame.get(packet::ethernet::LEN..).unwrap_or_default();
                if let Err(error) = self.ip_socket.send(packet) {
                    self.send_failures += 1;
                    tracing::debug!(error = crate::chain(&error), "tunnel packet not sent");
                }
            }
            // Counted by the programs.
            Verdict::Pass | Verdict::Punt(_) | Verdict::Drop(..) => {}
        }
    }

    /// Whether the first fragment of a datagram has come. What cannot be read has not.
    pub(crate) fn knows_datagram(&self, key: &FragmentKey) -> bool {
        self.dataplane.knows_datagram(key, dataplane::clock_ns()).unwrap_or(false)
    }

    /// Handles for the thread that sweeps.
    pub(crate) fn sweeper(&self) -> Result<Sweeper, dataplane::Error> {
        self.dataplane.sweeper()
    }

    /// For what VMs ask for.
    pub(crate) fn dataplane(&mut self) -> &mut Dataplane {
        &mut self.dataplane
    }

    /// What the tables hold, as far as they were written.
    pub(crate) fn programmed(&self) -> Arc<TableSet> {
        Arc::clone(&self.programmed)
    }

    /// Handles of the sessions for another thread.
    pub(crate) fn session_tables(&self) -> Result<SessionTables, dataplane::Error> {
        self.dataplane.session_tables()
    }

    /// The tables for a walk that is only looked at.
    pub(crate) fn view(&self, seed: u64) -> dataplane::View<'_> {
        self.dataplane.view(seed)
    }

    /// By ifindex.
    pub(crate) fn port_counters(&self) -> Result<BTreeMap<u32, PortCounters>, dataplane::Error> {
        self.dataplane.port_counters()
    }

    /// Counts the ports in use. Of a table that cannot be read to its end nothing is told: a block would look
    /// emptier than it is.
    pub(crate) fn count_mappings(&self, uses: &mut BlockUses) {
        for row in self.dataplane.mappings() {
            match row {
                Ok((key, mapping)) => uses.count(&key, &mapping),
                Err(error) => {
                    tracing::warn!(error = crate::chain(&error), "mappings not counted");
                    *uses = BlockUses::default();
                    return;
                }
            }
        }
    }

    /// Frames that came from the uplinks; 0 if nobody knows.
    pub(crate) fn uplink_frames(&self) -> u64 {
        self.dataplane.total(Total::InUplink).unwrap_or(0)
    }

    /// Totals, drops that are not 0 (`drop.<stage>.<reason>`) and punts that are not 0 (`punt.<kind>`).
    pub(crate) fn counters(&self) -> BTreeMap<String, u64> {
        let counters = match self.dataplane.counters() {
            Ok(counters) => counters,
            Err(error) => {
                tracing::warn!(error = crate::chain(&error), "counters not read");
                return BTreeMap::new();
            }
        };
        let totals = counters.totals().map(|(total, value)| (total.name().to_owned(), value));
        let drops = counters
            .drops()
            .map(|(stage, reason, value)| (format!("drop.{}.{}", stage.name(), reason.name()), value));
        let punts = counters.punts().map(|(punt, value)| (format!("punt.{}", punt.name()), value));
        totals.chain(drops).chain(punts).collect()
    }

    pub(crate) fn hooks(&self, name_of: impl Fn(u32) -> String) -> Vec<HookStatus> {
        let hooks = self.attached.iter();
        hooks
            .map(|Attachment { hook, ifindex }| HookStatus {
                link: name_of(*ifindex),
                ifindex: *ifindex,
                program: hook.program().to_owned(),
            })
            .collect()
    }
}

/// What the operator decides of the sweep's times; the rest is as it always is.
pub(crate) fn timeouts(nat: NatTimeouts) -> Timeouts {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    Timeouts {
        udp: seconds(nat.udp_s),
        icmp: seconds(nat.icmp_s),
        tcp_established: seconds(nat.tcp_established_s),
        tcp_transitory: seconds(nat.tcp_transitory_s),
        tcp_closed: seconds(nat.tcp_closed_s),
        port_rest: seconds(nat.port_rest_s),
        ..Timeouts::default()
    }
}

/// A frame with an 802.1Q tag, if there is one to put in.
fn tagged(mut frame: Vec<u8>, vlan: Option<u16>) -> Vec<u8> {
    const MACS_LEN: usize = 12;
    if let Some(vlan) = vlan.filter(|_| frame.len() >= MACS_LEN) {
        let [high, low] = vlan.to_be_bytes();
        let [type_high, type_low] = packet::ethernet::TYPE_VLAN.to_be_bytes();
        frame.splice(MACS_LEN..MACS_LEN, [type_high, type_low, high, low]);
    }
    frame
}

/// The block with a mapping's port; none if its external network is not there any more.
fn block_of(tables: &TableSet, mapping: &Mapping) -> Option<BlockOwnerKey> {
    let external = tables.externals.get(&NetworkKey { vni: mapping.external_vni })?;
    Some(BlockOwnerKey {
        external_vni: mapping.external_vni,
        block: u32::from(mapping.port) >> external.block_shift,
        address: mapping.address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two places that know defaults agree, and every time that can be set is used.
    #[test]
    fn the_sweep_goes_by_the_times_it_is_given() {
        assert_eq!(timeouts(NatTimeouts::default()), Timeouts::default());
        let nat = NatTimeouts {
            udp_s: 1,
            icmp_s: 2,
            tcp_established_s: 3,
            tcp_transitory_s: 4,
            tcp_closed_s: 5,
            port_rest_s: 6,
        };
        let set = timeouts(nat);
        let tcp = [set.tcp_established, set.tcp_transitory, set.tcp_closed];
        let all = [set.udp, set.icmp, tcp[0], tcp[1], tcp[2], set.port_rest];
        assert_eq!(all.map(|time| time.as_secs()), [1, 2, 3, 4, 5, 6]);
    }
}
