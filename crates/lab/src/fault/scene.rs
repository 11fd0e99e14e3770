//! Who takes part: the gateway that things happen to, the VMs whose packets are watched, the machines outside.
//!
//! All of it follows from the lab's plan and from who answers for which external address. VMs on a gateway that dies
//! die with it, so only the others' packets are watched.

use super::injury::Patient;
use super::probes::{self, Flow, payload, sequence_of};
use super::segment::Onlooker;
use super::sessions::Client;
use super::{Fault, Options};
use crate::api::{Api, text};
use crate::names::{GUEST_LINK, Names};
use crate::plan::{Index, Place, Plan};
use crate::running::Running;
use crate::state::State;
use anyhow::{Context as _, bail};
use model::{HostId, rendezvous};
use netlink::{Links, MacAddr, Netns, PacketSocket};
use packet::{ethernet, ipv4, udp};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

/// Flows that are tried until one leaves by the patient and one by another gateway.
const FLOWS_TRIED: usize = 24;
const FLOWS_TRIED_FOR: Duration = Duration::from_secs(5);
/// How long nothing may have changed among the owners of addresses before a run begins, and how long that may take.
const SETTLED_FOR: Duration = Duration::from_secs(3);
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
const FRAME_WAIT: Duration = Duration::from_millis(50);

/// A host as the API and the wire know it.
struct HostFacts {
    id: HostId,
    /// What its frames on the external network come from.
    mac: MacAddr,
}

/// Every machine outside that has a part.
struct Outside {
    /// Answers.
    server: Index,
    /// Attached to the segment, in front of the server.
    router: Index,
    /// Beside them.
    onlooker: Index,
}

/// A VM whose packets are watched.
struct Watched {
    vm: Index,
    netns: Netns,
    /// None: translated by SNAT.
    floating: Option<Ipv4Addr>,
}

pub(super) struct Scene {
    pub(super) plan: Plan,
    pub(super) names: Names,
    pub(super) api: Api,
    pub(super) patient: Patient,
    pub(super) patient_mac: MacAddr,
    pub(super) onlooker: Onlooker,
    /// External addresses and who answers for each while all is well.
    pub(super) owners: BTreeMap<Ipv4Addr, BTreeSet<MacAddr>>,
    outside: Outside,
    watched: Vec<Watched>,
    /// SNAT address by router.
    snat: BTreeMap<Index, Ipv4Addr>,
}

impl Scene {
    pub(super) async fn open(running: Running, options: &Options) -> anyhow::Result<Self> {
        let Running { names, plan, state } = running;
        let api = Api::new(&names)?;
        let network = external_network(&plan)?;
        let outside = Outside::of(&plan, network)?;
        let facts = host_facts(&plan, &api).await?;
        let snat = snat_addresses(&plan, &state, network);
        let floating = plan
            .floating_ips
            .iter()
            .filter(|floating| plan.external_of(&plan.vms[floating.vm]) == Some(network));
        let addresses: Vec<Ipv4Addr> =
            snat.values().copied().chain(floating.map(|floating| floating.address)).collect();
        let observer = &plan.external_hosts[outside.onlooker];
        let onlooker =
            Onlooker::start(&Netns::open(&names.netns(&observer.name))?, observer.addresses[0].addr())
                .await?;
        let owners = settled_owners(&onlooker, &addresses).await?;
        let casting = Casting { plan: &plan, network, facts: &facts, owners: &owners, snat: &snat };
        let patient = casting.patient(options)?;
        let away: Vec<Index> = if options.faults.contains(&Fault::Split) {
            vec![patient.host, patient.rival]
        } else {
            vec![patient.host]
        };
        let watched = casting.watched(&names, &away)?;
        let patient_mac = facts[&patient.host].mac;
        Ok(Self { plan, names, api, patient, patient_mac, onlooker, owners, outside, watched, snat })
    }

    pub(super) fn host_name(&self) -> &str {
        &self.plan.hosts[self.patient.host].name
    }

