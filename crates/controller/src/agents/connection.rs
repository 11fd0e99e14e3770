//! One agent's stream: Hello, then its slice and what changes of it, while acks and status come back.
//!
//! A slice is computed when there is room to send it, from the newest snapshot: an agent that is slow gets one
//! delta for many revisions, and nothing queues up behind it.

use super::Settings;
use super::bounds;
use super::control::{Event, Handle, Hello};
use super::hub::Hub;
use super::programmed::{Acked, OwnFloatingIps, own_floating_ips};
use super::registration::{Refused, Registration};
use super::service::Caller;
use crate::blocks::retire::{Report, Use};
use crate::slices::slice_for;
use crate::virtual_addresses::Announcement;
use model::resource::Host;
use model::slice::Slice;
use model::{HostId, NatTimeouts};
use proto::agent_message::Message as FromAgent;
use proto::controller_message::Message as ToAgent;
use proto::{AgentMessage, ControllerMessage, Question};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use store::Snapshot;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

pub(super) type Outbound = mpsc::Sender<Result<ControllerMessage, Status>>;

/// What every stream needs.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) hub: Arc<Hub>,
    pub(super) handle: Handle,
    pub(super) settings: Arc<Settings>,
    /// The controller is going down.
    pub(super) stop: CancellationToken,
}

/// Serves one stream to its end, and tells the agent why it ended.
pub(super) async fn serve(
    shared: Shared,
    caller: Caller,
    mut inbound: Streaming<AgentMessage>,
    outbound: Outbound,
) {
    let end = match admitted(&shared, &caller, &mut inbound).await {
        Ok(mut connection) => {
            let end = connection.converse(&mut inbound, &outbound).await;
            let closed = Event::Closed { host: connection.host.id, connection: connection.number };
            // Without a loop there is nobody left to care.
            let _ = shared.handle.events.send(closed).await;
            tracing::info!(host = %connection.host.name, reason = end.message(), "agent's stream ended");
            end
        }
        Err(refusal) => {
            tracing::warn!(reason = refusal.message(), "agent refused");
            refusal
        }
    };
    if end.code() != Code::Ok {
        // The agent may be gone.
        let _ = outbound.send(Err(end)).await;
    }
}

