//! The state at one revision: immutable, cheap to clone, with the indexes that keep questions short.

mod identity;
mod metering;
mod security;
mod subnet_pool;

use crate::record::{Owned, Record, Table};
use imbl::{OrdMap, OrdSet};
use model::identity::{
    ApplicationCredential, Assignment, Domain, DomainId, Project, ProjectId, Role, RoleId, Token, TokenId,
    User, UserId,
};
use model::metering::{MeteringLabel, MeteringLabelRule};
use model::quota::{Counted, Quota, QuotaId};
use model::rbac::{RbacPolicy, SharedObject};
use model::resource::{
    FloatingIp, Host, Network, Port, PortBlock, RestingBlock, Router, Standard, Subnet, VirtualAddress,
};
use model::security::{AddressGroup, DefaultSecurityGroupRule, SecurityGroup, SecurityGroupRule};
use model::slice::{BlockId, VirtualAddressId};
use model::subnet_pool::{AddressScope, SubnetPool};
use model::{
    AddressGroupId, AddressScopeId, FloatingIpId, HostId, Mac, MeteringLabelId, MeteringLabelRuleId,
    NetworkId, PortId, RbacPolicyId, RouterId, SecurityGroupId, SecurityGroupRuleId, SubnetId, SubnetPoolId,
    Vni,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Grows by one with every transaction that changed something.
    pub revision: u64,
    /// Made with the store, never changes.
    pub cluster_id: Uuid,
    pub networks: Table<Network>,
    pub subnets: Table<Subnet>,
    pub ports: Table<Port>,
    pub routers: Table<Router>,
    pub floating_ips: Table<FloatingIp>,
    pub subnet_pools: Table<SubnetPool>,
    pub address_scopes: Table<AddressScope>,
    pub security_groups: Table<SecurityGroup>,
    pub security_group_rules: Table<SecurityGroupRule>,
    pub address_groups: Table<AddressGroup>,
    pub default_security_group_rules: Table<DefaultSecurityGroupRule>,
    pub rbac_policies: Table<RbacPolicy>,
    pub metering_labels: Table<MeteringLabel>,
    pub metering_label_rules: Table<MeteringLabelRule>,
    pub hosts: Table<Host>,
    pub blocks: Table<PortBlock>,
    pub resting_blocks: Table<RestingBlock>,
    pub virtual_addresses: Table<VirtualAddress>,
    pub domains: Table<Domain>,
    pub projects: Table<Project>,
    pub users: Table<User>,
    pub roles: Table<Role>,
    pub assignments: Table<Assignment>,
    pub application_credentials: Table<ApplicationCredential>,
    pub tokens: Table<Token>,
    pub quotas: Table<Quota>,
    pub(crate) indexes: Indexes,
}

