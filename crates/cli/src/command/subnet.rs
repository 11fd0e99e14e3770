//! `nanboku subnet`.

use crate::body::Body;
use crate::output::Column;
use crate::resource::{Context, DeleteArgs, NETWORK, OneArgs, SUBNET, pairs, value_of};
use clap::{Args, Subcommand};
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

#[derive(Debug, Subcommand)]
pub(crate) enum SubnetCommand {
    /// Make a subnet.
    Create(CreateArgs),
    /// List subnets.
    List(ListArgs),
    /// Show one subnet.
    Show(OneArgs),
    /// Change a subnet.
    Set(SetArgs),
    /// Delete subnets.
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name; need not be unique.
    name: String,
    /// Name or id of its network.
    #[arg(long)]
    network: String,
    /// Its addresses.
    #[arg(long, value_name = "CIDR")]
    subnet_range: Ipv4Net,
    /// The gateway's address, `auto` for the first, `none` for no gateway.
    #[arg(long, value_name = "ADDRESS", default_value = "auto", value_parser = gateway)]
    gateway: Gateway,
    #[command(flatten)]
    common: CommonArgs,
    /// Project that owns it.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
}

/// What both create and set take.
#[derive(Args, Debug)]
struct CommonArgs {
    /// Where ports get their addresses from: start=ADDRESS,end=ADDRESS; may be repeated.
    #[arg(long = "allocation-pool", value_name = "RANGE", value_parser = pool)]
    pools: Vec<Value>,
    /// May be repeated; the order is kept.
    #[arg(long = "dns-nameserver", value_name = "ADDRESS")]
    dns_nameservers: Vec<Ipv4Addr>,
    /// destination=CIDR,gateway=ADDRESS; may be repeated.
    #[arg(long = "host-route", value_name = "ROUTE", value_parser = super::router::route)]
    host_routes: Vec<Value>,
    /// Addresses are handed out by DHCP (the default at creation).
    #[arg(long, conflicts_with = "no_dhcp")]
    dhcp: bool,
    /// Addresses are not handed out.
    #[arg(long)]
    no_dhcp: bool,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only subnets of this network.
    #[arg(long)]
    network: Option<String>,
    /// Only subnets of this name.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// Name or id.
    subnet: String,
    /// New name.
    #[arg(long)]
    name: Option<String>,
    /// The gateway's address, or `none`.
    #[arg(long, value_name = "ADDRESS", value_parser = gateway)]
    gateway: Option<Gateway>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Clone, Copy, Debug)]
enum Gateway {
    Auto,
    None,
    Address(Ipv4Addr),
}

fn gateway(text: &str) -> Result<Gateway, String> {
    match text {
        "auto" => Ok(Gateway::Auto),
        "none" => Ok(Gateway::None),
        _ => {
            text.parse().map(Gateway::Address).map_err(|_| "use an IPv4 address, 'auto' or 'none'".to_owned())
        }
    }
}

fn pool(text: &str) -> Result<Value, String> {
    let given = pairs(text, &["start", "end"])?;
    let end = |key| value_of(&given, key).and_then(|text| text.parse::<Ipv4Addr>().ok());
    match (end("start"), end("end")) {
        (Some(start), Some(end)) if start <= end => Ok(json!({"start": start, "end": end})),
        (Some(_), Some(_)) => Err("its start is after its end".to_owned()),
        _ => Err("write start=ADDRESS,end=ADDRESS".to_owned()),
    }
}

const COLUMNS: &[Column] = &[
    Column::plain("id", "id"),
    Column::plain("name", "name"),
    Column::plain("network", "network_id"),
    Column::plain("range", "cidr"),
    Column::plain("gateway", "gateway_ip"),
    Column { header: "pools", key: "allocation_pools", text: Some(pools_text) },
];

fn pools_text(pools: &Value) -> String {
    let pools = pools.as_array().map(Vec::as_slice).unwrap_or_default();
    let text =
        |pool: &Value| Some(format!("{}-{}", pool.get("start")?.as_str()?, pool.get("end")?.as_str()?));
    let texts: Vec<String> = pools.iter().filter_map(text).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join("\n") }
}

pub(crate) async fn run(command: SubnetCommand, cx: &Context) -> anyhow::Result<String> {
    match command {
        SubnetCommand::Create(args) => create(&args, cx).await,
        SubnetCommand::List(args) => list(&args, cx).await,
        SubnetCommand::Show(args) => cx.show(&SUBNET, &args).await,
        SubnetCommand::Set(args) => set(&args, cx).await,
        SubnetCommand::Delete(args) => cx.delete(&SUBNET, &args).await,
    }
}

impl CommonArgs {
    fn add_to(&self, body: Body) -> Body {
        body.with_any("allocation_pools", &self.pools)
            .with_any("dns_nameservers", &self.dns_nameservers)
            .with_any("host_routes", &self.host_routes)
            .with_flag("enable_dhcp", self.dhcp, true)
            .with_flag("enable_dhcp", self.no_dhcp, false)
            .with_some("description", self.description.as_ref())
    }
}

fn with_gateway(body: Body, gateway: Gateway) -> Body {
    match gateway {
        Gateway::Auto => body,
        Gateway::None => body.with("gateway_ip", Value::Null),
        Gateway::Address(address) => body.with("gateway_ip", address),
    }
}

async fn create(args: &CreateArgs, cx: &Context) -> anyhow::Result<String> {
    let network = cx.client.find_id(&NETWORK, &args.network).await?;
    let body = Body::default()
        .with("name", &args.name)
        .with("network_id", network)
        .with("ip_version", 4)
        .with("cidr", args.subnet_range.to_string())
        .with_some("project_id", args.project.as_ref());
    cx.create(&SUBNET, args.common.add_to(with_gateway(body, args.gateway))).await
}

async fn list(args: &ListArgs, cx: &Context) -> anyhow::Result<String> {
    let network = cx.client.find_id_of(&NETWORK, args.network.as_deref()).await?;
    let mut query = Vec::new();
    query.extend(network.as_deref().map(|id| ("network_id", id)));
    query.extend(args.name.as_deref().map(|name| ("name", name)));
    Ok(cx.output.list(COLUMNS, &cx.client.list(&SUBNET, &query).await?))
}

async fn set(args: &SetArgs, cx: &Context) -> anyhow::Result<String> {
    let id = cx.client.find_id(&SUBNET, &args.subnet).await?;
    let body = Body::default().with_some("name", args.name.as_ref());
    let body = args.common.add_to(with_gateway(body, args.gateway.unwrap_or(Gateway::Auto)));
    cx.set(&SUBNET, &id, body).await
}
