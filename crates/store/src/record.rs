//! What makes a resource storable: its table, its id, and the indexes that follow it.

use crate::Snapshot;
use imbl::OrdMap;
use model::identity::{
    ApplicationCredential, ApplicationCredentialId, Assignment, Domain, DomainId, Project, ProjectId, Role,
    RoleId, Token, TokenId, User, UserId,
};
use model::metering::{MeteringLabel, MeteringLabelRule};
use model::quota::{Counted, Quota, QuotaId};
use model::rbac::RbacPolicy;
use model::resource::{
    FloatingIp, Host, Network, Port, PortBlock, RestingBlock, Router, Subnet, VirtualAddress,
};
use model::security::{AddressGroup, DefaultSecurityGroupRule, SecurityGroup, SecurityGroupRule};
use model::slice::{BlockId, VirtualAddressId};
use model::subnet_pool::{AddressScope, SubnetPool};
use model::{
    AddressGroupId, AddressScopeId, DefaultSecurityGroupRuleId, FloatingIpId, HostId, MeteringLabelId,
    MeteringLabelRuleId, NetworkId, PortId, RbacPolicyId, RouterId, SecurityGroupId, SecurityGroupRuleId,
    SubnetId, SubnetPoolId,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use uuid::Uuid;

/// Records by id. Cloning is one reference count; values are shared between snapshots.
pub type Table<R> = OrdMap<<R as Record>::Id, Arc<R>>;

/// A kind of record.
pub trait Record: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    type Id: Copy + Ord + Display + FromStr + Send + Sync + 'static;
    /// Name of its table on disk: never changes.
    const TABLE: &'static str;

    fn id(&self) -> Self::Id;
    fn table(snapshot: &Snapshot) -> &Table<Self>;
    fn table_mut(snapshot: &mut Snapshot) -> &mut Table<Self>;
    /// Adds the record's index entries, or takes them away.
    fn index(&self, snapshot: &mut Snapshot, present: bool);
}

/// A kind of record that belongs to a project and counts against its quota.
pub trait Owned: Record {
    const COUNTED: Counted;

    fn id_from(uuid: Uuid) -> Self::Id;
}

macro_rules! owned {
    ($($record:ident, $id:ident;)*) => {$(
        impl Owned for $record {
            const COUNTED: Counted = Counted::$record;

            fn id_from(uuid: Uuid) -> $id {
                $id::from_uuid(uuid)
            }
        }
    )*};
}

owned! {
    Network, NetworkId;
    Subnet, SubnetId;
    Port, PortId;
    Router, RouterId;
    FloatingIp, FloatingIpId;
    SubnetPool, SubnetPoolId;
    SecurityGroup, SecurityGroupId;
    SecurityGroupRule, SecurityGroupRuleId;
    RbacPolicy, RbacPolicyId;
}

macro_rules! records {
    ($($record:ident, $id:ident, $table:ident;)*) => {$(
        impl Record for $record {
            type Id = $id;
            const TABLE: &'static str = stringify!($table);

            fn id(&self) -> $id {
                identity::$table(self)
            }
            fn table(snapshot: &Snapshot) -> &Table<Self> {
                &snapshot.$table
            }
            fn table_mut(snapshot: &mut Snapshot) -> &mut Table<Self> {
                &mut snapshot.$table
            }
            fn index(&self, snapshot: &mut Snapshot, present: bool) {
                snapshot.indexes.$table(self, present);
            }
        }
    )*};
}

records! {
    Network, NetworkId, networks;
    Subnet, SubnetId, subnets;
    Port, PortId, ports;
    Router, RouterId, routers;
    FloatingIp, FloatingIpId, floating_ips;
    SubnetPool, SubnetPoolId, subnet_pools;
    AddressScope, AddressScopeId, address_scopes;
    SecurityGroup, SecurityGroupId, security_groups;
    SecurityGroupRule, SecurityGroupRuleId, security_group_rules;
    AddressGroup, AddressGroupId, address_groups;
    DefaultSecurityGroupRule, DefaultSecurityGroupRuleId, default_security_group_rules;
    RbacPolicy, RbacPolicyId, rbac_policies;
    MeteringLabel, MeteringLabelId, metering_labels;
    MeteringLabelRule, MeteringLabelRuleId, metering_label_rules;
    Host, HostId, hosts;
    PortBlock, BlockId, blocks;
    RestingBlock, BlockId, resting_blocks;
    VirtualAddress, VirtualAddressId, virtual_addresses;
    Domain, DomainId, domains;
    Project, ProjectId, projects;
    User, UserId, users;
    Role, RoleId, roles;
    Assignment, Assignment, assignments;
    ApplicationCredential, ApplicationCredentialId, application_credentials;
    Token, TokenId, tokens;
    Quota, QuotaId, quotas;
}

mod identity {
    use super::*;

    macro_rules! own_id {
        ($($table:ident: $record:ident -> $id:ident;)*) => {$(
            pub(super) fn $table(record: &$record) -> $id {
                record.id
            }
        )*};
    }

    own_id! {
        networks: Network -> NetworkId;
        subnets: Subnet -> SubnetId;
        ports: Port -> PortId;
        routers: Router -> RouterId;
        floating_ips: FloatingIp -> FloatingIpId;
        subnet_pools: SubnetPool -> SubnetPoolId;
        address_scopes: AddressScope -> AddressScopeId;
        security_groups: SecurityGroup -> SecurityGroupId;
        security_group_rules: SecurityGroupRule -> SecurityGroupRuleId;
        address_groups: AddressGroup -> AddressGroupId;
        default_security_group_rules: DefaultSecurityGroupRule -> DefaultSecurityGroupRuleId;
        rbac_policies: RbacPolicy -> RbacPolicyId;
        metering_labels: MeteringLabel -> MeteringLabelId;
        metering_label_rules: MeteringLabelRule -> MeteringLabelRuleId;
        hosts: Host -> HostId;
        domains: Domain -> DomainId;
        projects: Project -> ProjectId;
        users: User -> UserId;
        roles: Role -> RoleId;
        application_credentials: ApplicationCredential -> ApplicationCredentialId;
        tokens: Token -> TokenId;
    }

    pub(super) fn quotas(quota: &Quota) -> QuotaId {
        QuotaId::of(&quota.project_id)
    }

    pub(super) fn assignments(assignment: &Assignment) -> Assignment {
        *assignment
    }

    pub(super) fn blocks(block: &PortBlock) -> BlockId {
        BlockId {
            external_network: block.external_network,
            address: block.address,
            first_port: block.first_port,
        }
    }

    pub(super) fn resting_blocks(block: &RestingBlock) -> BlockId {
        BlockId {
            external_network: block.external_network,
            address: block.address,
            first_port: block.first_port,
        }
    }

    pub(super) fn virtual_addresses(held: &VirtualAddress) -> VirtualAddressId {
        VirtualAddressId { network: held.network, address: held.address }
    }
}