/// Kept by the records themselves as they come and go.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Indexes {
    pub(crate) vnis: OrdSet<Vni>,
    pub(crate) subnets_by_network: OrdSet<(NetworkId, SubnetId)>,
    pub(crate) subnets_by_pool: OrdSet<(SubnetPoolId, SubnetId)>,
    pub(crate) pools_by_scope: OrdSet<(AddressScopeId, SubnetPoolId)>,
    pub(crate) ports_by_network: OrdSet<(NetworkId, PortId)>,
    pub(crate) ports_by_device: OrdSet<(String, PortId)>,
    pub(crate) ports_by_host: OrdSet<(String, PortId)>,
    pub(crate) ports_by_subnet: OrdSet<(SubnetId, PortId)>,
    /// Several gateway ports may share an address.
    pub(crate) ports_by_address: OrdSet<(NetworkId, IpAddr, PortId)>,
    pub(crate) ports_by_mac: OrdMap<(NetworkId, Mac), PortId>,
    pub(crate) routers_by_external_network: OrdSet<(NetworkId, RouterId)>,
    pub(crate) floating_ips_by_address: OrdMap<(NetworkId, Ipv4Addr), FloatingIpId>,
    pub(crate) floating_ips_by_port: OrdSet<(PortId, FloatingIpId)>,
    pub(crate) floating_ips_by_router: OrdSet<(RouterId, FloatingIpId)>,
    pub(crate) default_groups: OrdMap<String, SecurityGroupId>,
    pub(crate) rules_by_group: OrdSet<(SecurityGroupId, SecurityGroupRuleId)>,
    pub(crate) rules_by_remote_group: OrdSet<(SecurityGroupId, SecurityGroupRuleId)>,
    pub(crate) rules_by_address_group: OrdSet<(AddressGroupId, SecurityGroupRuleId)>,
    pub(crate) ports_by_group: OrdSet<(SecurityGroupId, PortId)>,
    pub(crate) rbac_by_object: OrdSet<(SharedObject, RbacPolicyId)>,
    /// By project; none: shared.
    pub(crate) metering_labels: OrdSet<(Option<String>, MeteringLabelId)>,
    pub(crate) rules_by_metering_label: OrdSet<(MeteringLabelId, MeteringLabelRuleId)>,
    pub(crate) hosts_by_name: OrdMap<String, HostId>,
    pub(crate) blocks_by_router: OrdSet<(RouterId, BlockId)>,
    pub(crate) blocks_by_host: OrdSet<(HostId, BlockId)>,
    pub(crate) domains_by_name: OrdMap<String, DomainId>,
    pub(crate) projects_by_name: OrdMap<(DomainId, String), ProjectId>,
    pub(crate) users_by_name: OrdMap<(DomainId, String), UserId>,
    pub(crate) roles_by_name: OrdMap<String, RoleId>,
    pub(crate) tokens_by_user: OrdSet<(UserId, TokenId)>,
    pub(crate) tokens_by_expiry: OrdSet<(i64, TokenId)>,
    pub(crate) by_project: OrdSet<(Counted, String, Uuid)>,
    /// How many of them; none: nothing.
    pub(crate) counts: OrdMap<(Counted, String), u64>,
}

impl Snapshot {
    pub(crate) fn new(cluster_id: Uuid) -> Self {
        Self {
            revision: 0,
            cluster_id,
            networks: Table::<Network>::new(),
            subnets: Table::<Subnet>::new(),
            ports: Table::<Port>::new(),
            routers: Table::<Router>::new(),
            floating_ips: Table::<FloatingIp>::new(),
            subnet_pools: Table::<SubnetPool>::new(),
            address_scopes: Table::<AddressScope>::new(),
            security_groups: Table::<SecurityGroup>::new(),
            security_group_rules: Table::<SecurityGroupRule>::new(),
            address_groups: Table::<AddressGroup>::new(),
            default_security_group_rules: Table::<DefaultSecurityGroupRule>::new(),
            rbac_policies: Table::<RbacPolicy>::new(),
            metering_labels: Table::<MeteringLabel>::new(),
            metering_label_rules: Table::<MeteringLabelRule>::new(),
            hosts: Table::<Host>::new(),
            blocks: Table::<PortBlock>::new(),
            resting_blocks: Table::<RestingBlock>::new(),
            virtual_addresses: Table::<VirtualAddress>::new(),
            domains: Table::<Domain>::new(),
            projects: Table::<Project>::new(),
            users: Table::<User>::new(),
            roles: Table::<Role>::new(),
            assignments: Table::<Assignment>::new(),
            application_credentials: Table::<ApplicationCredential>::new(),
            tokens: Table::<Token>::new(),
            quotas: Table::<Quota>::new(),
            indexes: Indexes::default(),
        }
    }

    /// The record of that id.
    pub fn get<R: Record>(&self, id: R::Id) -> Option<&Arc<R>> {
        R::table(self).get(&id)
    }

    /// What was said of that project's quota.
    pub fn quota(&self, project_id: &str) -> Option<&Arc<Quota>> {
        self.quotas.get(&QuotaId::of(project_id))
    }

    /// How many of those the project has.
    pub fn count(&self, counted: Counted, project_id: &str) -> u64 {
        self.indexes.counts.get(&(counted, project_id.to_owned())).copied().unwrap_or(0)
    }

