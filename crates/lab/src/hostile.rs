//! `lab hostile`: what a flood from one VM does to its neighbour.
//!
//! Two VMs of one VPC on one host share everything there is to share: programs, tables, port blocks. While one of
//! them floods ([`flood`]), the other makes connections through SNAT and to a VM on another host; each of these must
//! come about, and every refused frame must be counted with a reason.

mod flood;

pub use flood::Flood;

use crate::agents;
use crate::check::conservation::Sums;
use crate::check::raw::{Ends, Wire};
use crate::fault::allow_files;
use crate::fault::probes::{self, Responder};
use crate::fault::sessions::{self, PORT};
use crate::names::{GUEST_LINK, Names};
use crate::plan::{Index, Plan};
use crate::running::Running;
use crate::wait::{self, Seen};
use anyhow::{Context as _, bail};
use flood::Frames;
use netlink::{Netns, PacketSocket};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// A connection, a request and its answer; TCP asks again after 1 s and 3 s.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// A question over UDP without an answer is asked again.
const UDP_RETRY: Duration = Duration::from_secs(1);
const ARP_TIMEOUT: Duration = Duration::from_secs(5);
/// Until the counters of packets that are under way add up.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// The least part of the victim's connections that must come about.
const SUCCESS_MIN: f64 = 0.999;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the lab; the only one that is up if not given.
    pub lab: Option<String>,
    pub floods: Vec<Flood>,
    /// Of each flood.
    pub duration: Duration,
    /// Frames per second.
    pub rate: u32,
    /// What the victim begins per second: TCP to the outside, TCP to a VM and questions over UDP each.
    pub connections: u32,
}

impl Options {
    /// Of each kind, during one flood.
    fn connection_count(&self) -> usize {
        (self.duration.as_secs_f64() * f64::from(self.connections)).ceil() as usize
    }
}

/// Connections of the victim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    pub tried: usize,
    pub succeeded: usize,
    /// Why one of the others did not.
    pub failure: Option<String>,
}

impl Connections {
    fn is_enough(&self) -> bool {
        self.tried > 0 && self.succeeded as f64 >= SUCCESS_MIN * self.tried as f64
    }
}

/// One flood.
#[derive(Clone, Debug, Serialize)]
pub struct Flooded {
    pub flood: Flood,
    pub attacker: String,
    pub victim: String,
    /// Frames of the attacker.
    pub sent: u64,
    /// TCP connections to a machine outside, through SNAT.
    pub outside: Connections,
    /// UDP questions to the same machine, from a port each.
    pub questions: Connections,
    /// TCP connections to a VM of the VPC on another host.
    pub inside: Connections,
    /// Frames from VMs that the attacker's host saw.
    pub entered: u64,
    /// What that host dropped meanwhile, by stage and reason.
    pub drops: BTreeMap<String, u64>,
    /// What must not be.
    pub problems: Vec<String>,
}

/// The parts of two VMs.
struct Scene {
    plan: Plan,
    names: Names,
    attacker: Index,
    victim: Index,
    /// Of the VPC, on another host.
    peer: Index,
    outside: Index,
}

/// Runs the floods against a lab that is up, one after the other.
///
/// # Errors
/// No such lab, or one without two SNAT'd VMs of a VPC on one host.
pub async fn hostile(options: &Options, mut progress: impl FnMut(&Flooded)) -> anyhow::Result<Vec<Flooded>> {
    if options.floods.is_empty() || options.rate == 0 || options.connections == 0 {
        bail!("there is nothing to do: floods, rate and connections must each be at least 1");
    }
    let Running { names, plan, .. } = Running::find(options.lab.as_deref())?;
    allow_files(3 * options.connection_count())?;
    let scene = Scene::of(plan, names)?;
    let _servers = scene.serve()?;
    let mut all = Vec::new();
    for flood in &options.floods {
        let flooded = scene.flood(*flood, options).await.with_context(|| format!("flood of {flood}"))?;
        progress(&flooded);
        all.push(flooded);
    }
    Ok(all)
}

