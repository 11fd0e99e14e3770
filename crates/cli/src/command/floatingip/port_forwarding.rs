//! `nanboku floatingip portforwarding`.

use crate::Usage;
use crate::body::Body;
use crate::output::Column;
use crate::resource::{Context, FLOATING_IP, PORT, encode};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::net::Ipv4Addr;

#[derive(Debug, Subcommand)]
pub(crate) enum PortForwardingCommand {
    /// Forward a port of a floating IP that no port has as a whole.
    Create(CreateArgs),
    /// List what a floating IP forwards.
    List(ListArgs),
    /// Show one forwarding.
    Show(OneArgs),
    /// Change a forwarding: its connections end.
    Set(SetArgs),
    /// Delete forwardings: their connections end.
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Address or id of the floating IP.
    floatingip: String,
    /// Name or id of the port it leads to.
    #[arg(long)]
    port: String,
    /// Which address of the port; the first, if not given.
    #[arg(long, value_name = "ADDRESS")]
    internal_ip_address: Option<Ipv4Addr>,
    /// Port number outside.
    #[arg(long, value_name = "NUMBER")]
    external_port: u16,
    /// Port number of the VM.
    #[arg(long, value_name = "NUMBER")]
    internal_port: u16,
    /// What is forwarded.
    #[arg(long, value_parser = ["tcp", "udp"])]
    protocol: String,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Address or id of the floating IP.
    floatingip: String,
}

#[derive(Args, Debug)]
pub(crate) struct OneArgs {
    /// Address or id of the floating IP.
    floatingip: String,
    /// Id of the forwarding.
    id: String,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// Address or id of the floating IP.
    floatingip: String,
    /// Id of the forwarding.
    id: String,
    /// Name or id of the port it leads to.
    #[arg(long)]
    port: Option<String>,
    /// Which address of the port.
    #[arg(long, value_name = "ADDRESS")]
    internal_ip_address: Option<Ipv4Addr>,
    /// Port number outside.
    #[arg(long, value_name = "NUMBER")]
    external_port: Option<u16>,
    /// Port number of the VM.
    #[arg(long, value_name = "NUMBER")]
    internal_port: Option<u16>,
    /// What is forwarded.
    #[arg(long, value_parser = ["tcp", "udp"])]
    protocol: Option<String>,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    /// Address or id of the floating IP.
    floatingip: String,
    /// Ids of the forwardings.
    #[arg(required = true)]
    ids: Vec<String>,
    /// Needed to delete more than one at once.
    #[arg(long, short)]
    yes: bool,
}

const COLUMNS: &[Column] = &[
    Column::plain("id", "id"),
    Column::plain("protocol", "protocol"),
    Column::plain("external port", "external_port"),
    Column::plain("internal address", "internal_ip_address"),
    Column::plain("internal port", "internal_port"),
    Column::plain("port", "internal_port_id"),
    Column::plain("description", "description"),
];

pub(crate) async fn run(command: PortForwardingCommand, cx: &Context) -> anyhow::Result<String> {
    match command {
        PortForwardingCommand::Create(args) => create(&args, cx).await,
        PortForwardingCommand::List(args) => list(&args, cx).await,
        PortForwardingCommand::Show(args) => show(&args, cx).await,
        PortForwardingCommand::Set(args) => set(&args, cx).await,
        PortForwardingCommand::Delete(args) => delete(&args, cx).await,
    }
}

async fn create(args: &CreateArgs, cx: &Context) -> anyhow::Result<String> {
    let path = collection(&args.floatingip, cx).await?;
    let port = cx.client.find_id(&PORT, &args.port).await?;
    let body = Body::default()
        .with("internal_port_id", port)
        .with("protocol", &args.protocol)
        .with("external_port", args.external_port)
        .with("internal_port", args.internal_port)
        .with_some("internal_ip_address", args.internal_ip_address)
        .with_some("description", args.description.as_ref());
    one(cx.client.post(&path, &body.into_envelope(ENVELOPE)).await?, cx)
}

async fn list(args: &ListArgs, cx: &Context) -> anyhow::Result<String> {
    let mut answer = cx.client.get(&collection(&args.floatingip, cx).await?, &[]).await?;
    match answer.get_mut("port_forwardings").map(Value::take) {
        Some(Value::Array(rows)) => Ok(cx.output.list(COLUMNS, &rows)),
        _ => anyhow::bail!("the API answered without 'port_forwardings'"),
    }
}

async fn show(args: &OneArgs, cx: &Context) -> anyhow::Result<String> {
    let path = member(&collection(&args.floatingip, cx).await?, &args.id);
    one(cx.client.get(&path, &[]).await?, cx)
}

async fn set(args: &SetArgs, cx: &Context) -> anyhow::Result<String> {
    let path = member(&collection(&args.floatingip, cx).await?, &args.id);
    let port = cx.client.find_id_of(&PORT, args.port.as_deref()).await?;
    let body = Body::default()
        .with_some("internal_port_id", port)
        .with_some("protocol", args.protocol.as_ref())
        .with_some("external_port", args.external_port)
        .with_some("internal_port", args.internal_port)
        .with_some("internal_ip_address", args.internal_ip_address)
        .with_some("description", args.description.as_ref());
    if body.is_empty() {
        let text = "nothing to change; see `nanboku floatingip portforwarding set --help`";
        return Err(Usage(text.to_owned()).into());
    }
    one(cx.client.put(&path, &body.into_envelope(ENVELOPE)).await?, cx)
}

async fn delete(args: &DeleteArgs, cx: &Context) -> anyhow::Result<String> {
    if args.ids.len() > 1 && !args.yes {
        let text = format!(
            "this deletes {} port forwardings at once; repeat the command with --yes",
            args.ids.len()
        );
        return Err(Usage(text).into());
    }
    let path = collection(&args.floatingip, cx).await?;
    for id in &args.ids {
        cx.client.delete_at(&member(&path, id)).await?;
    }
    Ok(String::new())
}

const ENVELOPE: &str = "port_forwarding";

/// Where the forwardings of a floating IP are.
async fn collection(floating_ip: &str, cx: &Context) -> anyhow::Result<String> {
    let id = cx.client.find_id(&FLOATING_IP, floating_ip).await?;
    Ok(format!("{}/port_forwardings", FLOATING_IP.path_of(&id)))
}

fn member(collection: &str, id: &str) -> String {
    format!("{collection}/{}", encode(id))
}

fn one(mut answer: Value, cx: &Context) -> anyhow::Result<String> {
    let object = answer.get_mut(ENVELOPE).map(Value::take);
    Ok(cx.output.show(&object.context("the API answered without 'port_forwarding'")?))
}
