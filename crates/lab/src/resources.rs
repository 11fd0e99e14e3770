//! From plan to API: networks, routers, ports and floating IPs, made as any client would make them.

pub(crate) mod groups;

use crate::api::{Api, text};
use crate::plan::{ExternalNetwork, Network, Plan, Router, first_address};
use crate::state::{State, VmPort};
use anyhow::Context as _;
use ipnet::Ipv6Net;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A network as the API made it.
struct Made {
    id: String,
    mtu: u32,
    /// In the order of the plan's.
    subnets: Vec<String>,
}

impl Made {
    async fn add_subnet(&mut self, mut body: Value, api: &Api) -> anyhow::Result<()> {
        body["network_id"] = json!(self.id);
        self.subnets.push(text(&api.create("subnet", body).await?, "id")?);
        Ok(())
    }
}

fn ipv6_subnet(prefix: Ipv6Net) -> Value {
    json!({ "ip_version": 6, "cidr": prefix, "gateway_ip": first_address(prefix) })
}

/// Makes everything except floating IPs, whose ports must be plugged to become active.
pub(crate) async fn create(plan: &Plan, api: &Api, state: &mut State) -> anyhow::Result<External> {
    let mut external = Vec::new();
    for network in &plan.external_networks {
        let made = external_network(plan, network, api).await;
        external.push(made.with_context(|| format!("creating external network {}", network.name))?);
    }
    let mut networks = Vec::new();
    for network in &plan.networks {
        let made = tenant_network(network, api).await;
        networks.push(made.with_context(|| format!("creating network {}", network.name))?);
    }
    for (index, router) in plan.routers.iter().enumerate() {
        let shares =
            |other: &Router| router.snat_address.is_some() && other.snat_address == router.snat_address;
        let is_shared = plan.routers.iter().filter(|other| shares(other)).count() > 1;
        let addresses =
            self::router((router, is_shared, plan.router_ipv6(index)), &external, &networks, api).await;
        let addresses = addresses.with_context(|| format!("creating router {}", router.name))?;
        state.snat_addresses.insert(router.name.clone(), addresses);
    }
    let groups = groups::create(plan, api).await.context("creating security groups")?;
    for vm in &plan.vms {
        let network = &networks[vm.network];
        let host = &plan.hosts[vm.host].name;
        let body = json!({
            "name": vm.name,
            "network_id": network.id,
            "fixed_ips": [{ "subnet_id": network.subnets[vm.subnet], "ip_address": vm.address }],
            "device_id": vm.name,
            "device_owner": "compute:lab",
            "binding:host_id": host,
            "security_groups": groups.of(vm),
        });
        let port =
            api.create("port", body).await.with_context(|| format!("creating the port of VM {}", vm.name))?;
        state.ports.insert(vm.name.clone(), vm_port(&port, network.mtu)?);
    }
    Ok(External(external.into_iter().map(|network| network.id).collect()))
}

/// Ids of the external networks, in the order of the plan's.
pub(crate) struct External(Vec<String>);

async fn external_network(plan: &Plan, network: &ExternalNetwork, api: &Api) -> anyhow::Result<Made> {
    let segment = network.segment;
    let mut body = json!({
        "name": network.name,
        "router:external": true,
        "provider:network_type": if segment.vlan.is_some() { "vlan" } else { "flat" },
        "provider:physical_network": plan.physical_networks[segment.physical_network],
        "nanboku:egress": network.egress.word(),
    });
    if let Some(vlan) = segment.vlan {
        body["provider:segmentation_id"] = json!(vlan);
    }
    if let Some(size) = network.block_size {
        body["nanboku:block_size"] = json!(size);
    }
    let mut made = self::network(body, api).await?;
    let mut subnet = json!({
        "ip_version": 4,
        "cidr": network.cidr,
        "gateway_ip": network.gateway,
        "enable_dhcp": false,
    });
    if let Some((start, end)) = network.pool {
        subnet["allocation_pools"] = json!([{ "start": start, "end": end }]);
    }
    made.add_subnet(subnet, api).await?;
    if let Some(prefix) = network.ipv6 {
        let mut subnet = ipv6_subnet(prefix);
        subnet["enable_dhcp"] = json!(false);
        made.add_subnet(subnet, api).await?;
    }
    Ok(made)
}

async fn tenant_network(network: &Network, api: &Api) -> anyhow::Result<Made> {
    let mut body = json!({ "name": network.name });
    if let Some(mtu) = network.mtu {
        body["mtu"] = json!(mtu);
    }
    let mut made = self::network(body, api).await?;
    for subnet in &network.subnets {
        let body = json!({ "ip_version": 4, "cidr": subnet.cidr, "gateway_ip": subnet.gateway });
        made.add_subnet(body, api).await?;
    }
    if let Some(prefix) = network.ipv6 {
        let mut subnet = ipv6_subnet(prefix);
        for mode in ["ipv6_ra_mode", "ipv6_address_mode"] {
            subnet[mode] = json!("dhcpv6-stateless");
        }
        made.add_subnet(subnet, api).await?;
    }
    Ok(made)
}

