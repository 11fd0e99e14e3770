//! The main loop: one task owns the machine and the kernel's side; everything else talks to it by bounded
//! channels. After whatever woke it, it settles: plan, frames, messages, state, and tells the sweep's thread to begin.
//!
//! The end of the process changes nothing for packets: programs, tables and the tunnel device stay.

use crate::answer::Outgoing;
use crate::capture::{Captures, Change, View};
use crate::config::Config;
use crate::connection::{self, Incoming};
use crate::control_server::{self, Server, StatusQuestion};
use crate::dhcp::Dhcp;
use crate::flow_log::FlowLog;
use crate::flows::SharedLedger;
use crate::frames::Frames;
use crate::kernel::{self, Kernel};
use crate::liveness::{self, Liveness, Timing, Verdicts};
use crate::machine::{Link, Machine, Settings};
use crate::metadata::{self, Metadata, WhoIs};
use crate::metering::{self, Metering, SharedCounts};
use crate::meters::{self, Meters, Sample, SampleQuestion};
use crate::observe::{Answerer, Materials, Unanswered};
use crate::plug::Views;
use crate::port_control::{Chance, PortControl};
use crate::scene::Scene;
use crate::state::{Tunnel, TunnelSettings};
use crate::sweep::{self, Sweeping};
use crate::{Error, chain, check, control, state, tables, tunnel};
use dataplane::{EventReader, FrameReader, Handed};
use model::question::Question;
use netlink::{LinkEvent, LinkWatch, Links};
use pipeline::Punt;
use pipeline::tables::PortCounters;
use proto::{AgentMessage, agent_message};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::block_in_place;

/// Messages of the controller, and questions of the control socket, that wait for the main loop.
const QUEUE: usize = 64;
/// Events handled before anything else gets its turn.
const EVENTS_PER_TURN: usize = 256;
/// A plan that failed is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs the agent until it is told to end. Needs a multi-threaded tokio runtime.
///
/// # Errors
/// What keeps it from starting, or from going on.
pub async fn run(config: Config) -> Result<(), Error> {
    check::privileges()?;
    if config.detach {
        return detach(&config).await;
    }
    check::certificates(&config)?;
    let _lock = check::lock(&config)?;
    let mut agent = Agent::start(config).await?;
    agent.run().await
}

/// Takes programs, tables and the tunnel device away.
async fn detach(config: &Config) -> Result<(), Error> {
    let _lock = check::lock(config)?;
    match std::fs::remove_dir_all(&config.pin_dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::Detach { path: config.pin_dir.clone(), source });
        }
        _ => {}
    }
    let links = Links::connect()?;
    metadata::remove(&links).await?;
    tunnel::remove(&links).await
}

struct Agent {
    config: Config,
    machine: Machine,
    kernel: Kernel,
    links: Links,
    /// The tunnel the device was made for.
    tunnel: Option<Tunnel>,
    outgoing: Option<connection::Outgoing>,
    views: watch::Sender<Views>,
    retry_due: Option<Instant>,
    /// The MACs that uplinks were told to take frames for.
    accepting: BTreeSet<(u32, packet::MacAddr)>,
    inputs: Option<Inputs>,
    frames: Frames,
    dhcp: Dhcp,
    port_control: PortControl,
    metadata: Option<Metadata>,
    liveness: Liveness,
    answerer: Answerer,
    captures: Captures,
    meters: Meters,
    /// What sessions that ended did.
    ledger: SharedLedger,
    /// What crossed gateways, by metering label.
    metered: SharedCounts,
    sweeping: Sweeping,
}

/// What the main loop waits for.
struct Inputs {
    events: AsyncFd<EventReader>,
    frames: AsyncFd<FrameReader>,
    watch: LinkWatch,
    connection: mpsc::Receiver<Incoming>,
    status: mpsc::Receiver<StatusQuestion>,
    samples: mpsc::Receiver<SampleQuestion>,
    guests: mpsc::Receiver<WhoIs>,
    captures: mpsc::Receiver<Change>,
    swept: mpsc::Receiver<sweep::Outcome>,
    verdicts: watch::Receiver<Verdicts>,
    terminate: Signal,
    interrupt: Signal,
}

