//! `nanboku router`.

use crate::body::Body;
use crate::output::Column;
use crate::resource::{
    AdminState, BLOCK, Context, DeleteArgs, HOST, NETWORK, OneArgs, ROUTER, SUBNET, nested, pairs, value_of,
};
use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

#[derive(Debug, Subcommand)]
pub(crate) enum RouterCommand {
    /// Make a router, with its external gateway if one is named.
    Create(CreateArgs),
    /// List routers with their SNAT addresses.
    List(ListArgs),
    /// Show one router.
    Show(OneArgs),
    /// Change a router or its external gateway.
    Set(SetArgs),
    /// Take something away from a router.
    Unset(UnsetArgs),
    /// Delete routers.
    Delete(DeleteArgs),
    /// Connect a subnet: the router gets the subnet's gateway address.
    AddSubnet(SubnetArgs),
    /// Disconnect a subnet.
    RemoveSubnet(SubnetArgs),
    /// Add extra routes.
    AddRoute(RouteArgs),
    /// Remove extra routes.
    RemoveRoute(RouteArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name; need not be unique.
    name: String,
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Project that owns it.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    #[command(flatten)]
    state: AdminState,
}

/// The way out of the VPC.
#[derive(Args, Debug)]
struct GatewayArgs {
    /// Name or id of an external network.
    #[arg(long, value_name = "NETWORK")]
    external_gateway: Option<String>,
    /// A SNAT address instead of an automatic one; may be repeated.
    #[arg(long = "snat-address", value_name = "ADDRESS", requires = "external_gateway")]
    snat_addresses: Vec<Ipv4Addr>,
    /// Only floating IPs reach the outside.
    #[arg(long, requires = "external_gateway")]
    disable_snat: bool,
    #[command(flatten)]
    nat: NatArgs,
}

/// How the NAT of a router with an external gateway works.
#[derive(Args, Debug, Default)]
struct NatArgs {
    /// Who outside may send to a VM's mapping [default: address-and-port-dependent].
    #[arg(long, value_enum)]
    filtering: Option<Filtering>,
    /// Mappings one VM may have at a time; 0: no limit [default: 0].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=131_072))]
    ports_per_vm_max: Option<u32>,
    /// New mappings one VM may make per second; 0: no limit [default: 0].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    mappings_per_second_max: Option<u32>,
    /// Whether VMs may open ports of its SNAT addresses to anyone outside, by PCP [default: false].
    #[arg(long, value_name = "BOOL")]
    port_control: Option<bool>,
    /// Whether its SNAT addresses may be those of other routers that say so too [default: false].
    #[arg(long, value_name = "BOOL")]
    snat_shared: Option<bool>,
    /// A prefix outside towards which VMs keep their own addresses; may be repeated, and replaces what there was.
    #[arg(long = "untranslated-destination", value_name = "CIDR")]
    untranslated_destinations: Option<Vec<Ipv4Net>>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Filtering {
    /// Only the addresses and ports it was used towards.
    AddressAndPortDependent,
    /// The addresses it was used towards, from any port.
    AddressDependent,
    /// Anyone.
    EndpointIndependent,
}

impl Filtering {
    const fn word(self) -> &'static str {
        match self {
            Self::AddressAndPortDependent => "address-and-port-dependent",
            Self::AddressDependent => "address-dependent",
            Self::EndpointIndependent => "endpoint-independent",
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only routers of this name.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// Name or id.
    router: String,
    /// New name.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    state: AdminState,
}

#[derive(Args, Debug)]
pub(crate) struct UnsetArgs {
    /// Name or id.
    router: String,
    /// The external gateway: connections to the outside end.
    #[arg(
        long,
        required_unless_present = "untranslated_destinations",
        conflicts_with = "untranslated_destinations"
    )]
    external_gateway: bool,
    /// All prefixes towards which VMs keep their own addresses: connections there end, new ones are translated.
    #[arg(long)]
    untranslated_destinations: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SubnetArgs {
    /// Name or id of the router.
    router: String,
    /// Name or id of the subnet.
    subnet: String,
}

#[derive(Args, Debug)]
pub(crate) struct RouteArgs {
    /// Name or id of the router.
    router: String,
    /// destination=CIDR,gateway=ADDRESS; may be repeated.
    #[arg(long = "route", value_name = "ROUTE", required = true, value_parser = route)]
    routes: Vec<Value>,
}

/// `destination=CIDR,gateway=ADDRESS`.
pub(super) fn route(text: &str) -> Result<Value, String> {
    let given = pairs(text, &["destination", "gateway"])?;
    let destination = value_of(&given, "destination").and_then(|text| text.parse::<Ipv4Net>().ok());
    let next_hop = value_of(&given, "gateway").and_then(|text| text.parse::<Ipv4Addr>().ok());
    match (destination, next_hop) {
        (Some(destination), Some(next_hop)) => {
            Ok(json!({"destination": destination.to_string(), "nexthop": next_hop}))
        }
        _ => Err("write destination=CIDR,gateway=ADDRESS".to_owned()),
    }
}

const COLUMNS: &[Column] = &[
    Column::plain("id", "id"),
    Column::plain("name", "name"),
    Column::plain("status", "status"),
    Column { header: "external network", key: "external_gateway_info", text: Some(external_network) },
    Column { header: "snat addresses", key: "external_gateway_info", text: Some(snat_addresses) },
];

fn external_network(gateway: &Value) -> String {
    gateway.get("network_id").and_then(Value::as_str).unwrap_or("-").to_owned()
}

fn snat_addresses(gateway: &Value) -> String {
    match gateway.get("enable_snat").and_then(Value::as_bool) {
        Some(false) => "(off)".to_owned(),
        _ => nested(gateway.get("external_fixed_ips").unwrap_or(&Value::Null), "ip_address"),
    }
}

pub(crate) async fn run(command: RouterCommand, cx: &Context) -> anyhow::Result<String> {
    match command {
        RouterCommand::Create(args) => create(&args, cx).await,
        RouterCommand::List(args) => list(&args, cx).await,
        RouterCommand::Show(args) => show(&args, cx).await,
        RouterCommand::Set(args) => set(&args, cx).await,
        RouterCommand::Unset(args) => unset(&args, cx).await,
        RouterCommand::Delete(args) => cx.delete(&ROUTER, &args).await,
        RouterCommand::AddSubnet(args) => subnet_action(&args, "add_router_interface", cx).await,
        RouterCommand::RemoveSubnet(args) => subnet_action(&args, "remove_router_interface", cx).await,
        RouterCommand::AddRoute(args) => route_action(&args, "add_extraroutes", cx).await,
        RouterCommand::RemoveRoute(args) => route_action(&args, "remove_extraroutes", cx).await,
    }
}

impl NatArgs {
    fn is_empty(&self) -> bool {
        self.filtering.is_none()
            && self.ports_per_vm_max.is_none()
            && self.mappings_per_second_max.is_none()
            && self.port_control.is_none()
            && self.snat_shared.is_none()
            && self.untranslated_destinations.is_none()
    }