async fn network(body: Value, api: &Api) -> anyhow::Result<Made> {
    let network = api.create("network", body).await?;
    Ok(Made { id: text(&network, "id")?, mtu: mtu(&network)?, subnets: Vec::new() })
}

/// Makes a router with its gateway and interfaces, whose SNAT address is another one's too or not. Answers its SNAT
/// addresses.
async fn router(
    (router, is_shared, ipv6): (&Router, bool, Option<Ipv6Addr>),
    external: &[Made],
    networks: &[Made],
    api: &Api,
) -> anyhow::Result<Vec<Ipv4Addr>> {
    let mut body = json!({ "name": router.name });
    if let Some(index) = router.external_network {
        let network = &external[index];
        let mut gateway = json!({ "network_id": network.id, "nanboku:snat_shared": is_shared });
        if router.snat_address.is_some() || ipv6.is_some() {
            let mut fixed = vec![json!({ "subnet_id": network.subnets[0] })];
            if let Some(address) = router.snat_address {
                fixed[0]["ip_address"] = json!(address);
            }
            fixed.extend(
                ipv6.map(|address| json!({ "subnet_id": network.subnets[1], "ip_address": address })),
            );
            gateway["external_fixed_ips"] = json!(fixed);
        }
        if let Some(max) = router.ports_per_vm_max {
            gateway["nanboku:ports_per_vm_max"] = json!(max);
        }
        body["external_gateway_info"] = gateway;
    }
    let made = api.create("router", body).await?;
    let id = text(&made, "id")?;
    for subnet in router.interfaces.iter().flat_map(|index| &networks[*index].subnets) {
        let path = format!("/v2.0/routers/{id}/add_router_interface");
        api.put(&path, &json!({ "subnet_id": subnet })).await?;
    }
    Ok(snat_addresses(&made))
}

fn snat_addresses(router: &Value) -> Vec<Ipv4Addr> {
    let fixed = router["external_gateway_info"]["external_fixed_ips"].as_array();
    let addresses = fixed.into_iter().flatten().filter_map(|ip| ip["ip_address"].as_str()?.parse().ok());
    addresses.collect()
}

/// Finds by their names what somebody else made of a plan.
///
/// # Errors
/// A router or VM's port is not there, or there are several of its name.
pub(crate) async fn find(plan: &Plan, api: &Api, state: &mut State) -> anyhow::Result<()> {
    for router in &plan.routers {
        let found = only(api, "router", &router.name).await?;
        state.snat_addresses.insert(router.name.clone(), snat_addresses(&found));
    }
    for vm in &plan.vms {
        let port = only(api, "port", &vm.name).await?;
        let network = text(&port, "network_id")?;
        let network = api.get(&format!("/v2.0/networks/{network}")).await?;
        let port = vm_port(&port, mtu(&network["network"])?)?;
        state.ports.insert(vm.name.clone(), port);
    }
    Ok(())
}

async fn only(api: &Api, kind: &str, name: &str) -> anyhow::Result<Value> {
    let mut answer = api.get(&format!("/v2.0/{kind}s?name={name}")).await?;
    match answer[format!("{kind}s")].as_array_mut().map(Vec::as_mut_slice) {
        Some([one]) => Ok(one.take()),
        Some([]) | None => anyhow::bail!("there is no {kind} `{name}` yet: make it first"),
        Some(several) => anyhow::bail!("there are {} {kind}s `{name}`: which one is meant?", several.len()),
    }
}

fn vm_port(port: &Value, mtu: u32) -> anyhow::Result<VmPort> {
    let id = text(port, "id")?;
    let link = id.parse::<model::PortId>()?.link_name();
    let addresses = port["fixed_ips"].as_array().into_iter().flatten();
    let ipv6 = addresses.filter_map(|ip| ip["ip_address"].as_str()?.parse().ok()).next();
    Ok(VmPort { mac: text(port, "mac_address")?, id, link, mtu, ipv6 })
}

fn mtu(network: &Value) -> anyhow::Result<u32> {
    let mtu = network["mtu"].as_u64().and_then(|mtu| u32::try_from(mtu).ok());
    mtu.with_context(|| format!("the API's answer has no `mtu`: {network}"))
}

/// Makes the floating IPs.
pub(crate) async fn create_floating_ips(
    plan: &Plan,
    external: &External,
    state: &State,
    api: &Api,
) -> anyhow::Result<()> {
    for floating in &plan.floating_ips {
        let vm = &plan.vms[floating.vm];
        let context = || format!("creating floating IP {} of VM {}", floating.address, vm.name);
        let network = plan.external_of(vm).and_then(|index| external.0.get(index)).with_context(context)?;
        let port = state.ports.get(&vm.name).with_context(context)?;
        let body = json!({
            "floating_network_id": network,
            "floating_ip_address": floating.address,
            "port_id": port.id,
        });
        api.create("floatingip", body).await.with_context(context)?;
    }
    Ok(())
}