    /// What belongs to that project, by id.
    pub fn of_project<'a, R: Owned>(
        &'a self,
        project_id: &str,
    ) -> impl Iterator<Item = &'a Arc<R>> + use<'a, R> {
        let at = |id| (R::COUNTED, project_id.to_owned(), id);
        let ids = self.indexes.by_project.range(at(Uuid::nil())..=at(Uuid::max()));
        ids.filter_map(|(_, _, id)| self.get::<R>(R::id_from(*id)))
    }

    /// A network or a router has it.
    pub fn vni_used(&self, vni: Vni) -> bool {
        self.indexes.vnis.contains(&vni)
    }

    pub fn subnets_of_network(&self, network: NetworkId) -> impl Iterator<Item = &Arc<Subnet>> {
        let range = (network, SubnetId::MIN)..=(network, SubnetId::MAX);
        self.indexes.subnets_by_network.range(range).filter_map(|(_, id)| self.subnets.get(id))
    }

    pub fn ports_of_network(&self, network: NetworkId) -> impl Iterator<Item = &Arc<Port>> {
        let range = (network, PortId::MIN)..=(network, PortId::MAX);
        self.ports_at(self.indexes.ports_by_network.range(range).map(|(_, id)| id))
    }

    /// Ports with an address of the subnet.
    pub fn ports_of_subnet(&self, subnet: SubnetId) -> impl Iterator<Item = &Arc<Port>> {
        let range = (subnet, PortId::MIN)..=(subnet, PortId::MAX);
        self.ports_at(self.indexes.ports_by_subnet.range(range).map(|(_, id)| id))
    }

    /// Ports with that `device_id`: of a router its interfaces and its gateway port.
    pub fn ports_of_device<'a>(&'a self, device: &str) -> impl Iterator<Item = &'a Arc<Port>> + use<'a> {
        let range = (device.to_owned(), PortId::MIN)..=(device.to_owned(), PortId::MAX);
        self.ports_at(self.indexes.ports_by_device.range(range).map(|(_, id)| id))
    }

    /// Ports whose `binding:host_id` is that name.
    pub fn ports_of_host<'a>(&'a self, host_name: &str) -> impl Iterator<Item = &'a Arc<Port>> + use<'a> {
        let range = (host_name.to_owned(), PortId::MIN)..=(host_name.to_owned(), PortId::MAX);
        self.ports_at(self.indexes.ports_by_host.range(range).map(|(_, id)| id))
    }

    fn ports_at<'a, I: Iterator<Item = &'a PortId>>(
        &'a self,
        ids: I,
    ) -> impl Iterator<Item = &'a Arc<Port>> + use<'a, I> {
        ids.filter_map(|id| self.ports.get(id))
    }

    /// The ports that hold the address on that network: one, or several that share it.
    pub fn ports_by_address(
        &self,
        network: NetworkId,
        address: impl Into<IpAddr>,
    ) -> impl Iterator<Item = &Arc<Port>> {
        let address = address.into();
        let range = (network, address, PortId::MIN)..=(network, address, PortId::MAX);
        self.ports_at(self.indexes.ports_by_address.range(range).map(|(_, _, id)| id))
    }

    /// One port that holds the address on that network.
    pub fn port_by_address(&self, network: NetworkId, address: impl Into<IpAddr>) -> Option<&Arc<Port>> {
        self.ports_by_address(network, address).next()
    }

    pub fn port_by_mac(&self, network: NetworkId, mac: Mac) -> Option<&Arc<Port>> {
        self.ports.get(self.indexes.ports_by_mac.get(&(network, mac))?)
    }

    /// Addresses in use on the network from `first` to `last`, ascending; a shared one as often as it is held.
    pub fn addresses_used(
        &self,
        network: NetworkId,
        first: IpAddr,
        last: IpAddr,
    ) -> impl Iterator<Item = IpAddr> {
        let range = (network, first, PortId::MIN)..=(network, last, PortId::MAX);
        self.indexes.ports_by_address.range(range).map(|(_, address, _)| *address)
    }

    /// Routers whose external gateway is on that network.
    pub fn routers_of_external_network(&self, network: NetworkId) -> impl Iterator<Item = &Arc<Router>> {
        let range = (network, RouterId::MIN)..=(network, RouterId::MAX);
        self.indexes.routers_by_external_network.range(range).filter_map(|(_, id)| self.routers.get(id))
    }

    pub fn floating_ip_by_address(&self, network: NetworkId, address: Ipv4Addr) -> Option<&Arc<FloatingIp>> {
        self.floating_ips.get(self.indexes.floating_ips_by_address.get(&(network, address))?)
    }

    /// Floating IPs that stand for an address of that port, or have ports that lead to it.
    pub fn floating_ips_of_port(&self, port: PortId) -> impl Iterator<Item = &Arc<FloatingIp>> {
        let range = (port, FloatingIpId::MIN)..=(port, FloatingIpId::MAX);
        self.indexes.floating_ips_by_port.range(range).filter_map(|(_, id)| self.floating_ips.get(id))
    }

    /// Floating IPs that go through that router: those that stand for something.
    pub fn floating_ips_of_router(&self, router: RouterId) -> impl Iterator<Item = &Arc<FloatingIp>> {
        let range = (router, FloatingIpId::MIN)..=(router, FloatingIpId::MAX);
        self.indexes.floating_ips_by_router.range(range).filter_map(|(_, id)| self.floating_ips.get(id))
    }

    pub fn host_by_name(&self, name: &str) -> Option<&Arc<Host>> {
        self.hosts.get(self.indexes.hosts_by_name.get(name)?)
    }

    pub fn blocks_of_router(&self, router: RouterId) -> impl Iterator<Item = &Arc<PortBlock>> {
        let range = (router, BLOCK_MIN)..=(router, BLOCK_MAX);
        self.indexes.blocks_by_router.range(range).filter_map(|(_, id)| self.blocks.get(id))
    }

    pub fn blocks_of_host(&self, host: HostId) -> impl Iterator<Item = &Arc<PortBlock>> {
        let range = (host, BLOCK_MIN)..=(host, BLOCK_MAX);
        self.indexes.blocks_by_host.range(range).filter_map(|(_, id)| self.blocks.get(id))
    }

    /// Virtual addresses of the network, by address.
    pub fn virtual_addresses_of_network(
        &self,
        network: NetworkId,
    ) -> impl Iterator<Item = &Arc<VirtualAddress>> {
        let at = |address| VirtualAddressId { network, address };
        let first = at(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let last = at(IpAddr::V6(Ipv6Addr::from(u128::MAX)));
        self.virtual_addresses.range(first..=last).map(|(_, held)| held)
    }

    /// Blocks of one external address, by first port.
    pub fn blocks_of_address(
        &self,
        network: NetworkId,
        address: Ipv4Addr,
    ) -> impl Iterator<Item = &Arc<PortBlock>> {
        let at = |first_port| BlockId { external_network: network, address, first_port };
        self.blocks.range(at(0)..=at(u16::MAX)).map(|(_, block)| block)
    }
}