    fn add_to(&self, gateway: Body) -> Body {
        gateway
            .with_some("nanboku:filtering", self.filtering.map(Filtering::word))
            .with_some("nanboku:ports_per_vm_max", self.ports_per_vm_max)
            .with_some("nanboku:mappings_per_second_max", self.mappings_per_second_max)
            .with_some("nanboku:port_control", self.port_control)
            .with_some("nanboku:snat_shared", self.snat_shared)
            .with_some("nanboku:untranslated_destinations", self.untranslated_destinations.as_ref())
    }
}

impl GatewayArgs {
    /// `router`: the one that is changed, if it is there already.
    async fn add_to(&self, body: Body, router: Option<&str>, cx: &Context) -> anyhow::Result<Body> {
        let Some(network) = cx.client.find_id_of(&NETWORK, self.external_gateway.as_deref()).await? else {
            return self.change_nat(body, router, cx).await;
        };
        let addresses: Vec<Value> =
            self.snat_addresses.iter().map(|address| json!({"ip_address": address})).collect();
        let gateway = Body::default()
            .with("network_id", network)
            .with_flag("enable_snat", self.disable_snat, false)
            .with_any("external_fixed_ips", &addresses);
        Ok(body.with("external_gateway_info", self.nat.add_to(gateway).into_value()))
    }

    /// The gateway as it is, but for how its NAT works.
    async fn change_nat(&self, body: Body, router: Option<&str>, cx: &Context) -> anyhow::Result<Body> {
        if self.nat.is_empty() {
            return Ok(body);
        }
        self.nat.change(body, router, cx).await
    }
}

impl NatArgs {
    async fn change(&self, body: Body, router: Option<&str>, cx: &Context) -> anyhow::Result<Body> {
        let current = match router {
            Some(id) => cx.client.find(&ROUTER, id).await?,
            None => Value::Null,
        };
        let info = current.get("external_gateway_info").filter(|info| info.is_object());
        let info = info.context("the router has no external gateway: name one with --external-gateway")?;
        // Not sent, SNAT would be switched on again.
        let gateway = Body::default()
            .with("network_id", text(info, "network_id"))
            .with_some("enable_snat", info.get("enable_snat"));
        Ok(body.with("external_gateway_info", self.add_to(gateway).into_value()))
    }
}

async fn create(args: &CreateArgs, cx: &Context) -> anyhow::Result<String> {
    let body = Body::default()
        .with("name", &args.name)
        .with_some("description", args.description.as_ref())
        .with_some("project_id", args.project.as_ref())
        .with_some("admin_state_up", args.state.chosen());
    cx.create(&ROUTER, args.gateway.add_to(body, None, cx).await?).await
}

async fn list(args: &ListArgs, cx: &Context) -> anyhow::Result<String> {
    let query: Vec<(&str, &str)> = args.name.iter().map(|name| ("name", name.as_str())).collect();
    Ok(cx.output.list(COLUMNS, &cx.client.list(&ROUTER, &query).await?))
}

/// The router, and what follows from its gateway: which hosts are gateways, and who owns which ports.
async fn show(args: &OneArgs, cx: &Context) -> anyhow::Result<String> {
    let mut router = cx.client.find(&ROUTER, args.name()).await?;
    let id = text(&router, "id").to_owned();
    let network =
        router.pointer("/external_gateway_info/network_id").and_then(Value::as_str).map(str::to_owned);
    if let (Some(network), Value::Object(fields)) = (network, &mut router) {
        let network = cx.client.find(&NETWORK, &network).await?;
        let hosts = cx.client.list(&HOST, &[]).await?;
        fields.insert("nanboku:gateways".to_owned(), json!(gateways(&network, &hosts)));
        let blocks = cx.client.list(&BLOCK, &[]).await?;
        fields.insert("nanboku:port_blocks".to_owned(), json!(blocks_of(&id, &blocks)));
    }
    Ok(cx.output.show(&router))
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Names of the hosts that may send to an external network for others.
fn gateways<'a>(network: &Value, hosts: &'a [Value]) -> Vec<&'a str> {
    let physical = text(network, "provider:physical_network");
    let is = |host: &Value, key: &str| host.get(key).and_then(Value::as_bool) == Some(true);
    let has = |host: &Value| {
        let names = host.get("physical_networks").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|name| name == physical))
    };
    let usable = hosts.iter().filter(|host| has(host) && is(host, "live") && !is(host, "drained"));
    usable.map(|host| text(host, "name")).collect()
}