/// What woke the main loop.
enum Wake {
    Links(Option<LinkEvent>),
    Connection(Incoming),
    Status(StatusQuestion),
    Sample(SampleQuestion),
    WhoIs(WhoIs),
    Capture(Change),
    Swept(sweep::Outcome),
    Events,
    Frames,
    Verdicts,
    Time,
    End,
}

impl Inputs {
    async fn next(&mut self, deadline: Instant) -> Wake {
        tokio::select! {
            Ok(()) = self.verdicts.changed() => Wake::Verdicts,
            event = self.watch.next() => Wake::Links(event),
            Some(incoming) = self.connection.recv() => Wake::Connection(incoming),
            Some(question) = self.status.recv() => Wake::Status(question),
            Some(question) = self.samples.recv() => Wake::Sample(question),
            Some(question) = self.guests.recv() => Wake::WhoIs(question),
            Some(change) = self.captures.recv() => Wake::Capture(change),
            Some(outcome) = self.swept.recv() => Wake::Swept(outcome),
            _ = self.events.readable() => Wake::Events,
            _ = self.frames.readable() => Wake::Frames,
            () = tokio::time::sleep_until(deadline.into()) => Wake::Time,
            _ = self.terminate.recv() => Wake::End,
            _ = self.interrupt.recv() => Wake::End,
        }
    }
}

impl Agent {
    async fn start(config: Config) -> Result<Self, Error> {
        // The watch before the list, so that nothing falls between.
        let watch = LinkWatch::open()?;
        let links = Links::connect()?;
        let mut machine = Machine::new(settings(&config, &links).await?);
        let now = Instant::now();
        let (kernel, events, frames) = Kernel::open(&config.pin_dir)?;
        let restored = restore(&config, &mut machine);
        machine.adopt(now, &kernel.programmed());
        let (views, views_receiver) = watch::channel(Views::default());
        let (status, status_receiver) = mpsc::channel(QUEUE);
        let server = Server { links: links.clone(), views: views_receiver, status };
        tokio::spawn(control_server::run(control_server::bind(&config.control_socket)?, server));
        let (ledger, metered) = (SharedLedger::default(), SharedCounts::default());
        let (outcome, swept) = mpsc::channel(1);
        let worker = sweeper(&config, &kernel, &ledger, &metered)?;
        let sweeping = Sweeping::start(worker, outcome, now).map_err(Error::Runtime)?;
        let (sampler, samples) = mpsc::channel(1);
        if let Some(address) = config.metrics_listen {
            tokio::spawn(meters::run(meters::bind(address).await?, sampler));
        }
        let (who_is, guests) = mpsc::channel(QUEUE);
        let (incoming, connection) = mpsc::channel(QUEUE);
        tokio::spawn(connection::run(config.clone(), incoming));
        let liveness = liveness::start(config.vtep, timing(&config)).map_err(Error::Runtime)?;
        let (change, changes) = mpsc::channel(QUEUE);
        let captures = Captures::new(kernel::settings(&config.pin_dir), change);
        let inputs = Inputs {
            verdicts: liveness.verdicts(),
            events: watched(events)?,
            frames: watched(frames)?,
            watch,
            connection,
            status: status_receiver,
            samples,
            guests,
            captures: changes,
            swept,
            terminate: signal(SignalKind::terminate()).map_err(Error::Runtime)?,
            interrupt: signal(SignalKind::interrupt()).map_err(Error::Runtime)?,
        };
        let mut agent = Self {
            port_control: PortControl::new(config.port_control_lifetime_s),
            config,
            machine,
            kernel,
            links,
            tunnel: restored,
            outgoing: None,
            views,
            retry_due: None,
            accepting: BTreeSet::new(),
            inputs: Some(inputs),
            liveness,
            frames: Frames::default(),
            dhcp: Dhcp::default(),
            metadata: None,
            answerer: Answerer::default(),
            captures,
            meters: Meters::default(),
            ledger,
            metered,
            sweeping,
        };
        agent.serve_metadata(who_is).await?;
        agent.list_links(now).await?;
        agent.machine.warnings().into_iter().for_each(|warning| tracing::warn!("{warning}"));
        agent.ensure_tunnel(restored.is_some()).await?;
        Ok(agent)
    }

