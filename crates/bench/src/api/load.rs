//! What clients do, and how long it takes them.

use super::client::{Client, Endpoint};
use super::server::{Access, Server};
use crate::figure::Target;
use crate::report::median;
use anyhow::Context as _;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Requests whose median is one value.
const REQUESTS: usize = 40;
const CLIENTS: usize = 8;
/// How long clients work side by side.
const WINDOW: Duration = Duration::from_millis(700);
/// Ports of one network of the full store, and of one request that fills it.
const PORTS_PER_NETWORK: u32 = 1000;
const PORTS_PER_REQUEST: u32 = 250;
/// A list is as long as that.
const LISTED: u32 = 100;
const MEMBER: &str = "member-of-few";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    Create,
    CreateTogether,
    Show,
    List,
    Page,
    MemberList,
}

impl Work {
    pub(crate) const ALL: [Self; 6] =
        [Self::Create, Self::CreateTogether, Self::Show, Self::List, Self::Page, Self::MemberList];

    /// Only with authentication there are members.
    pub(crate) fn with(self, access: Access) -> bool {
        self != Self::MemberList || access == Access::Tls
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Create => "port_create",
            Self::CreateTogether => "port_create_8_clients",
            Self::Show => "port_show",
            Self::List => "port_list_100",
            Self::Page => "port_page_100",
            Self::MemberList => "port_list_100_of_member",
        }
    }

    pub(crate) const fn unit(self) -> &'static str {
        if let Self::CreateTogether = self { "1/s" } else { "ms" }
    }

    pub(crate) const fn target(self) -> Option<Target> {
        Some(match self {
            Self::CreateTogether => Target::AtLeast(500.0),
            Self::Show => Target::AtMost(0.5),
            Self::Create | Self::List | Self::Page | Self::MemberList => Target::AtMost(3.0),
        })
    }
}

/// A prepared controller.
pub(crate) struct Load {
    endpoint: Endpoint,
    /// As somebody who owns the listed ports and nothing else.
    member: Option<Endpoint>,
    /// Where ports come and go.
    busy: String,
    /// It has [`LISTED`] ports, of which this is one.
    listed: String,
    port: String,
}

impl Load {
    /// Fills the store unless that was done before, and makes what the figures need.
    pub(crate) fn prepare(server: &Server, access: Access, ports: u32) -> anyhow::Result<Self> {
        let mut client = Client::connect(&server.endpoint)?;
        if access == Access::Plain {
            fill(&mut client, ports)?;
        }
        let mut owner = json!({});
        let mut member = None;
        if access == Access::Tls {
            let project = make_member(&mut client)?;
            // What the administrator's own project may have is no matter here.
            let own = client.call("GET", "/v2.0/quotas/tenant", "")?.object("tenant")?;
            for id in [&project, text(&own["tenant_id"])?] {
                client.call("PUT", &format!("/v2.0/quotas/{id}"), r#"{"quota": {"port": -1}}"#)?;
            }
            owner = json!({"project_id": project});
            let token = server.log_in(MEMBER, MEMBER, MEMBER)?;
            member = Some(Endpoint { token: Some(token), ..server.endpoint.clone() });
        }
        let busy = network(&mut client, 0)?;
        let listed = network(&mut client, 0)?;
        let made = make_ports(&mut client, &listed, LISTED, &owner)?;
        let port = text(&made[0]["id"])?.to_owned();
        Ok(Self { endpoint: server.endpoint.clone(), member, busy, listed, port })
    }

    /// Over connections of its own: one that was silent for long is closed by the controller.
    pub(crate) fn measure(&self, work: Work) -> anyhow::Result<f64> {
        let client = &mut Client::connect(&self.endpoint)?;
        let list = format!("/v2.0/ports?network_id={}", self.listed);
        match work {
            Work::Create => self.create(client),
            Work::CreateTogether => self.create_together(client),
            Work::Show => timed(client, &format!("/v2.0/ports/{}", self.port)),
            Work::List => timed(client, &list),
            Work::Page => timed(client, &format!("/v2.0/ports?limit={LISTED}")),
            Work::MemberList => {
                let member = self.member.as_ref().context("no member")?;
                timed(&mut Client::connect(member)?, "/v2.0/ports")
            }
        }
    }

    fn create(&self, client: &mut Client) -> anyhow::Result<f64> {
        let (mut times, mut ids) = (Vec::new(), Vec::new());
        for _ in 0..REQUESTS {
            let begun = Instant::now();
            let answer = create_port(client, &self.busy)?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
            ids.push(answer);
        }
        delete_ports(client, &ids)?;
        median(&times).context("no requests")
    }

    /// Ports per second.
    fn create_together(&self, client: &mut Client) -> anyhow::Result<f64> {
        let mut clients =
            (0..CLIENTS).map(|_| Client::connect(&self.endpoint)).collect::<anyhow::Result<Vec<_>>>()?;
        let busy = &self.busy;
        let begun = Instant::now();
        let made = std::thread::scope(|scope| {
            let work = |client| scope.spawn(move || create_for(client, busy, begun + WINDOW));
            let workers: Vec<_> = clients.iter_mut().map(work).collect();
            let join = |worker: std::thread::ScopedJoinHandle<'_, anyhow::Result<Vec<String>>>| {
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            workers.into_iter().map(join).collect::<anyhow::Result<Vec<_>>>()
        })?;
        let elapsed = begun.elapsed().as_secs_f64();
        let ids: Vec<String> = made.into_iter().flatten().collect();
        delete_ports(client, &ids)?;
        Ok(ids.len() as f64 / elapsed)
    }
}

fn create_for(client: &mut Client, network: &str, end: Instant) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    while Instant::now() < end {
        ids.push(create_port(client, network)?);
    }
    Ok(ids)
}

