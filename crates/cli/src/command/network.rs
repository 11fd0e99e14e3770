//! `nanboku network`.

use crate::body::Body;
use crate::output::Column;
use crate::resource::{AdminState, Context, DeleteArgs, NETWORK, OneArgs};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Make a network.
    Create(CreateArgs),
    /// List networks.
    List(ListArgs),
    /// Show one network.
    Show(OneArgs),
    /// Change a network.
    Set(SetArgs),
    /// Delete networks with their subnets.
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name; need not be unique.
    name: String,
    /// A network to the outside; needs --provider-physical-network.
    #[arg(long, requires = "physical_network")]
    external: bool,
    /// Flat is untagged, vlan needs --provider-segment; chosen by what else is given.
    #[arg(long = "provider-network-type", value_enum)]
    network_type: Option<NetworkType>,
    /// The hosts' name for the physical network it is on.
    #[arg(long = "provider-physical-network", value_name = "NAME")]
    physical_network: Option<String>,
    /// VLAN id.
    #[arg(long = "provider-segment", value_name = "VLAN", value_parser = clap::value_parser!(u16).range(1..=4094), requires = "physical_network")]
    segment: Option<u16>,
    /// Who sends to it: every host that has the physical network, or only gateways.
    #[arg(long, value_enum, requires = "external")]
    egress: Option<Egress>,
    /// Ports per port block of a SNAT address: a power of two from 64 to 4096.
    #[arg(long, value_name = "PORTS", value_parser = block_size_of, requires = "external")]
    block_size: Option<u16>,
    /// Largest IP packet in bytes; the largest that fits if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(68..))]
    mtu: Option<u16>,
    /// Ports are made without anti-spoofing.
    #[arg(long)]
    disable_port_security: bool,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Project that owns it.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    #[command(flatten)]
    state: AdminState,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only networks to the outside.
    #[arg(long)]
    external: bool,
    /// Only networks of this name.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// Name or id.
    network: String,
    /// New name.
    #[arg(long)]
    name: Option<String>,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Largest IP packet in bytes.
    #[arg(long, value_parser = clap::value_parser!(u16).range(68..))]
    mtu: Option<u16>,
    /// Who sends to it.
    #[arg(long, value_enum)]
    egress: Option<Egress>,
    #[command(flatten)]
    state: AdminState,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum NetworkType {
    Flat,
    Vlan,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Egress {
    /// Every host that has the physical network sends itself.
    Direct,
    /// Only live gateways send, for fabrics that pin a source MAC to a port.
    Gateway,
}

impl Egress {
    const fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Gateway => "gateway",
        }
    }
}

const COLUMNS: &[Column] = &[
    Column::plain("id", "id"),
    Column::plain("name", "name"),
    Column::plain("status", "status"),
    Column { header: "kind", key: "router:external", text: Some(kind) },
    Column::plain("physical", "provider:physical_network"),
    Column::plain("segment", "provider:segmentation_id"),
    Column::plain("mtu", "mtu"),
    Column::plain("subnets", "subnets"),
];

fn kind(external: &Value) -> String {
    if external.as_bool() == Some(true) { "external" } else { "tenant" }.to_owned()
}

fn block_size_of(text: &str) -> Result<u16, String> {
    let size: u16 = text.parse().map_err(|_| format!("'{text}' is not a number"))?;
    if size.is_power_of_two() && (64..=4096).contains(&size) {
        Ok(size)
    } else {
        Err("use 64, 128, 256, 512, 1024, 2048 or 4096".to_owned())
    }
}

pub(crate) async fn run(command: NetworkCommand, cx: &Context) -> anyhow::Result<String> {
    match command {
        NetworkCommand::Create(args) => cx.create(&NETWORK, args.body()).await,
        NetworkCommand::List(args) => list(&args, cx).await,
        NetworkCommand::Show(args) => cx.show(&NETWORK, &args).await,
        NetworkCommand::Set(args) => set(&args, cx).await,
        NetworkCommand::Delete(args) => cx.delete(&NETWORK, &args).await,
    }
}

impl CreateArgs {
    fn body(&self) -> Body {
        let implied = self.physical_network.as_ref().map(|_| match self.segment {
            Some(_) => NetworkType::Vlan,
            None => NetworkType::Flat,
        });
        let network_type = self.network_type.or(implied).map(|network_type| match network_type {
            NetworkType::Flat => "flat",
            NetworkType::Vlan => "vlan",
        });
        Body::default()
            .with("name", &self.name)
            .with_flag("router:external", self.external, true)
            .with_some("provider:network_type", network_type)
            .with_some("provider:physical_network", self.physical_network.as_ref())
            .with_some("provider:segmentation_id", self.segment)
            .with_some("nanboku:egress", self.egress.map(Egress::word))
            .with_some("nanboku:block_size", self.block_size)
            .with_some("mtu", self.mtu)
            .with_flag("port_security_enabled", self.disable_port_security, false)
            .with_some("description", self.description.as_ref())
            .with_some("project_id", self.project.as_ref())
            .with_some("admin_state_up", self.state.chosen())
    }
}

async fn list(args: &ListArgs, cx: &Context) -> anyhow::Result<String> {
    let mut query = Vec::new();
    if args.external {
        query.push(("router:external", "true"));
    }
    query.extend(args.name.as_deref().map(|name| ("name", name)));
    Ok(cx.output.list(COLUMNS, &cx.client.list(&NETWORK, &query).await?))
}

async fn set(args: &SetArgs, cx: &Context) -> anyhow::Result<String> {
    let id = cx.client.find_id(&NETWORK, &args.network).await?;
    let body = Body::default()
        .with_some("name", args.name.as_ref())
        .with_some("description", args.description.as_ref())
        .with_some("mtu", args.mtu)
        .with_some("nanboku:egress", args.egress.map(Egress::word))
        .with_some("admin_state_up", args.state.chosen());
    cx.set(&NETWORK, &id, body).await
}
