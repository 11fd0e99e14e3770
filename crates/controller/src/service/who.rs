//! Who is, or was, behind an external address and port.
//!
//! Of the past the NAT log knows host, router and project; of this moment the store knows the same and the host
//! itself which VM.

use super::admin::PATIENCE;
use super::{Error, Service};
use crate::nat_log::{self, NatLog, parse_time, time_text};
use model::question::{Question, SessionFilter};
use model::resource::{FloatingIp, Host, Network, Port, PortBlock, Router, device_owner};
use model::{HostId, NetworkId, RouterId};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use store::Snapshot;

/// Sessions of one mapping that are told.
const SESSIONS_MAX: u64 = 100;

impl Service {
    /// `at`: RFC 3339; none: now.
    pub(super) async fn who(&self, endpoint: SocketAddrV4, at: Option<&str>) -> Result<Value, Error> {
        match at {
            None => self.who_is(endpoint).await,
            Some(at) => self.who_was(endpoint, at).await,
        }
    }

    async fn who_is(&self, endpoint: SocketAddrV4) -> Result<Value, Error> {
        let snapshot = self.snapshot();
        let (address, port) = (*endpoint.ip(), endpoint.port());
        let mut holders = Vec::new();
        let mut sessions = Vec::new();
        for block in blocks_of(&snapshot, address, port) {
            holders.push(holder_now(&snapshot, block));
            let wanted = SessionFilter {
                outside: Some(endpoint),
                limit: Some(SESSIONS_MAX),
                ..SessionFilter::default()
            };
            let rows = self.hub.ask_one(block.host, &Question::Sessions(wanted), PATIENCE).await;
            for row in rows.unwrap_or_default() {
                sessions.push(with_port(&snapshot, block.router, row));
            }
        }
        let floating_ips: Vec<Value> = floating_ips_of(&snapshot, address)
            .map(|floating_ip| floating(&snapshot, floating_ip, port))
            .collect();
        Ok(json!({
            "address": address, "port": port, "at": null,
            "holders": holders, "sessions": sessions, "floating_ips": floating_ips,
        }))
    }

    async fn who_was(&self, endpoint: SocketAddrV4, at: &str) -> Result<Value, Error> {
        let at_ms = parse_time(at).ok_or_else(|| {
            Error::bad_request(format!("at must be a time such as 2026-11-22T07:00:00Z and not '{at}'"))
        })?;
        if at_ms.div_euclid(1000) > (self.clock)() {
            return Err(Error::bad_request(format!("at lies in the future: '{at}'")));
        }
        let Some(log) = self.nat_log.clone() else {
            return Err(Error::bad_request("the controller keeps no NAT log; `nat_log` says where"));
        };
        let (address, port) = (*endpoint.ip(), endpoint.port());
        let answers = tokio::task::spawn_blocking(move || search(&log, address, port, at_ms)).await;
        let answers = answers.map_err(Error::internal)?.map_err(Error::internal)?;
        let snapshot = self.snapshot();
        let holders: Vec<Value> = answers.iter().map(|answer| holder_then(&snapshot, answer)).collect();
        Ok(json!({
            "address": address, "port": port, "at": time_text(at_ms),
            "holders": holders, "sessions": [], "floating_ips": [],
        }))
    }
}

fn search(
    log: &Arc<NatLog>,
    address: Ipv4Addr,
    port: u16,
    at_ms: i64,
) -> std::io::Result<Vec<nat_log::Answer>> {
    log.who(address, port, at_ms)
}

fn block_size(snapshot: &Snapshot, network: NetworkId) -> u16 {
    let network = snapshot.get::<Network>(network);
    network.and_then(|network| network.provider.as_ref()).map_or(1, |provider| provider.block_size)
}

fn last_port(snapshot: &Snapshot, block: &PortBlock) -> u16 {
    crate::slices::block_id(block).last_port(block_size(snapshot, block.external_network))
}

