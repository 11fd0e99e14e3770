//! `nanboku port plug` and `unplug`: an interface for a port in a network namespace of this host.

use crate::resource::{Context, PORT};
use agent::control::{Request, Response};
use anyhow::{Context as _, bail};
use clap::Args;
use model::PortId;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Where the agent of this host listens unless configured otherwise.
pub(crate) const AGENT_SOCKET_DEFAULT: &str = "/run/nanboku/agent.sock";

#[derive(Args, Debug)]
pub(crate) struct PlugArgs {
    /// Name or id.
    port: String,
    /// Network namespace that gets the interface: a name under /run/netns, or a path.
    #[arg(long, value_name = "NAME")]
    netns: String,
    /// Name of the interface there.
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    ifname: String,
    #[command(flatten)]
    agent: AgentSocket,
}

#[derive(Args, Debug)]
pub(crate) struct UnplugArgs {
    /// Name or id.
    port: String,
    #[command(flatten)]
    agent: AgentSocket,
}

/// The agent of this host.
#[derive(Args, Debug)]
struct AgentSocket {
    /// Control socket of this host's agent.
    #[arg(long = "agent-socket", value_name = "PATH", env = "NANBOKU_AGENT_SOCKET", default_value = AGENT_SOCKET_DEFAULT)]
    path: PathBuf,
}

/// Link, addresses and times of a port that was plugged.
pub(crate) async fn plug(args: &PlugArgs, cx: &Context) -> anyhow::Result<String> {
    let port_id = port_id(&args.port, cx).await?;
    let request = Request::Plug { port_id, netns: args.netns.clone(), ifname: args.ifname.clone() };
    match ask(&args.agent.path, &request)? {
        Response::Plugged(plugged) => Ok(cx.output.show(&serde_json::to_value(plugged)?)),
        other => bail!("the agent answered {other:?} to a plug"),
    }
}

pub(crate) async fn unplug(args: &UnplugArgs, cx: &Context) -> anyhow::Result<String> {
    let port_id = port_id(&args.port, cx).await?;
    match ask(&args.agent.path, &Request::Unplug { port_id })? {
        Response::Unplugged => Ok(String::new()),
        other => bail!("the agent answered {other:?} to an unplug"),
    }
}

/// What the agent of this host says of itself.
pub(crate) fn local_status(socket: &Path) -> anyhow::Result<Value> {
    match ask(socket, &Request::Status)? {
        Response::Status(status) => Ok(serde_json::to_value(status)?),
        other => bail!("the agent answered {other:?} to a status request"),
    }
}

fn ask(socket: &Path, request: &Request) -> anyhow::Result<Response> {
    Ok(agent::control::request(socket, request)?)
}

/// An id is taken as it is, so that plugging works while the controller is away.
async fn port_id(wanted: &str, cx: &Context) -> anyhow::Result<PortId> {
    if let Ok(id) = wanted.parse() {
        return Ok(id);
    }
    let id = cx.client.find_id(&PORT, wanted).await?;
    id.parse().with_context(|| format!("'{id}' is not the id of a port"))
}