    pub(super) fn server_netns(&self) -> anyhow::Result<Netns> {
        Ok(Netns::open(&self.names.netns(&self.plan.external_hosts[self.outside.server].name))?)
    }

    pub(super) fn server_address(&self) -> Ipv4Addr {
        self.plan.external_hosts[self.outside.server].addresses[0].addr()
    }

    /// Addresses that the patient answers for while all is well.
    pub(super) fn patients_addresses(&self) -> Vec<Ipv4Addr> {
        let own = |macs: &BTreeSet<MacAddr>| macs.contains(&self.patient_mac);
        self.owners.iter().filter(|(_, macs)| own(macs)).map(|(address, _)| *address).collect()
    }

    /// Half of the sessions through SNAT, half through floating IPs, if there are VMs with both.
    pub(super) fn clients(&self, sessions: usize) -> Vec<Client<'_>> {
        let kinds = [false, true].map(|floating| {
            self.watched
                .iter()
                .filter(move |watched| watched.floating.is_some() == floating)
                .collect::<Vec<_>>()
        });
        let kinds: Vec<_> = kinds.into_iter().filter(|kind| !kind.is_empty()).collect();
        let mut clients = Vec::new();
        for (place, kind) in kinds.iter().enumerate() {
            let all = share(sessions, kinds.len(), place);
            clients.extend(kind.iter().enumerate().map(|(place, watched)| Client {
                name: self.name_of(watched),
                netns: &watched.netns,
                count: share(all, kind.len(), place),
            }));
        }
        clients
    }

    fn name_of(&self, watched: &Watched) -> String {
        let name = &self.plan.vms[watched.vm].name;
        watched.floating.map_or(format!("{name} by SNAT"), |address| format!("{name} as {address}"))
    }

    fn has_uplink(&self, watched: &Watched) -> bool {
        let host = &self.plan.hosts[self.plan.vms[watched.vm].host];
        host.physical_networks.contains(&self.patient.physical_network)
    }

    /// What the patient answers for is watched rather than anything else.
    fn prefer_patients<'a>(&self, mut from: Vec<&'a Watched>) -> Option<&'a Watched> {
        let own = self.patients_addresses();
        let outside = |watched: &Watched| {
            let router = self.plan.router_of(self.plan.vms[watched.vm].network)?;
            watched.floating.or_else(|| self.snat.get(&router).copied())
        };
        from.sort_by_key(|watched| !outside(watched).is_some_and(|address| own.contains(&address)));
        from.into_iter().next()
    }

    fn pick(&self, floating: bool, uplink: bool) -> Option<&Watched> {
        let of_kind =
            |watched: &&Watched| watched.floating.is_some() == floating && self.has_uplink(watched) == uplink;
        self.prefer_patients(self.watched.iter().filter(of_kind).collect())
    }

    /// The flows to probe: through SNAT from a host without the uplink, by the patient and by another gateway on the
    /// way out; from a host with the uplink; through a floating IP, from inside and from outside.
    pub(super) async fn flows(&self) -> anyhow::Result<Vec<Flow>> {
        let mut flows = Vec::new();
        if let Some(watched) = self.pick(false, false) {
            flows.extend(self.steered(watched).await?);
        }
        if let Some(watched) = self.pick(false, true) {
            let name = format!("{} to outside", self.name_of(watched));
            flows.push(Flow::udp(name, self.sockets(watched, 1)?.remove(0))?);
        }
        if let Some((watched, floating)) =
            self.pick(true, false).and_then(|watched| Some((watched, watched.floating?)))
        {
            let name = self.name_of(watched);
            flows.push(Flow::icmp(format!("{name} to outside"), &watched.netns, self.server_address())?);
            flows.push(Flow::icmp(format!("outside to {name}"), &self.server_netns()?, floating)?);
        }
        if flows.is_empty() {
            bail!("there is nothing to watch: no VM outside {} has a way out", self.host_name());
        }
        Ok(flows)
    }

    /// Sockets of a VM that are connected to the far end.
    fn sockets(&self, watched: &Watched, count: usize) -> anyhow::Result<Vec<UdpSocket>> {
        let far = (self.server_address(), probes::PORT);
        Ok(watched.netns.run(|| {
            let socket = || -> io::Result<UdpSocket> {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
                socket.connect(far)?;
                Ok(socket)
            };
            (0..count).map(|_| socket()).collect::<io::Result<Vec<_>>>()
        })??)
    }

    /// One flow that leaves by the patient and one that leaves by another gateway, as far as such are found.
    async fn steered(&self, watched: &Watched) -> anyhow::Result<Vec<Flow>> {
        let sockets = self.sockets(watched, FLOWS_TRIED)?;
        let router = &self.plan.external_hosts[self.outside.router].name;
        let netns = Netns::open(&self.names.netns(router))?;
        let ifindex = Links::connect_in(&netns)?.get(GUEST_LINK).await?.index;
        let ear = netns.run(PacketSocket::open)??;
        ear.listen_for(ifindex, ethernet::TYPE_IPV4, FRAME_WAIT)?;
        let (mac, name) = (self.patient_mac, self.name_of(watched));
        let (sockets, ways) = tokio::task::spawn_blocking(move || ways_out(&ear, sockets, mac))
            .await
            .context("finding flows")??;
        let mut flows = Vec::new();
        for (socket, way) in sockets.into_iter().zip(ways) {
            let Some(by_patient) = way else { continue };
            let way = if by_patient { self.host_name() } else { "another gateway" };
            let name = format!("{name} to outside, out by {way}");
            if flows.iter().all(|flow: &Flow| flow.name != name) {
                flows.push(Flow::udp(name, socket)?);
            }
        }
        Ok(flows)
    }
}