    /// Before the first plan, so that no program sends packets to a link that is gone.
    async fn serve_metadata(&mut self, who_is: mpsc::Sender<WhoIs>) -> Result<(), Error> {
        let Some(settings) = &self.config.metadata else { return metadata::remove(&self.links).await };
        let metadata = Metadata::start(settings, &self.links, who_is).await?;
        self.machine.service_ready(metadata.ifindex);
        self.metadata = Some(metadata);
        Ok(())
    }

    fn guests_counters(&self) -> BTreeMap<String, u64> {
        let metadata = self.metadata.iter().flat_map(|metadata| metadata.counters.by_name());
        let port_control = self.port_control.counters();
        self.dhcp.counters().into_iter().chain(port_control).chain(metadata).collect()
    }

    async fn run(&mut self) -> Result<(), Error> {
        tracing::info!(host = self.config.host, vtep = %self.config.vtep, "agent started");
        // Taken once, here.
        let Some(mut inputs) = self.inputs.take() else { return Ok(()) };
        loop {
            let now = Instant::now();
            self.settle(now);
            self.accept_macs().await;
            match inputs.next(self.deadline(now)).await {
                Wake::Links(Some(event)) => self.link_event(event).await?,
                Wake::Links(None) => return Err(Error::LinkWatch),
                Wake::Connection(incoming) => self.incoming(incoming).await?,
                // Whoever asked may have gone.
                Wake::Status(question) => drop(question.send(self.status())),
                Wake::Sample(question) => drop(question.send(self.sample())),
                Wake::WhoIs(WhoIs { address, answer }) => drop(answer.send(self.machine.guest(address))),
                Wake::Capture(change) => self.captures_changed(change),
                Wake::Swept(outcome) => self.swept(&outcome),
                Wake::Events => self.events(&mut inputs.events).await?,
                Wake::Frames => self.frames(&mut inputs.frames).await?,
                Wake::Verdicts => {
                    let verdicts = inputs.verdicts.borrow_and_update().clone();
                    self.machine.set_verdicts(Instant::now(), verdicts);
                }
                // Also without a wake-up: a ring that is not read is not announced again.
                Wake::Time => {
                    self.drain(inputs.events.get_mut());
                    self.drain_frames(inputs.frames.get_mut());
                }
                Wake::End => break,
            }
        }
        tracing::info!("agent ends; packets go on");
        let now = Instant::now() + Duration::from_secs(1);
        self.save(now);
        Ok(())
    }

    fn deadline(&self, now: Instant) -> Instant {
        let due = [self.machine.deadline(), self.retry_due, self.sweeping.due(), self.frames.deadline()];
        due.into_iter().flatten().min().unwrap_or(now + RETRY_AFTER)
    }

    /// Does everything there is to do now.
    fn settle(&mut self, now: Instant) {
        if self.machine.wants_uplink_frames(now) {
            self.machine.set_uplink_frames(self.kernel.uplink_frames());
        }
        self.frames.expire(now);
        let frames = self.machine.tick(now);
        self.send_frames(&frames);
        if self.retry_due.is_none_or(|due| due <= now) {
            self.program(now);
        }
        self.liveness.want(self.machine.liveness_wanted());
        self.send_messages(now);
        self.publish();
        self.save(now);
        if self.sweeping.due().is_some_and(|due| due <= now) {
            let timeouts = kernel::timeouts(self.machine.nat_timeouts());
            let scene = self.config.flow_log.as_ref().map(|_| self.machine.scene(&self.config.host));
            let closed = self.port_control.take_closed();
            let (programmed, meters) = (self.kernel.programmed(), self.machine.meters());
            self.sweeping.begin(sweep::Job { timeouts, programmed, closed, scene, meters });
        }
    }

    fn swept(&mut self, outcome: &sweep::Outcome) {
        if let Ok(swept) = outcome.swept {
            self.meters.swept(swept, outcome.elapsed);
        }
        self.sweeping.ended(Instant::now(), outcome);
        self.expire_openings();
    }

