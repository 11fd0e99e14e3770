//! Rules of security groups in words: `ingress tcp 80-90 from 10.0.0.0/8`, `egress any to group web`,
//! `ingress icmp 8 from any`.

use ipnet::Ipv4Net;
use serde_json::{Value, json};
use std::str::FromStr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    direction: &'static str,
    /// None: every one.
    protocol: Option<String>,
    /// First and last port; ICMP: type and code.
    range: (Option<u16>, Option<u16>),
    pub(crate) remote: Remote,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    Any,
    Prefix(Ipv4Net),
    /// By its name.
    Group(String),
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "not of the form `ingress tcp 80-90 from 10.0.0.0/8`";
        let words: Vec<&str> = text.split_whitespace().collect();
        let (direction, preposition) = match words.first() {
            Some(&"ingress") => ("ingress", "from"),
            Some(&"egress") => ("egress", "to"),
            _ => return Err(format!("{FORM}: it begins with ingress or egress")),
        };
        let place = words.iter().position(|word| *word == preposition);
        let place = place.ok_or_else(|| format!("{FORM}: `{preposition}` is missing"))?;
        let (protocol, range) = match &words[1..place] {
            [protocol] => (*protocol, (None, None)),
            [protocol, range] => (*protocol, parse_range(range, *protocol == "icmp")?),
            _ => return Err(format!("{FORM}: a protocol and at most one range come before `{preposition}`")),
        };
        let remote = match &words[place + 1..] {
            ["any"] => Remote::Any,
            ["group", name] => Remote::Group((*name).to_owned()),
            [prefix] => Remote::Prefix(prefix.parse().map_err(|_| format!("`{prefix}` is not a prefix"))?),
            _ => return Err(format!("{FORM}: `any`, a prefix or `group NAME` comes last")),
        };
        let protocol = Some(protocol.to_owned()).filter(|protocol| protocol != "any");
        Ok(Self { direction, protocol, range, remote })
    }
}

fn parse_range(text: &str, icmp: bool) -> Result<(Option<u16>, Option<u16>), String> {
    let (first, last) = text.split_once(['-', '/']).map_or((text, None), |(first, last)| (first, Some(last)));
    let number =
        |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is not a number up to 65535"));
    let first = number(first)?;
    let last = last.map(number).transpose()?;
    // A type without a code is every code of it; a port is a range of one.
    Ok((Some(first), last.or((!icmp).then_some(first))))
}

impl Rule {
    /// As the API takes it. `id_of`: of a group, by its name.
    pub(crate) fn body(&self, group: &str, id_of: impl Fn(&str) -> Option<String>) -> Value {
        let (min, max) = self.range;
        let mut body = json!({
            "security_group_id": group,
            "direction": self.direction,
            "ethertype": "IPv4",
            "protocol": self.protocol,
            "port_range_min": min,
            "port_range_max": max,
        });
        match &self.remote {
            Remote::Any => {}
            Remote::Prefix(prefix) => body["remote_ip_prefix"] = json!(prefix),
            Remote::Group(name) => body["remote_group_id"] = json!(id_of(name)),
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::{Remote, Rule};

    #[test]
    fn rules_are_read_and_what_is_none_is_refused() {
        let rule: Rule = "ingress tcp 80-90 from 10.0.0.0/8".parse().unwrap();
        assert_eq!((rule.direction, rule.range), ("ingress", (Some(80), Some(90))));
        let rule: Rule = "egress any to group web".parse().unwrap();
        assert_eq!((rule.protocol, rule.remote), (None, Remote::Group("web".to_owned())));
        let rule: Rule = "ingress icmp 8 from any".parse().unwrap();
        assert_eq!(rule.range, (Some(8), None));
        for wrong in [
            "",
            "tcp 80",
            "ingress tcp 80",
            "ingress tcp 80 to any",
            "egress tcp x to any",
            "ingress tcp 80 from nowhere",
            "ingress tcp 1 2 from any",
            "ingress from any",
        ] {
            assert!(wrong.parse::<Rule>().is_err(), "{wrong}");
        }
    }
}