/// Even parts of a number, the first ones greater.
fn share(all: usize, parts: usize, place: usize) -> usize {
    all / parts + usize::from(place < all % parts)
}

/// Sends on each socket until it is seen with what MAC its packets arrive at the router: whether it is this one.
fn ways_out(
    ear: &PacketSocket,
    sockets: Vec<UdpSocket>,
    mac: MacAddr,
) -> anyhow::Result<(Vec<UdpSocket>, Vec<Option<bool>>)> {
    let mut ways = vec![None; sockets.len()];
    let deadline = Instant::now() + FLOWS_TRIED_FOR;
    let mut buffer = [0; 256];
    while ways.iter().any(Option::is_none) {
        if Instant::now() > deadline {
            bail!(
                "probes do not reach the outside: {} of {} flows",
                ways.iter().flatten().count(),
                ways.len()
            );
        }
        for (flow, socket) in (0u32..).zip(&sockets) {
            // An error of an earlier one; the next is sent.
            drop(socket.send(&payload(flow, 0)));
        }
        while let Some(received) = ear.receive(&mut buffer)? {
            let frame = &buffer[..received.len];
            for (flow, way) in (0u32..).zip(&mut ways) {
                if probe_in(frame, flow) {
                    *way = Some(frame.get(6..12) == Some(&mac.0[..]));
                }
            }
        }
    }
    Ok((sockets, ways))
}

/// Is this frame a probe of the flow, without IP options?
fn probe_in(frame: &[u8], flow: u32) -> bool {
    const PAYLOAD: usize = ethernet::LEN + ipv4::LEN + udp::LEN;
    frame.get(ethernet::LEN + 9) == Some(&ipv4::PROTOCOL_UDP)
        && frame.get(PAYLOAD..).is_some_and(|payload| sequence_of(payload, flow).is_some())
}

/// The external network to watch: the first with two gateways.
fn external_network(plan: &Plan) -> anyhow::Result<Index> {
    let network = (0..plan.external_networks.len()).find(|network| gateways(plan, *network).count() >= 2);
    network.context("the lab has no external network with two gateways; try the preset `faults`")
}

fn gateways(plan: &Plan, network: Index) -> impl Iterator<Item = Index> {
    let physical = plan.external_networks[network].segment.physical_network;
    (0..plan.hosts.len()).filter(move |host| plan.hosts[*host].physical_networks.contains(&physical))
}