const BLOCK_MIN: BlockId =
    BlockId { external_network: NetworkId::MIN, address: Ipv4Addr::UNSPECIFIED, first_port: 0 };
const BLOCK_MAX: BlockId =
    BlockId { external_network: NetworkId::MAX, address: Ipv4Addr::BROADCAST, first_port: u16::MAX };

impl Indexes {
    /// Notes who has it.
    fn own(&mut self, counted: Counted, id: Uuid, standard: &Standard, present: bool) {
        set(&mut self.by_project, (counted, standard.project_id.clone(), id), present);
        let key = (counted, standard.project_id.clone());
        let count = self.counts.get(&key).copied().unwrap_or(0);
        match if present { count + 1 } else { count.saturating_sub(1) } {
            0 => drop(self.counts.remove(&key)),
            count => drop(self.counts.insert(key, count)),
        }
    }

    /// Asked for by project alone.
    pub(crate) fn quotas(&mut self, _quota: &Quota, _present: bool) {}

    pub(crate) fn networks(&mut self, network: &Network, present: bool) {
        set(&mut self.vnis, network.vni, present);
        self.own(Counted::Network, network.id.uuid(), &network.standard, present);
    }

    pub(crate) fn subnets(&mut self, subnet: &Subnet, present: bool) {
        set(&mut self.subnets_by_network, (subnet.network, subnet.id), present);
        if let Some(pool) = subnet.pool {
            set(&mut self.subnets_by_pool, (pool, subnet.id), present);
        }
        self.own(Counted::Subnet, subnet.id.uuid(), &subnet.standard, present);
    }