fn create_port(client: &mut Client, network: &str) -> anyhow::Result<String> {
    let body = format!(r#"{{"port": {{"network_id": "{network}", "name": "one"}}}}"#);
    let answer = client.call("POST", "/v2.0/ports", &body)?.object("port")?;
    Ok(text(&answer["id"])?.to_owned())
}

fn delete_ports(client: &mut Client, ids: &[String]) -> anyhow::Result<()> {
    ids.iter().try_for_each(|id| client.call("DELETE", &format!("/v2.0/ports/{id}"), "").map(drop))
}

/// Median over the requests, in milliseconds.
fn timed(client: &mut Client, path: &str) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let begun = Instant::now();
        client.call("GET", path, "")?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    median(&times).context("no requests")
}

/// Networks full of ports.
fn fill(client: &mut Client, ports: u32) -> anyhow::Result<()> {
    for number in 0..ports.div_ceil(PORTS_PER_NETWORK) {
        let network = network(client, number)?;
        let mut left = PORTS_PER_NETWORK.min(ports - number * PORTS_PER_NETWORK);
        while left > 0 {
            let many = left.min(PORTS_PER_REQUEST);
            make_ports(client, &network, many, &json!({}))?;
            left -= many;
        }
    }
    Ok(())
}

/// A network with a subnet of 4094 addresses.
fn network(client: &mut Client, number: u32) -> anyhow::Result<String> {
    let body = json!({"network": {"name": format!("net{number}")}});
    let network = client.call("POST", "/v2.0/networks", &body.to_string())?.object("network")?;
    let id = text(&network["id"])?.to_owned();
    let body = json!({"subnet": {"network_id": id, "ip_version": 4, "cidr": "10.0.0.0/20"}});
    client.call("POST", "/v2.0/subnets", &body.to_string())?;
    Ok(id)
}

fn make_ports(client: &mut Client, network: &str, many: u32, more: &Value) -> anyhow::Result<Vec<Value>> {
    let one = |number: u32| {
        let mut port = json!({
            "network_id": network, "name": format!("vm{number}"), "device_owner": "compute:nova",
            "device_id": format!("00000000-0000-4000-8000-{number:012}"),
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            port[name] = value.clone();
        }
        port
    };
    let body = json!({"ports": (0..many).map(one).collect::<Vec<_>>()});
    let made = client.call("POST", "/v2.0/ports", &body.to_string())?.object("ports")?;
    made.as_array().cloned().context("ports are not a list")
}

/// A project with one user, named alike; returns its id.
fn make_member(client: &mut Client) -> anyhow::Result<String> {
    let make = |client: &mut Client, kind: &str, body: Value| -> anyhow::Result<String> {
        let answer =
            client.call("POST", &format!("/identity/v3/{kind}s"), &json!({kind: body}).to_string())?;
        Ok(text(&answer.object(kind)?["id"])?.to_owned())
    };
    let project = make(client, "project", json!({"name": MEMBER}))?;
    let user = make(client, "user", json!({"name": MEMBER, "password": MEMBER}))?;
    let roles = client.call("GET", "/identity/v3/roles?name=member", "")?.object("roles")?;
    let role = text(&roles[0]["id"])?;
    let mut path = format!("/identity/v3/projects/{project}");
    write!(path, "/users/{user}/roles/{role}")?;
    client.call("PUT", &path, "")?;
    Ok(project)
}

fn text(value: &Value) -> anyhow::Result<&str> {
    value.as_str().context("an answer without the text it must have")
}