impl Outside {
    /// The farthest machine answers; one that is not in front of it looks on.
    fn of(plan: &Plan, network: Index) -> anyhow::Result<Self> {
        let segment = plan.external_networks[network].segment;
        let here: Vec<Index> =
            (0..plan.external_hosts.len()).filter(|host| plan.segment_of(*host) == segment).collect();
        let way = |host: Index| -> Vec<Index> {
            std::iter::successors(Some(host), |host| match plan.external_hosts[*host].place {
                Place::Behind(nearer) => Some(nearer),
                Place::Attached(_) => None,
            })
            .collect()
        };
        let server = here.iter().copied().max_by_key(|host| way(*host).len());
        let server = server.context("the lab has no machine outside; try the preset `faults`")?;
        let front = way(server);
        let attached = |host: &Index| matches!(plan.external_hosts[*host].place, Place::Attached(_));
        let onlooker = here.iter().copied().find(|host| attached(host) && !front.contains(host));
        let onlooker = onlooker.context(
            "the lab has nobody to look on: a second machine attached to the external network; try the preset `faults`",
        )?;
        let router = front.last().copied().unwrap_or(server);
        Ok(Self { server, router, onlooker })
    }
}

async fn host_facts(plan: &Plan, api: &Api) -> anyhow::Result<BTreeMap<Index, HostFacts>> {
    let answer = api.get("/nanboku/v1/hosts").await?;
    let mut facts = BTreeMap::new();
    for known in answer["hosts"].as_array().into_iter().flatten() {
        let name = text(known, "name")?;
        let Some(index) = plan.hosts.iter().position(|host| host.name == name) else { continue };
        let mac = text(known, "dvr_mac")?;
        let mac = mac
            .parse()
            .map_err(|error| anyhow::anyhow!("the API says that {name} has MAC {mac}: {error}"))?;
        facts.insert(index, HostFacts { id: text(known, "id")?.parse()?, mac });
    }
    let missing = plan.hosts.iter().enumerate().find(|(index, _)| !facts.contains_key(index));
    missing.map_or(Ok(facts), |(_, host)| bail!("the controller does not know host {}", host.name))
}

/// Who answers for each address, once that is one host each and has not changed for a while: gateways that have just
/// started join one after the other.
async fn settled_owners(
    onlooker: &Onlooker,
    addresses: &[Ipv4Addr],
) -> anyhow::Result<BTreeMap<Ipv4Addr, BTreeSet<MacAddr>>> {
    let give_up = Instant::now() + SETTLED_WITHIN;
    let mut owners = onlooker.owners(addresses).await?;
    let mut since = Instant::now();
    while since.elapsed() < SETTLED_FOR && Instant::now() < give_up {
        let seen = onlooker.owners(addresses).await?;
        if seen != owners || seen.values().any(|macs| macs.len() != 1) {
            since = Instant::now();
        }
        owners = seen;
    }
    Ok(owners)
}

fn snat_addresses(plan: &Plan, state: &State, network: Index) -> BTreeMap<Index, Ipv4Addr> {
    let routers = plan.routers.iter().enumerate();
    let here = routers.filter(|(_, router)| router.external_network == Some(network));
    here.filter_map(|(index, router)| Some((index, *state.snat_addresses.get(&router.name)?.first()?)))
        .collect()
}

/// Chooses the parts.
struct Casting<'a> {
    plan: &'a Plan,
    network: Index,
    facts: &'a BTreeMap<Index, HostFacts>,
    owners: &'a BTreeMap<Ipv4Addr, BTreeSet<MacAddr>>,
    snat: &'a BTreeMap<Index, Ipv4Addr>,
}

