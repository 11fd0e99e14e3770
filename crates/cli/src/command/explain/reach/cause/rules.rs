//! What no rule of security groups allows.

use super::{Finding, Place};
use crate::command::explain::reach::facts::{Facts, name, text};
use model::trace::Look;
use serde_json::Value;

/// What was asked of the rules.
struct Question {
    /// `ingress` or `egress`.
    direction: &'static str,
    /// The other end, as the rules see it.
    remote: String,
    /// `tcp 443`, or `icmp type 8 code 0`.
    packet: String,
}

impl Place<'_> {
    /// The port that asked its groups, and got no yes.
    pub(super) fn no_rule(&self) -> Finding {
        let verdict = &self.walked.verdict;
        let egress = verdict.stage.as_deref() == Some("egress-acl");
        let port = if egress { self.sender() } else { self.receiver() };
        let Some(port) = port else { return Finding::new("no-rule", verdict.text.clone()) };
        let groups = groups_of(self.facts, port);
        let direction = if egress { "egress" } else { "ingress" };
        if groups.is_empty() {
            let cause = format!("{} has no security group, so nothing is allowed", name(port));
            let group = self.facts.security_groups.first().map_or("GROUP", name);
            return Finding::new(id(direction), cause)
                .command(format!("nanboku port set {} --security-group {group}", name(port)));
        }
        let question = self.question(direction);
        let cause = cause_text(port, &groups, &question);
        let nearly = self.facts.security_group_rules.iter().find(|rule| is_near(rule, port, &question));
        let finding = match nearly.map(|rule| other_end(self.facts, rule)) {
            Some((whose, Some(group))) => {
                let member = if egress { self.receiver() } else { self.sender() };
                let finding =
                    Finding::new("wrong-remote-group", format!("{cause}; a rule is for {whose} only"));
                match member {
                    Some(member) => finding.command(join_command(self.facts, member, &group)),
                    None => finding,
                }
            }
            Some((whose, None)) => {
                Finding::new("wrong-remote-prefix", format!("{cause}; a rule is for {whose} only"))
            }
            None => Finding::new(id(direction), cause),
        };
        finding.command(create_command(groups[0], &question))
    }

    fn question(&self, direction: &'static str) -> Question {
        let stage = self.walked.verdict.stage.as_deref().unwrap_or_default();
        let looks = self.walked.stages.iter().filter(|seen| seen.name == stage).flat_map(|seen| &seen.looks);
        let looks: Vec<&Look> = looks.collect();
        // Of an answer two lists were asked; the last is the one that had to say yes.
        let asked = looks.iter().rposition(|look| look.table == "acl_remotes");
        let asked = asked.and_then(|at| looks.get(at..)).unwrap_or_default();
        let rule = asked.iter().rfind(|look| look.table == "acl_rules");
        let packet = &self.walked.packet;
        let (remote, port) = match direction {
            "egress" => (packet.dst, packet.dst_port),
            _ => (packet.src, packet.dst_port),
        };
        let remote = remote.map(|remote| remote.to_string()).unwrap_or_default();
        let said = match packet.protocol.as_str() {
            "icmp" => format!("icmp type {}", if self.back { 0 } else { 8 }),
            "icmpv6" => format!("icmpv6 type {}", if self.back { 129 } else { 128 }),
            protocol => format!("{protocol} {}", port.unwrap_or_default()),
        };
        Question {
            direction,
            remote: asked.first().map_or(remote, |look| look.key.clone()),
            packet: rule.map_or(said, |look| look.key.clone()),
        }
    }
}

fn id(direction: &str) -> &'static str {
    if direction == "egress" { "no-egress-rule" } else { "no-ingress-rule" }
}

fn groups_of<'a>(facts: &'a Facts, port: &'a Value) -> Vec<&'a str> {
    let ids = port.get("security_groups").and_then(Value::as_array).into_iter().flatten();
    let named = ids.filter_map(Value::as_str).map(|id| {
        let group = facts.security_groups.iter().find(|group| text(group, "id") == id);
        group.map_or(id, name)
    });
    named.collect()
}