/// `ahv01 172.22.7.27:1024-2047` of each port block of a router.
fn blocks_of(router: &str, blocks: &[Value]) -> Vec<String> {
    let number = |block: &Value, key: &str| block.get(key).and_then(Value::as_u64).unwrap_or_default();
    let of_router = blocks.iter().filter(|block| text(block, "router_id") == router);
    let mut texts: Vec<String> = of_router
        .map(|block| {
            let (first, last) = (number(block, "first_port"), number(block, "last_port"));
            format!("{} {}:{first}-{last}", text(block, "host"), text(block, "address"))
        })
        .collect();
    texts.sort();
    texts
}

async fn set(args: &SetArgs, cx: &Context) -> anyhow::Result<String> {
    let id = cx.client.find_id(&ROUTER, &args.router).await?;
    let body = Body::default()
        .with_some("name", args.name.as_ref())
        .with_some("description", args.description.as_ref())
        .with_some("admin_state_up", args.state.chosen());
    let body = args.gateway.add_to(body, Some(&id), cx).await?;
    cx.set(&ROUTER, &id, body).await
}

async fn unset(args: &UnsetArgs, cx: &Context) -> anyhow::Result<String> {
    let id = cx.client.find_id(&ROUTER, &args.router).await?;
    let body = Body::default().with_some("external_gateway_info", args.external_gateway.then(|| json!({})));
    let none = NatArgs { untranslated_destinations: Some(Vec::new()), ..NatArgs::default() };
    let body = if args.untranslated_destinations { none.change(body, Some(&id), cx).await? } else { body };
    cx.set(&ROUTER, &id, body).await
}

async fn subnet_action(args: &SubnetArgs, action: &str, cx: &Context) -> anyhow::Result<String> {
    let id = cx.client.find_id(&ROUTER, &args.router).await?;
    let subnet = cx.client.find_id(&SUBNET, &args.subnet).await?;
    let body = Body::default().with("subnet_id", subnet).into_value();
    let answer = cx.client.put(&format!("{}/{action}", ROUTER.path_of(&id)), &body).await?;
    Ok(cx.output.show(&answer))
}

async fn route_action(args: &RouteArgs, action: &str, cx: &Context) -> anyhow::Result<String> {
    let id = cx.client.find_id(&ROUTER, &args.router).await?;
    let body = Body::default().with("routes", &args.routes).into_envelope("router");
    let answer = cx.client.put(&format!("{}/{action}", ROUTER.path_of(&id)), &body).await?;
    Ok(cx.output.show(answer.get("router").unwrap_or(&answer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_live_hosts_with_the_physical_network() {
        let network = json!({"provider:physical_network": "physnet1"});
        let host = |name, physical: &[&str], live, drained| json!({"name": name, "physical_networks": physical, "live": live, "drained": drained});
        let hosts = [
            host("ahv01", &["physnet1"], true, false),
            host("ahv02", &["physnet0", "physnet1"], true, false),
            host("ahv03", &[], true, false),
            host("ahv04", &["physnet1"], false, false),
            host("ahv05", &["physnet1"], true, true),
        ];
        assert_eq!(gateways(&network, &hosts), ["ahv01", "ahv02"]);
    }

    #[test]
    fn port_blocks_are_told_by_host() {
        let block = |router, host, first| json!({"router_id": router, "host": host, "address": "172.22.7.27", "first_port": first, "last_port": first + 1023});
        let blocks = [block("r1", "ahv02", 2048), block("r2", "ahv02", 3072), block("r1", "ahv01", 1024)];
        assert_eq!(blocks_of("r1", &blocks), ["ahv01 172.22.7.27:1024-2047", "ahv02 172.22.7.27:2048-3071"]);
    }
}
