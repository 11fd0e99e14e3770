//! Who may do what: one place for all resources, between the routes and the service.
//!
//! A thing that the caller cannot see is not found; one that it can see but not change is forbidden; attributes that
//! are not for it are absent from what it reads and forbidden in what it writes. The rules themselves are in `table`.
//!
//! Ownership is looked up before the change's own transaction. That is safe: the owner of a thing never changes, and
//! if a network stops being shared in between, the change is as good as one that came a moment earlier.

pub(crate) mod looking;
pub(crate) mod table;

use crate::backend::{Backend, Handles, Sharing};
use crate::caller::{Caller, Rank};
use crate::handlers::view;
use crate::{Error, Resource};
use model::resource::{Network, Port, Subnet};
use model::security::{SecurityGroup, SecurityGroupRule};
use serde_json::{Map, Value};
use std::cell::OnceCell;
use std::collections::HashSet;

type View = Map<String, Value>;

/// The rules of one resource.
#[derive(Debug)]
pub struct Policy {
    /// Who sees it besides those it belongs to.
    pub(crate) see: &'static [See],
    /// The owner of its network may change and delete it too.
    pub(crate) network_owner_changes: bool,
    /// Attributes that not every member may write.
    pub(crate) attributes: &'static [AttributeRule],
    /// Attributes that only administrators read.
    pub(crate) hidden: &'static [&'static str],
}

impl Policy {
    /// Only the project it belongs to sees it, and whose network it is on.
    pub(crate) fn is_private(&self) -> bool {
        self.see.iter().all(|see| matches!(see, See::NetworkOwner))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum See {
    /// All, if it or its network is shared.
    Shared,
    /// All, if it or its network is external.
    External,
    /// The owner of its network.
    NetworkOwner,
    /// The owner of its security group, who may change it too.
    GroupOwner,
    /// Everyone: it is nobody's own, and administrators alone make it.
    Everyone,
    /// Administrators, who alone make it: not even those it belongs to.
    Administrators,
}

/// `name` is that of an attribute, or `attribute:key` for a key within it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttributeRule {
    pub(crate) name: &'static str,
    pub(crate) who: Who,
    /// Giving this value at creation is as good as giving none, as in Neutron: clients send `shared: false`.
    pub(crate) default: Option<bool>,
}

impl AttributeRule {
    const fn new(name: &'static str, who: Who) -> Self {
        Self { name, who, default: None }
    }