    pub(crate) fn ports(&mut self, port: &Port, present: bool) {
        set(&mut self.ports_by_network, (port.network, port.id), present);
        self.own(Counted::Port, port.id.uuid(), &port.standard, present);
        map(&mut self.ports_by_mac, (port.network, port.mac), port.id, present);
        if !port.device_id.is_empty() {
            set(&mut self.ports_by_device, (port.device_id.clone(), port.id), present);
        }
        if !port.binding_host.is_empty() {
            set(&mut self.ports_by_host, (port.binding_host.clone(), port.id), present);
        }
        for group in port.security_groups.iter().flatten() {
            set(&mut self.ports_by_group, (*group, port.id), present);
        }
        for fixed_ip in &port.fixed_ips {
            set(&mut self.ports_by_subnet, (fixed_ip.subnet, port.id), present);
            set(&mut self.ports_by_address, (port.network, fixed_ip.address, port.id), present);
        }
    }

    pub(crate) fn routers(&mut self, router: &Router, present: bool) {
        set(&mut self.vnis, router.vni, present);
        self.own(Counted::Router, router.id.uuid(), &router.standard, present);
        if let Some(gateway) = &router.gateway {
            set(&mut self.routers_by_external_network, (gateway.network, router.id), present);
        }
    }

    pub(crate) fn floating_ips(&mut self, floating_ip: &FloatingIp, present: bool) {
        self.own(Counted::FloatingIp, floating_ip.id.uuid(), &floating_ip.standard, present);
        let key = (floating_ip.network, floating_ip.address);
        map(&mut self.floating_ips_by_address, key, floating_ip.id, present);
        if let Some(association) = floating_ip.association {
            set(&mut self.floating_ips_by_port, (association.port, floating_ip.id), present);
            set(&mut self.floating_ips_by_router, (association.router, floating_ip.id), present);
        }
        for forwarding in &floating_ip.forwardings {
            set(&mut self.floating_ips_by_port, (forwarding.port, floating_ip.id), present);
            set(&mut self.floating_ips_by_router, (forwarding.router, floating_ip.id), present);
        }
    }

    pub(crate) fn hosts(&mut self, host: &Host, present: bool) {
        map(&mut self.hosts_by_name, host.name.clone(), host.id, present);
    }

    pub(crate) fn blocks(&mut self, block: &PortBlock, present: bool) {
        let id = Record::id(block);
        set(&mut self.blocks_by_router, (block.router, id), present);
        set(&mut self.blocks_by_host, (block.host, id), present);
    }

    /// Asked for by id alone.
    pub(crate) fn resting_blocks(&mut self, _block: &RestingBlock, _present: bool) {}

    /// Asked for by network, which their ids begin with.
    pub(crate) fn virtual_addresses(&mut self, _held: &VirtualAddress, _present: bool) {}
}

fn set<K: Clone + Ord>(index: &mut OrdSet<K>, key: K, present: bool) {
    if present {
        index.insert(key);
    } else {
        index.remove(&key);
    }
}

fn map<K: Clone + Ord, V: Clone + PartialEq>(index: &mut OrdMap<K, V>, key: K, value: V, present: bool) {
    if present {
        index.insert(key, value);
    } else if index.get(&key) == Some(&value) {
        index.remove(&key);
    }
}
