//! `nanboku floatingip`.

use crate::body::Body;
use crate::output::Column;
use crate::resource::{Context, DeleteArgs, FLOATING_IP, NETWORK, OneArgs, PORT};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::net::Ipv4Addr;

mod port_forwarding;

#[derive(Debug, Subcommand)]
pub(crate) enum FloatingIpCommand {
    /// Take a floating IP of an external network.
    Create(CreateArgs),
    /// List floating IPs.
    List(ListArgs),
    /// Show one floating IP.
    Show(OneArgs),
    /// Give a floating IP to a port.
    Set(SetArgs),
    /// Take a floating IP from its port.
    Unset(UnsetArgs),
    /// Give floating IPs back.
    Delete(DeleteArgs),
    /// Ports of a floating IP that lead to ports of VMs.
    #[command(subcommand, name = "portforwarding", alias = "port-forwarding")]
    PortForwarding(port_forwarding::PortForwardingCommand),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Name or id of the external network.
    network: String,
    /// This address instead of an automatic one.
    #[arg(long, value_name = "ADDRESS")]
    floating_ip_address: Option<Ipv4Addr>,
    /// Name or id of the port that gets it.
    #[arg(long)]
    port: Option<String>,
    /// Which address of the port, if it has several.
    #[arg(long, value_name = "ADDRESS", requires = "port")]
    fixed_ip_address: Option<Ipv4Addr>,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Project that owns it.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only those of this external network.
    #[arg(long)]
    network: Option<String>,
    /// Only those of this port.
    #[arg(long)]
    port: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// Address or id.
    floatingip: String,
    /// Name or id of the port that gets it.
    #[arg(long)]
    port: Option<String>,
    /// Which address of the port, if it has several.
    #[arg(long, value_name = "ADDRESS", requires = "port")]
    fixed_ip_address: Option<Ipv4Addr>,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct UnsetArgs {
    /// Address or id.
    floatingip: String,
    /// The port: connections through the floating IP end.
    #[arg(long, required = true)]
    port: bool,
}

const COLUMNS: &[Column] = &[
    Column::plain("id", "id"),
    Column::plain("address", "floating_ip_address"),
    Column::plain("fixed address", "fixed_ip_address"),
    Column::plain("port", "port_id"),
    Column::plain("router", "router_id"),
    Column::plain("status", "status"),
];

pub(crate) async fn run(command: FloatingIpCommand, cx: &Context) -> anyhow::Result<String> {
    match command {
        FloatingIpCommand::Create(args) => create(&args, cx).await,
        FloatingIpCommand::List(args) => list(&args, cx).await,
        FloatingIpCommand::Show(args) => cx.show(&FLOATING_IP, &args).await,
        FloatingIpCommand::Set(args) => set(&args, cx).await,
        FloatingIpCommand::Unset(args) => unset(&args, cx).await,
        FloatingIpCommand::Delete(args) => cx.delete(&FLOATING_IP, &args).await,
        FloatingIpCommand::PortForwarding(command) => port_forwarding::run(command, cx).await,
    }
}

async fn create(args: &CreateArgs, cx: &Context) -> anyhow::Result<String> {
    let network = cx.client.find_id(&NETWORK, &args.network).await?;
    let port = cx.client.find_id_of(&PORT, args.port.as_deref()).await?;
    let body = Body::default()
        .with("floating_network_id", network)
        .with_some("floating_ip_address", args.floating_ip_address)
        .with_some("port_id", port)
        .with_some("fixed_ip_address", args.fixed_ip_address)
        .with_some("description", args.description.as_ref())
        .with_some("project_id", args.project.as_ref());
    cx.create(&FLOATING_IP, body).await
}

async fn list(args: &ListArgs, cx: &Context) -> anyhow::Result<String> {
    let network = cx.client.find_id_of(&NETWORK, args.network.as_deref()).await?;
    let port = cx.client.find_id_of(&PORT, args.port.as_deref()).await?;
    let mut query = Vec::new();
    query.extend(network.as_deref().map(|id| ("floating_network_id", id)));
    query.extend(port.as_deref().map(|id| ("port_id", id)));
    Ok(cx.output.list(COLUMNS, &cx.client.list(&FLOATING_IP, &query).await?))
}

async fn set(args: &SetArgs, cx: &Context) -> anyhow::Result<String> {
    let id = cx.client.find_id(&FLOATING_IP, &args.floatingip).await?;
    let port = cx.client.find_id_of(&PORT, args.port.as_deref()).await?;
    let body = Body::default()
        .with_some("port_id", port)
        .with_some("fixed_ip_address", args.fixed_ip_address)
        .with_some("description", args.description.as_ref());
    cx.set(&FLOATING_IP, &id, body).await
}

async fn unset(args: &UnsetArgs, cx: &Context) -> anyhow::Result<String> {
    let id = cx.client.find_id(&FLOATING_IP, &args.floatingip).await?;
    let body = Body::default().with_some("port_id", args.port.then_some(Value::Null));
    cx.set(&FLOATING_IP, &id, body).await
}
