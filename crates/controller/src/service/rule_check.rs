//! What a rule of a security group may say: Neutron's checks, in Neutron's order.

use api::Error;
use api::attribute::check::shown;
use api::resources::RuleRequest;
use ipnet::IpNet;
use model::security::{Ethertype, Protocol};
use serde_json::Value;
use std::net::IpAddr;

/// The parts of a rule that can be wrong by themselves.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) ethertype: Ethertype,
    pub(super) protocol: Option<Protocol>,
    pub(super) port_range_min: Option<u16>,
    pub(super) port_range_max: Option<u16>,
    pub(super) prefix: Option<IpNet>,
}

/// # Errors
/// What Neutron answers.
pub(super) fn checked(request: &RuleRequest) -> Result<Checked, Error> {
    let mut checked = Checked {
        protocol: protocol(&request.protocol)?,
        port_range_min: port(&request.port_range_min)?,
        port_range_max: port(&request.port_range_max)?,
        ethertype: ethertype(request.ethertype.as_ref())?,
        prefix: prefix(request.remote_ip_prefix.as_deref())?,
    };
    checked.use_ipv6_names();
    if (checked.port_range_min, checked.port_range_max) == (Some(1), Some(u16::MAX)) {
        (checked.port_range_min, checked.port_range_max) = (None, None);
    }
    checked.check_ports()?;
    checked.check_prefix()?;
    checked.check_ethertype()?;
    let remotes = [&request.remote_ip_prefix, &request.remote_group_id, &request.remote_address_group_id];
    if remotes.iter().filter(|remote| remote.is_some()).count() > 1 {
        return Err(Error::SecurityGroupMultipleRemoteEntites {});
    }
    Ok(checked)
}

fn protocol(value: &Value) -> Result<Option<Protocol>, Error> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) if text == "any" => return Ok(None),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let refuse = || {
        let names: Vec<&str> = Protocol::names().collect();
        Error::SecurityGroupRuleInvalidProtocol { protocol: shown(value), values: names.join(", ") }
    };
    Protocol::parse(&text).map(Some).ok_or_else(refuse)
}

fn port(value: &Value) -> Result<Option<u16>, Error> {
    let number = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.map(Some).ok_or_else(|| Error::SecurityGroupInvalidPortValue { port: shown(value) })
}

fn ethertype(value: Option<&Value>) -> Result<Ethertype, Error> {
    let Some(value) = value else { return Ok(Ethertype::Ipv4) };
    match value.as_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "ipv4" => Ok(Ethertype::Ipv4),
        "ipv6" => Ok(Ethertype::Ipv6),
        _ => Err(Error::SecurityGroupRuleInvalidEtherType { ethertype: shown(value) }),
    }
}

/// An address alone stands for itself.
fn prefix(text: Option<&str>) -> Result<Option<IpNet>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    parsed.map(Some).map_err(|_| Error::InvalidCIDR { input: text.to_owned() })
}

impl Checked {
    /// ICMP of IPv6 has older names and, by mistake of many, the number of the other one.
    fn use_ipv6_names(&mut self) {
        let Some(protocol) = self.protocol.as_mut().filter(|_| self.ethertype == Ethertype::Ipv6) else {
            return;
        };
        let text = match protocol.text.as_str() {
            "icmp" | "icmpv6" => "ipv6-icmp",
            "1" => "58",
            _ => return,
        };
        *protocol = Protocol { number: 58, text: text.to_owned() };
    }

    fn check_ports(&self) -> Result<(), Error> {
        let (min, max) = (self.port_range_min, self.port_range_max);
        if min.is_none() && max.is_none() {
            return Ok(());
        }
        let protocol = self.protocol.as_ref().ok_or(Error::SecurityGroupProtocolRequiredWithPorts {})?;
        if protocol.is_icmp() {
            return check_icmp(min, max);
        }
        if !protocol.has_ports() {
            return Err(Error::SecurityGroupInvalidProtocolForPort { protocol: protocol.number });
        }
        if min == Some(0) || max == Some(0) {
            return Err(Error::SecurityGroupInvalidPortValue { port: "0".to_owned() });
        }
        match (min, max) {
            (Some(min), Some(max)) if min <= max => Ok(()),
            _ => Err(Error::SecurityGroupInvalidPortRange {}),
        }
    }

    fn check_prefix(&self) -> Result<(), Error> {
        let version = |prefix: &IpNet| match prefix {
            IpNet::V4(_) => Ethertype::Ipv4,
            IpNet::V6(_) => Ethertype::Ipv6,
        };
        match self.prefix {
            Some(prefix) if version(&prefix) != self.ethertype => {
                let (ethertype, cidr) = (self.ethertype, prefix.to_string());
                Err(Error::SecurityGroupRuleParameterConflict { ethertype, cidr })
            }
            _ => Ok(()),
        }
    }

    fn check_ethertype(&self) -> Result<(), Error> {
        match &self.protocol {
            Some(protocol) if protocol.is_ipv6_only() && self.ethertype == Ethertype::Ipv4 => {
                let (ethertype, protocol) = (self.ethertype, protocol.text.clone());
                Err(Error::SecurityGroupEthertypeConflictWithProtocol { ethertype, protocol })
            }
            _ => Ok(()),
        }
    }
}

/// Type and code.
fn check_icmp(min: Option<u16>, max: Option<u16>) -> Result<(), Error> {
    for (field, attribute, value) in [("type", "port_range_min", min), ("code", "port_range_max", max)] {
        if let Some(value) = value.filter(|value| *value > 255) {
            return Err(Error::SecurityGroupInvalidIcmpValue { field, attribute, value });
        }
    }
    match (min, max) {
        (None, Some(code)) => Err(Error::SecurityGroupMissingIcmpType { code }),
        _ => Ok(()),
    }
}
