//! The kinds of objects the API serves, and what all their commands share.

use crate::Usage;
use crate::client::Client;
use crate::output::Output;
use clap::Args;
use serde_json::Value;

/// A collection of the API.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Key of one object in its envelope.
    pub(crate) singular: &'static str,
    /// Key of a list.
    pub(crate) plural: &'static str,
    /// Last part of the collection's path.
    collection: &'static str,
    /// For messages.
    pub(crate) noun: &'static str,
    /// The command that lists it.
    pub(crate) command: &'static str,
    /// What people call an object by.
    pub(crate) name_key: &'static str,
    root: &'static str,
}

impl Kind {
    const fn neutron(singular: &'static str, plural: &'static str) -> Self {
        Self {
            singular,
            plural,
            collection: plural,
            noun: singular,
            command: singular,
            name_key: "name",
            root: "/v2.0",
        }
    }

    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.root, self.collection)
    }

    pub(crate) fn path_of(&self, id: &str) -> String {
        format!("{}/{}/{}", self.root, self.collection, encode(id))
    }
}

pub(crate) const NETWORK: Kind = Kind::neutron("network", "networks");
pub(crate) const SUBNET: Kind = Kind::neutron("subnet", "subnets");
pub(crate) const PORT: Kind = Kind::neutron("port", "ports");
pub(crate) const ROUTER: Kind = Kind::neutron("router", "routers");
pub(crate) const FLOATING_IP: Kind = Kind {
    noun: "floating IP",
    name_key: "floating_ip_address",
    ..Kind::neutron("floatingip", "floatingips")
};
pub(crate) const SECURITY_GROUP: Kind = Kind {
    noun: "security group",
    command: "securitygroup",
    collection: "security-groups",
    ..Kind::neutron("security_group", "security_groups")
};
pub(crate) const SECURITY_GROUP_RULE: Kind = Kind {
    noun: "security group rule",
    command: "securitygroup rule",
    name_key: "id",
    collection: "security-group-rules",
    ..Kind::neutron("security_group_rule", "security_group_rules")
};
pub(crate) const ADDRESS_GROUP: Kind = Kind {
    noun: "address group",
    command: "addressgroup",
    collection: "address-groups",
    ..Kind::neutron("address_group", "address_groups")
};
pub(crate) const RBAC_POLICY: Kind = Kind {
    noun: "RBAC policy",
    command: "rbac",
    name_key: "id",
    collection: "rbac-policies",
    ..Kind::neutron("rbac_policy", "rbac_policies")
};
pub(crate) const METERING_LABEL: Kind = Kind {
    noun: "metering label",
    command: "meteringlabel",
    collection: "metering/metering-labels",
    ..Kind::neutron("metering_label", "metering_labels")
};
pub(crate) const METERING_LABEL_RULE: Kind = Kind {
    noun: "metering label rule",
    command: "meteringlabel rule",
    name_key: "id",
    collection: "metering/metering-label-rules",
    ..Kind::neutron("metering_label_rule", "metering_label_rules")
};
pub(crate) const AGENT: Kind = Kind::neutron("agent", "agents");
pub(crate) const HOST: Kind = Kind { root: "/nanboku/v1", ..Kind::neutron("host", "hosts") };

pub(crate) const BLOCK: Kind =
    Kind { root: "/nanboku/v1", noun: "port block", ..Kind::neutron("block", "blocks") };

/// One segment of a path: everything but unreserved characters is percent-encoded (RFC 3986 §2.1).
pub(crate) fn encode(segment: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    match segment {
        // A client library resolves these as path navigation, encoded or not.
        "." | ".." => segment.replace('.', "%252E"),
        _ => segment.bytes().map(byte).collect(),
    }
}

/// What a command of the API works with.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) output: Output,
}

/// Names or ids of objects to delete.
#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    /// Names or ids.
    #[arg(required = true)]
    names: Vec<String>,
    /// Needed to delete more than one at once.
    #[arg(long, short)]
    yes: bool,
}

/// The name or id of one object.
#[derive(Args, Debug)]
pub(crate) struct OneArgs {
    /// Name or id.
    name: String,
}

