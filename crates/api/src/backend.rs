//! What the API asks of the service behind it.

use crate::resources::{
    AddressGroupView, AddressesChange, InterfaceRequest, InterfaceView, PortForwardingCreate,
    PortForwardingUpdate, PortForwardingView, RouteList, SubnetPoolAction, SubnetPoolView,
};
use crate::restconf::instance::NatInstance;
use crate::{Caller, Error, Resource};
use model::metering::{MeteringLabel, MeteringLabelRule};
use model::question::Question;
use model::quota::{Counted, DefaultQuota};
use model::rbac::RbacPolicy;
use model::resource::{FloatingIp, Host, Network, Port, Router, Subnet};
use model::security::{AddressGroup, DefaultSecurityGroupRule, SecurityGroup, SecurityGroupRule};
use model::subnet_pool::{AddressScope, SubnetPool};
use model::trace::{Description, Trace};
use model::{AddressGroupId, FloatingIpId, NetworkId, PortForwardingId, RouterId, SubnetPoolId};
use serde_json::Value;
use std::future::Future;
use std::net::SocketAddrV4;

/// Equality filters the service may use to look up less; the API filters again, so ignoring them is right
/// too. Values of one key are alternatives.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    pub filters: Vec<(String, Vec<String>)>,
    /// Nothing is seen but what belongs to that project or is on one of its networks.
    pub owner: Option<String>,
    /// Only of lists that are neither filtered nor sorted, for callers who see all: nothing else is needed.
    pub page: Option<PageHint>,
}

/// A marker, if there is one, and `limit` records after it in the order of ids, or before it if `reverse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageHint {
    pub marker: Option<String>,
    pub limit: usize,
    pub reverse: bool,
}

impl Hints {
    /// The values asked for under that key.
    pub fn values(&self, key: &str) -> Option<&[String]> {
        self.filters.iter().find(|(name, _)| name == key).map(|(_, values)| values.as_slice())
    }

    /// Ids of that key that parse; what does not parse matches nothing.
    pub fn ids<I: std::str::FromStr>(&self, key: &str) -> Option<Vec<I>> {
        Some(self.values(key)?.iter().filter_map(|text| text.parse().ok()).collect())
    }
}

/// `If-Match: revision_number=N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    pub revision_number: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagChange {
    Replace(Vec<String>),
    Add(String),
    Remove(String),
}

/// Create, read, update, delete of one resource. Writes are atomic and durable when they return; they may
/// block.
pub trait Handles<R: Resource>: Send + Sync + 'static {
    fn list(&self, caller: &Caller, hints: &Hints) -> Vec<R::View>;

    /// # Errors
    /// Not found.
    fn show(&self, caller: &Caller, id: R::Id) -> Result<R::View, Error>;

    /// All or none of them.
    ///
    /// # Errors
    /// What Neutron answers; nothing was created.
    fn create(&self, caller: &Caller, requests: Vec<R::Create>) -> Result<Vec<R::View>, Error>;

    /// # Errors
    /// What Neutron answers; nothing was changed.
    fn update(
        &self,
        caller: &Caller,
        id: R::Id,
        change: R::Update,
        precondition: Precondition,
    ) -> Result<R::View, Error>;

    /// # Errors
    /// What Neutron answers; nothing was removed.
    fn delete(&self, caller: &Caller, id: R::Id, precondition: Precondition) -> Result<(), Error>;

    /// A list that the caller asks for would lack something that is made when it is first looked for.
    fn lacks(&self, _caller: &Caller) -> bool {
        false
    }

    /// Makes what [`Handles::lacks`] told.
    ///
    /// # Errors
    /// The store's.
    fn supply(&self, _caller: &Caller) -> Result<(), Error> {
        Ok(())
    }

    /// Returns the tags after the change. Of a resource without tags, there is no such path.
    ///
    /// # Errors
    /// Not found, the resource or the tag.
    fn change_tags(&self, _caller: &Caller, _id: R::Id, _change: TagChange) -> Result<Vec<String>, Error> {
        Err(Error::HTTPNotFound {})
    }
}

/// Actions on routers.
pub trait RouterActions: Handles<Router> {
    /// # Errors
    /// What Neutron answers; nothing was changed.
    fn add_interface(
        &self,
        caller: &Caller,
        router: RouterId,
        request: InterfaceRequest,
    ) -> Result<InterfaceView, Error>;

    /// # Errors
    /// What Neutron answers; nothing was changed.
    fn remove_interface(
        &self,
        caller: &Caller,
        router: RouterId,
        request: InterfaceRequest,
    ) -> Result<InterfaceView, Error>;

    /// # Errors
    /// What Neutron answers; nothing was changed.
    fn add_routes(
        &self,
        caller: &Caller,
        router: RouterId,
        routes: RouteList,
    ) -> Result<<Router as Resource>::View, Error>;

    /// # Errors
    /// What Neutron answers; nothing was changed.
    fn remove_routes(
        &self,
        caller: &Caller,
        router: RouterId,
        routes: RouteList,
    ) -> Result<<Router as Resource>::View, Error>;
}

/// Ports of floating IPs that lead to ports of fixed addresses.
pub trait PortForwardings: Handles<FloatingIp> {
    /// # Errors
    /// There is no such floating IP.
    fn forwardings(&self, floating_ip: FloatingIpId) -> Result<Vec<PortForwardingView>, Error>;

    /// All or none of them.
    ///
    /// # Errors
    /// What Neutron answers; nothing was made.
    fn forward(
        &self,
        floating_ip: FloatingIpId,
        requests: Vec<PortForwardingCreate>,
    ) -> Result<Vec<PortForwardingView>, Error>;