    const fn with_default(self, default: bool) -> Self {
        Self { default: Some(default), ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Admin,
    /// Whose the network is.
    NetworkOwner,
    /// Whose the network is, or anybody if it is shared.
    NetworkUser,
}

/// What the policy asks about the things that a request names.
pub(crate) trait Facts: Sharing {
    /// None: there is no such network.
    fn network(&self, caller: &Caller, id: &str) -> Option<NetworkFacts>;

    /// None: there is no such group.
    fn security_group(&self, caller: &Caller, id: &str) -> Option<SharedFacts>;

    /// Ids of the networks of a project.
    fn networks_of(&self, project_id: &str) -> HashSet<String>;

    /// Project and network of a port.
    fn port(&self, id: &str) -> Option<(String, String)>;

    /// Project and network of a subnet.
    fn subnet(&self, id: &str) -> Option<(String, String)>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkFacts {
    pub project_id: String,
    /// With the caller.
    pub shared: bool,
    /// For the caller.
    pub external: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedFacts {
    pub project_id: String,
    /// With the caller.
    pub shared: bool,
}

impl<B: Backend> Facts for B {
    fn network(&self, caller: &Caller, id: &str) -> Option<NetworkFacts> {
        let view = Handles::<Network>::show(self, caller, id.parse().ok()?).ok()?;
        Some(NetworkFacts {
            project_id: view.standard.project_id,
            shared: view.shared,
            external: view.external && self.is_external_for(view.id, &caller.project_id),
        })
    }

    fn security_group(&self, caller: &Caller, id: &str) -> Option<SharedFacts> {
        let view = Handles::<SecurityGroup>::show(self, caller, id.parse().ok()?).ok()?;
        Some(SharedFacts { project_id: view.standard.project_id, shared: view.shared })
    }

    fn networks_of(&self, project_id: &str) -> HashSet<String> {
        let filters = vec![("project_id".to_owned(), vec![project_id.to_owned()])];
        let hints = crate::Hints { filters, ..Default::default() };
        let all = Handles::<Network>::list(self, &Caller::nobody(), &hints);
        let own = all.into_iter().filter(|view| view.standard.project_id == project_id);
        own.map(|view| view.id.to_string()).collect()
    }

    fn port(&self, id: &str) -> Option<(String, String)> {
        let view = Handles::<Port>::show(self, &Caller::nobody(), id.parse().ok()?).ok()?;
        Some((view.standard.project_id, view.network_id.to_string()))
    }

    fn subnet(&self, id: &str) -> Option<(String, String)> {
        let view = Handles::<Subnet>::show(self, &Caller::nobody(), id.parse().ok()?).ok()?;
        Some((view.standard.project_id, view.network_id.to_string()))
    }
}

/// The rules for one request.
pub(crate) struct Judge<'a, F> {
    caller: &'a Caller,
    facts: &'a F,
    own_networks: OnceCell<HashSet<String>>,
}

impl<'a, F: Facts> Judge<'a, F> {
    pub(crate) fn new(caller: &'a Caller, facts: &'a F) -> Self {
        Self { caller, facts, own_networks: OnceCell::new() }
    }

    /// What the caller may read of it; `None` if nothing.
    pub(crate) fn visible<R: Resource>(&self, mut view: View) -> Option<View> {
        if self.caller.is_admin() {
            return Some(view);
        }
        self.sees::<R>(&view).then_some(())?;
        view.retain(|name, _| !R::POLICY.hidden.contains(&name.as_str()));
        Some(view)
    }

    fn sees<R: Resource>(&self, view: &View) -> bool {
        let is = |name: &str| view.get(name) == Some(&Value::Bool(true));
        (self.owns(view) && !R::POLICY.see.contains(&See::Administrators))
            || R::POLICY.see.iter().any(|see| match see {
                See::Shared => is("shared"),
                See::External => is("router:external") && self.reaches_outside(view),
                See::NetworkOwner => self.owns_network_of(view),
                See::GroupOwner => self.owns_group_of(view),
                See::Everyone => true,
                See::Administrators => false,
            })
    }

    fn owns(&self, view: &View) -> bool {
        view.get("project_id").and_then(Value::as_str).is_some_and(|project| self.caller.owns(project))
    }

    fn owns_network_of(&self, view: &View) -> bool {
        let network = view.get("network_id").and_then(Value::as_str);
        let own = || self.facts.networks_of(&self.caller.project_id);
        network.is_some_and(|id| self.own_networks.get_or_init(own).contains(id))
    }

    /// Of an external network.
    fn reaches_outside(&self, view: &View) -> bool {
        let id = view.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok());
        id.is_some_and(|id| self.facts.is_external_for(id, &self.caller.project_id))
    }

    fn owns_group_of(&self, view: &View) -> bool {
        let group = view.get("security_group_id").and_then(Value::as_str);
        let facts = group.and_then(|id| self.facts.security_group(self.caller, id));
        facts.is_some_and(|group| self.caller.owns(&group.project_id))
    }

    /// # Errors
    /// Not found if the caller cannot see it, forbidden if it can.
    pub(crate) fn may_change<R: Resource>(&self, action: &str, id: &str, view: &View) -> Result<(), Error> {
        if self.caller.is_admin() {
            return Ok(());
        }
        if !self.sees::<R>(view) {
            return Err(R::not_found(id.to_owned()));
        }
        let own = self.owns(view)
            || (R::POLICY.network_owner_changes && self.owns_network_of(view))
            || (R::POLICY.see.contains(&See::GroupOwner) && self.owns_group_of(view));
        if own && self.caller.rank >= Rank::Member { Ok(()) } else { Err(forbidden(action, R::NAME)) }
    }

    /// A body of POST: whose it shall be, what it names, and what it sets.
    ///
    /// # Errors
    /// What Neutron answers.
    pub(crate) fn may_create<R: Resource>(&self, given: &View) -> Result<(), Error> {
        if self.caller.is_admin() {
            return Ok(());
        }
        let administrators = [See::Everyone, See::Administrators];
        if R::POLICY.see.iter().any(|see| administrators.contains(see))
            || self.caller.rank < Rank::Member
            || self.caller.project_id.is_empty()
        {
            return Err(forbidden("create", R::NAME));
        }
        let project = ["project_id", "tenant_id"].iter().find_map(|key| given.get(*key)?.as_str());
        if project.is_some_and(|project| !self.caller.owns(project)) {
            return Err(Error::bad_request(
                "Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin privileges",
            ));
        }
        self.may_name(given)?;
        let network = given.get("network_id").and_then(Value::as_str);
        self.may_set::<R>("create", network, given)
    }

    /// A body of PUT to a thing that the caller may change.
    ///
    /// # Errors
    /// What Neutron answers.
    pub(crate) fn may_update<R: Resource>(&self, current: &View, given: &View) -> Result<(), Error> {
        if self.caller.is_admin() {
            return Ok(());
        }
        self.may_name(given)?;
        let network = current.get("network_id").and_then(Value::as_str);
        self.may_set::<R>("update", network, given)
    }

    fn may_set<R: Resource>(&self, action: &str, network: Option<&str>, given: &View) -> Result<(), Error> {
        let facts = network.and_then(|id| self.facts.network(self.caller, id));
        let owner = facts.as_ref().is_some_and(|network| self.caller.owns(&network.project_id));
        let shared = facts.as_ref().is_some_and(|network| network.shared);
        for rule in R::POLICY.attributes {
            let allowed = match rule.who {
                Who::Admin => false,
                Who::NetworkOwner => owner,
                Who::NetworkUser => owner || shared,
            };
            if !allowed && sets(given, rule, action == "create") {
                return Err(forbidden(action, &format!("{}:{}", R::NAME, rule.name)));
            }
        }
        // A port that claims to be part of the network's own machinery is trusted by others.
        let device_owner = given.get("device_owner").and_then(Value::as_str).unwrap_or_default();
        if device_owner.starts_with("network:") && !owner {
            return Err(forbidden(action, &format!("{}:device_owner", R::NAME)));
        }
        Ok(())
    }

    /// The things that a body names are there for the caller.
    fn may_name(&self, given: &View) -> Result<(), Error> {
        for key in ["network_id", "floating_network_id"] {
            if let Some(id) = given.get(key).and_then(Value::as_str) {
                self.may_use_network(id)?;
            }
        }
        let gateway = given.get("external_gateway_info").and_then(|info| info.get("network_id"));
        if let Some(id) = gateway.and_then(Value::as_str) {
            self.may_use_network(id)?;
        }
        if let Some(id) = given.get("security_group_id").and_then(Value::as_str) {
            self.may_fill_group(id)?;
        }
        match given.get("port_id").and_then(Value::as_str) {
            Some(id) => self.may_use_port(id),
            None => Ok(()),
        }
    }

    /// # Errors
    /// `NetworkNotFound` of one that is not the caller's own.
    pub(crate) fn may_own_network(&self, id: &str) -> Result<(), Error> {
        let network = self.facts.network(self.caller, id);
        let is_own = |network: &NetworkFacts| self.caller.is_admin() || self.caller.owns(&network.project_id);
        if network.as_ref().is_some_and(is_own) { Ok(()) } else { Err(Network::not_found(id.to_owned())) }
    }

    fn may_use_network(&self, id: &str) -> Result<(), Error> {
        let network = self.facts.network(self.caller, id);
        let sees = |network: &NetworkFacts| {
            network.shared || network.external || self.caller.owns(&network.project_id)
        };
        if network.as_ref().is_some_and(sees) { Ok(()) } else { Err(Network::not_found(id.to_owned())) }
    }

    /// Rules are put into one's own groups only.
    fn may_fill_group(&self, id: &str) -> Result<(), Error> {
        match self.facts.security_group(self.caller, id) {
            Some(group) if self.caller.owns(&group.project_id) => Ok(()),
            Some(group) if group.shared => Err(forbidden("create", SecurityGroupRule::NAME)),
            _ => Err(SecurityGroup::not_found(id.to_owned())),
        }
    }

    /// The caller's own, or on its own network.
    ///
    /// # Errors
    /// `PortNotFound`.
    pub(crate) fn may_use_port(&self, id: &str) -> Result<(), Error> {
        let known = self.facts.port(id);
        if self.is_own(known) { Ok(()) } else { Err(Port::not_found(id.to_owned())) }
    }

    /// A router's interface takes the subnet's gateway address: only its owner decides that.
    ///
    /// # Errors
    /// `SubnetNotFound`, or 400 for one that the caller sees but does not own.
    pub(crate) fn may_connect_subnet(&self, id: &str) -> Result<(), Error> {
        let known = self.facts.subnet(id);
        let network = known.as_ref().and_then(|(_, network)| self.facts.network(self.caller, network));
        if self.is_own(known) {
            return Ok(());
        }
        if network.is_some_and(|network| network.shared || network.external) {
            let reason = format!("subnet {id} is not owned by the project making the request");
            return Err(Error::BadRequest { resource: "router", reason });
        }
        Err(Subnet::not_found(id.to_owned()))
    }

    /// Of project and network.
    fn is_own(&self, known: Option<(String, String)>) -> bool {
        let owns_network = |id: &str| {
            let network = self.facts.network(self.caller, id);
            network.is_some_and(|network| self.caller.owns(&network.project_id))
        };
        self.caller.is_admin()
            || known.is_some_and(|(project, network)| self.caller.owns(&project) || owns_network(&network))
    }
}

/// Whether the body, with its values in their one form, sets that attribute.
fn sets(given: &View, rule: &AttributeRule, at_creation: bool) -> bool {
    if let Some(value) = given.get(rule.name) {
        let default = at_creation && rule.default.is_some_and(|default| *value == Value::Bool(default));
        return !value.is_null() && !default;
    }
    let Some((attribute, key)) = rule.name.split_once(':') else { return false };
    let within = |value: &Value| value.get(key).is_some_and(|value| !value.is_null());
    match given.get(attribute) {
        Some(Value::Array(items)) => items.iter().any(within),
        Some(value) => within(value),
        None => false,
    }
}

/// `create_network:shared`.
pub(crate) fn forbidden(action: &str, what: &str) -> Error {
    Error::PolicyNotAuthorized { rule: format!("{action}_{what}") }
}

/// What the service says of it to that caller. Whether the caller may see it is not the service's question.
///
/// # Errors
/// Not found.
pub(crate) fn shown<R: Resource, B: Handles<R>>(
    backend: &B,
    caller: &Caller,
    id: R::Id,
) -> Result<View, Error> {
    view(&backend.show(caller, id)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::resource::{FloatingIp, Host, Router};
    use serde_json::json;

    type Entry = (&'static str, &'static Policy, Vec<&'static str>);

    fn entry<R: Resource>() -> Entry {
        let attributes = crate::resource::attributes::<R>().map(|attribute| attribute.name);
        (R::COLLECTION, R::POLICY, attributes.collect())
    }

    #[test]
    fn rules_are_about_attributes_that_exist() {
        let all = [
            entry::<Network>(),
            entry::<Subnet>(),
            entry::<Port>(),
            entry::<Router>(),
            entry::<FloatingIp>(),
            entry::<SecurityGroup>(),
            entry::<model::security::AddressGroup>(),
            entry::<model::rbac::RbacPolicy>(),
            entry::<SecurityGroupRule>(),
            entry::<Host>(),
        ];
        for (collection, policy, attributes) in all {
            let known = |name: &str| {
                attributes.contains(&name)
                    || name.split_once(':').is_some_and(|(attribute, _)| attributes.contains(&attribute))
            };
            for rule in policy.attributes {
                assert!(known(rule.name), "{collection}: {}", rule.name);
            }
        }
    }

    #[test]
    fn the_value_that_is_there_anyway_is_not_set() {
        let rule = |name| {
            let rule = AttributeRule::new(name, Who::Admin);
            if name == "shared" { rule.with_default(false) } else { rule }
        };
        let cases = [
            (json!({"shared": false}), "shared", false),
            (json!({"port_security_enabled": false}), "port_security_enabled", true),
            (json!({"shared": true}), "shared", true),
            (json!({"mac_address": null}), "mac_address", false),
            (json!({"gateway": {"network_id": "x"}}), "gateway:enable_snat", false),
            (json!({"gateway": {"enable_snat": false}}), "gateway:enable_snat", true),
            (json!({"fixed_ips": [{"subnet_id": "x"}]}), "fixed_ips:ip_address", false),
            (json!({"fixed_ips": [{}, {"ip_address": "x"}]}), "fixed_ips:ip_address", true),
            (json!({"provider:network_type": "vlan"}), "provider:network_type", true),
        ];
        for (given, name, want) in cases {
            let given = given.as_object().unwrap();
            assert_eq!(sets(given, &rule(name), true), want, "{given:?} {name}");
        }
        let given = json!({"shared": false});
        assert!(sets(given.as_object().unwrap(), &rule("shared"), false), "a change is a change");
    }
}