impl OneArgs {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Context {
    /// Deletes in the order given. All names are looked up first: a wrong one deletes nothing.
    pub(crate) async fn delete(&self, kind: &Kind, args: &DeleteArgs) -> anyhow::Result<String> {
        if args.names.len() > 1 && !args.yes {
            let text = format!(
                "this deletes {} {}s at once; repeat the command with --yes",
                args.names.len(),
                kind.noun
            );
            return Err(Usage(text).into());
        }
        let mut ids = Vec::with_capacity(args.names.len());
        for name in &args.names {
            ids.push(self.client.find_id(kind, name).await?);
        }
        for id in ids {
            self.client.delete(kind, &id).await?;
        }
        Ok(String::new())
    }

    pub(crate) async fn show(&self, kind: &Kind, args: &OneArgs) -> anyhow::Result<String> {
        Ok(self.output.show(&self.client.find(kind, &args.name).await?))
    }

    pub(crate) async fn create(&self, kind: &Kind, body: crate::body::Body) -> anyhow::Result<String> {
        let object = self.client.create(kind, &body.into_envelope(kind.singular)).await?;
        Ok(self.output.show(&object))
    }

    /// Changes the attributes in `body`.
    ///
    /// # Errors
    /// Nothing to change is wrong usage.
    pub(crate) async fn set(&self, kind: &Kind, id: &str, body: crate::body::Body) -> anyhow::Result<String> {
        if body.is_empty() {
            return Err(Usage(format!("nothing to change; see `nanboku {} set --help`", kind.command)).into());
        }
        let object = self.client.update(kind, id, &body.into_envelope(kind.singular)).await?;
        Ok(self.output.show(&object))
    }
}

/// `--enable` and `--disable`: the administrative state.
#[derive(Args, Debug, Default)]
pub(crate) struct AdminState {
    /// Administratively up (the default at creation).
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Administratively down: no packet passes.
    #[arg(long)]
    disable: bool,
}

impl AdminState {
    pub(crate) fn chosen(&self) -> Option<bool> {
        match (self.enable, self.disable) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }
}

/// `key=value,key=value`, as the `openstack` command line writes structured options.
pub(crate) fn pairs<'a>(text: &'a str, allowed: &[&str]) -> Result<Vec<(&'a str, &'a str)>, String> {
    let form = || allowed.iter().map(|key| format!("{key}=…")).collect::<Vec<_>>().join(",");
    text.split(',')
        .map(|part| match part.split_once('=') {
            Some((key, value)) if allowed.contains(&key) && !value.is_empty() => Ok((key, value)),
            Some((key, _)) if !allowed.contains(&key) => {
                Err(format!("unknown key '{key}'; write {}", form()))
            }
            _ => Err(format!("'{part}' is not of the form key=value; write {}", form())),
        })
        .collect()
}

/// The value of a key of [`pairs`].
pub(crate) fn value_of<'a>(pairs: &[(&'a str, &'a str)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
}

/// Text of a nested attribute, for columns.
pub(crate) fn nested(value: &Value, key: &str) -> String {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<&str> = items.iter().filter_map(|item| item.get(key)?.as_str()).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_segments_cannot_leave_their_place() {
        assert_eq!(NETWORK.path_of("blue"), "/v2.0/networks/blue");
        assert_eq!(NETWORK.path_of("../ports?x"), "/v2.0/networks/..%2Fports%3Fx");
        assert_eq!(HOST.path_of("ahv01"), "/nanboku/v1/hosts/ahv01");
    }

    #[test]
    fn structured_options_are_checked() {
        let allowed = &["start", "end"];
        assert_eq!(pairs("start=1,end=2", allowed).unwrap(), [("start", "1"), ("end", "2")]);
        assert_eq!(pairs("begin=1", allowed).unwrap_err(), "unknown key 'begin'; write start=…,end=…");
        assert_eq!(
            pairs("start", allowed).unwrap_err(),
            "'start' is not of the form key=value; write start=…,end=…"
        );
        assert!(pairs("start=,end=2", allowed).is_err());
    }
}