impl Casting<'_> {
    fn owned(&self, host: Index) -> impl Iterator<Item = Ipv4Addr> {
        let mac = self.facts[&host].mac;
        self.owners.iter().filter(move |(_, macs)| macs.contains(&mac)).map(|(address, _)| *address)
    }

    /// SNAT addresses count for more than all floating IPs: behind each are many VMs.
    fn weight(&self, host: Index) -> (usize, usize) {
        let (snat, floating): (Vec<Ipv4Addr>, Vec<Ipv4Addr>) =
            self.owned(host).partition(|address| self.snat.values().any(|snat| snat == address));
        let own = |address: &Ipv4Addr| {
            let vm = self.plan.floating_ips.iter().find(|floating| floating.address == *address);
            vm.is_some_and(|floating| self.plan.vms[floating.vm].host == host)
        };
        let floating = floating.iter().filter(|address| !own(address)).count();
        // A gateway that has both kinds before one that has many of one kind.
        (usize::from(!snat.is_empty()) + usize::from(floating > 0), snat.len() * self.owners.len() + floating)
    }

    fn patient(&self, options: &Options) -> anyhow::Result<Patient> {
        let gateways: Vec<Index> = gateways(self.plan, self.network).collect();
        let host = match &options.host {
            Some(name) => {
                let host = gateways.iter().copied().find(|host| self.plan.hosts[*host].name == *name);
                host.with_context(|| {
                    let known: Vec<&str> =
                        gateways.iter().map(|host| self.plan.hosts[*host].name.as_str()).collect();
                    let network = &self.plan.external_networks[self.network].name;
                    format!("`{name}` is no gateway of {network}; there are {}", known.join(", "))
                })?
            }
            None => {
                let most = gateways.iter().copied().max_by_key(|host| self.weight(*host));
                most.context("there is no gateway")?
            }
        };
        if self.plan.controller == crate::plan::ControllerPlace::Host(host) {
            bail!("the controller runs on {}; name another gateway with --host", self.plan.hosts[host].name);
        }
        let rival = self.rival(host, &gateways).context("there is no second gateway")?;
        let physical_network = self.plan.external_networks[self.network].segment.physical_network;
        Ok(Patient { host, agent_id: self.facts[&host].id.to_string(), rival, physical_network })
    }

    /// Who would own the most of a host's addresses without it.
    fn rival(&self, host: Index, gateways: &[Index]) -> Option<Index> {
        let others = || gateways.iter().copied().filter(|other| *other != host);
        let ids: Vec<HostId> = others().map(|other| self.facts[&other].id).collect();
        let heirs: Vec<HostId> =
            self.owned(host).filter_map(|address| rendezvous::owner(address.into(), &ids)).collect();
        others().max_by_key(|other| heirs.iter().filter(|heir| **heir == self.facts[other].id).count())
    }

    /// Every VM with a way out by this network, except on these hosts.
    fn watched(&self, names: &Names, away: &[Index]) -> anyhow::Result<Vec<Watched>> {
        let vms = self.plan.vms.iter().enumerate();
        let here =
            vms.filter(|(_, vm)| self.plan.external_of(vm) == Some(self.network) && !away.contains(&vm.host));
        let watched: anyhow::Result<Vec<Watched>> = here
            .map(|(index, vm)| {
                let netns = Netns::open(&names.netns(&vm.name))?;
                Ok(Watched { vm: index, netns, floating: self.plan.floating_of(index) })
            })
            .collect();
        let watched = watched?;
        if watched.is_empty() {
            bail!(
                "every VM with a way out is on a host that something will happen to; try the preset `faults`"
            );
        }
        Ok(watched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_shared_out_completely() {
        for (all, parts) in [(2000, 12), (7, 3), (2, 5), (0, 1)] {
            let shares: Vec<usize> = (0..parts).map(|place| share(all, parts, place)).collect();
            assert_eq!(shares.iter().sum::<usize>(), all);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
        }
    }

    #[test]
    fn a_probe_is_found_in_a_frame() {
        let mut frame = vec![0; ethernet::LEN + ipv4::LEN + udp::LEN];
        frame[ethernet::LEN + 9] = ipv4::PROTOCOL_UDP;
        frame.extend(payload(7, 1));
        assert!(probe_in(&frame, 7) && !probe_in(&frame, 8));
        (0..frame.len()).for_each(|len| assert!(!probe_in(&frame[..len], 7), "{len} bytes"));
    }
}