/// Tasks that end with it, and who answers UDP.
struct Servers {
    tasks: Vec<JoinHandle<()>>,
    _responder: Responder,
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Scene {
    fn of(plan: Plan, names: Names) -> anyhow::Result<Self> {
        let by_snat =
            |vm: &Index| plan.floating_of(*vm).is_none() && plan.external_of(&plan.vms[*vm]).is_some();
        let vms = || 0..plan.vms.len();
        let router = |vm: Index| plan.router_of(plan.vms[vm].network);
        let pairs = vms().filter(by_snat).flat_map(|attacker| {
            vms()
                .filter(by_snat)
                .filter(move |victim| *victim != attacker)
                .map(move |victim| (attacker, victim))
        });
        let together = |(attacker, victim): &(Index, Index)| {
            plan.vms[*attacker].host == plan.vms[*victim].host && router(*attacker) == router(*victim)
        };
        let (attacker, victim) = pairs
            .filter(together)
            .min_by_key(|(attacker, _)| {
                // Behind a gateway there is more to hurt.
                plan.hosts[plan.vms[*attacker].host].physical_networks.len()
            })
            .context(
                "the lab has no two VMs of one VPC on one host that go out by SNAT; try the preset `faults`",
            )?;
        let peer =
            vms().find(|vm| router(*vm) == router(victim) && plan.vms[*vm].host != plan.vms[victim].host);
        let peer = peer.context("the VPC has no VM on another host; try the preset `faults`")?;
        let segment =
            plan.external_of(&plan.vms[victim]).map(|network| plan.external_networks[network].segment);
        let outside =
            (0..plan.external_hosts.len()).rev().find(|host| Some(plan.segment_of(*host)) == segment);
        let outside = outside.context("the lab has no machine outside; try the preset `faults`")?;
        Ok(Self { plan, names, attacker, victim, peer, outside })
    }

    fn netns(&self, machine: &str) -> anyhow::Result<Netns> {
        Ok(Netns::open(&self.names.netns(machine))?)
    }

    fn vm_netns(&self, vm: Index) -> anyhow::Result<Netns> {
        self.netns(&self.plan.vms[vm].name)
    }

    /// Needs a tokio runtime.
    fn serve(&self) -> anyhow::Result<Servers> {
        let outside = self.netns(&self.plan.external_hosts[self.outside].name)?;
        let listeners = [sessions::listener(&outside)?, sessions::listener(&self.vm_netns(self.peer)?)?];
        let tasks = listeners.into_iter().map(|listener| tokio::spawn(sessions::serve(listener))).collect();
        Ok(Servers { tasks, _responder: Responder::start(&outside)? })
    }

    async fn flood(&self, flood: Flood, options: &Options) -> anyhow::Result<Flooded> {
        let before = self.counters().await?;
        let running = self.start(flood, options.rate).await?;
        let victim = self.vm_netns(self.victim)?;
        let outside = self.plan.external_hosts[self.outside].addresses[0].addr();
        let inside = self.plan.vms[self.peer].address;
        let (questions, outside, inside) = tokio::join!(
            attempts(&victim, options, bind_any, |socket, _| ask(socket, outside)),
            attempts(&victim, options, TcpSocket::new_v4, |socket, index| connect(socket, outside, index)),
            attempts(&victim, options, TcpSocket::new_v4, |socket, index| connect(socket, inside, index)),
        );
        let sent = tokio::task::spawn_blocking(move || running.end()).await.context("the flood")??;
        let after = self.counters().await?;
        let grown = |name: &str, count: u64| count.saturating_sub(before.get(name).copied().unwrap_or(0));
        let drops = after.iter().filter(|(name, _)| name.starts_with("drop."));
        let drops =
            drops.map(|(name, count)| (name.clone(), grown(name, *count))).filter(|(_, count)| *count > 0);
        let mut flooded = Flooded {
            flood,
            attacker: self.plan.vms[self.attacker].name.clone(),
            victim: self.plan.vms[self.victim].name.clone(),
            sent,
            outside: outside?,
            questions: questions?,
            inside: inside?,
            entered: after.get("in-port").map_or(0, |count| grown("in-port", *count)),
            drops: drops.collect(),
            problems: Vec::new(),
        };
        flooded.problems = flooded.problems();
        Ok(flooded)
    }

    /// Starts to flood from the attacker's link.
    async fn start(&self, flood: Flood, rate: u32) -> anyhow::Result<flood::Running> {
        let vm = &self.plan.vms[self.attacker];
        let netns = self.vm_netns(self.attacker)?;
        let wire = Wire::open(&netns, GUEST_LINK).await.map_err(anyhow::Error::msg)?;
        let (own, gateway) = (vm.address, self.plan.networks[vm.network].subnets[vm.subnet].gateway);
        let resolve =
            move || wire.resolve(own, gateway, ARP_TIMEOUT).map(|mac| (wire.ifindex, wire.mac, mac));
        let resolved = tokio::task::spawn_blocking(resolve).await.context("asking for the gateway")?;
        let (ifindex, source_mac, destination_mac) = resolved.map_err(anyhow::Error::msg)?;
        let destination = self.plan.external_hosts[self.outside].addresses[0].addr();
        let ends = Ends { source_mac, source: own, destination_mac, destination };
        let socket = netns.run(PacketSocket::open)??;
        Ok(flood::Running::start(socket, ifindex, Frames::new(flood, ends), rate)?)
    }

    /// The counters of the attacker's host, once they add up: in = out + dropped + punted.
    async fn counters(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let host = &self.plan.hosts[self.plan.vms[self.attacker].host].name;
        let socket = self.names.agent_socket(host);
        wait::until(&format!("the counters of {host} to add up"), SETTLE_TIMEOUT, async || {
            let status = agents::status(&socket).await.map_err(anyhow::Error::msg)?;
            let sums = Sums::of(&status).map_err(anyhow::Error::msg)?;
            let counters = status["counters"].as_object().into_iter().flatten();
            let counters =
                counters.filter_map(|(name, count): (&String, &Value)| Some((name.clone(), count.as_u64()?)));
            Ok(if sums.agree() { Seen::Done(counters.collect()) } else { Seen::Not(sums.to_string()) })
        })
        .await
    }
}

impl Flooded {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (way, seen) in
            [("outside", &self.outside), ("outside by UDP", &self.questions), ("inside", &self.inside)]
        {
            if !seen.is_enough() {
                let failure = seen.failure.as_deref().unwrap_or("nothing was tried");
                problems.push(format!(
                    "{} of {} connections {way} came about: {failure}",
                    seen.succeeded, seen.tried
                ));
            }
        }
        if self.entered < self.sent {
            problems.push(format!("of {} frames the host saw {}", self.sent, self.entered));
        }
        if let Some(reasons) = self.flood.refusals() {
            let refused: u64 = reasons.iter().filter_map(|reason| self.drops.get(*reason)).sum();
            if refused < self.sent {
                problems.push(format!("{refused} of {} frames were refused as they should be", self.sent));
            }
        }
        problems
    }
}

