//! `nanboku port`.

use crate::body::Body;
use crate::output::Column;
use crate::resource::{
    AdminState, Context, DeleteArgs, NETWORK, OneArgs, PORT, ROUTER, SECURITY_GROUP, SUBNET, nested, pairs,
    value_of,
};
use clap::{Args, Subcommand};
use model::Mac;
use serde_json::Value;
use std::net::Ipv4Addr;

mod plug;

pub(crate) use plug::{AGENT_SOCKET_DEFAULT, local_status};

#[derive(Debug, Subcommand)]
pub(crate) enum PortCommand {
    /// Make a port.
    Create(CreateArgs),
    /// List ports.
    List(ListArgs),
    /// Show one port.
    Show(OneArgs),
    /// Change a port.
    Set(SetArgs),
    /// Delete ports.
    Delete(DeleteArgs),
    /// Put an interface for the port into a network namespace of this host.
    Plug(plug::PlugArgs),
    /// Take the interface of the port away from this host.
    Unplug(plug::UnplugArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name; need not be unique.
    name: String,
    /// Name or id of its network.
    #[arg(long)]
    network: String,
    /// subnet=NAME and/or ip-address=ADDRESS, instead of automatic addresses; may be repeated.
    #[arg(long = "fixed-ip", value_name = "ADDRESS", value_parser = fixed_ip)]
    fixed_ips: Vec<FixedIp>,
    /// This MAC address instead of an automatic one.
    #[arg(long, value_name = "MAC")]
    mac_address: Option<Mac>,
    /// No anti-spoofing.
    #[arg(long)]
    disable_port_security: bool,
    /// Project that owns it.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// What both create and set take.
#[derive(Args, Debug)]
struct CommonArgs {
    /// Host that the port is bound to.
    #[arg(long)]
    host: Option<String>,
    /// Id of the VM.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// What kind of device it is of, for example compute:nova.
    #[arg(long, value_name = "OWNER")]
    device_owner: Option<String>,
    /// ip-address=CIDR[,mac-address=MAC] that the port may also use; may be repeated.
    #[arg(long = "allowed-address", value_name = "PAIR", value_parser = allowed_address)]
    allowed_addresses: Vec<Value>,
    /// Name or id of a security group that filters it; may be repeated, and replaces those there are.
    #[arg(long = "security-group", value_name = "GROUP", conflicts_with = "no_security_group")]
    security_groups: Vec<String>,
    /// No security group: nothing is allowed.
    #[arg(long)]
    no_security_group: bool,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    state: AdminState,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only ports of this network.
    #[arg(long)]
    network: Option<String>,
    /// Only ports of this router.
    #[arg(long)]
    router: Option<String>,
    /// Only ports bound to this host.
    #[arg(long)]
    host: Option<String>,
    /// Only ports of this owner.
    #[arg(long)]
    device_owner: Option<String>,
    /// Only ports of this name.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// Name or id.
    port: String,
    /// New name.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Clone, Debug)]
struct FixedIp {
    subnet: Option<String>,
    address: Option<Ipv4Addr>,
}

fn fixed_ip(text: &str) -> Result<FixedIp, String> {
    let given = pairs(text, &["subnet", "ip-address"])?;
    let address = value_of(&given, "ip-address")
        .map(|text| text.parse().map_err(|_| format!("'{text}' is not an IPv4 address")));
    Ok(FixedIp { subnet: value_of(&given, "subnet").map(str::to_owned), address: address.transpose()? })
}

fn allowed_address(text: &str) -> Result<Value, String> {
    let given = pairs(text, &["ip-address", "mac-address"])?;
    let Some(address) = value_of(&given, "ip-address") else {
        return Err("ip-address=… is missing".to_owned());
    };
    if address.parse::<Ipv4Addr>().is_err() && address.parse::<ipnet::Ipv4Net>().is_err() {
        return Err(format!("'{address}' is neither an IPv4 address nor a CIDR"));
    }
    let mac =
        value_of(&given, "mac-address").map(|text| text.parse::<Mac>().map_err(|error| error.to_string()));
    let body = Body::default().with("ip_address", address).with_some("mac_address", mac.transpose()?);
    Ok(body.into_value())
}

const COLUMNS: &[Column] = &[
    Column::plain("id", "id"),
    Column::plain("name", "name"),
    Column::plain("mac", "mac_address"),
    Column { header: "addresses", key: "fixed_ips", text: Some(|value| nested(value, "ip_address")) },
    Column::plain("owner", "device_owner"),
    Column::plain("host", "binding:host_id"),
    Column::plain("status", "status"),
];

pub(crate) async fn run(command: PortCommand, cx: &Context) -> anyhow::Result<String> {
    match command {
        PortCommand::Create(args) => create(&args, cx).await,
        PortCommand::List(args) => list(&args, cx).await,
        PortCommand::Show(args) => cx.show(&PORT, &args).await,
        PortCommand::Set(args) => set(&args, cx).await,
        PortCommand::Delete(args) => cx.delete(&PORT, &args).await,
        PortCommand::Plug(args) => plug::plug(&args, cx).await,
        PortCommand::Unplug(args) => plug::unplug(&args, cx).await,
    }
}

impl CommonArgs {
    async fn add_to(&self, body: Body, cx: &Context) -> anyhow::Result<Body> {
        let mut groups = Vec::new();
        for group in &self.security_groups {
            groups.push(Value::String(cx.client.find_id(&SECURITY_GROUP, group).await?));
        }
        let body = if self.no_security_group {
            body.with("security_groups", Value::Array(Vec::new()))
        } else {
            body
        };
        let body = body.with_any("security_groups", &groups);
        Ok(body
            .with_some("binding:host_id", self.host.as_ref())
            .with_some("device_id", self.device.as_ref())
            .with_some("device_owner", self.device_owner.as_ref())
            .with_any("allowed_address_pairs", &self.allowed_addresses)
            .with_some("description", self.description.as_ref())
            .with_some("admin_state_up", self.state.chosen()))
    }
}

async fn create(args: &CreateArgs, cx: &Context) -> anyhow::Result<String> {
    let network = cx.client.find_id(&NETWORK, &args.network).await?;
    let mut fixed_ips = Vec::new();
    for fixed in &args.fixed_ips {
        let subnet = cx.client.find_id_of(&SUBNET, fixed.subnet.as_deref()).await?;
        let body = Body::default().with_some("subnet_id", subnet).with_some("ip_address", fixed.address);
        fixed_ips.push(body.into_value());
    }
    let body = Body::default()
        .with("name", &args.name)
        .with("network_id", network)
        .with_any("fixed_ips", &fixed_ips)
        .with_some("mac_address", args.mac_address)
        .with_flag("port_security_enabled", args.disable_port_security, false)
        .with_some("project_id", args.project.as_ref());
    cx.create(&PORT, args.common.add_to(body, cx).await?).await
}

async fn list(args: &ListArgs, cx: &Context) -> anyhow::Result<String> {
    let network = cx.client.find_id_of(&NETWORK, args.network.as_deref()).await?;
    let router = cx.client.find_id_of(&ROUTER, args.router.as_deref()).await?;
    let filters = [
        ("network_id", network.as_deref()),
        ("device_id", router.as_deref()),
        ("binding:host_id", args.host.as_deref()),
        ("device_owner", args.device_owner.as_deref()),
        ("name", args.name.as_deref()),
    ];
    let query: Vec<(&str, &str)> =
        filters.iter().filter_map(|(key, value)| Some((*key, (*value)?))).collect();
    Ok(cx.output.list(COLUMNS, &cx.client.list(&PORT, &query).await?))
}

async fn set(args: &SetArgs, cx: &Context) -> anyhow::Result<String> {
    let id = cx.client.find_id(&PORT, &args.port).await?;
    let body = Body::default().with_some("name", args.name.as_ref());
    cx.set(&PORT, &id, args.common.add_to(body, cx).await?).await
}