    /// # Errors
    /// What Neutron answers; nothing was changed.
    fn change_forwarding(
        &self,
        floating_ip: FloatingIpId,
        id: PortForwardingId,
        change: PortForwardingUpdate,
    ) -> Result<PortForwardingView, Error>;

    /// # Errors
    /// Not found.
    fn remove_forwarding(&self, floating_ip: FloatingIpId, id: PortForwardingId) -> Result<(), Error>;
}

/// Actions on address groups.
pub trait AddressGroupActions: Handles<AddressGroup> {
    /// # Errors
    /// What Neutron answers; nothing was changed.
    fn change_addresses(
        &self,
        caller: &Caller,
        group: AddressGroupId,
        change: AddressesChange,
    ) -> Result<AddressGroupView, Error>;
}

/// What policies about sharing say beyond what is seen of the things themselves.
pub trait Sharing: Send + Sync + 'static {
    /// The project may have gateways and floating IPs on that external network.
    fn is_external_for(&self, network: NetworkId, project_id: &str) -> bool;
}

/// Actions on subnet pools.
pub trait SubnetPoolActions: Handles<SubnetPool> {
    /// # Errors
    /// What Neutron answers; nothing was changed.
    fn act(
        &self,
        caller: &Caller,
        pool: SubnetPoolId,
        action: SubnetPoolAction,
    ) -> Result<SubnetPoolView, Error>;
}

/// Views under `/nanboku/v1`, for administrators.
pub trait Admin: Send + Sync + 'static {
    /// All hosts, or the one of that id or name.
    fn hosts(&self) -> Vec<Value>;

    /// The host of that id or name.
    ///
    /// # Errors
    /// Not found.
    fn host(&self, id_or_name: &str) -> Result<Value, Error>;

    fn status(&self) -> Value;

    fn blocks(&self) -> Vec<Value>;

    /// Who has that external address and port, or had it at that time (RFC 3339).
    ///
    /// # Errors
    /// The time is none or lies in the future, or nothing was kept of the past.
    fn who(
        &self,
        endpoint: SocketAddrV4,
        at: Option<&str>,
    ) -> impl Future<Output = Result<Value, Error>> + Send;

    /// What [`Admin::ask`] gives.
    type Inquiry: Parts;

    /// Asks the agent of the host of that id or name, or all agents.
    ///
    /// # Errors
    /// There is no such host, or it is not connected.
    fn ask(&self, question: Question, host: Option<&str>) -> Result<Self::Inquiry, Error>;

    /// The way of the packet described, over every host it touches.
    ///
    /// # Errors
    /// The description makes no sense; the message names the field.
    fn trace(&self, description: Description) -> impl Future<Output = Result<Trace, Error>> + Send;
}

/// The NAT as network management knows it (RFC 8512).
pub trait Nat: Admin {
    /// Counts every change of what is configured.
    fn revision(&self) -> u64;

    /// The ids of all instances, in their order, and their routers.
    fn nats(&self) -> Vec<(u32, RouterId)>;

    /// None: the router is no instance.
    fn nat(&self, router: RouterId) -> Option<NatInstance>;

    /// Asks the hosts that have mappings of it: [`model::question::MappingRow`]s.
    fn mappings(&self, nat: &NatInstance) -> Self::Inquiry;
}

/// Limit and use of one kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaUse {
    pub counted: Counted,
    /// -1: none.
    pub limit: i64,
    pub used: u64,
}

/// How much a project may have, and has.
pub trait Quotas: Send + Sync + 'static {
    fn quota(&self, project_id: &str) -> Vec<QuotaUse>;

    /// Of projects for which nothing was said.
    fn default_quota(&self) -> DefaultQuota;

    /// Projects of which something was said.
    fn projects_with_quota(&self) -> Vec<String>;

    /// Returns the quota after the change. With `check_limit` no limit may be below what is used.
    ///
    /// # Errors
    /// A limit that is too low; nothing was changed.
    fn set_quota(
        &self,
        project_id: &str,
        limits: &[(Counted, i64)],
        check_limit: bool,
    ) -> Result<Vec<QuotaUse>, Error>;

    /// The project has the quota of all again.
    ///
    /// # Errors
    /// The store's.
    fn reset_quota(&self, project_id: &str) -> Result<(), Error>;
}

/// Something of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// JSON objects, each with a line end.
    Rows(Vec<u8>),
    /// The last part of a host: all is told, or why not.
    End { host: String, result: Result<(), String> },
}

/// The answer of agents, as it comes.
pub trait Parts: Send + 'static {
    /// None: that was all.
    fn next(&mut self) -> impl Future<Output = Option<Part>> + Send;
}

/// The whole service.
pub trait Backend:
    Handles<Network>
    + Handles<Subnet>
    + Handles<Port>
    + RouterActions
    + PortForwardings
    + SubnetPoolActions
    + Handles<AddressScope>
    + Handles<SecurityGroup>
    + Handles<SecurityGroupRule>
    + Handles<DefaultSecurityGroupRule>
    + AddressGroupActions
    + Handles<RbacPolicy>
    + Handles<MeteringLabel>
    + Handles<MeteringLabelRule>
    + Sharing
    + Handles<Host>
    + Quotas
    + Admin
    + Nat
{
}

impl<T> Backend for T where
    T: Handles<Network>
        + Handles<Subnet>
        + Handles<Port>
        + RouterActions
        + PortForwardings
        + SubnetPoolActions
        + Handles<AddressScope>
        + Handles<SecurityGroup>
        + Handles<SecurityGroupRule>
        + Handles<DefaultSecurityGroupRule>
        + AddressGroupActions
        + Handles<RbacPolicy>
        + Handles<MeteringLabel>
        + Handles<MeteringLabelRule>
        + Sharing
        + Handles<Host>
        + Quotas
        + Admin
        + Nat
{
}
