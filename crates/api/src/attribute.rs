//! What a resource's attributes are: which may be written, which may be filtered by, and how a value is
//! checked and brought to its one form.

use serde_json::Value;

/// Checks a value and returns it in its one form (the CLI sends numbers as strings), or says why not.
pub type Check = fn(&Value) -> Result<Value, String>;

#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    pub name: &'static str,
    pub check: Check,
    pub post: bool,
    pub put: bool,
    pub required: bool,
    /// Filterable and sortable.
    pub filter: bool,
}

impl Attribute {
    /// Set by the service only; can be filtered and sorted by.
    pub const fn read_only(name: &'static str, check: Check) -> Self {
        Self { name, check, post: false, put: false, required: false, filter: true }
    }

    /// Given at creation, fixed afterwards.
    pub const fn fixed(name: &'static str, check: Check) -> Self {
        Self { post: true, ..Self::read_only(name, check) }
    }

    pub const fn writable(name: &'static str, check: Check) -> Self {
        Self { put: true, ..Self::fixed(name, check) }
    }

    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Lists and objects: neither filter nor sort key.
    pub const fn not_filterable(self) -> Self {
        Self { filter: false, ..self }
    }

    /// A boolean is what reads `true` as true.
    pub fn is_boolean(&self) -> bool {
        (self.check)(&Value::from("true")) == Ok(Value::Bool(true))
    }
}

/// Attributes of every resource that belongs to a project.
pub const STANDARD: &[Attribute] = &[
    Attribute::read_only("id", check::uuid),
    Attribute::writable("name", check::text),
    Attribute::writable("description", check::text),
    Attribute::fixed("project_id", check::text),
    Attribute::fixed("tenant_id", check::text),
    Attribute::read_only("created_at", check::text),
    Attribute::read_only("updated_at", check::text),
    Attribute::read_only("revision_number", check::integer),
    Attribute::read_only("tags", check::any).not_filterable(),
    Attribute::read_only("status", check::text),
];

/// The checks, with Neutron's reasons.
pub mod check {
    use ipnet::IpNet;
    use model::Mac;
    use model::slice::DhcpOption;
    use serde_json::{Map, Value, json};
    use std::net::{IpAddr, Ipv6Addr};
    use uuid::Uuid;

    const TEXT_LENGTH_MAX: usize = 255;
    const LONG_TEXT_LENGTH_MAX: usize = 1024;
    const LIST_LENGTH_MAX: usize = 100;
    /// More than the blocks of a router on one host have, whatever their size.
    const PORTS_PER_VM_MAX: u64 = 131_072;
    /// More than a host can make.
    const MAPPINGS_PER_SECOND_MAX: u64 = 1_000_000;

    type Checked = Result<Value, String>;

    /// Python's way to show a value in a message.
    pub fn shown(value: &Value) -> String {
        match value {
            Value::String(text) => text.clone(),
            Value::Null => "None".to_owned(),
            Value::Bool(true) => "True".to_owned(),
            Value::Bool(false) => "False".to_owned(),
            other => other.to_string(),
        }
    }

    pub fn any(value: &Value) -> Checked {
        Ok(value.clone())
    }

    pub fn text(value: &Value) -> Checked {
        text_up_to(value, TEXT_LENGTH_MAX)
    }

    fn text_up_to(value: &Value, length_max: usize) -> Checked {
        let text = value.as_str().ok_or_else(|| format!("'{}' is not a valid string", shown(value)))?;
        if text.chars().count() > length_max {
            return Err(format!("'{text}' exceeds maximum length of {length_max}"));
        }
        Ok(value.clone())
    }

    /// Longer than other texts, as Neutron's older descriptions are.
    pub fn long_text(value: &Value) -> Checked {
        text_up_to(value, LONG_TEXT_LENGTH_MAX)
    }