    /// Ends what VMs asked for and may no longer have.
    fn expire_openings(&mut self) {
        let tables = self.kernel.programmed();
        let (dataplane, now_ns) = (self.kernel.dataplane(), dataplane::clock_ns());
        if let Err(error) = self.port_control.expire(dataplane, &tables, now_ns) {
            tracing::warn!(error = chain(&error), "mappings that VMs asked for not ended");
        }
    }

    fn program(&mut self, now: Instant) {
        self.retry_due = None;
        let Some(plan) = self.machine.plan() else { return };
        if self
            .machine
            .programmed()
            .is_some_and(|last| last.hooks == plan.hooks && last.compiled == plan.compiled)
        {
            self.machine.carried_out(now, plan);
            self.meters.programmed(Instant::now());
            return;
        }
        match block_in_place(|| self.kernel.carry_out(&plan)) {
            Ok(lost) => {
                self.port_control.lost(&lost);
                self.expire_openings();
                for problem in &plan.compiled.problems {
                    tracing::warn!(object = ?problem.object, problem = problem.text, "left out");
                }
                self.machine.carried_out(now, plan);
                self.meters.programmed(Instant::now());
                let frames = self.machine.tick(now);
                self.send_frames(&frames);
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "tables not applied; trying again");
                self.machine.failed();
                self.meters.programming_failures += 1;
                self.retry_due = Some(now + RETRY_AFTER);
            }
        }
    }

    fn send_frames(&mut self, frames: &[Outgoing]) {
        frames.iter().for_each(|frame| self.kernel.send(frame));
    }

    /// A controller that does not take its messages is left; the next connection starts over.
    fn send_messages(&mut self, now: Instant) {
        let kernel = &self.kernel;
        let liveness = self.liveness.counters();
        let unanswered = self.machine.unanswered;
        let announcements_refused = self.machine.announcements_refused();
        let (frames, guests) = (self.frames.counters(), self.guests_counters());
        let messages = self.machine.messages(now, |blocks| {
            block_in_place(|| kernel.count_mappings(blocks));
            let mut counters = kernel.counters();
            counters.extend(liveness);
            counters.insert("agent.icmp-errors-left-to-sender-host".to_owned(), unanswered.from_tunnel);
            counters.insert("agent.icmp-errors-refused".to_owned(), unanswered.refused);
            counters.insert("agent.announcements-refused".to_owned(), announcements_refused);
            counters.extend(frames);
            counters.extend(guests);
            counters.insert("agent.frames-not-sent".to_owned(), kernel.send_failures);
            counters
        });
        for message in messages {
            self.send_message(message);
        }
    }

    fn send_message(&mut self, message: agent_message::Message) {
        let Some(outgoing) = &self.outgoing else { return };
        if outgoing.messages.try_send(AgentMessage { message: Some(message) }).is_err() {
            tracing::warn!("the controller does not take messages; connecting anew");
            self.disconnected();
        }
    }

    fn disconnected(&mut self) {
        self.outgoing = None;
        self.machine.disconnected();
    }

    fn publish(&mut self) {
        let views = self.machine.views();
        self.views.send_if_modified(|published| {
            let changed = **published != views;
            if changed {
                *published = Arc::new(views);
            }
            changed
        });
    }

    fn save(&mut self, now: Instant) {
        let Some((welcome, slice)) = self.machine.take_unsaved(now) else { return };
        if let Err(error) = block_in_place(|| state::save(&self.config.state_dir, welcome, slice)) {
            tracing::error!(error = chain(&error), "state not saved");
        }
    }

    async fn incoming(&mut self, incoming: Incoming) -> Result<(), Error> {
        let now = Instant::now();
        match incoming {
            Incoming::Connected(outgoing) => {
                tracing::info!(controller = self.config.controller, "connected");
                self.outgoing = Some(outgoing);
                self.machine.connected(now);
            }
            Incoming::Disconnected => {
                if self.machine.is_connected() {
                    tracing::warn!(
                        controller = self.config.controller,
                        "disconnected; going on as programmed"
                    );
                }
                self.disconnected();
            }
            Incoming::Message(message) => match self.machine.controller(now, message) {
                Ok(None) => {
                    self.meters.slice_changed(now);
                    self.ensure_tunnel(false).await?;
                }
                Ok(Some(question)) => self.answer(&question),
                Err(error) => {
                    tracing::error!(error = chain(&error), "bad message; connecting anew");
                    self.disconnected();
                }
            },
        }
        Ok(())
    }

    /// For a scrape.
    fn sample(&self) -> Sample {
        let ports = self.kernel.port_counters().unwrap_or_default();
        let sum = |pick: fn(&PortCounters) -> u64| ports.values().map(pick).sum();
        Sample {
            status: self.status(),
            meters: self.meters.clone(),
            ports: PortCounters {
                sent_packets: sum(|port| port.sent_packets),
                sent_bytes: sum(|port| port.sent_bytes),
                delivered_packets: sum(|port| port.delivered_packets),
                delivered_bytes: sum(|port| port.delivered_bytes),
            },
            tables: self.machine.programmed().map(|plan| plan.compiled.tables.clone()),
            blocks: self.machine.own_blocks(),
            sessions: self.kernel.session_tables().ok(),
            metered: metering::counts(&self.metered),
        }
    }

    /// Hands a question of the controller to a thread that answers it.
    fn answer(&self, question: &proto::Question) {
        let Some(outgoing) = &self.outgoing else { return };
        self.answerer.answer(outgoing.client.clone(), &self.config.host, question, |question| {
            let sessions = self.kernel.session_tables()?;
            let mut materials = Materials {
                scene: Scene::default(),
                sessions,
                ports: Vec::new(),
                ledger: SharedLedger::default(),
                metered: BTreeMap::new(),
                walked: None,
                capture: None,
            };
            match question {
                Question::Walk(request) => {
                    let view = self.kernel.view(rand::rng().random());
                    materials.walked = Some(self.machine.walk(&view, request));
                    view.finish()?;
                }
                Question::Capture(request) => {
                    let here = self.machine.look_on(&self.config.host, request);
                    let view = here.map(View::new).transpose().map_err(Unanswered::Request)?;
                    materials.capture = view.map(|view| self.captures.open(view));
                }
                _ => {
                    materials.scene = self.machine.scene(&self.config.host);
                    materials.ports = tables::ports(&materials.scene, &self.kernel.port_counters()?);
                    materials.ledger = Arc::clone(&self.ledger);
                    materials.metered = metering::counts(&self.metered);
                }
            }
            Ok(materials)
        });
    }

    /// The programs that tell of packets are there, or are not needed any more.
    fn captures_changed(&mut self, change: Change) {
        let (watching, reader) = match change {
            Change::Loaded(Ok(loaded)) => {
                let (watching, reader) = *loaded;
                (Some(watching), reader)
            }
            Change::Loaded(Err(reason)) => {
                tracing::error!(reason, "the programs that tell of packets were not loaded");
                return self.captures.failed();
            }
            Change::Over(reader) => (None, reader),
        };
        let looking = watching.is_some();
        match block_in_place(|| self.kernel.exchange_programs(watching)) {
            Ok(Some(watching)) if !looking => self.captures.keep(Box::new((watching, reader))),
            Ok(_) if looking => self.captures.in_place(reader),
            Ok(_) => {}
            Err(error) => {
                // Whichever programs are in place, packets go on; what they would tell of ends by itself.
                tracing::error!(looking, error = chain(&error), "programs not exchanged");
                if looking {
                    self.captures.failed();
                }
            }
        }
        tracing::info!(looking, "captures");
    }

    /// Makes the tunnel device if the cluster's tunnel is another than the device's. `keep`: one that is
    /// there is for this tunnel.
    async fn ensure_tunnel(&mut self, keep: bool) -> Result<(), Error> {
        let wanted = self.machine.tunnel_wanted();
        let Some(tunnel) = wanted.filter(|_| keep || wanted != self.tunnel) else { return Ok(()) };
        let link = tunnel::ensure(&self.links, tunnel, keep).await?;
        tracing::info!(%tunnel, ifindex = link.ifindex, geneve_as_vxlan = link.geneve_as_vxlan, "tunnel device");
        self.tunnel = wanted;
        self.machine.tunnel_ready(Some(link));
        Ok(())
    }

    /// Makes NICs take frames for this host on external networks.
    async fn accept_macs(&mut self) {
        let Some(wanted) = self.machine.macs_accepted() else { return };
        for (ifindex, mac) in wanted.difference(&self.accepting) {
            if let Err(error) = self.links.accept_mac(*ifindex, *mac).await {
                tracing::warn!(%mac, error = chain(&error), "the uplink may ignore frames for this host");
            }
        }
        self.accepting = wanted;
    }

    async fn list_links(&mut self, now: Instant) -> Result<(), Error> {
        let links = self.links.list().await?;
        self.machine.set_links(now, links.into_iter().map(to_link).collect());
        Ok(())
    }

    async fn link_event(&mut self, event: LinkEvent) -> Result<(), Error> {
        let now = Instant::now();
        match event {
            LinkEvent::Present(link) => self.machine.link_present(now, to_link(link)),
            LinkEvent::Removed(link) => {
                self.machine.link_removed(now, link.index);
                if self.machine.tunnel_link() == Some(link.index) {
                    tracing::warn!("the tunnel device was removed; making it again");
                    self.ensure_tunnel(true).await?;
                }
                if self.metadata.as_ref().is_some_and(|metadata| metadata.ifindex == link.index) {
                    self.ensure_metadata().await?;
                }
            }
            LinkEvent::Missed => {
                self.list_links(now).await?;
                self.ensure_metadata().await?;
            }
        }
        Ok(())
    }

    /// The link to the metadata service comes back when somebody deletes it.
    async fn ensure_metadata(&mut self) -> Result<(), Error> {
        let Some(metadata) = &mut self.metadata else { return Ok(()) };
        if metadata.ensure(&self.links).await? {
            tracing::warn!(
                ifindex = metadata.ifindex,
                "the link to the metadata service was gone; made again"
            );
            self.machine.service_ready(metadata.ifindex);
        }
        Ok(())
    }

    async fn events(&mut self, events: &mut AsyncFd<EventReader>) -> Result<(), Error> {
        let mut guard = events.readable_mut().await.map_err(Error::Runtime)?;
        if self.drain(guard.get_inner_mut()) {
            guard.clear_ready();
        }
        Ok(())
    }

    async fn frames(&mut self, frames: &mut AsyncFd<FrameReader>) -> Result<(), Error> {
        let mut guard = frames.readable_mut().await.map_err(Error::Runtime)?;
        if self.drain_frames(guard.get_inner_mut()) {
            guard.clear_ready();
        }
        Ok(())
    }

    /// Likewise for whole frames.
    fn drain_frames(&mut self, frames: &mut FrameReader) -> bool {
        let now = Instant::now();
        for _ in 0..EVENTS_PER_TURN {
            let Some(handed) = frames.next() else { return true };
            if let Some(answers) = self.answer_guest(&handed) {
                self.send_frames(&answers);
                continue;
            }
            let kernel = &self.kernel;
            let ready = self.frames.handed(now, handed, |key| kernel.knows_datagram(key));
            ready.iter().for_each(|again| self.kernel.walk_again(again));
        }
        false
    }

    /// What a guest's question is answered with; none: the frame is no such question.
    fn answer_guest(&mut self, handed: &Handed) -> Option<Vec<Outgoing>> {
        let ifindex = handed.head.ingress;
        let frame = match u8::try_from(handed.head.punt).ok().and_then(Punt::from_number)? {
            Punt::Dhcp => self.dhcp.answer(self.machine.lease(ifindex).as_ref(), &handed.frame),
            Punt::Dhcp6 => self.dhcp.answer_v6(self.machine.lease_v6(ifindex).as_ref(), &handed.frame),
            Punt::RouterSolicitation => return Some(self.machine.solicited(ifindex)),
            Punt::PortControl => self.control_port(ifindex, &handed.frame),
            _ => return None,
        };
        Some(frame.into_iter().map(|frame| Outgoing { ifindex, frame }).collect())
    }

    /// What a VM is answered that asks for a mapping.
    fn control_port(&mut self, ifindex: u32, frame: &[u8]) -> Option<Vec<u8>> {
        let (tables, now) = (self.kernel.programmed(), Instant::now());
        let chance = Chance { now, now_ns: dataplane::clock_ns(), random: &mut rand::random };
        let answered = self.port_control.answer(chance, self.kernel.dataplane(), &tables, (ifindex, frame));
        if let Some(router_vni) = answered.blocks_low {
            self.machine.request_block(now, router_vni);
        }
        answered.frame
    }

    /// Handles waiting events, not too many at a time. True if none is left.
    fn drain(&mut self, events: &mut EventReader) -> bool {
        let now = Instant::now();
        for _ in 0..EVENTS_PER_TURN {
            let Some(event) = events.next() else { return true };
            if event.punt == Punt::FirstFragment as u32 {
                let released = self.frames.first_came(&event);
                released.iter().for_each(|again| self.kernel.walk_again(again));
            } else if let Some(outgoing) = self.machine.event(now, &event) {
                self.kernel.send(&outgoing);
            }
        }
        false
    }

    fn status(&self) -> control::Status {
        let links: BTreeMap<u32, String> = self.machine.link_names();
        let name_of = |ifindex: u32| links.get(&ifindex).cloned().unwrap_or_default();
        let mut counters = self.kernel.counters();
        counters.extend(self.liveness.counters());
        counters.extend(self.guests_counters());
        let views = self.liveness.views();
        let mut status = self.machine.control_status();
        if views.is_none() {
            status
                .warnings
                .push("the watching of other hosts stands still: nothing is known of them".to_owned());
        }
        control::Status {
            host: self.config.host.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            controller: self.config.controller.clone(),
            hooks: self.kernel.hooks(name_of),
            counters,
            peers: self.machine.peer_status(views.unwrap_or_default()),
            ..status
        }
    }
}