/// The block with that port, of each external network that has the address.
fn blocks_of(snapshot: &Snapshot, address: Ipv4Addr, port: u16) -> impl Iterator<Item = &PortBlock> {
    let networks = snapshot.networks.values().filter(|network| network.external);
    let blocks = networks.flat_map(move |network| snapshot.blocks_of_address(network.id, address));
    blocks
        .map(AsRef::as_ref)
        .filter(move |block: &&PortBlock| (block.first_port..=last_port(snapshot, block)).contains(&port))
}

fn floating_ips_of(snapshot: &Snapshot, address: Ipv4Addr) -> impl Iterator<Item = &Arc<FloatingIp>> {
    let networks = snapshot.networks.values().filter(|network| network.external);
    networks.filter_map(move |network| snapshot.floating_ip_by_address(network.id, address))
}

fn network_name(snapshot: &Snapshot, id: NetworkId) -> Option<&str> {
    snapshot.get::<Network>(id).map(|network| network.standard.name.as_str())
}

fn host_name(snapshot: &Snapshot, id: HostId) -> Option<&str> {
    snapshot.get::<Host>(id).map(|host| host.name.as_str())
}

fn holder_now(snapshot: &Snapshot, block: &PortBlock) -> Value {
    let router = snapshot.get::<Router>(block.router);
    json!({
        "external_network_id": block.external_network,
        "external_network": network_name(snapshot, block.external_network),
        "first_port": block.first_port,
        "last_port": last_port(snapshot, block),
        "router_id": block.router,
        "router": router.map(|router| &router.standard.name),
        "project_id": router.map(|router| &router.standard.project_id),
        "host_id": block.host,
        "host": host_name(snapshot, block.host),
        "since": time_text(block.granted_at_ms),
        "until": null,
    })
}

fn holder_then(snapshot: &Snapshot, answer: &nat_log::Answer) -> Value {
    let holding = &answer.holding;
    json!({
        "external_network_id": holding.external_network,
        "external_network": network_name(snapshot, holding.external_network),
        "first_port": holding.first_port,
        "last_port": holding.last_port,
        "router_id": holding.router,
        "router": holding.router_name,
        "project_id": holding.project,
        "host_id": holding.host,
        "host": holding.host_name,
        "since": time_text(answer.from_ms),
        "until": answer.until_ms.map(time_text),
    })
}

/// With whom it stands for, as a whole or at that port.
fn floating(snapshot: &Snapshot, floating_ip: &FloatingIp, port: u16) -> Value {
    let whole = floating_ip.association.map(|own| (own.port, own.fixed_address));
    let mut forwarded = floating_ip.forwardings.iter().filter(|own| own.external_port == port);
    let behind = whole.or_else(|| forwarded.next().map(|own| (own.port, own.internal_address)));
    let port = behind.and_then(|(port, _)| snapshot.get::<Port>(port));
    json!({
        "id": floating_ip.id,
        "project_id": floating_ip.standard.project_id,
        "port_id": behind.map(|(port, _)| port),
        "fixed_address": behind.map(|(_, address)| address),
        "host": port.map(|port| &port.binding_host),
    })
}

/// A session's row with the port its sender is behind that router.
fn with_port(snapshot: &Snapshot, router: RouterId, mut row: Value) -> Value {
    let source = row.get("src").and_then(Value::as_str).unwrap_or_default();
    let address: Option<Ipv4Addr> = source.split([':', ' ']).next().and_then(|address| address.parse().ok());
    let legs = snapshot.ports_of_device(&router.to_string());
    let mut legs = legs.filter(|leg| leg.device_owner == device_owner::ROUTER_INTERFACE);
    let port =
        address.and_then(|address| legs.find_map(|leg| snapshot.port_by_address(leg.network, address)));
    if let (Value::Object(row), Some(port)) = (&mut row, port) {
        row.insert("port_id".to_owned(), json!(port.id));
        row.insert("port".to_owned(), json!(port.standard.name));
        row.insert("device_id".to_owned(), json!(port.device_id));
    }
    row
}