    pub fn boolean(value: &Value) -> Checked {
        let refuse = || format!("'{}' cannot be converted to boolean", shown(value));
        match value {
            Value::Bool(_) => Ok(value.clone()),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" => Ok(json!(true)),
                "false" | "0" => Ok(json!(false)),
                _ => Err(refuse()),
            },
            Value::Number(number) if number.as_u64() == Some(1) => Ok(json!(true)),
            Value::Number(number) if number.as_u64() == Some(0) => Ok(json!(false)),
            _ => Err(refuse()),
        }
    }

    pub fn integer(value: &Value) -> Checked {
        let number = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.map(Value::from).ok_or_else(|| format!("'{}' is not an integer", shown(value)))
    }

    pub fn mtu(value: &Value) -> Checked {
        let number = integer(value)?;
        match number.as_i64() {
            Some(0 | 68..=65535) => Ok(number),
            _ => Err(format!("'{}' is not between 68 and 65535", shown(value))),
        }
    }

    pub fn ip_version(value: &Value) -> Checked {
        let number = integer(value)?;
        match number.as_i64() {
            Some(4 | 6) => Ok(number),
            _ => Err(format!("'{}' is not in [4, 6]", shown(value))),
        }
    }

    /// Of TCP or UDP.
    pub fn port_number(value: &Value) -> Checked {
        let number = integer(value)?;
        match number.as_i64() {
            Some(1..=65535) => Ok(number),
            _ => Err(format!("Invalid port '{}', it is not between 1 and 65535", shown(value))),
        }
    }

    /// As [`model::resource::ForwardedProtocol`] is written.
    pub fn forwarded_protocol(value: &Value) -> Checked {
        let lower =
            value.as_str().map_or_else(|| value.clone(), |text| Value::from(text.to_ascii_lowercase()));
        one_of(&lower, &["tcp", "udp"])
    }

    pub fn prefix_len_or_null(value: &Value) -> Checked {
        or_null(value, |value| {
            let number = integer(value)?;
            match number.as_u64() {
                Some(0..=128) => Ok(number),
                _ => Err(format!("'{}' is not a prefix length, 0 to 128", shown(value))),
            }
        })
    }

    /// Not negative.
    pub fn quota_or_null(value: &Value) -> Checked {
        or_null(value, |value| {
            let number = integer(value)?;
            match number.as_u64() {
                Some(_) => Ok(number),
                None => Err(format!("'{}' must be non-negative", shown(value))),
            }
        })
    }

    pub fn uuid(value: &Value) -> Checked {
        let parsed = value.as_str().and_then(|text| Uuid::parse_str(text).ok());
        parsed
            .map(|uuid| Value::String(uuid.to_string()))
            .ok_or_else(|| format!("'{}' is not a valid UUID", shown(value)))
    }

    pub fn uuid_or_null(value: &Value) -> Checked {
        or_null(value, uuid)
    }

    pub fn uuids(value: &Value) -> Checked {
        list(value, uuid)
    }

    pub fn mac(value: &Value) -> Checked {
        let parsed = value.as_str().and_then(|text| text.parse::<Mac>().ok());
        parsed
            .map(|mac| Value::String(mac.to_string()))
            .ok_or_else(|| format!("'{}' is not a valid MAC address", shown(value)))
    }

    pub fn address(value: &Value) -> Checked {
        let parsed = value.as_str().unwrap_or_default().parse::<IpAddr>();
        parsed
            .map(|address| Value::String(address.to_string()))
            .map_err(|_| format!("'{}' is not a valid IP address", shown(value)))
    }

    pub fn ipv4_or_null(value: &Value) -> Checked {
        or_null(value, |value| {
            let address = address(value)?;
            let text = shown(&address);
            match text.parse::<std::net::Ipv4Addr>() {
                Ok(_) => Ok(address),
                Err(_) => Err(format!("'{text}' is not an IPv4 address")),
            }
        })
    }

    pub fn address_or_null(value: &Value) -> Checked {
        or_null(value, address)
    }

    pub fn addresses(value: &Value) -> Checked {
        list(value, address)
    }

    /// A prefix, normalised to its network address.
    pub fn cidr(value: &Value) -> Checked {
        let text = value.as_str().unwrap_or_default();
        let parsed = text.parse::<IpNet>();
        parsed
            .map(|cidr| Value::String(cidr.trunc().to_string()))
            .map_err(|_| format!("'{}' is not a valid IP subnet", shown(value)))
    }

    /// Prefixes, each as often as it is told.
    pub fn prefixes(value: &Value) -> Checked {
        items(value, cidr)
    }

    /// A project, or `*` for all.
    pub fn target_project(value: &Value) -> Checked {
        match value.as_str() {
            Some("") => Err("a project's id or '*' is required".to_owned()),
            _ => text(value),
        }
    }

    pub fn cidrs(value: &Value) -> Checked {
        list(value, cidr)
    }

    pub fn cidr_or_null(value: &Value) -> Checked {
        or_null(value, cidr)
    }

    /// An address or a prefix; the answer is always a prefix.
    fn address_or_cidr(value: &Value) -> Checked {
        match address(value) {
            Ok(address) => cidr(&address_prefix(&shown(&address))),
            Err(_) => cidr(value),
        }
    }

    fn address_prefix(address: &str) -> Value {
        let bits = if address.contains(':') { 128 } else { 32 };
        Value::String(format!("{address}/{bits}"))
    }

    pub fn texts(value: &Value) -> Checked {
        list(value, text)
    }

    /// `[{destination, nexthop}]`.
    pub fn routes(value: &Value) -> Checked {
        list(value, |route| {
            let route = object(route, &[("destination", cidr), ("nexthop", address)])?;
            all_given(&route, &["destination", "nexthop"])
        })
    }

    /// `[{start, end}]`.
    pub fn pools(value: &Value) -> Checked {
        list(value, |pool| {
            let pool = object(pool, &[("start", address), ("end", address)])?;
            all_given(&pool, &["start", "end"])
        })
    }

    /// `[{subnet_id, ip_address}]`, each with one of them at least.
    pub fn fixed_ips(value: &Value) -> Checked {
        list(value, |entry| {
            let entry = object(entry, &[("subnet_id", uuid), ("ip_address", address)])?;
            if entry.is_empty() {
                return Err("'subnet_id' or 'ip_address' is required".to_owned());
            }
            Ok(Value::Object(entry))
        })
    }

    /// `[{ip_address, mac_address}]`. How many and which there may be is the service's question.
    pub fn address_pairs(value: &Value) -> Checked {
        items(value, |pair| {
            let pair = object(pair, &[("ip_address", address_or_cidr), ("mac_address", mac)])?;
            all_given(&pair, &["ip_address"])
        })
    }

    /// `{network_id, enable_snat, external_fixed_ips}` and how the NAT works; null and `{}` clear.
    pub fn gateway_info(value: &Value) -> Checked {
        if value.is_null() || value.as_object().is_some_and(Map::is_empty) {
            return Ok(Value::Null);
        }
        let keys: &[(&str, super::Check)] = &[
            ("network_id", uuid),
            ("enable_snat", boolean),
            ("external_fixed_ips", fixed_ips),
            ("nanboku:filtering", filtering),
            ("nanboku:ports_per_vm_max", ports_per_vm_max),
            ("nanboku:mappings_per_second_max", mappings_per_second_max),
            ("nanboku:port_control", boolean),
            ("nanboku:untranslated_destinations", untranslated_destinations),
            ("nanboku:snat_shared", boolean),
        ];
        let info = object(value, keys)?;
        all_given(&info, &["network_id"])
    }

    /// Who outside may use a mapping, as [`model::slice::Filtering`] is written.
    fn filtering(value: &Value) -> Checked {
        one_of(value, &["address-and-port-dependent", "address-dependent", "endpoint-independent"])
    }

    /// 0: no limit.
    fn ports_per_vm_max(value: &Value) -> Checked {
        let number = integer(value)?;
        match number.as_u64() {
            Some(0..=PORTS_PER_VM_MAX) => Ok(number),
            _ => {
                Err(format!("'{}' is not between 1 and {PORTS_PER_VM_MAX}, or 0 for no limit", shown(value)))
            }
        }
    }

    /// 0: no limit.
    fn mappings_per_second_max(value: &Value) -> Checked {
        let number = integer(value)?;
        match number.as_u64() {
            Some(0..=MAPPINGS_PER_SECOND_MAX) => Ok(number),
            _ => Err(format!(
                "'{}' is not between 1 and {MAPPINGS_PER_SECOND_MAX}, or 0 for no limit",
                shown(value)
            )),
        }
    }

    /// IPv4 prefixes: IPv6 is never translated.
    fn untranslated_destinations(value: &Value) -> Checked {
        list(value, |prefix| {
            let prefix = cidr(prefix)?;
            match shown(&prefix).parse::<ipnet::Ipv4Net>() {
                Ok(_) => Ok(prefix),
                Err(_) => {
                    Err(format!("'{}' is not an IPv4 prefix: IPv6 is never translated", shown(&prefix)))
                }
            }
        })
    }

    pub fn dictionary(value: &Value) -> Checked {
        match value {
            Value::Null => Ok(json!({})),
            Value::Object(_) => Ok(value.clone()),
            _ => Err(format!("'{}' is not a dictionary", shown(value))),
        }
    }

    pub fn ipv6_mode_or_null(value: &Value) -> Checked {
        or_null(value, |value| one_of(value, &["slaac", "dhcpv6-stateless", "dhcpv6-stateful"]))
    }

    /// `[{opt_name, opt_value, ip_version}]`; without a value the option goes away.
    pub fn dhcp_options(value: &Value) -> Checked {
        list(value, |option| {
            let keys: &[(&str, super::Check)] =
                &[("opt_name", dhcp_option_name), ("opt_value", text), ("ip_version", ip_version)];
            let option = object(option, keys)?;
            can_be_told(&option)?;
            all_given(&option, &["opt_name"])
        })
    }

    /// A value that hosts could not tell a VM would be lost without a word there, so it is refused here. Clients leave the
    /// version out for IPv6 too, where an address shows it.
    fn can_be_told(option: &Map<String, Value>) -> Result<(), String> {
        let text = |key| option.get(key).and_then(Value::as_str).map(str::to_owned);
        let (Some(name), Some(value)) = (text("opt_name"), text("opt_value")) else { return Ok(()) };
        let version = option.get("ip_version").and_then(Value::as_u64);
        if version.is_none() && value.parse::<Ipv6Addr>().is_ok() {
            return Ok(());
        }
        let option = DhcpOption { name, value };
        let told = if version == Some(6) { option.encode_v6().map(drop) } else { option.encode().map(drop) };
        told.map_err(|error| error.to_string())
    }

    fn dhcp_option_name(value: &Value) -> Checked {
        match value.as_str() {
            Some(name) if !name.trim().is_empty() => text(value),
            _ => Err(format!("'{}' is not the name of a DHCP option", shown(value))),
        }
    }

    pub fn network_type(value: &Value) -> Checked {
        one_of(value, &["flat", "vlan", "geneve", "vxlan"])
    }

    pub fn egress(value: &Value) -> Checked {
        one_of(value, &["direct", "gateway"])
    }

    pub fn direction(value: &Value) -> Checked {
        one_of(value, &["ingress", "egress"])
    }

    pub fn vnic_type(value: &Value) -> Checked {
        one_of(value, &["normal"])
    }

    pub fn block_size(value: &Value) -> Checked {
        let number = integer(value)?;
        match number.as_u64() {
            Some(size @ 64..=4096) if size.is_power_of_two() => Ok(number),
            _ => Err(format!("'{}' is not a power of two between 64 and 4096", shown(value))),
        }
    }

    pub fn integer_or_null(value: &Value) -> Checked {
        or_null(value, integer)
    }

    pub fn text_or_null(value: &Value) -> Checked {
        or_null(value, text)
    }

    fn one_of(value: &Value, valid: &[&str]) -> Checked {
        if value.as_str().is_some_and(|text| valid.contains(&text)) {
            return Ok(value.clone());
        }
        Err(format!("'{}' is not in ['{}']", shown(value), valid.join("', '")))
    }

    fn or_null(value: &Value, check: super::Check) -> Checked {
        if value.is_null() { Ok(Value::Null) } else { check(value) }
    }

    /// Without duplicates.
    fn list(value: &Value, check: super::Check) -> Checked {
        let checked = items(value, check)?;
        let items = checked.as_array().map_or(&[][..], Vec::as_slice);
        for (i, item) in items.iter().enumerate() {
            if items.iter().take(i).any(|earlier| earlier == item) {
                return Err(format!("Duplicate items in the list: '{}'", shown(item)));
            }
        }
        Ok(checked)
    }

    /// null counts as an empty list, as clients send both.
    fn items(value: &Value, check: super::Check) -> Checked {
        if value.is_null() {
            return Ok(json!([]));
        }
        let items = value.as_array().ok_or_else(|| format!("'{}' is not a list", shown(value)))?;
        if items.len() > LIST_LENGTH_MAX {
            return Err(format!("a list of {} is longer than {LIST_LENGTH_MAX}", items.len()));
        }
        items.iter().map(check).collect::<Result<_, _>>().map(Value::Array)
    }

    fn object(value: &Value, keys: &[(&str, super::Check)]) -> Result<Map<String, Value>, String> {
        let given = value.as_object().ok_or_else(|| format!("'{}' is not a dictionary", shown(value)))?;
        let mut checked = Map::new();
        for (key, item) in given {
            let (_, check) = keys
                .iter()
                .find(|(known, _)| known == key)
                .ok_or_else(|| format!("Unexpected key '{key}'"))?;
            if !item.is_null() {
                checked.insert(key.clone(), check(item)?);
            }
        }
        Ok(checked)
    }

    fn all_given(object: &Map<String, Value>, keys: &[&str]) -> Checked {
        match keys.iter().find(|key| !object.contains_key(**key)) {
            Some(missing) => Err(format!("Required key '{missing}' is missing")),
            None => Ok(Value::Object(object.clone())),
        }
    }
}
