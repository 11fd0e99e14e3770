//! What a port may send and receive: its security groups and allowed address pairs, by Neutron's rules.

use super::security_group::is_shared_with;
use super::{Write, unique};
use api::{Caller, Error, Resource};
use model::SecurityGroupId;
use model::resource::Port;
use model::security::SecurityGroup;
use std::collections::BTreeSet;

/// Allowed address pairs of one port, as in Neutron.
const PAIRS_MAX: usize = 10;

impl Write<'_> {
    /// The groups of a new port: those named, or the default one of its project.
    ///
    /// # Errors
    /// A group that is not for the port's project, or groups that do not go together or with the port.
    pub(super) fn groups_of_new_port(
        &mut self,
        caller: &Caller,
        port: &Port,
        asked: Option<Vec<SecurityGroupId>>,
    ) -> Result<Vec<SecurityGroupId>, Error> {
        if port.is_infrastructure() {
            return Ok(Vec::new());
        }
        match asked {
            Some(asked) => self.groups_of_port(caller, port, asked),
            None if port.port_security_enabled => {
                Ok(self.default_group(&port.standard.project_id).into_iter().collect())
            }
            None => Ok(Vec::new()),
        }
    }

    fn groups_of_port(
        &self,
        caller: &Caller,
        port: &Port,
        asked: Vec<SecurityGroupId>,
    ) -> Result<Vec<SecurityGroupId>, Error> {
        if !port.port_security_enabled && !asked.is_empty() {
            return Err(Error::PortSecurityAndIPRequiredForSecurityGroups {});
        }
        let project_id = port.standard.project_id.as_str();
        let usable = |group: &SecurityGroup| {
            caller.is_admin()
                || group.standard.project_id == project_id
                || is_shared_with(self.tx, group.id, project_id)
        };
        let known = |id: &SecurityGroupId| self.tx.get::<SecurityGroup>(*id).filter(|group| usable(group));
        let missing: Vec<String> =
            asked.iter().filter(|id| known(id).is_none()).map(ToString::to_string).collect();
        if !missing.is_empty() {
            return Err(SecurityGroup::not_found(missing.join(", ")));
        }
        let groups = unique(asked.iter().filter_map(known));
        if groups.iter().any(|group| group.stateful) && groups.iter().any(|group| !group.stateful) {
            let reason =
                "Cannot apply both stateful and stateless security groups on the same port at the same time";
            return Err(Error::SecurityGroupConflict { reason });
        }
        Ok(groups.iter().map(|group| group.id).collect())
    }

    /// `port` has its new `port_security_enabled`; the groups follow.
    ///
    /// # Errors
    /// As for a new port; groups that stay on a port without port security.
    pub(super) fn change_groups_of_port(
        &self,
        caller: &Caller,
        port: &mut Port,
        asked: Option<Vec<SecurityGroupId>>,
    ) -> Result<(), Error> {
        match asked {
            Some(_) if port.is_infrastructure() => {}
            Some(asked) => port.security_groups = Some(self.groups_of_port(caller, port, asked)?),
            None if !port.port_security_enabled && port.security_groups.iter().flatten().next().is_some() => {
                return Err(Error::PortSecurityPortHasSecurityGroup {});
            }
            None => {}
        }
        Ok(())
    }
}

/// # Errors
/// Pairs on a port without port security, too many, or one twice.
pub(super) fn check_pairs(port: &Port) -> Result<(), Error> {
    let pairs = &port.allowed_address_pairs;
    if !port.port_security_enabled && !pairs.is_empty() {
        return Err(Error::AddressPairAndPortSecurityRequired {});
    }
    if pairs.len() > PAIRS_MAX {
        return Err(Error::AllowedAddressPairExhausted { quota: PAIRS_MAX });
    }
    let mut seen = BTreeSet::new();
    for pair in pairs {
        let mac = pair.mac.unwrap_or(port.mac);
        if !seen.insert((mac, pair.address)) {
            return Err(Error::DuplicateAddressPairInRequest { mac, address: pair.address.to_string() });
        }
    }
    Ok(())
}