/// One TCP connection with a request and its answer.
async fn connect(socket: TcpSocket, to: Ipv4Addr, index: usize) -> io::Result<TcpStream> {
    let mut stream = socket.connect((to, PORT).into()).await?;
    sessions::exchange(&mut stream, index, 0).await?;
    Ok(stream)
}

/// A datagram and its answer; it is sent again like any question over UDP.
async fn ask(socket: std::net::UdpSocket, to: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::from_std(socket)?;
    socket.connect((to, probes::PORT)).await?;
    loop {
        socket.send(b"?").await?;
        match timeout(UDP_RETRY, socket.recv(&mut [0; 16])).await {
            Ok(answer) => return answer.map(|_| socket),
            Err(_) => continue,
        }
    }
}

fn bind_any() -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Tries something from sockets of a namespace, at an even pace.
async fn attempts<S: Send + 'static, C: Send + 'static, F>(
    from: &Netns,
    options: &Options,
    socket: impl Fn() -> io::Result<S> + Sync,
    attempt: impl Fn(S, usize) -> F,
) -> anyhow::Result<Connections>
where
    F: Future<Output = io::Result<C>> + Send + 'static,
{
    let count = options.connection_count();
    let sockets = from.run(|| (0..count).map(|_| socket()).collect::<io::Result<Vec<_>>>())??;
    let mut pace = interval(Duration::from_secs(1) / options.connections);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trying = JoinSet::new();
    for (index, socket) in sockets.into_iter().enumerate() {
        pace.tick().await;
        let attempt = timeout(CONNECTION_TIMEOUT, attempt(socket, index));
        trying.spawn(async move { attempt.await.map_err(io::Error::from).flatten() });
    }
    let mut seen = Connections { tried: count, ..Connections::default() };
    // Kept open to the end: none can have the port that an earlier one has freed.
    let mut open = Vec::new();
    while let Some(outcome) = trying.join_next().await {
        match outcome.context("an attempt")? {
            Ok(connection) => open.push(connection),
            Err(error) => seen.failure = Some(error.to_string()),
        }
    }
    seen.succeeded = open.len();
    Ok(seen)
}
