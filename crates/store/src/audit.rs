//! What is true of the records whatever was done with them: every transaction leaves it so, and no crash can undo it.
//!
//! For tests. Not here: what the controller's loop makes true a moment later (bindings, port blocks, status).

use crate::Snapshot;
use crate::record::Record;
use model::metering::MeteringLabelRule;
use model::resource::{FloatingIp, Network, Port, Router, Subnet, device_owner};
use model::security::{Remote, SecurityGroupRule};
use model::{NetworkId, SubnetId};
use std::collections::{BTreeMap, BTreeSet};

impl Snapshot {
    /// One sentence for each thing that is wrong.
    pub fn audit(&self) -> Vec<String> {
        let mut audit = Audit { snapshot: self, wrong: Vec::new() };
        audit.indexes();
        self.subnets.values().for_each(|subnet| audit.subnet(subnet));
        self.ports.values().for_each(|port| audit.port(port));
        audit.addresses();
        audit.vnis();
        self.routers.values().for_each(|router| audit.router(router));
        self.floating_ips.values().for_each(|floating_ip| audit.floating_ip(floating_ip));
        self.security_group_rules.values().for_each(|rule| audit.rule(rule));
        self.metering_label_rules.values().for_each(|rule| audit.metering_rule(rule));
        audit.default_groups();
        audit.wrong
    }

    /// A snapshot of the same records whose indexes are made anew.
    fn reindexed(&self) -> Self {
        let mut fresh = Self::new(self.cluster_id);
        macro_rules! index {
            ($($table:ident)*) => {
                $(self.$table.values().for_each(|record| record.index(&mut fresh, true));)*
            };
        }
        index! {
            networks subnets ports routers floating_ips subnet_pools address_scopes security_groups
            security_group_rules address_groups default_security_group_rules rbac_policies metering_labels
            metering_label_rules hosts blocks
            resting_blocks virtual_addresses domains projects users roles assignments application_credentials tokens quotas
        }
        fresh
    }
}

struct Audit<'a> {
    snapshot: &'a Snapshot,
    wrong: Vec<String>,
}