#[expect(
    deprecated,
    reason = "the successor is unsafe; the reader owns its descriptor and never replaces it"
)]
fn watched<R: std::os::fd::AsRawFd>(reader: R) -> Result<AsyncFd<R>, Error> {
    AsyncFd::new(reader).map_err(Error::Runtime)
}

/// Who sweeps, and tells the ledger and the metering labels what it saw.
fn sweeper(
    config: &Config,
    kernel: &Kernel,
    ledger: &SharedLedger,
    metered: &SharedCounts,
) -> Result<sweep::Worker, Error> {
    Ok(sweep::Worker {
        sweeper: kernel.sweeper()?,
        flow_log: config.flow_log.clone().map(FlowLog::start).transpose().map_err(Error::FlowLog)?,
        ledger: Arc::clone(ledger),
        metering: Metering::new(Arc::clone(metered), dataplane::clock_ns()),
    })
}

/// What the configuration says, and the underlay as it is now.
async fn settings(config: &Config, links: &Links) -> Result<Settings, Error> {
    let (underlay_ifindex, underlay_net) = check::underlay(config, links).await?;
    let underlay_mtu = links.get_index(underlay_ifindex).await?.mtu;
    Ok(Settings {
        vtep: config.vtep,
        underlay_ifindex,
        underlay_net,
        underlay_mtu: u16::try_from(underlay_mtu).unwrap_or(u16::MAX),
        physical_networks: config.physical_networks.clone(),
        sessions_per_vm_max: config.sessions_per_vm_max,
        acl_sizes: config.acl_sizes,
        dhcp_lease_s: config.dhcp_lease_s,
        tunnel: TunnelSettings { lone_path: config.lone_path, liveness: config.bfd_in_tunnel },
    })
}

fn timing(config: &Config) -> Timing {
    Timing {
        interval: Duration::from_millis(config.bfd_interval_ms.into()),
        multiplier: config.bfd_multiplier,
    }
}

/// The tunnel that was in force when the state was saved.
fn restore(config: &Config, machine: &mut Machine) -> Option<Tunnel> {
    match state::load(&config.state_dir) {
        Ok(Some((welcome, slice))) => {
            tracing::info!(revision = slice.revision, "state restored");
            let tunnel = welcome.tunnel;
            machine.restore(welcome, slice);
            Some(tunnel)
        }
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(error = chain(&error), "state not restored; waiting for the controller");
            None
        }
    }
}

fn to_link(link: netlink::Link) -> Link {
    let veth_peer_elsewhere = link.peer_elsewhere && link.kind == "veth";
    Link { index: link.index, name: link.name, up: link.up && link.carrier, veth_peer_elsewhere }
}