fn cause_text(port: &Value, groups: &[&str], question: &Question) -> String {
    let Question { direction, remote, packet } = question;
    let preposition = if *direction == "egress" { "to" } else { "from" };
    let (which, verb) = if groups.len() == 1 { ("group", "has") } else { ("groups", "have") };
    format!(
        "no {direction} rule allows {packet} {preposition} {remote}: security {which} {} of {} {verb} none",
        groups.join(", "),
        name(port)
    )
}

/// A rule of the port that would allow it for another remote end.
fn is_near(rule: &Value, port: &Value, question: &Question) -> bool {
    let of_port = port.get("security_groups").and_then(Value::as_array).into_iter().flatten();
    let mut of_port = of_port.filter_map(Value::as_str);
    let mut words = question.packet.split_whitespace();
    let protocol = text(rule, "protocol");
    let number = |key: &str| rule.get(key).and_then(Value::as_u64);
    let of_ipv6 = question.remote.contains(':');
    let is_icmp = matches!(protocol, "icmp" | "icmpv6" | "ipv6-icmp");
    let asked = words.next().unwrap_or_default();
    let same_protocol = protocol.is_empty() || asked == protocol || (asked == "icmpv6" && of_ipv6 && is_icmp);
    let wanted = question.packet.split_whitespace().find_map(|word| word.parse::<u64>().ok());
    let in_range = match (number("port_range_min"), number("port_range_max"), wanted) {
        (None, _, _) | (_, _, None) => true,
        (Some(kind), _, Some(wanted)) if is_icmp => kind == wanted,
        (Some(min), max, Some(wanted)) => (min..=max.unwrap_or(min)).contains(&wanted),
    };
    text(rule, "direction") == question.direction
        && text(rule, "ethertype") == if of_ipv6 { "IPv6" } else { "IPv4" }
        && of_port.any(|group| group == text(rule, "security_group_id"))
        && same_protocol
        && in_range
}

/// Whom a rule is about, and the name of the group if it is one.
fn other_end(facts: &Facts, rule: &Value) -> (String, Option<String>) {
    let remote = text(rule, "remote_group_id");
    if let Some(group) = facts.security_groups.iter().find(|group| text(group, "id") == remote) {
        return (format!("members of group {}", name(group)), Some(name(group).to_owned()));
    }
    let addresses = text(rule, "remote_address_group_id");
    if !addresses.is_empty() {
        return (format!("address group {addresses}"), None);
    }
    (text(rule, "remote_ip_prefix").to_owned(), None)
}

/// The command that makes a port a member of a group as well: those it has are named again.
fn join_command(facts: &Facts, port: &Value, group: &str) -> String {
    let groups = groups_of(facts, port).into_iter().chain([group]);
    let groups = groups.map(|group| format!(" --security-group {group}")).collect::<String>();
    format!("nanboku port set {}{groups}", name(port))
}

/// The command that makes the rule that is missing.
fn create_command(group: &str, question: &Question) -> String {
    let words: Vec<&str> = question.packet.split_whitespace().collect();
    let what = match &words[..] {
        [protocol @ ("icmp" | "icmpv6"), "type", kind, ..] => {
            format!("--protocol {protocol} --icmp-type {kind}")
        }
        [protocol @ ("tcp" | "udp" | "33" | "132" | "136"), port] => {
            format!("--protocol {protocol} --dst-port {port}")
        }
        [protocol, ..] => format!("--protocol {protocol}"),
        [] => String::new(),
    };
    let Question { direction, remote, .. } = question;
    let direction = if *direction == "egress" { "--egress " } else { "" };
    format!("nanboku securitygroup rule create {group} {direction}{what} --remote-ip {remote}")
}