impl Audit<'_> {
    fn check(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(otherwise());
        }
    }

    /// An index entry without its record would be something taken that nobody has.
    fn indexes(&mut self) {
        let same = self.snapshot.indexes == self.snapshot.reindexed().indexes;
        self.check(same, || "the indexes are not those of the records".to_owned());
    }

    fn subnet(&mut self, subnet: &Subnet) {
        let id = subnet.id;
        self.check(self.snapshot.get::<Network>(subnet.network).is_some(), || {
            format!("subnet {id} is on network {}, which is not there", subnet.network)
        });
        let pool_exists = subnet.pool.is_none_or(|pool| self.snapshot.subnet_pools.contains_key(&pool));
        self.check(pool_exists, || format!("subnet {id} is from a pool that is not there"));
    }

    fn port(&mut self, port: &Port) {
        let id = port.id;
        self.check(self.snapshot.get::<Network>(port.network).is_some(), || {
            format!("port {id} is on network {}, which is not there", port.network)
        });
        for fixed_ip in &port.fixed_ips {
            let subnet = self.snapshot.get::<Subnet>(fixed_ip.subnet);
            let fits = subnet.is_some_and(|subnet| {
                subnet.network == port.network && subnet.cidr.contains(&fixed_ip.address)
            });
            let address = fixed_ip.address;
            self.check(fits, || format!("port {id} has {address}, of no subnet of its network"));
        }
        for group in port.security_groups.iter().flatten() {
            let exists = self.snapshot.security_groups.contains_key(group);
            self.check(exists, || format!("port {id} has group {group}, which is not there"));
        }
        self.check(self.has_owner(port), || {
            format!("port {id} is of {} {}, which is not there", port.device_owner, port.device_id)
        });
    }

    /// A port that was made for something is gone with it.
    fn has_owner(&self, port: &Port) -> bool {
        let router = || port.device_id.parse().ok().and_then(|id| self.snapshot.get::<Router>(id));
        match port.device_owner.as_str() {
            device_owner::ROUTER_INTERFACE => router().is_some(),
            device_owner::ROUTER_GATEWAY => {
                router().and_then(|router| router.gateway.as_ref()).is_some_and(|own| own.port == port.id)
            }
            device_owner::FLOATING_IP => {
                let floating_ip = port.device_id.parse().ok();
                let floating_ip = floating_ip.and_then(|id| self.snapshot.get::<FloatingIp>(id));
                floating_ip.is_some_and(|floating_ip| floating_ip.holder == port.id)
            }
            _ => true,
        }
    }

    /// Each address and each MAC is one port's; gateway ports of routers that agreed to may share one.
    fn addresses(&mut self) {
        let mut holders: BTreeMap<(NetworkId, _), Vec<&Port>> = BTreeMap::new();
        let mut macs = BTreeSet::new();
        for port in self.snapshot.ports.values() {
            for fixed_ip in &port.fixed_ips {
                holders.entry((port.network, fixed_ip.address)).or_default().push(port);
            }
            let is_new = macs.insert((port.network, port.mac));
            self.check(is_new, || format!("port {} has the MAC of another: {}", port.id, port.mac));
        }
        for ((network, address), ports) in holders {
            let is_shared = ports.iter().all(|port| self.shares(port));
            let ids = || ports.iter().map(|port| port.id.to_string()).collect::<Vec<_>>().join(", ");
            let holds = ports.len() == 1 || is_shared;
            self.check(holds, || format!("{address} of network {network} is of several ports: {}", ids()));
        }
    }

    fn shares(&self, port: &Port) -> bool {
        let router = port.device_id.parse().ok().and_then(|id| self.snapshot.get::<Router>(id));
        port.device_owner == device_owner::ROUTER_GATEWAY
            && router.and_then(|router| router.gateway.as_ref()).is_some_and(|gateway| gateway.snat_shared)
    }

    fn vnis(&mut self) {
        let (networks, routers) = (self.snapshot.networks.len(), self.snapshot.routers.len());
        let vnis = self.snapshot.indexes.vnis.len();
        self.check(vnis == networks + routers, || {
            format!("{networks} networks and {routers} routers have {vnis} VNIs")
        });
    }

    fn router(&mut self, router: &Router) {
        let id = router.id;
        if let Some(gateway) = &router.gateway {
            let port = self.snapshot.get::<Port>(gateway.port);
            let is_own =
                port.is_some_and(|port| port.network == gateway.network && port.device_id == id.to_string());
            self.check(is_own, || format!("router {id} has no gateway port"));
        }
        let mut subnets: BTreeSet<SubnetId> = BTreeSet::new();
        for port in self.snapshot.ports_of_device(&id.to_string()) {
            if port.device_owner != device_owner::ROUTER_INTERFACE {
                continue;
            }
            let is_new = port.fixed_ips.iter().all(|fixed_ip| subnets.insert(fixed_ip.subnet));
            self.check(is_new, || format!("router {id} has two interfaces on a subnet"));
        }
    }

    fn floating_ip(&mut self, floating_ip: &FloatingIp) {
        let id = floating_ip.id;
        let holder = self.snapshot.get::<Port>(floating_ip.holder);
        let holds = holder.is_some_and(|port| {
            port.network == floating_ip.network
                && port.device_id == id.to_string()
                && port.fixed_ips.iter().any(|own| own.address == floating_ip.address)
        });
        self.check(holds, || format!("nobody holds {} for floating IP {id}", floating_ip.address));
        let whole = floating_ip.association.iter().map(|own| (own.port, own.fixed_address, own.router));
        let forwarded =
            floating_ip.forwardings.iter().map(|own| (own.port, own.internal_address, own.router));
        for (port, address, router) in whole.clone().chain(forwarded.clone()) {
            let port = self.snapshot.get::<Port>(port);
            let leads = port.is_some_and(|port| port.fixed_ips.iter().any(|own| own.address == address));
            self.check(leads, || format!("floating IP {id} stands for an address that no port has"));
            let routed = self.snapshot.get::<Router>(router).is_some();
            self.check(routed, || format!("floating IP {id} goes through a router that is not there"));
        }
        let ports: BTreeSet<_> =
            floating_ip.forwardings.iter().map(|own| (own.protocol, own.external_port)).collect();
        let distinct = ports.len() == floating_ip.forwardings.len();
        self.check(distinct, || format!("floating IP {id} forwards a port twice"));
        let one_kind = whole.count() == 0 || forwarded.count() == 0;
        self.check(one_kind, || format!("floating IP {id} stands for an address and forwards ports"));
    }

    fn rule(&mut self, rule: &SecurityGroupRule) {
        let groups = &self.snapshot.security_groups;
        let remote_exists = match rule.remote {
            Remote::Group(group) => groups.contains_key(&group),
            Remote::AddressGroup(group) => self.snapshot.address_groups.contains_key(&group),
            Remote::Any | Remote::Prefix(_) => true,
        };
        let holds = groups.contains_key(&rule.group) && remote_exists;
        self.check(holds, || format!("rule {} is of, or names, a group that is not there", rule.id));
    }

    fn metering_rule(&mut self, rule: &MeteringLabelRule) {
        let holds = self.snapshot.metering_labels.contains_key(&rule.label);
        self.check(holds, || format!("metering rule {} is of a label that is not there", rule.id));
    }

    fn default_groups(&mut self) {
        let mut projects = BTreeSet::new();
        for group in self.snapshot.security_groups.values().filter(|group| group.is_default) {
            let is_new = projects.insert(&group.standard.project_id);
            self.check(is_new, || format!("group {} is a second default group", group.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{network, port};
    use crate::{Store, StoreError};

    #[test]
    fn what_is_wrong_is_said_once() {
        let store = Store::open(None).unwrap();
        let network = network(7);
        let subnet = Subnet {
            id: SubnetId::random(),
            standard: Default::default(),
            network: network.id,
            cidr: "10.0.0.0/24".parse().unwrap(),
            gateway_ip: None,
            enable_dhcp: false,
            allocation_pools: Vec::new(),
            dns_nameservers: Vec::new(),
            host_routes: Vec::new(),
            service_types: Vec::new(),
            pool: None,
            ipv6_address_mode: None,
            ipv6_ra_mode: None,
        };
        let mut first = port(network.id, [10, 0, 0, 7].into(), 1);
        first.fixed_ips[0].subnet = subnet.id;
        let second = Port { id: model::PortId::random(), mac: model::Mac([2; 6]), ..first.clone() };
        let audit = |change: &dyn Fn(&mut crate::Transaction)| {
            let changed = store.transact::<_, StoreError>(|transaction| {
                change(transaction);
                Ok(())
            });
            changed.unwrap();
            store.snapshot().audit()
        };
        let whole = audit(&|tx| {
            tx.put(network.clone());
            tx.put(subnet.clone());
            tx.put(first.clone());
        });
        assert_eq!(whole, Vec::<String>::new());
        let wrong = audit(&|tx| tx.put(second.clone()));
        assert!(
            wrong.len() == 1 && wrong[0].contains("10.0.0.7") && wrong[0].contains("several"),
            "{wrong:?}"
        );
        let wrong = audit(&|tx| drop(tx.remove::<Port>(second.id)));
        assert_eq!(wrong, Vec::<String>::new());
        let wrong = audit(&|tx| drop(tx.remove::<Subnet>(subnet.id)));
        assert!(wrong.len() == 1 && wrong[0].contains("of no subnet"), "{wrong:?}");
    }

    #[test]
    fn things_are_found_by_their_project() {
        let store = Store::open(None).unwrap();
        let mut network = network(7);
        network.standard.project_id = "red".to_owned();
        let of = |project: &str| -> Vec<_> {
            store.snapshot().of_project::<Network>(project).map(|network| network.id).collect()
        };
        let put = |network: &Network| {
            let changed = store.transact::<_, StoreError>(|tx| {
                tx.put(network.clone());
                Ok(())
            });
            changed.unwrap();
        };
        put(&network);
        assert_eq!((of("red"), of("blue")), (vec![network.id], vec![]));
        network.standard.project_id = "blue".to_owned();
        put(&network);
        assert_eq!((of("red"), of("blue")), (vec![], vec![network.id]));
    }
}