/// Reads Hello, checks it against the certificate, and registers the host.
async fn admitted(
    shared: &Shared,
    caller: &Caller,
    inbound: &mut Streaming<AgentMessage>,
) -> Result<Connection, Status> {
    let first = timeout(bounds::HELLO_TIMEOUT, inbound.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no Hello came"))??;
    let Some(AgentMessage { message: Some(FromAgent::Hello(hello)) }) = first else {
        return Err(Status::invalid_argument("the first message must be Hello"));
    };
    caller.check_name(&hello.host_name)?;
    let ipv6 = hello.ipv6;
    let registration = Registration::new(hello).map_err(|refused| refusal(&refused))?;
    let number = shared.hub.next_number();
    let replaced = CancellationToken::new();
    let (questions_in, questions) = mpsc::channel(bounds::QUESTIONS_MAX);
    let (reply, answer) = oneshot::channel();
    let hello = Hello {
        registration,
        connection: number,
        questions: questions_in,
        replaced: replaced.clone(),
        reply,
    };
    let gone =
        || Status::unavailable("the controller cannot write to its store, or is going down; come again");
    shared.handle.events.send(Event::Hello(Box::new(hello))).await.map_err(|_| gone())?;
    let host = answer.await.map_err(|_| gone())?.map_err(|refused| refusal(&refused))?;
    Ok(Connection {
        shared: shared.clone(),
        host,
        number,
        ipv6,
        replaced,
        questions,
        sent: None,
        in_flight: VecDeque::new(),
        acked_floating_ips: None,
    })
}

fn refusal(refused: &Refused) -> Status {
    let code = match refused {
        Refused::BadVtep(_) | Refused::BadPhysicalNetwork(_) | Refused::TooManyPhysicalNetworks(_) => {
            Code::InvalidArgument
        }
        Refused::VtepTaken { .. } => Code::AlreadyExists,
        Refused::NoDvrMac(_) => Code::ResourceExhausted,
        Refused::Store(_) => Code::Unavailable,
    };
    Status::new(code, refused.to_string())
}

/// A stream that was let in.
struct Connection {
    shared: Shared,
    host: Host,
    number: u64,
    /// The agent reads slices with IPv6.
    ipv6: bool,
    replaced: CancellationToken,
    questions: mpsc::Receiver<Question>,
    /// The slice as the agent has it once it has applied everything sent.
    sent: Option<Slice>,
    /// The host's own floating IPs at each revision sent and not yet acked.
    in_flight: VecDeque<(u64, Arc<OwnFloatingIps>)>,
    acked_floating_ips: Option<Arc<OwnFloatingIps>>,
}

impl Connection {
    async fn converse(&mut self, inbound: &mut Streaming<AgentMessage>, outbound: &Outbound) -> Status {
        if outbound.send(Ok(self.welcome())).await.is_err() {
            return Status::ok("closed by the agent");
        }
        let mut settled = self.shared.handle.settled.clone();
        settled.mark_changed();
        let mut dirty = false;
        loop {
            tokio::select! {
                () = self.replaced.cancelled() => return Status::aborted("another stream of this host took over"),
                () = self.shared.stop.cancelled() => return Status::unavailable("the controller is going down"),
                changed = settled.changed(), if !dirty => match changed {
                    Ok(()) => dirty = true,
                    Err(_) => return Status::unavailable("the controller is going down"),
                },
                permit = outbound.reserve(), if dirty => {
                    let Ok(permit) = permit else { return Status::ok("closed by the agent") };
                    dirty = false;
                    let snapshot = Arc::clone(&settled.borrow_and_update());
                    match self.next_message(&snapshot) {
                        Ok(Some(message)) => permit.send(Ok(to_agent(message))),
                        Ok(None) => {}
                        Err(end) => return end,
                    }
                }
                Some(question) = self.questions.recv() => {
                    if outbound.send(Ok(to_agent(ToAgent::Question(question)))).await.is_err() {
                        return Status::ok("closed by the agent");
                    }
                }
                message = inbound.message() => match message {
                    Ok(Some(message)) => if let Err(end) = self.received(message).await { return end },
                    Ok(None) => return Status::ok("closed by the agent"),
                    Err(error) => return Status::new(Code::Ok, format!("broken: {}", error.message())),
                },
            }
        }
    }

    fn welcome(&self) -> ControllerMessage {
        to_agent(ToAgent::Welcome(proto::Welcome {
            host_id: self.host.id.to_string(),
            dvr_mac: self.host.dvr_mac.to_string(),
            cluster_id: self.shared.handle.settled.borrow().cluster_id.to_string(),
            tunnel: self.shared.settings.tunnel.clone(),
            nat_timeouts: Some(told_timeouts(self.shared.settings.nat_timeouts)),
        }))
    }

    /// What brings the agent to `snapshot`; nothing if its slice is the same there.
    fn next_message(&mut self, snapshot: &Snapshot) -> Result<Option<ToAgent>, Status> {
        if !snapshot.hosts.contains_key(&self.host.id) {
            return Err(Status::not_found("this host was deleted; it enters again with the next Hello"));
        }
        let mut slice = slice_for(snapshot, self.host.id);
        if !self.ipv6 {
            slice.retain_ipv4();
        }
        let message = match &self.sent {
            None => ToAgent::Snapshot(proto::Snapshot { slice: json(&slice)? }),
            Some(sent) => {
                let delta = sent.diff(&slice);
                if delta.upserts.is_empty() && delta.removals.is_empty() {
                    return Ok(None);
                }
                ToAgent::Delta(proto::Delta { delta: json(&delta)? })
            }
        };
        if self.in_flight.len() == bounds::IN_FLIGHT_MAX {
            // An ack of it will count as one of the revision before: late, never wrong.
            self.in_flight.pop_front();
        }
        let floating_ips = own_floating_ips(&slice, self.host.id);
        self.in_flight.push_back((slice.revision, Arc::new(floating_ips)));
        self.shared.hub.told(self.host.id, slice.revision);
        self.sent = Some(slice);
        Ok(Some(message))
    }

    async fn received(&mut self, message: AgentMessage) -> Result<(), Status> {
        self.shared.hub.heard(self.host.id);
        let (host, connection) = (self.host.id, self.number);
        let event = match message.message {
            Some(FromAgent::Programmed(programmed)) => self.acked(programmed)?,
            Some(FromAgent::Status(status)) => {
                let links = bounded(&status.link_port_ids)?.iter().cloned().collect();
                let blocks = block_uses(&status.blocks)?;
                self.shared.hub.status(host, status);
                Some(Event::Status { host, connection, links, blocks })
            }
            Some(FromAgent::BlockRequest(request)) => {
                let router = request.router_id.parse();
                let router = router.map_err(|_| Status::invalid_argument("the router's id is not a UUID"))?;
                Some(Event::BlocksWanted { host, router })
            }
            Some(FromAgent::AddressAnnounced(announced)) => {
                Some(Event::Announced(announcement(host, &announced)?))
            }
            Some(FromAgent::Hello(_)) => return Err(Status::invalid_argument("a second Hello")),
            // A message of a newer agent: not for us.
            None => None,
        };
        if let Some(event) = event {
            let sent = self.shared.handle.events.send(event).await;
            sent.map_err(|_| Status::unavailable("the controller is going down"))?;
        }
        Ok(())
    }

    /// None before the snapshot has been acked.
    fn acked(&mut self, programmed: proto::Programmed) -> Result<Option<Event>, Status> {
        while let Some((revision, floating_ips)) = self.in_flight.front()
            && *revision <= programmed.revision
        {
            self.acked_floating_ips = Some(Arc::clone(floating_ips));
            self.in_flight.pop_front();
        }
        let Some(floating_ips) = &self.acked_floating_ips else { return Ok(None) };
        let ports = bounded(&programmed.port_ids)?.iter().map(|id| id.parse());
        let ports = ports.collect::<Result<BTreeSet<_>, _>>();
        let ports = ports.map_err(|_| Status::invalid_argument("a programmed port's id is not a UUID"))?;
        let acked = Acked { revision: programmed.revision, ports, floating_ips: Arc::clone(floating_ips) };
        Ok(Some(Event::Acked { host: self.host.id, connection: self.number, acked }))
    }
}

fn told_timeouts(timeouts: NatTimeouts) -> proto::NatTimeouts {
    let NatTimeouts { udp_s, icmp_s, tcp_established_s, tcp_transitory_s, tcp_closed_s, port_rest_s } =
        timeouts;
    proto::NatTimeouts { udp_s, icmp_s, tcp_established_s, tcp_transitory_s, tcp_closed_s, port_rest_s }
}

fn to_agent(message: ToAgent) -> ControllerMessage {
    ControllerMessage { message: Some(message) }
}

fn bounded(ids: &[String]) -> Result<&[String], Status> {
    match ids.len() {
        0..=bounds::PORTS_MAX => Ok(ids),
        _ => Err(Status::resource_exhausted("too many ports in one message")),
    }
}

fn block_uses(uses: &[proto::BlockUse]) -> Result<Report, Status> {
    if uses.len() > bounds::PORTS_MAX {
        return Err(Status::resource_exhausted("too many port blocks in one message"));
    }
    let parsed = uses.iter().map(|told| {
        let id = told.block_id.parse().map_err(|_| Status::invalid_argument("not a port block's id"))?;
        Ok((id, Use { ports_used: told.ports_used, retiring: told.retiring }))
    });
    parsed.collect()
}

fn announcement(host: HostId, announced: &proto::AddressAnnounced) -> Result<Announcement, Status> {
    let wrong = |what| Status::invalid_argument(format!("an announced address's {what} is not readable"));
    Ok(Announcement {
        host,
        port: announced.port_id.parse().map_err(|_| wrong("port id"))?,
        address: announced.address.parse().map_err(|_| wrong("address"))?,
        mac: announced.mac.parse().map_err(|_| wrong("MAC"))?,
    })
}

fn json(object: &impl serde::Serialize) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(object).map_err(|error| Status::internal(format!("cannot encode the slice: {error}")))
}
